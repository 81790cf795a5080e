// SPDX-License-Identifier: Apache-2.0

package session

import (
	"net/netip"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
)

// maxCommands is how many different command lines are remembered of a root, maxFindings how many findings;
// the same of an agent's own processes.
const (
	maxCommands = 8
	maxFindings = 8
	maxTold     = 64
)

// root is a process that an agent started, with what it and its descendants did: what a call is joined to.
type root struct {
	host    *host
	place   *place
	uid     event.ProcessID
	process *event.Process
	began   time.Time // of its first exec

	// marked is true when its environment has what the agent gives its tools; tool when it is a tool call's for
	// certain: its environment names the call, or it runs in the wrapper of the agent's tools.
	marked, tool bool
	// shelled is true once it ran a shell; nested when an agent runs in it. outer is the call's process in which the
	// agent runs that started this one, nil for what is in no call.
	shelled, nested bool
	outer           *root
	doubt           bool // another process may be of the same call
	commands        []command
	// base is what the process tree makes of it; agent is what it works for, inherited what its descendants do,
	// lowered the same of those that something contradicts.
	base, agent, inherited, lowered *event.Agent

	session *session
	call    *call
	// server is the name of the tool server that it is, serving the calls that it serves now.
	server             string
	serving            []*call
	method, confidence string
	// span is the agent's span that its environment names.
	span [8]byte

	exited    time.Time
	code, sig int
	latest    time.Time // when the last of its processes ended so far
	alive     int       // processes
	totals    event.ToolTotals
	objects   []object
	index     map[objectKey]int
	programs  []program
	byUID     map[event.ProcessID]int
	omitted   int
	findings  []finding
	others    map[string]bool // calls that its descendants named
	aged      bool
}

// object is a file or a peer that a root's processes used.
type object struct {
	objectKey
	first, last    time.Time
	n, failed      int
	sent, received uint64
	host           string
}

type objectKey struct {
	kind objectKind
	name string
	peer netip.AddrPort
	udp  bool
}

type objectKind uint8

const (
	fileRead objectKind = iota
	fileWritten
	connection
)

// program is one process of a root.
type program struct {
	uid, parent event.ProcessID
	pid         uint32
	line        string
	started     time.Time
	exited      time.Time
	code, sig   int
}

func (r *root) name() string {
	return r.process.Name + "[" + strconv.FormatUint(uint64(r.process.PID), 10) + "]"
}

// Fact is one event of the kernel, before it is published.
type Fact struct {
	Sandbox *event.Sandbox
	Process *event.Process
	Payload any
	Time    time.Time
	// Truncated is true when a field of the payload was cut.
	Truncated bool
}

// Relate says what a process works for, as far as it is known when it does something: what the process tree says,
// and what claims and the agent's other processes add. The result is the same pointer where nothing is added.
func (t *Tracker) Relate(f Fact) *event.Agent {
	p := f.Process
	exec, isExec := f.Payload.(*event.ProcessExec)
	if r := t.roots[p.RootUID]; r != nil {
		if !isExec {
			return r.of(p)
		}
		t.nest(r, f, exec)
		if t.ran(r, f, exec) {
			return r.lowered
		}
		return r.of(p)
	}
	if h := t.hosts[p.UID]; h != nil {
		if h.own != nil && agent.IsAgent(p.Agent) {
			return h.own
		}
		return p.Agent
	}
	if !isExec || p.Agent == nil {
		return p.Agent
	}
	return t.first(f, exec)
}

// first takes the first exec of a process of which nothing is known.
func (t *Tracker) first(f Fact, exec *event.ProcessExec) *event.Agent {
	p := f.Process
	pl := t.place(f.Sandbox)
	if agent.IsAgent(p.Agent) {
		h := t.join(pl, p, f.Time)
		h.privileges = exec.Privileges
		if h.own != nil {
			return h.own
		}
		return p.Agent
	}
	if p.RootUID != p.UID {
		return p.Agent
	}
	h := t.hosts[p.ParentUID]
	if h == nil && p.Parent != nil && agent.IsAgent(p.Parent.Agent) {
		h = t.join(pl, p.Parent, f.Time) // it was alive before it was watched
	}
	r := t.root(pl, h, p, f.Time)
	t.ran(r, f, exec)
	t.assign(r)
	if s := r.session; s != nil {
		s.processes++
		s.unclaimed++
	}
	return r.of(p)
}

// root makes the entry of a process that an agent started.
func (t *Tracker) root(pl *place, h *host, p *event.Process, at time.Time) *root {
	for len(t.roots) >= t.cfg.MaxRoots && t.forgetRoot() {
	}
	r := &root{
		host: h, place: pl, uid: p.UID, process: p, base: p.Agent, began: at, alive: 1,
		index: map[objectKey]int{}, byUID: map[event.ProcessID]int{},
	}
	r.totals.Processes = 1
	t.roots[p.UID] = r
	pl.roots = append(pl.roots, r)
	return r
}

// assign finds the session and, by what its environment says, the call of a new root; else it waits for a claim.
func (t *Tracker) assign(r *root) {
	a := r.base
	if id, conversation := a.SessionID, a.ConversationID; id != "" || conversation != "" {
		r.session = t.factual(r, id, conversation)
	} else if r.host != nil {
		r.session = r.host.only()
	}
	r.method, r.confidence = a.Method, r.sure()
	r.span = a.SpanID
	r.appoint()
	switch c := t.callOf(r); {
	case c != nil:
		t.attach(c, r, link{agent.MethodEnv, r.sure()})
	case r.host != nil:
		if len(r.host.waiting) >= maxWaiting {
			r.host.waiting = slices.Delete(r.host.waiting, 0, 1)
		}
		r.host.waiting = append(r.host.waiting, r)
		t.expected(r)
	}
}

// sure is how sure it is what a root's environment says. Anybody can write ids into an environment: they are exact where
// the agent itself started the process, strong where no agent is seen in the sandbox, and where one is there and did
// not start the process, whichever agent the ids are of, they are hardly its.
func (r *root) sure() string {
	if r.base.Method != agent.MethodEnv || r.host != nil {
		return r.base.Confidence
	}
	if slices.ContainsFunc(r.place.hosts, func(h *host) bool { return h.exited.IsZero() }) {
		return agent.ConfidenceInferred
	}
	return agent.ConfidenceStrong
}

// named takes the ids that a root's next program has in its environment. Only what the agent runs itself before the
// tool is believed: Codex starts a helper of its own first, without the ids. A tool can write any into what it
// executes in its own place.
func (t *Tracker) named(r *root, p *event.Process) {
	a := t.adapters[r.base.Name]
	helper := slices.Contains(a.Executables, path.Base(r.process.Executable))
	if !helper || r.call != nil || r.base.CallID != "" || r.base.HasTrace() || p.Agent == nil || p.Agent.CallID == "" && !p.Agent.HasTrace() {
		return
	}
	if r.host != nil {
		r.host.waiting = slices.DeleteFunc(r.host.waiting, func(o *root) bool { return o == r })
	}
	r.base = p.Agent
	t.assign(r)
}

// factual is the session that a root's environment names. The agent that started the root has it then, unless it
// is another agent's.
func (t *Tracker) factual(r *root, id, conversation string) *session {
	for _, known := range []string{id, conversation} {
		if s := r.place.byID[known]; known != "" && s != nil {
			if s.host != nil && s.host != r.host && s.host.exited.IsZero() {
				return nil
			}
			s.proven = s.proven || r.host != nil
			t.name(s, id, conversation)
			if r.host != nil {
				t.serve(r.host, s)
			}
			return s
		}
	}
	if r.host != nil {
		if only := r.host.only(); only != nil && only.made {
			only.proven = true
			t.name(only, id, conversation)
			t.reappoint(r.host)
			return only
		}
	}
	s := t.open(r.place, opening{agent: r.base.Name, id: id, conversation: conversation, host: r.host, at: r.began})
	s.proven = r.host != nil
	t.name(s, id, conversation)
	return s
}

// callOf is the call that a root's environment names, nil when it names none.
func (t *Tracker) callOf(r *root) *call {
	s := r.session
	if s == nil {
		return nil
	}
	if id := r.base.CallID; id != "" {
		c := s.byCall[id]
		if c == nil {
			c = t.newCall(s, id, r.began)
		}
		return c
	}
	if r.base.HasTrace() {
		return s.bySpan[r.base.SpanID]
	}
	return nil
}

// ran takes an exec of a root or one of its descendants. True means that the environment contradicts what the
// process works for.
func (t *Tracker) ran(r *root, f Fact, exec *event.ProcessExec) (conflict bool) {
	p := f.Process
	c := executed(exec.Args, f.Truncated)
	c.confined = r.confined(exec)
	if p.UID == r.uid {
		t.named(r, p)
		r.process = p
		r.marked = r.marked || t.marked(r, exec.Env)
		r.tool = r.tool || r.base.CallID != "" || c.wrapped || r.marked && t.adapters[r.base.Name].PlainShell && isShell(first(exec.Args))
		r.shelled = r.shelled || isShell(first(exec.Args))
	} else {
		conflict = t.contradicted(r, f, exec.Env)
	}
	t.remember(r, c)
	t.program(r, p, exec, f.Time)
	return conflict
}

// remember keeps a command line that a root's processes were given.
func (t *Tracker) remember(r *root, c command) {
	if len(r.commands) < maxCommands && c.text != "" && !slices.Contains(r.commands, c) {
		if c.text = t.keep(r.place, c.text, maxCommand); c.text != "" {
			r.commands = append(r.commands, c)
		}
	}
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func (t *Tracker) marked(r *root, env []event.EnvVar) bool {
	for _, v := range env {
		if v.Value != "" && slices.Contains(t.adapters[r.base.Name].Marks, v.Name) {
			return true
		}
	}
	return false
}

// contradicted takes the environment of a descendant: whoever runs in a call can write the ids of another into it.
// The outermost call is kept, and what something contradicts is no longer sure.
func (t *Tracker) contradicted(r *root, f Fact, env []event.EnvVar) bool {
	a := t.adapters[r.base.Name]
	if h, _ := t.inner(r, f.Process); h != nil {
		return t.contradictedInside(r, h, f)
	}
	for _, v := range env {
		var own string
		switch v.Name {
		case "":
			continue
		case a.Call:
			own = r.base.CallID
			if r.call != nil {
				own = r.call.id
			}
		case a.Session:
			own = r.base.SessionID
			if r.session != nil && own == "" {
				own = r.session.id
			}
		case a.Conversation:
			own = r.base.ConversationID
			if r.session != nil && own == "" {
				own = r.session.conversation
			}
		default:
			continue
		}
		if v.Value == own || v.Value == "" {
			continue
		}
		if own == "" && v.Name != a.Call {
			continue // it says more than the root did, and nothing else is known
		}
		t.conflict(r, f, v)
		return true
	}
	// An agent that a tool started gives ids of its own to what it starts: that is no contradiction, unless the call
	// is another agent's here.
	claimed := f.Process.Agent
	if claimed == nil || claimed.CallID == "" || claimed.Name == r.base.Name || !r.place.knows(claimed.CallID) {
		return false
	}
	t.conflict(r, f, event.EnvVar{Name: "call", Value: claimed.CallID})
	return true
}

// contradictedInside is contradicted where another agent runs in the call, which gives ids of its own to what it starts:
// only those of somebody else's call contradict.
func (t *Tracker) contradictedInside(r *root, h *host, f Fact) bool {
	claimed := f.Process.Agent
	if nr := t.roots[f.Process.UID]; nr != nil && nr.outer != nil {
		claimed = nr.base
	}
	if claimed == nil || claimed.CallID == "" || r.call != nil && claimed.CallID == r.call.id {
		return false
	}
	if !r.place.others(h, claimed.CallID) {
		return false
	}
	t.conflict(r, f, event.EnvVar{Name: "call", Value: claimed.CallID})
	return true
}

// others says whether a call is one of another agent's than a host's.
func (p *place) others(h *host, call string) bool {
	if call == "" {
		return false
	}
	for _, s := range p.byID {
		if s.host != nil && s.host != h && s.byCall[call] != nil {
			return true
		}
	}
	return false
}

// knows says whether a call is one of a session whose agent is known.
func (p *place) knows(call string) bool {
	for _, s := range p.byID {
		if s.host != nil && s.byCall[call] != nil {
			return true
		}
	}
	return false
}

// conflict tells, once for each, that a process names another call or session than the one it belongs to.
func (t *Tracker) conflict(r *root, f Fact, v event.EnvVar) {
	if r.lowered == nil {
		r.lowered = r.lower()
	}
	if r.others == nil {
		r.others = map[string]bool{}
	}
	if r.others[v.Value] || len(r.others) >= maxTold {
		return
	}
	r.others[clone(cutID(v.Value))] = true
	m := t.mismatch(r.session, event.MismatchCallConflict)
	m.Claimed, m.Fact = v.Name+"="+cutID(v.Value), "it is a process of "+r.name()
	m.Method, m.Confidence = agent.MethodInherited, r.confidence
	if r.call != nil {
		m.CallID, m.Tool = r.call.id, r.call.tool
		m.Fact = "it is a process of call " + r.call.id
	}
	m.Roots = []event.ProcessID{r.uid, f.Process.UID}
	p := *f.Process
	p.Agent = r.lowered
	t.emit(&event.Event{Time: f.Time, Sandbox: r.place.sandbox, Process: &p, Payload: m})
}

// of is what a process of the root works for.
func (r *root) of(p *event.Process) *event.Agent {
	switch {
	case p.Agent == r.agent, p.Agent == r.inherited, r.lowered != nil && p.Agent == r.lowered:
		return p.Agent
	case p.UID == r.uid, r.names(p.Agent):
		return r.agent
	case p.Agent != nil && p.Agent.Confidence == agent.ConfidenceInferred && r.confidence != agent.ConfidenceInferred:
		if r.lowered == nil {
			r.lowered = r.lower()
		}
		return r.lowered
	}
	return r.inherited
}

// confined says whether a program runs under restrictions that the agent itself does not have.
func (r *root) confined(exec *event.ProcessExec) confinement {
	if exec.Privileges == nil || r.host == nil || r.host.privileges == nil {
		return confinementUnknown
	}
	own, agents := exec.Privileges, r.host.privileges
	if own.NoNewPrivs && !agents.NoNewPrivs || own.SeccompFilters > agents.SeccompFilters ||
		own.Namespaces.Mount != agents.Namespaces.Mount || own.Namespaces.User != agents.Namespaces.User {
		return confinementSome
	}
	return confinementNone
}

// names says whether a process's own environment names the call that the root's does.
func (r *root) names(a *event.Agent) bool {
	return a != nil && a.Method == agent.MethodEnv && a.Method == r.method && a.CallID != "" && a.CallID == r.agent.CallID
}

func (r *root) lower() *event.Agent {
	low := *r.inherited
	low.Confidence = agent.ConfidenceInferred
	return &low
}

// appoint makes what the root and its descendants work for anew, from what is known now.
func (r *root) appoint() {
	a := *r.base
	a.Method, a.Confidence = r.method, r.confidence
	if s := r.session; s != nil && !s.made {
		if a.SessionID == "" && a.ConversationID == "" && a.CallID == "" && r.call == nil && r.host != nil {
			a.Method, a.Confidence = agent.MethodSession, agent.ConfidenceStrong
		}
		if a.SessionID == "" {
			a.SessionID = s.id
		}
		if a.ConversationID == "" {
			a.ConversationID = s.conversation
		}
	}
	a.MCPServer = r.server
	c := r.call
	if c == nil && len(r.serving) == 1 {
		c = r.serving[0]
		a.Method, a.Confidence = c.method, c.confidence
	}
	if c != nil {
		a.CallID, a.Tool, a.Approval = c.id, c.tool, c.approval()
		if c.turn != nil {
			a.Turn = c.turn.id
		}
		if !a.HasTrace() {
			a.TraceID, a.SpanID = c.trace, c.span
		}
	}
	if r.agent != nil && *r.agent == a {
		return
	}
	child := a
	if child.Method != "" {
		child.Method = agent.MethodInherited
	}
	r.agent, r.inherited = &a, &child
	if r.lowered != nil {
		r.lowered = r.lower()
	}
}

// forgetRoot makes room: the oldest process of the sandbox that has most goes, one that ended first.
func (t *Tracker) forgetRoot() bool {
	var most *place
	for _, p := range t.places {
		if most == nil || len(p.roots) > len(most.roots) {
			most = p
		}
	}
	if most == nil || len(most.roots) == 0 {
		return false
	}
	victim := max(0, slices.IndexFunc(most.roots, func(r *root) bool { return !r.exited.IsZero() }))
	t.dropRoot(most.roots[victim])
	most.roots = slices.Delete(most.roots, victim, victim+1)
	t.counts.roots++
	return true
}

func (t *Tracker) dropRoot(r *root) {
	delete(t.roots, r.uid)
	r.release()
	if r.host != nil {
		r.host.waiting = slices.DeleteFunc(r.host.waiting, func(o *root) bool { return o == r })
	}
	if c := r.call; c != nil {
		c.totals = c.sum()
		c.lost++
		c.roots = slices.DeleteFunc(c.roots, func(o *root) bool { return o == r })
	}
}

// release gives back what the texts of a root take of the sandbox's room.
func (r *root) release() {
	for _, c := range r.commands {
		r.place.bytes -= len(c.text)
	}
	for i := range r.objects {
		r.place.bytes -= len(r.objects[i].name)
	}
	for i := range r.programs {
		r.place.bytes -= len(r.programs[i].line)
	}
	r.commands, r.objects, r.programs, r.index, r.byUID = nil, nil, nil, nil, nil
}

// ageRoots judges the processes whose claim did not come in time.
func (t *Tracker) ageRoots(p *place, now time.Time) {
	kept := p.roots[:0]
	for _, r := range p.roots {
		// An agent that waits for the pipes of a command hears of its end when the last that has them ends.
		quiet := !r.exited.IsZero() && r.alive <= 0
		if quiet && !r.aged && now.Sub(r.latest) >= t.cfg.Watermark {
			r.aged = true
			t.judge(r, now)
		}
		// What belongs to no call is of no use once nobody will claim it any more.
		if r.aged && r.call == nil && r.server == "" && (!r.tool || now.Sub(r.latest) >= maxBatch) {
			t.dropRoot(r)
			continue
		}
		kept = append(kept, r)
	}
	clear(p.roots[len(kept):])
	p.roots = kept
}
