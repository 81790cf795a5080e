// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/collector/sandbox"
	"github.com/watchglass/watchglass/internal/testenv"
)

// programName as argument 0 makes the test binary the program itself.
const programName = "watchglass"

func TestMain(m *testing.M) {
	if os.Args[0] == programName {
		os.Exit(execute(os.Args[1:]))
	}
	if dir := os.Getenv(loadVariable); dir != "" {
		os.Exit(runLoad(dir))
	}
	if os.Getenv(senderVariable) != "" {
		os.Exit(runSender())
	}
	os.Exit(m.Run())
}

// program is a run of watchglass with these arguments, not started yet.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, self)
	cmd.Args = append([]string{programName}, args...)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// ended is how a run of watchglass ended.
type ended struct {
	code           int
	stdout, stderr string
}

// finish runs it to its end.
func finish(t *testing.T, cmd *exec.Cmd) ended {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%q: %v", cmd.Args, err)
	}
	return ended{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// line is one line of the stream of events.
type line struct {
	Time       time.Time      `json:"time"`
	Event      string         `json:"event"`
	Resource   map[string]any `json:"resource"`
	Attributes map[string]any `json:"attributes"`
}

func (l line) args() []string {
	values, _ := l.Attributes["process.command_args"].([]any)
	var list []string
	for _, v := range values {
		list = append(list, fmt.Sprint(v))
	}
	return list
}

// readLines reads the file that --json wrote. Every line must be whole.
func readLines(t *testing.T, path string) []line {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []line
	for raw := range bytes.Lines(text) {
		var l line
		if err := json.Unmarshal(raw, &l); err != nil || !bytes.HasSuffix(raw, []byte("\n")) {
			t.Fatalf("%.200q: %v", raw, err)
		}
		list = append(list, l)
	}
	return list
}

func count(list []line, event string) int {
	n := 0
	for _, l := range list {
		if l.Event == "watchglass."+event {
			n++
		}
	}
	return n
}

// leaves is the sessions' cgroups there are.
func leaves(t *testing.T) []string {
	t.Helper()
	m, err := sandbox.FindMount()
	if err != nil {
		t.Fatal(err)
	}
	own, err := m.Own()
	if err != nil {
		t.Fatal(err)
	}
	list, err := filepath.Glob(own + "/watchglass/*")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// leafOf is whether a session of the process left its cgroup.
func leafOf(t *testing.T, pid int) bool {
	t.Helper()
	return slices.ContainsFunc(leaves(t), func(dir string) bool {
		return strings.HasPrefix(filepath.Base(dir), fmt.Sprintf("run-%d-", pid))
	})
}

func TestKernelRunExitCodes(t *testing.T) {
	testenv.RequireEBPF(t)
	dir := t.TempDir()
	scripts := map[string]string{
		"plain":         "#!/bin/sh\nexit 0\n",
		"noshebang":     "exit 7\n",
		"nointerpreter": "#!/no/such/interpreter\n",
	}
	for name, text := range scripts {
		mode := os.FileMode(0o755)
		if name == "plain" {
			mode = 0o644
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name    string
		command []string
		code    int
		stderr  string
	}{
		{"success", []string{"true"}, 0, ""},
		{"failure", []string{"sh", "-c", "exit 3"}, 3, ""},
		{"own code like watchglass's", []string{"sh", "-c", "exit 125"}, 125, ""},
		{"killed", []string{"sh", "-c", "kill -KILL $$"}, 137, ""},
		{"crashed", []string{"sh", "-c", "kill -SEGV $$"}, 139, ""},
		{"not found", []string{"no-such-command"}, 127, "watchglass: no-such-command: command not found"},
		{"not found by path", []string{dir + "/none"}, 127, "none: command not found"},
		{"not executable", []string{dir + "/plain"}, 126, "plain: permission denied"},
		{"a directory", []string{dir}, 126, "is a directory"},
		{"without an interpreter", []string{dir + "/nointerpreter"}, 127, "its interpreter is not found"},
		{"without #!", []string{dir + "/noshebang"}, 7, ""},
		{"flags after the command are its own", []string{"sh", "-c", `exit $#`, "--", "--json", "-q"}, 2, ""},
	} {
		cmd := program(t, append([]string{"run", "--quiet", "--"}, test.command...)...)
		got := finish(t, cmd)
		if got.code != test.code || !strings.Contains(got.stderr, test.stderr) || test.stderr == "" && got.stderr != "" {
			t.Errorf("%s: exit code %d, want %d; stderr %q, want %q", test.name, got.code, test.code, got.stderr, test.stderr)
		}
		if leafOf(t, cmd.Process.Pid) {
			t.Errorf("%s: the cgroup is left", test.name)
		}
	}
}

func TestKernelRunPassesThrough(t *testing.T) {
	testenv.RequireEBPF(t)
	cmd := program(t, "run", "--quiet", "--", "sh", "-c", `cat; env | grep -v ^WATCHGLASS_ | sort >&2; pwd >&2; grep -E '^Sig(Ign|Blk)' /proc/self/status >&2; ulimit -a >&2; umask >&2; nice >&2`)
	plain := exec.CommandContext(t.Context(), "sh", cmd.Args[len(cmd.Args)-2:]...)
	input := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB, many times a pipe's room
	dir := t.TempDir()
	var results []ended
	for _, c := range []*exec.Cmd{cmd, plain} {
		c.Stdin, c.Dir = strings.NewReader(input), dir
		c.Env = []string{"PATH=" + os.Getenv("PATH"), "A=1", "EMPTY=", "PWD=" + dir}
		results = append(results, finish(t, c))
	}
	if results[0].stdout != input {
		t.Errorf("stdout is %d bytes, want %d", len(results[0].stdout), len(input))
	}
	// Where agents can tell Watchglass of themselves is all that it adds.
	told := regexp.MustCompile(`(?m)^WATCHGLASS_(OTLP_ENDPOINT|OTLP_SOCKET|HOOK_SOCKET)=.*\n`)
	if seen := told.ReplaceAllString(results[0].stderr, ""); seen != results[1].stderr {
		t.Errorf("the command sees\n%s\nwithout Watchglass\n%s", seen, results[1].stderr)
	}
}

func TestKernelRunDescriptors(t *testing.T) {
	testenv.RequireEBPF(t)
	given, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = given.Close() }()
	const list = "cd /proc/self/fd && echo *"
	plain := exec.CommandContext(t.Context(), "sh", "-c", list)
	watched := program(t, "run", "--quiet", "--json", filepath.Join(t.TempDir(), "events.jsonl"), "--metrics", "127.0.0.1:0", "--", "sh", "-c", list)
	var results []ended
	for _, cmd := range []*exec.Cmd{plain, watched} {
		cmd.ExtraFiles = []*os.File{given} // descriptor 3 there, as a shell's <(…) is
		results = append(results, finish(t, cmd))
	}
	if results[0].stdout != results[1].stdout {
		t.Errorf("the command has the descriptors %q, without Watchglass %q", results[1].stdout, results[0].stdout)
	}
}

func TestKernelRunEvents(t *testing.T) {
	testenv.RequireEBPF(t)
	dir := t.TempDir()
	events, timeline, summary := filepath.Join(dir, "e.jsonl"), filepath.Join(dir, "t.txt"), filepath.Join(dir, "s.txt")
	got := finish(t, program(t, "run", "--json", events, "--timeline", timeline, "--summary", summary, "--name", "my session", "--live",
		"--", "sh", "-c", "cat /etc/hostname >/dev/null; exit 4"))
	if got.code != 4 {
		t.Errorf("exit code %d", got.code)
	}
	list := readLines(t, events)
	var cat line
	for _, l := range list {
		if l.Event == "watchglass.process.exec" && slices.Equal(l.args(), []string{"cat", "/etc/hostname"}) {
			cat = l
		}
	}
	if cat.Event == "" || cat.Resource["watchglass.sandbox.name"] != "my session" || cat.Resource["watchglass.sandbox.runtime"] != "watchglass" {
		t.Errorf("the exec of cat: %+v", cat)
	}
	for event, want := range map[string]int{"process.exec": 2, "process.exit": 2, "sandbox.start": 1, "sandbox.stop": 1, "resource.usage": 1, "telemetry.loss": 0} {
		if n := count(list, event); n != want {
			t.Errorf("%d of %s, want %d", n, event, want)
		}
	}
	for path, want := range map[string][]string{
		timeline: {"cat /etc/hostname", "exit 4"},
		summary:  {"processes", "2 ", "lost"},
	} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range want {
			if !strings.Contains(string(text), part) {
				t.Errorf("%s lacks %q:\n%s", path, part, text)
			}
		}
	}
	if !strings.Contains(got.stderr, "cat /etc/hostname") || got.stdout != "" {
		t.Errorf("live: %q, stdout %q", got.stderr, got.stdout)
	}
}

// TestKernelRunBurst runs 10,000 short processes, eight at a time.
func TestKernelRunBurst(t *testing.T) {
	testenv.RequireEBPF(t)
	const loops, each = 8, 1250
	script := fmt.Sprintf("for i in 1 2 3 4 5 6 7 8; do (n=0; while [ $n -lt %d ]; do /bin/true; n=$((n+1)); done) & done; wait", each)
	events := filepath.Join(t.TempDir(), "e.jsonl")
	got := finish(t, program(t, "run", "--json", events, "--", "sh", "-c", script))
	if got.code != 0 {
		t.Fatalf("exit code %d: %s", got.code, got.stderr)
	}
	list := readLines(t, events)
	execs := 0
	for _, l := range list {
		if l.Event == "watchglass.process.exec" && slices.Equal(l.args(), []string{"/bin/true"}) {
			execs++
		}
	}
	if execs != loops*each {
		t.Errorf("%d execs of true, want %d", execs, loops*each)
	}
	if exits := count(list, "process.exit"); exits != loops*each+loops+1 {
		t.Errorf("%d exits, want %d", exits, loops*each+loops+1)
	}
	if losses := count(list, "telemetry.loss"); losses != 0 || !strings.Contains(got.stderr, "nothing") {
		t.Errorf("%d losses; the summary:\n%s", losses, got.stderr)
	}
}

// TestKernelRunHugeArguments runs a command with almost 2 MiB of arguments, the most that the
// kernel allows with an 8 MiB stack: it runs, and the event holds the first 128 KiB and says so.
func TestKernelRunHugeArguments(t *testing.T) {
	testenv.RequireEBPF(t)
	args := []string{"run", "--quiet", "--json", filepath.Join(t.TempDir(), "e.jsonl"), "--", "true"}
	for range 18 {
		args = append(args, strings.Repeat("x", 100_000))
	}
	cmd := program(t, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	if got := finish(t, cmd); got.code != 0 {
		t.Fatalf("exit code %d: %s", got.code, got.stderr)
	}
	for _, l := range readLines(t, args[3]) {
		if l.Event != "watchglass.process.exec" {
			continue
		}
		if n, _ := l.Attributes["process.args_count"].(float64); n != 19 || l.Attributes["watchglass.capture.truncated"] != true {
			t.Errorf("args_count %v, truncated %v", l.Attributes["process.args_count"], l.Attributes["watchglass.capture.truncated"])
		}
		if size := len(strings.Join(l.args(), "")); size < 100<<10 || size > 128<<10 {
			t.Errorf("%d bytes of arguments are told", size)
		}
		return
	}
	t.Error("no exec")
}

// TestKernelRunNested checks that a session inside another belongs to the outer one too.
func TestKernelRunNested(t *testing.T) {
	testenv.RequireEBPF(t)
	dir := t.TempDir()
	outer, inner := filepath.Join(dir, "outer"), filepath.Join(dir, "inner")
	cmd := program(t, "run", "--quiet", "--json", outer, "--", "bash", "-c", `exec -a watchglass "$0" run --quiet --json "$1" -- sh -c "echo in; exit 3"`)
	cmd.Args = append(cmd.Args, cmd.Path, inner)
	if got := finish(t, cmd); got.code != 3 || got.stdout != "in\n" {
		t.Errorf("%+v", got)
	}
	for _, path := range []string{outer, inner} {
		if !slices.Contains(execs(readLines(t, path), ""), "sh -c echo in; exit 3") {
			t.Errorf("the %s session does not see the command", filepath.Base(path))
		}
	}
}

func TestKernelRunOutlived(t *testing.T) {
	testenv.RequireEBPF(t)
	for _, keep := range []bool{false, true} {
		args := []string{"run"}
		if keep {
			args = append(args, "--keep")
		}
		cmd := program(t, append(args, "--", "sh", "-c", "setsid sleep 1234 >/dev/null 2>&1 & echo $!; exit 5")...)
		got := finish(t, cmd)
		if got.code != 5 || !strings.Contains(got.stderr, "sleep 1234") {
			t.Errorf("keep %v: exit code %d; the summary does not tell who outlived the session:\n%s", keep, got.code, got.stderr)
		}
		if leafOf(t, cmd.Process.Pid) {
			t.Errorf("keep %v: the cgroup is left", keep)
		}
		var pid int
		if _, err := fmt.Sscan(got.stdout, &pid); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		alive := err == nil && strings.HasPrefix(string(text), "sleep\x001234")
		if alive != keep {
			t.Errorf("keep %v: the process is alive: %v", keep, alive)
		}
		if alive {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}
}

// waitFor waits until a condition holds.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}

func TestKernelRunForwardsSignals(t *testing.T) {
	testenv.RequireEBPF(t)
	codes := map[syscall.Signal]int{
		unix.SIGTERM: 43, unix.SIGINT: 42, unix.SIGHUP: 41, unix.SIGQUIT: 44, unix.SIGUSR1: 45, unix.SIGUSR2: 46, unix.SIGWINCH: 47,
	}
	// What ran the tests may ignore some of them, as nohup does; a shell cannot trap what it was born
	// ignoring. A signal that is handled here is born with its default there.
	handled := make(chan os.Signal, len(codes))
	for each := range codes {
		signal.Notify(handled, each)
	}
	defer signal.Stop(handled)
	for sent, want := range codes {
		ready := filepath.Join(t.TempDir(), "ready")
		script := `trap "exit 41" HUP; trap "exit 42" INT; trap "exit 43" TERM; trap "exit 44" QUIT; trap "exit 45" USR1; trap "exit 46" USR2
			trap "exit 47" WINCH; echo >"$0"; n=0; while [ $n -lt 1000 ]; do sleep 0.02; n=$((n+1)); done`
		cmd := program(t, "run", "--quiet", "--", "sh", "-c", script, ready)
		// Without a terminal, wherever the test runs.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the command", func() bool { _, err := os.Stat(ready); return err == nil })
		if err := cmd.Process.Signal(sent); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != want {
			t.Errorf("%v: exit code %d, want %d", sent, code, want)
		}
	}
}

func TestKernelRunSecondTermForces(t *testing.T) {
	testenv.RequireEBPF(t)
	ready := filepath.Join(t.TempDir(), "ready")
	cmd := program(t, "run", "--quiet", "--", "sh", "-c", `trap "" TERM; echo >"$0"; while :; do sleep 1; done`, ready)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the command", func() bool { _, err := os.Stat(ready); return err == nil })
	for range 2 {
		if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitSignal+int(unix.SIGKILL) {
		t.Errorf("exit code %d", code)
	}
	if leafOf(t, cmd.Process.Pid) {
		t.Error("the cgroup is left")
	}
}

// TestKernelRunSignalAtAnyMoment sends SIGTERM earlier and later in the session's life: it always ends
// soon, with a code that tells of the signal, and leaves no cgroup.
func TestKernelRunSignalAtAnyMoment(t *testing.T) {
	testenv.RequireEBPF(t)
	for delay := time.Duration(0); delay < 400*time.Millisecond; delay += 20 * time.Millisecond {
		cmd := program(t, "run", "--quiet", "--", "sleep", "0.2")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(delay)
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		early := status.Signaled() && status.Signal() == unix.SIGTERM // before it could take signals
		if code := cmd.ProcessState.ExitCode(); !early && code != exitSignal+int(unix.SIGTERM) && code != 0 {
			t.Errorf("after %v: exit code %d (%v)", delay, code, status)
		}
		if leafOf(t, cmd.Process.Pid) {
			t.Errorf("after %v: the cgroup is left", delay)
		}
	}
}

func TestKernelRunRemovesStaleLeaves(t *testing.T) {
	testenv.RequireEBPF(t)
	ready := filepath.Join(t.TempDir(), "ready")
	crashed := program(t, "run", "--quiet", "--", "sh", "-c", `echo >"$0"; sleep 1000`, ready)
	if err := crashed.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the command", func() bool { _, err := os.Stat(ready); return err == nil })
	// The whole session goes at once: the program, and what is in its cgroup.
	dir := slices.IndexFunc(leaves(t), func(d string) bool {
		return strings.HasPrefix(filepath.Base(d), fmt.Sprintf("run-%d-", crashed.Process.Pid))
	})
	leaf := leaves(t)[dir]
	if err := crashed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = crashed.Wait()
	if err := os.WriteFile(leaf+"/cgroup.kill", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the cgroup to be empty", func() bool {
		text, err := os.ReadFile(leaf + "/cgroup.events")
		return err == nil && strings.Contains(string(text), "populated 0")
	})
	if got := finish(t, program(t, "run", "--quiet", "--", "true")); got.code != 0 {
		t.Fatalf("exit code %d: %s", got.code, got.stderr)
	}
	if leafOf(t, crashed.Process.Pid) {
		t.Error("the cgroup of the crashed session is left")
	}
}
