// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"time"

	"github.com/watchglass/watchglass/event"
)

// How many events a sandbox has in the priority lane: so many at once, so many a second. What it makes
// beyond that goes among the other events. Approvals are what sandboxes claim, and findings what they
// provoke: without a bound one sandbox could push another's findings out of the lane that is to protect them.
const (
	allowanceBurst = 1000
	allowanceRate  = 50
	// allowanceSandboxes is how many are remembered; beyond that all begin anew.
	allowanceSandboxes = 4096
)

type allowance map[string]*bucket

type bucket struct {
	left float64
	last time.Time
}

// place says whose allowance an event uses: its sandbox's. What is of none is claims whose sender is not known, and
// findings of the collector itself, among them the canary, which have one of their own.
func place(e *event.Encoded) string {
	if e.Sandbox == "" && e.Kind == event.KindFinding {
		return "\x00finding"
	}
	return e.Sandbox
}

// take says whether there is one left in that place.
func (a *allowance) take(sandbox string, now time.Time) bool {
	b := (*a)[sandbox]
	if b == nil {
		if *a == nil || len(*a) >= allowanceSandboxes {
			*a = allowance{}
		}
		b = &bucket{left: allowanceBurst, last: now}
		(*a)[sandbox] = b
	}
	b.left = min(allowanceBurst, b.left+max(0, now.Sub(b.last).Seconds())*allowanceRate)
	b.last = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
