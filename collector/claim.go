// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"time"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
)

// claims is the account of what agents said.
type claims struct{ taken, unattributed uint64 }

// Claim takes what an agent said and publishes it as an event of whoever sent it: the process and the
// sandbox that the kernel knows of the sender, not those that the words name. It may be called from any
// goroutine and does not wait for room in the exporters' queues, since agents' hooks wait for it. The
// statement must not be changed afterwards.
func (p *Pipeline) Claim(s *agent.Statement) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claims.taken++
	said := s.Claim.Said()
	now := time.Now()
	if said.Received.IsZero() {
		said.Received = now
	}
	e := &event.Event{Time: s.Time, Payload: s.Claim}
	if e.Time.IsZero() {
		e.Time, said.TimeSource = said.Received, event.TimeReceived
	}
	if state := p.sandboxes[s.Origin.Sandbox]; state != nil {
		e.Sandbox = state.sandbox
	}
	if s.Origin.Known() {
		e.Process = p.tree.Locate(s.Origin)
	}
	if e.Sandbox == nil {
		p.claims.unattributed++
		said.Sender = event.SenderUnattributed
	} else {
		said.Sender = event.SenderOwner
		p.start(p.sandboxes[s.Origin.Sandbox], now)
	}
	p.publish(e)
}
