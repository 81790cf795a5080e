// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestQuoted(t *testing.T) {
	for word, want := range map[string]string{
		"/usr/bin/watchglass": "/usr/bin/watchglass",
		"/opt/my tools/x":     "'/opt/my tools/x'",
		"it's":                `'it'\''s'`,
		"":                    "''",
		"a;b":                 "'a;b'",
	} {
		if got := quoted(word); got != want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
	}
}

// From an empty home through all that can be done to an agent's configuration and back.
func TestAgents(t *testing.T) {
	home := t.TempDir()
	codex := filepath.Join(home, ".codex", "config.toml")
	run := func(args ...string) ended {
		t.Helper()
		cmd := program(t, append([]string{"agents"}, args...)...)
		cmd.Env = []string{"HOME=" + home, "PATH=/nowhere"}
		return finish(t, cmd)
	}
	if got := run("setup", "codex"); got.code != 0 || !strings.Contains(got.stdout, "# "+codex+"\n") ||
		!strings.Contains(got.stdout, "http://127.0.0.1:4318/v1/logs") || !strings.Contains(got.stderr, "trusted") {
		t.Errorf("printed: %+v", got)
	}
	if left, _ := os.ReadDir(home); len(left) != 0 {
		t.Errorf("printing wrote %v", left)
	}
	if got := run("list"); got.code != 0 || !strings.Contains(got.stdout, "codex     not found  no ") {
		t.Errorf("listed: %+v", got)
	}
	for range 2 {
		if got := run("setup", "codex", "--write", "--endpoint", "http://127.0.0.1:4000"); got.code != 0 {
			t.Errorf("written: %+v", got)
		}
	}
	if text, err := os.ReadFile(codex); err != nil || strings.Count(string(text), "http://127.0.0.1:4000/v1/logs") != 1 {
		t.Errorf("%v: %s", err, text)
	}
	if got := run("list", "--endpoint", "http://127.0.0.1:4000"); !strings.Contains(got.stdout, "codex     not found  yes ") {
		t.Errorf("listed: %+v", got)
	}
	if got := run("setup", "codex", "--remove", "--write"); got.code != 0 {
		t.Errorf("removed: %+v", got)
	}
	if _, err := os.Stat(codex); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}

	settings := filepath.Join(home, ".claude", "settings.json")
	if err := os.MkdirAll(filepath.Dir(settings), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(settings, []byte("{\n  \"env\": 7\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := run("setup", "claude", "--write"); got.code != 1 || got.stderr != "watchglass: "+settings+":2: env is no object\n" {
		t.Errorf("refused: %+v", got)
	}
	if text, err := os.ReadFile(settings); err != nil || string(text) != "{\n  \"env\": 7\n}\n" {
		t.Errorf("a file that is refused is touched: %v, %s", err, text)
	}
	if got := run("setup", "vim"); got.code != 1 || !strings.Contains(got.stderr, "codex, claude, gemini, opencode") {
		t.Errorf("an unknown agent: %+v", got)
	}
}
