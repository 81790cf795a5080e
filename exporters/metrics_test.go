// SPDX-License-Identifier: Apache-2.0

package exporters

import (
	"flag"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/internal/sample"
)

var update = flag.Bool("update", false, "rewrite the files in testdata")

func stats() event.Stats {
	return event.Stats{
		Events: []event.Count{{Name: "watchglass.process.exec", N: 7}},
		Lost: []event.LossCounter{
			{Stage: event.LossRing, Lost: "file", Reason: "ring_full", Sandbox: "a", Count: 3},
			{Stage: event.LossRing, Lost: "file", Reason: "ring_full", Sandbox: "b", Count: 4},
		},
		Probes:         []event.ProbeStats{{Name: "process", Attached: true, AtRoot: true, Seen: 9}, {Name: "file", Err: "EPERM", Plan: "tracepoint", Fallback: "no do_filp_open", Missed: 1, Seen: 5, Dropped: 2}},
		Records:        9,
		Receiver:       receiverStats(),
		Hooks:          []event.Count{{Name: "taken", N: 9}, {Name: "refused", N: 1}},
		Exporters:      []event.ExporterStats{{Name: "json", Exported: 6, Failed: 1, Dropped: 2, Evicted: 4, Queued: 3, Capacity: 100}},
		Detectors:      []event.DetectorStats{{Name: "secret-read", Entries: 4, Evicted: 5}, {Name: "unbacked-exec", Failed: true}},
		CanaryInterval: 5 * time.Minute,
		Notifiers: []event.NotifierStats{
			{Output: "json", Canary: 1700000000},
			{Output: "webhook/chat", Tells: true, Delivered: 5, Failed: 4, Lost: 1, Suppressed: 3, Pending: 2, Canary: 1700000100},
		},
		Sandboxes: 2, SandboxesRefused: 1, Processes: 12, ProcessesEvicted: 1, RingBytes: 1 << 20, RingUsed: 4096,
		Journal: event.JournalStats{
			Dir: "/journal", SyncErrors: 1, Checkpoints: 3, Quarantined: 2,
			Lanes: []event.LaneStats{
				{Name: "priority", Bytes: 100, MaxBytes: 1000, Segments: 1, First: 1, Next: 8},
				{Name: "events", Bytes: 900, MaxBytes: 1000, Segments: 4, First: 51, Next: 201, Evicted: 50},
			},
			Cursors: []event.CursorStats{{Name: "siem", Lag: 12, LagBytes: 340, LagAge: 5 * time.Second, Evicted: 6, Damaged: 1}},
		},
		Destinations: []event.DestinationStats{{Name: "siem", Delivered: 40, Rejected: 2, Filtered: 9}},
	}
}

func session(t *testing.T) *Metrics {
	t.Helper()
	m := NewMetrics(stats)
	m.Declare(sample.Rule())
	m.now = func() time.Time { return sample.Start().Add(time.Second) }
	m.Exported("json", sample.Events())
	m.Delivered("siem", []event.Encoded{
		{Kind: event.KindProcessExec, Time: sample.Start().Add(900 * time.Millisecond), Instance: "inst", Seq: 2},
		{Kind: event.KindFinding, Time: sample.Start().Add(800 * time.Millisecond), Instance: "inst", Seq: 3, Sandbox: "s", Session: "0199-session"},
		{Kind: event.KindFinding, Time: sample.Start().Add(time.Hour)}, // a canary, and a clock that was set back
	})
	if err := m.Export(t.Context(), sample.Events()); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMetricsGolden(t *testing.T) {
	t.Parallel()
	families, err := session(t).Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "watchglass_") || family.GetName() == "watchglass_build_info" {
			continue
		}
		if _, err := expfmt.MetricFamilyToText(&out, family); err != nil {
			t.Fatal(err)
		}
	}
	sample.Golden(t, filepath.Join("testdata", "metrics.txt"), []byte(out.String()), *update)
}

// TestMetricsLint holds names, help texts and units to Prometheus's conventions.
func TestMetricsLint(t *testing.T) {
	t.Parallel()
	families, err := session(t).Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "watchglass_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// TestInstruments: what is listed is what is there, no more and no less.
func TestInstruments(t *testing.T) {
	t.Parallel()
	m := session(t)
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var gathered, listed []string
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "watchglass_") {
			continue
		}
		var labels []string
		for _, pair := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, pair.GetName())
		}
		gathered = append(gathered, fmt.Sprintln(family.GetName(), strings.ToLower(family.GetType().String()), family.GetHelp(), labels))
	}
	for _, i := range m.Instruments() {
		labels := slices.Sorted(slices.Values(i.Labels))
		listed = append(listed, fmt.Sprintln(i.Name, i.Type, i.Help, labels))
		for _, label := range i.Labels {
			if slices.Contains([]string{"session", "session_id", "pid", "path", "domain", "address", "sandbox"}, label) {
				t.Errorf("%s has the label %s, which grows without a bound", i.Name, label)
			}
		}
	}
	slices.Sort(listed)
	if diff := cmp.Diff(listed, gathered); diff != "" {
		t.Errorf("listed (-) and gathered (+):\n%s", diff)
	}
}

// TestBounds: whatever the sandboxes do, the number of series stays bounded.
func TestBounds(t *testing.T) {
	t.Parallel()
	m := NewMetrics(func() event.Stats {
		var s event.Stats
		for i := range 1000 {
			name := fmt.Sprintf("x%d", i)
			s.Events = append(s.Events, event.Count{Name: name, N: 1})
			s.Lost = append(s.Lost, event.LossCounter{Stage: event.LossRing, Lost: name, Reason: "r", Count: 1})
		}
		return s
	})
	for i := range 1000 {
		name := fmt.Sprintf("agent%d\xff", i%2*i)
		process := &event.Process{Agent: &event.Agent{Name: name, SessionID: name + strings.Repeat("s", 200)}}
		batch := []*event.Event{
			{Process: process, Payload: &event.ProcessExec{Origin: event.Origin(name)}},
			{Process: process, Payload: &event.NetworkConnect{Peer: netip.AddrPortFrom(netip.IPv6Loopback(), uint16(i)), Error: event.Errno(i)}},
			{Process: process, Payload: &event.SyscallSummary{Counts: []event.Count{{Name: name, N: -1}, {Name: fmt.Sprint(i), N: 1}}}},
			{Process: process, Payload: &event.Finding{Rule: &event.Rule{ID: fmt.Sprintf("r%d", i)}}},
		}
		if err := m.Export(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "watchglass_metric_label_overflow_total" {
			for _, s := range family.GetMetric() {
				// A thousand findings of as many rules, of which 256 have a place.
				if s.GetLabel()[0].GetValue() == "rule" && s.GetCounter().GetValue() != 1000-maxRules {
					t.Errorf("overflow of rules: %v", s)
				}
			}
		}
		series := len(family.GetMetric())
		if series > maxSyscalls+1 {
			t.Errorf("%s has %d series", family.GetName(), series)
		}
		other := slices.ContainsFunc(family.GetMetric(), func(s *dto.Metric) bool {
			return strings.Contains(s.String(), `"`+Other+`"`)
		})
		if slices.Contains([]string{"watchglass_findings_total", "watchglass_events_lost_total"}, family.GetName()) && !other {
			t.Errorf("%s has no %s", family.GetName(), Other)
		}
	}
}

func TestExemplars(t *testing.T) {
	t.Parallel()
	m := session(t)
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "watchglass_findings_total" {
			continue
		}
		for _, s := range family.GetMetric() {
			if s.GetCounter().GetValue() == 0 {
				continue
			}
			labels := map[string]string{}
			for _, pair := range s.GetCounter().GetExemplar().GetLabel() {
				labels[pair.GetName()] = pair.GetValue()
			}
			want := map[string]string{
				"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "event_uid": "inst-11", "session_id": "0199-session",
				"process_uid": "00000000000000a1",
			}
			if diff := cmp.Diff(want, labels); diff != "" {
				t.Errorf("exemplar:\n%s", diff)
			}
		}
	}
}

func BenchmarkMetrics(b *testing.B) {
	events := sample.Events()
	for _, ev := range []*event.Event{events[1], events[3], events[7], events[12]} {
		b.Run(strings.TrimPrefix(string(ev.Kind()), "watchglass."), func(b *testing.B) {
			m := NewMetrics(stats)
			b.ReportAllocs()
			for b.Loop() {
				m.observe(ev)
			}
		})
	}
}

// TestDocs keeps docs/metrics.md, which -update writes from the instruments.
func TestDocs(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	out.WriteString("<!-- SPDX-License-Identifier: Apache-2.0 -->\n# Metrics\n\n" +
		"<!-- Written by go test ./exporters -update from exporters/metrics.go. -->\n\n" +
		"What a collector shows at `/metrics` and pushes over OTLP. Labels are bounded: values beyond a label's bound show as `" +
		Other + "`.\nSession, pid, path and domain are never labels; the latest of them travel as exemplars (`event_uid`, `session_id`, `trace_id`).\n" +
		"The metrics of the Go runtime and of the process (`go_`, `process_`) are those of Prometheus's Go client.\n\n" +
		"| metric | type | labels | what it measures |\n|---|---|---|---|\n")
	row := func(i Instrument) {
		labels := "`" + strings.Join(i.Labels, "` `") + "`"
		if len(i.Labels) == 0 {
			labels = ""
		}
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", i.Name, i.Type, labels, i.Help)
	}
	for _, i := range NewMetrics(stats).Instruments() {
		row(i)
	}
	out.WriteString("\n## Of single sandboxes\n\n" +
		"What it shows at `/metrics/sandboxes`, and never pushes: series are there as long as their sandbox is watched. At most\n" +
		"`exporters.prometheus.max_sandboxes` sandboxes have series of their own, those watched longest; all others are the sandbox\n`" +
		Other + "`: the sum of what they use now, and of what all of them have counted so far. What a sandbox's cgroups do not count has no series.\n\n" +
		"| metric | type | labels | what it measures |\n|---|---|---|---|\n")
	for _, i := range NewSandboxMetrics(nil, 0).Instruments() {
		row(i)
	}
	sample.Golden(t, filepath.Join("..", "docs", "metrics.md"), []byte(out.String()), *update)
}

// TestLatencyExemplars: the way from a slow delivery to the event and its session.
func TestLatencyExemplars(t *testing.T) {
	t.Parallel()
	families, err := session(t).Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, family := range families {
		if family.GetName() != "watchglass_finding_latency_seconds" {
			continue
		}
		for _, s := range family.GetMetric() {
			if len(s.GetHistogram().GetPositiveSpan()) == 0 || len(s.GetHistogram().GetBucket()) == 0 {
				t.Errorf("not both native and classic: %v", s)
			}
			for _, b := range s.GetHistogram().GetBucket() {
				var labels []string
				for _, pair := range b.GetExemplar().GetLabel() {
					labels = append(labels, pair.GetName()+"="+pair.GetValue())
				}
				if len(labels) > 0 {
					slices.Sort(labels)
					got[s.GetLabel()[0].GetValue()] = fmt.Sprint(b.GetUpperBound(), " ", b.GetExemplar().GetValue(), " ", strings.Join(labels, " "))
				}
			}
		}
	}
	if diff := cmp.Diff(map[string]string{
		"json": "1 0.9 event_uid=inst-11 process_uid=00000000000000a1 session_id=0199-session trace_id=4bf92f3577b34da6a3ce929d0e0e4736",
		"siem": "0.25 0.2 event_uid=inst-3 session_id=0199-session",
	}, got); diff != "" {
		t.Error(diff)
	}
}
