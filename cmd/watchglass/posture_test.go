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
