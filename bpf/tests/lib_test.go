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
	messageSize  = 88 + 64
	messageBytes = messageSize + 8
)

// The place of the tests' probe in the accounts, and the bounds of the classes. The window is EVENT_WINDOW.
const (
	testSlot, testKinds  = 20, 8
	bulkLimit, keptLimit = ringBytes / 4 * 3, ringBytes / 16 * 15
	bulkBudget           = 5*messageSize + 1
	window               = 100 * time.Millisecond
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
		for name, value := range map[string]any{
			"event_slot": uint16(testSlot), "event_kinds": uint16(testKinds),
			"event_limits":  [2]uint32{bulkLimit, keptLimit},
			"event_budgets": [2]uint64{bulkBudget, 0},
		} {
			if err := spec.Variables[name].Set(value); err != nil {
				t.Fatalf("setting %s: %v", name, err)
			}
		}
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

// count is one sandbox's account of a kind of the tests' probe.
func count(t *testing.T, c *ebpf.Collection, sandbox uint64, kind int) eventEventTally {
	t.Helper()
	var account eventEventCount
	if err := c.Maps["event_counts"].Lookup(sandbox, &account); err != nil {
		t.Fatal(err)
	}
	return account.Tallies[testSlot+kind]
}

// openCount makes accounts, which programs never do.
func openCount(t *testing.T, c *ebpf.Collection, sandboxes ...uint64) {
	t.Helper()
	for _, sandbox := range sandboxes {
		if err := c.Maps["event_counts"].Put(sandbox, &eventEventCount{}); err != nil {
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

// send sends n messages of a kind and class, and returns how many were taken.
func send(t *testing.T, c *ebpf.Collection, sandbox uint64, what, n int) (sent uint64) {
	t.Helper()
	for range n {
		_, result := call(t, c, "test_event_submit_as", eventQuestion{Sandbox: sandbox, Size: uint64(what)})
		sent += uint64(result)
	}
	return sent
}

// TestKernelEventClasses fills the ring with each class in turn: each stops where the next still has room.
func TestKernelEventClasses(t *testing.T) {
	c := loadProgram(t, loadEvent)
	openCount(t, c, 0, 5)
	const vital, kept, more = 0x200, 0x100, 10
	total := uint64(0)
	for _, step := range []struct {
		name        string
		what, limit int
	}{{"kept", kept | 1, keptLimit}, {"vital", vital | 2, ringBytes}} {
		fits := uint64(step.limit/messageBytes) - total
		sent := send(t, c, 5, step.what, int(fits)+more)
		if sent > fits || sent+2 < fits {
			t.Errorf("%s: %d were taken, want about %d", step.name, sent, fits)
		}
		if got, want := count(t, c, 5, step.what&0xff), (eventEventTally{Seen: fits + more, Dropped: fits + more - sent}); got != want {
			t.Errorf("%s: the account is %+v, want %+v", step.name, got, want)
		}
		total += sent
	}
	// A sandbox without an account loses none: they go to that of nobody. So do those of an unknown kind, to the probe's.
	send(t, c, 6, kept|1, more)
	if got := count(t, c, 0, 1); got.Seen != more || got.Dropped != more {
		t.Errorf("%+v of %d of a sandbox without an account", got, more)
	}
	send(t, c, 5, testKinds+1, more)
	if got := count(t, c, 5, 0); got.Seen != more || got.Dropped+got.Throttled != more {
		t.Errorf("%+v of %d of no known kind", got, more)
	}
	if _, sent := call(t, c, "test_event_output", eventQuestion{Sandbox: 5, Size: 100}); sent != 0 {
		t.Error("a full ring took an output")
	}
	if got := count(t, c, 5, 0); got.Seen != more+1 {
		t.Errorf("an output that found no room was not counted: %+v", got)
	}
}

// TestKernelEventBudget spends a sandbox's budget: of each kind one more passes, another sandbox has its own.
func TestKernelEventBudget(t *testing.T) {
	c := loadProgram(t, loadEvent)
	openCount(t, c, 0, 5, 7)
	reader, err := ringbuf.NewReader(c.Maps["events"])
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	// What is in the ring must not be what refuses: it is emptied after each.
	sendOne := func(sandbox uint64, what int) bool {
		sent := send(t, c, sandbox, what, 1) == 1
		reader.SetDeadline(time.Now())
		if _, err := reader.Read(); sent != (err == nil) {
			t.Fatalf("sent is %v, but reading says %v", sent, err)
		}
		return sent
	}
	const more = 5
	deadline := time.Now().Add(time.Minute)
	for {
		if time.Now().After(deadline) {
			t.Skip("this machine is too slow to spend a budget within its window")
		}
		before := count(t, c, 5, 1)
		start, taken := time.Now(), 0
		for range bulkBudget/messageSize + more {
			if sendOne(5, 1) {
				taken++
			}
		}
		other, innocent := sendOne(5, 2), sendOne(7, 1)
		if time.Since(start) > window/2 {
			continue // the window ended meanwhile
		}
		after := count(t, c, 5, 1)
		if refused := after.Throttled - before.Throttled; int(after.Seen-before.Seen) != taken+int(refused) || after.Dropped != 0 {
			t.Errorf("%d taken, account went from %+v to %+v", taken, before, after)
		}
		if want := bulkBudget/messageSize + 1; taken > want {
			continue // two windows
		} else if taken < want-1 {
			t.Errorf("%d were taken, the budget is for %d", taken, want)
		}
		if !other || !innocent {
			t.Errorf("with a spent budget another kind passes: %v; another sandbox: %v", other, innocent)
		}
		break
	}
	time.Sleep(window + 20*time.Millisecond)
	if !sendOne(5, 1) {
		t.Error("the next window has no budget")
	}
}

func TestKernelEventAggregate(t *testing.T) {
	c := loadProgram(t, loadEvent)
	openCount(t, c, 0, 5)
	for _, what := range []uint64{1, 2, 2} {
		call(t, c, "test_event_aggregate", eventQuestion{Sandbox: 5, Size: what})
	}
	call(t, c, "test_event_lose", eventQuestion{Sandbox: 5, Size: 2})
	for kind, want := range []eventEventTally{{}, {Seen: 1, Aggregated: 1}, {Seen: 3, Aggregated: 2, Dropped: 1}} {
		if got := count(t, c, 5, kind); got != want {
			t.Errorf("kind %d has %+v, want %+v", kind, got, want)
		}
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

// TestKernelTransferCount has words of bytes and calls filled: by the most that a call moves, by so many calls that there is
// no room for their number, and by what is told to be moved and is more than any call does; on several processors at once.
func TestKernelTransferCount(t *testing.T) {
	tests := []struct {
		name string
		movedMoves
	}{
		{"little", movedMoves{Bytes: 1, Calls: 1000}},
		{"full by bytes", movedMoves{Bytes: 0x7ffff000, Calls: 20_000}},
		{"full by calls", movedMoves{Bytes: 3, Calls: 1_200_000}},
		{"more than a call moves", movedMoves{Bytes: 1 << 40, Calls: 100}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := loadProgram(t, loadMoved)
			const runners = 2
			done := make(chan error)
			for range runners {
				go func() {
					result, err := c.Programs["test_transfer_count"].Run(&ebpf.RunOptions{Context: &test.movedMoves})
					if err == nil && uint64(result) != test.Calls {
						err = fmt.Errorf("the program says %d", result)
					}
					done <- err
				}()
			}
			if err := errors.Join(<-done, <-done); err != nil {
				t.Fatal(err)
			}
			var got movedTransfer
			if err := c.Maps["counted"].Lookup(uint32(0), &got); err != nil {
				t.Fatal(err)
			}
			const bits = movedTransferPackingTRANSFER_BYTE_BITS
			calls, bytes := runners*test.Calls, runners*test.Calls*test.Bytes
			for what, sum := range map[string][2]uint64{
				"read":    {got.Reads + got.Reading>>bits, got.Read + got.Reading&(1<<bits-1)},
				"written": {got.Writes + got.Writing>>bits, got.Written + got.Writing&(1<<bits-1)},
			} {
				if sum != [...]uint64{calls, bytes} {
					t.Errorf("%s: %d calls of %d bytes, want %d of %d", what, sum[0], sum[1], calls, bytes)
				}
			}
		})
	}
}

// placeTest has steps done with the places of files, on the maps that it was loaded with.
type placeTest struct {
	*testing.T
	*ebpf.Collection
}

func (t placeTest) do(step movedPlaceStep, test movedPlaceTest) uint32 {
	t.Helper()
	test.Step = uint32(step)
	found, err := t.Programs["test_moving"].Run(&ebpf.RunOptions{Context: &test})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// place is the one place that is taken, and its number.
func (t placeTest) place() (number uint32, place movedMoving) {
	t.Helper()
	m, taken := t.Maps["movings"], 0
	for i := range m.MaxEntries() {
		var found movedMoving
		if err := m.Lookup(i, &found); err != nil {
			t.Fatal(err)
		}
		if found.State != uint32(movedMovingStateMOVING_FREE) {
			number, place = i, found
			taken++
		}
	}
	if taken != 1 {
		t.Fatalf("%d places are taken, want 1", taken)
	}
	return number, place
}

// TestKernelMoving: at a file's place is counted what its process moves by the descriptor that was noted last, until that is closed,
// and nothing of another file, which finds the place taken.
func TestKernelMoving(t *testing.T) {
	test := placeTest{t, loadProgram(t, loadMoved)}
	want := func(step movedPlaceStep, subject movedPlaceTest, want uint32) {
		t.Helper()
		if found := test.do(step, subject); found != want {
			t.Errorf("%d calls were counted at the place, want %d", found, want)
		}
	}
	key := movedTransferKey{Inode: 5, Start: 6, Device: 7, Pid: 8}
	own := movedPlaceTest{Key: key, Bytes: 3, Calls: 4, Descriptor: 9}
	const note, closed, count = movedPlaceStepPLACE_NOTE, movedPlaceStepPLACE_CLOSE, movedPlaceStepPLACE_COUNT
	want(count, own, 0)
	test.do(note, own)
	want(count, own, 4)
	large := own
	large.Bytes = 1 << 31 // more than a call moves
	want(count, large, 0)
	second := own
	second.Descriptor++
	want(count, second, 0)
	for name, change := range map[string]func(*movedTransferKey){
		"device": func(k *movedTransferKey) { k.Device++ },
		"start":  func(k *movedTransferKey) { k.Start++ },
		"inode":  func(k *movedTransferKey) { k.Inode += 1 << 32 }, // at the same place
	} {
		other := own
		change(&other.Key)
		test.do(note, other)
		if found := test.do(count, other); found != 0 {
			t.Errorf("of a file of another %s %d calls were counted", name, found)
		}
		test.do(closed, other)
	}
	want(count, own, 4)
	test.do(note, second)
	want(count, own, 0)
	want(count, second, 4)
	test.do(closed, own)
	want(count, second, 0)
	test.do(note, own)
	want(count, own, 4)

	number, place := test.place()
	const bits = movedTransferPackingTRANSFER_BYTE_BITS
	moved := uint64(8<<bits + 24) // each step's calls read by turns, and write
	if want := (movedMoving{Key: key, Sandbox: 99, Reading: moved, Writing: moved, Last: 10, State: uint32(movedMovingStateMOVING_USED)}); place != want {
		t.Errorf("the place is %+v, want %+v", place, want)
	}

	place.Last, place.State = 0, uint32(movedMovingStateMOVING_LEFT)
	if err := test.Maps["movings"].Put(number, &place); err != nil {
		t.Fatal(err)
	}
	other := own
	other.Key.Start++
	test.do(note, other)
	want(count, other, 0)
	want(count, own, 0)
	test.do(note, own)
	want(count, own, 4)
	place.State = uint32(movedMovingStateMOVING_FREE)
	if err := test.Maps["movings"].Put(number, &place); err != nil {
		t.Fatal(err)
	}
	test.do(note, other)
	want(count, own, 0)
	want(count, other, 4)
}

// TestKernelMovingFull has the words of a place filled by two processors at once: what they hold goes to the file's counters, and
// where these are gone nothing is counted there any more.
func TestKernelMovingFull(t *testing.T) {
	own := movedPlaceTest{
		Key: movedTransferKey{Inode: 5, Start: 6, Device: 7, Pid: 8}, Bytes: 1, Calls: 2_400_000, Descriptor: 9,
		Step: uint32(movedPlaceStepPLACE_COUNT),
	}
	const bits = movedTransferPackingTRANSFER_BYTE_BITS
	run := func(test placeTest) (found uint64) {
		type answer struct {
			found uint32
			err   error
		}
		done := make(chan answer)
		const runners = 2
		for range runners {
			go func() {
				found, err := test.Programs["test_moving"].Run(&ebpf.RunOptions{Context: &own})
				done <- answer{found, err}
			}()
		}
		for range runners {
			a := <-done
			if a.err != nil {
				test.Fatal(a.err)
			}
			found += uint64(a.found)
		}
		return found
	}
	t.Run("with counters", func(t *testing.T) {
		test := placeTest{t, loadProgram(t, loadMoved)}
		if err := test.Maps["transfers"].Put(&own.Key, &movedTransfer{}); err != nil {
			t.Fatal(err)
		}
		test.do(movedPlaceStepPLACE_NOTE, own)
		if found := run(test); found != 2*own.Calls {
			t.Errorf("%d of %d calls found the place", found, 2*own.Calls)
		}
		_, place := test.place()
		var got movedTransfer
		if err := test.Maps["transfers"].Lookup(&own.Key, &got); err != nil {
			t.Fatal(err)
		}
		for what, sum := range map[string][2]uint64{
			"read":    {got.Reads + place.Reading>>bits, got.Read + place.Reading&(1<<bits-1)},
			"written": {got.Writes + place.Writing>>bits, got.Written + place.Writing&(1<<bits-1)},
		} {
			if sum != [...]uint64{own.Calls, own.Calls} {
				t.Errorf("%s: %d calls of %d bytes, want %d of as many", what, sum[0], sum[1], own.Calls)
			}
		}
	})
	t.Run("without", func(t *testing.T) {
		test := placeTest{t, loadProgram(t, loadMoved)}
		test.do(movedPlaceStepPLACE_NOTE, own)
		found := run(test)
		_, place := test.place()
		if counted := place.Reading>>bits + place.Writing>>bits; counted != found || found < 1<<(63-bits) || found > 3<<(63-bits) {
			t.Errorf("%d calls found the place, where %d were counted; want as many, and about half of what both words have room for", found, counted)
		}
		if place.Last != 0 {
			t.Errorf("the descriptor %d still counts there", place.Last-1)
		}
	})
}
