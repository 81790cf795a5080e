// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

const (
	pinSyscalls = "syscalls"
	// pinSyscallsMax bounds the counts that are remembered, as the kernel side's own. What has no room is told again.
	pinSyscallsMax = 8192
	// syscallNameSize bounds a system call's name, with its suffix.
	syscallNameSize = 40
)

// syscallAccount is one count of system calls as it is pinned.
type syscallAccount struct {
	Sandbox uint64
	Name    [syscallNameSize]byte
}

// syscallTold is how much of it was told, and when, in nanoseconds since 1970.
type syscallTold struct {
	Calls, Errors, Time, Sum int64
	Buckets                  [event.LatencyBuckets]int64
}

// openSyscallsTold opens what was told of the counts of system calls.
func (p *pins) openSyscallsTold() error {
	var err error
	p.syscalls, err = p.own(pinSyscalls, &ebpf.MapSpec{
		Name: "pin_syscalls", Type: ebpf.Hash, KeySize: 8 + syscallNameSize, ValueSize: uint32(binary.Size(syscallTold{})), MaxEntries: pinSyscallsMax,
		Flags: unix.BPF_F_NO_PREALLOC,
	})
	return err
}

// SyscallsTold says that these counts of system calls were told: the next tracer's owner tells of what comes on top.
func (t *Tracer) SyscallsTold(c *SyscallCounts, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pins == nil || t.closed.Load() {
		return
	}
	failed := map[string]int64{}
	for _, e := range c.Errors {
		failed[e.Name] = e.N
	}
	latencies := map[string]*event.Latency{}
	for i := range c.Latencies {
		latencies[c.Latencies[i].Name] = &c.Latencies[i]
	}
	for _, e := range c.Counts {
		account := syscallAccount{Sandbox: c.Sandbox}
		if copy(account.Name[:], e.Name) == len(e.Name) {
			told := syscallTold{Calls: e.N, Errors: failed[e.Name], Time: at.UnixNano()}
			if l := latencies[e.Name]; l != nil {
				told.Sum, told.Buckets = int64(l.Sum), l.Buckets
			}
			_ = t.pins.syscalls.Put(account, told) // no room: it is told again
		}
	}
}

// ToldSyscalls is what was told of the counts that go on from the tracer before, by sandbox, and when. Nothing where the
// counts began anew.
func (t *Tracer) ToldSyscalls() map[uint64]ToldSyscalls {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pins == nil || t.closed.Load() {
		return nil
	}
	told := map[uint64]ToldSyscalls{}
	var gone []syscallAccount
	var account syscallAccount
	var was syscallTold
	entries := t.pins.syscalls.Iterate()
	for entries.Next(&account, &was) {
		if _, watched := t.tracked[account.Sandbox]; !watched || !t.pins.continues() {
			gone = append(gone, account)
			continue
		}
		of, name, at := told[account.Sandbox], text(account.Name[:]), time.Unix(0, was.Time)
		of.Counts = append(of.Counts, event.Count{Name: name, N: was.Calls})
		of.Errors = append(of.Errors, event.Count{Name: name, N: was.Errors})
		of.Latencies = append(of.Latencies, event.Latency{Name: name, Sum: time.Duration(was.Sum), Buckets: was.Buckets})
		if at.After(of.Time) {
			of.Time = at
		}
		told[account.Sandbox] = of
	}
	for _, account := range gone {
		_ = t.pins.syscalls.Delete(account)
	}
	return told
}

// ToldSyscalls is how much was told of one sandbox's counts of system calls, and when last.
type ToldSyscalls struct {
	Counts, Errors []event.Count
	Latencies      []event.Latency
	Time           time.Time
}

// forgetSyscallsTold forgets what was told of a sandbox that is no longer watched: its counts begin anew when it is again.
func (p *pins) forgetSyscallsTold(sandbox uint64) error {
	var gone []syscallAccount
	var account syscallAccount
	var was syscallTold
	entries := p.syscalls.Iterate()
	for entries.Next(&account, &was) {
		if account.Sandbox == sandbox {
			gone = append(gone, account)
		}
	}
	for _, account := range gone {
		if err := p.syscalls.Delete(account); err != nil {
			return err
		}
	}
	return entries.Err()
}
