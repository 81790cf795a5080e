// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
	"github.com/watchglass/watchglass/exporters/internal/web"
)

// sendSize is the most findings of one Send: what comes again when the collector is killed in the middle of it.
const sendSize = 4

// complaintInterval is how often the failures of one webhook are logged.
const complaintInterval = 30 * time.Second

// Destination is an exporter that is fed from the journal. It implements collector.Destination: what the receiver has
// not taken comes again after a restart, whatever ended the process, and is not given up meanwhile.
type Destination struct {
	*Exporter
	decode     exporters.Decoder
	complained time.Time
}

// OpenDestination is Open for findings that come from the journal.
func OpenDestination(cfg Config, s Settings, decode exporters.Decoder) (*Destination, error) {
	e, err := Open(cfg, s)
	if err != nil {
		return nil, err
	}
	return &Destination{Exporter: e, decode: decode}, nil
}

// DestinationName is the name of the webhook of that name in cursors, metrics and losses.
func DestinationName(webhook string) string { return "webhook." + webhook }

// Name implements collector.Destination.
func (d *Destination) Name() string { return DestinationName(d.cfg.Name) }

// Wants says whether an event may be for it.
func (d *Destination) Wants() func(*event.Encoded) bool { return exporters.Findings(d.min) }

// Least is the least severity of what is for it.
func (d *Destination) Least() event.Severity { return d.min }

// BatchSize is the most findings of one Send.
func (*Destination) BatchSize() int { return sendSize }

// Send implements collector.Destination: it posts one finding after the other, each until it is taken or refused.
func (d *Destination) Send(ctx context.Context, batch []event.Encoded) ([]event.Rejection, error) {
	var rejected []event.Rejection
	for i := range batch {
		d.pending(len(batch) - i)
		refusal, err := d.send(ctx, &batch[i])
		if err != nil {
			return nil, fmt.Errorf("tell webhook %s of findings: %w", d.cfg.Name, err)
		}
		if refusal != "" {
			d.mu.Lock()
			d.stats.Lost++
			d.mu.Unlock()
			rejected = append(rejected, event.Rejection{Index: i, Reason: refusal})
		}
	}
	d.pending(0)
	return rejected, nil
}

func (d *Destination) pending(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stats.Pending = n
}

// send posts a finding until it is taken, or says why it never will be. Its error says that ctx ended before.
func (d *Destination) send(ctx context.Context, e *event.Encoded) (string, error) {
	recorded, err := d.decode(e)
	if err != nil {
		return err.Error(), nil //nolint:nilerr // it is an answer about the finding
	}
	ev, ok := recorded.Finding()
	if !ok {
		return "it is no finding", nil
	}
	f, _ := ev.Payload.(*event.Finding)
	if !d.Accepts(ev) || d.stale(ev, f) || !d.admit(f) {
		return "", nil
	}
	if d.settings.RuleTitle != nil {
		f.Rule.Title = d.settings.RuleTitle(f.Rule.ID)
	}
	document := d.document(ev, f)
	body, err := render(d.template, d.cfg, document)
	if err != nil {
		return err.Error(), nil //nolint:nilerr // no attempt would make another document
	}
	return d.persist(ctx, document, body)
}

// stale says whether a finding is a canary whose time is over: it would prove nothing any more, and who was away for
// a day is not to find hundreds.
func (d *Destination) stale(ev *event.Event, f *event.Finding) bool {
	const least = time.Minute
	return f.Canary() && d.now().Sub(ev.Time) > max(2*d.settings.CanaryInterval, least)
}

func (d *Destination) persist(ctx context.Context, document *Finding, body []byte) (string, error) {
	pause := d.cfg.Retry.Initial
	for {
		err := d.attempt(ctx, document, body)
		d.mu.Lock()
		if err == nil {
			d.told(document)
			d.mu.Unlock()
			return "", nil
		}
		d.stats.Failed++
		d.mu.Unlock()
		if ctx.Err() != nil {
			return "", err
		}
		failed, _ := errors.AsType[*web.Failure](err)
		if failed != nil && failed.Content() {
			return err.Error(), nil
		}
		d.complain(err)
		wait := web.Jitter(pause)
		pause = min(2*pause, d.cfg.Retry.Max)
		switch {
		case failed != nil && failed.After > 0:
			wait = failed.After
		case failed == nil || !failed.Retry: // no fault of the finding, and nothing that passes by itself
			wait = web.Jitter(d.cfg.Retry.Max)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return "", err
		}
	}
}

func (d *Destination) attempt(ctx context.Context, document *Finding, body []byte) error {
	header, err := d.header(document, body)
	if err != nil {
		return err
	}
	return d.client.Post(ctx, body, header) //nolint:wrapcheck // said in the caller's words
}

func (d *Destination) complain(err error) {
	if now := time.Now(); now.Sub(d.complained) >= complaintInterval {
		d.complained = now
		d.log.Error("a webhook cannot be told of findings; they wait in the journal", "webhook", d.cfg.Name, "url", web.Name(d.address), "error", err)
	}
}
