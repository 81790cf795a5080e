// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/testenv"
)

// pinDirectory is where a test may pin: a bpffs of its own.
func pinDirectory(t *testing.T) string {
	t.Helper()
	testenv.RequireRoot(t)
	root := t.TempDir()
	if err := unix.Mount("bpf", root, "bpf", 0, "mode=0700"); err != nil {
		t.Fatalf("mounting a bpffs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(root, "watchglass", "test")
}

// unreadAtMost is how much of a load may be made at full speed while nobody reads, so that it fits into the ring however
// long a tracer takes to open; slowed is the time of each one then.
const (
	unreadAtMost = 250
	slowed       = 20 * time.Millisecond
)

// counting executes one program after another in a cgroup until it is stopped, each with its number as argument, and
// is the ground truth of how many there were.
type counting struct {
	started atomic.Int64
	// fast is up to which number it does not pause.
	fast  atomic.Int64
	stop  chan struct{}
	ended sync.WaitGroup
}

func startCounting(t *testing.T, cgroup string) *counting {
	t.Helper()
	c := &counting{stop: make(chan struct{})}
	c.fast.Store(math.MaxInt64)
	pause := time.Duration(0)
	if testing.Short() {
		pause = slowed / 2 // in an emulated machine what is executed takes the time of who takes over
	}
	c.ended.Go(func() {
		for {
			select {
			case <-c.stop:
				return
			default:
			}
			cmd := exec.Command("/bin/true", fmt.Sprint(c.started.Load()))
			startIn(t, cgroup, cmd)
			if err := cmd.Wait(); err != nil {
				t.Error(err)
				return
			}
			if c.started.Add(1) > c.fast.Load() {
				time.Sleep(slowed)
			} else {
				time.Sleep(pause)
			}
		}
	})
	return c
}

func (c *counting) reach(t *testing.T, n int64) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); c.started.Load() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("only %d of %d processes were started", c.started.Load(), n)
		}
	}
}

// reader is a tracer whose records a test counts.
type reader struct {
	*Tracer
	stop context.CancelFunc
	done chan error
}

// execs is how often each execution, or what else is counted, was told.
type execs struct {
	mu   sync.Mutex
	seen map[string]int
	// of is the name of what a record tells, if it is to be counted; nil for that of executions.
	of func(*Record) (string, bool)
}

// numberOf is the number of an execution of startCounting's.
func numberOf(record *Record) (string, bool) {
	p, ok := record.Payload.(*event.ProcessExec)
	if !ok || len(p.Args) != 2 {
		return "", false
	}
	return p.Args[1], true
}

func (e *execs) read(t *testing.T, tracer *Tracer) *reader {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &reader{Tracer: tracer, stop: stop, done: make(chan error, 1)}
	of := e.of
	if of == nil {
		of = numberOf
	}
	go func() {
		r.done <- tracer.Run(ctx, func(record *Record) {
			if name, ok := of(record); ok {
				e.mu.Lock()
				e.seen[name]++
				e.mu.Unlock()
			}
		})
	}()
	return r
}

// kill ends a tracer as the end of its process would: nothing is detached, what is in the ring stays there.
func (r *reader) kill(t *testing.T) {
	t.Helper()
	r.stop()
	if err := errors.Join(<-r.done, r.Close()); err != nil {
		t.Fatal(err)
	}
}

// pinned is a configuration with pins. In an emulated machine, which takes its time for each program, it does without those of
// what is read and written: pinnedWhole does not.
func pinned(dir string) Config {
	cfg := pinnedWhole(dir)
	cfg.FileIO = !testing.Short()
	return cfg
}

func pinnedWhole(dir string) Config {
	cfg := testConfig()
	cfg.Pins = &Pins{Dir: dir, Keep: true, Version: "test"}
	return cfg
}

func openPinned(t *testing.T, cfg Config, want event.Pinning) *Tracer {
	t.Helper()
	return openVersion(t, cfg, nil, want)
}

// openVersion is openPinned with objects that were built another way, as change makes of them; nil for as they are.
func openVersion(t *testing.T, cfg Config, change func(probe string, spec *ebpf.CollectionSpec), want event.Pinning) *Tracer {
	t.Helper()
	testenv.OwnTracer(t)
	tracer, err := newTracer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for i := range tracer.probes {
		p := &tracer.probes[i]
		load := p.load
		p.load = func() (*ebpf.CollectionSpec, error) {
			spec, err := load()
			if err == nil && change != nil {
				change(p.name, spec)
			}
			return spec, err
		}
	}
	if err := tracer.open(); err != nil {
		t.Fatal(errors.Join(err, tracer.Close()))
	}
	t.Cleanup(func() { _ = tracer.Close() })
	if how, err := tracer.Pinning(); how != want || err != nil {
		t.Errorf("the pins are %s, %v; want %s", how, err, want)
	}
	for _, p := range tracer.Probes() {
		if !p.Attached {
			t.Errorf("probe %s is not attached: %s", p.Name, p.Err)
		}
	}
	return tracer
}

// TestKernelPins has tracers take over from each other while processes are executed: with the same programs, with
// others, and with maps of another layout. Each execution is told once.
func TestKernelPins(t *testing.T) {
	dir, cgroup := pinDirectory(t), scratchCgroup(t)
	t.Cleanup(func() { _ = removePins(dir) })
	told := &execs{seen: map[string]int{}}
	cfg := pinned(dir)
	r := told.read(t, openPinned(t, cfg, event.PinningStarted))
	if err := r.Track(cgroupID(t, cgroup)); err != nil {
		t.Fatal(err)
	}
	load := startCounting(t, cgroup)
	reached := int64(0)
	for _, next := range []struct {
		name    string
		change  func(*Config)
		version func(probe string, spec *ebpf.CollectionSpec)
		want    event.Pinning
	}{
		{"the same", nil, nil, event.PinningAdopted},
		{"other constants", func(c *Config) { c.KeptBudget *= 2 }, nil, event.PinningUpdated},
		{"another program, and one less", nil, otherPrograms, event.PinningUpdated},
		{"as before", nil, nil, event.PinningUpdated},
		{"another ring", func(c *Config) { c.RingBytes *= 2 }, nil, event.PinningReplaced},
		{"another layout of a map", nil, otherMaps, event.PinningReplaced},
		{"that again", nil, otherMaps, event.PinningAdopted},
	} {
		reached += 100
		load.reach(t, reached)
		load.fast.Store(load.started.Load() + unreadAtMost)
		r.kill(t)
		reached = load.started.Load() + 50
		load.reach(t, reached) // while nobody reads
		if next.change != nil {
			next.change(&cfg)
		}
		tracer := openVersion(t, cfg, next.version, next.want)
		ring := event.RingContinued
		if next.want == event.PinningReplaced {
			ring = event.RingRead
		}
		if got := tracer.TakenOver(); got == nil || got.How != next.want || got.Ring != ring || got.Unread == 0 ||
			got.Version != "test" || got.PID != os.Getpid() || got.Sandboxes != 1 {
			t.Errorf("of the takeover is told %+v", got)
		}
		t.Logf("%s: %d of %d bytes were unread", next.name, tracer.TakenOver().Unread, cfg.RingBytes)
		r = told.read(t, tracer)
		load.fast.Store(math.MaxInt64)
		reached = load.started.Load()
	}
	load.reach(t, reached+100)
	close(load.stop)
	load.ended.Wait()
	r.kill(t)
	for i := range load.started.Load() {
		if n := told.seen[fmt.Sprint(i)]; n != 1 {
			t.Errorf("execution %d of %d was told %d times", i, load.started.Load(), n)
		}
	}
}

// otherPrograms is a version with a program less, and with an instruction more, that does nothing.
func otherPrograms(probe string, spec *ebpf.CollectionSpec) {
	for name, p := range spec.Programs {
		switch {
		case probe == "dns" && p.AttachType == ebpf.AttachCGroupInetIngress:
			delete(spec.Programs, name)
		case probe == "process" && p.AttachTo == "sched_process_exec":
			p.Instructions = slices.Insert(slices.Clone(p.Instructions), 1, asm.Mov.Imm(asm.R0, 0))
		}
	}
}

// otherMaps is a version with more room in a map.
func otherMaps(probe string, spec *ebpf.CollectionSpec) {
	if probe == "network" {
		spec.Maps["destinations"].MaxEntries *= 2
	}
}

// TestKernelPinsHeld checks that two do not read one set, and that it can be removed when nobody does.
func TestKernelPinsHeld(t *testing.T) {
	dir := pinDirectory(t)
	first := openPinned(t, pinned(dir), event.PinningStarted)
	_, err := Open(pinned(dir))
	if held := new(PinsHeldError); !errors.As(err, &held) || held.PID != os.Getpid() || held.Version != "test" {
		t.Errorf("a second tracer: %v", err)
	}
	if err := Unpin(dir); err == nil {
		t.Error("pins that are read were removed")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	sets, err := PinSets(filepath.Dir(dir))
	if err != nil || len(sets) != 1 || sets[0].Held || sets[0].Dir != dir {
		t.Errorf("sets of pins: %+v, %v", sets, err)
	}
	if err := Unpin(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
	cfg := pinned(dir)
	cfg.Pins.Keep = false
	if err := openPinned(t, cfg, event.PinningStarted).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a tracer that was not to keep its pins left them: %v", err)
	}
}

// TestKernelPinsWithoutPlace checks that a tracer works without a bpffs, and says so.
func TestKernelPinsWithoutPlace(t *testing.T) {
	testenv.RequireRoot(t)
	cfg := pinned(filepath.Join(t.TempDir(), "nowhere"))
	cfg.Hold = func(_, _, _ uint64) uint64 { return 0 }
	tracer := openOwn(t, cfg)
	defer tracer.Close()
	if how, err := tracer.Pinning(); how != event.PinningOff || !errors.Is(err, errNoBPFFS) {
		t.Errorf("the pins are %s, %v", how, err)
	}
	if tracer.cfg.Hold != nil {
		t.Error("records are held in a ring that nobody can take over")
	}
}

// TestKernelHold checks that a record stays in the ring until it is released, and is found there again.
func TestKernelHold(t *testing.T) {
	dir, cgroup := pinDirectory(t), scratchCgroup(t)
	t.Cleanup(func() { _ = removePins(dir) })
	cfg := pinned(dir)
	released := uint64(0)
	cfg.Hold = func(_, read, _ uint64) uint64 { return min(read, released) }
	run := func(id string) {
		cmd := exec.Command("/bin/true", id)
		startIn(t, cgroup, cmd)
		_ = cmd.Wait()
	}
	collect := func(tracer *Tracer, handle func(string, *Record)) {
		t.Helper()
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		defer stop()
		err := tracer.Run(ctx, func(r *Record) {
			if p, ok := r.Payload.(*event.ProcessExec); ok && len(p.Args) == 2 {
				if handle(p.Args[1], r); p.Args[1] == "second" {
					stop()
				}
			}
		})
		if err := errors.Join(err, tracer.Close()); err != nil {
			t.Fatal(err)
		}
	}
	tracer := openPinned(t, cfg, event.PinningStarted)
	if err := tracer.Track(cgroupID(t, cgroup)); err != nil {
		t.Fatal(err)
	}
	run("first")
	run("second")
	var places []uint64
	collect(tracer, func(id string, r *Record) {
		places = append(places, r.Ring, r.Position)
		if id == "first" {
			released = r.Position
		}
	})
	if len(places) != 4 {
		t.Fatalf("places of two records: %d", places)
	}
	var again []string
	collect(openPinned(t, cfg, event.PinningAdopted), func(id string, r *Record) {
		again = append(again, id)
		if r.Ring != places[2] || r.Position != places[3] {
			t.Errorf("the second record is at %d of ring %d, was at %d of ring %d", r.Position, r.Ring, places[3], places[2])
		}
	})
	if len(again) != 1 || again[0] != "second" {
		t.Errorf("told again: %q", again)
	}
}

// TestKernelPinsForeign checks that what is not a tracer's state is replaced, not believed.
func TestKernelPinsForeign(t *testing.T) {
	dir := pinDirectory(t)
	t.Cleanup(func() { _ = removePins(dir) })
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: pinStateSize, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := errors.Join(m.Put(uint32(0), make([]byte, pinStateSize)), m.Pin(filepath.Join(dir, pinState))); err != nil {
		t.Fatal(err)
	}
	openPinned(t, pinned(dir), event.PinningStarted)
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory of pins: %v, %v", info.Mode(), err)
	}
}

// TestKernelPinsRepeats checks that opens which were counted for a tracer that was killed are accounted for, and told
// again one by one.
func TestKernelPinsRepeats(t *testing.T) {
	dir, cgroup := pinDirectory(t), scratchCgroup(t)
	t.Cleanup(func() { _ = removePins(dir) })
	cfg := pinned(dir)
	cfg.Watched = func(string) bool { return false }
	file := filepath.Join(t.TempDir(), "often")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ask, say := reopener(t, cgroup, file)
	var opened atomic.Int64
	run := func(tracer *Tracer) func() {
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			done <- tracer.Run(ctx, func(r *Record) {
				if p, ok := r.Payload.(*event.FileOpen); ok && p.Path == file {
					if opened.Add(max(int64(p.Count), 1)) == 2 {
						tracer.repeats = nil // what a killed process does not do: tell at its end
					}
				}
			})
		}()
		return func() {
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	first := openPinned(t, cfg, event.PinningStarted)
	if err := first.Track(cgroupID(t, cgroup)); err != nil {
		t.Fatal(err)
	}
	end := run(first)
	for i := range 3 { // told, told and counted from then on
		ask(1)
		for deadline := time.Now().Add(20 * time.Second); opened.Load() <= int64(i) && i < 2 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
	}
	end()
	ask(5)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := openPinned(t, cfg, event.PinningAdopted)
	ask(1)
	run(second)()
	say()
	if told, untold := opened.Load(), second.Untold(); told != 3 || untold != 6 {
		t.Errorf("of 9 opens %d were told and %d are accounted as untold", told, untold)
	}
}

// reopener is a process in a cgroup that opens a file as often as it is asked to, and then answers; say ends it.
func reopener(t *testing.T, cgroup, file string) (ask func(n int), say func()) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c",
		`while read -r n; do i=0; while [ $i -lt $n ]; do : <"$1"; i=$((i+1)); done; echo; done`, "sh", file)
	in, out := talkIn(t, cgroup, cmd)
	say = sync.OnceFunc(func() { _ = in.Close(); _ = cmd.Wait() })
	t.Cleanup(say)
	return func(n int) {
		t.Helper()
		fmt.Fprintln(in, n)
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}, say
}
