// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// calling is a process that makes one notable call after another, each with its number as argument, when it is told to.
type calling struct {
	cmd  *exec.Cmd
	ask  io.WriteCloser
	says *bufio.Reader
	made atomic.Int64
	// fast is up to which number there is but a moment between them: what is made while nobody reads fits into the ring,
	// however long a tracer takes to open.
	fast  atomic.Int64
	stop  chan struct{}
	ended sync.WaitGroup
}

func startCalling(t *testing.T, cgroup string) *calling {
	t.Helper()
	c := &calling{cmd: exec.Command(os.Args[0], "-test.run=^TestHelperProcess$"), stop: make(chan struct{})}
	c.fast.Store(math.MaxInt64)
	c.cmd.Env = append(os.Environ(), helperVariable+"=make calls")
	ask, e1 := c.cmd.StdinPipe()
	says, e2 := c.cmd.StdoutPipe()
	if err := errors.Join(e1, e2); err != nil {
		t.Fatal(err)
	}
	c.ask, c.says = ask, bufio.NewReader(says)
	startIn(t, cgroup, c.cmd)
	t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	c.ended.Go(func() {
		for c.call(t) {
			pause := slowed
			if c.made.Load() > c.fast.Load() {
				pause = 100 * slowed
			}
			select {
			case <-c.stop:
				return
			case <-time.After(pause):
			}
		}
	})
	return c
}

// call has it make one call; false means that it cannot.
func (c *calling) call(t *testing.T) bool {
	_, err := io.WriteString(c.ask, "\n")
	if err == nil {
		_, err = c.says.ReadString('\n')
	}
	if err != nil {
		t.Error(err)
		return false
	}
	c.made.Add(1)
	return true
}

// end ends it.
func (c *calling) end() error {
	close(c.stop)
	c.ended.Wait()
	err := c.ask.Close()
	_, _ = io.Copy(io.Discard, c.says)
	return errors.Join(err, c.cmd.Wait())
}

// helperMakeCalls is what startCalling starts: a call for each line that it reads.
func helperMakeCalls([]string) (string, error) {
	lines := bufio.NewScanner(os.Stdin)
	for i := 0; lines.Scan(); i++ {
		fd, err := unix.MemfdCreate(strconv.Itoa(i), unix.MFD_CLOEXEC)
		if err := errors.Join(err, unix.Close(fd)); err != nil {
			return "", err
		}
		fmt.Println(i)
	}
	return "made", lines.Err()
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
		load.fast.Store(load.made.Load() + 4*unreadAtMost)
		r.kill(t)
		load.reach(t, 50) // while nobody reads
		if next.change != nil {
			next.change(&cfg)
		}
		r = told.read(t, openPinned(t, cfg, next.want))
		load.fast.Store(math.MaxInt64)
	}
	load.reach(t, 50)
	if err := load.end(); err != nil {
		t.Error(err)
	}
	r.kill(t)
	wrong := map[int][]int64{}
	for i := range load.made.Load() {
		if n := told.seen[fmt.Sprint(i)]; n != 1 {
			wrong[n] = append(wrong[n], i)
		}
	}
	for n, calls := range wrong {
		t.Errorf("of %d calls %d were told %d times, %v first", load.made.Load(), len(calls), n, calls[:min(8, len(calls))])
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
	cfg := pinnedWhole(dir)
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
