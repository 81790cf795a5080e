// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/watchglass/watchglass/detectors"
	"github.com/watchglass/watchglass/event"
)

// aSession makes the baselines learn one session, through a detector as the pipeline asks it.
func aSession(t *testing.T, h *habits, sandbox string) {
	t.Helper()
	cfg, err := defaultConfig()
	if err != nil {
		t.Fatal(err)
	}
	own := cfg.Detectors.Config
	own.Usual = h.usual
	own.Policy = detectors.Policy{SecretAllowed: allowSecret, Allowed: allowPeer, Observing: func() bool { return true }}
	all, err := detectors.New(&own)
	if err != nil {
		t.Fatal(err)
	}
	for _, payload := range []event.Payload{
		&event.ProcessExec{Executable: "/usr/bin/make", WorkingDirectory: "/work"}, &event.SandboxStop{},
	} {
		e := &event.Event{Time: time.Unix(1000, 0), Sandbox: &event.Sandbox{ID: sandbox}, Process: &event.Process{UID: 1}, Payload: payload}
		for _, d := range all {
			if d.Rule().ID == "first-seen" {
				d.Detect(e, func(*event.Finding) {})
			}
		}
	}
}

// TestHabits: what is learned survives, two collectors share a file, and a damaged one is put aside with a clear word.
func TestHabits(t *testing.T) {
	var said bytes.Buffer
	path := filepath.Join(t.TempDir(), "state", "baselines")
	start := func() *habits {
		cfg := detectors.DefaultConfig()
		h := &habits{log: slog.New(slog.NewTextHandler(&said, nil)), usual: detectors.NewBaselines(&cfg), path: path}
		h.open()
		return h
	}
	save := func(h *habits) string {
		t.Helper()
		if err := h.save(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	sessions := func(text string, n int) {
		t.Helper()
		if want := fmt.Sprintf(`"sessions":%d,`, n); !strings.Contains(text, want) {
			t.Errorf("the file lacks %s: %s", want, text)
		}
	}
	a, b := start(), start()
	aSession(t, a, "a1")
	sessions(save(a), 1)
	save(a)
	// b knows nothing of that and has another key: its session is added, the first is kept.
	aSession(t, b, "b1")
	sessions(save(b), 2)
	aSession(t, a, "a2")
	sessions(save(a), 3)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if said.Len() > 0 {
		t.Errorf("said %s", said.String())
	}
	if err := os.WriteFile(path, []byte("watchglass.baselines/v1 0000\n{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := start()
	if text := said.String(); !strings.Contains(text, "learned anew") || !strings.Contains(text, "damaged") {
		t.Errorf("said %q", text)
	}
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Error(err)
	}
	aSession(t, c, "c1")
	sessions(save(c), 1)
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".baselines-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	// Where nothing can be written, everything else goes on.
	said.Reset()
	path = filepath.Join(path, "not-a-folder")
	d := start()
	aSession(t, d, "d1")
	if err := d.save(); err != nil || !strings.Contains(said.String(), "in memory only") {
		t.Errorf("%v, said %q", err, said.String())
	}
}

// TestBaselinesPath: beside the journal, unless the configuration says where.
func TestBaselinesPath(t *testing.T) {
	for _, test := range []struct {
		path, dir string
		journal   bool
		want      string
	}{
		{"", "/var/lib/watchglass/journal", true, "/var/lib/watchglass/baselines"},
		{"", "/srv/journal/", true, "/srv/baselines"},
		{"", "/srv/journal", false, ""},
		{"/a/b", "/srv/journal", false, "/a/b"},
	} {
		cfg := &config{}
		cfg.Detectors.Baselines.Path, cfg.Journal.Enabled, cfg.Journal.Dir = test.path, test.journal, test.dir
		if got := cfg.baselines(); got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
	}
}
