// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"time"

	"github.com/watchglass/watchglass/event"
)

const (
	// beatInterval is how often the collector's heart beats, beatsMissed how many beats in a row make a gap. A machine
	// that is merely busy misses none: a goroutine that does nothing else waits for milliseconds there.
	beatInterval = 4 * time.Second
	beatsMissed  = 2
)

// beatUntil beats until ctx ends, and publishes a gap where beats were missed.
func (p *Pipeline) beatUntil(ctx context.Context) {
	ticker := time.NewTicker(beatInterval)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-ticker.C: // which holds one beat, so that the time it was meant for says nothing
			now := time.Now()
			p.beat(last, now)
			last = now
		case <-ctx.Done():
			return
		}
	}
}

// beat takes two beats that follow each other. The times have monotonic readings: setting the clock makes no gap, nor
// does a machine that sleeps.
func (p *Pipeline) beat(last, now time.Time) {
	passed := now.Sub(last)
	if passed < (beatsMissed+1)*beatInterval {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.publish(&event.Event{Time: now, Payload: &event.Gap{Duration: passed, Expected: beatInterval}})
}
