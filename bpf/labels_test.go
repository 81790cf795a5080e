// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// doubts is whether the kernel side holds that there are processes that have not been listed. What else keeps it from relying
// on labels is the machine's making: a listing that is interrupted while it labels, for one, fails the label that a fork
// wants on that processor, which is counted.
func doubts(t *testing.T, tracer *Tracer) uint64 {
	t.Helper()
	var count uint64
	if err := tracer.shared["unlabelled"].Lookup(uint32(0), &count); err != nil {
		t.Fatal(err)
	}
	return count & doubtUnlisted
}

// TestKernelLabelsListing has a process that is not labelled yet make children while its cgroup becomes watched.
func TestKernelLabelsListing(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	if got := doubts(t, w.tracer); got != 0 {
		t.Errorf("there are doubts when all is listed: %#x", got)
	}
	cgroup := scratchCgroup(t)
	marks := realPath(t, t.TempDir())
	mark := func(name string) string { return copyOf(t, "/bin/true", filepath.Join(marks, name)) }
	before, during, after := mark("before"), mark("during"), mark("after")
	_, tell := shellIn(t, cgroup)
	tell(before)
	func() {
		w.tracer.bootstraps.Lock()
		defer w.tracer.bootstraps.Unlock()
		if err := w.tracer.doubtLabels(); err != nil {
			t.Fatal(err)
		}
		if populated, err := w.tracer.track(cgroupID(t, cgroup)); err != nil || !populated {
			t.Fatalf("tracking says %v, %v", populated, err)
		}
		tell(during)
		if got := doubts(t, w.tracer); got != doubtUnlisted {
			t.Errorf("the doubts are %#x while nothing is listed", got)
		}
		if err := w.tracer.listExisting(0); err != nil {
			t.Fatal(err)
		}
	}()
	if got := doubts(t, w.tracer); got != 0 {
		t.Errorf("there are doubts when all is listed: %#x", got)
	}
	tell(after)
	for _, path := range []string{during, after} {
		records := w.await(1, ranAs(path))
		if len(records) != 1 {
			t.Fatalf("%s: %d execs, want 1", path, len(records))
		}
		one[*Fork](w, int(records[0].Task.PID))
		one[*event.ProcessExit](w, int(records[0].Task.PID))
	}
	if records := w.seen(ranAs(before)); len(records) != 0 {
		t.Error("what ran before is told")
	}
}

const (
	// forkers is how many processes fork like mad, forkedEach how many children each makes.
	forkers, forkedEach = 2, 60
	// forkRounds is how often a cgroup becomes watched meanwhile.
	forkRounds = 10
	// forkFillers is how many threads the listing has to pass between children and parents, in which time parents fork that
	// have no label yet: without them it is over before one does.
	forkFillers = 2000
)

// TestKernelLabelsForks has processes fork like mad in a cgroup while it becomes watched: every child has a label when it is,
// is told or listed, and the end of each is told. Where that can be had the parents have higher pids than their children, which the listing has
// passed then.
func TestKernelLabelsForks(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	fillPIDs(t, forkFillers)
	for round := range forkRounds {
		cgroup := scratchCgroup(t)
		id := cgroupID(t, cgroup)
		nextPIDs(highPIDs(t))
		var begin []func()
		for range forkers {
			begin = append(begin, w.forkIn(cgroup))
		}
		nextPIDs(lowPIDs)
		for _, begin := range begin {
			begin()
		}
		populations(t, cgroup, forkers+1+round*forkers*forkedEach/forkRounds/2)
		if err := w.tracer.Track(id); err != nil {
			t.Fatal(err)
		}
		pids := populations(t, cgroup, forkers*(1+forkedEach))
		// Before they are listed once more, which finds them by their cgroup.
		if missing := w.withoutLabel(pids); len(missing) > 0 {
			t.Errorf("round %d: %v of %d processes have no label", round, missing, len(pids))
		}
		if err := w.tracer.Bootstrap(id); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(cgroup, "cgroup.kill"), []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
		untold, unended := w.missed(id, pids)
		if len(untold)+len(unended) > 0 {
			t.Errorf("round %d: of %d processes %v were neither told nor listed, the end of %v was not told", round, len(pids), untold, unended)
		}
		if err := w.tracer.Untrack(id); err != nil {
			t.Fatal(err)
		}
	}
	if got := doubts(t, w.tracer); got != 0 {
		t.Errorf("there are doubts when all is listed: %#x", got)
	}
}

// fillPIDs has so many threads that do nothing, until the test ends.
func fillPIDs(t *testing.T, n int) {
	t.Helper()
	var begun, ended sync.WaitGroup
	over := make(chan struct{})
	for range n {
		begun.Add(1)
		ended.Go(func() {
			runtime.LockOSThread() // which ends with the goroutine
			begun.Done()
			<-over
		})
	}
	begun.Wait()
	t.Cleanup(func() {
		close(over)
		ended.Wait()
	})
}

// forkIn starts a process in a cgroup that makes its children as fast as it can, once it is told to begin. They stay until
// they are killed.
func (w *watch) forkIn(cgroup string) (begin func()) {
	w.t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$")
	cmd.Env = append(os.Environ(), helperVariable+"=fork like mad", "GOCOVERDIR="+w.t.TempDir())
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	startIn(w.t, cgroup, cmd)
	w.t.Cleanup(func() {
		_ = os.WriteFile(filepath.Join(cgroup, "cgroup.kill"), []byte("1"), 0)
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		w.t.Fatalf("a process that is to fork does not come up: %v", err)
	}
	return func() { _ = in.Close() }
}

// helperForkLikeMad makes children that do nothing, and waits with them.
func helperForkLikeMad([]string) (string, error) {
	fmt.Println("ready")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return "", err
	}
	for range forkedEach {
		// The child has this one thread and nothing of Go's: it makes calls alone.
		child, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			return "", errno
		}
		for child == 0 {
			unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
		}
	}
	for { // no select without cases: where there is no cgo, as in emulated machines, the runtime calls that a deadlock
		time.Sleep(time.Hour)
	}
}

// lowPIDs is from where on the kernel gives pids again once it has given the highest.
const lowPIDs = 300

// highPIDs is where there is room for what is to have the highest pids, with its threads.
func highPIDs(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return n - 64*forkers
}

// nextPIDs has the next processes get pids from there on, where the kernel can do that.
func nextPIDs(from int) {
	_ = os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(from)), 0)
}

// populations waits until so many processes are in a cgroup, and returns their pids.
func populations(t *testing.T, cgroup string, n int) (pids []int) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(100 * time.Microsecond) {
		text, err := os.ReadFile(procsOf(cgroup))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Fields(string(text))
		if len(lines) < n {
			if time.Now().After(deadline) {
				t.Fatalf("%d of %d processes are there", len(lines), n)
			}
			continue
		}
		for _, line := range lines {
			pid, err := strconv.Atoi(line)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
		return pids
	}
}

// withoutLabel waits a moment for the labels of processes, and returns those that have none.
func (w *watch) withoutLabel(pids []int) (missing []int) {
	w.t.Helper()
	p, _ := w.tracer.doubter()
	labels := p.collection.Maps["labels"]
	labelled := func(pid int) bool {
		process, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		defer unix.Close(process)
		var label [2]uint64
		return labels.Lookup(uint32(process), &label) == nil
	}
	for deadline := time.Now().Add(5 * time.Second); len(pids) > 0 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		missing = nil
		for _, pid := range pids {
			if !labelled(pid) {
				missing = append(missing, pid)
			}
		}
		pids = missing
	}
	return missing
}

// missed waits for what is to be told of a sandbox's processes, and returns those of which it is not.
func (w *watch) missed(sandbox uint64, pids []int) (untold, unended []int) {
	w.t.Helper()
	began, ended := map[int]bool{}, map[int]bool{}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		for _, r := range w.seen(func(r *Record) bool { return r.Sandbox == sandbox }) {
			switch r.Payload.(type) {
			case *Fork, *Existing:
				began[int(r.Task.PID)] = true
			case *event.ProcessExit:
				ended[int(r.Task.PID)] = true
			}
		}
		untold, unended = nil, nil
		for _, pid := range pids {
			if !began[pid] {
				untold = append(untold, pid)
			}
			if !ended[pid] {
				unended = append(unended, pid)
			}
		}
		if len(untold)+len(unended) == 0 || time.Now().After(deadline) {
			return untold, unended
		}
	}
}

// TestKernelLabelsRetried: the label of a process that could not be made is made later, of a stray too, and then nobody is
// looked up any more for want of it.
func TestKernelLabelsRetried(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	p, _ := w.tracer.doubter()
	labels := p.collection.Maps["labels"]
	inside, _ := shellIn(t, w.cgroup)
	stray, tell := shellIn(t, w.cgroup)
	gone, tellGone := shellIn(t, w.cgroup)
	tell(":")
	tellGone(":")
	moveTo(t, filepath.Dir(w.cgroup), stray.Process.Pid)
	open := func(cmd *exec.Cmd) (fd uint32) {
		process, err := unix.PidfdOpen(cmd.Process.Pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(process) })
		return uint32(process)
	}
	living := []uint32{open(inside), open(stray)}
	for _, process := range append(living, open(gone)) {
		if err := labels.Delete(process); err != nil {
			t.Fatalf("taking away a label: %v", err)
		}
	}
	if err := gone.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// As the kernel side counts what it could not label.
	if err := w.tracer.doubt(3, 0); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		failed, err := w.tracer.unlabelled()
		if err != nil {
			t.Fatal(err)
		}
		if failed == 0 && doubts(t, w.tracer) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d labels are still missing", failed)
		}
	}
	for i, process := range living {
		var label struct{ Sandbox, Cgroup uint64 }
		if err := labels.Lookup(process, &label); err != nil || label.Sandbox != w.id {
			t.Errorf("process %d has a label of sandbox %d (%v), want %d", i, label.Sandbox, err, w.id)
		}
	}
}

// TestKernelLabelsTakeover has a tracer die while its processes are being listed: the next one ends the doubt that it has
// left. And it has one take over whose labels are others, while processes that the one before has labelled make children.
func TestKernelLabelsTakeover(t *testing.T) {
	dir, cgroup := pinDirectory(t), scratchCgroup(t)
	t.Cleanup(func() { _ = removePins(dir) })
	told := &execs{seen: map[string]int{}}
	r := told.read(t, openPinned(t, pinned(dir), event.PinningStarted))
	if err := r.Track(cgroupID(t, cgroup)); err != nil {
		t.Fatal(err)
	}
	if err := r.doubtLabels(); err != nil {
		t.Fatal(err)
	}
	r.kill(t)
	r = told.read(t, openPinned(t, pinned(dir), event.PinningAdopted))
	if got := doubts(t, r.Tracer); got != 0 {
		t.Errorf("the next tracer goes on with the doubts %#x", got)
	}
	stopped := filepath.Join(t.TempDir(), "stopped")
	cmd := exec.Command("/bin/sh", "-c", `i=0; while [ ! -e "$1" ]; do /bin/true $i; i=$((i + 1)); sleep 0.01; done; echo $i`, "sh", stopped)
	var said strings.Builder
	cmd.Stdout = &said
	startIn(t, cgroup, cmd)
	r.kill(t)
	r = told.read(t, openVersion(t, pinned(dir), otherMaps, event.PinningReplaced))
	if got := doubts(t, r.Tracer); got != 0 {
		t.Errorf("the tracer that replaces it has the doubts %#x", got)
	}
	if err := os.WriteFile(stopped, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	r.kill(t)
	executed, err := strconv.Atoi(strings.TrimSpace(said.String()))
	if err != nil {
		t.Fatal(err)
	}
	for i := range executed {
		if n := told.seen[fmt.Sprint(i)]; n != 1 {
			t.Errorf("execution %d of %d was told %d times", i, executed, n)
		}
	}
}
