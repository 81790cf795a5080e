// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
)

// teller is an exporter that delivers later, by itself.
type teller struct{ *fakeExporter }

func (teller) Lost() uint64 { return 3 }

func (teller) Notifiers() []event.NotifierStats {
	return []event.NotifierStats{{Output: "teller/a", Tells: true, Canary: 7}}
}

// refuser delivers nothing.
type refuser struct{ *fakeExporter }

func (refuser) Export(context.Context, []*event.Event) error { return errors.New("no") }

// TestCanary: it is made at the start and at the interval, goes to whoever accepts it, and the time of its
// delivery is that of who delivered it.
func TestCanary(t *testing.T) {
	out, other := &fakeExporter{name: "out"}, &fakeExporter{name: "other"}
	p := newTestPipeline(t, Settings{Source: newFakeSource(), CanaryInterval: 5 * time.Millisecond, Exporters: []ExporterSettings{
		{Exporter: out, Accepts: func(e *event.Event) bool { return e.Kind() == event.KindFinding }},
		{Exporter: other, Accepts: func(e *event.Event) bool { return e.Kind() != event.KindFinding }},
		{Exporter: refuser{&fakeExporter{name: "refuser"}}},
		{Exporter: teller{&fakeExporter{name: "teller"}}},
	}})
	start, stop := time.Now().Unix(), start(t, p)
	for len(out.got()) < 3 {
		time.Sleep(time.Millisecond)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, e := range out.got() {
		f, ok := e.Payload.(*event.Finding)
		if !ok || !f.Canary() || f.Severity() != event.SeverityInfo || e.Seq == 0 || e.Sandbox != nil {
			t.Fatalf("%+v", e)
		}
		ids[f.ID] = true
	}
	if len(ids) != 1 || ids[""] {
		t.Errorf("the canary is one finding, not %v", ids)
	}
	stats := p.Stats()
	got := map[string]int64{}
	for _, n := range stats.Notifiers {
		got[n.Output] = n.Canary
	}
	if stats.CanaryInterval != 5*time.Millisecond || got["out"] < start || got["other"] != 0 || got["refuser"] != 0 || got["teller/a"] != 7 || len(got) != 4 {
		t.Errorf("%v", got)
	}
	for _, l := range stats.Lost {
		if l.Lost == "teller" && (l.Stage != event.LossExport || l.Reason != "given_up" || l.Count != 3) {
			t.Errorf("%+v", l)
		}
	}
	if n := other.kinds()[event.KindFinding]; n != 0 {
		t.Errorf("%d findings at who accepts none", n)
	}
}

// TestFindingsDoNotWait: a batch that gathers is handed on as soon as a finding is in it.
func TestFindingsDoNotWait(t *testing.T) {
	source, out := newFakeSource(), &fakeExporter{name: "out"}
	p := newTestPipeline(t, Settings{Source: source, CanaryInterval: 20 * time.Millisecond, Exporters: []ExporterSettings{
		{Exporter: out, FlushInterval: time.Hour},
	}})
	stop := start(t, p)
	for deadline := time.Now().Add(10 * time.Second); out.kinds()[event.KindFinding] < 3; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("findings wait for a batch to be full")
			break
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// TestWantsCanary: who leaves findings out is not expected to take canaries.
func TestWantsCanary(t *testing.T) {
	for _, s := range []struct {
		wants func(*event.Encoded) bool
		want  bool
	}{
		{nil, true},
		{func(e *event.Encoded) bool { return e.Kind == event.KindFinding }, true},
		{func(e *event.Encoded) bool { return e.Kind == event.KindProcessExec }, false},
	} {
		if got := wantsCanary(&DestinationSettings{Wants: s.wants}); got != s.want {
			t.Errorf("wants a canary: %v", got)
		}
	}
}
