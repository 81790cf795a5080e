// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/watchglass/watchglass/collector/control"
	"github.com/watchglass/watchglass/event"
)

type fixedSessions []event.SessionView

func (f fixedSessions) Sessions() []event.SessionView { return f }

func (f fixedSessions) Session(id string) []event.SessionView {
	for i := range f {
		if f[i].ID == id {
			return f[i : i+1]
		}
	}
	return nil
}

// askDaemon runs a command against a daemon that knows these sessions.
func askDaemon(t *testing.T, sessions fixedSessions, args ...string) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "control.sock")
	server, err := control.Open(control.Config{Enabled: true, Path: path}, control.Settings{Source: sessions, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	defer func() {
		cancel()
		<-done
		server.Close()
	}()
	root := newRoot()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs(append(args, "--socket", path))
	err = root.Execute()
	return out.String(), err
}

func TestSessionsAndShow(t *testing.T) {
	known := fixedSessions{
		{ID: "0199-aaaa", Agent: "codex", Sandbox: "s1", Turns: []event.TurnView{{Prompt: "x\u009b2Jé\x7f"}}},
		{ID: "0199-bbbb", Conversation: "thread", Agent: "claude-code\x1b[31m", Sandbox: "s2"},
	}
	out, err := askDaemon(t, known, "sessions")
	if err != nil || !strings.Contains(out, "0199-aaaa") || !strings.Contains(out, "0199-bbbb") || strings.Contains(out, "\x1b") {
		t.Errorf("%v:\n%s", err, out)
	}
	out, err = askDaemon(t, known, "show", "0199-a", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Sessions []event.SessionView }
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got.Sessions) != 1 || got.Sessions[0].Turns[0].Prompt != "x\u009b2Jé\x7f" {
		t.Errorf("%v:\n%s", err, out)
	}
	if strings.ContainsFunc(out, func(r rune) bool { return r >= 0x7f }) {
		t.Errorf("a terminal may act on this:\n%q", out)
	}
	if out, err = askDaemon(t, known, "show", "thread"); err != nil || !strings.Contains(out, "claude-code") {
		t.Errorf("by the conversation: %v:\n%s", err, out)
	}
	for name, want := range map[string]string{"0199": "more than one", "0200": "there is no session", "": "is empty"} {
		if _, err := askDaemon(t, known, "show", name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("show %q: %v", name, err)
		}
	}
}

func TestSessionsWithoutDaemon(t *testing.T) {
	root := newRoot()
	root.SetArgs([]string{"sessions", "--socket", filepath.Join(t.TempDir(), "none")})
	if err := root.Execute(); err == nil || !strings.Contains(err.Error(), "is watchglass collect running") {
		t.Errorf("%v", err)
	}
}
