// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Why a process without a label may be one of a sandbox, as bits of the kernel side's count of those. While there is any,
// each process is looked up by its cgroup, which costs every system call of the node.
const (
	// doubtUnlisted: there may be processes in a sandbox that the iterator has not seen, and their children.
	doubtUnlisted = 1 << 63
	// doubtUnlistable: the iterator does not see all processes.
	doubtUnlistable = 1 << 62
)

// initialPIDNamespace is the inode of the node's own PID namespace (PROC_PID_INIT_INO).
const initialPIDNamespace = 0xeffffffc

// doubtLabels has the kernel side look up processes without a label, from now until all that are in sandboxes are listed.
// To be called before there can be any that are in one and have none: what a process did that looked before has happened
// when the listing begins. Where this process dies in between, pins keep the doubt, which the next tracer's listing ends.
func (t *Tracer) doubtLabels() error {
	t.unlisted = true
	return t.doubt(doubtUnlisted, 0)
}

// trustLabels ends the doubt. All processes of sandboxes have been listed, or have been seen to come.
func (t *Tracer) trustLabels() error {
	if err := t.doubt(0, doubtUnlisted); err != nil {
		return err
	}
	t.unlisted = false
	return nil
}

// distrustLabels has the kernel side look up each process for good, where the iterator does not find all of them to label:
// in a PID namespace of the collector's own.
func (t *Tracer) distrustLabels() error {
	var stat unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &stat); err == nil && stat.Ino == initialPIDNamespace {
		return t.doubt(0, doubtUnlistable) // of a tracer before
	}
	return t.doubt(doubtUnlistable, 0)
}

// beginDoubt is doubtLabels before any hook is in place. Nothing works without it.
func (t *Tracer) beginDoubt() {
	p, _ := t.doubter()
	if p == nil {
		return // the probe could not be loaded, and says so
	}
	if err := t.doubtLabels(); err != nil {
		p.fail(err)
	}
}

// doubt changes the reasons why labels are not relied on.
func (t *Tracer) doubt(add, end uint64) error {
	_, program := t.doubter()
	if program == nil {
		return errors.New("there is no program to say whether labels can be relied on")
	}
	if _, err := program.Run(&ebpf.RunOptions{Context: [2]uint64{add, end}}); err != nil {
		return fmt.Errorf("saying whether labels can be relied on: %w", err)
	}
	return nil
}

// doubter is the probe that labels processes, and its program that says whether to rely on that.
func (t *Tracer) doubter() (*loadedProbe, *ebpf.Program) {
	for i := range t.probes {
		p := &t.probes[i]
		if p.collection != nil && p.collection.Programs["process_doubt"] != nil {
			return p, p.collection.Programs["process_doubt"]
		}
	}
	return nil, nil
}
