// SPDX-License-Identifier: Apache-2.0

package text

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/internal/sample"
)

var update = flag.Bool("update", false, "rewrite the files in testdata")

func timeline(t *testing.T, cfg Config, events ...*event.Event) []byte {
	t.Helper()
	var out bytes.Buffer
	cfg.Location = time.UTC
	e, err := New(&out, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Export(context.Background(), events); err != nil {
		t.Fatal(err)
	}
	if err := e.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestTimeline(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{
		"timeline.txt":   DefaultConfig(),
		"everything.txt": {Everything: true, Sandbox: true},
		"narrow.txt":     {Width: 60},
		"colour.txt":     {Width: 80, Colour: true},
	} {
		sample.Golden(t, filepath.Join("testdata", name), timeline(t, cfg, sample.Events()...), *update)
	}
}

func summary() *event.Summary {
	return &event.Summary{
		Sandbox: "fix-the-parser", Started: sample.Start(), Duration: 83 * time.Second,
		Processes: 42, Execs: 40, Failed: 3,
		Commands: []event.Count{{Name: "go", N: 12}, {Name: "evil\x1b[2J", N: 2}}, CommandsOmitted: 5,
		Sessions: []event.SessionSummary{
			{ID: "0199\x1b[2J", Agent: "codex", Calls: 5, Joined: 4, Granted: 3, Denied: 1, Mismatches: 1}, {ID: "b", Agent: "opencode"},
		}, SessionsOmitted: 2,
		Files: []event.FileSummary{
			{Class: event.FileClassSecret, Opens: 3, Failed: 2, Paths: []string{"/home/dev/.netrc", "/k\n\x9b"}, PathsOmitted: 1},
			{Class: event.FileClassSource, Opens: 1214, Written: 14},
			{Class: event.FileClassSystem, Opens: 310, Failed: 77},
		},
		Destinations: []event.Destination{
			{
				Transport: event.TransportTCP, Peer: "93.184.216.34:443", Name: "example.com\x9b", Scope: event.ScopePublic,
				Connects: 2, Sent: 1024, Received: 5 << 20,
			},
			{
				Transport: event.TransportTCP, Peer: "[::1]:9", Scope: event.ScopeLoopback,
				Connects: 1, Failed: 1, Error: "ECONNREFUSED",
			},
		},
		DestinationsOmitted: 4,
		Findings: []*event.Finding{
			{Rule: sample.Rule(), Title: "bash read a key\u202e", Explanation: strings.Repeat("bash[4242] read it, said \x1b[2J why. ", 60), Count: 3},
		},
		FindingsOmitted: 1,
		Outlived:        []*event.Process{{PID: 99, Name: "sleep\x1b[2J", Args: []string{"sleep", "1000\n"}}, {PID: 100}},
		Lost:            []event.LossCounter{{Stage: event.LossRing, Lost: "file", Reason: "ring_full", Count: 12}},
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cfg     Config
		summary *event.Summary
	}{
		"summary.txt":        {DefaultConfig(), summary()},
		"summary_colour.txt": {Config{Colour: true, Width: 60}, summary()},
		"summary_empty.txt":  {DefaultConfig(), &event.Summary{Sandbox: "idle"}},
	} {
		var out bytes.Buffer
		if err := WriteSummary(&out, test.cfg, test.summary); err != nil {
			t.Fatal(err)
		}
		sample.Golden(t, filepath.Join("testdata", name), out.Bytes(), *update)
		checkSafe(t, out.String(), test.cfg)
	}
}

// checkSafe holds output to the promise: besides newlines and our own colours, only visible characters,
// and no line wider than it may be.
func checkSafe(t *testing.T, out string, cfg Config) {
	t.Helper()
	if cfg.Colour {
		for _, own := range []string{"\x1b[1m", "\x1b[2m", "\x1b[1;31m", "\x1b[33m", "\x1b[0m"} {
			out = strings.ReplaceAll(out, own, "")
		}
	}
	if !utf8.ValidString(out) {
		t.Errorf("not UTF-8: %q", out)
	}
	for _, r := range out {
		if r != '\n' && (!unicode.IsPrint(r) || unicode.Is(unicode.Bidi_Control, r)) {
			t.Errorf("%q reached the terminal in %q", r, out)
		}
	}
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); cfg.Width != 0 && n > cfg.Width {
			t.Errorf("a line of %d characters, want at most %d: %q", n, cfg.Width, line)
		}
	}
}

// FuzzTimeline: whatever the sandbox says, an event is one harmless line.
func FuzzTimeline(f *testing.F) {
	f.Add("bash", "/etc/passwd", uint16(60), true)
	f.Add("\x1b]0;x\x07", "a\nb\u202e\xff\u009b", uint16(0), true)
	f.Add(strings.Repeat("\x00", 300), strings.Repeat("日", 300), uint16(61), false)
	f.Fuzz(func(t *testing.T, name, path string, width uint16, colour bool) {
		cfg := Config{Width: int(width%200) + minWidth, Colour: colour, Everything: true, Sandbox: true}
		sandbox := &event.Sandbox{Name: path}
		process := &event.Process{Name: name, PID: 1}
		payloads := []event.Payload{
			&event.FileOpen{Path: path, Class: event.FileClass(name)},
			&event.ProcessExec{Args: []string{name, path}},
			&event.NetworkConnect{PeerName: path},
			&event.Finding{Rule: sample.Rule(), Title: path},
			&event.Loss{Lost: name, Reason: path},
		}
		for _, p := range payloads {
			out := string(timeline(t, cfg, &event.Event{Sandbox: sandbox, Process: process, Payload: p}))
			if strings.Count(out, "\n") != 1 || !strings.HasSuffix(out, "\n") {
				t.Errorf("not one line: %q", out)
			}
			checkSafe(t, out, cfg)
		}
		var out bytes.Buffer
		s := summary()
		s.Sandbox, s.Commands[1].Name, s.Files[0].Paths[1] = path, name, path
		s.Outlived = []*event.Process{process}
		s.Destinations[0].Name, s.Findings[0].Title, s.Findings[0].Explanation, s.Lost[0].Lost = path, path, name, name
		if err := WriteSummary(&out, cfg, s); err != nil {
			t.Fatal(err)
		}
		checkSafe(t, out.String(), cfg)
	})
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("the pipe is gone") }

func TestErrors(t *testing.T) {
	t.Parallel()
	if _, err := New(nil, Config{Width: 10}); err == nil || !strings.Contains(err.Error(), "width") {
		t.Errorf("a width of 10: got %v, want an error that names it", err)
	}
	e, err := New(broken{}, DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Export(context.Background(), sample.Events()); err == nil || !strings.Contains(err.Error(), "the pipe is gone") {
		t.Errorf("a broken writer: got %v", err)
	}
}

func TestColour(t *testing.T) {
	t.Parallel()
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if Colour(file, "") {
		t.Error("colour on a file that is no terminal")
	}
	terminal, err := os.Open("/dev/ptmx")
	if err != nil {
		t.Skip("no terminal to ask: ", err)
	}
	defer func() { _ = terminal.Close() }()
	if !Colour(terminal, "") {
		t.Error("no colour on a terminal")
	}
	if Colour(terminal, "1") {
		t.Error("colour in spite of NO_COLOR")
	}
}
