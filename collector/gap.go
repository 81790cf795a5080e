// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/watchglass/watchglass/event"
)

const (
	// beatInterval is how often the collector's heart beats, beatsMissed how many beats in a row make a gap. A machine
	// that is merely busy misses none: a goroutine that does nothing else waits for milliseconds there.
	beatInterval = 4 * time.Second
	beatsMissed  = 2
)

// beat is one beat of the heart: when it was, and for how long each thread of the collector's had waited for a processor
// by then.
type beat struct {
	at     time.Time
	waited map[string]time.Duration
}

func beatNow() beat { return beat{time.Now(), threadsWaited()} }

// beatUntil beats after a first beat until ctx ends, and publishes a gap where beats were missed.
func (p *Pipeline) beatUntil(ctx context.Context, last beat) {
	ticker := time.NewTicker(beatInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C: // which holds one beat, so that the time it was meant for says nothing
			now := beatNow()
			p.beaten(last, now)
			last = now
		case <-ctx.Done():
			return
		}
	}
}

// beaten takes two beats that follow each other. The times have monotonic readings: setting the clock makes no gap, nor
// does a machine that sleeps.
func (p *Pipeline) beaten(last, now beat) {
	passed := now.at.Sub(last.at)
	if passed < (beatsMissed+1)*beatInterval {
		return
	}
	gap := &event.Gap{Duration: passed, Expected: beatInterval}
	for thread, waited := range now.waited {
		gap.Waited = max(gap.Waited, waited-last.waited[thread])
	}
	gap.Waited = min(gap.Waited, passed)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.publish(&event.Event{Time: now.at, Payload: gap})
}

// threadsWaited is for how long each thread of this process has waited for a processor, as far as the kernel tells: the
// second number of its schedstat, in nanoseconds.
func threadsWaited() map[string]time.Duration {
	files, err := filepath.Glob("/proc/self/task/*/schedstat")
	if err != nil {
		return nil
	}
	all := make(map[string]time.Duration, len(files))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		if numbers := strings.Fields(string(text)); len(numbers) > 1 {
			if n, err := strconv.ParseInt(numbers[1], 10, 64); err == nil {
				all[file] = time.Duration(n)
			}
		}
	}
	return all
}
