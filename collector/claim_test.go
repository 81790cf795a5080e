// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"slices"
	"testing"
	"time"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
)

func TestClaimIsTheSendersWord(t *testing.T) {
	p := newTestPipeline(t, Settings{Exporters: []ExporterSettings{{Exporter: &fakeExporter{}}}})
	p.handle(made())
	p.handle(record(100, &event.ProcessExec{Executable: "/opt/bin/codex", Args: []string{"codex"}}))
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	say := func(origin agent.Origin, when time.Time) {
		p.Claim(&agent.Statement{Origin: origin, Time: when, Claim: &event.Prompt{Claim: event.Claim{Agent: "codex", Session: "s"}}})
	}
	task := record(100, nil).Task
	say(agent.Origin{Sandbox: 10, PID: task.PID, Start: task.Start}, at)
	say(agent.Origin{Sandbox: 10, PID: 9999, Start: 1}, at) // its process was never seen
	say(agent.Origin{Sandbox: 77, PID: 5, Start: 1}, time.Time{})
	say(agent.Origin{}, at)

	batch, _ := p.outputs[0].queue.pull(nil, 100)
	var got []*event.Event
	for _, e := range batch {
		if e.Kind() == event.KindPrompt {
			got = append(got, e)
		}
	}
	if len(got) != 4 {
		t.Fatalf("%d claims of 4 were published", len(got))
	}
	if e := got[0]; e.Sandbox == nil || e.Process == nil || e.Process.PID != 100 || !e.Time.Equal(at) {
		t.Errorf("not the sender's: %+v", e)
	}
	if e := got[1]; e.Sandbox == nil || e.Process != nil {
		t.Errorf("of an unknown process: %+v", e)
	}
	for i, want := range []event.Sender{event.SenderOwner, event.SenderOwner, event.SenderUnattributed, event.SenderUnattributed} {
		said := got[i].Payload.(event.Said).Said()
		if said.Sender != want || said.Received.IsZero() {
			t.Errorf("claim %d: sender %q, want %q, received %v", i, said.Sender, want, said.Received)
		}
	}
	if e := got[2]; e.Sandbox != nil || e.Time.IsZero() || e.Payload.(event.Said).Said().TimeSource != event.TimeReceived {
		t.Errorf("without a time: %+v", e)
	}
	if s := p.Stats(); s.Claims != 4 || s.ClaimsUnattributed != 2 {
		t.Errorf("counted %d, unattributed %d", s.Claims, s.ClaimsUnattributed)
	}
}

// A hook's process lives for so short a time that what it says comes before the kernel's news of it: whether the agent
// started it, or a tool did, is known only then.
func TestHookComesBeforeItsProcess(t *testing.T) {
	p := newTestPipeline(t, Settings{Exporters: []ExporterSettings{{Exporter: &fakeExporter{}}}})
	p.handle(made())
	p.handle(record(100, &event.ProcessExec{Executable: "/opt/bin/codex", Args: []string{"codex"}}))
	task := func(pid uint32) agent.Origin {
		task := record(pid, nil).Task
		return agent.Origin{Sandbox: 10, PID: task.PID, Start: task.Start}
	}
	now := record(100, nil).Time
	say := func(via uint32, id string) {
		claim := event.Claim{Agent: "codex", Session: "thread-0000000000000001", Channel: event.ChannelHook}
		p.claim(&agent.Statement{
			Origin: task(100), Via: task(via), Time: now, Claim: &event.ToolCall{Claim: claim, Phase: event.PhaseStart, ID: id, Name: "shell", Command: "ls"},
		}, now)
	}
	told := func() (ids []string) {
		batch, _ := p.outputs[0].queue.pull(nil, 1000)
		for _, e := range batch {
			if call, ok := e.Payload.(*event.ToolCall); ok && call.Phase == event.PhaseStart {
				ids = append(ids, call.ID+" "+string(call.Sender))
			}
		}
		return ids
	}
	child := func(pid, parent uint32, env ...event.EnvVar) {
		p.handle(of(now, pid, parent, &event.ProcessExec{Executable: "/bin/sh", Args: []string{"sh", "-c", "x"}, Env: env}))
	}
	child(200, 100, event.EnvVar{Name: "CODEX_TOOL_CALL_ID", Value: "call_0"}, event.EnvVar{Name: "CODEX_THREAD_ID", Value: "thread-0000000000000001"})
	say(101, "call_1") // of the agent's own hook
	say(201, "call_2") // of a tool's, which took the ids out of its environment
	say(999, "call_3") // of one that is never heard of
	if got := told(); len(got) != 0 {
		t.Fatalf("told before anybody knew whose it is: %q", got)
	}
	child(201, 200)
	if got := told(); len(got) != 0 {
		t.Fatalf("told out of order: %q", got)
	}
	child(101, 100)
	if got, want := told(), []string{"call_1 owner", "call_2 foreign"}; !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	p.tick(now.Add(earlyPatience))
	if got, want := told(), []string{"call_3 owner"}; !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	views := p.Session("thread-0000000000000001")
	if len(views) != 1 || len(views[0].Turns) != 1 {
		t.Fatalf("%+v", views)
	}
	var ids []string
	for _, c := range views[0].Turns[0].Calls {
		ids = append(ids, c.ID)
	}
	if !slices.Equal(ids, []string{"call_0", "call_1"}) {
		t.Errorf("believed %q", ids)
	}
	for range 3 * maxEarly {
		say(998, "call_4")
	}
	if len(p.early) != maxEarly {
		t.Errorf("%d statements wait, want %d", len(p.early), maxEarly)
	}
}
