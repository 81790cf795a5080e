// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// What helperCalls calls, how often: calls that neither Go's runtime nor a test binary's start make.
const (
	callsOfGetppid = 12345
	callsOfFchdir  = 777
	// How often helperCallsAndWait sleeps, and how long at least.
	callsOfSleep = 5
	waitOfSleep  = 20 * time.Millisecond
)

// helperCallsAndWait does what helperCalls does, and waits in the kernel.
func helperCallsAndWait([]string) (string, error) {
	for range callsOfSleep {
		pause := unix.NsecToTimespec(waitOfSleep.Nanoseconds())
		if err := unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &pause, nil); err != nil {
			return "", err
		}
	}
	return helperCalls(nil)
}

// helperCalls makes a known number of system calls, some of which fail, and one 32-bit program's.
func helperCalls([]string) (string, error) {
	for range callsOfGetppid {
		unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
	}
	for range callsOfFchdir {
		unix.RawSyscall(unix.SYS_FCHDIR, ^uintptr(0), 0, 0)
	}
	unix.RawSyscall(5000, 0, 0, 0)
	return "", nil
}

// callsOfThread is how many calls of each kind each thread of helperCallsMeanwhile makes, and threadsOfCalls how many there are.
const (
	callsOfThread  = 10_000
	threadsOfCalls = 3
)

// helperCallsMeanwhile makes a known number of system calls by several threads, half of which fail.
func helperCallsMeanwhile([]string) (string, error) {
	var wait sync.WaitGroup
	for range threadsOfCalls {
		wait.Go(func() {
			runtime.LockOSThread()
			for range callsOfThread {
				unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
				unix.RawSyscall(unix.SYS_FCHDIR, ^uintptr(0), 0, 0)
			}
		})
	}
	wait.Wait()
	return "", nil
}

// helperCalls32 becomes a 32-bit program that opens its argument and exits.
func helperCalls32(args []string) (string, error) {
	return "", run32(openCode32(5, args[0]+"/missing"))
}

func countOf(counts []event.Count, name string) int64 {
	for _, c := range counts {
		if c.Name == name {
			return c.N
		}
	}
	return 0
}

// countCalls is the configuration of a tracer that counts system calls, whatever plan it follows.
func countCalls() Config {
	cfg := testConfig()
	cfg.SyscallCounts = CountOn
	return cfg
}

func TestKernelSyscallCounts(t *testing.T) {
	requireKernel(t)
	w := startWatchShared(t, shared.counts)
	w.run(helperRun{action: "calls", outside: true})
	w.run(helperRun{action: "calls"})
	w.run(helperRun{action: "calls 32", args: []string{t.TempDir()}})
	all, err := w.tracer.SyscallCounts(0)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || all[0].Sandbox != w.id {
		t.Fatalf("counts of %d sandboxes, want those of %d alone: %+v", len(all), w.id, all)
	}
	got := all[0]
	for _, want := range []struct {
		name          string
		calls, errors int64
	}{
		{"getppid", callsOfGetppid, 0},
		{"fchdir", callsOfFchdir, callsOfFchdir},
		{"unknown", 1, 1},
		{"open/" + string(event.CompatABI()), 1, 1},
	} {
		calls, failed := countOf(got.Counts, want.name), countOf(got.Errors, want.name)
		if calls != want.calls || failed != want.errors {
			t.Errorf("%s: %d calls and %d errors, want %d and %d", want.name, calls, failed, want.calls, want.errors)
		}
	}
}

// fillFronts has the places that processors count in, of which nobody has one, at a number of calls that was added up.
func (w *watch) fillFronts(calls uint64) {
	w.t.Helper()
	fronts := w.tracer.calls.fronts
	for place := range fronts.places {
		values := slices.Repeat([]syscallFront{{Calls: calls, Told: uint32(calls)}}, fronts.cpus)
		if err := w.tracer.probes[w.tracer.handsOn()].collection.Maps["fronts"].Put(place, values); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestKernelSyscallCountsMeanwhile has what each processor counted added up again and again while it counts, and its places
// taken by one process after the other, beyond where what was added up begins anew: nothing is counted twice, and nothing is
// missing.
func TestKernelSyscallCountsMeanwhile(t *testing.T) {
	requireKernel(t)
	w := startWatchShared(t, shared.counts)
	w.fillFronts(1<<32 - callsOfThread/2)
	const processes = 3
	var running sync.WaitGroup
	for range processes {
		running.Go(func() { w.run(helperRun{action: "calls meanwhile"}) })
	}
	ended := make(chan struct{})
	go func() {
		running.Wait()
		close(ended)
	}()
	for reads, over := 0, false; ; reads++ {
		select {
		case <-ended:
			over = true
		default:
		}
		all, err := w.tracer.SyscallCounts(w.id)
		if err != nil {
			t.Fatal(err)
		}
		if !over {
			continue
		}
		if len(all) != 1 {
			t.Fatalf("counts of %d sandboxes, want 1", len(all))
		}
		const want = processes * threadsOfCalls * callsOfThread
		for name, calls := range map[string]int64{
			"getppid": countOf(all[0].Counts, "getppid"),
			"fchdir":  countOf(all[0].Counts, "fchdir"), "fchdir that failed": countOf(all[0].Errors, "fchdir"),
		} {
			if calls != want {
				t.Errorf("%s: %d calls, want %d, by %d reads", name, calls, want, reads)
			}
		}
		return
	}
}

func TestKernelSyscallForget(t *testing.T) {
	requireKernel(t)
	w := startWatchShared(t, shared.counts)
	w.run(helperRun{action: "calls"})
	if err := w.tracer.Untrack(w.id); err != nil {
		t.Fatal(err)
	}
	all, err := w.tracer.SyscallCounts(0)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 0 {
		t.Errorf("counts of %d sandboxes after the last was untracked, want none", len(all))
	}
}

// TestKernelSyscallsTold has a tracer take over counts of system calls with what was told of them, and begin anew where they
// do.
func TestKernelSyscallsTold(t *testing.T) {
	requireKernel(t)
	dir, cgroup := pinDirectory(t), scratchCgroup(t)
	t.Cleanup(func() { _ = removePins(dir) })
	cfg := pinned(dir)
	cfg.SyscallCounts = CountOn
	id := cgroupID(t, cgroup)
	tracer := openPinned(t, cfg, event.PinningStarted)
	if err := tracer.Track(id); err != nil {
		t.Fatal(err)
	}
	runIn(t, cgroup, "/bin/true")
	all, err := tracer.SyscallCounts(0)
	if err != nil || len(all) != 1 {
		t.Fatalf("counts of %d sandboxes: %v", len(all), err)
	}
	at := time.Now()
	tracer.SyscallsTold(&all[0], at)
	if err := tracer.Close(); err != nil {
		t.Fatal(err)
	}
	runIn(t, cgroup, "/bin/true") // while nobody reads
	tracer = openPinned(t, cfg, event.PinningAdopted)
	told := tracer.ToldSyscalls()[id]
	if !told.Time.Equal(at.Truncate(0)) || countOf(told.Counts, "execve") != 1 {
		t.Errorf("told at %v: %+v", told.Time, told.Counts)
	}
	for _, c := range all[0].Counts {
		if n := countOf(told.Counts, c.Name); n != c.N {
			t.Errorf("%d %s were told, %d are remembered", c.N, c.Name, n)
		}
	}
	again, err := tracer.SyscallCounts(0)
	if err != nil || len(again) != 1 || countOf(again[0].Counts, "execve") != 2 {
		t.Errorf("the counts do not go on: %+v, %v", again, err)
	}
	if err := tracer.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.RingBytes *= 2 // other maps
	tracer = openPinned(t, cfg, event.PinningReplaced)
	if told := tracer.ToldSyscalls(); len(told) != 0 {
		t.Errorf("of new counts was told %+v", told)
	}
	runIn(t, cgroup, "/bin/true")
	if all, err = tracer.SyscallCounts(0); err != nil || len(all) != 1 {
		t.Fatalf("counts of %d sandboxes: %v", len(all), err)
	}
	tracer.SyscallsTold(&all[0], at)
	if err := tracer.Untrack(id); err != nil {
		t.Fatal(err)
	}
	if err := tracer.Track(id); err != nil {
		t.Fatal(err)
	}
	if told := tracer.ToldSyscalls(); len(told) != 0 {
		t.Errorf("of a sandbox that is watched anew was told %+v", told)
	}
}
