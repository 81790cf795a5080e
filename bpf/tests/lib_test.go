// SPDX-License-Identifier: Apache-2.0

package tests

//go:generate go run ../../internal/genbpf

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/internal/testenv"
)

// Sizes of a ring that is full soon, and of a message with the ring's own header.
const (
	ringBytes    = 4096
	messageBytes = 88 + 64 + 8
)

// loadProgram loads an object; the reader is woken for each record.
func loadProgram(t *testing.T, load func() (*ebpf.CollectionSpec, error)) *ebpf.Collection {
	t.Helper()
	testenv.RequireEBPF(t)
	spec, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.Variables["probe_index"].Set(uint16(3)); err != nil {
		t.Fatal(err)
	}
	if spec.Maps["events"] != nil {
		spec.Maps["events"].MaxEntries = ringBytes
	}
	collection, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(collection.Close)
	return collection
}

// call runs a program and returns its context as the program left it, and its result.
func call[T any](t *testing.T, collection *ebpf.Collection, name string, context T) (T, uint32) {
	t.Helper()
	size := binary.Size(context)
	out := make([]byte, size)
	result, err := collection.Programs[name].Run(&ebpf.RunOptions{Context: &context, ContextOut: out})
	if err != nil {
		t.Fatalf("running %s: %v", name, err)
	}
	var after T
	if err := binary.Read(bytes.NewReader(out), binary.NativeEndian, &after); err != nil {
		t.Fatal(err)
	}
	return after, result
}

// ownCgroup is the id of this process's cgroup2 cgroup.
func ownCgroup(t *testing.T) uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		path, found := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !found {
			continue
		}
		var stat unix.Stat_t
		if err := unix.Stat(filepath.Join(cgroupMount(t), path), &stat); err != nil {
			t.Fatal(err)
		}
		return stat.Ino
	}
	t.Fatal("no cgroup2 cgroup")
	return 0
}

func cgroupMount(t *testing.T) string {
	t.Helper()
	file, err := os.Open("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 2 && fields[2] == "cgroup2" {
			return fields[1]
		}
	}
	t.Fatal("cgroup2 is not mounted")
	return ""
}

func TestKernelSandbox(t *testing.T) {
	c := loadProgram(t, loadEvent)
	own := ownCgroup(t)
	ask := func(program string, cgroup uint64) uint64 {
		after, _ := call(t, c, program, eventQuestion{Cgroup: cgroup})
		return after.Answer
	}
	if got := ask("test_sandbox_cgroup_of", 0); got != own {
		t.Errorf("the task's cgroup is %d, want %d", got, own)
	}
	if got := ask("test_sandbox_current", 0); got != 0 {
		t.Errorf("outside of every sandbox it is in %d", got)
	}
	if err := c.Maps["sandboxes"].Put(own, uint64(77)); err != nil {
		t.Fatal(err)
	}
	if got := ask("test_sandbox_current", 0); got != 77 {
		t.Errorf("it is in sandbox %d, want 77", got)
	}
	for cgroup, want := range map[uint64]uint64{own: 77, own + 1: 0, 0: 0} {
		if got := ask("test_sandbox_of", cgroup); got != want {
			t.Errorf("cgroup %d is of sandbox %d, want %d", cgroup, got, want)
		}
	}
}

// count is one sandbox's account of the tests' probe.
func count(t *testing.T, c *ebpf.Collection, sandbox uint64) (seen, dropped uint64) {
	t.Helper()
	var perCPU []eventEventCount
	if err := c.Maps["event_counts"].Lookup(sandbox, &perCPU); err != nil {
		t.Fatal(err)
	}
	for _, cpu := range perCPU {
		seen += cpu.Seen[3]
		dropped += cpu.Dropped[3]
	}
	return seen, dropped
}

// openCount makes accounts, which programs never do.
func openCount(t *testing.T, c *ebpf.Collection, sandboxes ...uint64) {
	t.Helper()
	for _, sandbox := range sandboxes {
		if err := c.Maps["event_counts"].Put(sandbox, make([]eventEventCount, ebpf.MustPossibleCPU())); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKernelEventHeader(t *testing.T) {
	c := loadProgram(t, loadEvent)
	openCount(t, c, 0, 5)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	reader, err := ringbuf.NewReader(c.Maps["events"])
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if _, sent := call(t, c, "test_event_submit", eventQuestion{Sandbox: 5}); sent != 1 {
		t.Fatal("an empty ring has no room")
	}
	reader.SetDeadline(time.Now().Add(time.Second))
	record, err := reader.Read()
	if err != nil {
		t.Fatal(err)
	}
	var got eventMessage
	if err := binary.Read(bytes.NewReader(record.RawSample), binary.NativeEndian, &got); err != nil {
		t.Fatal(err)
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		t.Fatal(err)
	}
	h := got.Header
	if age := time.Duration(now.Nano() - int64(h.Time)); age < 0 || age > 10*time.Second {
		t.Errorf("the record is %v old", age)
	}
	if h.Start == 0 || h.ParentStart == 0 || h.ParentStart > h.Start || h.Start > h.Time {
		t.Errorf("started at %d, parent at %d, now %d", h.Start, h.ParentStart, h.Time)
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/comm", unix.Gettid()))
	if err != nil {
		t.Fatal(err)
	}
	want := got
	want.Header.Sandbox, want.Header.Cgroup = 5, ownCgroup(t)
	want.Header.Pid, want.Header.Tid = uint32(os.Getpid()), uint32(unix.Gettid())
	want.Header.ParentPid, want.Header.Vpid = uint32(os.Getppid()), uint32(os.Getpid())
	want.Header.Uid, want.Header.Gid = uint32(os.Getuid()), uint32(os.Getgid())
	want.Header.Probe, want.Header.Kind, want.Header.Flags = 3, 7, 0
	want.Header.Comm = [16]uint8{}
	copy(want.Header.Comm[:], bytes.TrimSpace(comm))
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestKernelEventCounts(t *testing.T) {
	c := loadProgram(t, loadEvent)
	openCount(t, c, 0, 5)
	send := func(sandbox uint64, n int) (sent uint64) {
		for range n {
			_, result := call(t, c, "test_event_submit", eventQuestion{Sandbox: sandbox})
			sent += uint64(result)
		}
		return sent
	}
	const more = 10
	fits := ringBytes / messageBytes
	if sent := send(5, fits+more); sent > uint64(fits) || sent < uint64(fits)-1 {
		t.Errorf("%d records fit, want %d", sent, fits)
	} else if seen, dropped := count(t, c, 5); seen != uint64(fits+more) || seen-dropped != sent {
		t.Errorf("%d seen, %d dropped, %d sent of %d", seen, dropped, sent, fits+more)
	}
	// A sandbox without an account loses none: they go to that of nobody.
	send(6, more)
	if seen, dropped := count(t, c, 0); seen != more || dropped != more {
		t.Errorf("%d seen, %d dropped of %d of a sandbox without an account", seen, dropped, more)
	}
	_, sent := call(t, c, "test_event_output", eventQuestion{Sandbox: 5, Size: 100})
	if seen, _ := count(t, c, 5); sent != 0 || seen != uint64(fits+more+1) {
		t.Errorf("a full ring took an output (%d), or it was not counted: %d", sent, seen)
	}
}

func TestKernelEventOutput(t *testing.T) {
	c := loadProgram(t, loadEvent)
	openCount(t, c, 0)
	reader, err := ringbuf.NewReader(c.Maps["events"])
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for _, size := range []uint64{88, 89, 96, 152} {
		if _, sent := call(t, c, "test_event_output", eventQuestion{Size: size}); sent != 1 {
			t.Fatalf("%d bytes found no room", size)
		}
		reader.SetDeadline(time.Now().Add(time.Second))
		record, err := reader.Read()
		if err != nil {
			t.Fatal(err)
		}
		if len(record.RawSample) != int(size) {
			t.Errorf("got %d bytes, want %d", len(record.RawSample), size)
		}
	}
	if _, result := call(t, c, "test_event_output", eventQuestion{Size: 153}); result != 2 {
		t.Error("more than there is was sent")
	}
}

// answer reads what the last program of path.bpf.c found.
func answer(t *testing.T, c *ebpf.Collection) (pathFound, string) {
	t.Helper()
	var found pathFound
	if err := c.Maps["answers"].Lookup(uint32(0), &found); err != nil {
		t.Fatal(err)
	}
	return found, string(found.Path[:found.PathSize])
}

func TestKernelPathResolve(t *testing.T) {
	c := loadProgram(t, loadPath)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(dir, "line\nbreak \xff"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	gone, err := os.Create(filepath.Join(dir, "gone"))
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	if err := os.Remove(gone.Name()); err != nil {
		t.Fatal(err)
	}
	memory, err := unix.MemfdCreate("some", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(memory)
	root, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	proc, err := os.Open("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	tests := []struct {
		name  string
		fd    int
		want  string
		flags pathPathFlags
	}{
		{"odd name", int(file.Fd()), file.Name(), 0},
		{"deleted", int(gone.Fd()), gone.Name(), pathPathFlagsPATH_DELETED},
		{"memfd", memory, "memfd:some", pathPathFlagsPATH_PSEUDO},
		{"root", int(root.Fd()), "/", 0},
		{"across a mount", int(proc.Fd()), fmt.Sprintf("/proc/%d/stat", os.Getpid()), 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, result := call(t, c, "test_path_resolve_file", pathSubject{Fd: uint32(test.fd)}); result != 0 {
				t.Fatalf("the program says %d", result)
			}
			found, got := answer(t, c)
			if got != test.want || found.Flags != uint32(test.flags) {
				t.Errorf("got %q, flags %d; want %q, flags %d", got, found.Flags, test.want, test.flags)
			}
		})
	}
	if _, result := call(t, c, "test_path_resolve_file", pathSubject{Fd: 1 << 20}); result != 2 {
		t.Errorf("a descriptor that is not open: the program says %d", result)
	}
}

// inDirectory runs f on a thread that has a file system view of its own.
func inDirectory(t *testing.T, enter func() error, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and its view with it.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = enter()
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestKernelPathCurrentDirectory(t *testing.T) {
	c := loadProgram(t, loadPath)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	below := filepath.Join(dir, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, want string
		enter      func() error
		flags      pathPathFlags
	}{
		{"a directory", below, func() error { return unix.Chdir(below) }, 0},
		{"root", "/", func() error { return unix.Chdir("/") }, 0},
		{"in a chroot", "/below", func() error {
			return errors.Join(unix.Chroot(dir), unix.Chdir("/below"))
		}, 0},
		{"the root of a chroot", "/", func() error {
			return errors.Join(unix.Chroot(dir), unix.Chdir("/"))
		}, 0},
		{"outside of a chroot", dir, func() error {
			return errors.Join(unix.Chdir(dir), unix.Chroot(below))
		}, pathPathFlagsPATH_OUTSIDE},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inDirectory(t, test.enter, func() {
				if _, result := call(t, c, "test_path_resolve_cwd", pathSubject{}); result != 0 {
					t.Errorf("the program says %d", result)
				}
			})
			found, got := answer(t, c)
			if got != test.want || found.Flags != uint32(test.flags) {
				t.Errorf("got %q, flags %d; want %q, flags %d", got, found.Flags, test.want, test.flags)
			}
		})
	}
}

// TestKernelPathLong goes down until the path is longer than can be told: the end of it stays.
func TestKernelPathLong(t *testing.T) {
	c := loadProgram(t, loadPath)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	inDirectory(t, func() error { return unix.Chdir(dir) }, func() {
		path := dir
		for i := range 30 {
			name := fmt.Sprintf("%03d-%s", i, strings.Repeat("d", 200))
			if err := errors.Join(unix.Mkdir(name, 0o755), unix.Chdir(name)); err != nil {
				t.Error(err)
				return
			}
			path += "/" + name
			if _, result := call(t, c, "test_path_resolve_cwd", pathSubject{}); result != 0 {
				t.Errorf("the program says %d", result)
				return
			}
			found, got := answer(t, c)
			long := len(path) > 4095
			if cut := found.Flags&uint32(pathPathFlagsPATH_TRUNCATED) != 0; cut != long {
				t.Errorf("path of %d bytes: cut is %v", len(path), cut)
			}
			if !long && got != path || long && (!strings.HasSuffix(path, got) || len(got) < 4095-205 || got[0] != '/') {
				t.Errorf("path of %d bytes: got %d bytes %.20q...", len(path), len(got), got)
			}
		}
	})
}

func TestKernelCompatInode(t *testing.T) {
	c := loadProgram(t, loadPath)
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	modified := time.Unix(1_600_000_000, 123_456_789)
	if err := os.Chtimes(file.Name(), modified, modified); err != nil {
		t.Fatal(err)
	}
	// Twice: asking for the times marks them on kernels with multigrain times.
	for range 2 {
		if _, result := call(t, c, "test_compat_inode", pathSubject{Fd: uint32(file.Fd())}); result != 0 {
			t.Fatalf("the program says %d", result)
		}
		var stat unix.Stat_t
		if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
			t.Fatal(err)
		}
		found, _ := answer(t, c)
		if found.Modified != uint64(stat.Mtim.Nano()) || found.Modified != uint64(modified.UnixNano()) {
			t.Errorf("modified %d, want %d", found.Modified, stat.Mtim.Nano())
		}
		if found.Changed != uint64(stat.Ctim.Nano()) {
			t.Errorf("changed %d, want %d", found.Changed, stat.Ctim.Nano())
		}
	}
}

func TestKernelCompatReadUserStr(t *testing.T) {
	c := loadProgram(t, loadPath)
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	// Fields 48 and 49: where the arguments begin and end. Field 3 is the first after the name.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var start, end uint64
	if _, err := fmt.Sscan(fields[48-3], &start); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(fields[49-3], &end); err != nil {
		t.Fatal(err)
	}
	last := os.Args[len(os.Args)-1]
	tests := []struct {
		name    string
		address uint64
		want    int64
	}{
		{"empty", end - 1, 1},
		{"one byte", end - 2, 2},
		{"cut", start, min(int64(len(os.Args[0])+1), 16)},
		{"the last argument", end - uint64(len(last)) - 1, min(int64(len(last)+1), 16)},
		{"nowhere", 8, -int64(unix.EFAULT)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			call(t, c, "test_compat_read_user_str", pathSubject{Address: test.address})
			if found, _ := answer(t, c); found.Size != test.want {
				t.Errorf("size is %d, want %d", found.Size, test.want)
			}
		})
	}
}
