// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/watchglass/watchglass/detectors"
	"github.com/watchglass/watchglass/detectors/rules"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/policy"
)

// countingDetector counts what it is shown.
type countingDetector struct{ seen int }

func (*countingDetector) Rule() *event.Rule                               { return &event.Rule{ID: "counting"} }
func (d *countingDetector) Detect(_ *event.Event, _ func(*event.Finding)) { d.seen++ }
func (*countingDetector) Forget(string)                                   {}
func (*countingDetector) Stats() event.DetectorStats                      { return event.DetectorStats{} }

func TestToggles(t *testing.T) {
	d := &countingDetector{}
	set, err := rules.Load()
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	cfg := detectors.DefaultConfig()
	oversight := detectors.NewOversight(detectors.NewBaselines(&cfg), &detectors.Profiles{})
	ts := &toggles{built: []*toggle{{Detector: d, oversight: oversight}}, oversight: oversight, engine: rules.NewEngine(set, rules.Limits{MaxSandboxes: 1, MaxEntries: 1}, log)}
	show := func() { ts.list()[0].Detect(&event.Event{}, nil) }
	show()
	ts.set([]string{"other", "counting"})
	show()
	ts.set(nil)
	show()
	if d.seen != 2 {
		t.Errorf("shown %d events, want 2", d.seen)
	}
}

func TestTogglesAskThePolicyInForce(t *testing.T) {
	cfg, err := defaultConfig()
	if err != nil {
		t.Fatal(err)
	}
	compiled, err := policy.New(&cfg.Policy)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Detectors.Disabled = []string{"secret-read"}
	ts, err := newToggles(&cfg.Detectors, policy.NewLive(compiled), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ids, err := detectorIDs()
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range ts.built {
		if off := d.off.Load(); d.Rule().ID != ids[i] || off != (ids[i] == "secret-read") {
			t.Errorf("%s is off: %v", d.Rule().ID, off)
		}
	}
}

func TestNeedsRestart(t *testing.T) {
	for text, want := range map[string][]string{
		"":                                nil,
		"log: {format: json}":             {"log.format"},
		"sandboxes: {max: 3}":             {"sandboxes.max"},
		"kernel: {syscall_counts: false}": {"kernel"},
		"detectors: {max_entries: 7}":     {"detectors"},
		"exporters: {json: {append: false}, otlp: {timeout: 3s}}":                   {"exporters"},
		"kernel: {ring_bytes: 16777216}\nexporters: {prometheus: {enabled: false}}": {"kernel", "exporters"},
	} {
		inForce, err := defaultConfig()
		if err != nil {
			t.Fatal(err)
		}
		wanted, err := defaultConfig()
		if err != nil {
			t.Fatal(err)
		}
		if err := decodeConfig("C", []byte(text), wanted); err != nil {
			t.Fatal(err)
		}
		if got := needsRestart(inForce, wanted); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestCheckOutput(t *testing.T) {
	fine := checkFinding{Name: "user", State: checkOK, Detail: "root"}
	less := checkFinding{Name: "probe dns", State: checkDegraded, Detail: "does not load", Remedy: "a newer kernel"}
	bad := checkFinding{Name: "cgroup layout", State: checkMissing, Detail: "two\nlines"}
	for _, test := range []struct {
		findings []checkFinding
		works    bool
		want     string
	}{
		{[]checkFinding{fine}, true, "user  ok        root\n\nwatchglass collect works here.\n"},
		{[]checkFinding{fine, less}, true, "user       ok        root\nprobe dns  degraded  does not load\n                     → a newer kernel\n\n" +
			"watchglass collect works here; what is degraded says what is missing from its picture.\n"},
		{[]checkFinding{less, bad}, false, "probe dns      degraded  does not load\n                         → a newer kernel\ncgroup layout  missing   two; lines\n\n" +
			"watchglass collect would not work here: see what is missing.\n"},
	} {
		var table, asJSON bytes.Buffer
		if err := writeCheckTable(&table, test.findings); err != nil || table.String() != test.want || works(test.findings) != test.works {
			t.Errorf("works %v, %v:\n%s\nwant\n%s", works(test.findings), err, table.String(), test.want)
		}
		var back []checkFinding
		if err := writeCheckJSON(&asJSON, test.findings); err != nil {
			t.Error(err)
		}
		if err := json.Unmarshal(asJSON.Bytes(), &back); err != nil || !slices.Equal(back, test.findings) {
			t.Errorf("JSON: %v: %s", err, asJSON.String())
		}
	}
}

func TestNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := notify("READY=1"); err != nil {
		t.Errorf("without a service manager: %v", err)
	}
	for _, name := range []string{filepath.Join(t.TempDir(), "socket"), "@watchglass-test-" + filepath.Base(t.TempDir()) + time.Now().Format(time.RFC3339Nano)} {
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("NOTIFY_SOCKET", name)
		if err := notify("READY=1"); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		buf := make([]byte, 64)
		if n, err := conn.Read(buf); err != nil || string(buf[:n]) != "READY=1" {
			t.Errorf("%s: told %q, %v", name, buf[:n], err)
		}
		_ = conn.Close()
	}
	if err := notify("READY=1"); err == nil || !strings.Contains(err.Error(), "READY=1") {
		t.Errorf("a service manager that is gone: %v", err)
	}
}
