// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"
	"time"

	"github.com/watchglass/watchglass/detectors"
	"github.com/watchglass/watchglass/detectors/internal/memory"
	"github.com/watchglass/watchglass/event"
)

// The bounds of one group's memory.
const (
	// mostPartials is how many beginnings of a sequence are followed at once.
	mostPartials = 16
	// mostPending is how many expected events one rule waits for, over all groups.
	mostPending = 1024
	// mostOpen is how many findings of one scope are waited for to end; the oldest is forgotten first.
	mostOpen = 16
	// mostEvidence is how many events a finding names.
	mostEvidence = 16
)

// state is what one rule remembers.
type state struct {
	findings *memory.Memory[detectors.Repeats]
	groups   *memory.Memory[group]
	// open is what was found by scope, of rules that know what ends it.
	open *memory.Memory[[]open]
	// pending is what an absence waits for, the earliest first.
	pending []*wait
	forgone uint64
}

// group is what is remembered of one session, call, process or sandbox.
type group struct {
	partials []partial
	// times is when the latest matches of a threshold were, in nanoseconds; keys the hash of each when they must differ.
	times []int64
	keys  []uint64
	// since is the uid of the first match in the window.
	evidence []string
	waits    []*wait
}

// open is a finding that is not over. key is its place among the findings.
type open struct {
	key       uint64
	id, title string
	count     int
}

// partial is a sequence that has begun.
type partial struct {
	// next is the step that it waits for.
	next     int
	began    time.Time
	evidence []string
	captured map[string]string
}

// wait is an expected event that has not come.
type wait struct {
	deadline time.Time
	done     bool
	// cause is the event after which it is expected, without its payload.
	cause   event.Event
	finding event.Finding
}

func newState(limits Limits) *state {
	return &state{
		findings: memory.New[detectors.Repeats](limits.MaxSandboxes, limits.MaxEntries),
		groups:   memory.New[group](limits.MaxSandboxes, limits.MaxEntries),
		open:     memory.New[[]open](limits.MaxSandboxes, limits.MaxEntries),
	}
}

func (s *state) forget(sandbox string) {
	s.findings.Forget(sandbox)
	s.groups.Forget(sandbox)
	s.open.Forget(sandbox)
	s.pending = slices.DeleteFunc(s.pending, func(w *wait) bool { return w.cause.Sandbox != nil && w.cause.Sandbox.ID == sandbox })
}

// make is the memory of an event's group, made when there is none.
func (s *state) make(r *Rule, key uint64, e *event.Event) *group {
	sandbox := sandboxOf(e)
	g := s.groups.Get(sandbox, key)
	if g == nil {
		g = s.groups.Put(sandbox, key, group{})
	}
	own(s.groups, r, e, key)
	return g
}

// own gives an entry to what it goes with: where the scope is a process or a tree, to the tree, else to the session that
// used it last. What neither is known of is the sandbox's.
func own[V any](m *memory.Memory[V], r *Rule, e *event.Event, key uint64) {
	if p := e.Process; p != nil && (r.scope == scopeProcess || r.scope == scopeTree) {
		m.Own(sandboxOf(e), key, m.Tree(uint64(p.RootUID)))
		return
	}
	session, _ := sessionOf(e)
	m.Own(sandboxOf(e), key, m.Session(session))
}

// endSession drops what is remembered of a session.
func (s *state) endSession(sandbox, session string) {
	s.groups.EndSession(sandbox, session)
	s.findings.EndSession(sandbox, session)
	s.open.EndSession(sandbox, session)
}

// endTree drops what is remembered of a process tree.
func (s *state) endTree(sandbox string, root uint64) {
	s.groups.EndTree(sandbox, root)
	s.findings.EndTree(sandbox, root)
	s.open.EndTree(sandbox, root)
}

// known is the memory of an event's group, nil when there is none.
func (s *state) known(key uint64, e *event.Event) *group { return s.groups.Get(sandboxOf(e), key) }

func sandboxOf(e *event.Event) string {
	if e.Sandbox == nil {
		return ""
	}
	return e.Sandbox.ID
}

// groupKey is what the scope groups by. Without a session everything of the sandbox is one group: better
// one too large than a session of processes nobody knows.
func groupKey[V any](m *memory.Memory[V], s scope, e *event.Event) uint64 {
	session, call := sessionOf(e)
	switch p := e.Process; {
	case s == scopeSandbox:
		return m.Key(0)
	case s == scopeProcess && p != nil:
		return m.Key(uint64(p.UID), "process")
	case s == scopeTree && p != nil:
		return m.Key(uint64(p.RootUID), "tree")
	case s == scopeCall:
		return m.Key(0, session, call)
	}
	return m.Key(0, session)
}

func sessionOf(e *event.Event) (session, call string) {
	if said, ok := e.Payload.(event.Said); ok {
		c := said.Said()
		if t, ok := e.Payload.(*event.ToolCall); ok {
			call = t.ID
		}
		if session = c.Session; session == "" {
			session = c.Conversation
		}
		return session, call
	}
	if e.Process == nil || e.Process.Agent == nil {
		return "", ""
	}
	a := e.Process.Agent
	if session = a.SessionID; session == "" {
		session = a.ConversationID
	}
	return session, a.CallID
}

// begin notes the first step of a sequence. The oldest beginning makes room.
func (g *group) begin(p partial) (evicted bool) {
	if evicted = len(g.partials) >= mostPartials; evicted {
		g.partials = slices.Delete(g.partials, 0, 1)
	}
	g.partials = append(g.partials, p)
	return evicted
}

// expire forgets sequences that took too long.
func (g *group) expire(now time.Time, within time.Duration) {
	g.partials = slices.DeleteFunc(g.partials, func(p partial) bool { return now.Sub(p.began) > within })
}

// count notes a match and says whether it makes the count full, and then starts anew. key tells what must
// differ; 0 counts everything.
func (g *group) count(r *Rule, e *event.Event, key uint64) bool {
	now, oldest := e.Time.UnixNano(), e.Time.Add(-r.within.Duration).UnixNano()
	kept := 0
	for i, t := range g.times {
		same := key != 0 && g.keys[i] == key
		if t < oldest || same {
			continue
		}
		g.times[kept], g.keys[kept] = t, g.keys[i]
		kept++
	}
	if kept == 0 {
		g.evidence = g.evidence[:0]
	}
	g.times, g.keys = append(g.times[:kept], now), append(g.keys[:kept], key)
	if len(g.evidence) < mostEvidence {
		g.evidence = append(g.evidence, e.UID())
	}
	if len(g.times) < r.threshold.count {
		return false
	}
	g.times, g.keys = g.times[:0], g.keys[:0]
	return true
}

// add notes how much a match is and says whether that makes the sum full, and then starts anew. Values that are not
// positive add nothing. Where too many matches wait, the two oldest become one.
func (g *group) add(r *Rule, e *event.Event, value int64) bool {
	now, oldest := e.Time.UnixNano(), e.Time.Add(-r.within.Duration).UnixNano()
	kept, total := 0, int64(0)
	for i, t := range g.times {
		if t < oldest {
			continue
		}
		g.times[kept], g.keys[kept] = t, g.keys[i]
		total += int64(g.keys[i]) //nolint:gosec // it was one
		kept++
	}
	g.times, g.keys = g.times[:kept], g.keys[:kept]
	if kept == 0 {
		g.evidence = g.evidence[:0]
	}
	if value <= 0 {
		return false
	}
	value = min(value, r.threshold.total)
	if kept >= maxCount {
		g.keys[1] += g.keys[0]
		g.times, g.keys = slices.Delete(g.times, 0, 1), slices.Delete(g.keys, 0, 1)
	}
	g.times, g.keys = append(g.times, now), append(g.keys, uint64(value))
	if len(g.evidence) < mostEvidence {
		g.evidence = append(g.evidence, e.UID())
	}
	if total+value < r.threshold.total {
		return false
	}
	g.times, g.keys = g.times[:0], g.keys[:0]
	return true
}
