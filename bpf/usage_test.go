// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// What helperUse uses at least.
const (
	usedRead    = 3 << 20
	usedWritten = 5 << 20
	usedMemory  = 64 << 20
	usedTime    = 300 * time.Millisecond
)

// usedThreads is how many threads of the helper are at work until the process ends.
const usedThreads = 8

// helperUse uses a known amount of what is accounted: part of it on a thread that ends before the process does, part on
// threads that end with it, all at once. It says what it used so far, as the kernel accounts it.
func helperUse([]string) (string, error) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	zero, err := os.Open("/dev/zero")
	if err != nil {
		return "", err
	}
	buffer := make([]byte, max(usedRead, usedWritten))
	var failed error
	unheard := onThread(false, func() {
		_, err := null.Write(buffer[:usedWritten])
		_, errRead := zero.Read(buffer[:usedRead])
		failed = errors.Join(err, errRead)
	})
	if err := errors.Join(failed, unheard); err != nil {
		return "", err
	}
	var at sync.WaitGroup
	at.Add(usedThreads)
	for range usedThreads {
		go func() {
			runtime.LockOSThread()
			_, _ = null.Write(buffer[:usedWritten])
			spend(usedTime / usedThreads)
			at.Done()
			select {}
		}()
	}
	at.Wait()
	memory := make([]byte, usedMemory)
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
	spend(usedTime)
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		return "", err
	}
	runtime.KeepAlive(memory)
	return fmt.Sprintln(used.Utime.Nano()+used.Stime.Nano(), used.Minflt), nil
}

// spend uses a processor for so long, however long that takes.
func spend(most time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used := func() time.Duration {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
			return most
		}
		return time.Duration(now.Nano())
	}
	for end := used() + most; used() < end; {
	}
}

// TestKernelProcessUsage holds what an exit says of what a process used against what the process knows of it before, and
// wait4 after: what its threads do in between, and the kernel to end them, belongs to neither.
func TestKernelProcessUsage(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$")
	cmd.Env = append(os.Environ(), helperVariable+"=use")
	var said strings.Builder
	state := w.finishSaying(cmd, &said)
	waited := state.SysUsage().(*syscall.Rusage)
	var least time.Duration
	var faults uint64
	if _, err := fmt.Sscan(said.String(), &least, &faults); err != nil {
		t.Fatalf("the helper says %q: %v", said.String(), err)
	}
	_, ended := one[*event.ProcessExit](w, cmd.Process.Pid)
	u := ended.Usage
	if u == nil {
		t.Fatal("the exit says nothing of what was used")
	}
	if u.MaxResident != uint64(waited.Maxrss)<<10 {
		t.Errorf("at most %d bytes were resident, wait says %d", u.MaxResident, waited.Maxrss<<10)
	}
	// The time of a thread that is on a CPU is brought up to date with its tick, which 100 a second are at the least.
	lag := time.Duration(runtime.NumCPU()) * 10 * time.Millisecond
	most := time.Duration(waited.Utime.Nano() + waited.Stime.Nano())
	if got := u.User + u.System; got < least-lag || got > most+lag || got < usedTime {
		t.Errorf("%v on a CPU (%v user, %v system), want from %v, which it knew, to %v, which wait says", got, u.User, u.System, least, most)
	}
	const written = (1 + usedThreads) * usedWritten
	if u.BytesRead < usedRead || u.BytesRead > usedRead+4<<20 || u.BytesWritten < written || u.BytesWritten > written+1<<20 {
		t.Errorf("read %d, want %d; written %d, want %d", u.BytesRead, usedRead, u.BytesWritten, written)
	}
	if u.MinorFaults < faults || u.MinorFaults > uint64(waited.Minflt) || u.MajorFaults > uint64(waited.Majflt) {
		t.Errorf("%d minor and %d major faults; %d minor were known before, wait says %d and %d",
			u.MinorFaults, u.MajorFaults, faults, waited.Minflt, waited.Majflt)
	}
	if ended.OOMKilled {
		t.Error("it is said to be killed for lack of memory")
	}
}

// helperEatMemory takes memory until there is none left, or a gigabyte.
func helperEatMemory([]string) (string, error) {
	var kept [][]byte
	for range 1024 {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += os.Getpagesize() {
			block[i] = 1
		}
		kept = append(kept, block)
	}
	return strconv.Itoa(len(kept)), errors.New("there is still memory left")
}

// memoryLimited makes cgroup a limit on the memory of what joins it, and returns the files to write a process's pid to.
func memoryLimited(t *testing.T, cgroup string) []string {
	t.Helper()
	const limit = "67108864"
	if os.WriteFile(filepath.Join(cgroup2Mount(t), "cgroup.subtree_control"), []byte("+memory"), 0) == nil {
		if os.WriteFile(filepath.Join(cgroup, "memory.max"), []byte(limit), 0) == nil {
			_ = os.WriteFile(filepath.Join(cgroup, "memory.swap.max"), []byte("0"), 0)
			return []string{filepath.Join(cgroup, "cgroup.procs")}
		}
	}
	// On a hybrid host memory is the old hierarchy's.
	old, err := os.MkdirTemp("/sys/fs/cgroup/memory", "watchglass-test-")
	if err != nil {
		t.Skipf("memory cannot be limited here: %v", err)
	}
	t.Cleanup(func() { unix.Rmdir(old) })
	if err := os.WriteFile(filepath.Join(old, "memory.limit_in_bytes"), []byte(limit), 0); err != nil {
		t.Skipf("memory cannot be limited here: %v", err)
	}
	_ = os.WriteFile(filepath.Join(old, "memory.memsw.limit_in_bytes"), []byte(limit), 0)
	return []string{filepath.Join(old, "cgroup.procs"), filepath.Join(cgroup, "cgroup.procs")}
}

func TestKernelProcessOutOfMemory(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	var join strings.Builder
	for _, file := range memoryLimited(t, w.cgroup) {
		fmt.Fprintf(&join, "echo $$ > %s && ", file)
	}
	cmd := exec.Command("/bin/sh", "-c", join.String()+"exec "+os.Args[0]+" -test.run=^TestHelperProcess$")
	cmd.Env = append(os.Environ(), helperVariable+"=eat memory", "GOGC=off")
	out, err := cmd.CombinedOutput()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if err == nil || !ok || !status.Signaled() {
		t.Skipf("the limit of memory was not enforced: %v\n%s", err, out)
	}
	_, ended := one[*event.ProcessExit](w, cmd.Process.Pid)
	if !ended.OOMKilled || ended.Signal != int(unix.SIGKILL) {
		t.Errorf("ended with %+v, want to be killed for lack of memory", ended)
	}
}

func TestSplitRuntime(t *testing.T) {
	const ms = uint64(time.Millisecond)
	for _, test := range []struct {
		runtime, user, system  uint64
		wantUser, wantInSystem time.Duration
	}{
		{0, 0, 0, 0, 0},
		{10 * ms, 0, 0, 10 * time.Millisecond, 0},
		{10 * ms, 4 * ms, 0, 10 * time.Millisecond, 0},
		{10 * ms, 0, 4 * ms, 0, 10 * time.Millisecond},
		{10 * ms, 4 * ms, 4 * ms, 5 * time.Millisecond, 5 * time.Millisecond},
		{^uint64(0) >> 1, 1, 1, time.Duration(^uint64(0)>>1 - 1<<62), 1 << 62},
	} {
		if user, system := splitRuntime(test.runtime, test.user, test.system); user != test.wantUser || system != test.wantInSystem {
			t.Errorf("%+v is %v and %v", test, user, system)
		}
	}
}
