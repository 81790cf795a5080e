// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// ofProcess is what is told of a process, over all readings so far.
func ofProcess(pid uint32, readings ...SyscallCounts) (calls, failed map[string]int64) {
	calls, failed = map[string]int64{}, map[string]int64{}
	for _, reading := range readings {
		for _, p := range reading.Processes {
			if p.Task.PID != pid {
				continue
			}
			for _, c := range p.Counts {
				calls[c.Name] += c.N
			}
			for _, c := range p.Errors {
				failed[c.Name] += c.N
			}
		}
	}
	return calls, failed
}

// TestKernelSyscallProcesses: calls are told by process, and what is told of processes is part of the sandbox's sum.
func TestKernelSyscallProcesses(t *testing.T) {
	requireKernel(t)
	cfg := testConfig()
	cfg.SyscallCounts = CountOn
	w := startWatchWith(t, cfg)
	var pids []uint32
	var readings []SyscallCounts
	for range 2 {
		pids = append(pids, w.run(helperRun{action: "calls"}).pid)
		all, err := w.tracer.SyscallCounts(w.id)
		if err != nil || len(all) != 1 {
			t.Fatalf("counts %+v, %v, want those of one sandbox", all, err)
		}
		readings = append(readings, all[0])
	}
	for _, pid := range pids {
		calls, failed := ofProcess(pid, readings...)
		if calls["getppid"] != callsOfGetppid || calls["fchdir"] != callsOfFchdir || failed["fchdir"] != callsOfFchdir || calls["unknown"] != 1 {
			t.Errorf("process %d: calls %v, errors %v", pid, calls, failed)
		}
	}
	last := readings[len(readings)-1]
	if n := countOf(last.Counts, "getppid"); n != 2*callsOfGetppid {
		t.Errorf("%d calls of getppid in the sandbox, want %d", n, 2*callsOfGetppid)
	}
	for _, c := range last.Counts {
		var told int64
		for _, pid := range pids {
			calls, _ := ofProcess(pid, readings...)
			told += calls[c.Name]
		}
		if told > c.N {
			t.Errorf("%s: %d calls of processes, %d of all", c.Name, told, c.N)
		}
	}
}

// TestKernelSyscallProcessesFull: processes that find no room are counted with their sandbox, exactly.
func TestKernelSyscallProcessesFull(t *testing.T) {
	requireKernel(t)
	cfg := testConfig()
	cfg.SyscallCounts = CountOn
	w := startWatchWith(t, cfg)
	processes := w.tracer.calls.processes
	for i := range 2 * processes.MaxEntries() {
		// No process has such an id, nor is there such a sandbox.
		err := processes.Update(syscallCaller{Start: uint64(i) + 1, Pid: 1 << 30}, syscallCallerCalls{Sandbox: 1}, ebpf.UpdateNoExist)
		if errors.Is(err, unix.E2BIG) {
			break
		}
		if err != nil && !errors.Is(err, unix.ENOMEM) {
			t.Fatal(err)
		}
	}
	helper := w.run(helperRun{action: "calls"})
	all, err := w.tracer.SyscallCounts(w.id)
	if err != nil || len(all) != 1 {
		t.Fatalf("counts %+v, %v, want those of one sandbox", all, err)
	}
	if calls, _ := ofProcess(helper.pid, all...); len(calls) > 0 {
		t.Errorf("a process without room is told: %v", calls)
	}
	if n := countOf(all[0].Counts, "getppid"); n != callsOfGetppid {
		t.Errorf("%d calls of getppid, want %d", n, callsOfGetppid)
	}
	if n := countOf(all[0].Errors, "fchdir"); n != callsOfFchdir {
		t.Errorf("%d errors of fchdir, want %d", n, callsOfFchdir)
	}
}

// callerCalls is the kernel's counters of a process that made each call so often.
func callerCalls(sandbox uint64, counts ...callCount) (c syscallCallerCalls) {
	c.Sandbox = sandbox
	for i, n := range counts {
		c.Calls[i].Name, c.Calls[i].Calls, c.Calls[i].Errors = callNamed|uint32(i), n.calls, n.errors
	}
	return c
}

func TestCallsTold(t *testing.T) {
	calls := &calls{known: map[syscallCaller]*knownCaller{}, pasts: map[uint64]*pastCalls{}}
	show := func() (shown []string) {
		for _, p := range calls.tell(7) {
			shown = append(shown, fmt.Sprint(p.Task.PID, p.Ended, p.Calls, p.Counts, p.Errors))
		}
		return shown
	}
	first := syscallCaller{Start: 1, Pid: 1}
	calls.known[first] = &knownCaller{calls: callerCalls(7, callCount{5, 1}, callCount{2, 0})}
	calls.known[syscallCaller{Start: 2, Pid: 2}] = &knownCaller{calls: callerCalls(8, callCount{9, 0})}
	final, none := callerCalls(7, callCount{20, 0}), syscallCallerCalls{}
	calls.past(7).end(ProcessSyscalls{Task: Task{PID: 3}, Ended: true}, &final, &none)
	want := []string{"3 true 20 [{read 20}] []", "1 false 7 [{read 5} {write 2}] [{read 1}]"}
	if diff := cmp.Diff(want, show()); diff != "" {
		t.Errorf("first (-want +got):\n%s", diff)
	}
	calls.known[first].calls = callerCalls(7, callCount{5, 1}, callCount{3, 0})
	if diff := cmp.Diff([]string{"1 false 1 [{write 1}] []"}, show()); diff != "" {
		t.Errorf("what is new (-want +got):\n%s", diff)
	}
	if got := show(); got != nil {
		t.Errorf("told again: %v", got)
	}
	// Of many, those that made the most are told, whether they have ended or not.
	for i := range uint64(40) {
		final := callerCalls(7, callCount{100 + i, 0})
		calls.past(7).end(ProcessSyscalls{Task: Task{PID: 100 + uint32(i)}, Ended: true}, &final, &none)
	}
	calls.known[first].calls = callerCalls(7, callCount{1000, 1}, callCount{3, 0})
	var pids []uint32
	for _, p := range calls.tell(7) {
		pids = append(pids, p.Task.PID)
	}
	if diff := cmp.Diff([]uint32{1, 139, 138, 137, 136, 135, 134, 133, 132, 131}, pids); diff != "" {
		t.Errorf("of many (-want +got):\n%s", diff)
	}
}

func TestCountedName(t *testing.T) {
	for _, key := range []syscallCounterKey{{Number: 39}, {Number: 5, Compat: 1}, {Number: syscallUnknown}} {
		if of := counterOf(0, nameOf(&key)); of != key {
			t.Errorf("%+v becomes %+v", key, of)
		}
		if got, want := countedName(nameOf(&key)), syscallName(key.Number, key.Compat != 0); got != want {
			t.Errorf("%+v is called %q, want %q", key, got, want)
		}
	}
}
