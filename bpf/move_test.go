// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// procsOf is the file that moves a process into a cgroup.
func procsOf(cgroup string) string { return filepath.Join(cgroup, "cgroup.procs") }

// shell starts a shell in a cgroup that does what it is told line by line, and returns how to tell it.
func shellIn(t *testing.T, cgroup string) (cmd *exec.Cmd, tell func(line string)) {
	t.Helper()
	cmd = exec.Command("/bin/sh", "-c", `while read -r line; do eval "$line"; echo done; done`)
	in, out := talkIn(t, cgroup, cmd)
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	answer := make([]byte, len("done\n"))
	return cmd, func(line string) {
		t.Helper()
		if _, err := fmt.Fprintln(in, line); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(answer); err != nil {
			t.Fatal(err)
		}
	}
}

// moveTo moves a process into a cgroup.
func moveTo(t *testing.T, cgroup string, pid int) {
	t.Helper()
	if err := os.WriteFile(procsOf(cgroup), []byte(strconv.Itoa(pid)), 0); err != nil {
		t.Fatal(err)
	}
}

// ran picks the execs of a program by its first argument.
func ranAs(name string) func(*Record) bool {
	return func(r *Record) bool {
		ran, ok := r.Payload.(*event.ProcessExec)
		return ok && len(ran.Args) > 0 && ran.Args[0] == name
	}
}

// TestKernelMoveOut has a process leave its sandbox by itself: it and its children are still seen, as the sandbox's.
func TestKernelMoveOut(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	outside := scratchCgroup(t)
	marks := realPath(t, t.TempDir())
	mark := func(name string) string { return copyOf(t, "/bin/true", filepath.Join(marks, name)) }
	before, after, deep, back := mark("before"), mark("after"), mark("deep"), mark("back")

	cmd, tell := shellIn(t, w.cgroup)
	tell(before)
	tell("echo $$ > " + procsOf(outside))
	tell(after)
	tell("(" + deep + "; :)")
	tell("cat /etc/hostname > /dev/null")

	_, out := one[*event.ProcessMove](w, cmd.Process.Pid)
	if out.Direction != event.MoveOut || out.FromID != w.id || out.ToID != cgroupID(t, outside) || out.To != "/"+filepath.Base(outside) ||
		out.Born || out.Thread || int(out.Mover.PID) != cmd.Process.Pid || out.Mover.Name != "sh" {
		t.Errorf("the move is %+v", out)
	}
	for _, path := range []string{before, after, deep} {
		records := w.await(1, ranAs(path))
		if len(records) != 1 || records[0].Sandbox != w.id {
			t.Fatalf("%s: %d execs, want 1 in the sandbox", path, len(records))
		}
		r := records[0]
		wantCgroup := cgroupID(t, outside)
		if path == before {
			wantCgroup = w.id
		}
		if r.Cgroup != wantCgroup {
			t.Errorf("%s ran in cgroup %d, want %d", path, r.Cgroup, wantCgroup)
		}
		one[*Fork](w, int(r.Task.PID))
		one[*event.ProcessExit](w, int(r.Task.PID))
	}
	opened := func(r *Record) bool {
		open, ok := r.Payload.(*event.FileOpen)
		return ok && open.Path == "/etc/hostname"
	}
	if records := w.await(1, opened); len(records) != 1 {
		t.Errorf("%d opens of a child that was born outside, want 1", len(records))
	}

	moveTo(t, w.cgroup, cmd.Process.Pid)
	tell(back)
	moves := w.await(2, of[*event.ProcessMove](cmd.Process.Pid))
	if len(moves) != 2 || moves[1].Payload.(*event.ProcessMove).Direction != event.MoveWithin {
		t.Errorf("moves are %+v, want one back", moves)
	}
	if records := w.await(1, ranAs(back)); len(records) != 1 || records[0].Cgroup != w.id {
		t.Errorf("%d execs after it came back", len(records))
	}
	if n := strayCount(t, w.tracer); n != 0 {
		t.Errorf("%d strays are left, want none", n)
	}
}

// strayCount is how many strays the kernel knows, which must be as many as it counts.
func strayCount(t *testing.T, tracer *Tracer) int {
	t.Helper()
	var counted uint64
	// The last child may be ending still.
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err := tracer.shared["stray_counts"].Lookup(uint32(0), &counted); err != nil {
			t.Fatal(err)
		}
		n := 0
		var pid uint32
		var stray processStray
		entries := tracer.shared["strays"].Iterate()
		for entries.Next(&pid, &stray) {
			n++
		}
		if n == int(counted) && n == 0 || time.Now().After(deadline) {
			if n != int(counted) {
				t.Errorf("%d strays, %d are counted", n, counted)
			}
			return n
		}
	}
}

// TestKernelMoveOver has a process leave a sandbox that is over before the process is: it is no stray for ever.
func TestKernelMoveOver(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	outside, over := scratchCgroup(t), scratchCgroup(t)
	if err := w.tracer.Track(cgroupID(t, over)); err != nil {
		t.Fatal(err)
	}
	cmd, tell := shellIn(t, over)
	tell("echo $$ > " + procsOf(outside))
	one[*event.ProcessMove](w, cmd.Process.Pid)
	if err := w.tracer.Untrack(cgroupID(t, over)); err != nil {
		t.Fatal(err)
	}
	if n := w.tracer.strays(); n != 1 {
		t.Fatalf("%d strays, want the one that left", n)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if n := strayCount(t, w.tracer); n != 0 {
		t.Errorf("%d strays are left, want none", n)
	}
}

// TestKernelMoveBorn has a process of the sandbox make a child outside of it.
func TestKernelMoveBorn(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	outside := scratchCgroup(t)
	said := w.run(helperRun{action: "born outside", args: []string{outside}}).said
	pid, err := strconv.Atoi(said)
	if err != nil {
		t.Fatal(err)
	}
	r, born := one[*event.ProcessMove](w, pid)
	if born.Direction != event.MoveOut || !born.Born || born.ToID != cgroupID(t, outside) || r.Sandbox != w.id {
		t.Errorf("the birth is %+v", born)
	}
	for _, found := range [][]*Record{w.await(1, of[*Fork](pid)), w.await(1, of[*event.ProcessExec](pid)), w.await(1, of[*event.ProcessExit](pid))} {
		if len(found) != 1 || found[0].Sandbox != w.id {
			t.Errorf("%d records of the child, want 1 of the sandbox: %v", len(found), found)
		}
	}
	if n := strayCount(t, w.tracer); n != 0 {
		t.Errorf("%d strays are left, want none", n)
	}
}

// helperBornOutside starts a program in a cgroup outside of its own.
func helperBornOutside(args []string) (string, error) {
	dir, err := os.Open(args[0])
	if err != nil {
		return "", err
	}
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := cmd.Run(); err != nil {
		return "", err
	}
	return strconv.Itoa(cmd.Process.Pid), nil
}

// TestKernelMoveIn moves processes from elsewhere in, and between sandboxes.
func TestKernelMoveIn(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	outside, other := scratchCgroup(t), scratchCgroup(t)
	if err := w.tracer.Track(cgroupID(t, other)); err != nil {
		t.Fatal(err)
	}
	marks := realPath(t, t.TempDir())
	unseen, seen := copyOf(t, "/bin/true", filepath.Join(marks, "unseen")), copyOf(t, "/bin/true", filepath.Join(marks, "seen"))
	cmd, tell := shellIn(t, outside)
	tell(unseen)
	moveTo(t, w.cgroup, cmd.Process.Pid)
	tell(seen)
	r, existing := one[*Existing](w, cmd.Process.Pid)
	if existing.Executable != realPath(t, "/bin/sh") || len(existing.Args) == 0 || r.Sandbox != w.id {
		t.Errorf("who came in is %+v of %+v", existing, r)
	}
	_, in := one[*event.ProcessMove](w, cmd.Process.Pid)
	if in.Direction != event.MoveIn || in.FromID != 0 || in.ToID != w.id || int(in.Mover.PID) != os.Getpid() {
		t.Errorf("the move is %+v", in)
	}
	if records := w.await(1, ranAs(seen)); len(records) != 1 {
		t.Errorf("%d execs after it came in, want 1", len(records))
	}
	if records := w.seen(ranAs(unseen)); len(records) != 0 {
		t.Error("what it did before was seen")
	}
	moveTo(t, other, cmd.Process.Pid)
	moves := w.await(3, of[*event.ProcessMove](cmd.Process.Pid))
	if len(moves) != 3 {
		t.Fatalf("%d moves, want one in and two that tell of the one between: %+v", len(moves), moves)
	}
	for i, sandbox := range []uint64{w.id, cgroupID(t, other)} {
		m := moves[i+1]
		if got := m.Payload.(*event.ProcessMove); m.Sandbox != sandbox || got.Direction != event.MoveBetween || got.FromID != w.id || got.ToID != cgroupID(t, other) {
			t.Errorf("in sandbox %d it is told as %+v of %d", sandbox, got, m.Sandbox)
		}
	}
	tell(seen)
	if records := w.await(2, ranAs(seen)); len(records) != 2 || records[1].Sandbox != cgroupID(t, other) {
		t.Errorf("%d execs, want the second in the other sandbox", len(records))
	}
	// Processes elsewhere that move elsewhere are nobody's business.
	elsewhere := scratchCgroup(t)
	stranger, _ := shellIn(t, outside)
	moveTo(t, elsewhere, stranger.Process.Pid)
	if records := w.await(0, anything(stranger.Process.Pid)); len(records) != 0 {
		t.Errorf("saw a process move elsewhere: %v", records)
	}
}

// threadedCgroups is two cgroups of one domain, between which threads go one by one.
func threadedCgroups(t *testing.T) (inside, outside string) {
	t.Helper()
	domain := scratchCgroup(t)
	inside, outside = makeCgroup(t, filepath.Join(domain, "inside")), makeCgroup(t, filepath.Join(domain, "outside"))
	for _, dir := range []string{inside, outside} {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.type"), []byte("threaded"), 0); err != nil {
			t.Skipf("no threaded cgroups here: %v", err)
		}
	}
	return inside, outside
}

// TestKernelMoveThread moves one thread of a process out, into a threaded cgroup.
func TestKernelMoveThread(t *testing.T) {
	requireKernel(t)
	inside, outside := threadedCgroups(t)
	w := startWatch(t)
	if err := w.tracer.Track(cgroupID(t, inside)); err != nil {
		t.Fatal(err)
	}
	// A file for each thread: the second open of one file can be told by a count.
	dir := realPath(t, t.TempDir())
	paths := []string{filepath.Join(dir, "moved"), filepath.Join(dir, "stayed")}
	for _, path := range paths {
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(os.Args[0], append([]string{"-test.run=^TestHelperProcess$", "--", filepath.Join(outside, "cgroup.threads")}, paths...)...)
	cmd.Env = append(os.Environ(), helperVariable+"=thread moves")
	// A process is not born in a threaded cgroup but moved there.
	join := exec.Command("/bin/sh", "-c", "echo $$ > "+procsOf(inside)+` && exec "$@"`, "sh")
	join.Args = append(join.Args, cmd.Args...)
	join.Env = cmd.Env
	if out, err := join.CombinedOutput(); err != nil {
		t.Skipf("a process cannot join a threaded cgroup here: %v\n%s", err, out)
	}
	pid := join.Process.Pid
	moves := w.await(2, of[*event.ProcessMove](pid))
	if len(moves) != 2 {
		t.Fatalf("moves are %+v, want one in and one of a thread", moves)
	}
	m := moves[1].Payload.(*event.ProcessMove)
	if !m.Thread || m.Direction != event.MoveOut || m.ToID != cgroupID(t, outside) || moves[1].Task.TID == moves[1].Task.PID {
		t.Errorf("the move is %+v of %+v", m, moves[1].Task)
	}
	opens := w.await(2, func(r *Record) bool {
		open, ok := r.Payload.(*event.FileOpen)
		return ok && slices.Contains(paths, open.Path)
	})
	if len(opens) != 2 || opens[0].Sandbox != cgroupID(t, inside) || opens[0].Cgroup == opens[1].Cgroup {
		t.Errorf("opens by both threads are %+v, want two in two cgroups", opens)
	}
}

// helperThreadMoves moves one of its threads into the cgroup, and opens a file by it and then one by another, which was
// there before: a thread is born in the cgroup of the one that makes it.
func helperThreadMoves(args []string) (string, error) {
	open := func(path string) error {
		fd, err := unix.Open(path, unix.O_RDONLY, 0)
		if err != nil {
			return fmt.Errorf("opening %s: %w", path, err)
		}
		return unix.Close(fd)
	}
	there, moved, stayed := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		close(there)
		<-moved
		stayed <- open(args[2])
	}()
	<-there
	var err error
	failed := onThread(false, func() {
		if err = os.WriteFile(args[0], []byte(strconv.Itoa(unix.Gettid())), 0); err == nil {
			err = open(args[1])
		}
	})
	close(moved)
	return strings.TrimSpace(args[0]), errors.Join(err, failed, <-stayed)
}
