// SPDX-License-Identifier: Apache-2.0

package session

import (
	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
)

// maxNesting is how many ancestors of a process are looked at to find the agent that a tool call started.
const maxNesting = 32

// nest takes an exec of a process of a call: a tool can start an agent, which starts tools of its own. All of that works
// for the outermost call, and its events say so; the inner agent has a session and calls of its own besides.
func (t *Tracker) nest(r *root, f Fact, exec *event.ProcessExec) {
	p := f.Process
	if name := t.innerAgent(r, p, exec); name != "" {
		t.joinInner(r, p, name, f)
		return
	}
	if nr := t.roots[p.UID]; nr != nil && nr.outer != nil {
		t.ranInner(nr, f, exec)
		return
	}
	h := t.hosts[p.ParentUID]
	if h == nil || h.outer == nil || t.hosts[p.UID] != nil {
		return
	}
	nr := t.root(r.place, h, p, f.Time)
	nr.outer = r
	nr.base = t.joiner.Join(&event.Agent{Name: h.agent, Method: agent.MethodExecutable, Confidence: agent.ConfidenceStrong}, exec)
	if handedDown(nr.base, r.base) {
		nr.base = &event.Agent{Name: h.agent, Method: agent.MethodInherited, Confidence: agent.ConfidenceStrong}
	}
	// Whatever runs in a call can be named as an agent is.
	if nr.base.Confidence == agent.ConfidenceExact {
		nr.base.Confidence = agent.ConfidenceStrong
	}
	if r.place.others(h, nr.base.CallID) {
		nr.base.Confidence = agent.ConfidenceInferred
	}
	t.ranInner(nr, f, exec)
	t.assign(nr)
	if s := nr.session; s != nil {
		s.processes++
		s.unclaimed++
	}
}

// handedDown says whether ids in an environment are those of the outer call, which an inner agent was started with and
// hands on to what it starts besides tools: hooks.
func handedDown(inner, outer *event.Agent) bool {
	same := func(a, b string) bool { return a != "" && a == b }
	return same(inner.CallID, outer.CallID) || same(inner.SessionID, outer.SessionID) || same(inner.ConversationID, outer.ConversationID) ||
		inner.HasTrace() && inner.TraceID == outer.TraceID && inner.SpanID == outer.SpanID
}

// innerAgent is the agent whose own program a process of a call begins to run; "" when that is none. What an agent runs
// of itself to prepare a call, before the call's shell, is no agent at work.
func (t *Tracker) innerAgent(r *root, p *event.Process, exec *event.ProcessExec) string {
	if !r.tool || p.UID == r.uid && !r.shelled {
		return ""
	}
	return t.joiner.Recognise(exec)
}

func (t *Tracker) joinInner(r *root, p *event.Process, name string, f Fact) {
	if h := t.hosts[p.UID]; h != nil {
		h.process = p
		return
	}
	h := t.hosts[p.ParentUID] // a launcher, and what it launches
	if h == nil || h.outer == nil || h.agent != name || len(h.uids) >= maxHostSessions {
		h = t.newHost(r.place, name, f.Time)
		h.outer, r.nested = r, true
	}
	t.own(h, p)
}

// ranInner takes an exec of a process that an inner agent started.
func (t *Tracker) ranInner(nr *root, f Fact, exec *event.ProcessExec) {
	c := executed(exec.Args, f.Truncated)
	nr.process = f.Process
	nr.marked = nr.marked || t.marked(nr, exec.Env)
	nr.tool = nr.tool || nr.base.CallID != "" || c.wrapped || nr.marked && t.adapters[nr.base.Name].PlainShell && isShell(first(exec.Args))
	t.remember(nr, c)
	t.program(nr, f.Process, exec, f.Time)
}

// inner is the agent in a call that a process is of or under, and the process of that agent's own call that it is of or
// under; nil where there is none.
func (t *Tracker) inner(r *root, p *event.Process) (h *host, nr *root) {
	if !r.nested {
		return nil, nil
	}
	for range maxNesting {
		if p == nil || p.UID == r.uid && t.hosts[p.UID] == nil {
			return nil, nil
		}
		if q := t.roots[p.UID]; q != nil && q.outer != nil && nr == nil {
			nr = q
		}
		if h = t.hosts[p.UID]; h != nil && h.outer != nil {
			return h, nr
		}
		p = p.Parent
	}
	return nil, nil
}

// speaker is the inner agent for which a process can speak: itself or what it started besides tools; nil when it is none's.
func (t *Tracker) speaker(p *event.Process) *host {
	if p == nil {
		return nil
	}
	r := t.roots[p.RootUID]
	if r == nil {
		return nil
	}
	h, nr := t.inner(r, p)
	if nr != nil && nr.tool {
		return nil
	}
	return h
}

// observeInner tells an inner agent, or its own call, what a process of the outer call did.
func (t *Tracker) observeInner(r *root, f Fact) {
	h, nr := t.inner(r, f.Process)
	switch {
	case nr != nil:
		t.observeRoot(nr, f)
	case h != nil:
		t.observeHost(f)
	}
}
