// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// prepareFile tells the object which mount namespace is the host's, whether opens are told by counts, and
// whether what is read and written is counted.
func prepareFile(spec *ebpf.CollectionSpec, cfg *Config, _ *btf.Cache) error {
	if counted := spec.Variables["repeats_counted"]; counted != nil && cfg.Watched != nil {
		if err := counted.Set(uint32(1)); err != nil {
			return fmt.Errorf("setting repeats_counted: %w", err)
		}
	}
	if err := prepareTransfers(spec, cfg); err != nil {
		return err
	}
	if err := spec.Variables["host_mounts"].Set(hostMounts()); err != nil {
		return fmt.Errorf("setting host_mounts: %w", err)
	}
	if spec.Variables["native_calls"] == nil {
		return nil // the uring probe's, which sees no system calls
	}
	return newCallTable(fileCalls()).prepare(spec)
}

// prepareTransfers tells an object whether what is read and written is counted.
func prepareTransfers(spec *ebpf.CollectionSpec, cfg *Config) error {
	if counted := spec.Variables["transfers_counted"]; counted != nil && cfg.FileIO {
		if err := counted.Set(uint32(1)); err != nil {
			return fmt.Errorf("setting transfers_counted: %w", err)
		}
	}
	return nil
}

// hostMounts is the number of the host's mount namespace: that of process 1, or the collector's own where
// that may not be seen. 0 where neither can.
func hostMounts() uint32 {
	var stat unix.Stat_t
	for _, namespace := range []string{"/proc/1/ns/mnt", "/proc/self/ns/mnt"} {
		if unix.Stat(namespace, &stat) == nil {
			return uint32(stat.Ino)
		}
	}
	return 0
}
