// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/watchglass/watchglass/event"
)

// manySandboxes is how many sandboxes are watched at once: ten thousand, and a tenth of that where each takes as long as ten
// elsewhere, on an emulated processor.
func manySandboxes(t *testing.T) int {
	t.Helper()
	processor, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(processor), "QEMU") {
		return 1000
	}
	return 10_000
}

// TestKernelManySandboxes watches as many sandboxes as a large node has, and looks that each is told apart: what runs in one
// is its own, its children are, a cgroup made below it is, what leaves it or comes into it follows, and what is in none is
// not seen. Then some are taken out again, and the kernel side keeps nothing of those.
func TestKernelManySandboxes(t *testing.T) {
	requireKernel(t)
	w := startWatchOwn(t)
	count := manySandboxes(t)
	parent := scratchCgroup(t)
	ids, dirs := make([]uint64, count), make([]string, count)
	for i := range count {
		dirs[i] = filepath.Join(parent, fmt.Sprintf("s%d", i))
		if err := os.Mkdir(dirs[i], 0o755); err != nil {
			t.Fatal(err)
		}
		ids[i] = cgroupID(t, dirs[i])
		if err := w.tracer.Track(ids[i]); err != nil {
			t.Fatalf("watching sandbox %d: %v", i, err)
		}
	}
	t.Cleanup(func() {
		for _, dir := range dirs {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		}
	})
	marks := realPath(t, t.TempDir())
	for _, i := range []int{0, 1, count / 2, count - 1} {
		w.ownsWhatRuns(marks, dirs[i], ids[i])
	}
	stranger := markIn(t, marks, "stranger")
	runIn(t, parent, stranger)
	w.movesBetween(marks, dirs[1], dirs[count-1], ids[count-1])
	if got := w.seen(ranAs(stranger)); len(got) != 0 {
		t.Errorf("what runs beside %d sandboxes is told as of sandbox %d", count, got[0].Sandbox)
	}
	if got := entries(t, w.tracer.shared["sandboxes"]); got != uint64(count)+1 {
		t.Errorf("%d cgroups are entered, want %d and the first", got, count)
	}
	// All of them go as fast: a part is enough, and a tracer that is closed lets go of everything.
	const gone = 200
	for i, id := range ids[:gone] {
		if err := w.tracer.Untrack(id); err != nil {
			t.Fatalf("no longer watching sandbox %d: %v", i, err)
		}
	}
	for _, name := range []string{"sandboxes", "event_counts"} {
		m := w.tracer.shared[name]
		// The first sandbox stays, and of the accounts that of nobody.
		if got, most := entries(t, m), uint64(count-gone+2); got > most {
			t.Errorf("map %s keeps %d entries, want no more than %d", name, got, most)
		}
		for i, id := range ids[:gone] {
			var value []byte
			if err := m.Lookup(id, &value); !errors.Is(err, ebpf.ErrKeyNotExist) {
				t.Fatalf("map %s keeps what was of sandbox %d: %v", name, i, err)
			}
		}
	}
}

// markIn makes a program of a path of its own. Its name stays that of what it does, by which busybox knows.
func markIn(t *testing.T, marks, name string) string {
	t.Helper()
	dir := filepath.Join(marks, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return copyOf(t, "/bin/true", filepath.Join(dir, "true"))
}

// ranIn looks that a program is told to have run, and in no other sandbox.
func (w *watch) ranIn(program string, id uint64) {
	w.t.Helper()
	told := w.await(1, ranAs(program))
	if len(told) == 0 {
		w.t.Errorf("%s ran in sandbox %d and is not told", program, id)
	}
	for _, r := range told {
		if r.Sandbox != id {
			w.t.Errorf("%s ran in sandbox %d, told is %d", program, id, r.Sandbox)
		}
	}
}

// ownsWhatRuns runs a program in a sandbox, a child of it, and one in a cgroup that is made below.
func (w *watch) ownsWhatRuns(marks, dir string, id uint64) {
	w.t.Helper()
	name := filepath.Base(dir)
	own := markIn(w.t, marks, name+"-own")
	child := markIn(w.t, marks, name+"-child")
	below := markIn(w.t, marks, name+"-below")
	runIn(w.t, dir, own)
	runIn(w.t, dir, "/bin/sh", "-c", child+"; exit 0")
	nested := filepath.Join(dir, "nested")
	if err := os.Mkdir(nested, 0o755); err != nil {
		w.t.Fatal(err)
	}
	runIn(w.t, nested, below)
	if err := os.Remove(nested); err != nil {
		w.t.Error(err)
	}
	for _, program := range []string{own, child, below} {
		w.ranIn(program, id)
	}
}

// movesBetween moves a process from one sandbox into another.
func (w *watch) movesBetween(marks, from, to string, id uint64) {
	w.t.Helper()
	after := markIn(w.t, marks, "moved")
	shell, tell := shellIn(w.t, from)
	moveTo(w.t, to, shell.Process.Pid)
	tell(after)
	w.ranIn(after, id)
	moves := w.await(1, of[*event.ProcessMove](shell.Process.Pid))
	if len(moves) == 0 {
		w.t.Fatal("the move is not told")
	}
	if move, ok := moves[0].Payload.(*event.ProcessMove); !ok || move.Direction != event.MoveBetween || move.ToID != id {
		w.t.Errorf("told is %+v", moves[0].Payload)
	}
}
