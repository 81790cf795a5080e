// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// prepareFile tells the object which mount namespace is the host's, whether opens are told by counts, and
// whether what is read and written is counted.
func prepareFile(spec *ebpf.CollectionSpec, cfg *Config, _ *btf.Cache) error {
	err := errors.Join(
		setSwitch(spec, "repeats_counted", cfg.Watched != nil),
		setSwitch(spec, "transfers_counted", cfg.FileIO),
		setConstants(spec, map[string]any{"host_mounts": hostMounts()}),
	)
	if err != nil {
		return err
	}
	if spec.Variables["native_calls"] == nil {
		return nil // the uring probe's, which sees no system calls
	}
	return newCallTable(fileCalls()).prepare(spec)
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
