// SPDX-License-Identifier: Apache-2.0

package detectors

import "github.com/watchglass/watchglass/event"

// Repeats is the memory of one finding, for rules, which report as the built-in detectors do: at first, at
// each doubling, and again after a while. The zero value has seen nothing.
type Repeats struct{ repeats }

// Seen counts one more of the same and says whether that deserves a report.
func (r *Repeats) Seen(rule *event.Rule, e *event.Event) bool { return r.seen(rule, e) }

// Fill puts the finding's identity, count and state into f.
func (r *Repeats) Fill(f *event.Finding) { f.ID, f.Count, f.State = r.id, r.count, r.state() }

// Describe is the sentences that say which process it was, for which agent, session and tool call, and how
// often the same was seen. p may be nil.
func Describe(p *event.Process, count int) string {
	return new(explanation).who(p).repeated(count).String()
}

// Program is the name by which people know the process's program. p may be nil.
func Program(p *event.Process) string { return program(p) }
