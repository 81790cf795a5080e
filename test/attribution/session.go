// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/watchglass/watchglass/test/e2e/agents"
	"github.com/watchglass/watchglass/test/e2e/loopback"
	"github.com/watchglass/watchglass/test/e2e/model"
)

const (
	// receiver is where the program under test takes OTLP, in the session's own network.
	receiver = "http://127.0.0.1:4318"
	// nowhere is an address at which nobody listens.
	nowhere = "http://127.0.0.1:9"
	// patience is how long a session may take. It takes seconds; on a busy machine it takes more.
	patience = 3 * time.Minute
)

// Runner runs sessions.
type Runner struct {
	// Watchglass is the program under test.
	Watchglass string
	// Cache has the agents.
	Cache agents.Cache
	// Keep is a directory in which events and output of each session are kept; "" for nowhere.
	Keep string
}

// Names is the agents, by the names that `watchglass agents setup` takes.
func Names() []string { return []string{"codex", "claude", "gemini", "opencode"} }

// Run plays a scenario with an agent and judges what the program told of it. It needs root. The goroutine's thread is
// given up: see loopback.Enter.
func (r *Runner) Run(ctx context.Context, agent string, scenario Scenario) (Score, error) {
	type result struct {
		score Score
		err   error
	}
	results := make(chan result)
	go func() {
		score, err := r.run(ctx, agent, &scenario)
		results <- result{score, err}
	}()
	got := <-results
	if got.err != nil {
		return Score{}, fmt.Errorf("%s, %s: %w", agent, scenario.Name, got.err)
	}
	return got.score, nil
}

func (r *Runner) run(ctx context.Context, agent string, scenario *Scenario) (Score, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	command, err := r.Cache.Command(ctx, packages()[agent])
	if err != nil {
		return Score{}, err
	}
	if err := loopback.Enter(); err != nil {
		return Score{}, err
	}
	dir, err := os.MkdirTemp("", "watchglass-attribution-")
	if err != nil {
		return Score{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return Score{}, err
	}
	s := session{Runner: r, agent: agent, scenario: scenario, dir: dir, home: filepath.Join(dir, "home"), work: filepath.Join(dir, "work")}
	for _, path := range []string{s.home, s.marks()} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return Score{}, err
		}
	}
	listener, err := model.Listen(ctx)
	if err != nil {
		return Score{}, err
	}
	if s.model, err = model.Start(listener, scenario.script(agent), scenario.Subs...); err != nil {
		return Score{}, err
	}
	defer func() { _ = s.model.Close() }()
	if err := s.play(ctx, command); err != nil {
		return Score{}, err
	}
	return s.judge()
}

func packages() map[string]agents.Package {
	return map[string]agents.Package{
		"codex": agents.Codex(), "claude": agents.ClaudeCode(), "gemini": agents.GeminiCLI(), "opencode": agents.OpenCode(),
	}
}

// session is one run of an agent.
type session struct {
	*Runner
	agent           string
	scenario        *Scenario
	model           *model.Server
	dir, home, work string
}

func (s *session) marks() string  { return filepath.Join(s.work, "marks") }
func (s *session) events() string { return filepath.Join(s.dir, "events.jsonl") }

// launch is the agent's command, with its configuration written.
func (s *session) launch(ctx context.Context, command string) (agents.Launch, error) {
	site := agents.Site{Command: command, Home: s.home, Work: s.work, Prompt: "Run the script.", ModelURL: s.model.URL()}
	endpoint := receiver
	if s.scenario.Silent {
		endpoint = nowhere
	}
	var launch agents.Launch
	var err error
	switch s.agent {
	case "codex":
		sandbox := agents.DangerFullAccess
		if s.scenario.Sandboxed {
			sandbox = agents.WorkspaceWrite
		}
		launch, err = agents.LaunchCodex(site, sandbox)
	case "claude":
		launch, err = agents.LaunchClaudeCode(site)
	case "gemini":
		launch, err = agents.LaunchGeminiCLI(site)
	case "opencode":
		site.TelemetryURL = endpoint
		launch, err = agents.LaunchOpenCode(site)
	default:
		err = fmt.Errorf("there is no agent %q", s.agent)
	}
	if err != nil {
		return agents.Launch{}, err
	}
	flags := append([]string{"--endpoint", endpoint}, s.scenario.Setup...)
	if err := launch.SetUp(ctx, s.Watchglass, s.agent, flags...); err != nil {
		return agents.Launch{}, err
	}
	launch.Env = append(launch.Env, "WATCHGLASS="+s.Watchglass)
	if s.scenario.Slow {
		err = s.slow(&launch)
	}
	if s.scenario.Nested {
		err = errors.Join(err, s.inner(&launch, site.Prompt))
	}
	return launch, err
}

// inner writes agent.sh, which runs the agent again with the subtask for its prompt. Claude Code does not start where
// it finds that it is inside of itself.
func (s *session) inner(launch *agents.Launch, prompt string) error {
	quote := func(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
	var text strings.Builder
	text.WriteString("unset CLAUDECODE CLAUDE_CODE_CHILD_SESSION\n")
	for _, variable := range launch.Env {
		name, value, _ := strings.Cut(variable, "=")
		fmt.Fprintf(&text, "export %s=%s\n", name, quote(value))
	}
	for _, arg := range launch.Args {
		if arg == prompt {
			arg = subtask
		}
		text.WriteString(quote(arg) + " ")
	}
	text.WriteString("</dev/null\n")
	return os.WriteFile(filepath.Join(s.work, "agent.sh"), []byte(text.String()), 0o600)
}

// cut has the way to the receiver of telemetry end once the scenario's mark is there: of packets to it, in the
// session's own network, nothing arrives. What is connected already cannot say any more either.
func (s *session) cut(ctx context.Context) (stop func(), err error) {
	_, port, err := net.SplitHostPort(strings.TrimPrefix(receiver, "http://"))
	if err != nil {
		return nil, err
	}
	script := `until [ -e "$1" ]; do sleep 0.05; done
ip rule add pref 10 lookup local && ip rule del pref 0 && ip rule add pref 5 ipproto tcp dport "$2" prohibit`
	cmd := exec.CommandContext(ctx, "sh", "-c", script, "sh", filepath.Join(s.marks(), s.scenario.Cut), port)
	var output bytes.Buffer
	cmd.Stderr = &output
	if err := cmd.Start(); err != nil { // by the goroutine's own thread, which is in the session's network
		return nil, err
	}
	return func() {
		if err := cmd.Wait(); err != nil {
			fmt.Fprintf(os.Stderr, "cut the way of telemetry: %v: %s\n", err, output.Bytes())
		}
	}, nil
}

// slow has the agent keep its telemetry for some seconds, where it can be told to.
func (s *session) slow(launch *agents.Launch) error {
	launch.Env = append(launch.Env, "OTEL_BLRP_SCHEDULE_DELAY=6000", "OTEL_BSP_SCHEDULE_DELAY=6000")
	path := filepath.Join(s.home, ".claude", "settings.json")
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(path, bytes.ReplaceAll(text, []byte(`"1000"`), []byte(`"6000"`)), 0o600)
}

// play runs the agent under watchglass to its end.
func (s *session) play(ctx context.Context, command string) error {
	launch, err := s.launch(ctx, command)
	if err != nil {
		return err
	}
	args := []string{s.Watchglass, "run", "--quiet", "--json", s.events(), "--"}
	if s.scenario.Beside != "" {
		args = append(args, "/bin/sh", "-c", "("+s.scenario.Beside+") >/dev/null 2>&1 & \"$@\"", "sh")
	}
	args = append(args, launch.Args...)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = launch.Dir, launch.Env
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	if s.scenario.Cut != "" {
		cutCtx, cancel := context.WithCancel(ctx)
		defer cancel() // of one that waits for a mark which nobody made
		stop, err := s.cut(cutCtx)
		if err != nil {
			return err
		}
		defer stop()
	}
	err = cmd.Run()
	if keepErr := s.keep(output.Bytes()); keepErr != nil {
		return keepErr
	}
	for _, call := range s.model.Calls() {
		if !call.Answered {
			err = errors.Join(err, fmt.Errorf("call %q was not made", call.Name))
		}
	}
	if err != nil {
		return fmt.Errorf("%w; the output:\n%s\nwhat the agent asked its model:\n%s", err, output.String(), strings.Join(s.model.Requests(), "\n"))
	}
	return nil
}

// keep keeps what a session left.
func (s *session) keep(output []byte) error {
	if s.Keep == "" {
		return nil
	}
	dir := filepath.Join(s.Keep, s.agent+"-"+s.scenario.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	events, err := os.ReadFile(s.events())
	return errors.Join(err, os.WriteFile(filepath.Join(dir, "events.jsonl"), events, 0o600),
		os.WriteFile(filepath.Join(dir, "output.txt"), output, 0o600))
}

// truth is what the marks that are there say of who left them.
func (s *session) truth() (Truth, error) {
	truth := Truth{Marks: map[string]int{}}
	owner := map[string]int{}
	for i, call := range s.model.Calls() {
		truth.Calls = append(truth.Calls, Call{call.ID, call.Command})
		owner[call.Name] = i
		for _, nonce := range Nonces(call.Output) {
			owner[nonce] = i
		}
	}
	for _, name := range s.scenario.Strangers {
		truth.Marks[name] = none
	}
	entries, err := os.ReadDir(s.marks())
	if err != nil {
		return Truth{}, err
	}
	for _, entry := range entries {
		if _, stranger := truth.Marks[entry.Name()]; stranger {
			continue
		}
		name, _, _ := strings.Cut(entry.Name(), ".")
		call, ok := owner[name]
		if !ok {
			return Truth{}, fmt.Errorf("the mark %s is nobody's", entry.Name())
		}
		truth.Marks[entry.Name()] = call
	}
	if len(truth.Marks) == len(s.scenario.Strangers) {
		return Truth{}, errors.New("no call left a mark")
	}
	return truth, nil
}

func (s *session) judge() (Score, error) {
	truth, err := s.truth()
	if err != nil {
		return Score{}, err
	}
	f, err := os.Open(s.events())
	if err != nil {
		return Score{}, err
	}
	defer func() { _ = f.Close() }()
	sightings, err := ReadSightings(f, s.marks())
	if err != nil {
		return Score{}, err
	}
	return Judge(truth, sightings), nil
}
