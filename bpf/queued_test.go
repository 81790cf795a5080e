// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/testenv"
)

// Sizes, in bytes, of what requests are made to: all but the file's are of whole sectors. The file does not end with one.
const (
	sector       = 512
	queuedDevice = 16*4096 + sector
	queuedFile   = 6000
	queuedVolume = 4 << 20
)

// queued is a request of io_submit(2) to a device or a file that is not cached (O_DIRECT): the kernel has begun with it, and is not
// done with it, when the call returns, but where it says otherwise.
type queued struct {
	name string
	// file is what it is made to: a name of the device, of the one that has no room, or of a file on a volume.
	file   string
	opcode uint16
	// size is how many bytes it asks for, in two parts where the operation takes parts.
	size   int
	offset int64
	// atOnce is whether the kernel does it at once.
	atOnce bool
	// moved is what comes of it, as the kernel says: bytes, or fails. asked is what of the asked bytes there could be.
	moved int64
	asked uint64
}

// A request is made by one of these operations (linux/aio_abi.h).
const (
	aioReadParts  = 7
	aioWriteParts = 8
)

// fails is a result of a request that is any error: kernels differ in which.
const fails = -1

func queuedCases() []queued {
	const end = queuedDevice
	return []queued{
		{name: "read of a device", file: "device", opcode: aioRead, size: 8192, moved: 8192, asked: 8192},
		{name: "read in parts", file: "device", opcode: aioReadParts, size: 3 * sector, offset: sector, moved: 3 * sector, asked: 3 * sector},
		{name: "read at a device's end", file: "device", opcode: aioRead, size: 4096, offset: end - sector, moved: sector, asked: sector},
		{name: "read behind a device's end", file: "device", opcode: aioRead, size: 4096, offset: end + 4096, atOnce: true},
		{name: "write to a device", file: "device", opcode: aioWrite, size: 4096, moved: 4096, asked: 4096},
		{name: "write in parts", file: "device", opcode: aioWriteParts, size: 2 * sector, offset: 4096, moved: 2 * sector, asked: 2 * sector},
		{name: "write at a device's end", file: "device", opcode: aioWrite, size: 4096, offset: end - 2*sector, moved: 2 * sector, asked: 2 * sector},
		{name: "write behind a device's end", file: "device", opcode: aioWrite, size: 4096, offset: end, atOnce: true, moved: fails},
		{name: "write that fails later", file: "full", opcode: aioWrite, size: 4096, moved: fails, asked: 4096},
		{name: "refused read", file: "device", opcode: aioRead, size: sector, offset: 1, atOnce: true, moved: fails, asked: sector},
		{name: "read of a file", file: "file", opcode: aioRead, size: 4096, moved: 4096, asked: 4096},
		{name: "read at a file's end", file: "file", opcode: aioRead, size: 4096, offset: 4096, moved: queuedFile - 4096, asked: queuedFile - 4096},
		{name: "read behind a file's end", file: "file", opcode: aioRead, size: 4096, offset: 8192, atOnce: true},
		{name: "write to a file", file: "file", opcode: aioWrite, size: 4096, moved: 4096, asked: 4096},
		{name: "write that makes a file longer", file: "file", opcode: aioWrite, size: 8192, offset: 8192, atOnce: true, moved: 8192, asked: 8192},
	}
}

// path is where the case has what its request is made to: each has a name, or a file, of its own.
func (q *queued) path(dir string) string {
	if q.file == "file" {
		dir = filepath.Join(dir, "volume")
	}
	return filepath.Join(dir, q.name)
}

// helperQueued makes the requests of all cases by one call, so that the kernel begins with all before it does any, and
// holds what comes of each to what the case says.
func helperQueued(args []string) (string, error) {
	cases := queuedCases()
	// Addresses that devices take.
	memory, err := unix.Mmap(-1, 0, len(cases)*2*4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return "", err
	}
	requests := make([]*aioRequest, len(cases))
	parts := make([][2]unix.Iovec, len(cases))
	for i := range cases {
		c := &cases[i]
		fd, err := unix.Open(c.path(args[0]), unix.O_RDWR|unix.O_DIRECT, 0)
		if err != nil {
			return "", fmt.Errorf("%s: %w", c.name, err)
		}
		at := &memory[i*2*4096]
		requests[i] = &aioRequest{
			Data: uint64(i), Opcode: c.opcode, Descriptor: uint32(fd), Offset: c.offset,
			Buffer: uint64(uintptr(unsafe.Pointer(at))), Size: uint64(c.size),
		}
		if c.opcode == aioReadParts || c.opcode == aioWriteParts {
			parts[i] = [2]unix.Iovec{{Base: at, Len: sector}, {Base: &memory[i*2*4096+sector], Len: uint64(c.size - sector)}}
			requests[i].Buffer, requests[i].Size = uint64(uintptr(unsafe.Pointer(&parts[i]))), 2
		}
	}
	var context uint64
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, uintptr(len(cases)), uintptr(unsafe.Pointer(&context)), 0); errno != 0 {
		return "", fmt.Errorf("setting up: %w", errno)
	}
	n, _, errno := unix.Syscall(unix.SYS_IO_SUBMIT, uintptr(context), uintptr(len(requests)), uintptr(unsafe.Pointer(&requests[0])))
	if errno != 0 || int(n) != len(requests) {
		return "", fmt.Errorf("submitting: %d of %d, %w", n, len(requests), errno)
	}
	// Data, request, result and another one of each.
	results := make([][4]int64, len(cases))
	n, _, errno = unix.Syscall6(unix.SYS_IO_GETEVENTS, uintptr(context), n, n, uintptr(unsafe.Pointer(&results[0])), 0, 0)
	runtime.KeepAlive(parts)
	if errno != 0 || int(n) != len(results) {
		return "", fmt.Errorf("waiting: %d of %d, %w", n, len(results), errno)
	}
	for _, result := range results {
		if c := cases[result[0]]; max(result[2], fails) != c.moved {
			err = errors.Join(err, fmt.Errorf("%s: the kernel says %d, want %d", c.name, result[2], c.moved))
		}
	}
	return "", err
}

// loopDevice makes a block device of a file, until the test ends.
func loopDevice(t *testing.T, backing string) (device string) {
	t.Helper()
	control, err := os.Open("/dev/loop-control")
	if err != nil {
		testenv.Unable(t, "needs loop devices: "+err.Error())
	}
	defer control.Close()
	file, err := os.OpenFile(backing, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for range 100 {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("/dev/loop%d", number)
		loop, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &unix.LoopConfig{
			Fd: uint32(file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR},
		})
		if err == nil {
			t.Cleanup(func() { _ = loop.Close() })
			return name
		}
		_ = loop.Close()
		if !errors.Is(err, unix.EBUSY) { // another took it meanwhile
			t.Fatalf("making %s of a file: %v", name, err)
		}
	}
	t.Fatal("no loop device is free")
	return ""
}

// mountUntilEnd mounts a file system on a directory that it makes, until the test ends.
func mountUntilEnd(t *testing.T, source, target, kind, options string) {
	t.Helper()
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(source, target, kind, 0, options); err != nil {
		t.Fatalf("mounting %s: %v", kind, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, 0); err != nil {
			t.Errorf("unmounting %s: %v", target, err)
		}
	})
}

// queuedPlaces makes what the requests of the cases are made to, in a directory.
func queuedPlaces(t *testing.T, dir string) {
	t.Helper()
	sized := func(name string, size int64) string {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, size)); err != nil {
			t.Fatal(err)
		}
		return name
	}
	mountUntilEnd(t, "tmpfs", filepath.Join(dir, "small"), "tmpfs", "size=4k")
	devices := map[string]string{
		"device": loopDevice(t, sized("device", queuedDevice)),
		"full":   loopDevice(t, sized("small/full", queuedDevice)),
	}
	if err := os.WriteFile(filepath.Join(dir, "small", "all there is"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	volume := sized("of the volume", queuedVolume)
	if out, err := exec.Command("mke2fs", "-F", volume).CombinedOutput(); err != nil {
		testenv.Unable(t, fmt.Sprintf("needs mke2fs: %v: %s", err, out))
	}
	mountUntilEnd(t, loopDevice(t, volume), filepath.Join(dir, "volume"), "ext4", "")
	for _, c := range queuedCases() {
		path := c.path(dir)
		if c.file == "file" {
			if err := os.WriteFile(path, make([]byte, queuedFile), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		var stat unix.Stat_t
		if err := unix.Stat(devices[c.file], &stat); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(stat.Rdev)); err != nil {
			t.Fatal(err)
		}
	}
	unix.Sync()
}

// told is what must be told of a case under a plan.
func (q *queued) told(plan Plan) event.FileIO {
	bytes, asked := q.asked, true
	if plan == PlanTrampoline && q.atOnce {
		bytes, asked = uint64(max(q.moved, 0)), false
	}
	switch {
	case bytes == 0:
		return event.FileIO{}
	case q.opcode == aioRead || q.opcode == aioReadParts:
		return event.FileIO{Read: bytes, Reads: 1, Asked: asked}
	default:
		return event.FileIO{Written: bytes, Writes: 1, Asked: asked}
	}
}

// TestKernelTransferSubmitQueued: of what the kernel has begun with and not done when io_submit(2) returns, what was asked for is
// counted, as far as there is anything; what it did at once by what came of it, where the plan tells.
func TestKernelTransferSubmitQueued(t *testing.T) {
	requireKernel(t)
	dir := t.TempDir()
	queuedPlaces(t, dir)
	w := startWatch(t)
	plan := PlanTracepoint
	if w.follows("file", PlanTrampoline) {
		plan = PlanTrampoline
	}
	want := map[string]event.FileIO{}
	for _, c := range queuedCases() {
		name, err := filepath.Rel(dir, c.path(dir))
		if err != nil {
			t.Fatal(err)
		}
		if io := c.told(plan); io != (event.FileIO{}) {
			want[name] = io
		}
	}
	helper := w.run(helperRun{action: "queued", args: []string{dir}})
	w.await(1, of[*event.ProcessExit](int(helper.pid)))
	if diff := cmp.Diff(want, w.moved(helper.pid, dir)); diff != "" {
		t.Errorf("what was read and written (-want +got):\n%s", diff)
	}
}
