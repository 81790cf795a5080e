// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/watchglass/watchglass/event"
)

// probeSource is a source whose probes are as the test says.
type probeSource struct {
	*fakeSource
	probes []event.ProbeStats
}

func (s *probeSource) Probes() []event.ProbeStats { return s.probes }

// TestProbes tells the states of probes once, and again when one changes; and what the kernel ran no program for.
func TestProbes(t *testing.T) {
	source, exporter := &probeSource{fakeSource: newFakeSource()}, &fakeExporter{}
	p := newTestPipeline(t, Settings{Source: source, Exporters: []ExporterSettings{{Exporter: exporter}}})
	source.probes = []event.ProbeStats{
		{Name: "process", Attached: true},
		{Name: "file", Attached: true, Plan: "trampoline"},
		{Name: "notable", Attached: true, Plan: "tracepoint", Fallback: "no kprobe_multi\nand more", Kinds: []string{"signal"}},
		{Name: "dns", Err: "EPERM", Kinds: []string{"dns.message"}},
	}
	p.tick(time.Now())
	source.probes[1].Missed = 3
	p.tick(time.Now())
	source.probes[3].Attached = true
	p.tick(time.Now())
	if err := start(t, p)(); err != nil {
		t.Fatal(err)
	}
	var states []event.Probe
	var missed []event.Loss
	for _, e := range exporter.events {
		switch payload := e.Payload.(type) {
		case *event.Probe:
			states = append(states, *payload)
		case *event.Loss:
			missed = append(missed, event.Loss{Stage: payload.Stage, Lost: payload.Lost, Reason: payload.Reason, Count: payload.Count})
		}
	}
	want := []event.Probe{
		{Name: "file", State: event.ProbeAttached, Plan: "trampoline"},
		{Name: "notable", State: event.ProbeFallback, Plan: "tracepoint", Reason: "no kprobe_multi"},
		{Name: "dns", State: event.ProbeDegraded, Reason: "EPERM", Lost: []string{"dns.message"}},
		{Name: "dns", State: event.ProbeAttached},
	}
	if diff := cmp.Diff(want, states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]event.Loss{{Stage: event.LossRing, Lost: "file", Reason: "missed", Count: 3}}, missed); diff != "" {
		t.Errorf("losses (-want +got):\n%s", diff)
	}
}
