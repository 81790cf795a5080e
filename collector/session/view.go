// SPDX-License-Identifier: Apache-2.0

package session

import (
	"slices"

	"github.com/watchglass/watchglass/event"
)

// Sessions is every session that is remembered, the first that began first, without their turns.
func (t *Tracker) Sessions() []event.SessionView {
	views := make([]event.SessionView, 0, len(t.all))
	for _, s := range t.all {
		views = append(views, s.view())
	}
	slices.SortStableFunc(views, func(a, b event.SessionView) int { return a.Started.Compare(b.Started) })
	return views
}

// Session is every session of that id or conversation, with all that is remembered of it. Agents of several
// sandboxes can claim the same id.
func (t *Tracker) Session(id string) []event.SessionView {
	var views []event.SessionView
	for _, s := range t.all {
		if s.id != id && s.conversation != id {
			continue
		}
		v := s.view()
		v.Turns = s.turnViews()
		v.Decisions = slices.Clone(s.decisions)
		views = append(views, v)
	}
	return views
}

func (s *session) view() event.SessionView {
	v := event.SessionView{
		ID: s.id, Conversation: s.conversation, Parent: s.parent, Agent: s.agent, Version: s.version,
		Sandbox: s.place.sandbox.ID, SandboxName: s.place.sandbox.Name,
		Provider: s.provider, Model: s.model, ApprovalMode: s.approvalMode, SandboxClaimed: s.sandbox,
		Claimed: s.claimed, Started: s.started, Ended: s.ended, EndReason: s.reason,
		TurnCount: s.turnCount, CallCount: s.callCount, ProcessCount: s.processes, Errors: s.errors,
	}
	if s.host != nil && s.ended.IsZero() {
		v.PID = s.host.process.PID
	}
	return v
}

func (s *session) turnViews() []event.TurnView {
	at := map[*turn]int{}
	views := make([]event.TurnView, 0, len(s.turns))
	for _, u := range s.turns {
		at[u] = len(views)
		views = append(views, event.TurnView{
			ID: u.id, Started: u.started, Ended: u.ended, Prompt: u.prompt, PromptLength: u.length,
			Requests: u.requests, InputTokens: u.input, OutputTokens: u.output, CostUSD: u.cost,
		})
	}
	for _, c := range s.calls {
		i, ok := at[c.turn]
		if !ok { // its turn is forgotten
			if len(views) == 0 {
				continue
			}
			i = 0
		}
		views[i].Calls = append(views[i].Calls, c.view())
	}
	return views
}

func (c *call) view() event.CallView {
	total := c.sum()
	v := event.CallView{
		ID: c.id, Tool: c.tool, MCPServer: c.mcp, Command: c.line, Directory: c.directory, SubAgent: c.subAgent,
		Started: c.start, Ended: c.end, Error: c.failure, Sandbox: c.sandbox, Method: c.method, Confidence: c.confidence,
		Approvals: slices.Clone(c.approvals), Decisions: slices.Clone(c.decisions), Totals: event.TotalsView(total),
	}
	switch c.outcome {
	case event.OutcomeSuccess:
		v.Outcome = "success"
	case event.OutcomeFailure:
		v.Outcome = "failure"
	case event.OutcomeUnknown:
	}
	if c.hasExit {
		v.ClaimedExit = &c.exit
	}
	for i := range c.files {
		v.Files = append(v.Files, c.files[i].view())
	}
	for _, r := range c.roots {
		r.addTo(&v, c.interactive)
	}
	return v
}

// addTo adds what a root's processes did to a call; shared says that the root is another call's too.
func (r *root) addTo(v *event.CallView, shared bool) {
	if !r.exited.IsZero() && !shared {
		code := exitCode(r)
		v.ExitCode = &code
	}
	v.Omitted += r.omitted
	in := func(first, last int64) bool {
		return !shared || last >= v.Started.Add(-slackStart).UnixNano() && first <= v.Ended.Add(slackEnd).UnixNano()
	}
	for i := range r.programs {
		p := &r.programs[i]
		server := p.uid == r.uid && r.server != "" // which was there before
		if !server && !in(p.started.UnixNano(), p.started.UnixNano()) {
			continue
		}
		view := event.ProgramView{
			UID: p.uid.String(), ParentUID: p.parent.String(), PID: p.pid, Command: p.line,
			Started: p.started, Ended: p.exited, ExitCode: p.code,
		}
		if p.sig != 0 {
			view.Signal = event.SignalName(p.sig)
		}
		v.Processes = append(v.Processes, view)
	}
	for i := range r.objects {
		o := &r.objects[i]
		switch {
		case !in(o.first.UnixNano(), o.last.UnixNano()):
		case o.kind == connection:
			v.Peers = append(v.Peers, o.view())
		default:
			v.Files = append(v.Files, o.view())
		}
	}
}

func (o *object) view() event.ObjectView {
	v := event.ObjectView{
		Name: o.name, Host: o.host, Write: o.kind == fileWritten, Count: max(o.n, 1), Failed: o.failed,
		Sent: o.sent, Received: o.received, First: o.first,
	}
	if o.kind == connection {
		transport := event.TransportTCP
		if o.udp {
			transport = event.TransportUDP
		}
		v.Name = string(transport) + " " + o.peer.String()
	}
	return v
}
