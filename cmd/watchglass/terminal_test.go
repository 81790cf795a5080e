// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/internal/testenv"
)

// screen is a pseudo-terminal with a program on it.
type screen struct {
	t      *testing.T
	master *os.File
	cmd    *exec.Cmd

	mu   sync.Mutex
	text bytes.Buffer
}

// newScreen starts a program as the leader of a session on a new terminal.
func newScreen(t *testing.T, cmd *exec.Cmd) *screen {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slave.Close() }()
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	s := &screen{t: t, master: master, cmd: cmd}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if cmd.Env == nil {
		cmd.Env = append(os.Environ(), "TERM=xterm", "PS1=$ ", "HISTFILE=")
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go s.read()
	return s
}

func (s *screen) read() {
	buf := make([]byte, 4096)
	for {
		n, err := s.master.Read(buf)
		s.mu.Lock()
		s.text.Write(buf[:n])
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// shown is everything that was written to the terminal so far.
func (s *screen) shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// expect waits until the terminal shows something, from now on forgets what came before, and returns it.
func (s *screen) expect(pattern string) string {
	s.t.Helper()
	compiled := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		if at := compiled.FindIndex(s.text.Bytes()); at != nil {
			found := string(s.text.Next(at[1]))
			s.mu.Unlock()
			return found
		}
		s.mu.Unlock()
	}
	s.t.Fatalf("the terminal never showed %q, but %q", pattern, s.shown())
	return ""
}

// keys types.
func (s *screen) keys(text string) {
	s.t.Helper()
	if _, err := s.master.WriteString(text); err != nil {
		s.t.Fatal(err)
	}
}

// exit waits for the program's end and returns its exit code.
func (s *screen) exit() int {
	s.t.Helper()
	done := make(chan struct{})
	go func() {
		_ = s.cmd.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		s.t.Fatalf("the program does not end; the terminal shows %q", s.shown())
	}
	return s.cmd.ProcessState.ExitCode()
}

// shell is bash, in which watchglass is a command, not started yet.
func shell(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	if err := os.Symlink(program(t).Path, filepath.Join(dir, programName)); err != nil {
		t.Fatal(err)
	}
	bash := exec.CommandContext(t.Context(), "bash", args...)
	bash.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "TERM=dumb", "PS1=$ ", "HISTFILE=")
	return bash
}

const (
	ctrlC = "\x03"
	ctrlZ = "\x1a"
	ctrlD = "\x04"
)

func TestKernelTerminalIsTheCommands(t *testing.T) {
	testenv.RequireEBPF(t)
	s := newScreen(t, program(t, "run", "--quiet", "--", "sh", "-c", `test -t 0 && test -t 1 && test -t 2 && stty size && read line </dev/tty && echo "got $line"; exit 6`))
	s.expect("24 80")
	s.keys("words\n")
	s.expect("got words")
	if code := s.exit(); code != 6 {
		t.Errorf("exit code %d", code)
	}
}

func TestKernelTerminalInterrupt(t *testing.T) {
	testenv.RequireEBPF(t)
	// Each key's signal comes once: a second one would end the command before it says so.
	s := newScreen(t, program(t, "run", "--quiet", "--", "sh", "-c", `trap 'n=$((n+1)); echo "interrupt $n"' INT; echo ready; while [ "${n:-0}" -lt 2 ]; do sleep 0.1; done; sleep 0.3; exit $n`))
	s.expect("ready")
	s.keys(ctrlC)
	s.expect("interrupt 1")
	s.keys(ctrlC)
	s.expect("interrupt 2")
	if code := s.exit(); code != 2 {
		t.Errorf("exit code %d", code)
	}
}

// TestKernelTerminalInterruptInPipeline checks that a command that shares the foreground with this
// program gets the signal of a key from the terminal alone, once.
func TestKernelTerminalInterruptInPipeline(t *testing.T) {
	testenv.RequireEBPF(t)
	s := newScreen(t, shell(t, "-c", `trap : INT; true | watchglass run --quiet -- sh -c 'trap "n=\$((n+1)); echo interrupt \$n" INT
		echo ready; while [ "${n:-0}" -lt 2 ]; do sleep 0.1; done; sleep 0.3; exit $n'; echo "code $?"`))
	s.expect("ready")
	s.keys(ctrlC)
	s.expect("interrupt 1")
	time.Sleep(300 * time.Millisecond)
	if strings.Contains(s.shown(), "interrupt 2") {
		t.Error("one key, two signals")
	}
	s.keys(ctrlC)
	s.expect("code 2")
	s.exit()
}

// TestKernelTerminalEditor edits a file in a full-screen editor.
func TestKernelTerminalEditor(t *testing.T) {
	testenv.RequireEBPF(t)
	if _, err := exec.LookPath("vim"); err != nil {
		t.Skip("vim is not installed")
	}
	path := filepath.Join(t.TempDir(), "text")
	cmd := program(t, "run", "--quiet", "--", "vim", "-u", "NONE", "-N", path)
	cmd.Env = append(os.Environ(), "TERM=xterm")
	s := newScreen(t, cmd)
	s.expect(`\[New\]`)
	s.keys("iedited\x1b")
	s.expect("edited")
	s.keys(":wq\r")
	if code := s.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "edited\n" {
		t.Errorf("the file holds %q, %v", text, err)
	}
}

func TestKernelTerminalInterruptKills(t *testing.T) {
	testenv.RequireEBPF(t)
	s := newScreen(t, program(t, "run", "--", "sh", "-c", "echo ready; exec sleep 100"))
	s.expect("ready")
	s.keys(ctrlC)
	s.expect("lost +nothing")
	if code := s.exit(); code != 130 {
		t.Errorf("exit code %d", code)
	}
}

func TestKernelTerminalRestored(t *testing.T) {
	testenv.RequireEBPF(t)
	s := newScreen(t, shell(t, "-c", `watchglass run --quiet -- sh -c 'stty raw -echo; kill -KILL $$'; stty -a | grep -q ' -icanon' && echo raw || echo restored; exit 0`))
	if shown := s.expect("raw|restored"); !strings.Contains(shown, "restored") {
		t.Error("a command that was killed left the terminal raw")
	}
	s.exit()
}

// TestKernelTerminalJobControl stops, backgrounds and continues a session from an interactive shell.
func TestKernelTerminalJobControl(t *testing.T) {
	testenv.RequireEBPF(t)
	s := newScreen(t, shell(t, "--norc", "--noprofile", "-i"))
	s.expect(`\$ `)
	s.keys(`watchglass run --quiet -- sh -c 'echo up; while read l; do echo "[$l]"; done; exit 3'; echo "code $?"` + "\n")
	s.expect("\nup")
	s.keys("one\n")
	s.expect(`\[one\]`)
	s.keys(ctrlZ)
	s.expect("Stopped")
	s.expect(`\$ `)
	s.keys("echo in the shell\n")
	s.expect("\nin the shell")
	s.keys("fg\n")
	s.expect("watchglass run")
	s.keys("two\n")
	s.expect(`\[two\]`)
	// In the background it stops as soon as it wants to read, and goes on in the foreground.
	s.keys(ctrlZ)
	s.expect("Stopped")
	s.keys("bg\n")
	s.expect("&")
	s.keys("jobs\n")
	for !strings.HasSuffix(s.expect("Running|Stopped"), "Stopped") {
		s.keys("jobs\n")
	}
	s.keys("fg\n")
	s.expect("watchglass run")
	s.keys("three\n")
	s.expect(`\[three\]`)
	s.keys(ctrlD)
	s.expect(`\$ `)
	s.keys("jobs; echo none left; exit\n")
	s.expect("\nnone left")
	s.exit()
}

// TestWaitsFor has a stopped process that is to stop: that waits until it goes on.
func TestWaitsFor(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	pid := cmd.Process.Pid
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("the process is %v, error %v", status, err)
	}
	if waitsFor(pid, unix.SIGTSTP) {
		t.Error("a signal waits that nobody has sent")
	}
	if err := unix.Kill(pid, unix.SIGTSTP); err != nil {
		t.Fatal(err)
	}
	if !waitsFor(pid, unix.SIGTSTP) || waitsFor(pid, unix.SIGTTIN) {
		t.Error("it does not wait for the one signal that was sent")
	}
	// That lets go of it.
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if waitsFor(pid, unix.SIGTSTP) {
		t.Error("it waits for a signal that is over")
	}
}

// TestKernelTerminalStopWithoutShell stops a command where no shell could continue it: as without
// Watchglass, it goes on.
func TestKernelTerminalStopWithoutShell(t *testing.T) {
	testenv.RequireEBPF(t)
	s := newScreen(t, program(t, "run", "--quiet", "--", "sh", "-c", `echo ready; read line; echo "got $line"`))
	s.expect("ready")
	s.keys(ctrlZ)
	time.Sleep(200 * time.Millisecond)
	s.keys("words\n")
	s.expect("got words")
	if code := s.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestKernelTerminalPager runs a full-screen program that reads keys from the terminal itself.
func TestKernelTerminalPager(t *testing.T) {
	testenv.RequireEBPF(t)
	if _, err := exec.LookPath("less"); err != nil {
		t.Skip("less is not installed")
	}
	cmd := program(t, "run", "--quiet", "--", "sh", "-c", "seq 1 1000 | less")
	cmd.Env = append(os.Environ(), "TERM=xterm", "LESS=")
	s := newScreen(t, cmd)
	s.expect("\n22|22\r")
	s.keys("G")
	s.expect("1000")
	s.keys("q")
	if code := s.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestKernelTerminalPipeline checks that a session in a pipeline leaves the terminal to the others.
func TestKernelTerminalPipeline(t *testing.T) {
	testenv.RequireEBPF(t)
	s := newScreen(t, shell(t, "--norc", "--noprofile", "-i"))
	s.expect(`\$ `)
	s.keys(`watchglass run --quiet -- sh -c 'echo from the session; sleep 0.3' | sh -c 'read a; read b </dev/tty; echo "<$a> <$b>"'` + "\n")
	time.Sleep(300 * time.Millisecond)
	s.keys("typed\n")
	s.expect("<from the session> <typed>")
	s.keys("exit\n")
	s.exit()
}

// TestKernelTerminalLive shows the timeline on a second terminal, in colour there and nothing raw.
func TestKernelTerminalLive(t *testing.T) {
	testenv.RequireEBPF(t)
	second := newScreen(t, exec.CommandContext(t.Context(), "sh", "-c", "tty; read line"))
	path := strings.TrimSpace(second.expect(`/dev/pts/[0-9]+`))
	got := finish(t, program(t, "run", "--quiet", "--live="+path, "--", "sh", "-c", `/bin/echo "$(printf 'a\033[2Jb')" >/dev/null`))
	if got.code != 0 || got.stderr != "" || got.stdout != "" {
		t.Errorf("%+v", got)
	}
	if shown := second.expect("sandbox.stop"); strings.Contains(shown, "\x1b[2J") || !strings.Contains(shown, `/bin/echo`) || !strings.Contains(shown, "\x1b[1m") {
		t.Errorf("the second terminal shows %q", shown)
	}
	second.keys("\n")
	second.exit()
}
