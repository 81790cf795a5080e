// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/watchglass/watchglass/test/e2e/agents"
	"github.com/watchglass/watchglass/test/e2e/loopback"
	"github.com/watchglass/watchglass/test/e2e/model"
)

// patience is how long one run of an agent may take. It takes seconds; on a busy machine it takes more.
const patience = 3 * time.Minute

// stage is what stands around one run of an agent, all of it inside a network with only loopback.
type stage struct {
	site     agents.Site
	scenario scenario
	model    *model.Server
	// modelPort is where the model listens, and spans the agent's own spans as it exports them.
	modelPort int
	spans     *spanSink
}

// newStage installs the agent, and then moves the test into a network of its own: from here on, the test's
// goroutine must be the one that starts processes (see loopback.Enter).
func newStage(t *testing.T, pkg agents.Package) *stage {
	t.Helper()
	cache, err := agents.UserCache()
	if err != nil {
		t.Fatal(err)
	}
	command, err := cache.Command(t.Context(), pkg)
	if err != nil {
		t.Fatal(err)
	}
	if err := loopback.Enter(); err != nil {
		t.Fatal(err)
	}
	work, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(work, "README.md"), []byte("# A project\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &stage{
		scenario: scenario{servicePort: serve(t, "hello\n"), refusedPort: refusing(t)},
		spans:    startSpanSink(t),
	}
	listener := listen(t)
	s.modelPort = port(listener)
	if s.model, err = model.Start(listener, s.scenario.script()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.model.Close() })
	s.site = agents.Site{
		Command: command, Home: t.TempDir(), Work: work, Prompt: "Run the script.",
		ModelURL: s.model.URL(), TelemetryURL: s.spans.url,
	}
	return s
}

// watch runs the agent under watchglass, checks that the agent went through the whole script and ended well, and
// returns the stream of events and what the agent wrote.
func (s *stage) watch(t *testing.T, launch agents.Launch) (stream, string) {
	t.Helper()
	launch, path := s.underWatchglass(t, launch)
	result := s.run(t, launch)
	if result.code != 0 {
		t.Errorf("exit code %d, want 0", result.code)
	}
	for _, call := range s.model.Calls() {
		if !call.Answered {
			t.Errorf("the agent did not run call %q (%s)", call.Name, call.Command)
		}
	}
	if t.Failed() {
		t.Fatalf("the output:\n%s\nwhat the agent asked the model:\n%s", result.output, strings.Join(s.model.Requests(), "\n"))
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	events, err := readStream(file)
	if err != nil {
		t.Fatal(err)
	}
	return events, result.output
}

// underWatchglass puts `watchglass run` before a command, and returns where its stream will be: `go test -artifacts`
// keeps it.
func (s *stage) underWatchglass(t *testing.T, launch agents.Launch) (watched agents.Launch, path string) {
	t.Helper()
	watchglass, err := program()
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.ArtifactDir(), "events.jsonl")
	launch.Args = append([]string{watchglass, "run", "--json", path, "--"}, launch.Args...)
	return launch, path
}

// ending is how a command ended, and what it wrote to its standard output and error.
type ending struct {
	code   int
	output string
}

// run runs a command to its end.
func (s *stage) run(t *testing.T, launch agents.Launch) ending {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, launch.Args[0], launch.Args[1:]...)
	command.Dir, command.Env = launch.Dir, launch.Env
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	// A group of its own, so that at the end of patience the agent goes along with what started it.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = 10 * time.Second
	err := command.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("run %s: %v\n%s", launch.Args[0], errors.Join(err, ctx.Err()), output.String())
	}
	return ending{command.ProcessState.ExitCode(), output.String()}
}

// calls is the calls of the script by name.
func (s *stage) calls() map[string]model.Issued {
	calls := map[string]model.Issued{}
	for _, call := range s.model.Calls() {
		calls[call.Name] = call
	}
	return calls
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := model.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// serve offers a TCP service that greets whoever connects, and returns its port.
func serve(t *testing.T, greeting string) int {
	t.Helper()
	listener := listen(t)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(greeting))
			_ = conn.Close()
		}
	}()
	return port(listener)
}

// refusing returns a port on which nothing listens.
func refusing(t *testing.T) int {
	t.Helper()
	listener := listen(t)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return port(listener)
}

func port(listener net.Listener) int { return listener.Addr().(*net.TCPAddr).Port }
