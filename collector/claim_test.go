// SPDX-License-Identifier: Apache-2.0

package collector

import (
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
