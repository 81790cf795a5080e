// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"regexp"
	"strings"
	"testing"

	"github.com/watchglass/watchglass/test/e2e/agents"
)

// Codex hands every process of a tool call the call's id in the environment. So the kernel's facts join the
// model's calls exactly, with commands as plain children of the agent as well as inside its own sandbox.
func TestCodex(t *testing.T) {
	require(t)
	for _, sandbox := range []agents.Sandbox{agents.DangerFullAccess, agents.WorkspaceWrite} {
		t.Run(string(sandbox), func(t *testing.T) {
			stage := newStage(t, agents.Codex())
			launch, err := agents.LaunchCodex(stage.site, sandbox)
			if err != nil {
				t.Fatal(err)
			}
			events, output := stage.watch(t, launch)

			shells := map[string]record{}
			for name, call := range stage.calls() {
				shells[name] = codexShell(t, events, call.Command)
			}
			stage.checkFacts(t, events, shells, sandbox == agents.DangerFullAccess)
			stage.checkCodexAgent(t, events)
			stage.checkCodexJoin(t, events, shells, codexThread(t, output))
		})
	}
}

// codexShell finds the shell of a call. It is a login shell until Codex has its snapshot of what a login shell
// sets up, which it takes on the side: so on a slow machine the first calls get one.
func codexShell(t *testing.T, events stream, command string) record {
	t.Helper()
	if login := events.execs("/bin/bash", "-lc", command); len(login) == 1 {
		return login[0]
	}
	return events.exec(t, "/bin/bash", "-c", command)
}

// codexThread finds the id of the conversation where Codex tells people.
func codexThread(t *testing.T, output string) string {
	t.Helper()
	match := regexp.MustCompile(`session id: (\S+)`).FindStringSubmatch(output)
	if match == nil {
		t.Fatalf("codex does not say its session id:\n%s", output)
	}
	return match[1]
}

// checkCodexAgent checks that the agent itself is in the stream, and is the one that talks to the model.
func (s *stage) checkCodexAgent(t *testing.T, events stream) {
	t.Helper()
	var agent string
	for _, exec := range events.all(eventExec, func(r record) bool {
		return len(r.args()) > 1 && strings.HasSuffix(r.args()[0], "/bin/codex") && r.args()[1] == "exec"
	}) {
		agent = exec.text(attrUID)
	}
	talks := events.connects(s.modelPort)
	if len(talks) == 0 {
		t.Error("no connect to the model was seen")
	}
	for _, talk := range talks {
		if talk.text(attrUID) != agent {
			t.Errorf("the model was talked to by process %s, want codex %s", talk.text(attrUID), agent)
		}
		if got := talk.text(attrCallID); got != "" {
			t.Errorf("the agent's own connect belongs to call %q", got)
		}
	}
	for _, want := range s.scenario.processes(false) {
		if !events.descends(events.exec(t, want.args...).text(attrUID), agent) {
			t.Errorf("%q does not descend from codex", want.args)
		}
	}
}

// checkCodexJoin checks that each process, and what it did, belongs to the call the model made.
func (s *stage) checkCodexJoin(t *testing.T, events stream, shells map[string]record, thread string) {
	t.Helper()
	calls := s.calls()
	joined := map[string]record{}
	check := func(exec record, call string) {
		t.Helper()
		if first, ok := joined[exec.text(attrUID)]; !ok || exec.Time.Before(first.Time) {
			joined[exec.text(attrUID)] = exec
		}
		for key, want := range map[string]string{
			attrCallID:                   calls[call].ID,
			"gen_ai.agent.name":          "codex",
			"gen_ai.conversation.id":     thread,
			"watchglass.join.method":     "env",
			"watchglass.join.confidence": "exact",
		} {
			if got := exec.text(key); got != want {
				t.Errorf("%q: %s is %q, want %q", exec.args(), key, got, want)
			}
		}
	}
	for name, shell := range shells {
		check(shell, name)
	}
	for _, want := range s.scenario.processes(false) {
		check(events.exec(t, want.args...), want.call)
	}
	for _, sleep := range events.execs("sleep", "0.2") {
		check(sleep, "children")
	}
	// What a process does belongs to its call too, from the moment the process has the call's id: Codex starts a
	// helper of its own first, without it.
	for _, rec := range events.records {
		exec, ok := joined[rec.text(attrUID)]
		if ok && !rec.Time.Before(exec.Time) && rec.text(attrCallID) != exec.text(attrCallID) {
			t.Errorf("%s of %q belongs to call %q, want %q", rec.Event, exec.args(), rec.text(attrCallID), exec.text(attrCallID))
		}
	}
}

// The exit code of the watched command is the exit code of `watchglass run`.
func TestExitCode(t *testing.T) {
	require(t)
	stage := newStage(t, agents.Codex())
	launch, err := agents.LaunchCodex(stage.site, agents.WorkspaceWrite)
	if err != nil {
		t.Fatal(err)
	}
	launch.Args = []string{launch.Args[0], "exec", "--no-such-flag"}
	plain := stage.run(t, launch)
	if plain.code == 0 {
		t.Fatalf("codex takes a flag that it does not have:\n%s", plain.output)
	}
	watched, _ := stage.underWatchglass(t, launch)
	if got := stage.run(t, watched); got.code != plain.code {
		t.Errorf("exit code %d under watchglass, %d without:\n%s", got.code, plain.code, got.output)
	}
}
