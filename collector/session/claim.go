// SPDX-License-Identifier: Apache-2.0

package session

import (
	"cmp"
	"time"

	"github.com/watchglass/watchglass/event"
)

// Heard is a claim that was judged: Admit before it is published, Believe after.
type Heard struct {
	event    *event.Event
	session  *session
	host     *host
	at       time.Time
	mismatch *event.ClaimMismatch
}

// skew is how far a claim's time may be from its arrival for it to be used. Agents deliver late, but within
// minutes; a clock that is further off says nothing about when.
const skew = 5 * time.Minute

// when is the time of a claim as it can be compared with the kernel's.
func when(e *event.Event, said *event.Claim) time.Time {
	if e.Time.After(said.Received.Add(time.Second)) || e.Time.Before(said.Received.Add(-skew)) {
		return said.Received
	}
	return e.Time
}

// Admit says who made a claim, in the claim, and whether it is believed. The event's sandbox and process are the
// sender's; via is the process that handed it over for the sender, nil for none. A claim of a session is believed
// from its own agent: not from another sandbox, nor from what the agent itself started for a tool call.
func (t *Tracker) Admit(e *event.Event, via *event.Process) *Heard {
	payload, ok := e.Payload.(event.Said)
	if !ok {
		return nil
	}
	said := payload.Said()
	if e.Sandbox == nil {
		said.Sender = event.SenderUnattributed
		t.counts.ignored++
		return nil
	}
	said.Sender = event.SenderOwner
	h := &Heard{event: e, at: when(e, said)}
	p := t.place(e.Sandbox)
	id := cmp.Or(said.Session, said.Conversation)
	if owner := t.foreign(p, id); owner != nil {
		return t.refuse(h, "session "+cutID(id), "it is of sandbox "+owner.place.sandbox.ID)
	}
	inside := t.toolOf(e.Process, via)
	h.host = t.hosts[uidOf(e.Process)]
	if h.host == nil && inside == nil && e.Process != nil {
		h.host = t.hostOf(e.Process)
	}
	if inner := t.speaker(e.Process); inside != nil && inner != nil && t.sameSpeaker(inner, via) {
		h.host, inside = inner, nil
	}
	h.session = t.sessionOf(p, said, h.host)
	switch s := h.session; {
	case s != nil && h.host != nil && h.host.outer != nil && s.host != h.host && !h.host.heirTo(s):
		return t.refuse(h, "session "+cutID(id), "its agent is another process")
	case inside != nil && (s == nil || s.host == inside.host):
		if s == nil && id != "" {
			return t.nested(h, p, inside)
		}
		return t.refuse(h, "session "+cutID(id), "sent by "+inside.name()+", which a tool call of it started")
	case s == nil && id == "":
		t.counts.ignored++
		return nil
	case s == nil:
		h.session = t.open(p, opening{agent: said.Agent, id: said.Session, conversation: said.Conversation, host: h.host, at: h.at})
	case s.host != nil && s.host.exited.IsZero() && s.host != h.host:
		if e.Process == nil { // nobody knows who it is
			t.counts.ignored++
			return nil
		}
		if h.host == nil || s.proven {
			return t.refuse(h, "session "+cutID(id), "its agent is another process")
		}
	}
	return h
}

// refuse marks a claim that names a session which is not its sender's.
func (t *Tracker) refuse(h *Heard, claimed, fact string) *Heard {
	payload, ok := h.event.Payload.(event.Said)
	if !ok {
		return nil
	}
	said := payload.Said()
	said.Sender = event.SenderForeign
	t.counts.ignored++
	h.session = nil
	h.mismatch = &event.ClaimMismatch{Claim: *said, Type: event.MismatchForeignSession, Claimed: claimed, Fact: fact}
	h.mismatch.Channel, h.mismatch.TimeSource = event.ChannelFacts, event.TimeKernel
	return h
}

// heirTo says whether a session of which no agent was known can be that of an agent in a call: it was opened below the
// session of that call.
func (h *host) heirTo(s *session) bool {
	return s.host == nil && s.ended.IsZero() && s.parent != "" && h.outer.session != nil && s.parent == h.outer.session.id
}

// sameSpeaker says whether whoever handed a statement over for an inner agent can speak for it.
func (t *Tracker) sameSpeaker(h *host, via *event.Process) bool {
	return via == nil || t.speaker(via) == h
}

// nested opens the session of an agent that a tool call of another started.
func (t *Tracker) nested(h *Heard, p *place, inside *root) *Heard {
	payload, ok := h.event.Payload.(event.Said)
	if !ok {
		return nil
	}
	said := payload.Said()
	h.session = t.open(p, opening{agent: said.Agent, id: said.Session, conversation: said.Conversation, at: h.at})
	if inside.session != nil {
		h.session.parent = inside.session.id
	}
	return h
}

// foreign is the session of another sandbox that has an id, nil when none does.
func (t *Tracker) foreign(p *place, id string) *session {
	owner := t.owners[id]
	if owner == nil || owner.place == p || !owner.ended.IsZero() || p.byID[id] != nil && p.byID[id].proven {
		return nil
	}
	return owner
}

// sessionOf is the session that a claim is about, nil when it is not known.
func (t *Tracker) sessionOf(p *place, said *event.Claim, h *host) *session {
	for _, id := range []string{said.Session, said.Conversation} {
		if s := p.byID[id]; s != nil && id != "" {
			return s
		}
	}
	if h == nil {
		return nil
	}
	only := h.only()
	if only != nil && (only.made || said.Session == "" && said.Conversation == "") {
		return only
	}
	return nil
}

func uidOf(p *event.Process) event.ProcessID {
	if p == nil {
		return 0
	}
	return p.UID
}

// toolOf is the tool call's process that a sender is or is under, nil when it is none's.
func (t *Tracker) toolOf(processes ...*event.Process) *root {
	for _, p := range processes {
		if p == nil {
			continue
		}
		if r := t.roots[p.RootUID]; r != nil && r.tool {
			return r
		}
	}
	return nil
}

// Believe takes what was claimed into account, once the claim is published.
func (t *Tracker) Believe(h *Heard) {
	if h == nil {
		return
	}
	payload, ok := h.event.Payload.(event.Said)
	if !ok {
		return
	}
	if h.mismatch != nil {
		t.tellForeign(h)
		return
	}
	said, s := payload.Said(), h.session
	t.reopen(s, payload, h)
	s.claimed, s.unclaimed = true, 0
	s.version = cmp.Or(s.version, t.keep(s.place, said.Version, maxName))
	s.parent = cmp.Or(s.parent, clone(cutID(said.ParentSession)))
	t.name(s, said.Session, said.Conversation)
	s.kin(said)
	if h.at.Before(s.started) {
		s.started = h.at
	}
	if h.at.After(s.last) {
		s.last = h.at
		delete(s.told, "silence") // it speaks again, and may fall silent again
	}
	if h.host != nil {
		s.proven = s.proven || h.event.Process != nil
		t.serve(h.host, s)
	}
	s.hooks = s.hooks || said.Channel == event.ChannelHook
	t.believe(s, payload, h.at)
}

// reopen takes a session up that goes on after its end: agents resume.
func (t *Tracker) reopen(s *session, payload event.Said, h *Heard) {
	if s.ended.IsZero() || h.host == nil || !h.host.exited.IsZero() || !h.at.After(s.ended) {
		return
	}
	switch payload.(type) {
	case *event.SessionStart, *event.Prompt:
		s.ended, s.reason = time.Time{}, ""
		s.place.live++
	}
}

func (t *Tracker) believe(s *session, payload event.Said, at time.Time) {
	switch c := payload.(type) {
	case *event.SessionStart:
		t.startClaimed(s, c)
	case *event.SessionEnd:
		t.end(s, at, endClaimed)
	case *event.Prompt:
		t.prompted(s, c, at)
	case *event.ModelRequest:
		t.requested(s, c, at)
	case *event.TurnEnd:
		if c.SubAgent == "" {
			t.turn(s, c.Turn, at).ended = at
		}
	case *event.ToolCall:
		t.called(s, c, at)
	case *event.Approval:
		t.approved(s, c, at)
	case *event.PolicyDecision:
		t.decided(s, c, at)
	case *event.SandboxOutcome:
		t.sandboxed(s, c, at)
	case *event.AgentError:
		s.errors++
	}
}

// tellForeign publishes, once for each sender and session, that a claim names a session that is not its sender's.
func (t *Tracker) tellForeign(h *Heard) {
	p := t.place(h.event.Sandbox)
	key := "foreign:" + h.mismatch.Claimed + h.mismatch.Fact
	if p.told[key] || len(p.told) >= maxTold {
		return
	}
	p.told[key] = true
	if h.event.Process != nil {
		h.mismatch.Roots = []event.ProcessID{h.event.Process.UID}
	}
	t.emit(&event.Event{Time: h.event.Time, Sandbox: h.event.Sandbox, Process: h.event.Process, Payload: h.mismatch})
}
