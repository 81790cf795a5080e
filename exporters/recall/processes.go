// SPDX-License-Identifier: Apache-2.0

package recall

import (
	"cmp"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// maxProcesses bounds the processes that are put together.
const maxProcesses = 65536

// Process is a process as its events tell it. Parent is not set: it is the one with the id ParentUID.
type Process struct {
	event.Process
	// Sandbox is the sandbox's id.
	Sandbox string
	// Exited is when it ended; zero where no event says so.
	Exited time.Time
}

// Processes gathers processes. Add the events of one stretch of time in the order in which they were made, then Earlier,
// then those of the stretch before: so that what is latest is known even where there is no time to read all.
type Processes struct {
	known map[event.ProcessID]*Process
	// stretch is those of this one.
	stretch map[event.ProcessID]*Process
	// Omitted is how many there was no room for.
	Omitted int
}

// NewProcesses begins with none.
func NewProcesses() *Processes {
	return &Processes{known: map[event.ProcessID]*Process{}, stretch: map[event.ProcessID]*Process{}}
}

// Add takes an event into account.
func (p *Processes) Add(r *exporters.Recorded) {
	id, err := strconv.ParseUint(str(r, event.ProcessUID), 16, 64)
	if err != nil || id == 0 || slices.Contains(Claims(), r.Kind) { // these say themselves what they are about
		return
	}
	uid := event.ProcessID(id)
	was := p.stretch[uid]
	if was == nil {
		if p.known[uid] == nil && len(p.known)+len(p.stretch) >= maxProcesses {
			p.Omitted++
			return
		}
		was = &Process{}
		p.stretch[uid] = was
	}
	args, exited := was.Args, was.Exited
	if r.Kind == event.KindProcessExec {
		v, _ := r.Attribute(event.ProcessCommandArgs)
		args = v.AsStrings()
	}
	if r.Kind == event.KindProcessExit {
		exited = r.Time
	}
	*was = Process{Process: processOf(r, uid), Sandbox: of(r, event.SandboxID), Exited: exited}
	was.Args = args
}

// Earlier begins an earlier stretch.
func (p *Processes) Earlier() {
	for uid, was := range p.stretch {
		later := p.known[uid]
		if later == nil {
			p.known[uid] = was
			continue
		}
		if later.Args == nil && later.Executable == was.Executable {
			later.Args = was.Args
		}
	}
	clear(p.stretch)
}

// Alive is those whose end no event tells, and those that they descend from, each after its parent where that is known.
func (p *Processes) Alive() []Process {
	p.Earlier()
	var list []Process
	added := map[event.ProcessID]bool{}
	for _, was := range p.known {
		if !was.Exited.IsZero() {
			continue
		}
		var line []*Process // upwards; as long as none is met twice, so that it ends
		for q := was; q != nil && !added[q.UID]; q = p.known[q.ParentUID] {
			added[q.UID] = true
			line = append(line, q)
		}
		for _, q := range slices.Backward(line) {
			list = append(list, *q)
		}
	}
	return list
}

// processOf is what an event tells of its process.
func processOf(r *exporters.Recorded, uid event.ProcessID) event.Process {
	id := func(key event.Key) event.ProcessID {
		n, err := strconv.ParseUint(str(r, key), 16, 64)
		if err != nil {
			return 0
		}
		return event.ProcessID(n)
	}
	p := event.Process{
		UID: uid, ParentUID: id(event.ProcessParentUID), RootUID: cmp.Or(id(event.ProcessRootUID), uid),
		PID: uint32(num(r, event.ProcessPID)), ParentPID: uint32(num(r, event.ProcessParentPID)), VPID: uint32(num(r, event.ProcessVPID)),
		UserID: uint32(num(r, event.ProcessUserID)), GroupID: uint32(num(r, event.ProcessGroupID)),
		Executable: str(r, event.ProcessExecutablePath), Name: str(r, event.ProcessExecutableName), Cgroup: str(r, event.ProcessLinuxCgroup),
	}
	if at, err := time.Parse(time.RFC3339Nano, str(r, event.ProcessCreationTime)); err == nil {
		p.Start = at
	}
	p.Agent = agentOf(r)
	return p
}

// agentOf is what a process works for, as an event tells it; nil when it tells nothing.
func agentOf(r *exporters.Recorded) *event.Agent {
	a := &event.Agent{
		Name: str(r, event.GenAIAgentName), SessionID: str(r, event.SessionID), ConversationID: str(r, event.GenAIConversationID),
		Turn: str(r, event.TurnID), CallID: str(r, event.GenAIToolCallID), Tool: str(r, event.GenAIToolName),
		Approval: str(r, event.ApprovalID), MCPServer: str(r, event.MCPServerName),
		Method: str(r, event.JoinMethod), Confidence: str(r, event.JoinConfidence),
	}
	if a.Name == "" || a.Method == "" {
		return nil
	}
	if len(r.TraceID) == hex.EncodedLen(len(a.TraceID)) && len(r.SpanID) == hex.EncodedLen(len(a.SpanID)) {
		// Of what the journal keeps; what is no number leaves no trace.
		_, err := hex.Decode(a.TraceID[:], []byte(r.TraceID))
		_, errSpan := hex.Decode(a.SpanID[:], []byte(r.SpanID))
		if err != nil || errSpan != nil {
			a.TraceID, a.SpanID = [16]byte{}, [8]byte{}
		}
	}
	return a
}
