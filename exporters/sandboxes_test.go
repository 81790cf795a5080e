// SPDX-License-Identifier: Apache-2.0

package exporters

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/internal/sample"
)

func sandboxText(t *testing.T, m *SandboxMetrics) string {
	t.Helper()
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&out, family); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func sampleSandboxes() []event.SandboxStats {
	return []event.SandboxStats{
		{Sandbox: sample.Sandbox(), Events: 7, Findings: 1, Lost: 2, Processes: 3, Usage: sample.Usage()},
		{Sandbox: &event.Sandbox{ID: "b", Name: "\xff", Started: sample.Start()}, Events: 1},
	}
}

func TestSandboxMetricsGolden(t *testing.T) {
	t.Parallel()
	m := NewSandboxMetrics(sampleSandboxes, 0)
	sample.Golden(t, filepath.Join("testdata", "sandboxes.txt"), []byte(sandboxText(t, m)), *update)
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestSandboxInstruments: a sandbox in which everything is counted shows every instrument that is listed.
func TestSandboxInstruments(t *testing.T) {
	t.Parallel()
	m := NewSandboxMetrics(func() []event.SandboxStats {
		list := sampleSandboxes()[:1]
		list[0].Usage.CPU.Throttle = &event.Throttling{Periods: 1}
		list[0].Usage.Pressure.IO = &event.Pressure{}
		return list
	}, 0)
	text := sandboxText(t, m)
	for _, i := range m.Instruments() {
		if !strings.Contains(text, fmt.Sprintf("# HELP %s %s\n# TYPE %s %s\n%s", i.Name, i.Help, i.Name, i.Type, i.Name)) {
			t.Errorf("%s is not shown as it is listed", i.Name)
		}
	}
}

// TestSandboxSeriesVanish: a sandbox that is gone has no series any more.
func TestSandboxSeriesVanish(t *testing.T) {
	t.Parallel()
	list := sampleSandboxes()
	m := NewSandboxMetrics(func() []event.SandboxStats { return list }, 0)
	if text := sandboxText(t, m); !strings.Contains(text, sample.Sandbox().ID) {
		t.Fatal("a live sandbox is missing")
	}
	list = list[1:]
	if text := sandboxText(t, m); strings.Contains(text, sample.Sandbox().ID) || !strings.Contains(text, `watchglass_sandbox_events_total{sandbox="b"} 1`) {
		t.Errorf("what is left:\n%s", text)
	}
}

// TestSandboxOthers: beyond the bound sandboxes are one, whose counters only grow whoever comes and goes.
func TestSandboxOthers(t *testing.T) {
	t.Parallel()
	sandbox := func(i int, events uint64) event.SandboxStats {
		usage := &event.ResourceUsage{Memory: &event.MemoryUsage{Current: 100}, CPU: &event.CPUUsage{Total: time.Duration(events) * time.Second}}
		return event.SandboxStats{
			Sandbox: &event.Sandbox{ID: fmt.Sprintf("s%d", i), Started: time.Unix(int64(i), 0)}, Events: events, Usage: usage,
		}
	}
	var list []event.SandboxStats
	m := NewSandboxMetrics(func() []event.SandboxStats { return list }, 1)
	show := func() []string {
		var lines []string
		for line := range strings.Lines(sandboxText(t, m)) {
			for _, name := range []string{"events_total", "cpu_seconds_total", "memory_usage_bytes", "start_time_seconds", "unlisted"} {
				if !strings.HasPrefix(line, "#") && strings.Contains(line, name) && (strings.Contains(line, Other) || name == "unlisted") {
					lines = append(lines, strings.TrimPrefix(strings.TrimSpace(line), "watchglass_"))
				}
			}
		}
		return lines
	}
	for _, step := range []struct {
		name string
		list []event.SandboxStats
		want []string
	}{
		{"room", []event.SandboxStats{sandbox(1, 5)}, []string{"sandboxes_unlisted 0"}},
		{"two more", []event.SandboxStats{sandbox(1, 5), sandbox(2, 10), sandbox(3, 20)}, []string{
			`sandbox_cpu_seconds_total{sandbox="_other"} 30`, `sandbox_events_total{sandbox="_other"} 30`,
			`sandbox_memory_usage_bytes{sandbox="_other"} 200`, `sandbox_start_time_seconds{sandbox="_other"} 3`, "sandboxes_unlisted 2",
		}},
		{"one goes, one grows", []event.SandboxStats{sandbox(1, 5), sandbox(3, 21)}, []string{
			`sandbox_cpu_seconds_total{sandbox="_other"} 31`, `sandbox_events_total{sandbox="_other"} 31`,
			`sandbox_memory_usage_bytes{sandbox="_other"} 100`, `sandbox_start_time_seconds{sandbox="_other"} 3`, "sandboxes_unlisted 1",
		}},
		{"it gets the room of the first", []event.SandboxStats{sandbox(3, 30)}, []string{
			`sandbox_cpu_seconds_total{sandbox="_other"} 31`, `sandbox_events_total{sandbox="_other"} 31`, "sandboxes_unlisted 0",
		}},
	} {
		list = step.list
		got := show()
		slices.Sort(got)
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s:\n%s", step.name, diff)
		}
	}
	if len(m.last) != 0 {
		t.Errorf("sandboxes that are gone are remembered: %v", m.last)
	}
}

// TestSandboxBound: whatever number of sandboxes there is, the number of series is bounded.
func TestSandboxBound(t *testing.T) {
	t.Parallel()
	var list []event.SandboxStats
	for i := range 5000 {
		list = append(list, event.SandboxStats{Sandbox: &event.Sandbox{ID: fmt.Sprint(i), Name: strings.Repeat("é", i%200)}, Usage: sample.Usage()})
	}
	m := NewSandboxMetrics(func() []event.SandboxStats { return list }, 50)
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if n := len(family.GetMetric()); n > 51 {
			t.Errorf("%s has %d series", family.GetName(), n)
		}
	}
}
