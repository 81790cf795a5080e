// SPDX-License-Identifier: Apache-2.0

package exporters_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
	"github.com/watchglass/watchglass/exporters/internal/sample"
	"github.com/watchglass/watchglass/exporters/otlp"
)

// TestFindingComesBack: what outputs of findings show of one is the same whether it comes from memory or was kept.
func TestFindingComesBack(t *testing.T) {
	encoder := otlp.NewEncoder(sample.Resource())
	wants := exporters.Findings(event.SeverityHigh)
	found := 0
	canary := &event.Event{
		Time: sample.Start(), Seq: 7, Instance: "a-b", Payload: &event.Finding{
			ID: "c", Rule: event.CanaryRule(), State: event.FindingNew, Count: 1, Title: "t", Explanation: "e",
		},
	}
	for _, want := range append(sample.Events(), canary) {
		var e event.Encoded
		encoder.Encode(&e, want)
		recorded, err := otlp.Decode(&e)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := recorded.Finding()
		f, is := want.Payload.(*event.Finding)
		if ok != is || wants(&e) != is {
			t.Fatalf("%s: a finding: %v, wanted: %v", want.Kind(), ok, wants(&e))
		}
		if !is {
			continue
		}
		found++
		rule := *f.Rule
		rule.Title, rule.Kinds, rule.MemoryBound, rule.FalsePositives, rule.Confidence = "", nil, "", "", f.Confidence()
		finding := *f
		finding.Rule, finding.Level = &rule, f.Severity()
		if diff := cmp.Diff(&finding, got.Payload); diff != "" {
			t.Error(diff)
		}
		if got.UID() != want.UID() || !got.Time.Equal(want.Time) || got.Payload.(*event.Finding).Canary() != f.Canary() {
			t.Errorf("%s of %v", got.UID(), got.Time)
		}
		if want.Sandbox == nil {
			if got.Sandbox != nil || got.Process != nil {
				t.Error("it is of nobody")
			}
			continue
		}
		if got.Sandbox.ID != want.Sandbox.ID || got.Sandbox.Name != want.Sandbox.Name {
			t.Errorf("sandbox %+v", got.Sandbox)
		}
		a, b := got.Process, want.Process
		if a.UID != b.UID || a.PID != b.PID || a.Name != b.Name || a.Executable != b.Executable || a.UserID != b.UserID {
			t.Errorf("process %+v", a)
		}
		agent := *b.Agent
		agent.TraceID, agent.SpanID, agent.Method, agent.Confidence = [16]byte{}, [8]byte{}, "", ""
		if diff := cmp.Diff(&agent, a.Agent); diff != "" {
			t.Error(diff)
		}
	}
	if found != 2 {
		t.Errorf("%d findings", found)
	}
}
