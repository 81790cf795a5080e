// SPDX-License-Identifier: Apache-2.0

package session

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
)

// The slack of a claimed time against the kernel's: agents prepare before they start, and look at the clock after.
const (
	slackStart = 150 * time.Millisecond
	slackEnd   = 50 * time.Millisecond
	// maxBatch is how long before its claimed beginning a process may have started: Gemini CLI stamps all calls of
	// a batch at the end of the longest.
	maxBatch = 10 * time.Minute
	// maxApprovals bounds the approvals of one call, maxCallRoots its processes.
	maxApprovals, maxCallRoots = 8, 64
	// maxPaths bounds the files that a call is said to name.
	maxPaths = 4
)

// call is one tool call.
type call struct {
	subAgent string
	session  *session
	turn     *turn
	// id is the agent's, or made up where it gives none.
	id      string
	made    bool
	doubt   bool // another call may be of the same process
	idDoubt bool // its id may be another call's of the same command
	partial bool // its command is what was approved, which can be a part of it
	patient bool // its process was waited for
	// starts and ends is by which channels they were told.
	starts, ends map[event.Channel]bool
	judgedKinds  map[event.Mismatch]bool
	tool, mcp    string
	command      command
	line         string // the command as the agent said it
	directory    string
	trace        [16]byte
	span         [8]byte
	opened       time.Time // when it was first heard of
	start, end   time.Time // as the agent claims
	derived      bool      // start is computed
	announced    bool      // its start was claimed by itself, before its end
	hook         bool      // by a hook
	finished     bool      // its end was claimed
	running      bool      // the process goes on after the result
	claimed      bool
	denied       time.Time
	outcome      event.Outcome
	exit         int
	hasExit      bool
	failure      string
	sandbox      string
	shell        string // the agent's id of a shell that outlives the call
	group        uint32 // as the agent says, in its pid namespace
	paths        []string
	approvals    []event.ApprovalView
	decisions    []event.DecisionView
	roots        []*root
	files        []object // of the agent's own process, for tools that start none
	method       string
	confidence   string
	totals       event.ToolTotals // of roots that are forgotten
	lost         int
	dirty        bool // something is to be published
	joined       bool // it was published with its processes
	stale        bool // findings in it are to be told anew
	judged       bool
	published    int
	interactive  bool // it writes to the shell of another call
}

// link is how a join is known, and how sure it is.
type link struct{ method, confidence string }

func (t *Tracker) newCall(s *session, id string, at time.Time) *call {
	if len(s.calls) >= t.cfg.MaxCalls {
		t.forgetCall(s)
	}
	s.callCount++
	c := &call{
		session: s, id: clone(cutID(id)), opened: at, turn: t.turn(s, "", at),
		starts: map[event.Channel]bool{}, ends: map[event.Channel]bool{}, judgedKinds: map[event.Mismatch]bool{},
	}
	if c.id == "" {
		c.made = true
		c.id = "watchglass:" + strconv.Itoa(s.callCount)
	}
	s.calls = append(s.calls, c)
	s.byCall[c.id] = c
	return c
}

func (t *Tracker) forgetCall(s *session) {
	victim := s.calls[0]
	s.calls = slices.Delete(s.calls, 0, 1)
	delete(s.byCall, victim.id)
	if s.bySpan[victim.span] == victim {
		delete(s.bySpan, victim.span)
	}
	for _, r := range victim.roots {
		r.call = nil
	}
	t.counts.calls++
}

// called takes what an agent says of a call.
func (t *Tracker) called(s *session, said *event.ToolCall, at time.Time) {
	part := toldStart
	if said.Phase == event.PhaseEnd {
		part = toldEnd
	}
	c := t.callSaid(s, said, part, at)
	t.adopt(c, said)
	c.claimed = true
	keep := func(field *string, text string, limit int) {
		if *field == "" {
			*field = t.keep(s.place, text, limit)
		}
	}
	if said.ProcessGroup != 0 {
		c.group = said.ProcessGroup
	}
	keep(&c.subAgent, said.SubAgent, maxName)
	keep(&c.tool, said.Name, maxName)
	keep(&c.mcp, said.MCPServer, maxName)
	keep(&c.directory, said.WorkingDirectory, maxPath)
	keep(&c.line, said.Command, maxCommand)
	if said.Command != "" && (c.command.text == "" || c.partial) {
		if c.partial {
			c.line = t.keep(s.place, said.Command, maxCommand)
		}
		c.command, c.partial = saidCommand(said.Command), false
	}
	if len(c.paths) == 0 {
		for _, path := range said.Paths[:min(len(said.Paths), maxPaths)] {
			if path = t.keep(s.place, path, maxPath); path != "" {
				c.paths = append(c.paths, path)
			}
		}
	}
	if said.Turn != "" {
		c.turn = t.turn(s, said.Turn, at)
	}
	t.identify(s, c, &said.Claim)
	t.times(c, said, at)
	if said.Phase == event.PhaseEnd {
		t.ended(c, said, at)
	}
	t.shell(s, c, said)
	c.dirty = true
	for _, r := range c.roots {
		r.appoint()
	}
	if c.method == "" {
		t.find(c, true)
	}
}

// adopt takes what an agent says as said of a call that the kernel alone told of. Which of several with the same command
// the agent speaks of is not known.
func (t *Tracker) adopt(c *call, said *event.ToolCall) {
	if c.claimed || c.method != agent.MethodShell {
		return
	}
	c.method = agent.MethodCommand
	if said.Command == "" {
		c.method = agent.MethodCandidate // its time alone speaks for it
	}
	for _, other := range c.session.calls {
		if other != c && other.command.same(c.command) {
			c.confidence, c.doubt = agent.ConfidenceInferred, true
		}
	}
	for _, r := range c.roots {
		r.method, r.confidence = c.method, c.confidence
	}
}

// identify notes the span of a call, and joins processes whose environment names it.
func (t *Tracker) identify(s *session, c *call, said *event.Claim) {
	if said.Channel != event.ChannelSpan || said.SpanID == [8]byte{} {
		return
	}
	if c.span == [8]byte{} {
		c.trace, c.span = said.TraceID, said.SpanID
	}
	if s.bySpan[said.SpanID] == nil && len(s.bySpan) < 2*t.cfg.MaxCalls {
		s.bySpan[said.SpanID] = c
	}
	if s.host == nil {
		return
	}
	for _, r := range slices.Clone(s.host.waiting) {
		if r.span == said.SpanID && r.base.TraceID == said.TraceID {
			t.attach(c, r, link{agent.MethodEnv, r.sure()})
		}
	}
}

func (t *Tracker) times(c *call, said *event.ToolCall, at time.Time) {
	switch said.Phase {
	case event.PhaseStart:
		if c.start.IsZero() || c.derived {
			c.start, c.derived = at, false
		}
		c.announced = c.announced || !c.finished
		c.starts[said.Channel] = true
		c.hook = c.hook || said.Channel == event.ChannelHook
	case event.PhaseEnd:
		if c.end.IsZero() || said.Channel == event.ChannelSpan {
			c.end = at
		}
		if c.start.IsZero() {
			c.start, c.derived = at.Add(-said.Duration), true
		}
	case event.PhaseJoined: // our own word
	}
}

func (t *Tracker) ended(c *call, said *event.ToolCall, at time.Time) {
	if c.finished && c.running && !said.Running && said.HasExit {
		c.running, c.end = false, at // of a process that went on after the call's first result
	} else {
		c.running = c.running || said.Running
	}
	c.finished, c.judged = true, false
	c.served()
	c.ends[said.Channel] = true
	if said.Outcome != event.OutcomeUnknown {
		c.outcome = said.Outcome
	}
	if said.HasExit {
		c.exit, c.hasExit = said.ClaimedExit, true
	}
	if c.failure == "" {
		c.failure = t.keep(c.session.place, said.Error, maxName)
	}
}

// saidCommand makes a command of an agent's words.
func saidCommand(line string) command { return said(line) }

// callSaid is the call that an agent speaks of, a new one where it is not known. Agents that give no id in one
// channel and one in another are understood by the tool, its command and the time.
func (t *Tracker) callSaid(s *session, said *event.ToolCall, part told, at time.Time) *call {
	if said.ID != "" {
		if c := s.byCall[cutID(said.ID)]; c != nil {
			return c
		}
	}
	if c, sure := t.unnamed(s, said, part, at); c != nil {
		if c.made && said.ID != "" {
			if !sure {
				t.doubtIDs(s, c)
			}
			delete(s.byCall, c.id)
			c.id, c.made = clone(cutID(said.ID)), false
			s.byCall[c.id] = c
			c.suspect()
		}
		return c
	}
	return t.newCall(s, said.ID, at)
}

// doubtIDs puts the ids in doubt of a call, and of those from which it was chosen: what is left over from a guess is one.
func (t *Tracker) doubtIDs(s *session, c *call) {
	for _, other := range s.calls {
		if other.made && other.tool == c.tool && (other.command.text == "" || other.command.same(c.command)) {
			other.idDoubt = true
		}
	}
	c.idDoubt = true
}

// suspect lowers how sure the joins of a call are whose id may be another's.
func (c *call) suspect() {
	if !c.idDoubt || c.method == "" || c.method == agent.MethodEnv {
		return
	}
	c.confidence = agent.ConfidenceInferred
	for _, r := range c.roots {
		if r.call == c && r.method != agent.MethodEnv {
			r.confidence = agent.ConfidenceInferred
		}
	}
}

// told is which part of a call an agent tells of.
type told uint8

const (
	toldStart told = iota
	toldEnd
	toldDecision
)

// unnamed is a call that is the same as one that an agent speaks of, although one of the two has no id, or both: of
// those that can be, the one whose process group it is, or else the one that is nearest in time. It is sure when no other
// is about as near.
func (t *Tracker) unnamed(s *session, said *event.ToolCall, part told, at time.Time) (best *call, sure bool) {
	line := saidCommand(said.Command)
	var nearest, next time.Duration
	others := false
	for _, c := range slices.Backward(s.calls) {
		if at.Sub(c.opened) > maxBatch {
			break
		}
		if c.tool != "" && said.Name != "" && c.tool != said.Name {
			continue
		}
		if line.text != "" && c.command.text != "" && !line.same(c.command) {
			continue
		}
		if !c.lacks(said, part, at) {
			continue
		}
		if said.ProcessGroup != 0 && c.group != 0 {
			if said.ProcessGroup == c.group {
				return c, true
			}
			continue
		}
		switch far := c.distance(said, at); {
		case best == nil:
			best, nearest = c, far
		case far < nearest:
			best, nearest, next, others = c, far, nearest, true
		case !others || far < next:
			next, others = far, true
		}
	}
	return best, !others || next-nearest >= sameTime
}

// sameTime is how much nearer in time one call must be than another for what an agent tells to be certainly of it.
const sameTime = time.Second

// distance is how far a call is from what an agent tells, in time.
func (c *call) distance(said *event.ToolCall, at time.Time) time.Duration {
	if c.finished {
		return c.end.Sub(at).Abs()
	}
	start := c.start
	if start.IsZero() {
		start = c.opened
	}
	return start.Sub(at.Add(-said.Duration)).Abs()
}

// lacks says whether what an agent tells can be of a call, and was not told of it by the same channel before.
func (c *call) lacks(said *event.ToolCall, part told, at time.Time) bool {
	named := said.ID != ""
	begun := !at.Before(c.start.Add(-slackStart)) // a batch may be told of late, and never early
	switch {
	case named && !c.made: // both have an id, and it is not the same
		return false
	case part == toldEnd && c.finished:
		return begun && !c.ends[said.Channel]
	case part == toldDecision && c.finished:
		return begun && len(c.approvals) == 0 && (named || within(c.end, at, time.Second))
	case part == toldStart && c.finished:
		// A span tells of the start together with the end.
		return named && said.Channel == event.ChannelSpan && !at.After(c.end)
	case part == toldStart:
		return !c.announced || !c.starts[said.Channel]
	}
	return true
}

// runsCommands says whether a call is of a tool that starts processes.
func (t *Tracker) runsCommands(c *call) bool {
	return c.command.text != "" || slices.Contains(t.adapters[c.session.agent].ShellTools, c.tool)
}

// approved takes a decision on a call.
func (t *Tracker) approved(s *session, said *event.Approval, at time.Time) {
	id := cmp.Or(said.CallID, said.ID)
	c := s.byCall[cutID(id)]
	if c == nil {
		c = t.callSaid(s, &event.ToolCall{Claim: said.Claim, Phase: event.PhaseStart, ID: id, Name: said.Tool, Command: said.Command}, toldDecision, at)
	}
	c.claimed = true
	if c.tool == "" {
		c.tool = t.keep(s.place, said.Tool, maxName)
	}
	if c.command.text == "" && said.Command != "" {
		c.command = saidCommand(said.Command)
		c.line = t.keep(s.place, said.Command, maxCommand)
		c.partial = id == "" // opencode asks for each part of a command, and says not of which call
	}
	if said.State == event.ApprovalDenied && c.denied.IsZero() {
		c.denied = at
	}
	if said.State == event.ApprovalGranted {
		c.denied = time.Time{}
	}
	if len(c.approvals) < maxApprovals {
		c.approvals = append(c.approvals, event.ApprovalView{
			ID: t.keep(s.place, cmp.Or(said.ID, said.CallID), maxID), State: said.State,
			Decider: t.keep(s.place, said.Decider, maxName), Scope: t.keep(s.place, said.Scope, maxName),
			Reason: t.keep(s.place, said.Reason, maxName), Time: at,
		})
	}
	c.dirty = true
	for _, r := range c.roots {
		r.appoint()
	}
}

// approval is the id of the last decision on a call; "" when there was none.
func (c *call) approval() string {
	for _, a := range slices.Backward(c.approvals) {
		if a.State != event.ApprovalRequested {
			return cmp.Or(a.ID, c.id)
		}
	}
	return ""
}

// decided takes a decision of a proxy, which belongs to the call of the process at the other end.
func (t *Tracker) decided(s *session, said *event.PolicyDecision, at time.Time) {
	view := event.DecisionView{
		Decision: said.Decision, Subject: t.keep(s.place, said.Subject, maxPath),
		Reason: t.keep(s.place, said.Reason, maxName), Time: at,
	}
	list := &s.decisions
	if r := t.connectedFrom(s, said, at); r != nil && r.call != nil {
		view.Method = agent.MethodProxy
		list = &r.call.decisions
		r.call.dirty = true
	}
	if len(*list) < maxTold {
		*list = append(*list, view)
	}
	t.ruled(s, said, at)
}

func (t *Tracker) sandboxed(s *session, said *event.SandboxOutcome, at time.Time) {
	c := s.byCall[cutID(said.CallID)]
	if c == nil {
		c = t.newCall(s, said.CallID, at)
	}
	c.claimed = true
	c.sandbox = t.keep(s.place, said.Outcome, maxName)
}

// shell notes a shell that outlives its call, and finds that of a call which writes to one.
func (t *Tracker) shell(s *session, c *call, said *event.ToolCall) {
	if said.Shell == "" {
		return
	}
	c.shell = clone(cutID(said.Shell))
	if c.interactive = said.Name == "write_stdin"; !c.interactive || c.method != "" {
		return
	}
	for _, other := range slices.Backward(s.calls) {
		if other != c && other.shell == c.shell && !other.interactive && len(other.roots) > 0 {
			c.roots = append(c.roots, other.roots[0])
			c.method, c.confidence = agent.MethodInterval, agent.ConfidenceStrong
			return
		}
	}
}

// sum is what the processes of a call did.
func (c *call) sum() event.ToolTotals {
	sum := c.totals
	add := func(o event.ToolTotals) {
		sum.Processes += o.Processes
		sum.FilesRead += o.FilesRead
		sum.FilesWritten += o.FilesWritten
		sum.Connections += o.Connections
		sum.BytesSent += o.BytesSent
		sum.BytesReceived += o.BytesReceived
	}
	for _, r := range c.roots {
		if c.interactive {
			add(r.between(c.start, c.end))
			continue
		}
		add(r.totals)
	}
	for i := range c.files {
		if c.files[i].kind == fileWritten {
			sum.FilesWritten++
		} else {
			sum.FilesRead++
		}
	}
	return sum
}

// between is what a root's processes began to do in an interval, as far as it is remembered.
func (r *root) between(start, end time.Time) event.ToolTotals {
	start, end = start.Add(-slackStart), end.Add(slackEnd)
	in := func(at time.Time) bool { return !at.Before(start) && !at.After(end) }
	var sum event.ToolTotals
	for i := range r.programs {
		if in(r.programs[i].started) {
			sum.Processes++
		}
	}
	for i := range r.objects {
		o := &r.objects[i]
		if !in(o.first) && !in(o.last) {
			continue
		}
		switch o.kind {
		case fileRead:
			sum.FilesRead++
		case fileWritten:
			sum.FilesWritten++
		case connection:
			sum.Connections++
		}
	}
	return sum
}

// label is a call in a few words.
func (c *call) label() string {
	parts := []string{c.tool}
	if c.line != "" {
		parts = append(parts, c.line)
	}
	return strings.TrimSpace(strings.Join(parts, " "))
}
