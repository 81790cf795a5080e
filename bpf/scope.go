// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// countsAttempts bounds how often the entry of a sandbox's counts is tried: maps without preallocation refuse
// quick inserts while the kernel refills its pool (seen with per-CPU ones on 6.12 and 6.18).
const countsAttempts = 50

// Track watches the cgroup2 cgroup with that id, and every cgroup below it now or later, as one sandbox.
// Of nested sandboxes the innermost counts, in whatever order they are tracked. Tracking again does nothing. The error is ErrFull when
// there is no room, fs.ErrNotExist when there is no such cgroup.
func (t *Tracer) Track(cgroupID uint64) error {
	t.bootstraps.Lock()
	defer t.bootstraps.Unlock()
	if t.closed.Load() {
		return ErrClosed
	}
	listed := !t.unlisted
	if err := t.doubtLabels(); err != nil {
		return fmt.Errorf("watching cgroup %d: %w", cgroupID, err)
	}
	populated, err := t.track(cgroupID)
	if err == nil && populated {
		return t.listExisting(0)
	}
	if listed {
		err = errors.Join(err, t.trustLabels())
	}
	return err
}

// track is Track but for the processes that are in the cgroup already: it says whether there are any.
func (t *Tracer) track(cgroupID uint64) (populated bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Load() {
		return false, ErrClosed
	}
	if _, again := t.tracked[cgroupID]; again {
		return false, nil
	}
	dir, err := cgroupDir(t.mount, cgroupID)
	if err != nil {
		return false, fmt.Errorf("watching cgroup %d: %w", cgroupID, err)
	}
	if err := t.openCounts(cgroupID); err != nil {
		t.refused++
		return false, fmt.Errorf("watching cgroup %d: %w", cgroupID, err)
	}
	t.tracked[cgroupID] = dir
	t.places.add(cgroupID, dir)
	if err := t.enter(cgroupID, dir); err != nil {
		t.refused++
		return false, fmt.Errorf("watching cgroup %d: %w", cgroupID, errors.Join(err, t.untrack(cgroupID)))
	}
	if err := t.scopeChanged(); err != nil {
		return false, fmt.Errorf("watching cgroup %d: %w", cgroupID, errors.Join(err, t.untrack(cgroupID)))
	}
	if t.calls != nil && (t.nested(dir) || t.strays() > 0) {
		if err := t.calls.scoped(); err != nil {
			t.log.Warn("some system calls may be counted with the sandbox around the one that made them", "error", err)
		}
	}
	if t.pins != nil {
		if err := t.pins.remember(cgroupID, dir); err != nil {
			t.log.Warn("a sandbox will have to be found again by the next collector", "error", err)
		}
	}
	return isPopulated(dir), nil
}

// isPopulated says whether a process is in a cgroup or one below it.
func isPopulated(dir string) bool {
	events, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	return err != nil || strings.Contains(string(events), "populated 1")
}

// enter enters a sandbox and the cgroups below it into the kernel's map. The caller holds mu.
func (t *Tracer) enter(cgroupID uint64, dir string) error {
	// A cgroup is entered before the ones below it are listed: those that are made later inherit in the
	// kernel, those that were made before are in the list.
	return walkCgroups(dir, func(_ string, id uint64) error {
		if _, inner := t.tracked[id]; inner && id != cgroupID {
			return fs.SkipDir
		}
		err := t.shared["sandboxes"].Put(id, cgroupID)
		if errors.Is(err, unix.E2BIG) {
			return ErrFull
		}
		return err
	})
}

// Untrack stops watching a sandbox. Its cgroups fall to the sandbox around it, if there is one. Its
// counts go too: read them before.
func (t *Tracer) Untrack(cgroupID uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Load() {
		return ErrClosed
	}
	if _, tracked := t.tracked[cgroupID]; !tracked {
		return nil
	}
	if err := t.untrack(cgroupID); err != nil {
		return fmt.Errorf("no longer watching cgroup %d: %w", cgroupID, err)
	}
	return nil
}

// untrack takes the sandbox out of the maps. The caller holds mu.
func (t *Tracer) untrack(cgroupID uint64) error {
	// Last, when nothing is the sandbox's any more.
	defer t.places.remove(cgroupID)
	outer, nested := t.enclosing(t.tracked[cgroupID])
	delete(t.tracked, cgroupID)
	if t.pins != nil {
		if err := t.pins.forget(cgroupID); err != nil {
			return err
		}
	}
	sandboxes := t.shared["sandboxes"]
	// Again until none is found: a cgroup may be made below one that is not taken out yet.
	for {
		members, err := membersOf(sandboxes, cgroupID)
		if err != nil {
			return fmt.Errorf("listing watched cgroups: %w", err)
		}
		if len(members) == 0 {
			break
		}
		for _, cgroup := range members {
			if nested {
				err = sandboxes.Update(cgroup, outer, ebpf.UpdateExist)
			} else {
				err = sandboxes.Delete(cgroup)
			}
			// One that is not there any more was removed meanwhile.
			if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return errors.Join(fmt.Errorf("taking out cgroup %d: %w", cgroup, err), t.scopeChanged())
			}
		}
	}
	return errors.Join(t.scopeChanged(), t.closeCounts(cgroupID))
}

// scopeChanged has the programs look up anew which sandbox a process is in. The caller holds mu and has changed that.
func (t *Tracer) scopeChanged() error {
	m := t.shared["scope_changes"]
	var n uint64
	if err := m.Lookup(uint32(0), &n); err != nil {
		return fmt.Errorf("counting a change of what is watched: %w", err)
	}
	if err := m.Put(uint32(0), n+1); err != nil {
		return fmt.Errorf("counting a change of what is watched: %w", err)
	}
	return nil
}

// membersBatch is how many watched cgroups are looked at by one call: one for each would be ten thousand calls for every
// sandbox that goes, where so many are watched.
const membersBatch = 4096

// membersOf is the cgroups that the kernel's map has as a sandbox's.
func membersOf(sandboxes *ebpf.Map, sandbox uint64) (members []uint64, err error) {
	cgroups, owners := make([]uint64, membersBatch), make([]uint64, membersBatch)
	err = eachEntry(sandboxes, cgroups, owners, func(cgroup uint64, owner *uint64) {
		if *owner == sandbox {
			members = append(members, cgroup)
		}
	})
	return members, err
}

// enclosing is the innermost watched sandbox around a directory. The caller holds mu.
func (t *Tracer) enclosing(dir string) (sandbox uint64, found bool) {
	longest := -1
	for id, outer := range t.tracked {
		if strings.HasPrefix(dir, outer+"/") && len(outer) > longest {
			sandbox, found, longest = id, true, len(outer)
		}
	}
	return sandbox, found
}

// nested says whether a directory is inside of that of another sandbox. The caller holds mu.
func (t *Tracer) nested(dir string) bool {
	_, inside := t.enclosing(dir)
	return inside
}

// strays is how many processes keep a sandbox whose cgroup they have left, at most.
func (t *Tracer) strays() (n uint64) {
	if m := t.shared["stray_counts"]; m != nil {
		_ = m.Lookup(uint32(0), &n) // its only entry is always there
	}
	return n
}

// openCounts makes the account of a sandbox, before its first event.
func (t *Tracer) openCounts(sandbox uint64) error {
	zero := processEventCount{}
	var err error
	for range countsAttempts {
		err = t.shared["event_counts"].Update(sandbox, zero, ebpf.UpdateNoExist)
		if !errors.Is(err, unix.ENOMEM) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if errors.Is(err, ebpf.ErrKeyExist) {
		return nil // the account of a tracer before goes on
	}
	if errors.Is(err, unix.E2BIG) {
		return ErrFull
	}
	if err != nil {
		return fmt.Errorf("making room for its counts: %w", err)
	}
	return nil
}

// closeCounts adds a sandbox's counts to those of the sandboxes that are gone, and deletes them.
func (t *Tracer) closeCounts(sandbox uint64) error {
	var count processEventCount
	if err := takeEntry(t.shared["event_counts"], sandbox, &count); err != nil {
		return fmt.Errorf("closing its counts: %w", err)
	}
	for i := range t.probes {
		p := &t.probes[i]
		for _, tally := range count.Tallies[p.slot : p.slot+1+len(p.kinds)] {
			t.retired[i].Seen += tally.Seen
			t.retired[i].Aggregated += tally.Aggregated
			t.retired[i].Dropped += tally.Dropped + tally.Throttled
		}
	}
	if t.calls != nil {
		return t.calls.forget(sandbox)
	}
	return nil
}

// Counts is the kernel's account of each sandbox and kind of records, but for those of which none was seen.
// Sandbox 0 is what belongs to none.
func (t *Tracer) Counts() ([]SandboxCounts, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Load() {
		return nil, ErrClosed
	}
	var counts []SandboxCounts
	for _, sandbox := range t.accounts() {
		var count processEventCount
		if err := t.shared["event_counts"].Lookup(sandbox, &count); err != nil {
			return nil, fmt.Errorf("reading the counts of cgroup %d: %w", sandbox, err)
		}
		for i := range t.probes {
			counts = t.probes[i].appendCounts(counts, sandbox, &count)
		}
	}
	return counts, nil
}

// appendCounts appends a sandbox's accounts of the probe's kinds.
func (p *loadedProbe) appendCounts(counts []SandboxCounts, sandbox uint64, count *processEventCount) []SandboxCounts {
	for kind, tally := range count.Tallies[p.slot : p.slot+1+len(p.kinds)] {
		if tally.Seen == 0 {
			continue
		}
		counts = append(counts, SandboxCounts{
			Sandbox: sandbox, Probe: p.name, Kind: p.kindName(kind),
			Seen: tally.Seen, Aggregated: tally.Aggregated, Dropped: tally.Dropped, Throttled: tally.Throttled,
		})
	}
	return counts
}

// accounts is the sandboxes that have counts. The caller holds mu.
func (t *Tracer) accounts() []uint64 {
	ids := make([]uint64, 1, len(t.tracked)+1)
	for id := range t.tracked {
		ids = append(ids, id)
	}
	return ids
}

// SyscallCounts is the kernel's counts of system calls of a sandbox, or of each for 0. Nil when they are not counted.
func (t *Tracer) SyscallCounts(sandbox uint64) ([]SyscallCounts, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Load() {
		return nil, ErrClosed
	}
	if t.calls == nil {
		return nil, nil
	}
	return t.calls.read(sandbox)
}

// Refused is how many cgroups were not watched for lack of room, by Track or by the kernel below a
// watched one.
func (t *Tracer) Refused() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	total := t.refused
	for i := range t.probes {
		c := t.probes[i].collection
		if c == nil || c.Maps["refusals"] == nil {
			continue
		}
		var n uint64
		if err := c.Maps["refusals"].Lookup(uint32(0), &n); err == nil {
			total += n
		}
	}
	return total
}
