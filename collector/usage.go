// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/watchglass/watchglass/event"
)

// Usage is how what sandboxes use of the machine is measured.
type Usage struct {
	// Read is what a sandbox has used so far; an error means that it is not known, as of one that is just
	// going. Nil measures nothing. It may take its time: no lock is held, and events go on meanwhile.
	Read func(*event.Sandbox) (*event.ResourceUsage, error)
	// Interval is how often; 0 means 10 s.
	Interval time.Duration
}

const defaultUsageInterval = 10 * time.Second

// tally is what is counted of one sandbox for as long as it is watched.
type tally struct {
	events, findings uint64
	usage            *event.ResourceUsage
}

// count adds an event that is being published to its sandbox's tally. The caller holds mu.
func (p *Pipeline) count(e *event.Event) {
	if e.Sandbox == nil {
		return
	}
	state := p.sandboxes[e.Sandbox.CgroupID]
	if state == nil || state.sandbox != e.Sandbox {
		return
	}
	state.tally.events++
	if f, ok := e.Payload.(*event.Finding); ok && f.State == event.FindingNew {
		state.tally.findings++
	}
}

// measureUntil measures at the interval until ctx ends.
func (p *Pipeline) measureUntil(ctx context.Context) {
	if p.s.Usage.Read == nil {
		return
	}
	ticker := time.NewTicker(cmp.Or(p.s.Usage.Interval, defaultUsageInterval))
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.Measure()
		case <-ctx.Done():
			return
		}
	}
}

// Measure publishes what each sandbox has used so far. It is called at an interval, and by whoever is
// about to remove a sandbox: afterwards nobody can tell any more.
func (p *Pipeline) Measure() {
	if p.s.Usage.Read == nil {
		return
	}
	for _, s := range p.s.Sandboxes.Sandboxes() {
		now := time.Now()
		usage, err := p.s.Usage.Read(s)
		if err != nil {
			p.s.Logger.Debug("a sandbox could not be measured", "sandbox", s.ID, "error", err)
			continue
		}
		p.measured(s, now, usage)
	}
}

// measured publishes one measurement, unless the sandbox is no longer watched by now.
func (p *Pipeline) measured(s *event.Sandbox, now time.Time, usage *event.ResourceUsage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.s.Sandboxes.Lookup(s.CgroupID) != s {
		return
	}
	state := p.know(s, now)
	if !state.stopped.IsZero() {
		return
	}
	p.start(state, now)
	state.tally.usage = usage
	p.publish(&event.Event{Time: now, Sandbox: s, Payload: usage})
}

// SandboxStats is the account of every sandbox that is watched now, those watched longest first. It may be
// called at any time.
func (p *Pipeline) SandboxStats() []event.SandboxStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.countLosses()
	lost := map[*event.Sandbox]uint64{}
	for key, c := range p.losses.counts {
		lost[key.sandbox] += c.total
	}
	list := make([]event.SandboxStats, 0, len(p.sandboxes))
	for _, state := range p.sandboxes {
		if !state.started || !state.stopped.IsZero() {
			continue
		}
		list = append(list, event.SandboxStats{
			Sandbox: state.sandbox, Events: state.tally.events, Findings: state.tally.findings,
			Lost: lost[state.sandbox], Processes: uint64(state.processes), Usage: state.tally.usage,
		})
	}
	slices.SortFunc(list, func(a, b event.SandboxStats) int {
		return cmp.Or(a.Sandbox.Started.Compare(b.Sandbox.Started), cmp.Compare(a.Sandbox.ID, b.Sandbox.ID))
	})
	return list
}
