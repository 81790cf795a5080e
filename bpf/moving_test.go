// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// madeMovings is places in plain memory.
func madeMovings() *movings {
	const places = 1 << fileMovingPlaceMOVING_BITS
	return &movings{places: make([]fileMoving, places), left: make([]uint64, places)}
}

// put has a file take its place, as the kernel side does.
func (m *movings) put(key fileTransferKey, last uint32) (place int) {
	p := m.at(&key)
	p.Key, p.Last, p.State = key, last, movingUsed
	return slices.IndexFunc(m.places, func(p fileMoving) bool { return p.Key == key })
}

// TestMovingFree: a place is freed at the second look at which its file is not known, and not while somebody still counts there.
func TestMovingFree(t *testing.T) {
	m := madeMovings()
	key := fileTransferKey{Inode: 1, Start: 2, Device: 3, Pid: 4}
	i := m.put(key, 6)
	p := &m.places[i]
	for _, step := range []struct {
		look  uint64
		last  uint32
		state uint32
		want  uint32
	}{
		{look: 5, last: 6, state: movingUsed, want: movingLeft},
		{look: 5, state: movingLeft, want: movingLeft},
		{look: 6, last: 7, state: movingLeft, want: movingLeft}, // noted by who saw the state from before
		{look: 7, state: movingUsed, want: movingLeft},          // in use again
		{look: 8, state: movingLeft, want: movingFree},
		{look: 9, state: movingLeft, want: movingLeft}, // left for an earlier collector
		{look: 10, state: movingLeft, want: movingFree},
	} {
		p.Last, p.State = step.last, step.state
		m.free(i, step.look)
		if p.State != step.want || p.Last != 0 {
			t.Errorf("at look %d the place in state %d, of descriptor %d, becomes %d, %d; want %d, 0", step.look, step.state, step.last, p.State, p.Last, step.want)
		}
	}
	if m.of(&key) != nil {
		t.Error("a free place is the file's")
	}
}

// TestMovingUnknown: places of files that nobody knows are found, those that are free are not.
func TestMovingUnknown(t *testing.T) {
	m := madeMovings()
	known, unknown, freed := fileTransferKey{Inode: 1}, fileTransferKey{Inode: 2}, fileTransferKey{Inode: 3}
	m.put(known, 1)
	want := []int{m.put(unknown, 1)}
	m.places[m.put(freed, 1)].State = movingFree
	got := m.unknown(func(key *fileTransferKey) bool { return *key == known })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}
}

// TestMovingWords: what a place counts is added to a file's counters, and taken once.
func TestMovingWords(t *testing.T) {
	const call = 1 << fileTransferPackingTRANSFER_BYTE_BITS
	m := madeMovings()
	key := fileTransferKey{Inode: 1, Start: 2, Device: 3, Pid: 4}
	p := &m.places[m.put(key, 6)]
	p.Reading, p.Writing = 2*call+30, 3*call+40
	counted := fileTransfer{Reading: call}
	m.counted(&key, &counted)
	if want := (fileTransfer{Reading: 3*call + 30, Writing: 3*call + 40}); counted != want {
		t.Errorf("counted is %+v, want %+v", counted, want)
	}
	taken := fileTransfer{Read: 1, Reads: 1}
	if !p.holds() || !p.take(&taken) || p.holds() || p.take(&taken) {
		t.Error("what the place held is not taken once")
	}
	if want := (fileTransfer{Read: 31, Reads: 3, Written: 40, Writes: 3}); taken != want {
		t.Errorf("taken is %+v, want %+v", taken, want)
	}
	if p.Last != 0 {
		t.Error("it counts on for a file that was taken")
	}
	other := fileTransferKey{Inode: 1, Start: 3, Device: 3, Pid: 4}
	if m.of(&other) != nil {
		t.Error("the place is another process's too")
	}
	if none := (&movings{}); none.of(&key) != nil || none.close() != nil {
		t.Error("there are places where there are none")
	}
}

// movingCalls is how many calls that write helperMovingOften makes after a sign, and as many that read: more than half of what a word
// has room for, but in an emulated machine, which would take a minute for that.
func movingCalls() int {
	if testing.Short() {
		return 20_000
	}
	return 600_000
}

// helperMovingOften writes to a file and reads from it by as many calls as it is told, twice, each time when it is given a sign, and
// closes it; then it waits until it may end.
func helperMovingOften(args []string) (string, error) {
	calls, e1 := strconv.Atoi(args[1])
	fd, e2 := opened(filepath.Join(args[0], "a"))
	if err := errors.Join(e1, e2); err != nil {
		return "", err
	}
	buffer := make([]byte, 3)
	if n, err := unix.Pwrite(fd, buffer, 0); err != nil || n != 3 {
		return "", wantMoved(n, 3, err)
	}
	for i := range 2 {
		if err := waitForFile(filepath.Join(args[0], fmt.Sprint("go ", i))); err != nil {
			return "", err
		}
		for range calls {
			n, e1 := unix.Pwrite(fd, buffer[:2], 0)
			m, e2 := unix.Pread(fd, buffer, 0)
			if err := errors.Join(e1, e2, wantMoved(n+m, 5, nil)); err != nil {
				return "", err
			}
		}
		if err := os.WriteFile(filepath.Join(args[0], fmt.Sprint("done ", i)), nil, 0o600); err != nil {
			return "", err
		}
	}
	if err := errors.Join(waitForFile(filepath.Join(args[0], "close")), unix.Close(fd)); err != nil {
		return "", err
	}
	return "", waitForFile(filepath.Join(args[0], "end"))
}

// movingOften is helperMovingOften at work in a directory.
type movingOften struct {
	t   *testing.T
	dir string
}

func (o movingOften) args() []string { return []string{o.dir, strconv.Itoa(movingCalls())} }

func (o movingOften) sign(name string) {
	o.t.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, name), nil, 0o600); err != nil {
		o.t.Fatal(err)
	}
}

func (o movingOften) await(name string) {
	o.t.Helper()
	if err := waitForFile(filepath.Join(o.dir, name)); err != nil {
		o.t.Fatal(err)
	}
}

// key is the file's, of a process.
func (o movingOften) key(pid uint32, start uint64) *fileTransferKey {
	o.t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(filepath.Join(o.dir, "a"), &stat); err != nil {
		o.t.Fatal(err)
	}
	// As the kernel has it, which is not as it shows it.
	device := unix.Major(stat.Dev)<<20 | unix.Minor(stat.Dev)
	return &fileTransferKey{Inode: stat.Ino, Start: start, Device: device, Pid: pid}
}

// wantHeld checks that what was counted of the file is at its place, unless another file of the process has that.
func (o movingOften) wantHeld(places *movings, key *fileTransferKey) {
	o.t.Helper()
	switch p := places.at(key); {
	case p.Key != *key && p.Key.Start == key.Start:
		o.t.Logf("the place of %+v is that of another file: %+v", key, p)
	case p.Key != *key || !p.holds():
		o.t.Errorf("the place of %+v is %+v", key, p)
	}
}

func (o movingOften) want(rounds int) event.FileIO {
	n := uint64(rounds * movingCalls())
	return event.FileIO{Path: filepath.Join(o.dir, "a"), Written: 2*n + 3, Writes: n + 1, Read: 3 * n, Reads: n}
}

// TestKernelMovingOften: what is read and written by more calls than a word has room for is told whole, at the close; it was counted
// at a place, which is free some looks later.
func TestKernelMovingOften(t *testing.T) {
	requireKernel(t)
	w := startWatchOwn(t)
	o := movingOften{t, t.TempDir()}
	done := make(chan helperResult, 1)
	go func() { done <- w.run(helperRun{action: "moving often", args: o.args()}) }()
	isA := func(r *Record) bool { return ioOf(r) != nil && filepath.Dir(ioOf(r).Path) == o.dir }
	uses := w.await(1, func(r *Record) bool {
		use, ok := r.Payload.(*FileUse)
		return ok && use.IO.Path == filepath.Join(o.dir, "a")
	})
	if len(uses) != 1 {
		t.Fatal("the first use of the file is not told")
	}
	for i := range 2 {
		o.sign(fmt.Sprint("go ", i))
		o.await(fmt.Sprint("done ", i))
	}
	key := o.key(uses[0].Task.PID, uses[0].Task.Start)
	places := w.tracer.transfers.movings
	o.wantHeld(places, key)
	o.sign("close")
	found := w.await(1, isA)
	if len(found) != 1 {
		t.Fatalf("%d events when the file was closed, want 1", len(found))
	}
	if diff := cmp.Diff(o.want(2), *ioOf(found[0]), ignorePlace); diff != "" {
		t.Errorf("what was told (-want +got):\n%s", diff)
	}
	for deadline := time.Now().Add(20 * transferSweep); places.of(key) != nil; time.Sleep(transferSweep / 4) {
		if time.Now().After(deadline) {
			t.Fatal("the place of a file that was closed is not freed")
		}
	}
	o.sign("end")
	<-done
	if again := w.seen(isA); len(again) != 1 {
		t.Errorf("the file is told %d times", len(again))
	}
}

// ignorePlace is what of a file's counts is not the test's to say.
var ignorePlace = cmpopts.IgnoreFields(event.FileIO{}, "Inode", "Device", "Mode", "HostPath")

// TestKernelPinsMoving: what was counted at a place for a collector that was killed, and while nobody read, is told by the next one.
func TestKernelPinsMoving(t *testing.T) {
	dir, cgroup := pinDirectory(t), scratchCgroup(t)
	t.Cleanup(func() { _ = removePins(dir) })
	cfg := pinnedWhole(dir)
	o := movingOften{t, t.TempDir()}
	// The path is told by the first use of the file alone.
	want := o.want(2)
	want.Path = ""

	first := openPinned(t, cfg, event.PinningStarted)
	counted, used := first.transfers, make(chan Task, 1)
	note := &execs{seen: map[string]int{}, of: func(r *Record) (string, bool) {
		if use, ok := r.Payload.(*FileUse); ok && use.IO.Path == filepath.Join(o.dir, "a") {
			first.transfers = nil // what a killed process does not do: tell at its end
			used <- r.Task
		}
		return "", false
	}}
	r := note.read(t, first)
	if err := first.Track(cgroupID(t, cgroup)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], append([]string{"-test.run=^TestHelperProcess$", "--"}, o.args()...)...)
	cmd.Env = append(os.Environ(), helperVariable+"=moving often", "GOCOVERDIR="+t.TempDir())
	startIn(t, cgroup, cmd)
	var user Task
	select {
	case user = <-used:
	case <-time.After(time.Minute):
		t.Fatal("the first use of the file is not told")
	}
	o.sign("go 0")
	o.await("done 0")
	o.wantHeld(counted.movings, o.key(user.PID, user.Start))
	r.kill(t)
	if err := counted.movings.close(); err != nil {
		t.Error(err)
	}
	o.sign("go 1")
	o.await("done 1")

	told := make(chan event.FileIO, 16)
	note.of = func(r *Record) (string, bool) {
		if io := ioOf(r); io != nil && r.Task.PID == user.PID && io.Writes > 0 {
			told <- *io
		}
		return "", false
	}
	r = note.read(t, openPinned(t, cfg, event.PinningAdopted))
	for _, name := range []string{"close", "end"} {
		o.sign(name)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	select {
	case got := <-told:
		if diff := cmp.Diff(want, got, ignorePlace); diff != "" {
			t.Errorf("what was told (-want +got):\n%s", diff)
		}
	case <-time.After(time.Minute):
		t.Error("what was counted is not told")
	}
	r.kill(t)
	if len(told) != 0 {
		t.Errorf("it is told again: %+v", <-told)
	}
}
