// SPDX-License-Identifier: Apache-2.0

package bpf

import "time"

const (
	// pollInterval is how long a record that nobody was woken for waits at most.
	pollInterval = 20 * time.Millisecond
	// idleInterval is how often Run looks after what else there is to do while there are no records.
	idleInterval = 250 * time.Millisecond
)

// pauses is how long Run waits between its looks at the ring. While there are records it looks every few milliseconds, since waking
// it would cost those who make them more than all the rest. Where it found none it asks the kernel side to be woken by the first one,
// and where there was none after that either it sleeps. Not at once: while it asks, a record may be on its way whose writer has not seen
// that yet. It is in the ring when the short pause is over.
type pauses struct {
	// ask has the kernel side wake the reader for the next record, once.
	ask func() error
	// idle is for how long it sleeps.
	idle  time.Duration
	asked bool
}

// newPauses is of a reader that sleeps so long, and less where it has to have long connections told, at an interval.
func newPauses(idle, flows time.Duration, ask func() error) pauses {
	if flows != 0 {
		idle = max(min(idle, flows/flowSweeps), pollInterval)
	}
	return pauses{ask: ask, idle: idle}
}

// next is how long to wait after a look that found so many records.
func (p *pauses) next(found int) (time.Duration, error) {
	if found > 0 {
		p.asked = false
		return pollInterval, nil
	}
	// Each time: what took the last one back may have been no record, but one that found no room.
	if err := p.ask(); err != nil {
		return 0, err
	}
	if !p.asked {
		p.asked = true
		return pollInterval, nil
	}
	return p.idle, nil
}
