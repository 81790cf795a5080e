// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/testenv"
)

// newReturnsTracer makes a tracer of the notable probe, and of those that nothing works without, whose programs hang on returns
// by kretprobes. Where the kernel has none the test ends.
func newReturnsTracer(t *testing.T, cfg Config) *Tracer {
	t.Helper()
	testenv.OwnTracer(t)
	cfg.Plan = PlanTrampoline
	tracer, err := newTracer(cfg)
	if errors.Is(err, ErrNoTrampolines) {
		t.Skipf("programs cannot hang on kernel functions here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := tryEachReturn(); err != nil {
		t.Skipf("programs cannot hang on returns by kretprobes here: %v", err)
	}
	tracer.returns = returning{each: true}
	for i := range tracer.probes {
		p := &tracer.probes[i]
		p.off = p.off || !p.required && p.name != "notable"
	}
	return tracer
}

// openReturns opens it, and closes it when the test ends.
func openReturns(t *testing.T, cfg Config) *Tracer {
	t.Helper()
	tracer := newReturnsTracer(t, cfg)
	if err := tracer.open(); err != nil {
		t.Fatal(errors.Join(err, tracer.Close()))
	}
	t.Cleanup(func() { _ = tracer.Close() })
	for _, p := range tracer.Probes() {
		if !p.Attached || p.Fallback != "" {
			t.Fatalf("probe %s: %s%s", p.Name, p.Err, p.Fallback)
		}
	}
	return tracer
}

// setOf is the events that a tracer's program hangs on.
func setOf(t *testing.T, tracer *Tracer) string {
	t.Helper()
	for i := range tracer.probes {
		if id := tracer.probes[i].returnSet; id != "" {
			return id
		}
	}
	t.Fatal("the tracer has no events")
	return ""
}

// returnSets is the sets of events that there are.
func returnSets(t *testing.T) (ids []string) {
	t.Helper()
	f, err := openTraceFiles()
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	if ids, err = f.sets(); err != nil {
		t.Fatal(err)
	}
	return ids
}

// helperWaitInCalls makes the same notable call by many threads at once, which wait in it for each other.
func helperWaitInCalls(args []string) (string, error) {
	count, err := strconv.Atoi(args[1])
	if err != nil {
		return "", err
	}
	dir, err := os.Open(filepath.Dir(args[0]))
	if err != nil {
		return "", err
	}
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, args[0], 0)
	if err != nil {
		return "", err
	}
	errs := make(chan error, count)
	for range count {
		go func() {
			// It waits for somebody who writes.
			fd, err := unix.OpenByHandleAt(int(dir.Fd()), handle, unix.O_RDONLY|unix.O_CLOEXEC)
			if err == nil {
				err = unix.Close(fd)
			}
			errs <- err
		}()
	}
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		n, err := threadsIn(unix.SYS_OPEN_BY_HANDLE_AT)
		if err != nil {
			return "", err
		}
		if n == count {
			break
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("only %d of %d threads are in the call", n, count)
		}
	}
	end, err := os.OpenFile(args[0], os.O_WRONLY, 0)
	if err != nil {
		return "", err
	}
	for range count {
		err = errors.Join(err, <-errs)
	}
	return "", errors.Join(err, end.Close())
}

// threadsIn is how many threads of this process are in a system call.
func threadsIn(number int) (n int, err error) {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 0, err
	}
	for _, thread := range threads {
		// One that ends meanwhile is in none.
		call, _ := os.ReadFile(filepath.Join("/proc/self/task", thread.Name(), "syscall"))
		if strings.HasPrefix(string(call), strconv.Itoa(number)+" ") {
			n++
		}
	}
	return n, nil
}

// TestKernelReturnsMissed: calls of more threads at once than the kernel has room to follow to their returns are told as far as
// there is room, and the others are counted as missed.
func TestKernelReturnsMissed(t *testing.T) {
	requireKernel(t)
	// Go's signals to its own threads interrupt calls, which are then made again.
	t.Setenv("GODEBUG", "asyncpreemptoff=1")
	cfg := testConfig()
	cfg.KeptBudget = 64 << 20
	const beyond = 37
	w := startWatchOpened(t, func() (*Tracer, error) {
		tracer := newReturnsTracer(t, cfg)
		return tracer, tracer.open()
	})
	fifo := filepath.Join(realPath(t, t.TempDir()), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	opens := func(threads, told int) {
		t.Helper()
		helper := w.run(helperRun{action: "wait in calls", args: []string{fifo, strconv.Itoa(threads)}})
		got := w.await(told, func(r *Record) bool {
			call, ok := r.Payload.(*event.SyscallNotable)
			return ok && r.Task.PID == helper.pid && call.Name == "open_by_handle_at"
		})
		if len(got) != told {
			t.Errorf("of %d calls at once %d are told, want %d", threads, len(got), told)
		}
	}
	missed := func() uint64 {
		for _, p := range w.tracer.Probes() {
			if p.Name == "notable" {
				return p.Missed
			}
		}
		return 0
	}
	opens(16, 16)
	if n := missed(); n != 0 {
		t.Errorf("%d calls are missed while there is room for all", n)
	}
	opens(returnsAtOnce+beyond, returnsAtOnce)
	if n := missed(); n != beyond {
		t.Errorf("%d calls are missed, want %d", n, beyond)
	}
	opens(16, 16)
	if n := missed(); n != beyond {
		t.Errorf("%d calls are missed once there is room again, want %d", n, beyond)
	}
}

// helperHoldReturns hangs on returns by a set of events until it is killed, and says which.
func helperHoldReturns([]string) (string, error) {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Kprobe, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return "", err
	}
	id := newReturnSet()
	var links []link.Link
	err = withTraceFiles(func(f *traceFiles) error {
		for event, functions := range map[string][]string{heldEvent + id: {triedFunction}, returnEvent + id: {triedFunction, "orderly_poweroff"}} {
			for _, function := range functions {
				if err := f.add(event, function, 1); err != nil {
					return err
				}
			}
			l, err := f.attach(event, program)
			if err != nil {
				return err
			}
			links = append(links, l)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	fmt.Println(id)
	_, err = io.Copy(io.Discard, os.Stdin)
	return "", errors.Join(err, closeAll(links))
}

// holdReturns starts a process that hangs on returns, and is the set of events by which it does.
func holdReturns(t *testing.T) (id string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$")
	cmd.Env = append(os.Environ(), helperVariable+"=hold returns")
	cmd.Stderr = os.Stderr
	stdin, e1 := cmd.StdinPipe()
	says, e2 := cmd.StdoutPipe()
	if err := errors.Join(e1, e2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = stdin.Close()
	}
	t.Cleanup(kill)
	if _, err := fmt.Fscanln(says, &id); err != nil {
		t.Fatal(err)
	}
	return id, kill
}

// TestKernelReturnsSwept: of the events on which programs hang those go that nobody uses any more: the tracer's own when it is
// closed, those of others that were killed at the next start. Those of others that live stay whole.
func TestKernelReturnsSwept(t *testing.T) {
	requireKernel(t)
	tracer := newReturnsTracer(t, testConfig())
	defer tracer.Close()
	killed, kill := holdReturns(t)
	living, _ := holdReturns(t)
	before := eventLines(t, living)
	kill()
	if there := returnSets(t); !slices.Contains(there, killed) || !slices.Contains(there, living) {
		t.Fatalf("there are the events %q, want %s and %s among them", there, killed, living)
	}
	if err := tracer.open(); err != nil {
		t.Fatal(err)
	}
	own := setOf(t, tracer)
	if there := returnSets(t); slices.Contains(there, killed) || !slices.Contains(there, own) {
		t.Errorf("after a start there are the events %q, want %s and not %s", there, own, killed)
	}
	if err := tracer.Close(); err != nil {
		t.Error(err)
	}
	if there := returnSets(t); slices.Contains(there, own) {
		t.Errorf("after its end there are the events %q, want not %s", there, own)
	}
	if after := eventLines(t, living); after != before || before != 3 {
		t.Errorf("another's events have %d functions, and had %d, want 3", after, before)
	}
}

// eventLines is of how many functions the events of a set are.
func eventLines(t *testing.T, id string) int {
	t.Helper()
	f, err := openTraceFiles()
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	list, err := os.ReadFile(f.events.Name())
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(list), "_"+id+" ")
}

// TestKernelPinsReturns: tracers that take over from each other go on with the same events; they go with the pins, and with
// the first tracer of another plan.
func TestKernelPinsReturns(t *testing.T) {
	requireKernel(t)
	dir := pinDirectory(t)
	cfg := pinned(dir)
	t.Cleanup(func() { _ = removePins(dir) })
	first := openReturns(t, cfg)
	id := setOf(t, first)
	for _, next := range []func(*Config){nil, func(c *Config) { c.KeptBudget *= 2 }} {
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		if there := returnSets(t); !slices.Contains(there, id) {
			t.Fatalf("with nobody who reads there are the events %q, want %s among them", there, id)
		}
		if next != nil {
			next(&cfg)
		}
		first = openReturns(t, cfg)
		if got := setOf(t, first); got != id {
			t.Errorf("the next tracer has the events %s, want those of the one before: %s", got, id)
		}
	}
	cfg.Pins.Keep = false
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Pins.Keep = true
	if there := returnSets(t); slices.Contains(there, id) {
		t.Errorf("without the pins there are the events %q, want not %s", there, id)
	}
	first = openReturns(t, cfg)
	id = setOf(t, first)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Plan = PlanTracepoint
	other, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if there := returnSets(t); slices.Contains(there, id) {
		t.Errorf("under the plan %s there are the events %q, want not %s", other.Plan(), there, id)
	}
}

// helperReturnsAlone tries kretprobes where no tracefs is mounted.
func helperReturnsAlone([]string) (string, error) {
	if err := privateMounts(); err != nil {
		return "", err
	}
	// A mount over the other hides it, and what else there is.
	if err := unix.Mount("none", "/sys/kernel", "tmpfs", 0, ""); err != nil {
		return "", err
	}
	if _, err := os.Stat("/sys/kernel/tracing"); !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("tracefs is there still: %w", err)
	}
	return "", tryEachReturn()
}

// TestKernelReturnsAlone: tracefs need not be mounted, as it is not in a container.
func TestKernelReturnsAlone(t *testing.T) {
	requireKernel(t)
	tracer := newReturnsTracer(t, testConfig())
	if err := tracer.Close(); err != nil {
		t.Fatal(err)
	}
	w := &watch{t: t}
	w.run(helperRun{action: "returns alone", outside: true})
}
