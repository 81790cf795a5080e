// SPDX-License-Identifier: Apache-2.0

package session

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
)

// settle publishes what the calls of a session came to. Of those that are finished on both sides at once; of others
// when nothing more is to be expected, or at last.
func (t *Tracker) settle(s *session, now time.Time, last bool) {
	for _, c := range s.calls {
		if c.method == "" && c.claimed && !c.judged {
			c.patient = c.patient || last || now.Sub(c.end) >= patience
			t.find(c, false) // its process may have come after the claim
			if last || now.Sub(c.start) >= t.cfg.Watermark {
				t.guess(c)
			}
		}
	}
	t.untold(s, now, last)
	for _, c := range s.calls {
		if c.dirty && c.method != "" && (last || c.settled(now, t.cfg.Watermark)) {
			t.publish(c, now)
		}
		if c.stale {
			c.stale = false
			t.retell(c)
		}
		if !c.judged && (last || c.ripe(now, t.cfg.Watermark)) {
			c.judged = true
			t.check(c, now)
		}
	}
}

// untold makes calls of processes that an agent started for its tools and tells nothing of, because it tells nothing at
// all or, when no more is to come, of them: what such a shell and its descendants do belongs together, whatever the
// agent calls it. A call of its own that has no process yet may be of one of them.
func (t *Tracker) untold(s *session, now time.Time, last bool) {
	if s.host == nil || s.claimed && !last || slices.ContainsFunc(s.calls, func(c *call) bool {
		return len(c.starts)+len(c.ends) > 0 && c.method == "" && c.denied.IsZero() && t.runsCommands(c)
	}) {
		return
	}
	for _, r := range slices.Clone(s.host.waiting) {
		if !r.tool || r.session != s || !last && now.Sub(r.began) < t.cfg.Watermark {
			continue
		}
		c := t.newCall(s, "", r.began)
		c.start = r.began
		if len(r.commands) > 0 {
			c.command = r.commands[0]
			c.line = t.keep(s.place, c.command.text, maxCommand)
		}
		if r.base.HasTrace() { // as the events of its processes say
			c.trace, c.span = r.base.TraceID, r.base.SpanID
		}
		t.attach(c, r, link{agent.MethodShell, agent.ConfidenceStrong})
	}
}

// patience is for how long news of the end of a call's process is waited for, before one that goes on is thought to
// be the call's.
const patience = 2 * time.Second

// settled says whether enough is known of a call to tell what its processes did.
func (c *call) settled(now time.Time, watermark time.Duration) bool {
	over := c.over()
	switch {
	case c.made && now.Sub(c.end) < watermark:
		return false // another channel may tell its id still
	case len(c.roots) == 0, over.IsZero() && c.finished && !c.joined:
		return true // no process, or one that goes on after the call
	case over.IsZero():
		return false
	case c.finished:
		return true
	}
	return now.Sub(over) >= watermark
}

// over is when the last of a call's processes ended; zero when one has not.
func (c *call) over() time.Time {
	var last time.Time
	for _, r := range c.roots {
		if r.exited.IsZero() {
			return time.Time{}
		}
		if r.exited.After(last) {
			last = r.exited
		}
	}
	return last
}

// ripe says whether everything that will be said of a call has been.
func (c *call) ripe(now time.Time, watermark time.Duration) bool {
	latest := c.opened
	if c.end.After(latest) {
		latest = c.end
	}
	over := c.over()
	if len(c.roots) > 0 && over.IsZero() {
		return false
	}
	if over.After(latest) {
		latest = over
	}
	if !c.finished && len(c.roots) == 0 {
		return now.Sub(latest) >= maxBatch // it may wait for its approval
	}
	return now.Sub(latest) >= watermark
}

// publish tells what the kernel saw of a call.
func (t *Tracker) publish(c *call, now time.Time) {
	c.dirty, c.joined = false, true
	c.published++
	s := c.session
	said := s.facts()
	if c.turn != nil {
		said.Turn = c.turn.id
	}
	said.TraceID, said.SpanID = c.trace, c.span
	e := &event.ToolCall{
		Claim: said, Phase: event.PhaseJoined, ID: c.id, Name: c.tool, MCPServer: c.mcp, Command: c.line,
		WorkingDirectory: c.directory, Method: c.method, Confidence: c.confidence, Totals: c.sum(),
		Outcome: c.outcome, Running: c.running,
	}
	at := now
	if over := c.over(); !over.IsZero() {
		at = over
	} else if !c.end.IsZero() {
		at = c.end
	}
	var p *event.Process
	for _, r := range c.roots {
		e.Roots = append(e.Roots, r.uid)
		if p == nil {
			p = r.now()
		}
		if !r.exited.IsZero() && !c.interactive {
			e.Exited, e.ExitCode = true, exitCode(r)
		}
	}
	if p == nil {
		p = s.process()
	}
	t.emit(&event.Event{Time: at, Sandbox: s.place.sandbox, Process: p, Payload: e})
	t.retell(c)
}

// now is the root's process with what it works for as far as is known by now.
func (r *root) now() *event.Process {
	p := *r.process
	p.Agent = r.agent
	return &p
}

// exitCode is how a process ended, as a shell says it.
func exitCode(r *root) int {
	const signalled = 128
	if r.sig != 0 {
		return signalled + r.sig
	}
	return r.code
}

func cutText(s string) string {
	if len(s) > maxName {
		return strings.ToValidUTF8(s[:maxName], "") + "…"
	}
	return s
}

// mismatch is a disagreement of a session's claims with the facts, to be filled in.
func (t *Tracker) mismatch(s *session, kind event.Mismatch) *event.ClaimMismatch {
	m := &event.ClaimMismatch{Type: kind}
	if s != nil {
		m.Claim = s.facts()
	} else {
		m.Channel, m.TimeSource, m.Sender = event.ChannelFacts, event.TimeKernel, event.SenderOwner
	}
	return m
}

// disagree publishes a disagreement about a call.
func (t *Tracker) disagree(c *call, kind event.Mismatch, claimed, fact string) {
	if c.judgedKinds[kind] {
		return
	}
	c.judgedKinds[kind] = true
	m := t.mismatch(c.session, kind)
	if c.turn != nil {
		m.Turn = c.turn.id
	}
	m.CallID, m.Tool, m.Claimed, m.Fact = c.id, c.tool, claimed, fact
	m.Method, m.Confidence = c.method, c.confidence
	at := c.end
	p := c.session.process()
	for _, r := range c.roots {
		m.Roots = append(m.Roots, r.uid)
		p = r.now()
		if r.exited.After(at) {
			at = r.exited
		}
	}
	if at.IsZero() {
		at = c.opened
	}
	t.emit(&event.Event{Time: at, Sandbox: c.session.place.sandbox, Process: p, Payload: m})
}

// check compares what an agent said of a call with what the kernel saw of it, once nothing more is to come. Only
// joins that leave no doubt count.
func (t *Tracker) check(c *call, now time.Time) {
	sure := c.confidence == agent.ConfidenceExact || c.confidence == agent.ConfidenceStrong
	if len(c.roots) > 0 && sure && !c.interactive {
		t.checkExit(c)
		t.checkCommand(c)
		t.checkDenied(c)
		t.checkSandbox(c)
		t.checkEscalated(c)
		if !c.claimed && c.session.speaks(c) && c.confidence == agent.ConfidenceExact {
			t.disagree(c, event.MismatchEffectWithoutCall, "nothing", "processes ran for call "+c.id)
		} else if !c.claimed && c.session.claimed {
			t.checkSilence(c.session, c.roots[0], now)
		}
	}
	if c.method == "" {
		t.checkEffect(c)
	}
}

// speaks says whether an agent told of other calls since a call's processes ended: then it would have told of it.
func (s *session) speaks(c *call) bool {
	over := c.over()
	for _, other := range s.calls {
		if other.claimed && other.finished && !over.IsZero() && other.end.After(over) {
			return true
		}
	}
	return false
}

// checkExit compares exit codes, where the claim is about the process that was joined and nothing else.
func (t *Tracker) checkExit(c *call) {
	if !c.hasExit || c.running || len(c.roots) != 1 || c.roots[0].exited.IsZero() || c.lost > 0 {
		return
	}
	r := c.roots[0]
	if !c.end.IsZero() && r.exited.After(c.end.Add(slackEnd)) {
		return // what the agent tells of is not this end
	}
	if r.sig != 0 && (c.exit == exitCode(r) || c.exit < 0) || r.sig == 0 && c.exit == r.code {
		return
	}
	fact := "exit " + strconv.Itoa(r.code)
	if r.sig != 0 {
		fact = "killed by " + event.SignalName(r.sig)
	}
	t.disagree(c, event.MismatchExitCode, "exit "+strconv.Itoa(c.exit), fact)
}

// checkCommand compares command lines, where the join does not depend on them.
func (t *Tracker) checkCommand(c *call) {
	if c.command.text == "" || c.partial || c.method != agent.MethodEnv {
		return
	}
	var ran string
	for _, r := range c.roots {
		if len(r.commands) == 0 || len(r.commands) == maxCommands || c.runs(r) {
			return // too little, or too much, to tell
		}
		for _, given := range r.commands {
			if given.cut {
				return
			}
			ran = given.text
		}
	}
	t.disagree(c, event.MismatchCommand, cutText(c.line), cutText(ran))
}

// checkDenied finds a call that ran after it was denied.
func (t *Tracker) checkDenied(c *call) {
	if c.denied.IsZero() {
		return
	}
	for _, r := range c.roots {
		if r.began.After(c.denied.Add(slackStart)) {
			t.disagree(c, event.MismatchDeniedButRan, "denied", "ran "+cutText(r.process.Name))
			return
		}
	}
}

// checkSandbox finds a command that ran without restrictions although the agent says that it applies a sandbox. What
// somebody approved, or the agent itself tells of, may have been let out of it.
func (t *Tracker) checkSandbox(c *call) {
	s := c.session
	if s.told["sandbox"] || c.confidence != agent.ConfidenceExact || c.sandbox != "" || len(c.decisions) > 0 ||
		!slices.Contains(t.adapters[s.agent].Confining, s.sandbox) {
		return
	}
	for _, a := range c.approvals {
		if a.Decider != "config" {
			return
		}
	}
	found := false
	for _, r := range c.roots {
		for _, given := range r.commands {
			if !given.same(c.command) {
				continue
			}
			if given.confined != confinementNone {
				return
			}
			found = true
		}
	}
	if found {
		s.told["sandbox"] = true
		t.disagree(c, event.MismatchSandbox, s.sandbox, "no namespaces, seccomp filter or no_new_privs of its own")
	}
}

// escalated is the agent's word for a call that left its sandbox.
const escalated = "escalated"

// checkEscalated finds a call that left the agent's sandbox although nobody, and no rule, approved it.
func (t *Tracker) checkEscalated(c *call) {
	if c.sandbox != escalated || c.confidence != agent.ConfidenceExact ||
		slices.ContainsFunc(c.approvals, func(a event.ApprovalView) bool { return a.State == event.ApprovalGranted }) {
		return
	}
	for _, r := range c.roots {
		for _, given := range r.commands {
			if given.confined == confinementNone {
				t.disagree(c, event.MismatchEscalated, "nothing outside of the agent's sandbox", cutText(lineOf(r)))
				return
			}
		}
	}
}

// checkEffect finds a call that claims success and started nothing, where it would have been seen.
func (t *Tracker) checkEffect(c *call) {
	s := c.session
	if !c.finished || c.outcome == event.OutcomeFailure || c.running || !t.runsCommands(c) || c.interactive ||
		!c.denied.IsZero() || s.host == nil || c.lost > 0 || c.mcp != "" {
		return
	}
	if c.outcome != event.OutcomeSuccess && !c.hasExit {
		return
	}
	// Another call's process of the time, which was not told apart, may be its own.
	if len(s.host.waiting) > 0 || c.start.Before(s.host.since) {
		return
	}
	t.disagree(c, event.MismatchCallWithoutEffect, "ran "+cutText(c.label()), "no process was started")
}

// judge looks at a process whose call nobody claimed in time.
func (t *Tracker) judge(r *root, now time.Time) {
	if r.call != nil || r.host == nil {
		return
	}
	s := r.session
	if s == nil || !s.claimed || !r.tool {
		return
	}
	if s.told["effect"] || !s.toldSince(r) {
		t.checkSilence(s, r, now)
		return
	}
	s.told["effect"] = true
	m := t.mismatch(s, event.MismatchEffectWithoutCall)
	m.Claimed, m.Fact = "nothing", "ran "+cutText(lineOf(r))
	m.Method, m.Confidence = r.agent.Method, r.agent.Confidence
	m.Roots = []event.ProcessID{r.uid}
	t.emit(&event.Event{Time: r.began, Sandbox: r.place.sandbox, Process: r.now(), Payload: m})
}

func lineOf(r *root) string {
	if len(r.commands) == 0 {
		return r.process.Name
	}
	return r.commands[0].text
}

// toldSince says whether an agent told of a call that ended after a process did: then it had the occasion.
func (s *session) toldSince(r *root) bool {
	for _, c := range s.calls {
		if c.claimed && c.finished && c.end.After(r.exited.Add(slackEnd)) {
			return true
		}
	}
	return false
}

// silence is for how long an agent that goes on may say nothing.
const silence = time.Minute

// checkSilence finds an agent that goes on and no longer speaks.
func (t *Tracker) checkSilence(s *session, r *root, now time.Time) {
	if s.told["silence"] || now.Sub(s.last) < silence || r.began.Sub(s.last) < t.cfg.Watermark || s.host == nil ||
		!s.host.exited.IsZero() {
		return
	}
	s.told["silence"] = true
	m := t.mismatch(s, event.MismatchClaimsStopped)
	m.Claimed = "nothing since " + s.last.UTC().Format(time.RFC3339)
	m.Fact = "ran " + cutText(lineOf(r))
	m.Method, m.Confidence = r.agent.Method, r.agent.Confidence
	m.Roots = []event.ProcessID{r.uid}
	t.emit(&event.Event{Time: now, Sandbox: s.place.sandbox, Process: r.now(), Payload: m})
}
