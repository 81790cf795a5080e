// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"time"

	"github.com/watchglass/watchglass/event"
)

// singUntil publishes a canary now, and then at the interval, until ctx ends.
func (p *Pipeline) singUntil(ctx context.Context) {
	if p.s.CanaryInterval == 0 {
		return
	}
	ticker := time.NewTicker(p.s.CanaryInterval)
	defer ticker.Stop()
	p.sing(time.Now())
	for {
		select {
		case now := <-ticker.C:
			p.sing(now)
		case <-ctx.Done():
			return
		}
	}
}

// sing publishes a canary. It takes the way of every finding but for the detectors.
func (p *Pipeline) sing(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := &event.Finding{
		Rule: event.CanaryRule(), State: event.FindingNew, Count: 1,
		Title:       "Findings arrive: this one is made every " + p.s.CanaryInterval.String(),
		Explanation: "Nothing happened. This finding only proves the way from the collector to here; when it does not come, no other would.",
	}
	e := &event.Event{Time: now, Payload: f}
	f.ID = findingID(f, e)
	p.publish(e)
}

// noteCanary takes note of a canary that was delivered.
func (o *output) noteCanary(batch []*event.Event) {
	for _, e := range batch {
		if f, ok := e.Payload.(*event.Finding); ok && f.Canary() {
			o.canary.Store(time.Now().Unix())
		}
	}
}

// notifiers is the exporter's own word on what it delivered, where it has one; else that of its queue.
func (o *output) notifiers() []event.NotifierStats {
	if n, ok := o.settings.Exporter.(interface{ Notifiers() []event.NotifierStats }); ok {
		return n.Notifiers()
	}
	return []event.NotifierStats{{Output: o.settings.Exporter.Name(), Canary: o.canary.Load()}}
}

// wantsCanary says whether a destination wants canaries. One whose filter leaves findings out does not.
func wantsCanary(s *DestinationSettings) bool {
	return !s.Spans && (s.Wants == nil || s.Wants(&event.Encoded{
		Kind: event.KindFinding, Severity: event.SeverityInfo, Record: []byte(event.CanaryRuleID),
	}))
}

// noteCanary takes note of the findings of a batch that was delivered. Which of them is a canary cannot be seen
// from here, and does not matter: that a finding arrived proves the same.
func (p *Pump) noteCanary() {
	for i := range p.batch {
		if p.batch[i].Kind == event.KindFinding {
			p.canary.Store(max(p.canary.Load(), p.batch[i].Time.Unix()))
		}
	}
}

// Notifiers is the destination's own word on what it told people, where it has one; else what the pump knows of
// canaries, which is nothing where the destination does not want them.
func (p *Pump) Notifiers() []event.NotifierStats {
	if n, ok := p.settings.Destination.(interface{ Notifiers() []event.NotifierStats }); ok {
		return n.Notifiers()
	}
	if !p.sings {
		return nil
	}
	return []event.NotifierStats{{Output: p.Name(), Canary: p.canary.Load()}}
}
