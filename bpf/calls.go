// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

const (
	// topProcesses is how many processes of a sandbox are told by themselves: those that made the most calls.
	topProcesses = 10
	// callsIdle is after how many looks that found no new call a process is asked for: its end may not have been told.
	callsIdle = 30
	// endsGrace is how long after its end a process's counters are added up at the earliest: a program that was adding to them
	// then has done so for long.
	endsGrace = 100 * time.Millisecond
)

// Marks of a call's name in the kernel's counters of a process (CALLS_NAMED, CALLS_COMPAT).
const (
	callNamed  = 1 << 31
	callCompat = 1 << 30
)

// calls is the system calls that processes make, as the kernel counts them: with the process, and with the sandbox
// what found no room there. Its methods may be called from any goroutine.
type calls struct {
	mu        sync.Mutex
	fronts    fronts
	processes *ebpf.Map
	sandboxes *ebpf.Map
	latencies *ebpf.Map
	// kept is the sums of processes that have ended, for a tracer that takes over.
	kept  *ebpf.Map
	known map[syscallCaller]*knownCaller
	pasts map[uint64]*pastCalls
	// ends is the processes that have ended and are still to be added up.
	ends    map[syscallCaller]endedCaller
	settled time.Time
	reads   uint64
}

// endedCaller is a process that has ended: its name, and when that was told.
type endedCaller struct {
	comm string
	at   time.Time
}

// mostEnds is how many processes that have ended are added up at the latest: many at once cost less, but take room of others.
const mostEnds = 256

// knownCaller is a process as it was at the last look.
type knownCaller struct {
	calls syscallCallerCalls
	// told is what was told of it, still how many looks found no new call, read the last look that found it.
	told  syscallCallerCalls
	still int
	read  uint64
}

// pastCalls is the calls of a sandbox's processes that have ended.
type pastCalls struct {
	counts map[uint32]callCount
	// ended is those of them that ended since the last look and made the most.
	ended []ProcessSyscalls
}

// callCount is how often a system call was made, and how often it failed.
type callCount struct{ calls, errors uint64 }

func newCalls(c *ebpf.Collection) (*calls, error) {
	fronts, err := newFronts(c)
	if err != nil {
		return nil, err
	}
	return &calls{
		fronts:    fronts,
		processes: c.Maps["callers"], sandboxes: c.Maps["counters"], latencies: c.Maps["call_latencies"], kept: c.Maps["past_counters"],
		known: map[syscallCaller]*knownCaller{}, pasts: map[uint64]*pastCalls{}, ends: map[syscallCaller]endedCaller{},
	}, nil
}

// inherit goes on with the sums of a tracer before. What processes did until now is not told of them again.
func (t *calls) inherit() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var key syscallCounterKey
	var sum syscallCounter
	entries := t.kept.Iterate()
	for entries.Next(&key, &sum) {
		t.past(key.Sandbox).counts[nameOf(&key)] = callCount{sum.Calls, sum.Errors}
	}
	if err := entries.Err(); err != nil {
		return fmt.Errorf("reading sums of system calls: %w", err)
	}
	if err := errors.Join(t.fronts.addUp(true), t.look()); err != nil {
		return err
	}
	for _, k := range t.known {
		k.told = k.calls
	}
	return nil
}

// forget deletes the counters of a sandbox that is no longer watched, for others to use.
func (t *calls) forget(sandbox uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pasts, sandbox)
	for key, k := range t.known {
		if k.calls.Sandbox == sandbox {
			delete(t.known, key)
		}
	}
	return errors.Join(
		t.fronts.addUp(true),
		forgetKeys(t.processes, func(_ syscallCaller, c *syscallCallerCalls) bool { return c.Sandbox == sandbox }),
		forgetKeys(t.sandboxes, func(k syscallCounterKey, _ *syscallCounter) bool { return k.Sandbox == sandbox }),
		forgetKeys(t.latencies, func(k syscallCounterKey, _ *syscallLatencies) bool { return k.Sandbox == sandbox }),
		forgetKeys(t.kept, func(k syscallCounterKey, _ *syscallCounter) bool { return k.Sandbox == sandbox }))
}

// forgetKeys deletes the entries of a map that are old.
func forgetKeys[K comparable, V any](m *ebpf.Map, old func(K, *V) bool) error {
	var key K
	var value V
	var keys []K
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		if old(key, &value) {
			keys = append(keys, key)
		}
	}
	if err := entries.Err(); err != nil {
		return fmt.Errorf("finding system call counters: %w", err)
	}
	for _, key := range keys {
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("deleting a system call counter: %w", err)
		}
	}
	return nil
}

// scoped says that cgroups have come to belong to another sandbox, or to none.
func (t *calls) scoped() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.fronts.addUp(true)
}

// ended takes the end of a process. All its calls have returned.
func (t *calls) ended(task *Task) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.ends[syscallCaller{Start: task.Start, Pid: task.PID}] = endedCaller{task.Comm, now}
	if len(t.ends) < mostEnds || now.Sub(t.settled) < endsGrace {
		return
	}
	if err := t.fronts.addUp(false); err == nil { // else the next look tells why
		t.settle(now)
	}
}

// settle adds up the calls of the processes that have ended, and has the kernel forget them. The sums are kept before: a
// tracer that takes over in between finds them twice at worst, and never less than was told.
func (t *calls) settle(now time.Time) {
	t.settled = now
	changed := map[syscallCounterKey]syscallCounter{}
	var settled []syscallCaller
	for key, ended := range t.ends {
		if now.Sub(ended.at) < endsGrace {
			continue
		}
		delete(t.ends, key)
		var final syscallCallerCalls
		if err := t.processes.Lookup(key, &final); err != nil {
			continue // it made no call, or found no room: then the sandbox counts them
		}
		settled = append(settled, key)
		t.end(key, ended.comm, &final, changed)
	}
	for key, sum := range changed {
		_ = t.kept.Put(key, sum) // without it the next tracer's sums are smaller, by what was told and is not told again
	}
	for _, key := range settled {
		_ = t.processes.Delete(key)
	}
}

// end adds the calls of a process to those of the past, and notes which sums it changed.
func (t *calls) end(key syscallCaller, comm string, final *syscallCallerCalls, changed map[syscallCounterKey]syscallCounter) {
	var told syscallCallerCalls
	if known := t.known[key]; known != nil {
		told = known.told
		delete(t.known, key)
	}
	past := t.past(final.Sandbox)
	for i := range final.Calls {
		c := &final.Calls[i]
		if c.Name == 0 {
			continue
		}
		sum := past.counts[c.Name]
		sum = callCount{sum.calls + c.Calls, sum.errors + c.Errors}
		past.counts[c.Name] = sum
		changed[counterOf(final.Sandbox, c.Name)] = syscallCounter{Calls: sum.calls, Errors: sum.errors}
	}
	past.end(ProcessSyscalls{Task: Task{PID: key.Pid, Start: key.Start, Comm: comm}, Ended: true}, final, &told)
}

func (t *calls) past(sandbox uint64) *pastCalls {
	past := t.pasts[sandbox]
	if past == nil {
		past = &pastCalls{counts: map[uint32]callCount{}}
		t.pasts[sandbox] = past
	}
	return past
}

// end keeps a process that has ended for the next look, if it is one of those that made the most calls.
func (p *pastCalls) end(ended ProcessSyscalls, final, told *syscallCallerCalls) {
	ended.Calls = callsSince(final, told)
	at, _ := slices.BinarySearchFunc(p.ended, ended, mostCalls)
	if at >= topProcesses || ended.Calls == 0 {
		return
	}
	ended.fill(final, told)
	p.ended = slices.Insert(p.ended, at, ended)
	p.ended = p.ended[:min(len(p.ended), topProcesses)]
}

// mostCalls orders those first that made more calls.
func mostCalls(a, b ProcessSyscalls) int {
	return cmp.Or(cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.Task.Start, b.Task.Start), cmp.Compare(a.Task.PID, b.Task.PID))
}

// callsSince is how many calls a process made since it was told of, of those that its counters name.
func callsSince(now, told *syscallCallerCalls) (n int64) {
	for i := range now.Calls {
		n += int64(now.Calls[i].Calls - told.Calls[i].Calls)
	}
	return n
}

// fill fills in what a process did since it was told of.
func (p *ProcessSyscalls) fill(now, told *syscallCallerCalls) {
	p.Other = int64(now.Other - told.Other)
	for i := range now.Calls {
		c, before := &now.Calls[i], &told.Calls[i]
		if n := int64(c.Calls - before.Calls); n > 0 {
			p.Counts = append(p.Counts, event.Count{Name: countedName(c.Name), N: n})
		}
		if n := int64(c.Errors - before.Errors); n > 0 {
			p.Errors = append(p.Errors, event.Count{Name: countedName(c.Name), N: n})
		}
	}
	slices.SortFunc(p.Counts, compareCounts)
	slices.SortFunc(p.Errors, compareCounts)
	if now.Latencies.Sum > told.Latencies.Sum {
		before, after := latencyOf(event.AllCalls, &told.Latencies), latencyOf(event.AllCalls, &now.Latencies)
		p.Latencies = []event.Latency{after.Since(&before)}
	}
}

// latencyOf is how long the calls of a name took, as the kernel counts it.
func latencyOf(name string, counted *syscallLatencies) event.Latency {
	l := event.Latency{Name: name, Sum: time.Duration(counted.Sum)}
	for i, n := range counted.Buckets {
		l.Buckets[i] = int64(n)
	}
	return l
}

// countedName is the name of a call in the counters of a process.
func countedName(name uint32) string {
	return syscallName(name&^(callNamed|callCompat), name&callCompat != 0)
}

// nameOf is the reverse: what a call of a sandbox is called in the counters of a process.
func nameOf(key *syscallCounterKey) uint32 {
	name := key.Number | callNamed
	if key.Compat != 0 {
		name |= callCompat
	}
	return name
}

// counterOf is what a call in the counters of a process is called in those of a sandbox.
func counterOf(sandbox uint64, name uint32) syscallCounterKey {
	key := syscallCounterKey{Sandbox: sandbox, Number: name &^ (callNamed | callCompat)}
	if name&callCompat != 0 {
		key.Compat = 1
	}
	return key
}

// read is the counts of a sandbox, or of all for 0, ordered by sandbox and by name. What processes did is since it was
// told the last time.
func (t *calls) read(sandbox uint64) ([]SyscallCounts, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	// Processes first: what they count meanwhile is not missing from the sandbox's sum then, but told by the next look. And
	// durations before counts: none is of a call that is not counted.
	if err := t.fronts.addUp(false); err != nil {
		return nil, err
	}
	latencies, err := t.durations()
	if err != nil {
		return nil, err
	}
	t.settle(time.Now())
	if err := t.look(); err != nil {
		return nil, err
	}
	sums, err := t.sums()
	if err != nil {
		return nil, err
	}
	all := make([]SyscallCounts, 0, len(sums))
	for id, sum := range sums {
		if sandbox != 0 && id != sandbox {
			continue
		}
		counts := SyscallCounts{Sandbox: id, Processes: t.tell(id), Latencies: latencies[id]}
		for name, count := range sum {
			counts.add(countedName(name), count)
		}
		slices.SortFunc(counts.Counts, compareCounts)
		slices.SortFunc(counts.Errors, compareCounts)
		all = append(all, counts)
	}
	slices.SortFunc(all, func(a, b SyscallCounts) int { return cmp.Compare(a.Sandbox, b.Sandbox) })
	return all, nil
}

// look reads the counters of all processes.
func (t *calls) look() error {
	t.reads++
	var key syscallCaller
	var calls syscallCallerCalls
	entries := t.processes.Iterate()
	for entries.Next(&key, &calls) {
		k := t.known[key]
		if k == nil {
			k = &knownCaller{}
			t.known[key] = k
		}
		// When a key is deleted meanwhile, the kernel starts again from the first: take each once.
		if k.read == t.reads {
			continue
		}
		k.read = t.reads
		k.still++
		if k.calls != calls {
			k.calls, k.still = calls, 0
		}
	}
	if err := entries.Err(); err != nil {
		return fmt.Errorf("reading the system call counters of processes: %w", err)
	}
	for key, k := range t.known {
		if k.read != t.reads {
			delete(t.known, key)
			continue
		}
		// The record of its end was lost. Where the collector sees other processes than the node's it has counted
		// nothing for so long, and begins anew if it goes on.
		if k.still >= callsIdle && errors.Is(unix.Kill(int(key.Pid), 0), unix.ESRCH) {
			t.ends[key] = endedCaller{}
		}
	}
	return nil
}

// sums is how often each call was made in each sandbox: by processes that run, by others, and what found no room.
func (t *calls) sums() (map[uint64]map[uint32]callCount, error) {
	sums := map[uint64]map[uint32]callCount{}
	add := func(sandbox uint64, name uint32, n callCount) {
		if sums[sandbox] == nil {
			sums[sandbox] = map[uint32]callCount{}
		}
		sum := sums[sandbox][name]
		sums[sandbox][name] = callCount{sum.calls + n.calls, sum.errors + n.errors}
	}
	for _, k := range t.known {
		for i := range k.calls.Calls {
			if c := &k.calls.Calls[i]; c.Name != 0 {
				add(k.calls.Sandbox, c.Name, callCount{c.Calls, c.Errors})
			}
		}
	}
	for sandbox, past := range t.pasts {
		for name, n := range past.counts {
			add(sandbox, name, n)
		}
	}
	// When a key is deleted meanwhile, the kernel starts again from the first: count each once.
	counted := map[syscallCounterKey]bool{}
	var key syscallCounterKey
	var counter syscallCounter
	entries := t.sandboxes.Iterate()
	for entries.Next(&key, &counter) {
		if counted[key] {
			continue
		}
		counted[key] = true
		add(key.Sandbox, nameOf(&key), callCount{counter.Calls, counter.Errors})
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("reading system call counters: %w", err)
	}
	return sums, nil
}

// durations is how long the calls of each sandbox took, ordered by name.
func (t *calls) durations() (map[uint64][]event.Latency, error) {
	all := map[uint64][]event.Latency{}
	read := map[syscallCounterKey]bool{}
	var key syscallCounterKey
	var counted syscallLatencies
	entries := t.latencies.Iterate()
	for entries.Next(&key, &counted) {
		if !read[key] { // as in sums
			read[key] = true
			all[key.Sandbox] = append(all[key.Sandbox], latencyOf(countedName(nameOf(&key)), &counted))
		}
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("reading how long system calls took: %w", err)
	}
	for _, of := range all {
		slices.SortFunc(of, func(a, b event.Latency) int { return cmp.Compare(a.Name, b.Name) })
	}
	return all, nil
}

// tell is the processes of a sandbox that made the most calls since they were told of. Of the others nothing is told but
// what the sandbox's sum holds.
func (t *calls) tell(sandbox uint64) []ProcessSyscalls {
	var told []ProcessSyscalls
	if past := t.pasts[sandbox]; past != nil {
		told, past.ended = past.ended, nil
	}
	var running []ProcessSyscalls
	for key, k := range t.known {
		if k.calls.Sandbox != sandbox {
			continue
		}
		if n := callsSince(&k.calls, &k.told); n > 0 {
			running = append(running, ProcessSyscalls{Task: Task{PID: key.Pid, Start: key.Start}, Calls: n})
		}
	}
	told = append(told, running...)
	slices.SortFunc(told, mostCalls)
	told = told[:min(len(told), topProcesses)]
	for i := range told {
		if !told[i].Ended {
			k := t.known[syscallCaller{Start: told[i].Task.Start, Pid: told[i].Task.PID}]
			told[i].fill(&k.calls, &k.told)
		}
	}
	for _, k := range t.known {
		if k.calls.Sandbox == sandbox {
			k.told = k.calls
		}
	}
	return told
}
