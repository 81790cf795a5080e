// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// calling is a process that makes one notable call after another, each with its number as argument.
type calling struct {
	cmd  *exec.Cmd
	stop io.Closer
	made atomic.Int64
	done chan error
}

func startCalling(t *testing.T, cgroup string) *calling {
	t.Helper()
	c := &calling{cmd: exec.Command(os.Args[0], "-test.run=^TestHelperProcess$"), done: make(chan error, 1)}
	c.cmd.Env = append(os.Environ(), helperVariable+"=make calls")
	stop, e1 := c.cmd.StdinPipe()
	says, e2 := c.cmd.StdoutPipe()
	if err := errors.Join(e1, e2); err != nil {
		t.Fatal(err)
	}
	c.stop = stop
	startIn(t, cgroup, c.cmd)
	t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	go func() {
		lines := bufio.NewScanner(says)
		for lines.Scan() {
			if _, err := strconv.Atoi(lines.Text()); err == nil {
				c.made.Add(1)
			}
		}
		c.done <- errors.Join(lines.Err(), c.cmd.Wait())
	}()
	return c
}

// helperMakeCalls is what startCalling starts. It ends when nobody can write to it any more.
func helperMakeCalls([]string) (string, error) {
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	for i := 0; ; i++ {
		select {
		case <-ended:
			return "made", nil
		case <-time.After(slowed):
		}
		fd, err := unix.MemfdCreate(strconv.Itoa(i), unix.MFD_CLOEXEC)
		if err := errors.Join(err, unix.Close(fd)); err != nil {
			return "", err
		}
		fmt.Println(i)
	}
}

// reach waits until so many more calls are made.
func (c *calling) reach(t *testing.T, more int64) {
	t.Helper()
	from := c.made.Load()
	for deadline := time.Now().Add(60 * time.Second); c.made.Load() < from+more; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("only %d calls more were made, %d are waited for", c.made.Load()-from, more)
		}
	}
}

// TestKernelPinsCalls has tracers take over from each other while notable calls are made, of which one program at many
// functions tells under the plan trampoline. Each call is told once.
func TestKernelPinsCalls(t *testing.T) {
	dir, cgroup := pinDirectory(t), scratchCgroup(t)
	t.Cleanup(func() { _ = removePins(dir) })
	cfg := pinned(dir)
	told := &execs{seen: map[string]int{}, of: func(record *Record) (string, bool) {
		call, ok := record.Payload.(*event.SyscallNotable)
		if !ok || call.Name != "memfd_create" || len(call.Arguments) == 0 {
			return "", false
		}
		return call.Arguments[0].Value, true
	}}
	r := told.read(t, openPinned(t, cfg, event.PinningStarted))
	if err := r.Track(cgroupID(t, cgroup)); err != nil {
		t.Fatal(err)
	}
	load := startCalling(t, cgroup)
	for _, next := range []struct {
		change func(*Config)
		want   event.Pinning
	}{
		{nil, event.PinningAdopted},
		{func(c *Config) { c.KeptBudget *= 2 }, event.PinningUpdated},
		{nil, event.PinningAdopted},
	} {
		load.reach(t, 50)
		r.kill(t)
		load.reach(t, 50) // while nobody reads
		if next.change != nil {
			next.change(&cfg)
		}
		r = told.read(t, openPinned(t, cfg, next.want))
	}
	load.reach(t, 50)
	if err := errors.Join(load.stop.Close(), <-load.done); err != nil {
		t.Error(err)
	}
	r.kill(t)
	for i := range load.made.Load() {
		if n := told.seen[fmt.Sprint(i)]; n != 1 {
			t.Errorf("call %d of %d was told %d times", i, load.made.Load(), n)
		}
	}
}

// TestKernelPinsPlans has tracers of different hook plans take over from each other, the last of which cannot follow its
// plan with one probe: each has all probes.
func TestKernelPinsPlans(t *testing.T) {
	dir := pinDirectory(t)
	if err := tryFexit(); err != nil {
		t.Skipf("programs cannot hang on kernel functions here: %v", err)
	}
	t.Cleanup(func() { _ = removePins(dir) })
	cfg := pinned(dir)
	cfg.SyscallCounts = CountOn // else they count under one plan, and not under the other
	refused := func(_ string, spec *ebpf.CollectionSpec) {
		if program := spec.Programs["file_on_filp_open"]; program != nil {
			program.Instructions = asm.Instructions{asm.Return()}
		}
	}
	for _, next := range []struct {
		plan     Plan
		version  func(probe string, spec *ebpf.CollectionSpec)
		want     event.Pinning
		followed Plan
	}{
		{PlanTracepoint, nil, event.PinningStarted, PlanTracepoint},
		{PlanTrampoline, nil, event.PinningReplaced, PlanTrampoline},
		{PlanTracepoint, nil, event.PinningReplaced, PlanTracepoint},
		{PlanTrampoline, refused, event.PinningReplaced, PlanTracepoint},
	} {
		cfg.Plan = next.plan
		tracer := openVersion(t, cfg, next.version, next.want)
		for _, p := range tracer.Probes() {
			if p.Name == "file" && p.Plan != string(next.followed) {
				t.Errorf("under the plan %s the file probe follows %s: %s", next.plan, p.Plan, p.Fallback)
			}
		}
		if err := tracer.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
