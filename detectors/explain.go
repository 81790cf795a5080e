// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/watchglass/watchglass/event"
)

// The limits of what a finding tells in words; what is longer is cut and ends in "…".
const (
	longestCommand = 512
	longestPath    = 4096
	longestChain   = 8
)

// repeats is the memory of one finding: enough to update it.
type repeats struct {
	id       string
	count    int
	reported time.Time
}

// quietFor is after how long the same deserves a report again, however seldom it happens.
const quietFor = 10 * time.Minute

// seen counts one more of the same and says whether that deserves a report: the first does, then each
// doubling, so that a loop of a million reads makes twenty reports and not a million, and then what
// comes again after a while.
func (r *repeats) seen(rule *event.Rule, e *event.Event) bool {
	if r.id == "" {
		r.id = rule.ID + "-" + e.UID()
	}
	r.count++
	if r.count&(r.count-1) != 0 && e.Time.Sub(r.reported) < quietFor {
		return false
	}
	r.reported = e.Time
	return true
}

// state is new for the first report and update for the later ones.
func (r *repeats) state() event.FindingState {
	if r.count > 1 {
		return event.FindingUpdate
	}
	return event.FindingNew
}

// turn is what findings are grouped by inside a sandbox: the agent's tool call where it is known, else
// its session. A process is no group: a shell loop would make each of its rounds a finding.
func turn(p *event.Process) (session, call string) {
	if p == nil || p.Agent == nil {
		return "", ""
	}
	if p.Agent.SessionID == "" {
		return p.Agent.ConversationID, p.Agent.CallID
	}
	return p.Agent.SessionID, p.Agent.CallID
}

// program is the name by which people know the process's program.
func program(p *event.Process) string {
	switch {
	case p == nil:
		return "an unknown process"
	case p.Name != "":
		return p.Name
	case p.Executable != "":
		return baseName(p.Executable)
	default:
		return "pid " + strconv.FormatUint(uint64(p.PID), 10)
	}
}

// explanation collects the sentences of a finding.
type explanation struct{ b strings.Builder }

// say adds one sentence.
func (x *explanation) say(parts ...string) *explanation {
	if x.b.Len() > 0 {
		x.b.WriteByte(' ')
	}
	for _, part := range parts {
		x.b.WriteString(part)
	}
	return x
}

// who adds the sentences that say which process it was, for which agent, session and tool call.
func (x *explanation) who(p *event.Process) *explanation {
	if p == nil {
		return x
	}
	x.say("Process ", chain(p), ", pid ", strconv.FormatUint(uint64(p.PID), 10), ", user ",
		strconv.FormatUint(uint64(p.UserID), 10), ".")
	if len(p.Args) > 0 {
		x.say("Command: ", command(p.Args), ".")
	}
	a := p.Agent
	switch {
	case a == nil:
		return x.say("No agent is known for it.")
	case a.CallID != "":
		x.say("Agent ", a.Name, ", tool call ", cut(a.CallID, longestCommand))
	default:
		x.say("Agent ", a.Name, ", no tool call known")
	}
	if a.SessionID != "" {
		x.b.WriteString(", session " + cut(a.SessionID, longestCommand))
	}
	if a.Confidence != "" {
		x.b.WriteString(" (" + a.Confidence + ", by " + a.Method + ")")
	}
	x.b.WriteByte('.')
	return x
}

// repeated adds how often, when it was more than once.
func (x *explanation) repeated(count int) *explanation {
	if count > 1 {
		x.say("Seen ", strconv.Itoa(count), " times so far.")
	}
	return x
}

func (x *explanation) String() string { return x.b.String() }

// chain is "codex → bash → cat": the oldest known ancestor first, the process last.
func chain(p *event.Process) string {
	names := []string{program(p)}
	more := false
	for q := p.Parent; q != nil; q = q.Parent {
		if len(names) == longestChain {
			more = true
			break
		}
		names = append(names, program(q))
	}
	var b strings.Builder
	if more {
		b.WriteString("… → ")
	}
	for i, name := range slices.Backward(names) {
		b.WriteString(cut(name, longestCommand))
		if i > 0 {
			b.WriteString(" → ")
		}
	}
	return b.String()
}

// command is the arguments quoted as a shell would need them, cut at longestCommand.
func command(args []string) string {
	total := 0
	for i, arg := range args {
		if total += len(arg); total > longestCommand {
			args = args[:i+1]
			break
		}
	}
	line := (&event.ProcessExec{Args: args}).AppendBody(nil)
	return cut(string(line), longestCommand)
}

// cut shortens s to at most limit bytes, and copies it then so as not to keep the rest alive.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-len("…")], "") + "…"
}

// baseName is the last element of a path.
func baseName(path string) string {
	return path[strings.LastIndexByte(path, '/')+1:]
}

// below says whether path is in the directory dir, which has no slash at its end.
func below(path, dir string) bool {
	return len(path) > len(dir) && path[len(dir)] == '/' && strings.HasPrefix(path, dir)
}
