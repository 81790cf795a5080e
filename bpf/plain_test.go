// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// helperReadFiles reads files, each argument a path, a colon and how many times 100 bytes.
func helperReadFiles(args []string) (string, error) {
	for _, arg := range args {
		path, times, _ := strings.Cut(arg, ":")
		fd, err := unix.Open(path, unix.O_RDONLY, 0)
		if err != nil {
			return "", err
		}
		var n int
		if _, err := fmt.Sscan(times, &n); err != nil {
			return "", err
		}
		for range n {
			if n, err := unix.Pread(fd, make([]byte, 100), 0); err != nil || n != 100 {
				return "", wantMoved(n, 100, err)
			}
		}
	}
	return "", nil
}

// plainTest is a sandbox whose processes read files below a directory, of which one is watched.
type plainTest struct {
	*watch
	dir string
}

// read has a process read files and returns its pid, when its end was told.
func (p *plainTest) read(what ...string) uint32 {
	p.t.Helper()
	var args []string
	for _, w := range what {
		args = append(args, filepath.Join(p.dir, w))
	}
	pid := p.run(helperRun{action: "read files", args: args}).pid
	if exits := p.await(1, of[*event.ProcessExit](int(pid))); len(exits) != 1 {
		p.t.Fatalf("%d exits, want 1", len(exits))
	}
	return pid
}

// used is which of the files the process was told to use, in their order.
func (p *plainTest) used(pid uint32) (names []string) {
	for _, r := range p.seen(func(r *Record) bool { return r.Task.PID == pid }) {
		if use, ok := r.Payload.(*FileUse); ok && filepath.Dir(use.IO.Path) == p.dir {
			names = append(names, filepath.Base(use.IO.Path))
		}
	}
	return names
}

// awaitPlain waits until the kernel knows a file as plain.
func (p *plainTest) awaitPlain(name string) {
	p.t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(filepath.Join(p.dir, name), &stat); err != nil {
		p.t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var key filePlainKey
		var value uint32
		for entries := p.tracer.shared["plain_files"].Iterate(); entries.Next(&key, &value); {
			if key.Inode == stat.Ino {
				return
			}
		}
	}
	p.t.Fatalf("%s is not known as plain", name)
}

func startPlain(t *testing.T) *plainTest {
	t.Helper()
	cfg := testConfig()
	cfg.Watched = func(path string) bool { return strings.HasSuffix(path, "/secret") }
	p := &plainTest{watch: startWatchWith(t, cfg), dir: realPath(t, t.TempDir())}
	for _, name := range []string{"a", "b", "secret"} {
		if err := os.WriteFile(filepath.Join(p.dir, name), make([]byte, 100), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if diff := cmp.Diff([]string{"a", "b", "secret"}, p.used(p.read("a:1", "b:1", "secret:1"))); diff != "" {
			t.Fatalf("the first two processes' uses (-want +got):\n%s", diff)
		}
	}
	p.awaitPlain("a")
	p.awaitPlain("b")
	return p
}

// TestKernelTransferPlain: of files that are not watched and that other processes used too, what is little is told by
// the process's end alone; what is much is told to the byte, and what is watched always.
func TestKernelTransferPlain(t *testing.T) {
	requireKernel(t)
	p := startPlain(t)
	if diff := cmp.Diff([]string{"secret"}, p.used(p.read("a:2", "b:1", "secret:1", "a:1"))); diff != "" {
		t.Errorf("uses of plain files (-want +got):\n%s", diff)
	}
	const much = 1000
	pid := p.read("a:3", "b:"+fmt.Sprint(much), "a:1")
	want := map[string]event.FileIO{"b": {Read: 100 * much, Reads: much}}
	if diff := cmp.Diff(want, p.moved(pid, p.dir)); diff != "" {
		t.Errorf("what is told of much (-want +got):\n%s", diff)
	}
	if err := os.Rename(filepath.Join(p.dir, "a"), filepath.Join(p.dir, "c")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"c"}, p.used(p.read("c:1", "b:1"))); diff != "" {
		t.Errorf("uses of a file by another name (-want +got):\n%s", diff)
	}
	p.balanced(t)
}

// balanced holds what the kernel counted of uses against what was told.
func (p *plainTest) balanced(t *testing.T) {
	t.Helper()
	counts, err := p.tracer.Counts()
	if err != nil {
		t.Fatal(err)
	}
	told := uint64(len(p.seen(func(r *Record) bool { _, ok := r.Payload.(*FileUse); return ok })))
	for _, c := range counts {
		if c.Probe == "file" && c.Kind == string(event.KindFileIO) {
			if c.Aggregated == 0 || c.Seen != told+c.Aggregated || c.Dropped+c.Throttled != 0 {
				t.Errorf("counted %+v, told %d uses", c, told)
			}
		}
	}
}

// TestKernelPlainFiles: two processes make a file plain, and the oldest ones go for lack of room.
func TestKernelPlainFiles(t *testing.T) {
	requireKernel(t)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 24, ValueSize: 4, MaxEntries: maxPlainFiles})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	secret := ""
	p, err := newPlainFiles(m, func(path string) bool { return path == secret })
	if err != nil {
		t.Fatal(err)
	}
	use := func(file uint64, start uint64) {
		p.note(&Record{mix: file, Task: Task{Start: start}}, &event.FileIO{Path: fmt.Sprint("/", file), Inode: file, Device: 1})
	}
	known := func(file uint64) bool {
		var value uint32
		return m.Lookup(filePlainKey{Mix: file, Inode: file, Device: 1}, &value) == nil
	}
	use(1, 1)
	use(1, 1)
	if known(1) {
		t.Error("one process alone made a file plain")
	}
	use(1, 2)
	if !known(1) {
		t.Error("two processes did not make a file plain")
	}
	for file := uint64(2); file < maxPlainFiles+2; file++ {
		use(file, 1)
		use(file, 2)
	}
	if known(1) || !known(2) || !known(maxPlainFiles+1) || len(p.entered) != maxPlainFiles {
		t.Errorf("with one file too many, the first known: %v, the last: %v, entered %d", known(1), known(maxPlainFiles+1), len(p.entered))
	}
	for file := uint64(1); file < 2*maxPlainCandidates; file++ {
		use(1<<32+file, 1)
	}
	if len(p.known) > maxPlainCandidates+maxPlainFiles {
		t.Errorf("%d files are remembered", len(p.known))
	}
	secret = "/2"
	p.sweep(time.Now().Add(2 * plainSweep))
	if known(2) || !known(3) {
		t.Error("a file that became watched is plain still")
	}
	if again, err := newPlainFiles(m, p.watched); err != nil || known(3) || len(again.entered) != 0 {
		t.Errorf("the next tracer took over what was plain: %v", err)
	}
}
