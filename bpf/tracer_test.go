// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/testenv"
)

// makeCgroup makes a cgroup that goes when the test ends.
func makeCgroup(t *testing.T, dir string) string {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 100 {
			err := os.Remove(dir)
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("cgroup %s does not go", dir)
	})
	return dir
}

// runIn runs a command that is born in a cgroup, to its end, and returns its pid.
func runIn(t *testing.T, cgroup string, args ...string) int {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	startIn(t, cgroup, cmd)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("running %v: %v", args, err)
	}
	return cmd.Process.Pid
}

// anything picks all records of one process.
func anything(pid int) func(*Record) bool {
	return func(r *Record) bool { return int(r.Task.PID) == pid }
}

func TestKernelScope(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	exit := func(cgroup string) []*Record {
		return w.await(1, of[*event.ProcessExit](runIn(t, cgroup, "/bin/true")))
	}
	t.Run("outside is not seen", func(t *testing.T) {
		pid := runIn(t, scratchCgroup(t), "/bin/true")
		if records := w.await(0, anything(pid)); len(records) != 0 {
			t.Errorf("saw %v", records)
		}
	})
	t.Run("inside is seen", func(t *testing.T) {
		if len(exit(w.cgroup)) != 1 {
			t.Error("not seen")
		}
	})
	t.Run("cgroups made later are seen from the first process", func(t *testing.T) {
		child := makeCgroup(t, filepath.Join(w.cgroup, "child"))
		grandchild := makeCgroup(t, filepath.Join(child, "grandchild"))
		for _, cgroup := range []string{child, grandchild} {
			pid := runIn(t, cgroup, "/bin/true")
			r, _ := one[*Fork](w, pid)
			if r.Sandbox != w.id || r.Cgroup != cgroupID(t, cgroup) {
				t.Errorf("a process of %s is in sandbox %d, cgroup %d", cgroup, r.Sandbox, r.Cgroup)
			}
		}
	})
	t.Run("what moves in is seen from then", func(t *testing.T) {
		cmd := exec.Command("/bin/sh", "-c", "echo $$ > "+w.cgroup+"/cgroup.procs; exec /bin/true")
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		_, ran := one[*event.ProcessExec](w, cmd.Process.Pid)
		if ran.Executable != realPath(t, "/bin/true") {
			t.Errorf("saw %q", ran.Executable)
		}
	})
	t.Run("untracked is not seen", func(t *testing.T) {
		child := makeCgroup(t, filepath.Join(w.cgroup, "late"))
		if err := w.tracer.Untrack(w.id); err != nil {
			t.Fatal(err)
		}
		for _, cgroup := range []string{w.cgroup, child} {
			if records := w.await(0, anything(runIn(t, cgroup, "/bin/true"))); len(records) != 0 {
				t.Errorf("saw %v", records)
			}
		}
		later := makeCgroup(t, filepath.Join(w.cgroup, "later"))
		if records := w.await(0, anything(runIn(t, later, "/bin/true"))); len(records) != 0 {
			t.Errorf("saw %v", records)
		}
	})
	t.Run("tracked again is seen, below too", func(t *testing.T) {
		if err := w.tracer.Track(w.id); err != nil {
			t.Fatal(err)
		}
		if len(exit(w.cgroup)) != 1 {
			t.Error("not seen")
		}
	})
}

func TestKernelScopeOfDescendants(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	if err := w.tracer.Untrack(w.id); err != nil {
		t.Fatal(err)
	}
	inner := makeCgroup(t, filepath.Join(w.cgroup, "inner"))
	leaf := makeCgroup(t, filepath.Join(inner, "leaf"))
	if err := w.tracer.Track(w.id); err != nil {
		t.Fatal(err)
	}
	if r, _ := one[*Fork](w, runIn(t, leaf, "/bin/true")); r.Sandbox != w.id {
		t.Errorf("a process of a cgroup from before is in sandbox %d, want %d", r.Sandbox, w.id)
	}
	// Of nested sandboxes the innermost counts, in whatever order they are tracked.
	id := cgroupID(t, inner)
	sandboxOf := func(cgroup string) uint64 {
		r, _ := one[*Fork](w, runIn(t, cgroup, "/bin/true"))
		return r.Sandbox
	}
	check := func(when string, wantInner, wantOuter uint64) {
		t.Helper()
		if got := sandboxOf(leaf); got != wantInner {
			t.Errorf("%s, the inner one's process is in sandbox %d, want %d", when, got, wantInner)
		}
		if wantOuter == 0 {
			if records := w.await(0, anything(runIn(t, w.cgroup, "/bin/true"))); len(records) != 0 {
				t.Errorf("%s, saw the outer one's process", when)
			}
		} else if got := sandboxOf(w.cgroup); got != wantOuter {
			t.Errorf("%s, the outer one's process is in sandbox %d, want %d", when, got, wantOuter)
		}
	}
	step := func(change func(uint64) error, sandbox uint64) {
		t.Helper()
		if err := change(sandbox); err != nil {
			t.Fatal(err)
		}
	}
	check("with the outer alone", w.id, w.id)
	step(w.tracer.Track, id)
	check("with the inner tracked too", id, w.id)
	step(w.tracer.Untrack, w.id)
	check("with the inner alone", id, 0)
	step(w.tracer.Track, w.id)
	check("with the outer tracked after the inner", id, w.id)
	step(w.tracer.Untrack, id)
	check("with the outer alone again", w.id, w.id)
}

func TestKernelCgroups(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	mount := cgroup2Mount(t)
	outside := scratchCgroup(t)
	inside := filepath.Join(w.cgroup, "odd name \xff")
	if err := os.Mkdir(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	id := cgroupID(t, inside)
	if err := os.Remove(inside); err != nil {
		t.Fatal(err)
	}
	gone := filepath.Join(mount, filepath.Base(outside)+"-gone")
	if err := os.Mkdir(gone, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	below := func(dir string) string { return strings.TrimPrefix(dir, mount) }

	got := map[string]Record{}
	w.await(4, func(r *Record) bool {
		switch p := r.Payload.(type) {
		case *CgroupMade:
			got["made "+p.Path] = *r
		case *CgroupGone:
			got["gone "+p.Path] = *r
		default:
			return false
		}
		return true
	})
	tests := []struct {
		key           string
		sandbox, want uint64
	}{
		{"made " + below(outside), 0, cgroupID(t, outside)},
		{"made " + below(inside), w.id, id},
		{"gone " + below(inside), w.id, id},
	}
	for _, test := range tests {
		r, ok := got[test.key]
		if !ok {
			t.Errorf("nothing of %q among %v", test.key, got)
			continue
		}
		var found uint64
		switch p := r.Payload.(type) {
		case *CgroupMade:
			found = p.ID
		case *CgroupGone:
			found = p.ID
		}
		if found != test.want || r.Sandbox != test.sandbox || int(r.Task.PID) != os.Getpid() {
			t.Errorf("%s: id %d, sandbox %d, process %d; want id %d, sandbox %d", test.key,
				found, r.Sandbox, r.Task.PID, test.want, test.sandbox)
		}
	}
	if _, ok := got["gone "+below(gone)]; ok {
		t.Error("the end of a cgroup that nobody watched was told")
	}
}

func TestKernelScopeIsBounded(t *testing.T) {
	requireKernel(t)
	cfg := testConfig()
	cfg.MaxSandboxes = 3
	w := startWatchWith(t, cfg)
	for i := range 4 {
		makeCgroup(t, filepath.Join(w.cgroup, fmt.Sprintf("child%d", i)))
	}
	if got := w.tracer.Refused(); got != 2 {
		t.Errorf("%d cgroups were refused in the kernel, want 2", got)
	}
	other := scratchCgroup(t)
	if err := w.tracer.Track(cgroupID(t, other)); !errors.Is(err, ErrFull) {
		t.Errorf("tracking one more says %v", err)
	}
	if got := w.tracer.Refused(); got != 3 {
		t.Errorf("%d cgroups were refused, want 3", got)
	}
	if err := w.tracer.Untrack(w.id); err != nil {
		t.Fatal(err)
	}
	if err := w.tracer.Track(cgroupID(t, other)); err != nil {
		t.Errorf("there is room again, but: %v", err)
	}
}

// TestKernelCgroupDir finds a cgroup by handle and by search, and nothing that is not there.
func TestKernelCgroupDir(t *testing.T) {
	requireKernel(t)
	mount, err := findCgroup2()
	if err != nil {
		t.Fatal(err)
	}
	dir := makeCgroup(t, filepath.Join(scratchCgroup(t), "a b"))
	id := cgroupID(t, dir)
	if got, err := cgroupDirByHandle(mount, id); err != nil || got != dir {
		t.Errorf("by handle: %q, %v; want %q", got, err, dir)
	}
	if got, err := cgroupDirBySearch(mount, id); err != nil || got != dir {
		t.Errorf("by search: %q, %v; want %q", got, err, dir)
	}
	for name, find := range map[string]func(string, uint64) (string, error){
		"by handle": cgroupDirByHandle, "by search": cgroupDirBySearch, "either way": cgroupDir,
	} {
		if got, err := find(mount, 1<<60); err == nil {
			t.Errorf("%s: a cgroup that is not there is at %q", name, got)
		}
	}
}

func TestKernelTrackUnknown(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	if err := w.tracer.Track(1 << 60); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("tracking a cgroup that is not there says %v", err)
	}
	if err := w.tracer.Track(w.id); err != nil {
		t.Errorf("tracking twice says %v", err)
	}
	if err := w.tracer.Untrack(1 << 60); err != nil {
		t.Errorf("untracking what is not tracked says %v", err)
	}
}

func TestKernelBootstrap(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	if err := w.tracer.Untrack(w.id); err != nil {
		t.Fatal(err)
	}
	child := makeCgroup(t, filepath.Join(w.cgroup, "child"))
	start := func(cgroup string, cmd *exec.Cmd) *exec.Cmd {
		startIn(t, cgroup, cmd)
		t.Cleanup(func() {
			if err := os.WriteFile(filepath.Join(cgroup, "cgroup.kill"), []byte("1"), 0); err != nil {
				t.Error(err)
			}
			cmd.Wait()
		})
		return cmd
	}
	sleep := copyOf(t, "/bin/sleep", filepath.Join(realPath(t, t.TempDir()), "sl\neep"))
	first := start(w.cgroup, &exec.Cmd{Path: sleep, Args: []string{"sleep", "60"}})
	second := start(child, exec.Command("/bin/sh", "-c", "sleep 60; exit", "with\nnewline", ""))
	elsewhere := start(scratchCgroup(t), exec.Command("/bin/sleep", "60"))
	time.Sleep(50 * time.Millisecond)

	if err := w.tracer.Track(w.id); err != nil {
		t.Fatal(err)
	}
	if err := w.tracer.Bootstrap(w.id); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		cmd    *exec.Cmd
		cgroup string
		want   *Existing
	}{
		{first, w.cgroup, &Existing{Executable: sleep, Args: first.Args}},
		{second, child, &Existing{Executable: realPath(t, "/bin/sh"), Args: second.Args}},
	}
	for _, test := range tests {
		r, existing := one[*Existing](w, test.cmd.Process.Pid)
		if diff := cmp.Diff(test.want, existing); diff != "" {
			t.Errorf("differs (-want +got):\n%s", diff)
		}
		if r.Sandbox != w.id || r.Cgroup != cgroupID(t, test.cgroup) || int(r.Task.ParentPID) != os.Getpid() || r.Task.Start == 0 {
			t.Errorf("record is %+v", r)
		}
	}
	if records := w.await(0, anything(elsewhere.Process.Pid)); len(records) != 0 {
		t.Errorf("saw a process from elsewhere: %v", records)
	}
	if records := w.await(3, func(r *Record) bool { _, ok := r.Payload.(*Existing); return ok }); len(records) != 3 {
		t.Errorf("%d processes, want 3: the shell's own sleep too", len(records))
	}
	// The end of a process that was there before has its identity.
	first.Process.Kill()
	r, _ := one[*event.ProcessExit](w, first.Process.Pid)
	before, _ := one[*Existing](w, first.Process.Pid)
	if r.Task.Start != before.Task.Start {
		t.Errorf("start was %d, is %d", before.Task.Start, r.Task.Start)
	}
}

// account is the sum of the sandbox's counts of one probe's kinds.
func account(t *testing.T, tracer *Tracer, sandbox uint64, probe string) SandboxCounts {
	t.Helper()
	counts, err := tracer.Counts()
	if err != nil {
		t.Fatal(err)
	}
	sum := SandboxCounts{Sandbox: sandbox, Probe: probe}
	for _, c := range counts {
		if c.Sandbox == sandbox && c.Probe == probe {
			sum.Seen += c.Seen
			sum.Aggregated += c.Aggregated
			sum.Dropped += c.Dropped
			sum.Throttled += c.Throttled
		}
	}
	return sum
}

// TestKernelLosses floods a tiny ring that nobody reads, then one that is read: what was seen is what was
// delivered and what was dropped, to the last record.
func TestKernelLosses(t *testing.T) {
	requireKernel(t)
	testenv.OwnTracer(t)
	for _, read := range []bool{false, true} {
		t.Run(fmt.Sprintf("reading %v", read), func(t *testing.T) {
			cfg := testConfig()
			cfg.RingBytes = os.Getpagesize()
			tracer, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := tracer.Close(); err != nil {
					t.Error(err)
				}
			}()
			dir := scratchCgroup(t)
			id := cgroupID(t, dir)
			if err := tracer.Track(id); err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			delivered := map[string]uint64{}
			done := make(chan error, 1)
			run := func() {
				done <- tracer.Run(ctx, func(r *Record) {
					if r.Sandbox != id {
						return
					}
					switch r.Payload.(type) {
					case *event.FileOpen, *event.FileChange, *event.FileMap, *FileUse:
						delivered["file"]++
					case *Fork, *event.ProcessExec, *event.ProcessExit:
						delivered["process"]++
					}
				})
			}
			if read {
				go run()
			}
			runIn(t, dir, "/bin/sh", "-c", "for i in 0 1 2 3 4 5 6 7 8 9; do /bin/cat /dev/null & /bin/ls / & wait; done")
			if !read {
				go run()
				time.Sleep(50 * time.Millisecond)
			}
			stop()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			for _, probe := range []string{"process", "file"} {
				c := account(t, tracer, id, probe)
				if c.Seen == 0 || c.Seen-c.Aggregated-c.Dropped-c.Throttled != delivered[probe] {
					t.Errorf("%s: %+v, %d delivered", probe, c, delivered[probe])
				}
				if !read && c.Dropped+c.Throttled == 0 {
					t.Errorf("%s: nothing was dropped of %d", probe, c.Seen)
				}
			}
			forks := uint64(21) // the shell and its twenty children
			if c := account(t, tracer, id, "process"); c.Seen != 3*forks {
				t.Errorf("%d process records, want a fork, an exec and an exit of %d processes", c.Seen, forks)
			}
			total := tracer.Probes()
			if err := tracer.Untrack(id); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(total, tracer.Probes()); diff != "" {
				t.Errorf("untracking changed the totals (-before +after):\n%s", diff)
			}
		})
	}
}

// TestKernelBurst runs 10,000 short processes, a tenth of that with -short: none is lost with the default ring.
func TestKernelBurst(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	const workers = 4
	each := 2500
	if testing.Short() {
		each = 100 // an emulated machine starts some ten processes a second
	}
	script := fmt.Sprintf("for w in 1 2 3 4; do (i=0; while [ $i -lt %d ]; do /bin/true; i=$((i+1)); done) & done; wait", each)
	runIn(t, w.cgroup, "/bin/sh", "-c", script)
	truth := realPath(t, "/bin/true")
	count := func(pick func(*Record) bool) int { return len(w.seen(pick)) }
	isTrue := func(r *Record) bool {
		ran, ok := r.Payload.(*event.ProcessExec)
		return ok && ran.Executable == truth && ran.Args[0] == "/bin/true"
	}
	if got := len(w.await(workers*each, isTrue)); got != workers*each {
		t.Errorf("%d execs, want %d", got, workers*each)
	}
	forks := count(func(r *Record) bool { _, ok := r.Payload.(*Fork); return ok })
	exits := count(func(r *Record) bool { _, ok := r.Payload.(*event.ProcessExit); return ok })
	if want := 1 + workers + workers*each; forks != want || exits != want {
		t.Errorf("%d forks and %d exits, want %d", forks, exits, want)
	}
	counts, err := w.tracer.Counts()
	if err != nil {
		t.Fatal(err)
	}
	var seen uint64
	for _, c := range counts {
		if c.Sandbox != w.id {
			continue
		}
		seen += c.Seen
		if c.Dropped+c.Throttled != 0 {
			t.Errorf("probe %s dropped %d of %d of kind %s", c.Probe, c.Dropped+c.Throttled, c.Seen, c.Kind)
		}
	}
	if least := uint64(3 * workers * each); seen < least {
		t.Errorf("%d records are counted, want %d at least", seen, least)
	}
}

func TestKernelRunDrains(t *testing.T) {
	requireKernel(t)
	tracer := openOwn(t, testConfig())
	dir := scratchCgroup(t)
	if err := tracer.Track(cgroupID(t, dir)); err != nil {
		t.Fatal(err)
	}
	pid := runIn(t, dir, "/bin/true")
	if size, used := tracer.RingStats(); size != uint64(testConfig().RingBytes) || used == 0 {
		t.Errorf("ring of %d bytes, %d used", size, used)
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	var records []*Record
	if err := tracer.Run(ctx, func(r *Record) { records = append(records, kept(r)) }); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, r := range records {
		found = found || of[*event.ProcessExit](pid)(r)
	}
	if !found {
		t.Errorf("the exit is not among %d drained records", len(records))
	}
	if _, used := tracer.RingStats(); used != 0 {
		t.Errorf("%d bytes left in the ring", used)
	}
	for range 2 {
		if err := tracer.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, err := range map[string]error{
		"track": tracer.Track(1), "untrack": tracer.Untrack(1), "bootstrap": tracer.Bootstrap(1),
		"run": tracer.Run(context.Background(), func(*Record) {}),
	} {
		if name != "run" && !errors.Is(err, ErrClosed) || name == "run" && err != nil {
			t.Errorf("%s after closing says %v", name, err)
		}
	}
}

// startSleeper is startWatchOwn with a reader that sleeps for longer than any test, once there are no records.
func startSleeper(t *testing.T) *watch {
	t.Helper()
	cfg := testConfig()
	cfg.FlowInterval = 0
	return startWatchOpened(t, func() (*Tracer, error) {
		tracer, err := newTracer(cfg)
		if err != nil {
			return nil, err
		}
		tracer.idle = time.Hour
		return tracer, tracer.open()
	})
}

// sleeps waits until the reader has fallen asleep: until it has asked to be woken, and the short pause after that is over.
func (w *watch) sleeps() {
	w.t.Helper()
	var asked uint64
	for deadline := time.Now().Add(time.Minute); asked == 0; time.Sleep(pollInterval) {
		if err := w.tracer.shared["event_sleepers"].Lookup(uint32(0), &asked); err != nil {
			w.t.Fatal(err)
		}
		if time.Now().After(deadline) {
			w.t.Fatal("the reader does not ask to be woken")
		}
	}
	time.Sleep(10 * pollInterval)
}

// TestKernelReaderWoken has the first record after a while without any wake the reader, again and again.
func TestKernelReaderWoken(t *testing.T) {
	requireKernel(t)
	w := startSleeper(t)
	for range 3 {
		w.sleeps()
		pid := runIn(t, w.cgroup, "/bin/true")
		if found := w.await(1, of[*event.ProcessExit](pid)); len(found) != 1 {
			t.Fatalf("%d exits are told, want 1", len(found))
		}
	}
	// The end of the test ends a reader that sleeps.
	w.sleeps()
}

// TestKernelReaderClosed has Close end a reader that sleeps.
func TestKernelReaderClosed(t *testing.T) {
	requireKernel(t)
	w := startSleeper(t)
	w.sleeps()
	if err := w.tracer.Close(); err != nil {
		t.Error(err)
	}
}

// TestKernelCloseMeanwhile closes a tracer under everything that uses it: errors, never a crash.
func TestKernelCloseMeanwhile(t *testing.T) {
	requireKernel(t)
	tracer := openOwn(t, testConfig())
	dir := scratchCgroup(t)
	id := cgroupID(t, dir)
	var users sync.WaitGroup
	for _, use := range []func(){
		func() { _ = tracer.Track(id) },
		func() { _ = tracer.Untrack(id) },
		func() { _ = tracer.Bootstrap(id) },
		func() { _, _ = tracer.Counts() },
		func() { _, _ = tracer.SyscallCounts(0) },
		func() { tracer.Probes() },
		func() { tracer.RingStats() },
		func() { tracer.Refused() },
		func() { _ = tracer.Run(context.Background(), func(*Record) {}) },
	} {
		users.Go(func() {
			for !tracer.closed.Load() {
				use()
			}
			use()
		})
	}
	runIn(t, dir, "/bin/true")
	time.Sleep(100 * time.Millisecond)
	if err := tracer.Close(); err != nil {
		t.Error(err)
	}
	users.Wait()
}

func TestKernelDegrades(t *testing.T) {
	requireKernel(t)
	tracer, err := newTracer(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	for i := range tracer.probes {
		if p := &tracer.probes[i]; !p.required {
			p.load = func() (*ebpf.CollectionSpec, error) { return nil, errors.New("broken") }
		}
	}
	if err := tracer.open(); err != nil {
		t.Fatalf("a probe that nothing depends on took all down: %v", err)
	}
	defer tracer.Close()
	for i, p := range tracer.Probes() {
		if required := tracer.probes[i].required; p.Attached != required || (p.Err == "") != required {
			t.Errorf("probe is %+v", p)
		}
	}
}

func TestKernelCheck(t *testing.T) {
	requireKernel(t)
	for _, r := range Check(testConfig()) {
		if r.Required && !r.OK {
			t.Errorf("%s: %s", r.Name, r.Detail)
		}
		if r.Name == "" || r.Detail == "" || r.OK != (r.Remedy == "") {
			t.Errorf("requirement is %+v", r)
		}
	}
}
