// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"time"

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
	// doubtFailed: so many labels could not be made: the kernel had no room, or was busy with others on that processor.
	doubtFailed = doubtUnlistable - 1
)

// relabelPause is how long after a label could not be made all processes are listed again; as long as that helps nothing
// twice as long each time, up to relabelPauseMax.
const (
	relabelPause    = time.Second
	relabelPauseMax = time.Minute
)

// relabelling is when to list processes again whose labels could not be made. It is used by the goroutine of Run alone.
type relabelling struct {
	next  time.Time
	pause time.Duration
	// failed is whether a listing has failed, which is worth a line once.
	failed bool
}

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

// sweepLabels has all processes listed again, some time after the label of one could not be made.
func (t *Tracer) sweepLabels(now time.Time) {
	r := &t.relabelling
	if now.Before(r.next) {
		return
	}
	again, err := t.relabel()
	if err != nil && !r.failed {
		r.failed = true
		t.log.Error("processes whose labels could not be made are not labelled: calls of the whole node take longer", "error", err)
	}
	if again {
		r.pause = min(2*r.pause, relabelPauseMax)
	} else {
		r.pause = relabelPause
	}
	r.next = now.Add(max(r.pause, relabelPause))
}

// relabel labels processes whose labels could not be made. It says whether there are any again afterwards: a label may fail
// to be made anew. Those that have ended need none.
func (t *Tracer) relabel() (again bool, err error) {
	if failed, err := t.unlabelled(); failed == 0 || err != nil {
		return false, err
	}
	if !t.bootstraps.TryLock() {
		return false, nil // there is a listing at this moment
	}
	defer t.bootstraps.Unlock()
	// In this order: what fails before it is forgotten has happened when the listing begins.
	if err := t.doubtLabels(); err != nil {
		return true, err
	}
	if err := t.doubt(0, doubtFailed); err != nil {
		return true, err
	}
	if err := t.listExisting(0); err != nil {
		return true, err
	}
	failed, err := t.unlabelled()
	return failed != 0, err
}

// unlabelled is how many labels could not be made since that was last forgotten.
func (t *Tracer) unlabelled() (uint64, error) {
	count := t.shared["unlabelled"]
	if count == nil {
		return 0, nil // the probe that labels could not be loaded, and says so
	}
	var n uint64
	if err := count.Lookup(uint32(0), &n); err != nil {
		return 0, fmt.Errorf("reading how many labels could not be made: %w", err)
	}
	return n & doubtFailed, nil
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
