// SPDX-License-Identifier: Apache-2.0

// Package recall puts agents' sessions together from events that were kept, as the daemon shows those that it
// has in memory.
//
// It owns what is taken from which attribute, and the bounds of that. It must not join anything itself: which
// call a process worked for was decided when its events were made, and is told by them.
package recall

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// Bounds of what is put together. What is beyond is left out, and counted in what is shown where there is a place.
const (
	maxSessions = 10000
	maxCalls    = 10000
	maxRoots    = 50000
	maxPrograms = 128
	maxObjects  = 128
	// mostTurns bounds the turns of one session.
	mostTurns = 10000
)

// Claims is the kinds of events that sessions consist of, Facts those that tell what their processes did.
func Claims() []event.Kind {
	return []event.Kind{
		event.KindSessionStart, event.KindSessionEnd, event.KindPrompt, event.KindModelRequest, event.KindToolCall,
		event.KindApproval, event.KindPolicyDecision, event.KindSandboxOutcome, event.KindAgentError,
	}
}

// Facts is the kinds of events that tell what processes did.
func Facts() []event.Kind {
	return []event.Kind{
		event.KindProcessExec, event.KindProcessExit, event.KindFileOpen, event.KindNetworkConnect, event.KindNetworkFlow,
	}
}

// Sessions gathers. Add events in the order in which they were made: all that are Claims, then Facts.
type Sessions struct {
	list []*session
	by   map[key]*session
	// roots is what the processes below one that an agent started did.
	roots map[key]*root
	// Omitted is how many sessions and calls there was no room for.
	Omitted int
}

// key is an id within a sandbox: agents of several can claim the same.
type key struct{ sandbox, id string }

type session struct {
	view  event.SessionView
	turns []*turn
	calls map[string]*call
	order []*call
	// loose is approvals that name no call.
	loose []approval
}

type turn struct{ view event.TurnView }

type approval struct {
	event.ApprovalView
	tool, command string
}

type call struct {
	turn  *turn
	view  event.CallView
	roots []string
}

type root struct {
	programs []event.ProgramView
	objects  []object
	omitted  int
}

type object struct {
	event.ObjectView
	peer bool
}

// New begins with nothing.
func New() *Sessions {
	return &Sessions{by: map[key]*session{}, roots: map[key]*root{}}
}

// Add takes an event into account.
func (s *Sessions) Add(r *exporters.Recorded) {
	if slices.Contains(Facts(), r.Kind) {
		s.fact(r)
		return
	}
	if sender := str(r, event.ClaimSender); sender != "" && sender != string(event.SenderOwner) {
		return // it was believed in nothing
	}
	if about := s.about(r); about != nil {
		about.claim(r, s)
	}
}

// about is the session that a claim is about, nil when it names none or there is no room for it.
func (s *Sessions) about(r *exporters.Recorded) *session {
	id, conversation, sandbox := str(r, event.SessionID), str(r, event.GenAIConversationID), of(r, event.SandboxID)
	var known *session
	for _, name := range []string{id, conversation} {
		if name != "" && known == nil {
			known = s.by[key{sandbox, name}]
		}
	}
	if known == nil {
		if id == "" && conversation == "" {
			return nil
		}
		if len(s.list) >= maxSessions {
			s.Omitted++
			return nil
		}
		known = &session{calls: map[string]*call{}}
		known.view = event.SessionView{
			ID: cmp.Or(id, conversation), Agent: str(r, event.GenAIAgentName), Sandbox: sandbox,
			SandboxName: of(r, event.SandboxName), Started: r.Time,
		}
		s.list = append(s.list, known)
	}
	v := &known.view
	if id != "" && v.ID == v.Conversation {
		v.ID = id
	}
	v.Conversation = cmp.Or(v.Conversation, conversation)
	v.Version = cmp.Or(v.Version, str(r, event.GenAIAgentVersion))
	v.Parent = cmp.Or(v.Parent, str(r, event.ParentSessionID))
	for _, name := range []string{id, conversation} {
		if name != "" {
			s.by[key{sandbox, name}] = known
		}
	}
	if r.Time.Before(v.Started) {
		v.Started = r.Time
	}
	if str(r, event.ClaimChannel) != string(event.ChannelFacts) {
		v.Claimed = true
	}
	return known
}

// claim takes what is told of a session into account.
func (x *session) claim(r *exporters.Recorded, s *Sessions) {
	v := &x.view
	switch r.Kind {
	case event.KindSessionStart:
		v.Provider = cmp.Or(str(r, event.GenAIProviderName), v.Provider)
		v.Model = cmp.Or(str(r, event.GenAIRequestModel), v.Model)
		v.ApprovalMode = cmp.Or(str(r, event.ApprovalMode), v.ApprovalMode)
		v.SandboxClaimed = cmp.Or(str(r, event.SandboxClaimed), v.SandboxClaimed)
		v.Ended, v.EndReason = time.Time{}, "" // agents resume
	case event.KindSessionEnd:
		v.Ended, v.EndReason = r.Time, str(r, event.SessionEndReason)
		v.ProcessCount = max(v.ProcessCount, num(r, event.SessionProcesses))
		v.TurnCount, v.CallCount = max(v.TurnCount, num(r, event.SessionTurns)), max(v.CallCount, num(r, event.SessionToolCalls))
	case event.KindPrompt:
		u := x.prompted(r)
		u.view.Prompt = cmp.Or(u.view.Prompt, str(r, event.GenAIInputMessages))
		u.view.PromptLength = max(u.view.PromptLength, num(r, event.PromptLength))
	case event.KindModelRequest:
		u := x.turn(str(r, event.TurnID), r.Time)
		u.view.Requests++
		u.view.InputTokens += int64(num(r, event.GenAIInputTokens))
		u.view.OutputTokens += int64(num(r, event.GenAIOutputTokens))
		if cost, ok := r.Attribute(event.AgentCost); ok {
			u.view.CostUSD += cost.AsDouble()
		}
		v.Model = cmp.Or(v.Model, str(r, event.GenAIRequestModel))
	case event.KindToolCall:
		if c := x.call(r, s); c != nil {
			if id := str(r, event.TurnID); id != "" && event.Phase(str(r, event.ToolPhase)) != event.PhaseJoined {
				c.turn = x.turn(id, r.Time)
			}
			c.told(r)
		}
	case event.KindApproval:
		a := event.ApprovalView{
			ID: str(r, event.ApprovalID), State: event.ApprovalState(str(r, event.ApprovalStateKey)),
			Decider: str(r, event.ApprovalSource), Scope: str(r, event.ApprovalScope), Reason: str(r, event.ApprovalReason), Time: r.Time,
		}
		if str(r, event.GenAIToolCallID) == "" {
			if len(x.loose) < maxCalls {
				x.loose = append(x.loose, approval{a, str(r, event.GenAIToolName), str(r, event.ToolCommand)})
			}
		} else if c := x.call(r, s); c != nil && len(c.view.Approvals) < maxObjects {
			c.view.Approvals = append(c.view.Approvals, a)
		}
	case event.KindSandboxOutcome:
		if c := x.call(r, s); c != nil {
			c.view.Sandbox = str(r, event.SandboxOutcomeKey)
		}
	case event.KindPolicyDecision:
		d := event.DecisionView{
			Decision: event.Decision(str(r, event.PolicyDecisionKey)), Subject: str(r, event.PolicySubject),
			Reason: str(r, event.PolicyReason), Time: r.Time,
		}
		if c := x.calls[str(r, event.GenAIToolCallID)]; c != nil && len(c.view.Decisions) < maxObjects {
			c.view.Decisions = append(c.view.Decisions, d)
		} else if len(v.Decisions) < maxObjects {
			v.Decisions = append(v.Decisions, d)
		}
	case event.KindAgentError:
		v.Errors++
	default: // facts, and what is about no session alone
	}
}

// sameTurn is how far two accounts of the beginning of one turn may be apart.
const sameTurn = 3 * time.Second

func within(a, b time.Time) bool { return b.Sub(a) <= sameTurn && a.Sub(b) <= sameTurn }

// prompted is the turn that a prompt begins, or of which it is a second account.
func (x *session) prompted(r *exporters.Recorded) *turn {
	id := str(r, event.TurnID)
	if n := len(x.turns); n > 0 {
		last := &x.turns[n-1].view
		if id != "" && last.ID == id || (id == "" || last.ID == "") && within(last.Started, r.Time) &&
			(last.PromptLength == 0 || last.PromptLength == num(r, event.PromptLength)) {
			last.ID = cmp.Or(last.ID, id)
			return x.turns[n-1]
		}
	}
	return x.begin(id, r.Time)
}

func (x *session) begin(id string, at time.Time) *turn {
	u := &turn{view: event.TurnView{ID: id, Started: at}}
	x.view.TurnCount++
	if len(x.turns) < mostTurns {
		x.turns = append(x.turns, u)
	}
	return u
}

// turn is the turn that a claim is of: the one that it names, or the present one.
func (x *session) turn(id string, at time.Time) *turn {
	if n := len(x.turns); n > 0 && id == "" {
		return x.turns[n-1]
	}
	for _, u := range slices.Backward(x.turns) {
		if u.view.ID == id {
			return u
		}
		if u.view.ID == "" && within(u.view.Started, at) { // logs have no id where hooks have one
			u.view.ID = id
			return u
		}
	}
	return x.begin(id, at)
}

// call is the tool call that a claim is of; nil when there is no room for it.
func (x *session) call(r *exporters.Recorded, s *Sessions) *call {
	id := str(r, event.GenAIToolCallID)
	if c := x.calls[id]; c != nil && id != "" {
		return c
	}
	if id == "" {
		return x.guess(r)
	}
	if len(x.calls) >= maxCalls {
		s.Omitted++
		return nil
	}
	c := &call{turn: x.turn("", r.Time), view: event.CallView{
		ID: id, Tool: str(r, event.GenAIToolName), Command: str(r, event.ToolCommand),
	}}
	x.calls[id] = c
	x.order = append(x.order, c)
	x.view.CallCount = max(x.view.CallCount, len(x.calls))
	return c
}

// guess is the call that a claim without an id is likely of, as the daemon finds it: the last of the same tool and
// command line of which this was not told yet. nil when there is none: such a claim is left out.
func (x *session) guess(r *exporters.Recorded) *call {
	tool, command := str(r, event.GenAIToolName), str(r, event.ToolCommand)
	for _, c := range slices.Backward(x.order) {
		v := &c.view
		told := event.Phase(str(r, event.ToolPhase)) == event.PhaseEnd && v.Outcome != "" ||
			event.Phase(str(r, event.ToolPhase)) == event.PhaseStart && !v.Started.IsZero()
		if !told && v.Tool == tool && (v.Command == command || v.Command == "" || command == "") {
			return c
		}
	}
	return nil
}

// told takes an event of the call itself into account.
func (c *call) told(r *exporters.Recorded) {
	v := &c.view
	v.Tool = cmp.Or(v.Tool, str(r, event.GenAIToolName))
	v.MCPServer = cmp.Or(v.MCPServer, str(r, event.MCPServerName))
	v.Command = cmp.Or(v.Command, str(r, event.ToolCommand))
	v.Directory = cmp.Or(v.Directory, str(r, event.ToolWorkingDirectory))
	v.Error = cmp.Or(str(r, event.ErrorMessage), v.Error)
	if success, ok := r.Attribute(event.ToolSuccess); ok {
		v.Outcome = "failure"
		if success.AsBool() {
			v.Outcome = "success"
		}
	}
	if _, ok := r.Attribute(event.ToolClaimedExitCode); ok {
		code := num(r, event.ToolClaimedExitCode)
		v.ClaimedExit = &code
	}
	switch event.Phase(str(r, event.ToolPhase)) {
	case event.PhaseStart:
		v.Started = r.Time
	case event.PhaseEnd:
		v.Ended = r.Time
		if d, ok := r.Attribute(event.AgentDuration); ok && v.Started.IsZero() {
			v.Started = r.Time.Add(-time.Duration(d.AsDouble() * float64(time.Second)))
		}
	case event.PhaseJoined:
		v.Method, v.Confidence = str(r, event.JoinMethod), str(r, event.JoinConfidence)
		if _, ok := r.Attribute(event.ProcessExitCode); ok {
			code := num(r, event.ProcessExitCode)
			v.ExitCode = &code
		}
		v.Totals = event.TotalsView{
			Processes: num(r, event.ToolProcesses), FilesRead: num(r, event.ToolFilesRead), FilesWritten: num(r, event.ToolFilesWritten),
			Connections: num(r, event.ToolConnections), BytesSent: uint64(num(r, event.NetworkBytesSent)),
			BytesReceived: uint64(num(r, event.NetworkBytesReceived)),
		}
		roots, _ := r.Attribute(event.ToolRoots)
		for _, uid := range roots.AsStrings() {
			if !slices.Contains(c.roots, uid) && len(c.roots) < maxPrograms {
				c.roots = append(c.roots, uid)
			}
		}
	}
}

// Views is the sessions, the first that began first, with their turns.
func (s *Sessions) Views() []event.SessionView {
	views := make([]event.SessionView, 0, len(s.list))
	for _, x := range s.list {
		x.attach()
		v := x.view
		for _, u := range x.turns {
			shown := u.view
			for _, c := range x.order {
				if c.turn == u {
					shown.Calls = append(shown.Calls, s.shown(c, v.Sandbox))
				}
			}
			v.Turns = append(v.Turns, shown)
		}
		views = append(views, v)
	}
	slices.SortStableFunc(views, func(a, b event.SessionView) int { return a.Started.Compare(b.Started) })
	return views
}

// approvalTime is how far an approval and the call that it is of may be apart.
const approvalTime = time.Minute

// attach gives approvals that name no call to the call of the same tool and command line that has none and is
// nearest in time. One that fits no call is left out.
func (x *session) attach() {
	for _, a := range x.loose {
		var nearest *call
		best := approvalTime
		for _, c := range x.order {
			v := &c.view
			if len(v.Approvals) > 0 || a.tool != v.Tool || a.command != v.Command {
				continue
			}
			apart := cmp.Or(v.Started, v.Ended, x.view.Started).Sub(a.Time).Abs()
			if apart <= best {
				nearest, best = c, apart
			}
		}
		if nearest != nil {
			nearest.view.Approvals = append(nearest.view.Approvals, a.ApprovalView)
		}
	}
	x.loose = nil
}

// shown is a call with what its processes did.
func (s *Sessions) shown(c *call, sandbox string) event.CallView {
	v := c.view
	for _, uid := range c.roots {
		r := s.roots[key{sandbox, uid}]
		if r == nil {
			continue
		}
		v.Omitted += r.omitted
		v.Processes = append(v.Processes, r.programs...)
		for i := range r.objects {
			if r.objects[i].peer {
				v.Peers = append(v.Peers, r.objects[i].ObjectView)
			} else {
				v.Files = append(v.Files, r.objects[i].ObjectView)
			}
		}
	}
	return v
}

// fact takes into account what a process did.
func (s *Sessions) fact(r *exporters.Recorded) {
	uid := str(r, event.ProcessRootUID)
	if uid == "" {
		return
	}
	at := key{of(r, event.SandboxID), uid}
	x := s.roots[at]
	if x == nil {
		if len(s.roots) >= maxRoots {
			s.Omitted++
			return
		}
		x = &root{}
		s.roots[at] = x
	}
	switch r.Kind {
	case event.KindProcessExec:
		x.exec(r)
	case event.KindProcessExit:
		x.exit(r)
	case event.KindFileOpen:
		access, _ := r.Attribute(event.FileAccess)
		write := slices.ContainsFunc(access.AsStrings(), func(s string) bool { return s != "read" && s != "exec" })
		if failed := str(r, event.ErrorType) != ""; !failed || str(r, event.ErrorType) != "ENOENT" {
			x.object(object{ObjectView: event.ObjectView{Name: str(r, event.FilePath), Write: write, First: r.Time}}, failed)
		}
	case event.KindNetworkConnect, event.KindNetworkFlow:
		o := object{peer: true, ObjectView: event.ObjectView{
			Name: str(r, event.NetworkTransport) + " " + net.JoinHostPort(str(r, event.NetworkPeerAddress), strconv.Itoa(num(r, event.NetworkPeerPort))),
			Host: str(r, event.ServerAddress), First: r.Time,
		}}
		o.Sent, o.Received = uint64(num(r, event.NetworkBytesSent)), uint64(num(r, event.NetworkBytesReceived))
		x.object(o, str(r, event.ErrorType) != "")
	default:
	}
}

func (x *root) exec(r *exporters.Recorded) {
	args, _ := r.Attribute(event.ProcessCommandArgs)
	line, uid := cut(strings.Join(args.AsStrings(), " ")), str(r, event.ProcessUID)
	for i := range x.programs {
		if x.programs[i].UID == uid {
			x.programs[i].Command = line
			return
		}
	}
	if len(x.programs) >= maxPrograms {
		x.omitted++
		return
	}
	x.programs = append(x.programs, event.ProgramView{
		UID: uid, ParentUID: str(r, event.ProcessParentUID), PID: uint32(num(r, event.ProcessPID)), Command: line, Started: r.Time,
	})
}

func (x *root) exit(r *exporters.Recorded) {
	uid := str(r, event.ProcessUID)
	for i := range x.programs {
		if p := &x.programs[i]; p.UID == uid {
			p.Ended, p.ExitCode, p.Signal = r.Time, num(r, event.ProcessExitCode), str(r, event.ExitSignal)
		}
	}
}

func (x *root) object(o object, failed bool) {
	at := slices.IndexFunc(x.objects, func(other object) bool {
		return other.Name == o.Name && other.Write == o.Write && other.peer == o.peer
	})
	if at < 0 {
		if len(x.objects) >= maxObjects {
			x.omitted++
			return
		}
		at = len(x.objects)
		x.objects = append(x.objects, o)
		x.objects[at].Sent, x.objects[at].Received = 0, 0
	}
	known := &x.objects[at]
	if o.Sent+o.Received == 0 || known.Count == 0 { // the end of a connection is no other one
		known.Count++
	}
	if failed {
		known.Failed++
	}
	known.Host = cmp.Or(known.Host, o.Host)
	known.Sent += o.Sent
	known.Received += o.Received
}

// maxCommand is the most bytes of a command line.
const maxCommand = 512

func cut(line string) string {
	if len(line) <= maxCommand {
		return line
	}
	return strings.ToValidUTF8(line[:maxCommand], "") + "…"
}

func str(r *exporters.Recorded, k event.Key) string {
	v, _ := r.Attribute(k)
	return v.AsString()
}

func of(r *exporters.Recorded, k event.Key) string {
	v, _ := r.Of(k)
	return v.AsString()
}

func num(r *exporters.Recorded, k event.Key) int {
	v, _ := r.Attribute(k)
	return int(v.AsInt())
}
