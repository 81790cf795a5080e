// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"cmp"

	"github.com/watchglass/watchglass/detectors/internal/memory"
	"github.com/watchglass/watchglass/event"
)

// memories is what a detector remembers of one kind of thing, by sandbox: a memory.Memory of any.
type memories interface {
	Forget(sandboxID string)
	EndSession(sandboxID, session string)
	EndTree(sandboxID string, root uint64)
	Count(stats *event.DetectorStats)
}

// remembering is what the detectors have in common: the rule that says what one is, and what it remembers, all of
// which goes with its sandbox and counts in its statistics. What is given to a session or a process tree goes with that.
type remembering struct {
	rule     event.Rule
	memories []memories
}

// Rule implements Detector.
func (r *remembering) Rule() *event.Rule { return &r.rule }

// Forget implements Detector.
func (r *remembering) Forget(sandboxID string) {
	for _, m := range r.memories {
		m.Forget(sandboxID)
	}
}

// EndSession implements Detector.
func (r *remembering) EndSession(sandboxID, session string) {
	for _, m := range r.memories {
		m.EndSession(sandboxID, session)
	}
}

// EndTree implements Detector.
func (r *remembering) EndTree(sandboxID string, root event.ProcessID) {
	for _, m := range r.memories {
		m.EndTree(sandboxID, uint64(root))
	}
}

// Stats implements Detector.
func (r *remembering) Stats() event.DetectorStats {
	stats := event.DetectorStats{Name: r.rule.ID}
	for _, m := range r.memories {
		m.Count(&stats)
	}
	return stats
}

// recall is what is remembered of a finding, made where there is nothing yet. It is the event's session's from now on:
// of a finding that is the same for a whole sandbox, the last session's that made it. What no session is known of is
// the sandbox's.
func recall(m *memory.Memory[repeats], e *event.Event, key uint64) *repeats {
	seen := m.Get(e.Sandbox.ID, key)
	if seen == nil {
		seen = m.Put(e.Sandbox.ID, key, repeats{})
	}
	give(m, e, key)
	return seen
}

// give gives an entry to the session of an event, with which it goes.
func give[V any](m *memory.Memory[V], e *event.Event, key uint64) {
	m.Own(e.Sandbox.ID, key, m.Session(sessionOf(e)))
}

// sessionOf is the session that an event is of, "" for none that is known: of claims, the one that they are about.
func sessionOf(e *event.Event) string {
	if said, ok := e.Payload.(event.Said); ok {
		c := said.Said()
		if session := cmp.Or(c.Session, c.Conversation); session != "" {
			return session
		}
	}
	session, _ := turn(e.Process)
	return session
}
