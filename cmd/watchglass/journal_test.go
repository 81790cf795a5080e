// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/watchglass/watchglass/collector"
	"github.com/watchglass/watchglass/collector/journal"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/otlp"
)

// keptSession makes a journal of one session of an agent, an hour ago, and of a finding.
func keptSession(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "journal")
	cfg := journal.DefaultConfig()
	cfg.Dir = dir
	j, err := journal.Open(cfg, journal.Settings{Instance: "inst", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	box := &event.Sandbox{ID: "box-1", Name: "fix-the-parser", Runtime: "watchglass", Cgroup: "/box"}
	start := time.Now().Add(-time.Hour)
	claim := event.Claim{Agent: "codex", Session: "0199f7c2-session", Conversation: "0199-thread", Turn: "turn-1", Channel: event.ChannelLog, Sender: event.SenderOwner}
	worker := &event.Agent{Name: "codex", SessionID: claim.Session, CallID: "call_7", Method: "environment", Confidence: "exact"}
	p := &event.Process{UID: 0xa1, RootUID: 0xa1, PID: 4242, Name: "make", Executable: "/usr/bin/make", Start: start, Agent: worker}
	rule := &event.Rule{ID: "secret-read", Version: "1", Title: "A secret was read", Severity: event.SeverityHigh}
	var events []*event.Event
	for i, payload := range []event.Payload{
		&event.SessionStart{Claim: claim, Model: "gpt-5"},
		&event.Prompt{Claim: claim, Length: 14},
		&event.ToolCall{Claim: claim, Phase: event.PhaseStart, ID: "call_7", Name: "exec_command", Command: "make test"},
		&event.Approval{Claim: claim, ID: "call_7", CallID: "call_7", Tool: "exec_command", State: event.ApprovalGranted, Decider: "user"},
		&event.ProcessExec{Args: []string{"make", "test"}, ArgsCount: 2, Executable: "/usr/bin/make"},
		&event.FileOpen{Path: "/src/parser.go\x1b[2J", Access: event.AccessRead},
		&event.Finding{ID: "f-1", Rule: rule, State: event.FindingNew, Title: "make read a key", Count: 1},
		&event.ProcessExit{Code: 2, Exited: start},
		&event.ToolCall{Claim: claim, Phase: event.PhaseJoined, ID: "call_7", Name: "exec_command", Roots: []event.ProcessID{0xa1}, Method: "environment", Confidence: "exact"},
		&event.ToolCall{Claim: claim, Phase: event.PhaseEnd, ID: "call_7", Name: "exec_command", HasExit: true, ClaimedExit: 2, Outcome: event.OutcomeFailure},
	} {
		e := &event.Event{
			Time: start.Add(time.Duration(i) * time.Second), Seq: uint64(i + 1), Instance: "inst", Sandbox: box, Payload: payload,
		}
		if _, said := payload.(event.Said); !said {
			e.Process = p
		}
		events = append(events, e)
	}
	if err := collector.Record(j, otlp.NewEncoder(nil)).Exporter.Export(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestEventsCommand(t *testing.T) {
	dir := keptSession(t)
	for _, c := range []struct {
		args  []string
		lines int
		has   string
	}{
		{nil, 10, "make read a key"},
		{[]string{"--kind", "finding"}, 1, "high secret-read: make read a key"},
		{[]string{"--kind", "process.*"}, 2, "make[4242]"},
		{[]string{"--kind", "watchglass.process.exec", "--kind", "file.open"}, 2, `parser.go\x1b[2J`},
		{[]string{"--session", "0199f7c2-session"}, 10, ""},
		{[]string{"--session", "other"}, 0, ""},
		{[]string{"--sandbox", "box-1", "--min-severity", "high"}, 2, "finding"}, // the failed call too
		{[]string{"--since", "30m"}, 0, ""},
		{[]string{"--since", "2h", "--until", "30m"}, 10, ""},
	} {
		got := finish(t, program(t, append([]string{"events", "--journal", dir}, c.args...)...))
		if n := strings.Count(got.stdout, "\n"); got.code != 0 || n != c.lines || !strings.Contains(got.stdout, c.has) {
			t.Errorf("events %v: exit code %d, %d lines\n%s%s", c.args, got.code, n, got.stdout, got.stderr)
		}
		if strings.Contains(got.stdout, "\x1b") {
			t.Errorf("events %v: what came from the sandbox reaches the terminal", c.args)
		}
	}
	got := finish(t, program(t, "events", "--journal", dir, "--json", "--kind", "finding"))
	var line struct {
		Event      string
		Attributes map[string]any
		Resource   map[string]any
	}
	if err := json.Unmarshal([]byte(got.stdout), &line); err != nil || line.Event != "watchglass.finding" ||
		line.Attributes["log.record.uid"] != "inst-7" || line.Resource["watchglass.sandbox.id"] != "box-1" {
		t.Errorf("%v: %+v", err, line)
	}
	for args, said := range map[string]string{
		"--kind nonsense":      "no event is called so",
		"--since yesterday":    "neither a duration",
		"--min-severity awful": "none of debug",
		"--journal /nowhere":   "/nowhere is no journal",
	} {
		got := finish(t, program(t, append([]string{"events", "--journal", dir}, strings.Fields(args)...)...))
		if got.code == 0 || !strings.Contains(got.stderr, said) {
			t.Errorf("events %s: exit code %d: %s", args, got.code, got.stderr)
		}
	}
}

func TestSessionsFromTheJournal(t *testing.T) {
	dir := keptSession(t)
	got := finish(t, program(t, "sessions", "--journal", dir))
	if got.code != 0 || !strings.Contains(got.stdout, "0199f7c2-session") || !strings.Contains(got.stdout, "fix-the-parser") {
		t.Errorf("exit code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	got = finish(t, program(t, "show", "--journal", dir, "0199f7"))
	for _, part := range []string{"make test", "granted", "/src/parser.go", "gpt-5", "environment"} {
		if got.code != 0 || !strings.Contains(got.stdout, part) {
			t.Errorf("exit code %d, no %q in\n%s%s", got.code, part, got.stdout, got.stderr)
		}
	}
	if got := finish(t, program(t, "show", "--journal", dir, "other")); got.code == 0 || !strings.Contains(got.stderr, "no session") {
		t.Errorf("another session: exit code %d: %s", got.code, got.stderr)
	}
	// Without a daemon its journal is looked in.
	config := filepath.Join(t.TempDir(), "c.yaml")
	text := "control: {path: " + filepath.Join(t.TempDir(), "none.sock") + "}\njournal: {dir: " + dir + "}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got = finish(t, program(t, "sessions", "--config", config))
	if got.code != 0 || !strings.Contains(got.stdout, "0199f7c2-session") || !strings.Contains(got.stderr, "no daemon answers; this is what the journal") {
		t.Errorf("exit code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
}

func TestVerifyCommand(t *testing.T) {
	dir := keptSession(t)
	key := filepath.Join(t.TempDir(), "key.pub")
	got := finish(t, program(t, "journal", "key", "--journal", dir))
	if got.code != 0 || !strings.HasPrefix(got.stdout, "-----BEGIN PUBLIC KEY-----") {
		t.Fatalf("exit code %d: %s", got.code, got.stderr)
	}
	if err := os.WriteFile(key, []byte(got.stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	got = finish(t, program(t, "verify", "--key", key, "--anchor", filepath.Join(dir, "head.json"), dir))
	if got.code != 0 || got.stderr != "" || !strings.Contains(got.stdout, "All of it is what was written.") {
		t.Errorf("exit code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	segment := filepath.Join(dir, "events", "00000000000000000001.wgj")
	text, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(segment, text, 0o600); err != nil {
		t.Fatal(err)
	}
	got = finish(t, program(t, "verify", "--key", key, dir))
	if got.code != 1 || !strings.Contains(got.stdout, "WRONG in the lane events: "+segment+", offset ") {
		t.Errorf("exit code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
	var report journal.Report
	got = finish(t, program(t, "verify", "--json", dir))
	if err := json.Unmarshal([]byte(got.stdout), &report); err != nil || got.code != 1 || report.Good() {
		t.Errorf("%v: exit code %d: %s", err, got.code, got.stdout)
	}
	if !strings.Contains(got.stderr, "--key proves more") {
		t.Errorf("it does not say what it lacks: %s", got.stderr)
	}
	if got := finish(t, program(t, "verify", "--key", segment, dir)); got.code == 0 || !strings.Contains(got.stderr, "PUBLIC KEY") {
		t.Errorf("a key that is none: exit code %d: %s", got.code, got.stderr)
	}
}

// TestExamineJournal: check says whether the disk has room for all that the journal may take.
func TestExamineJournal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "made", "yet")
	enough := journalConfig{Config: journal.Config{Dir: dir, MaxBytes: 1, PriorityBytes: 1, SpansBytes: 1}}
	if f := examineJournal(&enough); f.State != checkOK || !strings.Contains(f.Detail, dir) {
		t.Errorf("%+v", f)
	}
	const each = 1 << 60
	much := journalConfig{Config: journal.Config{Dir: dir, MaxBytes: each, PriorityBytes: each, SpansBytes: each}}
	if f := examineJournal(&much); f.State != checkDegraded || !strings.Contains(f.Detail, bytesText(3*each)) || f.Remedy == "" {
		t.Errorf("%+v", f)
	}
}
