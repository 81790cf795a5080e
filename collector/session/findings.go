// SPDX-License-Identifier: Apache-2.0

package session

import (
	"cmp"
	"slices"
	"strings"

	"github.com/watchglass/watchglass/event"
)

// finding is a finding that was published, to be told anew when more is known of the work in which it was made.
type finding struct {
	event *event.Event
	// plain is its explanation without what is known of the work, told what was known when it was last told.
	plain string
	told  event.FindingContext
	join  event.Agent
}

// Explain adds to a finding, before it is published, what is known of the work in which it was made. cause is the
// event that it is about.
func (t *Tracker) Explain(cause, e *event.Event) {
	f, ok := e.Payload.(*event.Finding)
	if !ok || e.Sandbox == nil {
		return
	}
	c, u := t.workOf(cause, e.Process)
	if c != nil && e.Process != nil && (e.Process.Agent == nil || e.Process.Agent.CallID == "") {
		p := *e.Process
		p.Agent = c.identity()
		e.Process = &p
	}
	known := context(c, u)
	if known == (event.FindingContext{}) {
		return
	}
	f.Context = &known
	f.Explanation = join(f.Explanation, known.Sentences())
}

// workOf is the call, and else the turn, in which something happened; nil for what is not known.
func (t *Tracker) workOf(cause *event.Event, p *event.Process) (*call, *turn) {
	if said, ok := cause.Payload.(event.Said); ok && cause.Sandbox != nil {
		return t.workSaid(cause, said)
	}
	if p == nil {
		return nil, nil
	}
	if r := t.roots[p.RootUID]; r != nil {
		switch {
		case r.call != nil:
			return r.call, r.call.turn
		case r.session != nil && len(r.session.turns) > 0:
			return nil, r.session.turns[len(r.session.turns)-1]
		}
		return nil, nil
	}
	if h := t.hosts[p.UID]; h != nil {
		if s := h.only(); s != nil && len(s.turns) > 0 {
			return nil, s.turns[len(s.turns)-1]
		}
	}
	return nil, nil
}

// workSaid is the call and the turn that a claim is about.
func (t *Tracker) workSaid(e *event.Event, said event.Said) (*call, *turn) {
	p := t.places[e.Sandbox]
	if p == nil {
		return nil, nil
	}
	claim := said.Said()
	s := p.byID[cutID(cmp.Or(claim.Session, claim.Conversation))]
	if s == nil || claim.Sender == event.SenderForeign {
		return nil, nil
	}
	id := ""
	switch c := e.Payload.(type) {
	case *event.ToolCall:
		id = c.ID
	case *event.Approval:
		id = cmp.Or(c.CallID, c.ID)
	case *event.ClaimMismatch:
		id = c.CallID
	case *event.SandboxOutcome:
		id = c.CallID
	}
	if c := s.byCall[cutID(id)]; c != nil && id != "" {
		return c, c.turn
	}
	if len(s.turns) > 0 {
		return nil, s.turns[len(s.turns)-1]
	}
	return nil, nil
}

// context is what is known of a call and of a turn, in the form of findings.
func context(c *call, u *turn) event.FindingContext {
	var known event.FindingContext
	if u != nil {
		known.Prompt, known.PromptLength = cutText(u.prompt), u.length
	}
	if c == nil {
		return known
	}
	known.Command = cutText(c.line)
	for _, a := range slices.Backward(c.approvals) {
		if a.State != event.ApprovalRequested || known.Approval == "" {
			known.Approval, known.Decider = a.State, a.Decider
		}
		if a.State != event.ApprovalRequested {
			break
		}
	}
	return known
}

// identity is what belongs to a call of which no process is known.
func (c *call) identity() *event.Agent {
	s := c.session
	a := &event.Agent{
		Name: s.agent, SessionID: s.id, ConversationID: s.conversation, CallID: c.id, Tool: c.tool, Approval: c.approval(),
		TraceID: c.trace, SpanID: c.span, Method: c.method, Confidence: c.confidence,
	}
	if c.turn != nil {
		a.Turn = c.turn.id
	}
	return a
}

// Found takes a finding that was published about a process, so that it can be told anew when more is known of it.
func (t *Tracker) Found(e *event.Event) {
	f, ok := e.Payload.(*event.Finding)
	if e.Process == nil || !ok {
		return
	}
	list := t.findingsOf(e.Process)
	if list == nil {
		return
	}
	if f.State == event.FindingResolved { // nothing is told anew of what is over
		*list = slices.DeleteFunc(*list, func(old finding) bool {
			was, ok := old.event.Payload.(*event.Finding)
			return ok && was.ID == f.ID
		})
		return
	}
	kept := finding{event: e, plain: f.Explanation}
	if f.Context != nil {
		kept.told = *f.Context
		kept.plain = strings.TrimSuffix(strings.TrimSuffix(f.Explanation, f.Context.Sentences()), " ")
	}
	if a := e.Process.Agent; a != nil {
		kept.join = *a
	}
	for i := range *list {
		if was, ok := (*list)[i].event.Payload.(*event.Finding); ok && was.ID == f.ID {
			(*list)[i] = kept
			return
		}
	}
	if len(*list) >= maxFindings { // the oldest has had the longest time to be told anew
		*list = slices.Delete(*list, 0, 1)
		t.counts.objects++
	}
	*list = append(*list, kept)
}

// findingsOf is where the findings about a process are kept, nil for nowhere.
func (t *Tracker) findingsOf(p *event.Process) *[]finding {
	if r := t.roots[p.RootUID]; r != nil {
		return &r.findings
	}
	if h := t.hosts[p.UID]; h != nil {
		return &h.findings
	}
	return nil
}

// retell publishes the findings in a call anew of which more is known by now than when they were told.
func (t *Tracker) retell(c *call) {
	known := context(c, c.turn)
	for _, r := range c.roots {
		for i := range r.findings {
			t.tellAnew(&r.findings[i], r.of(r.findings[i].event.Process), known)
		}
	}
	if h := c.session.host; h != nil && len(c.files) > 0 {
		for i := range h.findings {
			if c.touched(&h.findings[i]) {
				t.tellAnew(&h.findings[i], c.identity(), known)
			}
		}
	}
}

// touched says whether a finding is about a file that the agent's own process touched for a call.
func (c *call) touched(f *finding) bool {
	said, ok := f.event.Payload.(*event.Finding)
	at := f.event.Time
	if !ok || at.Before(c.start.Add(-slackStart)) || at.After(c.end.Add(slackEnd)) {
		return false
	}
	return slices.ContainsFunc(c.files, func(o object) bool { return slices.Contains(said.Objects, o.name) })
}

// tellAnew publishes an update of a finding if anything about it is new.
func (t *Tracker) tellAnew(f *finding, by *event.Agent, known event.FindingContext) {
	was, ok := f.event.Payload.(*event.Finding)
	if !ok || by == nil || known == f.told && *by == f.join {
		return
	}
	f.told, f.join = known, *by
	p := *f.event.Process
	p.Agent = by
	now := *was
	now.State, now.Context = event.FindingUpdate, &known
	now.Explanation = join(f.plain, sentenceOf(by), known.Sentences())
	t.emit(&event.Event{Time: f.event.Time, Sandbox: f.event.Sandbox, Process: &p, Payload: &now})
}

// sentenceOf says which call it was, for a finding that was told before that was known.
func sentenceOf(a *event.Agent) string {
	if a.CallID == "" {
		return ""
	}
	s := "It was tool call " + a.CallID
	if a.Tool != "" {
		s += " of " + a.Tool
	}
	if a.Confidence != "" {
		s += " (" + a.Confidence + ", by " + a.Method + ")"
	}
	return s + "."
}

func join(sentences ...string) string {
	return strings.Join(slices.DeleteFunc(sentences, func(s string) bool { return s == "" }), " ")
}
