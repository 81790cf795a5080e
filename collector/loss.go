// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"cmp"
	"slices"
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/event"
)

// lossKey is what one account of losses is about.
type lossKey struct {
	stage   event.LossWhere
	lost    string
	reason  string
	sandbox *event.Sandbox
}

// lossCount is an account: how many in all, and how many of them were reported as events.
type lossCount struct{ total, reported uint64 }

// losses is every account. The accounts of a sandbox that is gone go into those of no sandbox.
type losses struct {
	counts map[lossKey]*lossCount
	// kernel is the kernel's own counters as they were last read.
	kernel map[kernelKey]uint64
	// read is those counters.
	read []bpf.SandboxCounts
	// looked is when losses were last looked for: what is lost since was lost after it.
	looked time.Time
}

type kernelKey struct {
	sandbox           uint64
	probe, kind, what string
}

func newLosses() losses {
	return losses{counts: map[lossKey]*lossCount{}, kernel: map[kernelKey]uint64{}, looked: time.Now()}
}

// kernelCount takes one of the kernel's counters of a sandbox.
func (l *losses) kernelCount(s *event.Sandbox, key kernelKey, total uint64) {
	last := l.kernel[key]
	if total < last {
		last = 0 // it was watched anew
	}
	if total != last {
		l.kernel[key] = total
	}
	if total > last {
		l.note(lossKey{stage: event.LossRing, lost: key.kind, reason: key.what, sandbox: s}, total-last)
	}
}

func (l *losses) note(key lossKey, n uint64) {
	c := l.counts[key]
	if c == nil {
		c = &lossCount{}
		l.counts[key] = c
	}
	c.total += n
}

// set makes the total of an account whose counter somebody else keeps.
func (l *losses) set(key lossKey, total uint64) {
	if total > 0 {
		l.note(key, 0)
		l.counts[key].total = total
	}
}

// forget moves a sandbox's accounts to those of no sandbox, so that totals never shrink.
func (l *losses) forget(s *event.Sandbox) {
	for key, c := range l.counts {
		if key.sandbox != s {
			continue
		}
		delete(l.counts, key)
		key.sandbox = nil
		l.note(key, c.total)
		l.counts[key].reported += c.reported
	}
	for key := range l.kernel {
		if key.sandbox == s.CgroupID {
			delete(l.kernel, key)
		}
	}
}

// sorted is all accounts in a stable order.
func (l *losses) sorted() []lossKey {
	keys := make([]lossKey, 0, len(l.counts))
	for key := range l.counts {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b lossKey) int {
		return cmp.Or(cmp.Compare(a.stage, b.stage), cmp.Compare(a.lost, b.lost), cmp.Compare(a.reason, b.reason),
			cmp.Compare(sandboxID(a.sandbox), sandboxID(b.sandbox)))
	})
	return keys
}

func sandboxID(s *event.Sandbox) string {
	if s == nil {
		return ""
	}
	return s.ID
}

// countLosses reads the counters that others keep.
func (p *Pipeline) countLosses() {
	counts, err := p.s.Source.Counts()
	if err != nil {
		p.s.Logger.Warn("losses in the kernel could not be counted", "error", err)
	}
	p.losses.read = counts
	for _, c := range counts {
		var s *event.Sandbox
		if state := p.sandboxes[c.Sandbox]; state != nil {
			s = state.sandbox
		} else if c.Sandbox != 0 {
			continue // not known yet, or not any more
		}
		p.losses.kernelCount(s, kernelKey{c.Sandbox, c.Probe, c.Kind, "ring_full"}, c.Dropped)
		p.losses.kernelCount(s, kernelKey{c.Sandbox, c.Probe, c.Kind, "budget"}, c.Throttled)
	}
	p.losses.set(lossKey{stage: event.LossDecode, lost: "record", reason: "malformed"}, p.s.Source.Undecoded())
	p.losses.set(lossKey{stage: event.LossDecode, lost: "record", reason: "unknown_sandbox"}, p.strangers)
	if s, ok := p.s.Source.(interface{ Untold() uint64 }); ok {
		p.losses.set(lossKey{stage: event.LossRing, lost: string(event.KindFileOpen), reason: "restart"}, s.Untold())
	}
	p.losses.set(lossKey{stage: event.LossRing, lost: "cgroup", reason: "refused"}, p.s.Source.Refused())
	for _, o := range p.outputs {
		p.losses.set(lossKey{stage: event.LossExport, lost: o.settings.Exporter.Name(), reason: "refused"}, o.lost.Load())
		if l, ok := o.settings.Exporter.(interface{ Lost() uint64 }); ok {
			p.losses.set(lossKey{stage: event.LossExport, lost: o.settings.Exporter.Name(), reason: "given_up"}, l.Lost())
		}
	}
	if p.s.Losses != nil {
		for _, l := range p.s.Losses() {
			p.losses.set(lossKey{stage: l.Stage, lost: l.Lost, reason: l.Reason}, l.Count)
		}
	}
}

// reportLosses publishes what was lost since the last report.
func (p *Pipeline) reportLosses(now time.Time) {
	if p.replaying {
		return
	}
	told := false
	for _, key := range p.losses.sorted() {
		c := p.losses.counts[key]
		if c.total <= c.reported {
			continue
		}
		told = told || key.stage == event.LossRing
		n := c.total - c.reported
		c.reported = c.total
		p.publish(&event.Event{Time: now, Sandbox: key.sandbox, Payload: &event.Loss{
			Stage: key.stage, Lost: key.lost, Count: n, Reason: key.reason, Since: p.losses.looked,
		}})
	}
	p.losses.looked = now
	if s, ok := p.s.Source.(lossKeeper); ok && told {
		s.LossesTold(p.losses.read)
	}
}

// lossKeeper is a source that remembers which losses were told, for the collector after this one.
type lossKeeper interface {
	LossesTold(counts []bpf.SandboxCounts)
	ToldLosses() []bpf.SandboxCounts
}

// inheritLosses takes the losses that the collector before has told as told.
func (p *Pipeline) inheritLosses() {
	s, ok := p.s.Source.(lossKeeper)
	if !ok {
		return
	}
	for _, c := range s.ToldLosses() {
		p.losses.kernel[kernelKey{c.Sandbox, c.Probe, c.Kind, "ring_full"}] = c.Dropped
		p.losses.kernel[kernelKey{c.Sandbox, c.Probe, c.Kind, "budget"}] = c.Throttled
	}
}

// successor is a source that may go on where another ended.
type successor interface{ TakenOver() *event.Takeover }

// reportTakeover publishes once that the collector goes on where another ended.
func (p *Pipeline) reportTakeover(now time.Time) {
	s, ok := p.s.Source.(successor)
	if !ok || p.takeoverTold {
		return
	}
	p.takeoverTold = true
	if takeover := s.TakenOver(); takeover != nil {
		p.publish(&event.Event{Time: now, Payload: takeover})
	}
}

// reportProbes publishes the state of each probe that sees system calls, or does not work, when it is new. It counts
// what the kernel did not run their programs for.
func (p *Pipeline) reportProbes(now time.Time) {
	for _, s := range p.s.Source.Probes() {
		p.losses.set(lossKey{stage: event.LossRing, lost: s.Name, reason: "missed"}, s.Missed)
		state := event.ProbeOf(&s)
		if before := p.probes[s.Name]; s.Plan == "" && s.Attached && before == "" || before == state.State {
			continue
		}
		p.probes[s.Name] = state.State
		p.publish(&event.Event{Time: now, Payload: state})
	}
}

// Stats is the collector's account of itself.
func (p *Pipeline) Stats() event.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.countLosses()
	stats := event.Stats{
		Records: p.records, CanaryInterval: p.s.CanaryInterval, Claims: p.claims.taken, ClaimsUnattributed: p.claims.unattributed,
		Probes: p.s.Source.Probes(), Sandboxes: len(p.s.Sandboxes.Sandboxes()),
		SandboxesRefused: p.s.Sandboxes.Refused(), Processes: p.tree.Len(), ProcessesEvicted: p.tree.Evicted(),
	}
	stats.Sessions = p.sessions.Stats()
	stats.RingBytes, stats.RingUsed = p.s.Source.RingStats()
	for kind, n := range p.published {
		stats.Events = append(stats.Events, event.Count{Name: string(kind), N: int64(n)})
	}
	slices.SortFunc(stats.Events, func(a, b event.Count) int { return cmp.Compare(a.Name, b.Name) })
	for _, key := range p.losses.sorted() {
		if c := p.losses.counts[key]; c.total > 0 {
			stats.Lost = append(stats.Lost, event.LossCounter{
				Stage: key.stage, Lost: key.lost, Reason: key.reason, Sandbox: sandboxID(key.sandbox), Count: c.total,
			})
		}
	}
	for _, o := range p.outputs {
		stats.Exporters = append(stats.Exporters, o.stats())
		stats.Notifiers = append(stats.Notifiers, o.notifiers()...)
	}
	for _, d := range p.detectors {
		s := d.Stats()
		s.Failed = d.broken
		stats.Detectors = append(stats.Detectors, s)
	}
	return stats
}
