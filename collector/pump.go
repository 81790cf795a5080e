// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/watchglass/watchglass/collector/journal"
	"github.com/watchglass/watchglass/event"
)

// Pauses after a Send that could not say what became of its batch.
const (
	pumpPause     = time.Second
	longPumpPause = 30 * time.Second
)

// Pump moves a destination's cursor through the journal: New, then Run, once. Stats may be called at any time.
type Pump struct {
	settings DestinationSettings
	journal  *journal.Journal
	cursor   *journal.Cursor
	log      *slog.Logger
	batch    []event.Encoded

	deliveries
	// lost is the rejected events but for reports of losses: they must not feed on themselves.
	lost     atomic.Uint64
	complain time.Time
	// sings says whether the destination wants canaries; canary is the time of the latest finding that it has.
	sings  bool
	canary atomic.Int64
}

// NewPump opens the destination's cursor, which the caller's journal closes.
func NewPump(j *journal.Journal, s DestinationSettings, log *slog.Logger) (*Pump, error) {
	s.setDefaults()
	cursor, err := j.OpenCursor(journal.CursorSettings{
		Name: s.Destination.Name(), Wants: s.Wants, Least: s.Least, Oldest: s.Oldest, Spans: s.Spans,
	})
	if err != nil {
		return nil, fmt.Errorf("destination %s: %w", s.Destination.Name(), err)
	}
	return &Pump{settings: s, journal: j, cursor: cursor, log: log, sings: wantsCanary(&s)}, nil
}

// Run delivers what the journal has and gets until ctx ends, then shuts the destination down. What is not
// delivered then waits in the journal for the next start. An error means that the journal cannot be read.
func (p *Pump) Run(ctx context.Context) error {
	err := p.deliver(ctx)
	// The destination has nothing to deliver any more, but something to release.
	if shutdown := p.settings.Destination.Shutdown(context.WithoutCancel(ctx)); shutdown != nil {
		err = errors.Join(err, fmt.Errorf("shut destination %s down: %w", p.Name(), shutdown))
	}
	return err
}

// Name is the destination's name.
func (p *Pump) Name() string { return p.settings.Destination.Name() }

func (p *Pump) deliver(ctx context.Context) error {
	limits := journal.Limits{Events: p.settings.BatchSize, Bytes: p.settings.BatchBytes}
	for {
		var err error
		p.batch, err = p.cursor.Next(ctx, limits)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end, not an error
		}
		if err != nil {
			return fmt.Errorf("destination %s: %w", p.Name(), err)
		}
		if !p.send(ctx) {
			return nil
		}
		if err := p.cursor.Commit(); err != nil {
			p.trouble("the destination's cursor cannot be written: after a restart events are sent again", err)
		}
		// Not by the number of events: a batch that has no room for more bytes is as full.
		if !p.cursor.More() {
			wait(ctx, p.settings.FlushInterval)
		}
	}
}

// send delivers the batch, as often as it takes. False means that ctx ended before.
func (p *Pump) send(ctx context.Context) bool {
	for pause := pumpPause; ; pause = min(2*pause, longPumpPause) {
		rejected, err := p.attempt(ctx)
		if err == nil {
			p.delivered.Add(uint64(len(p.batch) - p.reject(rejected)))
			p.noteCanary()
			if p.settings.Delivered != nil {
				p.settings.Delivered(p.Name(), p.batch)
			}
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		p.trouble("events cannot be delivered", err)
		wait(ctx, pause)
		if ctx.Err() != nil {
			return false
		}
	}
}

// skimInterval is how often a destination that takes nothing lets pass what is not for it.
const skimInterval = time.Second

// attempt is one Send. While it waits for the destination, what is not for it does not wait.
func (p *Pump) attempt(ctx context.Context) ([]Rejection, error) {
	if p.settings.Wants == nil {
		return p.settings.Destination.Send(ctx, p.batch) //nolint:wrapcheck // the pump's own words are added later
	}
	var rejected []Rejection
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		rejected, err = p.settings.Destination.Send(ctx, p.batch)
	}()
	ticker := time.NewTicker(skimInterval)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return rejected, err
		case <-ticker.C:
			if err := p.cursor.Skim(); err != nil {
				p.trouble("the journal cannot be read on for the destination", err)
			}
		}
	}
}

// reject puts what the destination will never take into quarantine, and returns how many events that were.
func (p *Pump) reject(rejected []Rejection) int {
	n := 0
	for _, r := range rejected {
		if r.Index < 0 || r.Index >= len(p.batch) {
			continue
		}
		e := &p.batch[r.Index]
		n++
		if e.Kind != event.KindLoss {
			p.lost.Add(1)
		}
		if err := p.journal.Quarantine(p.Name(), r.Reason, e); err != nil {
			p.trouble("a rejected event cannot be kept", err)
		}
	}
	if len(rejected) > 0 {
		p.trouble("the destination rejected events; they are in the journal's quarantine", errors.New(rejected[0].Reason))
	}
	p.rejected.Add(uint64(n))
	return n
}

// trouble logs what goes wrong, but not more often than people want to read of it.
func (p *Pump) trouble(what string, err error) {
	if now := time.Now(); now.Sub(p.complain) >= complaintInterval {
		p.complain = now
		p.log.Error("trouble with a destination", "destination", p.Name(), "what", what,
			"rejected_in_total", p.rejected.Load(), "error", err)
	}
}

// Stats is the account of what was delivered.
func (p *Pump) Stats() event.DestinationStats {
	return event.DestinationStats{
		Name: p.Name(), Delivered: p.delivered.Load(), Rejected: p.rejected.Load(), Filtered: p.cursor.Passed(),
	}
}

// Losses is what the destination rejected, for the pipeline to report.
func (p *Pump) Losses() []event.LossCounter {
	return []event.LossCounter{{Stage: event.LossExport, Lost: p.Name(), Reason: "rejected", Count: p.lost.Load()}}
}

func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
