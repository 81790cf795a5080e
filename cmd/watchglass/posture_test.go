// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/watchglass/watchglass/collector/sandbox"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/testenv"
)

// TestKernelPosture looks at running processes from outside: one with namespaces of its own that still sees the machine's
// disks and files, found by its number and by its cgroup, and one without any sandbox.
func TestKernelPosture(t *testing.T) {
	testenv.RequireRoot(t)
	mount, err := sandbox.FindMount()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("watchglass-posture-%d", time.Now().UnixNano())
	dir := filepath.Join(mount.Dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	defer func() {
		for range 500 {
			if os.Remove(dir) == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("cgroup %s is left", dir)
	}()
	cgroup, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cgroup.Close() }()
	cmd := exec.Command("unshare", "--pid", "--fork", "--mount", "--net", "--ipc", "--uts", "sh", "-c", "echo ready; cat; :")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	}()
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		t.Fatal(err)
	}
	pids := strings.Fields(string(procs))
	for _, args := range [][]string{{"--pid", pids[len(pids)-1]}, {"--cgroup", "/" + name}} {
		got, code := posture(t, args...)
		var open []string
		for _, w := range got.Weaknesses {
			open = append(open, string(w.Weakness))
			if w.What == "" || w.Why == "" || w.Remedy == "" {
				t.Errorf("%v: %s is not explained: %+v", args, w.Weakness, w)
			}
		}
		for _, want := range []event.Weakness{
			event.WeakCapabilities, event.WeakRoot, event.WeakMounts, event.WeakNoNewPrivs, event.WeakLimits,
		} {
			if !slices.Contains(open, string(want)) {
				t.Errorf("%v: %s is not among %v", args, want, open)
			}
		}
		for _, closed := range []event.Weakness{event.WeakNone, event.WeakNamespaces, event.WeakNetwork, event.WeakMetadata} {
			if slices.Contains(open, string(closed)) {
				t.Errorf("%v: %s is among %v", args, closed, open)
			}
		}
		if got.Attributes[string(event.PostureNetwork)] != "none" || got.Attributes[string(event.PostureInitialUserNS)] != true {
			t.Errorf("%v: %v", args, got.Attributes)
		}
		if code != 1 {
			t.Errorf("%v: exit %d for what somebody should see to", args, code)
		}
	}
	if got, code := posture(t, "--pid", strconv.Itoa(os.Getpid())); code != 0 || len(got.Weaknesses) != 1 || got.Weaknesses[0].Weakness != event.WeakNone {
		t.Errorf("without a sandbox: exit %d, %+v", code, got.Weaknesses)
	}
}

type postureSeen struct {
	Attributes map[string]any
	Weaknesses []weaknessDocument
}

func posture(t *testing.T, args ...string) (postureSeen, int) {
	t.Helper()
	cmd := program(t, append([]string{"posture", "--json"}, args...)...)
	out, err := cmd.Output()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	var got postureSeen
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("posture %v: %v in %s", args, err, out)
	}
	return got, cmd.ProcessState.ExitCode()
}

// TestPostureOfSession asks a daemon for the process of a session: of one that has ended, that is not known, or whose
// name is not one alone, there is none to look at.
func TestPostureOfSession(t *testing.T) {
	testenv.RequireRoot(t)
	known := fixedSessions{
		{ID: "0199-aaaa", Agent: "codex", Conversation: "thread-1", PID: uint32(os.Getpid())},
		{ID: "0199-bbbb", Agent: "codex"},
	}
	for _, name := range []string{"0199-aaaa", "0199-a", "thread-1"} {
		out, err := askDaemon(t, known, "posture", "--session", name)
		if err != nil || !strings.Contains(out, fmt.Sprintf("process %d, ", os.Getpid())) || !strings.Contains(out, "Remedy: ") {
			t.Errorf("%s: %v:\n%s", name, err, out)
		}
	}
	for name, want := range map[string]string{
		"0199-bbbb": "has ended", "0200": "there is no session", "0199": "more than one", "": "is empty", "0199-bbbb\x1b[31m": "there is no session",
	} {
		_, err := askDaemon(t, known, "posture", "--session", name)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
	if _, err := askDaemon(t, known, "posture", "--session", "0199-aaaa", "--pid", "1"); err == nil {
		t.Error("a session and a process at once are taken")
	}
}

// TestKernelPostureOfSession looks at an agent's session by the name under which a daemon knows it.
func TestKernelPostureOfSession(t *testing.T) {
	testenv.RequireRoot(t)
	c := prepareCollect(t)
	socket := filepath.Join(filepath.Dir(c.config), "control.sock")
	c.write(fmt.Sprintf("control: {path: %q}\nclaims: {hooks: {enabled: false}, otlp: {enabled: false}}\n", socket), "/agent-*")
	dir := c.mkdir("agent-1")
	c.start()
	// The agent is a shell of that name, with namespaces of its own. Its tool carries the session's id, as Codex's do.
	codex := filepath.Join(t.TempDir(), "codex")
	shell, err := os.ReadFile("/bin/bash")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(codex, shell, 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	const session = "thread-of-the-posture-test"
	agent := exec.CommandContext(t.Context(), "sh", "-c", "echo 0 > "+dir+"/cgroup.procs && exec unshare --net --ipc --uts "+codex+
		" -c 'CODEX_THREAD_ID="+session+" CODEX_TOOL_CALL_ID=call_1 /bin/echo work; cat; :' codex exec")
	stdin, err := agent.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stdin.Close()
		_ = agent.Wait()
	}()
	ask := func() (string, error) {
		out, err := program(t, "posture", "--session", session, "--socket", socket, "--json", "--config", c.config).CombinedOutput()
		return string(out), err
	}
	waitFor(t, "the session to be known", func() bool {
		out, _ := ask()
		return strings.Contains(out, `"pid"`)
	})
	out, _ := ask()
	var got struct {
		PID        int
		Attributes map[string]any
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if got.PID != agent.Process.Pid || got.Attributes[string(event.PostureNetwork)] != "none" {
		t.Errorf("process %d, want %d: %v", got.PID, agent.Process.Pid, got.Attributes)
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the session to be over", func() bool {
		out, err := ask()
		return err != nil && (strings.Contains(out, "has ended") || strings.Contains(out, "no session"))
	})
	c.stop()
}
