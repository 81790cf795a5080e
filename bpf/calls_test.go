// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
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
	w := startWatchShared(t, shared.counts)
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
	w := startWatchWith(t, countCalls())
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

// TestKernelSyscallLatencies: of each call of a sandbox it is told how long it took, also of one that waits, and of each
// process how long all its calls did.
func TestKernelSyscallLatencies(t *testing.T) {
	requireKernel(t)
	cfg := testConfig()
	cfg.SyscallLatency = true
	w := startWatchWith(t, cfg)
	w.run(helperRun{action: "calls", outside: true})
	helper := w.run(helperRun{action: "calls and wait"})
	all, err := w.tracer.SyscallCounts(w.id)
	if err != nil || len(all) != 1 {
		t.Fatalf("counts %+v, %v, want those of one sandbox", all, err)
	}
	got := map[string]event.Latency{}
	var timed, counted int64
	for _, l := range all[0].Latencies {
		got[l.Name] = l
		timed += l.Count()
		if n := countOf(all[0].Counts, l.Name); n < l.Count() {
			t.Errorf("%d %s, of which %d took any time", n, l.Name, l.Count())
		}
	}
	for _, c := range all[0].Counts {
		counted += c.N
	}
	for name, calls := range map[string]int64{"getppid": callsOfGetppid, "fchdir": callsOfFchdir, "unknown": 1, "clock_nanosleep": callsOfSleep} {
		l := got[name]
		if l.Count() != calls || l.Sum <= 0 {
			t.Errorf("%d %s took %v, want %d", l.Count(), name, l.Sum, calls)
		}
	}
	// Short ones are many and short, those that wait take what they waited.
	short, long := got["getppid"], got["clock_nanosleep"]
	if short.Sum/callsOfGetppid > time.Millisecond {
		t.Errorf("getppid took %v on average", short.Sum/callsOfGetppid)
	}
	if long.Sum < callsOfSleep*waitOfSleep {
		t.Errorf("clock_nanosleep took %v, and slept %v", long.Sum, callsOfSleep*waitOfSleep)
	}
	for i, n := range long.Buckets {
		if n > 0 && event.LatencyBound(i) < waitOfSleep.Seconds() {
			t.Errorf("%d calls of clock_nanosleep took up to %v s", n, event.LatencyBound(i))
		}
	}
	var process event.Latency
	for _, p := range all[0].Processes {
		if p.Task.PID == helper.pid && len(p.Latencies) == 1 {
			process = p.Latencies[0]
		}
	}
	if least := int64(callsOfGetppid + callsOfFchdir + callsOfSleep + 1); process.Count() < least || process.Sum < long.Sum {
		t.Errorf("the process's calls took %v and are %d, want %v for those of nanosleep alone, and %d", process.Sum, process.Count(), long.Sum, least)
	}
	// What a process does not begin while it is watched has no duration: the fork that it comes back from, the exec.
	if counted-timed > 100 {
		t.Errorf("%d calls of %d are of unknown duration", counted-timed, counted)
	}
}

// TestKernelSyscallLatenciesOff: nobody pays for what nobody wants to know.
func TestKernelSyscallLatenciesOff(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	w.run(helperRun{action: "calls"})
	all, err := w.tracer.SyscallCounts(w.id)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if len(c.Latencies) > 0 {
			t.Errorf("it is told how long %d calls took", len(c.Latencies))
		}
	}
	p := &w.tracer.probes[w.tracer.handsOn()]
	if p.collection != nil && p.collection.Programs["syscall_on_sys_enter"] != nil {
		t.Error("a program is on the entry of system calls")
	}
}

func TestLatencyOf(t *testing.T) {
	counted := syscallLatencies{Sum: 5}
	if len(counted.Buckets) != event.LatencyBuckets {
		t.Fatalf("the kernel side has %d buckets", len(counted.Buckets))
	}
	for i := range counted.Buckets {
		counted.Buckets[i] = uint64(i)
	}
	l := latencyOf("read", &counted)
	if l.Name != "read" || l.Sum != 5 || l.Buckets[27] != 27 || l.Count() != 27*28/2 {
		t.Errorf("got %+v", l)
	}
}
