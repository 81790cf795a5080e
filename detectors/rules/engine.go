// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/watchglass/watchglass/detectors"
	"github.com/watchglass/watchglass/event"
)

// Limits bounds what each rule remembers.
type Limits struct {
	// MaxSandboxes is how many sandboxes, MaxEntries how many groups and findings of each.
	MaxSandboxes, MaxEntries int
}

// complaintEvery is how often the failures of one rule are logged: at the first and each so many after.
const complaintEvery = 1 << 16

// Engine runs a set of rules: a detector made of many. Its methods but Swap and Stats are called from one
// goroutine.
type Engine struct {
	rule   event.Rule
	limits Limits
	log    *slog.Logger
	// next is the set to take over with the next event.
	next     atomic.Pointer[Set]
	disabled atomic.Pointer[map[string]bool]

	set     *Set
	values  *values
	running []*running
	byKind  map[event.Kind]*index
	// endings is the rules whose findings an event of a kind can end.
	endings map[event.Kind][]*running

	entries atomic.Int64
	most    atomic.Int64
	evicted atomic.Uint64
	failed  atomic.Uint64
}

// running is a rule in force, with its memory.
type running struct {
	*Rule
	*state
	// broken is true once it panicked.
	broken   bool
	failures uint64
}

// NewEngine makes an engine of a set.
func NewEngine(s *Set, limits Limits, log *slog.Logger) *Engine {
	e := &Engine{
		rule: event.Rule{
			ID: "rules", UUID: "4a4c3f9a-52a4-4c3a-9e0f-0f4b0ad0d2c1", Version: "1", Title: "A rule matched",
			Severity: event.SeverityInfo,
		},
		limits: limits, log: log,
	}
	for _, k := range event.Kinds() {
		if k.Kind != event.KindFinding && k.Kind != event.KindLoss {
			e.rule.Kinds = append(e.rule.Kinds, k.Kind)
		}
	}
	e.install(s)
	return e
}

// Rule implements collector.Detector. Findings carry the rule that made them.
func (e *Engine) Rule() *event.Rule { return &e.rule }

// Swap puts another set in force, from the next event on. Rules that are the same keep their memory. It may be
// called from any goroutine.
func (e *Engine) Swap(s *Set) { e.next.Store(s) }

// Disable switches off the rules with these ids, and all others on. It may be called from any goroutine.
func (e *Engine) Disable(ids []string) {
	off := map[string]bool{}
	for _, id := range ids {
		off[id] = true
	}
	e.disabled.Store(&off)
}

// Stats implements collector.Detector.
func (e *Engine) Stats() event.DetectorStats {
	return event.DetectorStats{Name: e.rule.ID, Entries: int(e.entries.Load()), Evicted: e.evicted.Load(), Most: int(e.most.Load())}
}

// Failures is how many evaluations ended in an error or cost too much. It may be called from any goroutine.
func (e *Engine) Failures() uint64 { return e.failed.Load() }

// Forget implements collector.Detector.
func (e *Engine) Forget(sandboxID string) {
	for _, r := range e.running {
		r.forget(sandboxID)
	}
	e.account()
}

// EndSession implements collector.Ender.
func (e *Engine) EndSession(sandboxID, session string) {
	for _, r := range e.running {
		r.endSession(sandboxID, session)
	}
	e.account()
}

// EndTree implements collector.Ender.
func (e *Engine) EndTree(sandboxID string, root event.ProcessID) {
	for _, r := range e.running {
		r.endTree(sandboxID, uint64(root))
	}
}

func (e *Engine) install(s *Set) {
	before := map[string]*running{}
	for _, r := range e.running {
		before[r.digest] = r
	}
	e.set, e.values, e.running, e.byKind = s, newValues(s.l), nil, map[event.Kind]*index{}
	e.endings = map[event.Kind][]*running{}
	for _, rule := range s.rules {
		r := &running{Rule: rule}
		if old := before[rule.digest]; old != nil {
			r.state = old.state
		} else {
			r.state = newState(e.limits)
		}
		e.running = append(e.running, r)
		if r.resolved != nil {
			for _, kind := range r.resolved.kinds {
				e.endings[kind] = append(e.endings[kind], r)
			}
		}
		// Later steps first: one event must not take two steps of a sequence.
		for i, st := range slices.Backward(r.stages) {
			for _, kind := range st.kinds {
				if e.byKind[kind] == nil {
					e.byKind[kind] = &index{}
				}
				e.byKind[kind].add(candidate{r, i})
			}
		}
	}
	e.account()
}

// account notes what is remembered, for Stats.
func (e *Engine) account() {
	var total event.DetectorStats
	for _, r := range e.running {
		r.findings.Count(&total)
		r.groups.Count(&total)
		r.open.Count(&total)
		total.Entries += len(r.pending)
		total.Evicted += r.forgone
		total.Most += mostPending
	}
	e.most.Store(int64(total.Most))
	e.entries.Store(int64(total.Entries))
	e.evicted.Store(total.Evicted)
}

// Detect implements collector.Detector.
func (e *Engine) Detect(ev *event.Event, report func(*event.Finding)) {
	if s := e.next.Swap(nil); s != nil {
		e.install(s)
	}
	candidates, ends := e.byKind[ev.Kind()], e.ends(ev)
	if candidates == nil && !ends {
		return
	}
	e.values.load(ev)
	defer e.values.release()
	if ends { // first: what an event finds it does not end
		for _, r := range e.endings[ev.Kind()] {
			e.ask(candidate{r, resolving}, ev, report)
		}
	}
	if candidates != nil {
		candidates.find(e.values, func(c candidate) { e.ask(c, ev, report) })
	}
}

// ends says whether an event may end something: most end nothing, and are not read for it.
func (e *Engine) ends(ev *event.Event) bool {
	for _, r := range e.endings[ev.Kind()] {
		if r.open.Len() > 0 && r.open.Get(sandboxOf(ev), groupKey(r.groups, r.scope, ev)) != nil {
			return true
		}
	}
	return false
}

// Tick implements collector.Ticker: it reports what was expected by now and did not come.
func (e *Engine) Tick(now time.Time, report func(cause *event.Event, f *event.Finding)) {
	for _, r := range e.running {
		for len(r.pending) > 0 && !r.pending[0].deadline.After(now) {
			w := r.pending[0]
			r.pending = r.pending[1:]
			if !w.done {
				f := w.finding
				report(&w.cause, &f)
			}
		}
	}
	e.account()
}

// ask shows the event to one stage of a rule. A rule that panics is switched off alone.
func (e *Engine) ask(c candidate, ev *event.Event, report func(*event.Finding)) {
	r := c.running
	if off := e.disabled.Load(); r.broken || off != nil && (*off)[r.rule.ID] {
		return
	}
	defer func() {
		if reason := recover(); reason != nil {
			r.broken = true
			e.log.Error("a rule failed and is off until the rules are loaded again", "rule", r.rule.ID, "reason", fmt.Sprint(reason))
		}
	}()
	switch {
	case c.stage == resolving:
		e.resolve(r, ev, report)
	case r.sequence:
		e.follow(c, ev, report)
	case r.absence:
		e.await(c, ev)
	case !e.holds(r, r.stages[0].when) || e.excepted(r):
	case r.threshold != nil:
		e.tally(r, ev, report)
	default:
		e.found(r, ev, nil, report)
	}
}

func (e *Engine) holds(r *running, x *expression) bool {
	holds, err := x.holds(e.values)
	e.note(r, err)
	return holds
}

// note counts and sometimes logs an evaluation that failed.
func (e *Engine) note(r *running, err error) {
	if err == nil {
		return
	}
	e.failed.Add(1)
	if r.failures++; r.failures%complaintEvery == 1 {
		e.log.Warn("a rule could not be evaluated", "rule", r.rule.ID, "failures", r.failures, "error", err)
	}
}

// key is the group that the event belongs to.
func (e *Engine) key(r *running, ev *event.Event) uint64 {
	key := groupKey(r.groups, r.scope, ev)
	if r.group == nil {
		return key
	}
	s, err := r.group.string(e.values)
	e.note(r, err)
	return r.groups.Key(key, s)
}

func (e *Engine) excepted(r *running) bool {
	for _, x := range r.exceptions {
		if e.holds(r, x) {
			return true
		}
	}
	return false
}

// follow takes an event for the first step of a sequence, or the next of one that has begun.
func (e *Engine) follow(c candidate, ev *event.Event, report func(*event.Finding)) {
	r := c.running
	if c.stage == 0 {
		if e.holds(r, r.stages[0].when) && !e.excepted(r) {
			p := partial{next: 1, began: ev.Time, evidence: []string{ev.UID()}}
			p.captured = e.capture(r, 0, nil)
			if r.make(r.Rule, e.key(r, ev), ev).begin(p) {
				r.forgone++
			}
		}
		return
	}
	g := r.known(e.key(r, ev), ev)
	if g == nil {
		return
	}
	g.expire(ev.Time, r.within.Duration)
	for i := 0; i < len(g.partials); i++ {
		p := &g.partials[i]
		if p.next != c.stage {
			continue
		}
		e.values.captured = p.captured
		if !e.holds(r, r.stages[c.stage].when) || e.excepted(r) {
			continue
		}
		p.evidence = append(p.evidence, ev.UID())
		p.captured = e.capture(r, c.stage, p.captured)
		if p.next++; p.next < len(r.stages) {
			continue
		}
		e.values.captured = p.captured
		evidence := p.evidence
		g.partials = slices.Delete(g.partials, i, i+1)
		i--
		e.found(r, ev, evidence, report)
	}
	e.values.captured = nil
}

// capture is what is captured so far and by this step.
func (e *Engine) capture(r *running, stage int, before map[string]string) map[string]string {
	if len(r.stages[stage].capture) == 0 {
		return before
	}
	all := maps.Clone(before)
	if all == nil {
		all = map[string]string{}
	}
	for name, x := range r.stages[stage].capture {
		s, err := x.string(e.values)
		e.note(r, err)
		all[name] = cut(s, longestText)
	}
	return all
}

// tally counts a match of a threshold.
func (e *Engine) tally(r *running, ev *event.Event, report func(*event.Finding)) {
	if x := r.threshold.sum; x != nil {
		value, err := x.int(e.values)
		if e.note(r, err); err != nil {
			return
		}
		if g := r.make(r.Rule, e.key(r, ev), ev); g.add(r.Rule, ev, value) {
			e.found(r, ev, slices.Clone(g.evidence), report)
		}
		return
	}
	var key uint64
	if x := r.threshold.distinct; x != nil {
		s, err := x.string(e.values)
		if e.note(r, err); err != nil {
			return
		}
		key = r.groups.Key(1, s)
	}
	g := r.make(r.Rule, e.key(r, ev), ev)
	if g.count(r.Rule, ev, key) {
		e.found(r, ev, slices.Clone(g.evidence), report)
	}
}

// await notes that an event is expected, or that it came.
func (e *Engine) await(c candidate, ev *event.Event) {
	r := c.running
	if c.stage == 1 {
		g := r.known(e.key(r, ev), ev)
		if g == nil || len(g.waits) == 0 || !e.holds(r, r.stages[1].when) {
			return
		}
		for _, w := range g.waits {
			w.done = true
		}
		g.waits = g.waits[:0]
		return
	}
	if !e.holds(r, r.stages[0].when) || e.excepted(r) {
		return
	}
	f := e.finding(r, ev, []string{ev.UID()})
	if f == nil {
		return
	}
	g := r.make(r.Rule, e.key(r, ev), ev)
	g.waits = slices.DeleteFunc(g.waits, func(w *wait) bool { return w.deadline.Before(ev.Time) })
	if len(r.pending) >= mostPending || len(g.waits) >= mostPartials {
		r.forgone++
		return
	}
	w := &wait{deadline: ev.Time.Add(r.within.Duration), finding: *f, cause: *ev}
	w.cause.Payload = nil
	g.waits = append(g.waits, w)
	r.pending = append(r.pending, w)
}

// found reports a match, unless it is one of many of the same.
func (e *Engine) found(r *running, ev *event.Event, evidence []string, report func(*event.Finding)) {
	if len(evidence) == 0 {
		evidence = []string{ev.UID()}
	}
	if f := e.finding(r, ev, evidence); f != nil {
		report(f)
	}
	e.account()
}

// finding makes what is reported; nil when the same was reported lately.
func (e *Engine) finding(r *running, ev *event.Event, evidence []string) *event.Finding {
	title := r.message.render(e.values)
	same := title
	if r.dedup != nil {
		s, err := r.dedup.string(e.values)
		if e.note(r, err); err == nil {
			same = s
		}
	}
	sandbox := sandboxOf(ev)
	key := r.findings.Key(e.key(r, ev), same)
	seen := r.findings.Get(sandbox, key)
	if seen == nil {
		seen = r.findings.Put(sandbox, key, detectors.Repeats{})
	}
	own(r.findings, r.Rule, ev, key)
	if !seen.Seen(&r.rule, ev) {
		return nil
	}
	f := &event.Finding{Rule: &r.rule, Title: title, Evidence: evidence[:min(len(evidence), mostEvidence)]}
	seen.Fill(f)
	e.opened(r, ev, open{key: key, id: f.ID, title: cut(title, longestText), count: f.Count})
	for _, slot := range r.objects {
		if value, present := e.values.get(slot); present {
			f.Objects = append(f.Objects, cut(value.Text(), longestText))
		}
	}
	f.Explanation = title + ". " + detectors.Describe(ev.Process, f.Count)
	return f
}

// opened remembers a finding that something can end.
func (e *Engine) opened(r *running, ev *event.Event, o open) {
	if r.resolved == nil {
		return
	}
	scope, sandbox := groupKey(r.groups, r.scope, ev), sandboxOf(ev)
	list := r.open.Get(sandbox, scope)
	if list == nil {
		list = r.open.Put(sandbox, scope, nil)
	}
	own(r.open, r.Rule, ev, scope)
	if i := slices.IndexFunc(*list, func(old open) bool { return old.key == o.key }); i >= 0 {
		(*list)[i] = o
		return
	}
	if len(*list) >= mostOpen {
		*list = slices.Delete(*list, 0, 1)
		r.forgone++
	}
	*list = append(*list, o)
}

// resolve ends what was found in the scope of an event. The same is a new finding after that.
func (e *Engine) resolve(r *running, ev *event.Event, report func(*event.Finding)) {
	scope, sandbox := groupKey(r.groups, r.scope, ev), sandboxOf(ev)
	list := r.open.Get(sandbox, scope)
	if list == nil || !e.holds(r, r.resolved.when) {
		return
	}
	ended := *list
	r.open.Drop(sandbox, scope)
	for _, o := range ended {
		r.findings.Drop(sandbox, o.key)
		report(&event.Finding{
			ID: o.id, Rule: &r.rule, State: event.FindingResolved, Count: o.count, Title: o.title,
			Explanation: "It is over: " + o.title + ". " + detectors.Describe(ev.Process, o.count),
			Evidence:    []string{ev.UID()},
		})
	}
	e.account()
}
