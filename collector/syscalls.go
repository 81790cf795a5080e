// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"cmp"
	"slices"
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/event"
)

// syscallCounts is the kernel's counters of one sandbox as they were at the last summary.
type syscallCounts struct {
	counts, errors map[string]int64
	latencies      map[string]event.Latency
	since          time.Time
}

// summariseAll publishes the system calls of every sandbox since its last summary.
func (p *Pipeline) summariseAll(now time.Time) {
	for _, c := range p.readSyscalls(0) {
		if state := p.sandboxes[c.Sandbox]; state != nil && state.stopped.IsZero() {
			p.publishSyscalls(state, c, now)
		}
	}
}

// summarise publishes those of one sandbox.
func (p *Pipeline) summarise(state *sandboxState, now time.Time) {
	for _, c := range p.readSyscalls(state.sandbox.CgroupID) {
		p.publishSyscalls(state, c, now)
	}
}

func (p *Pipeline) readSyscalls(sandbox uint64) []bpf.SyscallCounts {
	counts, err := p.s.Source.SyscallCounts(sandbox)
	if err != nil {
		p.s.Logger.Warn("system calls could not be counted", "error", err)
	}
	return counts
}

func (p *Pipeline) publishSyscalls(state *sandboxState, c bpf.SyscallCounts, now time.Time) {
	if p.replaying {
		return
	}
	last := &state.syscalls
	if last.counts == nil {
		p.beginSyscalls(state)
	}
	summary := &event.SyscallSummary{
		Window: now.Sub(last.since), Counts: growth(last.counts, c.Counts), Errors: growth(last.errors, c.Errors),
	}
	summary.Latencies = event.NewLatencies(longer(last.latencies, c.Latencies), event.SumOf(summary.Counts))
	last.since = now
	if len(summary.Counts) == 0 {
		return
	}
	p.start(state, now)
	processes := make([]*event.Process, len(c.Processes))
	for i := range c.Processes {
		processes[i] = p.caller(&c.Processes[i].Task)
	}
	summary.Processes = shares(processes, &c, summary.Counts)
	p.publish(&event.Event{Time: now, Sandbox: state.sandbox, Payload: summary})
	for i := range c.Processes {
		did := &c.Processes[i]
		p.publish(&event.Event{Time: now, Sandbox: state.sandbox, Process: processes[i], Payload: &event.SyscallProcess{
			Window: summary.Window, Counts: mostFirst(did.Counts), Errors: mostFirst(did.Errors), Other: did.Other,
			Latencies: event.NewLatencies(did.Latencies, did.Calls+did.Other),
		}})
	}
	if s, ok := p.s.Source.(syscallKeeper); ok {
		s.SyscallsTold(&c, now)
	}
}

// caller is a process whose calls were counted. One that the tree does not have any more has its ids and its name left.
func (p *Pipeline) caller(task *bpf.Task) *event.Process {
	id := p.tree.Identity(task.PID, task.Start)
	if known := p.tree.Find(id); known != nil {
		return known
	}
	return &event.Process{UID: id, PID: task.PID, Name: task.Comm}
}

// shares is how many of a sandbox's calls were made by which process, and by all that are not told of.
func shares(processes []*event.Process, c *bpf.SyscallCounts, counts []event.Count) []event.Count {
	if len(processes) == 0 {
		return nil
	}
	var rest int64
	for _, count := range counts {
		rest += count.N
	}
	var all []event.Count
	for i, process := range processes {
		n := min(c.Processes[i].Calls, rest)
		all = append(all, event.Count{Name: process.UID.String(), N: n})
		rest -= n
	}
	if rest > 0 {
		all = append(all, event.Count{Name: event.OtherCount, N: rest})
	}
	return all
}

// syscallKeeper is a source that remembers which counts were told, for the collector after this one.
type syscallKeeper interface {
	SyscallsTold(c *bpf.SyscallCounts, at time.Time)
	ToldSyscalls() map[uint64]bpf.ToldSyscalls
}

// inheritSyscalls takes the counts that the collector before has told as told.
func (p *Pipeline) inheritSyscalls() {
	if s, ok := p.s.Source.(syscallKeeper); ok {
		p.toldSyscalls = s.ToldSyscalls()
	}
}

// beginSyscalls begins the account of a sandbox, where the collector before ended it.
func (p *Pipeline) beginSyscalls(state *sandboxState) {
	last := &state.syscalls
	last.counts, last.errors, last.since = map[string]int64{}, map[string]int64{}, state.firstSeen
	last.latencies = map[string]event.Latency{}
	told, ok := p.toldSyscalls[state.sandbox.CgroupID]
	if !ok {
		return
	}
	delete(p.toldSyscalls, state.sandbox.CgroupID) // a later sandbox of that id begins anew
	last.since = told.Time
	growth(last.counts, told.Counts)
	growth(last.errors, told.Errors)
	longer(last.latencies, told.Latencies)
}

// growth is how much each counter grew, most first, and notes the counters in last.
func growth(last map[string]int64, counts []event.Count) []event.Count {
	more := 0
	for _, c := range counts {
		if c.N > last[c.Name] {
			more++
		}
	}
	var grown []event.Count
	if more > 0 {
		grown = make([]event.Count, 0, more)
	}
	for _, c := range counts {
		if n := c.N - last[c.Name]; n > 0 {
			grown = append(grown, event.Count{Name: c.Name, N: n})
		}
		last[c.Name] = c.N
	}
	return mostFirst(grown)
}

// longer is how much longer the calls of each name have taken, those first that took longest together, and notes all in
// last.
func longer(last map[string]event.Latency, latencies []event.Latency) []event.Latency {
	var grown []event.Latency
	for i := range latencies {
		l, before := &latencies[i], last[latencies[i].Name]
		if since := l.Since(&before); since.Count() > 0 {
			grown = append(grown, since)
		}
		last[l.Name] = *l
	}
	slices.SortFunc(grown, func(a, b event.Latency) int {
		return cmp.Or(cmp.Compare(b.Sum, a.Sum), cmp.Compare(a.Name, b.Name))
	})
	return grown
}

// mostFirst orders counts.
func mostFirst(counts []event.Count) []event.Count {
	slices.SortFunc(counts, func(a, b event.Count) int {
		return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Name, b.Name))
	})
	return counts
}
