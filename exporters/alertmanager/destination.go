// SPDX-License-Identifier: Apache-2.0

package alertmanager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// DestinationName is the destination's name in cursors, metrics and losses.
const DestinationName = "alertmanager"

// Destination is an exporter that is fed from the journal. It implements collector.Destination: what it has not said
// to be told comes again after a restart, whatever ended the process.
type Destination struct {
	*Exporter
	decode exporters.Decoder
}

// OpenDestination is Open for findings that come from the journal.
func OpenDestination(cfg Config, s Settings, decode exporters.Decoder) (*Destination, error) {
	e, err := Open(cfg, s)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.durable = true
	e.mu.Unlock()
	return &Destination{Exporter: e, decode: decode}, nil
}

// Name implements collector.Destination.
func (*Destination) Name() string { return DestinationName }

// Wants says whether an event may be for it.
func (d *Destination) Wants() func(*event.Encoded) bool { return exporters.Findings(d.min) }

// Least is the least severity of what is for it.
func (d *Destination) Least() event.Severity { return d.min }

// BatchSize is the most findings of one Send: no more than there is room for, beside what an Alertmanager knows.
func (d *Destination) BatchSize() int { return min(batchSize, d.cfg.MaxAlerts) }

// ActiveFor is for how long an alert stays active after its finding was last seen: what Recall is for.
func (d *Destination) ActiveFor() time.Duration { return d.cfg.ActiveFor }

// Recall takes up a finding that may have been told by a start before this one. While it is active it is told on, and
// its end is told: without that an Alertmanager would let it expire early. Findings are recalled in the order in which
// they were made, before the first Send; what was not told then comes by Send besides.
func (d *Destination) Recall(e *event.Encoded) error {
	ev, f, err := d.finding(e)
	if err != nil || !d.Accepts(ev) || f.Canary() {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	at := d.at(ev)
	if a := d.note(ev, f, at); a != nil {
		a.recalled, a.told = true, at
	}
	return nil
}

// at is when a finding was made, by a clock that may have been set back since.
func (d *Destination) at(ev *event.Event) time.Time {
	if now := d.now(); ev.Time.After(now) {
		return now
	}
	return ev.Time
}

func (d *Destination) finding(e *event.Encoded) (*event.Event, *event.Finding, error) {
	recorded, err := d.decode(e)
	if err != nil {
		return nil, nil, fmt.Errorf("read a finding back: %w", err)
	}
	ev, ok := recorded.Finding()
	if !ok {
		return nil, nil, errors.New("it is no finding")
	}
	f, _ := ev.Payload.(*event.Finding)
	return ev, f, nil
}

// errNoRoom is why an alert is not told whose place was needed.
var errNoRoom = errors.New("more alerts than max_alerts were active")

// awaited is a finding of a batch of which an Alertmanager has to know.
type awaited struct {
	index   int
	key     string
	alert   *alert
	version uint64
}

// Send implements collector.Destination: it returns when an Alertmanager knows of each finding, or all that answer
// refuse it. The others are told as they come back.
func (d *Destination) Send(ctx context.Context, batch []event.Encoded) ([]event.Rejection, error) {
	var rejected []event.Rejection
	var waiting []awaited
	for i := range batch {
		ev, f, err := d.finding(&batch[i])
		if err != nil {
			rejected = append(rejected, event.Rejection{Index: i, Reason: err.Error()})
			continue
		}
		if !d.Accepts(ev) {
			continue
		}
		d.mu.Lock()
		if a := d.note(ev, f, d.at(ev)); a != nil {
			if f.State != event.FindingResolved && !d.known(a) {
				a.told = time.Time{} // whatever was recalled: this finding is not told yet, and must be before its time runs
			}
			waiting = append(waiting, awaited{i, f.ID, a, a.version})
		}
		d.mu.Unlock()
	}
	d.wake()
	for {
		d.mu.Lock()
		waiting = slices.DeleteFunc(waiting, func(w awaited) bool {
			refusal, over := d.settled(w)
			if refusal != nil {
				rejected = append(rejected, event.Rejection{Index: w.index, Reason: refusal.Error()})
			}
			return over
		})
		progress := d.progress
		d.mu.Unlock()
		if len(waiting) == 0 {
			return rejected, nil
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return nil, fmt.Errorf("%d findings are told to no Alertmanager: %w", len(waiting), ctx.Err())
		}
	}
}

// known says whether a receiver knows of an alert by this process. The caller holds mu.
func (d *Destination) known(a *alert) bool {
	return slices.ContainsFunc(d.receivers, func(r *receiver) bool {
		k, ok := r.known[a]
		return ok && k.refusal == nil
	})
}

// settled says whether a finding needs not be waited for any more, and if it is because nobody takes it, why. The
// caller holds mu.
func (d *Destination) settled(w awaited) (refusal error, over bool) {
	switch {
	case w.alert.evicted:
		d.lost++
		return errNoRoom, true
	case d.alerts[w.key] != w.alert:
		return nil, true // a later finding of the batch took its place, or it is over and forgotten
	}
	open := false
	for _, r := range d.receivers {
		switch k, ok := r.known[w.alert]; {
		case ok && k.version >= w.version && k.refusal == nil:
			return nil, true
		case ok && k.version >= w.version:
			refusal = k.refusal
		default:
			open = open || !r.failing
		}
	}
	if refusal == nil || open {
		return nil, false
	}
	if w.alert.told.IsZero() {
		w.alert.told = d.now() // nobody is waited for: its time runs
	}
	d.lost++
	return refusal, true
}

// Shutdown implements collector.Destination. What nobody was told is in the journal still.
func (d *Destination) Shutdown(context.Context) error {
	d.abandon()
	close(d.stopping)
	d.running.Wait()
	return nil
}
