// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// transferCase moves bytes in one way, in a directory of its own, and says what must be told of which file there.
type transferCase struct {
	name string
	do   func() error
	want map[string]event.FileIO
}

// opened opens a file for reading and writing, making it.
func opened(name string) (int, error) { return unix.Open(name, unix.O_RDWR|unix.O_CREAT, 0o600) }

// filled opens a file of so many bytes, which another process wrote.
func filled(size int) (int, error) {
	fd, err := unix.Open("filled", unix.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	return fd, unix.Ftruncate(fd, int64(size))
}

func wantMoved(n int, want int, err error) error {
	if err == nil && n != want {
		err = fmt.Errorf("moved %d bytes, want %d", n, want)
	}
	return err
}

func transferCases() []transferCase {
	return []transferCase{
		{"write and read", transferReadWrite, map[string]event.FileIO{"a": {Written: 3500, Writes: 4, Read: 1500, Reads: 2}}},
		{"duplicates", transferDuplicates, map[string]event.FileIO{"a": {Written: 300, Writes: 3}}},
		{"replaced", transferReplaced, map[string]event.FileIO{"a": {Written: 10, Writes: 1}, "b": {Written: 20, Writes: 1}}},
		{"sendfile", transferSendfile, map[string]event.FileIO{"filled": {Read: 6000, Reads: 1}, "a": {Written: 6000, Writes: 1}}},
		{"copy_file_range", transferCopy, map[string]event.FileIO{"filled": {Read: 7000, Reads: 1}, "a": {Written: 7000, Writes: 1}}},
		{"splice", transferSplice, map[string]event.FileIO{"filled": {Read: 4096, Reads: 1}, "a": {Written: 4096, Writes: 1}}},
		{"io_submit", transferSubmit, map[string]event.FileIO{
			"a": {Written: 800, Writes: 2, Asked: true}, "filled": {Read: 8000, Reads: 2, Asked: true},
		}},
		{"mapped", transferMappedFile, map[string]event.FileIO{"filled": {Mapped: true}}},
		{"threads", transferThreads, map[string]event.FileIO{"a": {
			Written: transferThreadsCalls * 2, Writes: transferThreadsCalls, Read: transferThreadsCalls * 3, Reads: transferThreadsCalls,
		}}},
		{"end of file", transferNothing, map[string]event.FileIO{}},
	}
}

func transferReadWrite() error {
	fd, err := opened("a")
	if err != nil {
		return err
	}
	buffer := make([]byte, 1000)
	_, e1 := unix.Write(fd, buffer)
	_, e2 := unix.Pwrite(fd, buffer[:500], 100)
	_, e3 := unix.Writev(fd, [][]byte{buffer[:700], buffer[:300]})
	_, e4 := unix.Pwritev(fd, [][]byte{buffer}, 0)
	n, e5 := unix.Pread(fd, buffer, 0)
	m, e6 := unix.Preadv(fd, [][]byte{buffer[:250], buffer[:250]}, 0)
	return errors.Join(e1, e2, e3, e4, e5, e6, wantMoved(n+m, 1500, nil))
}

// transferThreadsCalls is how many calls that read transferThreads makes, and as many that write.
const transferThreadsCalls = 4 * 1000

// transferThreads reads and writes a file by threads at once, and by two descriptors: two of the threads always by the same, two by
// turns.
func transferThreads() error {
	fd, err := opened("a")
	if err != nil {
		return err
	}
	second, err := unix.Dup(fd)
	if err := errors.Join(err, unix.Ftruncate(fd, 3)); err != nil {
		return err
	}
	done := make(chan error)
	for _, fds := range [...][2]int{{fd, fd}, {second, second}, {fd, second}, {second, fd}} {
		go func() {
			runtime.LockOSThread()
			buffer := make([]byte, 3)
			for i := range transferThreadsCalls / 4 {
				n, err := unix.Pread(fds[i%2], buffer, 0)
				if err := wantMoved(n, 3, err); err != nil {
					done <- err
					return
				}
				n, err = unix.Pwrite(fds[i%2], buffer[:2], 0)
				if err := wantMoved(n, 2, err); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	return errors.Join(<-done, <-done, <-done, <-done)
}

// transferDuplicates writes through a descriptor, one that was duplicated from it, and one of the same file opened anew.
func transferDuplicates() error {
	fd, err := opened("a")
	if err != nil {
		return err
	}
	second, err := unix.Dup(fd)
	if err != nil {
		return err
	}
	third, err := opened("a")
	if err != nil {
		return err
	}
	buffer := make([]byte, 100)
	for _, fd := range []int{fd, second, third} {
		if n, err := unix.Write(fd, buffer); err != nil || n != 100 {
			return wantMoved(n, 100, err)
		}
	}
	return nil
}

// transferReplaced writes to two files by the same descriptor, over which the second was duplicated.
func transferReplaced() error {
	fd, err := opened("a")
	if err != nil {
		return err
	}
	_, e1 := unix.Write(fd, make([]byte, 10))
	other, err := opened("b")
	if err != nil {
		return err
	}
	e2 := unix.Dup3(other, fd, 0)
	_, e3 := unix.Write(fd, make([]byte, 20))
	return errors.Join(e1, e2, e3)
}

// ends is a file of so many bytes to read from, and one to write to.
func ends(size int) (from, to int, err error) {
	if from, err = filled(size); err != nil {
		return 0, 0, err
	}
	to, err = opened("a")
	return from, to, err
}

func transferSendfile() error {
	from, to, err := ends(6000)
	if err != nil {
		return err
	}
	n, err := unix.Sendfile(to, from, nil, 6000)
	return wantMoved(n, 6000, err)
}

func transferCopy() error {
	from, to, err := ends(7000)
	if err != nil {
		return err
	}
	n, err := unix.CopyFileRange(from, nil, to, nil, 7000, 0)
	return wantMoved(n, 7000, err)
}

func transferSplice() error {
	var pipe [2]int
	from, to, err := ends(4096)
	if err := errors.Join(err, unix.Pipe(pipe[:])); err != nil {
		return err
	}
	n, err := unix.Splice(from, nil, pipe[1], nil, 4096, 0)
	if err := wantMoved(int(n), 4096, err); err != nil {
		return err
	}
	n, err = unix.Splice(pipe[0], nil, to, nil, 4096, 0)
	return wantMoved(int(n), 4096, err)
}

// aioRequest is struct iocb.
type aioRequest struct {
	Data, _      uint64
	Opcode, _    uint16
	Descriptor   uint32
	Buffer, Size uint64
	Offset       int64
	_, _         uint64
}

// transferSubmit writes and reads by io_submit(2): plainly, in few and in many parts, and beyond the file's end.
func transferSubmit() error {
	from, to, err := ends(6000)
	if err != nil {
		return err
	}
	buffer := make([]byte, 10_000)
	parts := []unix.Iovec{{Base: &buffer[0], Len: 200}, {Base: &buffer[200], Len: 100}}
	many := slices.Repeat([]unix.Iovec{{Base: &buffer[0], Len: 10}}, 200)
	place := func(p unsafe.Pointer) uint64 { return uint64(uintptr(p)) }
	const pread, pwrite, preadv, pwritev = 0, 1, 7, 8
	requests := []*aioRequest{
		{Opcode: pwrite, Descriptor: uint32(to), Buffer: place(unsafe.Pointer(&buffer[0])), Size: 500},
		{Opcode: pwritev, Descriptor: uint32(to), Buffer: place(unsafe.Pointer(&parts[0])), Size: uint64(len(parts)), Offset: 500},
		{Opcode: pread, Descriptor: uint32(from), Buffer: place(unsafe.Pointer(&buffer[0])), Size: uint64(len(buffer))},
		{Opcode: preadv, Descriptor: uint32(from), Buffer: place(unsafe.Pointer(&many[0])), Size: uint64(len(many)), Offset: 4000},
	}
	var context uint64
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 8, uintptr(unsafe.Pointer(&context)), 0); errno != 0 {
		return fmt.Errorf("setting up: %w", errno)
	}
	n, _, errno := unix.Syscall(unix.SYS_IO_SUBMIT, uintptr(context), uintptr(len(requests)), uintptr(unsafe.Pointer(&requests[0])))
	if errno != 0 || int(n) != len(requests) {
		return fmt.Errorf("submitting: %d of %d, %w", n, len(requests), errno)
	}
	// Data, request, result and another one of each.
	var results [8][4]int64
	n, _, errno = unix.Syscall6(unix.SYS_IO_GETEVENTS, uintptr(context), n, n, uintptr(unsafe.Pointer(&results)), 0, 0)
	moved := 0
	for _, result := range results[:n] {
		moved += int(result[2])
	}
	runtime.KeepAlive(parts)
	runtime.KeepAlive(many)
	if errno != 0 {
		return fmt.Errorf("waiting: %w", errno)
	}
	return wantMoved(moved, 8800, nil)
}

// submitCode32 opens a file and writes two parts of memory to it by io_submit(2), as a 32-bit program.
func submitCode32(path string) (*code32, []byte) {
	const (
		list       = code32Data + 4 // behind the context
		request    = list + 4
		descriptor = request + 20
		parts      = request + 64
		name       = parts + 16
		pwritev    = 8
	)
	var c code32
	c.call(5, name, unix.O_RDWR, 0) // open
	c.keep(descriptor)
	c.call(compatIOSetup, 8, code32Data)
	c.fetch(code32Data)
	c.put(1, 1)
	c.put(2, list)
	c.put(6, compatIOSubmit)
	c.trap()
	c.exit()
	var data bytes.Buffer
	for _, v := range []any{
		uint32(0), uint32(request), // the context, and the list
		aioRequest{Opcode: pwritev, Buffer: parts, Size: 2},
		[4]uint32{code32Base, 100, code32Base, 50},
	} {
		_ = binary.Write(&data, binary.LittleEndian, v)
	}
	return &c, append(data.Bytes(), path+"\x00"...)
}

// writeCode32 opens a file and writes to it some times, as a 32-bit program.
func writeCode32(path string, times int) (*code32, []byte) {
	const (
		descriptor = code32Data
		name       = descriptor + 4
	)
	var c code32
	c.call(5, name, unix.O_RDWR, 0) // open
	c.keep(descriptor)
	for range times {
		c.fetch(descriptor)
		c.put(1, code32Base)
		c.put(2, 100)
		c.put(6, 4) // write
		c.trap()
	}
	c.exit()
	return &c, append(make([]byte, 4), path+"\x00"...)
}

// TestKernelTransfer32 has 32-bit calls counted: the first, that tells the file, and those after it.
func TestKernelTransfer32(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	helper := w.run(helperRun{action: "write 32", args: []string{filepath.Join(dir, "a")}})
	w.await(1, of[*event.ProcessExit](int(helper.pid)))
	want := map[string]event.FileIO{"a": {Written: 300, Writes: 3}}
	if diff := cmp.Diff(want, w.moved(helper.pid, dir)); diff != "" {
		t.Errorf("what was written (-want +got):\n%s", diff)
	}
}

// TestKernelTransferSubmit32 has addresses of 32 bits: the list's, and those of the parts.
func TestKernelTransferSubmit32(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	helper := w.run(helperRun{action: "submit 32", args: []string{filepath.Join(dir, "a")}})
	w.await(1, of[*event.ProcessExit](int(helper.pid)))
	// By the trampoline plan what came of it is known: it goes through the kernel's cache.
	want := map[string]event.FileIO{"a": {Written: 150, Writes: 1, Asked: w.follows("file", PlanTracepoint)}}
	if diff := cmp.Diff(want, w.moved(helper.pid, dir)); diff != "" {
		t.Errorf("what was written (-want +got):\n%s", diff)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || len(got) != 150 {
		t.Errorf("the file has %d bytes (%v), want 150", len(got), err)
	}
}

// TestKernelTransferSubmitUnreached: where the compiler has made the functions that do io_submit(2) parts of others, programs
// hang on its entries, and where these share a name in the kernel's types the probe follows the plan tracepoint. Either way
// what is asked for is counted.
func TestKernelTransferSubmitUnreached(t *testing.T) {
	requireKernel(t)
	w := startWatchDegraded(t, func() (*Tracer, error) {
		tracer, err := newTracer(testConfig())
		if err != nil {
			return nil, err
		}
		for _, p := range tracer.probes {
			for i := range p.trampolines.targets {
				if target := &p.trampolines.targets[i]; target.program == "file_on_submitted" {
					// Nobody calls it here, and it has as many arguments.
					target.functions = []string{"vfs_dedupe_file_range_one"}
				}
			}
		}
		return tracer, tracer.open()
	})
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	helper := w.run(helperRun{action: "submit 32", args: []string{filepath.Join(dir, "a")}})
	w.await(1, of[*event.ProcessExit](int(helper.pid)))
	want := map[string]event.FileIO{"a": {Written: 150, Writes: 1, Asked: true}}
	if diff := cmp.Diff(want, w.moved(helper.pid, dir)); diff != "" {
		t.Errorf("what was written (-want +got):\n%s", diff)
	}
	for _, p := range w.tracer.Probes() {
		if p.Name == "file" {
			t.Logf("it follows the plan %s: %s", p.Plan, p.Fallback)
		}
	}
}

func transferMappedFile() error {
	fd, err := filled(4096)
	if err != nil {
		return err
	}
	_, err = unix.Mmap(fd, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE)
	return err
}

// transferNothing reads where nothing is, and what is no file.
func transferNothing() error {
	fd, err := opened("a")
	if err != nil {
		return err
	}
	null, err := unix.Open("/dev/zero", unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	_, e1 := unix.Read(fd, make([]byte, 10))
	_, e2 := unix.Read(null, make([]byte, 10))
	return errors.Join(e1, e2)
}

// helperTransfer does all cases, each in a directory of its name below the one that is given.
func helperTransfer(args []string) (string, error) {
	for _, c := range transferCases() {
		if err := unix.Chdir(filepath.Join(args[0], c.name)); err != nil {
			return "", err
		}
		if err := c.do(); err != nil {
			return "", fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return "", nil
}

func ioOf(r *Record) *event.FileIO {
	io, _ := r.Payload.(*event.FileIO)
	return io
}

// moved is what was told of the files below a directory that a process used, by their paths below it.
func (w *watch) moved(pid uint32, dir string) map[string]event.FileIO {
	all := map[string]event.FileIO{}
	for _, r := range w.seen(func(r *Record) bool { return ioOf(r) != nil && (pid == 0 || r.Task.PID == pid) }) {
		io := *ioOf(r)
		name, below := strings.CutPrefix(io.Path, dir+"/")
		if !below {
			continue
		}
		sum := all[name]
		sum.Read, sum.Written, sum.Reads, sum.Writes = sum.Read+io.Read, sum.Written+io.Written, sum.Reads+io.Reads, sum.Writes+io.Writes
		sum.Mapped, sum.Asked, sum.Via = sum.Mapped || io.Mapped, sum.Asked || io.Asked, io.Via
		all[name] = sum
	}
	return all
}

func TestKernelTransfers(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	dir, helper := w.transfers()
	var last *Record
	for _, r := range w.seen(func(r *Record) bool {
		return r.Task.PID == helper.pid && (ioOf(r) != nil || of[*event.ProcessExit](int(helper.pid))(r))
	}) {
		last = r
	}
	if ioOf(last) != nil {
		t.Error("the end of the process is told before what it read and wrote")
	}
	outside := w.run(helperRun{action: "transfer", args: []string{dir}, outside: true})
	if got := w.moved(outside.pid, dir); len(got) != 0 {
		t.Errorf("what a process outside of the sandbox moved is told: %v", got)
	}
}

// TestKernelTransfersCounted: where system calls are counted too, which follows no plan, what they move is counted once.
func TestKernelTransfersCounted(t *testing.T) {
	requireKernel(t)
	startWatchShared(t, shared.counts).transfers()
}

// transfers has a process move bytes in all the ways, in a directory, and checks what is told of it.
func (w *watch) transfers() (dir string, helper helperResult) {
	t := w.t
	t.Helper()
	dir = t.TempDir()
	want := map[string]event.FileIO{}
	for _, c := range transferCases() {
		if err := os.Mkdir(filepath.Join(dir, c.name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, c.name, "filled"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for name, io := range c.want {
			// By the trampoline plan what came of it is known: it goes through the kernel's cache.
			io.Asked = io.Asked && w.follows("file", PlanTracepoint)
			want[c.name+"/"+name] = io
		}
	}
	helper = w.run(helperRun{action: "transfer", args: []string{dir}})
	exits := w.await(1, of[*event.ProcessExit](int(helper.pid)))
	if len(exits) != 1 {
		t.Fatalf("%d exits, want 1", len(exits))
	}
	if diff := cmp.Diff(want, w.moved(helper.pid, dir)); diff != "" {
		t.Errorf("what was read and written (-want +got):\n%s", diff)
	}
	return dir, helper
}

// helperTransferSlowly writes a file, closes its two descriptors with a pause between, and waits until it may end.
func helperTransferSlowly(args []string) (string, error) {
	fd, err := opened(filepath.Join(args[0], "a"))
	if err != nil {
		return "", err
	}
	second, err := unix.Dup(fd)
	if err != nil {
		return "", err
	}
	for _, fd := range []int{fd, second} {
		if _, err := unix.Write(fd, make([]byte, 100)); err != nil {
			return "", err
		}
	}
	for i, fd := range []int{fd, second} {
		if err := waitForFile(filepath.Join(args[0], fmt.Sprintf("close %d", i))); err != nil {
			return "", err
		}
		if err := unix.Close(fd); err != nil {
			return "", err
		}
	}
	return "", waitForFile(filepath.Join(args[0], "end"))
}

func waitForFile(path string) error {
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		if _, err := os.Lstat(path); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s did not come", path)
}

// TestKernelTransferClose: the close of the last descriptor that was used is told while the process goes on, that of
// another one is not.
func TestKernelTransferClose(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	dir := t.TempDir()
	done := make(chan helperResult, 1)
	go func() { done <- w.run(helperRun{action: "transfer slowly", args: []string{dir}}) }()
	touch := func(name string) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Error(err)
		}
	}
	isA := func(r *Record) bool { return ioOf(r) != nil && ioOf(r).Path == filepath.Join(dir, "a") }
	touch("close 0")
	time.Sleep(2 * transferSweep)
	if got := w.seen(isA); len(got) != 0 {
		t.Errorf("told while a descriptor was open: %+v", ioOf(got[0]))
	}
	touch("close 1")
	found := w.await(1, isA)
	touch("end")
	<-done
	if len(found) != 1 {
		t.Fatalf("%d events when the file was closed, want 1", len(found))
	}
	want := event.FileIO{Path: filepath.Join(dir, "a"), Written: 200, Writes: 2}
	if diff := cmp.Diff(want, *ioOf(found[0]), cmpopts.IgnoreFields(event.FileIO{}, "Inode", "Device", "Mode", "HostPath")); diff != "" {
		t.Errorf("what was told (-want +got):\n%s", diff)
	}
}

// noRing is how that begins which a helper says that had no ring.
const noRing = "no io_uring"

// beyondBits is a descriptor that a process has no bit for (USED_BITS): that it is used is looked up in a table.
const beyondBits = 100

// closings is the ways to close the only descriptor that a file was written by, and be still there.
func closings() map[string]func(fd int) error {
	return map[string]func(fd int) error{
		"close": unix.Close,
		"close_range": func(fd int) error {
			_, _, errno := unix.Syscall(unix.SYS_CLOSE_RANGE, uintptr(fd), uintptr(fd), 0)
			return errnoError(errno)
		},
		"close_range to the end": func(fd int) error {
			_, _, errno := unix.Syscall(unix.SYS_CLOSE_RANGE, uintptr(fd), uintptr(^uint32(0)), 0)
			return errnoError(errno)
		},
		"duplicated over": func(fd int) error { return unix.Dup3(0, fd, 0) },
		"through a ring": func(fd int) error {
			r, err := newRing(0)
			if err != nil {
				return fmt.Errorf("%s: %w", noRing, err)
			}
			defer r.close()
			_, err = r.do(ringEntry{Op: ringOpClose, FD: int32(fd)})
			return err
		},
	}
}

func errnoError(errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// helperTransferClosing writes a file, closes it in one of closings, and waits until it may end.
func helperTransferClosing(args []string) (string, error) {
	first, err := opened(filepath.Join(args[1], "a"))
	if err != nil {
		return "", err
	}
	from, err := strconv.Atoi(args[2])
	if err != nil {
		return "", err
	}
	fd, err := unix.FcntlInt(uintptr(first), unix.F_DUPFD, from)
	if err := errors.Join(err, unix.Close(first)); err != nil {
		return "", err
	}
	if n, err := unix.Write(fd, make([]byte, 100)); err != nil {
		return "", wantMoved(n, 100, err)
	}
	if err := waitForFile(filepath.Join(args[1], "close")); err != nil {
		return "", err
	}
	if err := closings()[args[0]](fd); err != nil && strings.HasPrefix(err.Error(), noRing) {
		return err.Error(), nil
	} else if err != nil {
		return "", err
	}
	return "", waitForFile(filepath.Join(args[1], "end"))
}

// TestKernelTransferClosings: a file is told when it is closed, in whichever way, and not before.
func TestKernelTransferClosings(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	type way struct {
		how string
		// from is the least that the descriptor is: beyond those of the runtime's own.
		from int
	}
	ways := []way{{"close", 40}, {"close_range", 40}}
	for how := range closings() {
		ways = append(ways, way{how, beyondBits})
	}
	for _, way := range ways {
		t.Run(fmt.Sprintf("%s from %d", way.how, way.from), func(t *testing.T) {
			dir := t.TempDir()
			done := make(chan helperResult, 1)
			go func() {
				done <- w.run(helperRun{action: "transfer closing", args: []string{way.how, dir, strconv.Itoa(way.from)}})
			}()
			touch := func(name string) {
				if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
					t.Error(err)
				}
			}
			isA := func(r *Record) bool { return ioOf(r) != nil && ioOf(r).Path == filepath.Join(dir, "a") }
			isOpen := func(r *Record) bool {
				open, ok := r.Payload.(*event.FileOpen)
				return ok && open.Path == filepath.Join(dir, "a")
			}
			w.await(1, isOpen)
			time.Sleep(2 * transferSweep)
			if got := w.seen(isA); len(got) != 0 {
				t.Errorf("told while it was open: %+v", ioOf(got[0]))
			}
			touch("close")
			found := w.await(1, isA)
			touch("end")
			requireRing(t, (<-done).said)
			if len(found) != 1 || ioOf(found[0]).Written != 100 || ioOf(found[0]).Open {
				t.Fatalf("%d events when the file was closed, want 1 of 100 bytes", len(found))
			}
		})
	}
}

// helperTransferExec writes a file that its exec closes and one that it does not, and goes on as another program.
func helperTransferExec(args []string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	closed, e1 := opened(filepath.Join(args[0], "closed"))
	kept, e2 := opened(filepath.Join(args[0], "kept"))
	other := filepath.Join(args[0], "other")
	if err := errors.Join(e1, e2, os.Symlink(self, other), os.Setenv(helperVariable, "transfer on")); err != nil {
		return "", err
	}
	unix.CloseOnExec(closed)
	for _, fd := range []int{closed, kept} {
		n, err := unix.Write(fd, make([]byte, 100))
		if err := wantMoved(n, 100, err); err != nil {
			return "", err
		}
	}
	return "", unix.Exec(other, []string{other, "-test.run=^TestHelperProcess$", "--", args[0], strconv.Itoa(kept)}, os.Environ())
}

// helperTransferOn writes, when it may, to a descriptor that it was executed with.
func helperTransferOn(args []string) (string, error) {
	fd, err := strconv.Atoi(args[1])
	if err := errors.Join(err, waitForFile(filepath.Join(args[0], "write"))); err != nil {
		return "", err
	}
	n, err := unix.Write(fd, make([]byte, 50))
	return "", wantMoved(n, 50, err)
}

// TestKernelTransferExec: what a process used as the program that it was is told before it is another one, whether the exec
// closes it or not.
func TestKernelTransferExec(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	dir := t.TempDir()
	done := make(chan helperResult, 1)
	go func() { done <- w.run(helperRun{action: "transfer exec", args: []string{dir}}) }()
	below := func(r *Record) bool { return ioOf(r) != nil && filepath.Dir(ioOf(r).Path) == dir }
	w.await(2, below)
	if err := os.WriteFile(filepath.Join(dir, "write"), nil, 0o600); err != nil {
		t.Error(err)
	}
	helper := <-done
	w.await(1, of[*event.ProcessExit](int(helper.pid)))
	var told []string
	for _, r := range w.seen(func(r *Record) bool { return r.Task.PID == helper.pid }) {
		if exec, ok := r.Payload.(*event.ProcessExec); ok {
			told = append(told, "exec of "+filepath.Base(exec.Args[0]))
		} else if below(r) {
			told = append(told, fmt.Sprintf("%s of %s by %s", event.AppendBytes(nil, ioOf(r).Written), filepath.Base(ioOf(r).Path), r.Task.Comm))
		}
	}
	self := filepath.Base(os.Args[0])
	comm := self[:min(len(self), 15)]
	want := []string{"exec of " + self, "100 B of closed by " + comm, "100 B of kept by " + comm, "exec of other", "50 B of kept by other"}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// TestKernelTransferRing: reads and writes through a ring count, in every mode, for the process that made the ring.
func TestKernelTransferRing(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	for mode := range ringModes() {
		t.Run(mode, func(t *testing.T) {
			dir := makeFiles(t)
			helper := w.run(helperRun{action: "transfer ring", args: []string{mode, dir}})
			requireRing(t, helper.said)
			w.await(1, of[*event.ProcessExit](int(helper.pid)))
			want := event.FileIO{Written: 5000, Writes: 1, Read: 2000, Reads: 1, Via: event.ViaURing}
			if diff := cmp.Diff(want, w.moved(helper.pid, dir)["moved"]); diff != "" {
				t.Errorf("what was read and written (-want +got):\n%s", diff)
			}
		})
	}
}

// helperTransferRing writes and reads a file through a ring.
func helperTransferRing(args []string) (string, error) {
	const opRead, opWrite = 22, 23
	mode := ringModes()[args[0]]
	r, err := newRing(mode.setup)
	if err != nil {
		return "no io_uring: " + err.Error(), nil
	}
	defer r.close()
	fd, err := opened(filepath.Join(args[1], "moved"))
	if err != nil {
		return "", err
	}
	buffer := make([]byte, 5000)
	for _, entry := range []ringEntry{{Op: opWrite, Len: 5000}, {Op: opRead, Len: 2000}} {
		entry.FD, entry.Address, entry.Flags = int32(fd), r.keep(unsafe.Pointer(&buffer[0]), buffer), mode.entry
		if n, err := r.do(entry); err != nil || n != int(entry.Len) {
			return "", wantMoved(n, int(entry.Len), err)
		}
	}
	return "", nil
}

// TestKernelTransferOverflow: of more files than there is room for, the bytes are told all the same, together.
func TestKernelTransferOverflow(t *testing.T) {
	requireKernel(t)
	w := startWatchOwn(t)
	const files, each = 10_000, 2 * 7 // more than the kernel side has room for
	dir := t.TempDir()
	helper := w.run(helperRun{action: "transfer many", args: []string{dir}})
	if len(w.await(1, of[*event.ProcessExit](int(helper.pid)))) == 0 {
		t.Fatal("the end of the process is not told")
	}
	var sum uint64
	var named int
	for _, r := range w.seen(func(r *Record) bool { return ioOf(r) != nil && r.Task.PID == helper.pid }) {
		if sum += ioOf(r).Written; ioOf(r).Inode != 0 {
			named++
		}
	}
	if sum != files*each {
		t.Errorf("%d bytes are told, want %d", sum, files*each)
	}
	if named == 0 || named == files {
		t.Errorf("%d of %d files are told by name, want some", named, files)
	}
	t.Logf("%d of %d files are told by name", named, files)
}

// helperTransferMany writes to many files without closing any, twice.
func helperTransferMany(args []string) (string, error) {
	const files, each = 10_000, 7
	limit := unix.Rlimit{Cur: 2 * files, Max: 2 * files}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return "", err
	}
	for i := range files {
		fd, err := opened(filepath.Join(args[0], fmt.Sprintf("f%d", i)))
		if err != nil {
			return "", err
		}
		for range 2 {
			if n, err := unix.Write(fd, make([]byte, each)); err != nil || n != each {
				return "", wantMoved(n, each, err)
			}
		}
	}
	return "", nil
}

// TestTransferUnpack has a word of the kernel side's added to the sums, once.
func TestTransferUnpack(t *testing.T) {
	const call = 1 << fileTransferPackingTRANSFER_BYTE_BITS
	counted := fileTransfer{Read: 10, Reads: 1, Writes: 2, Reading: call - 1, Writing: 3*call + 7}
	for range 2 {
		counted.unpack()
		if want := (fileTransfer{Read: call + 9, Reads: 1, Written: 7, Writes: 5}); counted != want {
			t.Errorf("it is %+v, want %+v", counted, want)
		}
	}
}

// TestTransfersTogether: what is small and not watched is told together, once it is not small any more.
func TestTransfersTogether(t *testing.T) {
	table := newTransfers([2]*ebpf.Map{}, &movings{}, func(path string) bool { return path == "/secret" })
	var told []event.FileIO
	process := &transferring{}
	tell := func(io event.FileIO, counted fileTransfer) {
		table.tell(process, &transferred{io: io}, counted, time.Time{}, func(r *Record) { told = append(told, *ioOf(r)) })
	}
	tell(event.FileIO{Path: "/lib/a", Inode: 1}, fileTransfer{Read: 832, Reads: 1, Marks: transferMapped})
	tell(event.FileIO{Path: "/unused", Inode: 7}, fileTransfer{})
	if len(told) != 0 || process.small == nil {
		t.Fatalf("little was told at once: %+v", told)
	}
	tell(event.FileIO{Path: "/lib/b", Inode: 2}, fileTransfer{Read: transferSmall - 1, Reads: 2})
	tell(event.FileIO{Path: "/secret", Inode: 3}, fileTransfer{Read: 5, Reads: 1})
	tell(event.FileIO{Path: "/inner", HostPath: "/secret", Inode: 4}, fileTransfer{Read: 6, Reads: 1})
	tell(event.FileIO{Path: "/out", Inode: 5}, fileTransfer{Written: 1, Writes: 1, Closed: 1})
	tell(event.FileIO{Path: "/big", Inode: 6}, fileTransfer{Read: transferSmall, Reads: 1})
	tell(event.FileIO{}, fileTransfer{Written: 9, Writes: 1})
	want := []event.FileIO{
		{Files: 2, Read: transferSmall + 831, Reads: 3, Mapped: true, Open: true},
		{Path: "/secret", Inode: 3, Read: 5, Reads: 1, Open: true},
		{Path: "/inner", HostPath: "/secret", Inode: 4, Read: 6, Reads: 1, Open: true},
		{Path: "/out", Inode: 5, Written: 1, Writes: 1},
		{Path: "/big", Inode: 6, Read: transferSmall, Reads: 1, Open: true},
		{Files: 1, Written: 9, Writes: 1, Open: true},
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}
