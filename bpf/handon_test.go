// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"os"
	"os/exec"
	"testing"

	"github.com/watchglass/watchglass/event"
)

// onTracepoints is a configuration whose probes see system calls by the one tracepoint.
func onTracepoints() Config {
	cfg := testConfig()
	cfg.Plan = PlanTracepoint
	return cfg
}

// TestKernelHandOnFallback has the probes stand on the hook themselves, as where the program that hands calls on to
// them cannot be loaded.
func TestKernelHandOnFallback(t *testing.T) {
	requireKernel(t)
	w := startWatchOpened(t, func() (*Tracer, error) {
		tracer, err := newTracer(onTracepoints())
		if err != nil {
			return nil, err
		}
		tracer.probes[tracer.handsOn()].off = true
		return tracer, tracer.open()
	})
	w.opensAfterExec(t)
}

// TestKernelHandOnThread has a thread that is not the first one exec: it becomes the first one, and nothing says any
// more whose sandbox the process is in but what the exec itself leaves.
func TestKernelHandOnThread(t *testing.T) {
	requireKernel(t)
	startWatchWith(t, onTracepoints()).opensAfterExec(t)
}

// TestKernelExecByThread does the same under the plan that is asked for: nothing is handed on under the trampoline plan.
func TestKernelExecByThread(t *testing.T) {
	requireKernel(t)
	startWatch(t).opensAfterExec(t)
}

// opensAfterExec checks that what a program opens is told that another thread than the first has executed.
func (w *watch) opensAfterExec(t *testing.T) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$")
	cmd.Env = append(os.Environ(), helperVariable+"=exec by thread")
	w.finish(cmd)
	opens := w.await(1, func(r *Record) bool {
		_, ok := r.Payload.(*event.FileOpen)
		return ok && int(r.Task.PID) == cmd.Process.Pid && r.Task.Comm == "sh"
	})
	if len(opens) == 0 {
		t.Error("of what the program opened nothing was told")
	}
}

// TestKernelHandOnUncounted checks that calls are handed on where none are counted.
func TestKernelHandOnUncounted(t *testing.T) {
	requireKernel(t)
	cfg := onTracepoints()
	cfg.SyscallCounts = CountOff
	w := startWatchWith(t, cfg)
	w.opensAfterExec(t)
	w.transfers()
	if counts, err := w.tracer.SyscallCounts(0); counts != nil || err != nil {
		t.Errorf("calls are counted: %v, %v", counts, err)
	}
}

// TestKernelHandOnUnlabelled checks that a process without a label is found by its cgroup where labels are missing.
func TestKernelHandOnUnlabelled(t *testing.T) {
	requireKernel(t)
	w := startWatchWith(t, onTracepoints())
	if err := w.tracer.shared["unlabelled"].Put(uint32(0), uint64(1)); err != nil {
		t.Fatal(err)
	}
	w.opensAfterExec(t)
}

// maxMapMemory is the kernel memory that maps and the ring may take in the default configuration.
const maxMapMemory = 32 << 20

// TestKernelMemory holds the kernel memory of maps and ring to its budget.
func TestKernelMemory(t *testing.T) {
	requireKernel(t)
	tracer := openOwn(t, onTracepoints())
	defer tracer.Close()
	var total uint64
	counted := map[uint32]bool{}
	for i := range tracer.probes {
		if c := tracer.probes[i].collection; c != nil {
			for _, m := range c.Maps {
				total += mapMemory(t, m, counted)
			}
		}
	}
	t.Logf("%d bytes", total)
	if total > maxMapMemory {
		t.Errorf("maps and ring take %d bytes, the budget is %d", total, maxMapMemory)
	}
}
