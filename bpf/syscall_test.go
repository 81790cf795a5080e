// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// What helperCalls calls, how often: calls that neither Go's runtime nor a test binary's start make.
const (
	callsOfGetppid = 12345
	callsOfFchdir  = 777
)

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

func TestKernelSyscallCounts(t *testing.T) {
	requireKernel(t)
	cfg := testConfig()
	cfg.SyscallCounts = CountOn
	w := startWatchWith(t, cfg)
	w.run(helperRun{action: "calls", outside: true})
	w.run(helperRun{action: "calls"})
	w.run(helperRun{action: "calls 32", args: []string{t.TempDir()}})
	all, err := w.tracer.SyscallCounts()
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
		{"open/i386", 1, 1},
	} {
		calls, failed := countOf(got.Counts, want.name), countOf(got.Errors, want.name)
		if calls != want.calls || failed != want.errors {
			t.Errorf("%s: %d calls and %d errors, want %d and %d", want.name, calls, failed, want.calls, want.errors)
		}
	}
}

func TestKernelSyscallForget(t *testing.T) {
	requireKernel(t)
	cfg := testConfig()
	cfg.SyscallCounts = CountOn
	w := startWatchWith(t, cfg)
	w.run(helperRun{action: "calls"})
	if err := w.tracer.Untrack(w.id); err != nil {
		t.Fatal(err)
	}
	all, err := w.tracer.SyscallCounts()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 0 {
		t.Errorf("counts of %d sandboxes after the last was untracked, want none", len(all))
	}
}

func TestSyscallName(t *testing.T) {
	for _, c := range []struct {
		number uint32
		compat bool
		want   string
	}{
		{unix.SYS_READ, false, "read"},
		{unix.SYS_OPENAT2, false, "openat2"},
		{5, true, "open/i386"},
		{295, true, "openat/i386"},
		{334, false, "rseq"},
		{400, false, "syscall_400"},
		{1023, false, "syscall_1023"},
		{syscallUnknown, false, "unknown"},
		{syscallUnknown, true, "unknown/i386"},
		{^uint32(0), true, "syscall_4294967295/i386"},
	} {
		if got := syscallName(c.number, c.compat); got != c.want {
			t.Errorf("syscallName(%d, %v) = %q, want %q", c.number, c.compat, got, c.want)
		}
	}
}
