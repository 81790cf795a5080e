// SPDX-License-Identifier: Apache-2.0

package text

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/internal/sample"
)

// sampleSession is a session with everything that can be shown.
func sampleSession() event.SessionView {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	exit, claimed := 2, 0
	return event.SessionView{
		ID: "0199-session", Conversation: "0199-thread", Parent: "0198", Agent: "codex", Version: "0.169.0",
		Sandbox: "s1", SandboxName: "work", Provider: "openai", Model: "gpt", ApprovalMode: "on-request",
		SandboxClaimed: "workspace-write", Claimed: true, PID: 101, Started: at, Ended: at.Add(time.Minute), EndReason: "exit",
		TurnCount: 1, CallCount: 2, ProcessCount: 3, Errors: 1,
		Decisions: []event.DecisionView{{Decision: event.DecisionDeny, Subject: "evil.example:443", Reason: "denied", Time: at}},
		Turns: []event.TurnView{{
			ID: "t1", Started: at, Prompt: "build it\x1b[2J", Requests: 2, InputTokens: 1000, OutputTokens: 50, CostUSD: 0.0123,
			Calls: []event.CallView{
				{
					ID: "call_1", Tool: "exec_command", Command: "make\r\x1b]0;owned\x07", Directory: "/src", Started: at.Add(time.Second),
					Outcome: "success", ClaimedExit: &claimed, ExitCode: &exit, Method: "env", Confidence: "exact", Omitted: 4,
					Approvals: []event.ApprovalView{{State: event.ApprovalGranted, Decider: "user", Scope: "session", Time: at}},
					Decisions: []event.DecisionView{{Decision: event.DecisionAllow, Subject: "proxy.golang.org:443", Time: at}},
					Processes: []event.ProgramView{
						{UID: "a", PID: 102, Command: "/bin/bash -c make", Started: at, Ended: at.Add(time.Second), ExitCode: 2},
						{UID: "b", ParentUID: "a", PID: 103, Command: "make", Started: at, Ended: at.Add(time.Second), Signal: "SIGKILL"},
						{UID: "c", ParentUID: "b", PID: 104, Command: "sleep 100", Started: at},
					},
					Files: []event.ObjectView{
						{Name: "/src/a\nb", Count: 3, First: at}, {Name: "/src/out", Write: true, Count: 1, Failed: 1, First: at},
					},
					Peers:  []event.ObjectView{{Name: "tcp 192.0.2.1:443", Host: "example.org", Count: 2, Sent: 2000, Received: 10, First: at}},
					Totals: event.TotalsView{Processes: 3, FilesRead: 3, FilesWritten: 1, Connections: 2},
				},
				{ID: "call_2", Tool: "echo", MCPServer: "mcp", SubAgent: "explorer", Outcome: "failure", Error: "boom", Approvals: []event.ApprovalView{
					{State: event.ApprovalDenied, Reason: "policy", Time: at},
				}},
			},
		}, {Started: at.Add(time.Minute), PromptLength: 40}},
	}
}

func TestWriteSession(t *testing.T) {
	var out bytes.Buffer
	v := sampleSession()
	if err := WriteSession(&out, Config{Location: time.UTC}, &v); err != nil {
		t.Fatal(err)
	}
	silent := event.SessionView{ID: "process:1", Agent: "opencode", Sandbox: "s2", Started: v.Started, PID: 7}
	if err := WriteSession(&out, Config{Location: time.UTC}, &silent); err != nil {
		t.Fatal(err)
	}
	if err := WriteSessions(&out, Config{Location: time.UTC}, []event.SessionView{v, silent}); err != nil {
		t.Fatal(err)
	}
	sample.Golden(t, filepath.Join("testdata", "sessions.txt"), out.Bytes(), *update)
	if strings.ContainsAny(out.String(), "\x1b\r\x07") {
		t.Error("a sandbox's bytes reach the terminal")
	}
}

func TestWriteSessionCuts(t *testing.T) {
	var out bytes.Buffer
	v := sampleSession()
	v.Turns[0].Calls[0].Command = strings.Repeat("x", 1000)
	if err := WriteSession(&out, Config{Location: time.UTC, Width: 80}, &v); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
			t.Errorf("%d characters: %s", n, line)
		}
	}
	if WriteSession(&out, Config{Width: 3}, &v) == nil || WriteSessions(&out, Config{Width: 3}, nil) == nil {
		t.Error("a width of 3 is accepted")
	}
}
