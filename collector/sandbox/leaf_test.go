// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/watchglass/watchglass/internal/testenv"
)

// realMount is the machine's cgroup2 mount, when this test may write there.
func realMount(t *testing.T) Mount {
	t.Helper()
	testenv.RequireRoot(t)
	m, err := FindMount()
	if err != nil {
		testenv.Unable(t, err.Error())
	}
	return m
}

func newTestLeaf(t *testing.T, m Mount) *Leaf {
	t.Helper()
	l, err := NewLeaf(m, fmt.Sprintf("test-%d-%d", os.Getpid(), time.Now().UnixNano()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.Kill()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = l.Wait(ctx)
		_ = removeTree(l.dir)
		_ = os.Remove(filepath.Dir(l.dir)) // refuses while others run
	})
	return l
}

// born starts a program in the leaf.
func born(t *testing.T, l *Leaf, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: l.FD()}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestKernelLeaf(t *testing.T) {
	l := newTestLeaf(t, realMount(t))
	if !strings.HasPrefix(l.Path, "/") || !strings.Contains(l.Path, "/watchglass/run-test-") {
		t.Errorf("path %q", l.Path)
	}
	cmd := born(t, l, "sleep", "1000")
	if pids, err := l.Processes(); err != nil || !slices.Equal(pids, []int{cmd.Process.Pid}) {
		t.Errorf("processes %v, %v; want %d", pids, err, cmd.Process.Pid)
	}
	// One more level, as an agent's own sandbox would make, with a process of its own.
	inner := filepath.Join(l.dir, "inner", "most")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	deep := exec.CommandContext(t.Context(), "sh", "-c", "echo 0 > "+inner+"/cgroup.procs; exec sleep 1000")
	if err := deep.Start(); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if pids, err := l.Processes(); err != nil || len(pids) == 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := l.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = cmd.Wait(), deep.Wait()
	if deep.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the process below the leaf: %v", deep.ProcessState)
	}
	if err := l.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Remove(t.Context()); err != nil || exists(l.dir) {
		t.Errorf("the leaf is left: %v", err)
	}
}

func TestKernelLeafWithSomebodyAlive(t *testing.T) {
	l := newTestLeaf(t, realMount(t))
	cmd := born(t, l, "sleep", "1000")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := l.Wait(ctx); err == nil {
		t.Error("waited for a process that is alive, and did not")
	}
	moved, err := l.Release()
	if err != nil || moved != 1 {
		t.Fatalf("moved %d, %v", moved, err)
	}
	if err := l.Remove(t.Context()); err != nil || exists(l.dir) {
		t.Errorf("the leaf is left: %v", err)
	}
	if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the process that was released: %v", err)
	}
	if home, own := cgroupOf(t, cmd.Process.Pid), cgroupOf(t, os.Getpid()); home != own {
		t.Errorf("released to %q, this process is in %q", home, own)
	}
}

func cgroupOf(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, path, _ := strings.Cut(string(text), "0::")
	return strings.TrimSpace(path)
}

func TestKernelRemoveStale(t *testing.T) {
	m := realMount(t)
	held := newTestLeaf(t, m)
	stale := newTestLeaf(t, m)
	if err := os.Mkdir(filepath.Join(stale.dir, "inner"), 0o755); err != nil {
		t.Fatal(err)
	}
	populated := newTestLeaf(t, m)
	born(t, populated, "sleep", "1000")
	// Their makers crash: the locks are gone.
	_, _ = stale.lock.Close(), populated.lock.Close()
	removed := RemoveStale(m)
	if !slices.Contains(removed, stale.Path) || exists(stale.dir) {
		t.Errorf("removed %q, not %q", removed, stale.Path)
	}
	if !exists(held.dir) || !exists(populated.dir) {
		t.Errorf("removed what is held or populated: %q", removed)
	}
	if err := held.Remove(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNewLeafRefuses(t *testing.T) {
	for _, name := range []string{"", "a/b", "a\x00", "a\nb"} {
		if _, err := NewLeaf(Mount{Dir: t.TempDir(), Root: "/"}, name); err == nil {
			t.Errorf("%q is a name", name)
		}
	}
	if _, err := NewLeaf(Mount{Dir: "/proc", Root: "/"}, "x"); err == nil {
		t.Error("a leaf where nothing can be made")
	}
}
