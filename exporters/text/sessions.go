// SPDX-License-Identifier: Apache-2.0

package text

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// WriteSessions writes a list of sessions as a table, in the order given. It reads nothing but the views, so that
// whoever has sessions can show them: the running daemon, or a reader of recorded events that fills the same views.
func WriteSessions(w io.Writer, cfg Config, sessions []event.SessionView) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	rows := [][]string{{"session", "agent", "sandbox", "started", "state", "turns", "calls", "processes"}}
	for i := range sessions {
		v := &sessions[i]
		rows = append(rows, []string{
			exporters.Printable(v.ID), exporters.Printable(agentName(v)), exporters.Printable(cmp.Or(v.SandboxName, v.Sandbox)),
			v.Started.In(location(cfg)).Format(time.DateTime), state(v),
			number(v.TurnCount), number(v.CallCount), number(v.ProcessCount),
		})
	}
	b := block{cfg: cfg}
	b.columns(rows)
	if _, err := w.Write(b.dst); err != nil {
		return fmt.Errorf("write the sessions: %w", err)
	}
	return nil
}

func location(cfg Config) *time.Location {
	if cfg.Location == nil {
		return time.Local
	}
	return cfg.Location
}

func agentName(v *event.SessionView) string {
	if v.Version == "" {
		return v.Agent
	}
	return v.Agent + " " + v.Version
}

// state is how a session stands, in one word.
func state(v *event.SessionView) string {
	switch {
	case !v.Ended.IsZero():
		return cmp.Or(exporters.Printable(v.EndReason), "ended")
	case !v.Claimed:
		return "silent"
	}
	return "live"
}

// columns writes rows whose columns line up, without a label.
func (b *block) columns(rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for _, row := range rows {
		l := newLine(b.dst, b.cfg.Width)
		for i, cell := range row {
			column := l.columns + widths[i] + 2
			l.plain(cell) // every cell is printable already
			if i < len(row)-1 {
				l.pad(column)
			}
		}
		b.dst = l.end()
	}
}

// WriteSession writes one session as a tree: its turns, their calls, and what the processes of those did.
func WriteSession(w io.Writer, cfg Config, v *event.SessionView) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("session: %w", err)
	}
	t := tree{block: block{cfg: cfg}, location: location(cfg)}
	t.session(v)
	if _, err := w.Write(t.dst); err != nil {
		return fmt.Errorf("write the session: %w", err)
	}
	return nil
}

// tree is a session in the making.
type tree struct {
	block
	location *time.Location
}

// say writes one line, cut at the width. The label is ours, the text may be the sandbox's.
func (t *tree) say(depth int, label, colour string, parts ...string) {
	l := newLine(t.dst, t.cfg.Width)
	l.plain(strings.Repeat("  ", depth))
	l.colour(t.cfg.Colour, colour)
	l.plain(label)
	text := strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ", ")
	if text != "" {
		l.plain(" ")
		l.hostile(text)
	}
	t.dst = l.end()
}

func (t *tree) at(when time.Time) string {
	if when.IsZero() {
		return ""
	}
	return when.In(t.location).Format("15:04:05.000")
}

func (t *tree) session(v *event.SessionView) {
	t.say(0, "session", bold, v.ID)
	t.say(1, "agent", "", agentName(v), named("provider", v.Provider), named("model", v.Model))
	t.say(1, "sandbox", "", cmp.Or(v.SandboxName, v.Sandbox), named("the agent says", v.SandboxClaimed))
	if v.Conversation != "" && v.Conversation != v.ID {
		t.say(1, "conversation", "", v.Conversation)
	}
	if v.Parent != "" {
		t.say(1, "started by session", "", v.Parent)
	}
	if v.ApprovalMode != "" {
		t.say(1, "approvals", "", v.ApprovalMode)
	}
	ends := "goes on"
	if !v.Ended.IsZero() {
		ends = "ended " + t.at(v.Ended) + " (" + v.EndReason + ")"
	}
	t.say(1, "started", "", v.Started.In(t.location).Format(time.DateTime), ends)
	if !v.Claimed {
		t.say(1, "the agent says nothing:", yellow, "all of this is the kernel's")
	}
	t.say(1, "in all", "", plural(v.TurnCount, "turn"), plural(v.CallCount, "tool call"), plural(v.ProcessCount, "process"),
		counted(v.Errors, "error"))
	for i := range v.Decisions {
		t.decision(1, &v.Decisions[i])
	}
	for i := range v.Turns {
		t.turn(&v.Turns[i])
	}
}

func named(name, value string) string {
	if value == "" {
		return ""
	}
	return name + " " + value
}

func plural(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "s"):
		return number(n) + " " + noun + "es"
	}
	return number(n) + " " + noun + "s"
}

func counted(n int, noun string) string {
	if n == 0 {
		return ""
	}
	return plural(n, noun)
}

func (t *tree) turn(u *event.TurnView) {
	prompt := u.Prompt
	if prompt == "" && u.PromptLength > 0 {
		prompt = "a prompt of " + plural(u.PromptLength, "character")
	}
	t.say(0, "turn "+t.at(u.Started), bold, prompt)
	if u.Requests > 0 {
		t.say(1, "model", "", plural(u.Requests, "request"),
			"tokens in "+strconv.FormatInt(u.InputTokens, 10)+" out "+strconv.FormatInt(u.OutputTokens, 10), dollars(u.CostUSD))
	}
	for i := range u.Calls {
		t.call(&u.Calls[i])
	}
}

func dollars(cost float64) string {
	if cost <= 0 {
		return ""
	}
	return strconv.FormatFloat(cost, 'f', 4, 64) + " USD"
}

func (t *tree) call(c *event.CallView) {
	colour := ""
	if c.Outcome == "failure" || c.ExitCode != nil && *c.ExitCode != 0 {
		colour = yellow
	}
	title := strings.TrimSpace(c.Tool + " " + c.Command)
	if c.MCPServer != "" {
		title = strings.TrimSpace(c.MCPServer + "/" + title)
	}
	t.say(1, "call "+t.at(c.Started), colour, title, c.ID)
	if c.SubAgent != "" {
		t.say(2, "by sub-agent", "", c.SubAgent)
	}
	if c.Directory != "" {
		t.say(2, "in", "", c.Directory)
	}
	for _, a := range c.Approvals {
		t.say(2, string(a.State), approvalColour(a.State), named("by", a.Decider), named("for", a.Scope), a.Reason)
	}
	for i := range c.Decisions {
		t.decision(2, &c.Decisions[i])
	}
	t.say(2, "result", "", result(c), c.Error, named("sandbox", c.Sandbox))
	if c.Method == "" {
		t.say(2, "no process is known of it", "")
		return
	}
	t.say(2, "joined", "", c.Confidence+" by "+c.Method, plural(c.Totals.Processes, "process"),
		counted(c.Totals.FilesRead, "read"), counted(c.Totals.FilesWritten, "write"),
		counted(c.Totals.Connections, "connection"))
	t.processes(c)
	for i := range c.Files {
		t.object(&c.Files[i])
	}
	for i := range c.Peers {
		t.object(&c.Peers[i])
	}
	if c.Omitted > 0 {
		t.say(2, "and "+number(c.Omitted)+" more that are not remembered", "")
	}
}

func approvalColour(s event.ApprovalState) string {
	if s == event.ApprovalDenied {
		return yellow
	}
	return ""
}

// result is how a call ended, as the agent says and as the kernel saw.
func result(c *event.CallView) string {
	said := c.Outcome
	if c.ClaimedExit != nil {
		said = strings.TrimSpace(said + " exit " + number(*c.ClaimedExit))
	}
	if said == "" {
		said = "not told"
	}
	if c.ExitCode == nil {
		return said
	}
	return said + "; exit " + number(*c.ExitCode) + " by the kernel"
}

func (t *tree) decision(depth int, d *event.DecisionView) {
	colour := ""
	if d.Decision == event.DecisionDeny {
		colour = yellow
	}
	t.say(depth, "policy "+string(d.Decision), colour, d.Subject, d.Reason)
}

// deepest is how far processes are indented below each other.
const deepest = 8

// processes writes the processes of a call, children below their parents.
func (t *tree) processes(c *event.CallView) {
	depth := make(map[string]int, len(c.Processes))
	for i := range c.Processes {
		p := &c.Processes[i]
		at := 2
		if d, ok := depth[p.ParentUID]; ok { // a parent comes before its children
			at = min(d+1, deepest)
		}
		depth[p.UID] = at
		end := ""
		switch {
		case p.Ended.IsZero():
			end = "still alive"
		case p.Signal != "":
			end = "killed by " + p.Signal
		case p.ExitCode != 0:
			end = "exit " + number(p.ExitCode)
		}
		t.say(at, "process ["+strconv.FormatUint(uint64(p.PID), 10)+"]", "", p.Command, end)
	}
}

func (t *tree) object(o *event.ObjectView) {
	label := "read"
	times := ""
	if o.Count > 1 {
		times = number(o.Count) + " times"
	}
	switch {
	case strings.HasPrefix(o.Name, "tcp ") || strings.HasPrefix(o.Name, "udp "):
		label = "connected"
	case o.Write:
		label = "wrote"
	}
	traffic := ""
	if o.Sent+o.Received > 0 {
		traffic = "sent " + string(event.AppendBytes(nil, o.Sent)) + ", received " + string(event.AppendBytes(nil, o.Received))
	}
	failed := ""
	if o.Failed > 0 {
		failed = number(o.Failed) + " failed"
	}
	t.say(2, label, "", o.Name, o.Host, times, failed, traffic)
}
