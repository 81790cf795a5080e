// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
)

// Steps of what agents say, in the timelines of testdata:
//
//	say PID [via PID] AGENT/SESSION KIND [KEY=VALUE…] [: TEXT]
//
// The claim is the process's that has the pid, in the sandbox of the last "in". KIND is start, end, prompt, model,
// call-start, call-end, turn-end, requested, granted, denied, decision, sandbox, error. TEXT is the prompt, the command line
// or the message. KEYs are id, tool, turn, exit, took, ago (how long before now it happened), success, error,
// running, shell, mcp, group, path, channel, span, trace, client, parent, mode, server (of a proxy's
// decision), verdict.
func (tl *timeline) say(words []string) {
	pid := uint32(tl.number(words[0]))
	words = words[1:]
	s := &agent.Statement{Origin: tl.origin(pid), Time: tl.now}
	if words[0] == "via" {
		s.Via = tl.origin(uint32(tl.number(words[1])))
		words = words[2:]
	}
	name, session, _ := strings.Cut(words[0], "/")
	kind, values, text := words[1], map[string]string{}, ""
	for i, word := range words[2:] {
		if word == ":" {
			text = strings.Join(words[2+i+1:], " ")
			break
		}
		key, value, _ := strings.Cut(word, "=")
		values[key] = value
	}
	claim := event.Claim{
		Agent: name, Session: session, Turn: values["turn"], SubAgent: values["sub"], ParentSession: values["parent"],
		Channel: event.ChannelLog, TimeSource: event.TimeRecord, Received: tl.now,
	}
	if channel := values["channel"]; channel != "" {
		claim.Channel = event.Channel(channel)
	}
	copy(claim.TraceID[:], values["trace"])
	copy(claim.SpanID[:], values["span"])
	s.Time = s.Time.Add(-tl.duration(values["ago"]))
	s.Claim = tl.claimed(kind, claim, values, text)
	tl.pipeline.claim(s, tl.now)
}

func (tl *timeline) origin(pid uint32) agent.Origin {
	return agent.Origin{Sandbox: tl.sandbox, PID: pid, Start: uint64(pid) * 1e6}
}

func (tl *timeline) duration(s string) time.Duration {
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		tl.t.Fatal(err)
	}
	return d
}

func (tl *timeline) claimed(kind string, c event.Claim, values map[string]string, text string) event.Said {
	switch kind {
	case "start":
		return &event.SessionStart{Claim: c, ApprovalMode: values["mode"], Sandbox: values["sandbox"]}
	case "end":
		return &event.SessionEnd{Claim: c, Reason: "claimed"}
	case "turn-end":
		return &event.TurnEnd{Claim: c}
	case "prompt":
		return &event.Prompt{Claim: c, Text: text, Length: len(text)}
	case "model":
		return &event.ModelRequest{Claim: c, Model: "m", Input: 100, Output: 10}
	case "call-start", "call-end":
		call := &event.ToolCall{
			Claim: c, Phase: event.PhaseStart, ID: values["id"], Name: values["tool"], Command: text,
			Duration: tl.duration(values["took"]), Error: values["error"], Shell: values["shell"], Running: values["running"] != "",
			MCPServer: values["mcp"],
		}
		if group := values["group"]; group != "" {
			call.ProcessGroup = uint32(tl.number(group))
		}
		if kind == "call-end" {
			call.Phase = event.PhaseEnd
		}
		if path := values["path"]; path != "" {
			call.Paths = []string{path}
		}
		if code := values["exit"]; code != "" {
			call.HasExit, call.ClaimedExit = true, int(tl.number(code))
		}
		switch values["success"] {
		case "true":
			call.Outcome = event.OutcomeSuccess
		case "false":
			call.Outcome = event.OutcomeFailure
		}
		return call
	case "requested", "granted", "denied":
		return &event.Approval{
			Claim: c, ID: values["id"], CallID: values["id"], Tool: values["tool"], Command: text,
			State: event.ApprovalState(kind), Decider: "user",
		}
	case "decision":
		d := &event.PolicyDecision{Claim: c, Decision: event.DecisionDeny, Subject: text}
		if values["client"] != "" {
			d.Client = netip.MustParseAddrPort(values["client"])
		}
		if server, port, ok := strings.Cut(values["server"], ":"); ok {
			d.Server, d.ServerPort, d.Enforcement = server, uint16(tl.number(port)), "proxy"
		}
		if values["verdict"] != "" {
			d.Decision = event.Decision(values["verdict"])
		}
		return d
	case "sandbox":
		return &event.SandboxOutcome{Claim: c, CallID: values["id"], Outcome: text}
	case "error":
		return &event.AgentError{Claim: c, Message: text}
	}
	tl.t.Fatalf("unknown claim: %s", kind)
	return nil
}

// roots is the pids of processes.
func (tl *timeline) roots(ids []event.ProcessID) string {
	var pids []string
	for _, id := range ids {
		pids = append(pids, strconv.Itoa(int(tl.pids[id])))
	}
	return strings.Join(pids, ",")
}

// showSession is a session in lines.
func showSession(v *event.SessionView) []string {
	state := "goes on"
	if !v.Ended.IsZero() {
		state = "ended: " + v.EndReason
	}
	if v.Parent != "" {
		state += ", below " + v.Parent
	}
	lines := []string{"=> " + strings.Join([]string{"session", v.ID, "of", v.Agent, state}, " ")}
	for _, turn := range v.Turns {
		ends := ""
		if !turn.Ended.IsZero() {
			ends = " ended"
		}
		lines = append(lines, "=>   turn "+turn.ID+" "+strconv.Quote(turn.Prompt)+ends)
		for _, c := range turn.Calls {
			words := []string{"=>     call", c.ID, c.Tool, strconv.Quote(c.Command), c.Method, c.Confidence, c.Outcome}
			if c.SubAgent != "" {
				words = append(words, "by "+c.SubAgent)
			}
			if c.ExitCode != nil {
				words = append(words, "exit", strconv.Itoa(*c.ExitCode))
			}
			for _, a := range c.Approvals {
				words = append(words, string(a.State)+"-by-"+a.Decider)
			}
			for _, d := range c.Decisions {
				words = append(words, string(d.Decision)+"-"+d.Subject)
			}
			lines = append(lines, strings.Join(words, " "))
			for _, p := range c.Processes {
				lines = append(lines, "=>       process "+strconv.Itoa(int(p.PID))+" "+p.Command)
			}
			for _, f := range c.Files {
				lines = append(lines, "=>       file "+f.Name+" "+strconv.Itoa(f.Count)+" write="+strconv.FormatBool(f.Write))
			}
			for _, f := range c.Peers {
				lines = append(lines, "=>       peer "+f.Name+" "+strconv.Itoa(f.Count))
			}
		}
	}
	return lines
}
