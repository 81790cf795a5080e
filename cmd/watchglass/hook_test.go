// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/collector/agent/hook"
	"github.com/watchglass/watchglass/internal/testenv"
)

const hookInput = `{"session_id":"s-1","hook_event_name":"PreToolUse","tool_name":"Bash","tool_input":{"command":"make"},"tool_use_id":"call_1"}`

func TestHookFlags(t *testing.T) {
	for text, want := range map[string]hookOptions{
		"":                                    {},
		"--agent codex --socket /s --debug":   {"codex", "/s", true},
		"--agent=codex --socket=/s":           {"codex", "/s", false},
		"-agent codex":                        {agent: "codex"},
		"--no-such flag --agent codex":        {agent: "codex"},
		"--no-such --agent codex more":        {agent: "codex"},
		"--agent":                             {},
		"--agent --debug":                     {debug: true},
		"--socket= --agent= x y -- --debug=1": {debug: true},
	} {
		if diff := cmp.Diff(want, hookFlags(strings.Fields(text)), cmp.AllowUnexported(hookOptions{})); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

// heard is a socket that hears hooks, and what came.
func heard(tb testing.TB) (path string, statements <-chan *agent.Statement) {
	tb.Helper()
	path = filepath.Join(tb.TempDir(), "agent", "hook.sock")
	ch := make(chan *agent.Statement, 10_000)
	server, err := hook.Open(hook.Config{Path: path, Mode: "0666", Rate: 100_000, Burst: 100_000}, hook.Settings{
		Sandbox: func(uint32) uint64 { return 10 }, Logger: slog.New(slog.DiscardHandler),
		Claim: func(s *agent.Statement) { ch <- s },
	})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- server.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	return path, ch
}

// What an agent calls, as it calls it: the statement is of the process that started the hook, here this one, also
// with a shell in between.
func TestHook(t *testing.T) {
	path, statements := heard(t)
	for name, wrapped := range map[string]bool{"plain": false, "by a shell": true} {
		cmd := program(t, "hook", "--agent", "codex")
		if wrapped {
			cmd.Args = []string{"sh", "-c", `exec -a ` + programName + ` "$0" hook --agent codex; exit 3`, cmd.Path}
			cmd.Path = "/bin/bash"
		}
		cmd.Env = []string{"WATCHGLASS_HOOK_SOCKET=" + path}
		cmd.Stdin = strings.NewReader(hookInput)
		if got := finish(t, cmd); got.code != 0 || got.stdout != "" || got.stderr != "" {
			t.Errorf("%s: %+v", name, got)
		}
		s := <-statements
		if s.Origin.PID != uint32(os.Getpid()) || s.Via.PID == 0 || s.Via.PID == s.Origin.PID {
			t.Errorf("%s: origin %+v via %+v, want the origin to be %d", name, s.Origin, s.Via, os.Getpid())
		}
		if said := s.Claim.Said(); said.Agent != "codex" || said.Session != "s-1" {
			t.Errorf("%s: %+v", name, said)
		}
	}
}

// Whatever goes wrong, the agent is told nothing but that all is well.
func TestHookNeverFails(t *testing.T) {
	path, _ := heard(t)
	silentPath := filepath.Join(t.TempDir(), "silent")
	silent, err := net.Listen("unix", silentPath)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	for name, test := range map[string]struct {
		args   []string
		socket string
		input  string
	}{
		"no socket":        {nil, filepath.Join(t.TempDir(), "none"), hookInput},
		"no directory":     {nil, "/no/such/directory/s", hookInput},
		"a long path":      {nil, "/" + strings.Repeat("x", 300), hookInput},
		"no answer":        {nil, silentPath, hookInput},
		"no input":         {nil, path, ""},
		"no JSON":          {nil, path, "agent"},
		"a large input":    {nil, path, strings.Repeat("x", 1<<20)},
		"an unknown flag":  {[]string{"--no-such-flag"}, path, hookInput},
		"a long name":      {[]string{"--agent", strings.Repeat("x", 1000)}, path, hookInput},
		"an argument":      {[]string{"PreToolUse", "--help", "--version"}, path, hookInput},
		"an unknown agent": {[]string{"--agent", "\xff"}, path, hookInput},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := program(t, append([]string{"hook"}, test.args...)...)
			cmd.Env = []string{"WATCHGLASS_HOOK_SOCKET=" + test.socket}
			cmd.Stdin = strings.NewReader(test.input)
			if got := finish(t, cmd); got.code != 0 || got.stdout != "" || got.stderr != "" {
				t.Errorf("%+v", got)
			}
		})
	}
	t.Run("standard input that never ends", func(t *testing.T) {
		cmd := program(t, "hook")
		cmd.Env = []string{"WATCHGLASS_HOOK_SOCKET=" + path}
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = w.Close() }()
		defer func() { _ = r.Close() }()
		cmd.Stdin = r
		if got := finish(t, cmd); got.code != 0 || got.stdout != "" || got.stderr != "" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("--debug tells", func(t *testing.T) {
		cmd := program(t, "hook", "--debug", "--socket", "/no/such/socket")
		cmd.Env, cmd.Stdin = []string{}, strings.NewReader(hookInput)
		if got := finish(t, cmd); got.code != 0 || got.stdout != "" || !strings.Contains(got.stderr, "no such file") {
			t.Errorf("%+v", got)
		}
	})
}

// In a session the hook finds its socket by itself, and what it says is the session's. The command that runs it is
// taken for the agent, since no agent is known here.
func TestKernelHookInASession(t *testing.T) {
	testenv.RequireEBPF(t)
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	events := filepath.Join(dir, "events.jsonl")
	script := fmt.Sprintf(`echo '%s' | (exec -a %s %s hook --agent codex --debug); echo "socket $WATCHGLASS_HOOK_SOCKET"; :`,
		hookInput, programName, self)
	cmd := program(t, "run", "--quiet", "--json", events, "--", "/bin/bash", "-c", script)
	got := finish(t, cmd)
	if got.code != 0 || !strings.Contains(got.stderr, "taken") {
		t.Fatalf("%+v", got)
	}
	text, err := os.ReadFile(events)
	if err != nil {
		t.Fatal(err)
	}
	var calls []string
	for line := range strings.Lines(string(text)) {
		// A hook must look like nothing that only a tracer does.
		if strings.Contains(line, `"watchglass.syscall.notable"`) || strings.Contains(line, `"watchglass.finding"`) {
			t.Errorf("not expected of a hook: %s", line)
		}
		if strings.Contains(line, `"watchglass.tool.call"`) {
			calls = append(calls, line)
		}
	}
	if len(calls) == 0 || !strings.Contains(calls[0], `"gen_ai.tool.call.id":"call_1"`) || !strings.Contains(calls[0], `"watchglass.claim.sender":"owner"`) {
		t.Errorf("the claim is not in the stream as the session's: %q", calls)
	}
	path, _ := strings.CutPrefix(strings.TrimSpace(got.stdout), "socket ")
	if _, err := os.Stat(filepath.Dir(path)); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", path, err)
	}
}

// BenchmarkHook is what a hook costs its agent: the whole program, from the start of its process to its end.
func BenchmarkHook(b *testing.B) {
	bin := filepath.Join(b.TempDir(), "watchglass")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-buildvcs=false", "-o", bin, ".")
	if output, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, output)
	}
	path, statements := heard(b)
	var longest time.Duration
	for b.Loop() {
		cmd := exec.Command(bin, "hook", "--agent", "codex")
		cmd.Env, cmd.Stdin = []string{"WATCHGLASS_HOOK_SOCKET=" + path}, strings.NewReader(hookInput)
		start := time.Now()
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
		longest = max(longest, time.Since(start))
		<-statements
	}
	b.ReportMetric(float64(longest.Microseconds())/1000, "ms-max")
}
