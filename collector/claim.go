// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/collector/session"
	"github.com/watchglass/watchglass/event"
)

// claims is the account of what agents said.
type claims struct{ taken, unattributed uint64 }

// Claim takes what an agent said and publishes it as an event of whoever sent it: the process and the
// sandbox that the kernel knows of the sender, not those that the words name. It may be called from any
// goroutine and does not wait for room in the exporters' queues, since agents' hooks wait for it. The
// statement must not be changed afterwards.
func (p *Pipeline) Claim(s *agent.Statement) {
	p.claim(s, time.Now())
}

func (p *Pipeline) claim(s *agent.Statement, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claims.taken++
	if said := s.Claim.Said(); said.Received.IsZero() {
		said.Received = now
	}
	if !p.hold(s, now) {
		p.take(s, now)
	}
}

// take publishes a statement. One that a process of which nothing is known handed over is nobody's: the agent may not
// have started that.
func (p *Pipeline) take(s *agent.Statement, now time.Time) {
	said := s.Claim.Said()
	e := &event.Event{Time: s.Time, Payload: s.Claim}
	if e.Time.IsZero() {
		e.Time, said.TimeSource = said.Received, event.TimeReceived
	}
	if state := p.sandboxes[s.Origin.Sandbox]; state != nil {
		e.Sandbox = state.sandbox
		p.start(state, now)
	} else {
		p.claims.unattributed++
	}
	via := p.processOf(s.Via)
	if via != nil || !s.Via.Known() {
		e.Process = p.processOf(s.Origin)
	}
	heard := p.sessions.Admit(e, via)
	p.publish(e)
	p.sessions.Believe(heard)
	p.publishSessions()
}

// processOf is the process of an origin, nil when it is not known.
func (p *Pipeline) processOf(o agent.Origin) *event.Process {
	if !o.Known() {
		return nil
	}
	return p.tree.Locate(o)
}

// relate adds to a process what its agent's sessions know of it.
func (p *Pipeline) relate(state *sandboxState, r *bpf.Record, who *event.Process) *event.Process {
	if who == nil {
		return nil
	}
	if a := p.sessions.Relate(fact(state, r, who)); a != who.Agent {
		return p.tree.Join(r, a)
	}
	return who
}

// observe shows to the sessions what was published.
func (p *Pipeline) observe(state *sandboxState, r *bpf.Record, who *event.Process) {
	if who == nil {
		return
	}
	p.sessions.Observe(fact(state, r, who))
	p.publishSessions()
}

func fact(state *sandboxState, r *bpf.Record, who *event.Process) session.Fact {
	return session.Fact{Sandbox: state.sandbox, Process: who, Payload: r.Payload, Time: r.Time, Truncated: r.Truncated}
}

// publishSessions publishes what the sessions found out.
func (p *Pipeline) publishSessions() {
	for _, e := range p.sessions.Take() {
		p.publish(e)
	}
}

// Sessions is every session that is remembered, without its turns.
func (p *Pipeline) Sessions() []event.SessionView {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions.Sessions()
}

// Session is every session with an id, with all that is remembered of it; none when it is not known.
func (p *Pipeline) Session(id string) []event.SessionView {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions.Session(id)
}
