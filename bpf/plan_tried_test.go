// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// TestKernelPlanTried: looking at what the kernel allows, as each start does, takes no call that is under way from a tracer
// that watches.
func TestKernelPlanTried(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	w.underWay(func() {
		if _, err := PlanAuto.choose(); err != nil {
			t.Error(err)
		}
	})
}

// TestKernelCheckWatched: nor does looking at everything, as `watchglass check` does.
func TestKernelCheckWatched(t *testing.T) {
	requireKernel(t)
	cfg := pinnedWhole(pinDirectory(t))
	cfg.Pins.Keep = false
	w := startWatchWith(t, cfg)
	w.underWay(func() {
		tried := false
		for _, r := range Check(cfg) {
			if !r.OK && r.Required {
				t.Errorf("%s: %s", r.Name, r.Detail)
			}
			tried = tried || r.Name == "probe file"
		}
		if want := w.tracer.Plan() == PlanTracepoint; tried != want {
			t.Errorf("under the plan %s probes are tried: %v", w.tracer.Plan(), tried)
		}
	})
}

// underWay does something while a process of the sandbox is in a system call that opens a file, which is to be told.
func (w *watch) underWay(do func()) {
	t := w.t
	t.Helper()
	fifo := filepath.Join(realPath(t, t.TempDir()), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", `: < "$1"`, "sh", fifo)
	startIn(t, w.cgroup, cmd)
	awaitBlocked(t, cmd.Process.Pid, unix.SYS_OPENAT)
	do()
	end, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(end.Close(), cmd.Wait()); err != nil {
		t.Error(err)
	}
	told := w.await(1, func(r *Record) bool {
		open, ok := r.Payload.(*event.FileOpen)
		return ok && int(r.Task.PID) == cmd.Process.Pid && open.Path == fifo
	})
	if len(told) != 1 {
		t.Errorf("an open that was under way is told %d times, want 1", len(told))
	}
}

// TestPlanTried: no probe hangs on the function that programs are tried on.
func TestPlanTried(t *testing.T) {
	for name, hung := range map[string]trampolines{"file": fileTrampolines(), "network": networkTrampolines()} {
		for _, target := range hung.targets {
			if slices.Contains(target.functions, triedFunction) {
				t.Errorf("the %s probe hangs on %s, on which programs are tried", name, triedFunction)
			}
		}
	}
}

// awaitBlocked waits until a process is in a system call that does not return.
func awaitBlocked(t *testing.T, pid int, number uintptr) {
	t.Helper()
	want := fmt.Sprintf("%d ", number)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		call, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
		if err == nil && strings.HasPrefix(string(call), want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the process is not in system call %d: %q, %v", number, call, err)
		}
	}
}
