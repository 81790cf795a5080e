// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"

	"github.com/watchglass/watchglass/test/e2e/agents"
)

// Claude Code hands every command the session's id and, when it traces, the trace context of the span of the tool
// call. The agent exports that span with the call's id, so the kernel's facts can be held against its claims.
func TestClaudeCode(t *testing.T) {
	require(t)
	stage := newStage(t, agents.ClaudeCode())
	launch, err := agents.LaunchClaudeCode(stage.site)
	if err != nil {
		t.Fatal(err)
	}
	events, _ := stage.watch(t, launch)

	shells := map[string]record{}
	for name, call := range stage.calls() {
		shells[name] = claudeShell(t, events, call.Command)
	}
	stage.checkFacts(t, events, shells, true)
	stage.checkClaudeAgent(t, events)
	stage.checkClaudeJoin(t, events, shells)
}

// claudeShell finds the shell of a call: the command is quoted inside a longer script.
func claudeShell(t *testing.T, events stream, command string) record {
	t.Helper()
	quoted := "eval '" + strings.ReplaceAll(command, "'", `'"'"'`) + "'"
	found := events.all(eventExec, func(r record) bool {
		args := r.args()
		return len(args) == 3 && args[0] == "/bin/bash" && strings.Contains(args[2], quoted)
	})
	if len(found) != 1 {
		t.Fatalf("%d shells for %q, want 1; execs seen:\n%s", len(found), command, events.describeExecs())
	}
	return found[0]
}

// checkClaudeAgent checks that the agent itself is in the stream, and is the one that talks to the model.
func (s *stage) checkClaudeAgent(t *testing.T, events stream) {
	t.Helper()
	agent := events.all(eventExec, func(r record) bool {
		return len(r.args()) > 1 && r.args()[0] == s.site.Command && r.args()[1] == "--print"
	})
	if len(agent) != 1 {
		t.Fatalf("%d execs of the agent, want 1; execs seen:\n%s", len(agent), events.describeExecs())
	}
	talks := events.connects(s.modelPort)
	if len(talks) == 0 {
		t.Error("no connect to the model was seen")
	}
	for _, talk := range talks {
		if talk.text(attrUID) != agent[0].text(attrUID) {
			t.Errorf("the model was talked to by process %s, want claude %s", talk.text(attrUID), agent[0].text(attrUID))
		}
	}
	for _, want := range s.scenario.processes(true) {
		if !events.descends(events.exec(t, want.args...).text(attrUID), agent[0].text(attrUID)) {
			t.Errorf("%q does not descend from claude", want.args)
		}
	}
}

// checkClaudeJoin checks that each process has the session and span of the call that the agent says it ran.
func (s *stage) checkClaudeJoin(t *testing.T, events stream, shells map[string]record) {
	t.Helper()
	calls := s.calls()
	joined := map[string]record{}
	check := func(exec record, call string) {
		t.Helper()
		joined[exec.text(attrUID)] = exec
		spans := s.spans.find("claude_code.tool.execution", "tool_use_id", calls[call].ID)
		if len(spans) != 1 {
			t.Fatalf("the agent sent %d spans for call %q, want 1", len(spans), call)
		}
		if exec.TraceID != spans[0].TraceID || exec.SpanID != spans[0].SpanID {
			t.Errorf("%q: trace %q span %q, the agent says %q %q", exec.args(), exec.TraceID, exec.SpanID, spans[0].TraceID, spans[0].SpanID)
		}
		for key, want := range map[string]string{
			"session.id":        spans[0].attribute("session.id"),
			"gen_ai.agent.name": "claude-code",
		} {
			if got := exec.text(key); got == "" || got != want {
				t.Errorf("%q: %s is %q, want %q", exec.args(), key, got, want)
			}
		}
		// The call's first process by its own environment; what descends from it, once the call is known, by that.
		if got := exec.text("watchglass.join.method"); got != "env" && got != "inherited" {
			t.Errorf("%q: joined by %q", exec.args(), got)
		}
	}
	for name, shell := range shells {
		check(shell, name)
	}
	for _, want := range s.scenario.processes(true) {
		check(events.exec(t, want.args...), want.call)
	}
	// What a process does belongs to its call too.
	for _, rec := range events.records {
		if exec, ok := joined[rec.text(attrUID)]; ok && !rec.Time.Before(exec.Time) && rec.SpanID != exec.SpanID {
			t.Errorf("%s of %q has span %q, want %q", rec.Event, exec.args(), rec.SpanID, exec.SpanID)
		}
	}
}
