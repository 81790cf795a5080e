// SPDX-License-Identifier: Apache-2.0

package detectors

import "github.com/watchglass/watchglass/event"

// memories is what a detector remembers of one kind of thing, by sandbox: a memory.Memory of any.
type memories interface {
	Forget(sandboxID string)
	Count(stats *event.DetectorStats)
}

// remembering is what the detectors have in common: the rule that says what one is, and what it remembers, all of
// which goes with its sandbox and counts in its statistics.
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

// Stats implements Detector.
func (r *remembering) Stats() event.DetectorStats {
	stats := event.DetectorStats{Name: r.rule.ID}
	for _, m := range r.memories {
		m.Count(&stats)
	}
	return stats
}
