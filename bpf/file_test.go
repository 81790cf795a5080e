// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// fileCase is one way to open a file: what the helper does, and the event that must come of it.
type fileCase struct {
	name string
	// do runs in the helper, with dir as its current directory. An error with an error number is the open's.
	do func(dir string) error
	// path is what the event must show; a leading "@" stands for the case's directory.
	path   string
	access event.Access
	err    event.Errno
	// host is the path on the host that the event must show, as path is; "" for none.
	host string
	// merged has the test mount a file system of its own on merged.
	merged bool
	// via is how it must say the file was opened.
	via event.Via
	// claimed, deleted and truncated are the marks the event must have.
	claimed, deleted, truncated bool
	// mode is the file's type; 0 when the open fails.
	mode uint32
}

func openOnly(path string, flags int) error {
	_, err := unix.Open(path, flags, 0o640)
	return err
}

// deepPath is a path of exactly n bytes below dir, whose directories the helper makes.
func deepPath(dir string, n int) string {
	path := dir
	for n-len(path) > 202 {
		path += "/" + strings.Repeat("d", 200)
	}
	return path + "/" + strings.Repeat("f", n-len(path)-1)
}

// openDeep makes the directories of a path one by one, since no path may be longer than 4,095 bytes, and opens it.
func openDeep(path string) error {
	parts := strings.Split(path[1:], "/")
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	for _, part := range parts[:len(parts)-1] {
		if err := unix.Mkdir(part, 0o755); err != nil && err != unix.EEXIST {
			return err
		}
		if err := unix.Chdir(part); err != nil {
			return err
		}
	}
	return openOnly(parts[len(parts)-1], unix.O_RDWR|unix.O_CREAT)
}

const (
	read  = event.AccessRead
	write = event.AccessWrite
)

func fileCases() []fileCase {
	return append(legacyOpenCases(), []fileCase{
		{
			name: "absolute", path: "@/plain", access: read, mode: unix.S_IFREG,
			do: func(dir string) error { return openOnly(dir+"/plain", unix.O_RDONLY) },
		},
		{
			name: "relative", path: "@/plain", access: write, mode: unix.S_IFREG,
			do: func(string) error { return openOnly("plain", unix.O_WRONLY) },
		},
		{
			name: "symlink", path: "@/plain", access: read | write, mode: unix.S_IFREG,
			do: func(dir string) error { return openOnly(dir+"/link", unix.O_RDWR) },
		},
		{
			name: "dot-dot", path: "@/plain", access: read, mode: unix.S_IFREG,
			do: func(string) error { return openOnly("sub/.././/sub/../plain", unix.O_RDONLY) },
		},
		{
			name: "create and append", path: "@/made", access: write | event.AccessCreate | event.AccessAppend, mode: unix.S_IFREG,
			do: func(dir string) error {
				return openOnly(dir+"/made", unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND)
			},
		},
		{name: "dirfd", path: "@/sub/inner", access: read, mode: unix.S_IFREG, do: func(dir string) error {
			fd, err := unix.Open(dir+"/sub", unix.O_PATH|unix.O_DIRECTORY, 0)
			if err != nil {
				return err
			}
			_, err = unix.Openat(fd, "inner", unix.O_RDONLY, 0)
			return err
		}},
		{name: "openat2", path: "@/plain", access: read | write, mode: unix.S_IFREG, do: func(dir string) error {
			how := &unix.OpenHow{Flags: unix.O_RDWR, Resolve: unix.RESOLVE_NO_MAGICLINKS}
			_, err := unix.Openat2(unix.AT_FDCWD, dir+"/plain", how)
			return err
		}},
		{
			name: "O_PATH of a symlink", path: "@/link", access: event.AccessPath, mode: unix.S_IFLNK,
			do: func(dir string) error { return openOnly(dir+"/link", unix.O_PATH|unix.O_NOFOLLOW) },
		},
		{
			name: "directory", path: "@/sub", access: read | event.AccessDirectory, mode: unix.S_IFDIR,
			do: func(dir string) error { return openOnly(dir+"/sub", unix.O_RDONLY) },
		},
		{
			name: "root", path: "/", access: read | event.AccessDirectory, mode: unix.S_IFDIR,
			do: func(string) error { return openOnly("/", unix.O_RDONLY) },
		},
		{name: "newline", path: "@/new\nline", access: read, mode: unix.S_IFREG, do: func(dir string) error {
			return openOnly(dir+"/new\nline", unix.O_RDONLY)
		}},
		{
			name: "invalid UTF-8", path: "@/bad\xff\xfe\x1b[31m", access: read, mode: unix.S_IFREG,
			do: func(dir string) error { return openOnly(dir+"/bad\xff\xfe\x1b[31m", unix.O_RDONLY) },
		},
		{
			name: "missing", path: "@/missing", access: read, err: event.Errno(unix.ENOENT), claimed: true,
			do: func(dir string) error { return openOnly(dir+"/missing", unix.O_RDONLY) },
		},
		{
			name: "missing, relative", path: "@/sub/missing", access: write | event.AccessCreate,
			err: event.Errno(unix.EISDIR), claimed: true,
			do: func(string) error { return openOnly("./sub/missing/", unix.O_WRONLY|unix.O_CREAT) },
		},
		{
			name: "missing, dirfd", path: "@/sub/missing", access: read, err: event.Errno(unix.ENOENT), claimed: true,
			do: func(dir string) error {
				fd, err := unix.Open(dir+"/sub", unix.O_PATH, 0)
				if err != nil {
					return err
				}
				_, err = unix.Openat(fd, "missing", unix.O_RDONLY, 0)
				return err
			},
		},
		{
			name: "refused", path: "@/secret", access: read, err: event.Errno(unix.EACCES), claimed: true,
			do: func(dir string) error {
				runtime.LockOSThread()
				if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
					return fmt.Errorf("setresuid: %s", errno.Error())
				}
				return openOnly(dir+"/secret", unix.O_RDONLY)
			},
		},
		{
			name: "bad address", path: "", access: read, err: event.Errno(unix.EFAULT), claimed: true,
			do: func(string) error {
				_, errno := openRead(8)
				return errno
			},
		},
		{name: "deleted", path: "@/gone", access: read, deleted: true, mode: unix.S_IFREG, do: func(dir string) error {
			fd, err := unix.Open(dir+"/gone", unix.O_CREAT|unix.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			if err := unix.Unlink(dir + "/gone"); err != nil {
				return err
			}
			return openOnly(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY)
		}},
		{name: "memfd", path: "/memfd:scratch", access: read, mode: unix.S_IFREG, do: func(string) error {
			fd, err := unix.MemfdCreate("scratch", 0)
			if err != nil {
				return err
			}
			return openOnly(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY)
		}},
		{
			name: "procfs", path: "/proc/sys/kernel/ostype", access: read, mode: unix.S_IFREG,
			do: func(string) error { return openOnly("/proc/sys/kernel/ostype", unix.O_RDONLY) },
		},
		{name: "bind mount", path: "@/mount/inner", host: "@/sub/inner", access: read, mode: unix.S_IFREG, do: func(dir string) error {
			if err := privateMounts(); err != nil {
				return err
			}
			if err := unix.Mount(dir+"/sub", dir+"/mount", "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("bind mount: %s", err.Error())
			}
			return openOnly(dir+"/mount/inner", unix.O_RDONLY)
		}},
		{
			name: "tmpfs in a bind mount", path: "@/mount/deep/file", access: write | event.AccessCreate, mode: unix.S_IFREG,
			do: func(dir string) error {
				if err := privateMounts(); err != nil {
					return err
				}
				if err := unix.Mount("tmpfs", dir+"/mount", "tmpfs", 0, ""); err != nil {
					return fmt.Errorf("tmpfs: %s", err.Error())
				}
				if err := unix.Mkdir(dir+"/mount/deep", 0o755); err != nil {
					return err
				}
				return openOnly(dir+"/mount/deep/file", unix.O_WRONLY|unix.O_CREAT)
			},
		},
		{name: "chroot", path: "/inner", host: "@/sub/inner", access: read, mode: unix.S_IFREG, do: func(dir string) error {
			if err := unix.Chroot(dir + "/sub"); err != nil {
				return err
			}
			return openOnly("/inner", unix.O_RDONLY)
		}},
		{name: "outside of the chroot", path: "@/plain", access: read, mode: unix.S_IFREG, do: func(dir string) error {
			fd, err := unix.Open(dir, unix.O_PATH, 0)
			if err != nil {
				return err
			}
			if err := unix.Chroot(dir + "/sub"); err != nil {
				return err
			}
			_, err = unix.Openat(fd, "plain", unix.O_RDONLY, 0)
			return err
		}},
		{
			name: "overlay in a mount namespace", merged: true, path: "@/mount/inner", host: "@/merged/inner", access: read, mode: unix.S_IFREG,
			do: func(dir string) error {
				if err := privateMounts(); err != nil {
					return err
				}
				if err := unix.Mount(dir+"/merged", dir+"/mount", "", unix.MS_BIND, ""); err != nil {
					return fmt.Errorf("bind mount: %s", err.Error())
				}
				return openOnly(dir+"/mount/inner", unix.O_RDONLY)
			},
		},
		{
			name: "by handle", path: "@/plain", access: read, mode: unix.S_IFREG, via: event.ViaHandle,
			do: func(dir string) error { return openByHandle(dir, "plain", unix.O_RDONLY) },
		},
		{
			name: "by a stale handle", path: "", access: write, err: event.Errno(unix.ESTALE), claimed: true, via: event.ViaHandle,
			do: func(dir string) error { return openByHandle(dir, "gone", unix.O_WRONLY) },
		},
		{
			name: "4,095 bytes", path: "=4095", access: read | write | event.AccessCreate, mode: unix.S_IFREG,
			do: func(dir string) error { return openDeep(deepPath(dir, 4095)) },
		},
		{
			name: "4,500 bytes", path: "=4500", access: read | write | event.AccessCreate, mode: unix.S_IFREG, truncated: true,
			do: func(dir string) error { return openDeep(deepPath(dir, 4500)) },
		},
		{
			name: "too long", path: "=4500", access: read, err: event.Errno(unix.ENAMETOOLONG), claimed: true, truncated: true,
			do: func(dir string) error { return openOnly(deepPath(dir, 4500), unix.O_RDONLY) },
		},
		{
			name: "32-bit", path: "@/plain", access: read, mode: unix.S_IFREG,
			do: func(dir string) error { return run32(openCode32(5, dir+"/plain")) },
		},
		{
			name: "32-bit openat", path: "@/plain", access: read, mode: unix.S_IFREG,
			do: func(dir string) error { return run32(openCode32(compatOpenat, dir+"/plain")) },
		},
	}...)
}

// x32Bit marks the number of an x32 system call.
const x32Bit = 0x40000000

// noX32 is the error of x32 calls where the kernel is built without them, as most are.
func noX32() event.Errno {
	if _, _, errno := unix.RawSyscall(unix.SYS_GETPPID|x32Bit, 0, 0, 0); errno != 0 {
		return event.Errno(errno)
	}
	return 0
}

// x32Mode is the type of the file that an x32 call opens, 0 where there are no such calls.
func x32Mode() uint32 {
	if noX32() != 0 {
		return 0
	}
	return unix.S_IFREG
}

// openByHandle opens a file by its handle; one that is called "gone" has been removed by then.
func openByHandle(dir, name string, flags int) error {
	if name == "gone" {
		if err := os.WriteFile(dir+"/gone", nil, 0o600); err != nil {
			return err
		}
	}
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, dir+"/"+name, 0)
	if err != nil {
		return fmt.Errorf("name_to_handle_at: %s", err.Error())
	}
	if name == "gone" {
		if err := unix.Unlink(dir + "/gone"); err != nil {
			return err
		}
	}
	mount, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	_, err = unix.OpenByHandleAt(mount, handle, flags)
	return err
}

// privateMounts gives the calling thread a mount namespace of its own that propagates nothing.
func privateMounts() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %s", err.Error())
	}
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %s", err.Error())
	}
	return nil
}

// rawOpen makes a system call with a path and one more argument, which Go would make another one for.
func rawOpen(number uintptr, path string, argument uintptr) error {
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	_, _, errno := unix.Syscall(number, uintptr(unsafe.Pointer(name)), argument, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// A 32-bit program of these tests is one segment: the ELF headers, code32Size bytes of code, data.
const (
	code32Base = 0x08048000
	code32Head = 52 + 32
	code32Size = 256
	code32Data = code32Base + code32Head + code32Size
)

// code32 puts instructions of 32-bit programs together: i386, or arm.
type code32 struct{ bytes.Buffer }

// call makes a system call; exit makes the last one.
func (c *code32) call(number uint32, arguments ...uint32) {
	for i, value := range arguments {
		c.put(i, value)
	}
	c.put(6, number)
	c.trap()
}

func (c *code32) exit() { c.call(1, 0) }

// openCode32 opens a file with open (5) or openat.
func openCode32(number uint32, path string) (*code32, []byte) {
	const currentDirectory = 0xffffff9c // AT_FDCWD
	var c code32
	if number == compatOpenat {
		c.call(number, currentDirectory, code32Data, unix.O_RDONLY)
	} else {
		c.call(number, code32Data, unix.O_RDONLY, 0)
	}
	c.exit()
	return &c, append([]byte(path), 0)
}

// run32 makes a 32-bit program of code and data, and becomes it.
func run32(code *code32, data []byte) error {
	var file bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			_ = binary.Write(&file, binary.LittleEndian, v)
		}
	}
	if code.Len() > code32Size {
		return fmt.Errorf("%d bytes of code", code.Len())
	}
	size := uint32(code32Head + code32Size + len(data))
	file.WriteString("\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	put(uint16(2), uint16(machine32), uint32(1), uint32(code32Base+code32Head), uint32(52), uint32(0), uint32(flags32))
	put(uint16(52), uint16(32), uint16(1), uint16(0), uint16(0), uint16(0))
	put(uint32(1), uint32(0), uint32(code32Base), uint32(code32Base), size, size, uint32(7), uint32(0x1000))
	file.Write(code.Bytes())
	file.Write(make([]byte, code32Size-code.Len()))
	file.Write(data)
	fd, err := unix.MemfdCreate("program32", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, file.Bytes()); err != nil {
		return err
	}
	return unix.Exec(fmt.Sprintf("/proc/self/fd/%d", fd), []string{"program32"}, []string{"AI_AGENT=32"})
}

// helperOpen does one case of fileCases: its number, and the directory.
func helperOpen(args []string) (string, error) {
	for _, c := range fileCases() {
		if c.name != args[0] {
			continue
		}
		if err := unix.Chdir(args[1]); err != nil {
			return "", err
		}
		err := c.do(args[1])
		if errno := errnoOf(err); err != nil && event.Errno(errno) != c.err || err == nil && c.err != 0 {
			return "", fmt.Errorf("%s: got error %w, want number %d", c.name, err, c.err)
		}
		return "", nil
	}
	return "", fmt.Errorf("no case %q", args[0])
}

// makeFiles makes what the cases open, in a directory that any user can reach.
func makeFiles(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "watchglass-files-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for _, sub := range []string{".", "sub", "mount", "merged", "upper", "work"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // another user has to get in
		t.Fatal(err)
	}
	for _, name := range []string{"plain", "secret", "sub/inner", "new\nline", "bad\xff\xfe\x1b[31m"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("plain", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// mergeFiles mounts an overlay of sub on merged, as a container's runtime does on the host. Where the kernel
// has no overlays, a tmpfs stands for it: what matters is a file system that the host has mounted elsewhere.
func mergeFiles(t *testing.T, dir string) {
	t.Helper()
	options := "lowerdir=" + dir + "/sub,upperdir=" + dir + "/upper,workdir=" + dir + "/work"
	err := unix.Mount("overlay", dir+"/merged", "overlay", 0, options)
	if err != nil {
		t.Logf("no overlay but a tmpfs: %v", err)
		err = unix.Mount("tmpfs", dir+"/merged", "tmpfs", 0, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir+"/merged", 0); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(dir+"/merged/inner", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// openOf is a record's open, nil when it is about something else.
func openOf(r *Record) *event.FileOpen {
	open, _ := r.Payload.(*event.FileOpen)
	return open
}

func TestKernelFileOpen(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	for _, c := range fileCases() {
		t.Run(c.name, func(t *testing.T) {
			if w.tracer.Plan() == PlanTrampoline && c.err == event.Errno(unix.ENOSYS) {
				t.Skip("no function does the work of a call that the kernel does not have")
			}
			dir := makeFiles(t)
			if c.merged {
				mergeFiles(t, dir)
			}
			helper := w.run(helperRun{action: "open", args: []string{c.name, dir}})
			c.check(t, w, helper.pid, dir)
		})
	}
}

// named says whether the open failed when the kernel had its copy of the name: then that is told by the trampoline plan.
func (c *fileCase) named() bool {
	switch unix.Errno(c.err) {
	case unix.ENOENT, unix.EISDIR, unix.EACCES:
		return true
	default:
		return false
	}
}

// check finds the case's event among the helper's.
func (c *fileCase) check(t *testing.T, w *watch, pid uint32, dir string) {
	t.Helper()
	path := strings.Replace(c.path, "@", dir, 1)
	var length int
	if n, _ := fmt.Sscanf(c.path, "=%d", &length); n == 1 {
		path = deepPath(dir, length)
	}
	matches := func(r *Record) bool {
		open := openOf(r)
		if open == nil || r.Task.PID != pid || open.Access != c.access || open.Error != c.err {
			return false
		}
		if c.truncated {
			// Of a path of the kernel's the end is kept, of one that was asked for the beginning.
			isPart := strings.HasSuffix(path, open.Path) || c.claimed && strings.HasPrefix(path, open.Path)
			return len(open.Path) > 3800 && isPart && r.Truncated
		}
		return open.Path == path && !r.Truncated
	}
	found := w.await(1, matches)
	if len(found) != 1 {
		for _, r := range w.seen(func(r *Record) bool { return openOf(r) != nil && r.Task.PID == pid }) {
			t.Logf("saw %+q %+v truncated=%v", openOf(r).Path, *openOf(r), r.Truncated)
		}
		t.Fatalf("%d events for %q, want 1", len(found), path)
	}
	open := openOf(found[0])
	if host := strings.Replace(c.host, "@", dir, 1); open.HostPath != host || open.Via != c.via || open.Raced {
		t.Errorf("got host path %q via %q raced %v, want %q %q", open.HostPath, open.Via, open.Raced, host, c.via)
	}
	claimed := c.claimed && (w.tracer.Plan() != PlanTrampoline || !c.named())
	if open.Claimed != claimed || open.Deleted != c.deleted || open.Mode&unix.S_IFMT != c.mode {
		t.Errorf("got claimed %v deleted %v mode %#o, want %v %v %#o",
			open.Claimed, open.Deleted, open.Mode, claimed, c.deleted, c.mode)
	}
	if found[0].Sandbox != w.id {
		t.Errorf("got sandbox %d, want %d", found[0].Sandbox, w.id)
	}
	if c.err == 0 && !c.deleted && c.access&event.AccessPath == 0 {
		checkIdentity(t, open, path)
	}
}

// checkIdentity holds inode and device against stat(2), where the path can still be reached from here.
func checkIdentity(t *testing.T, open *event.FileOpen, path string) {
	t.Helper()
	var stat unix.Stat_t
	if unix.Lstat(path, &stat) != nil || strings.Contains(path, "/mount/") || strings.HasPrefix(path, "/proc/") {
		return
	}
	device := unix.Major(stat.Dev)<<20 | unix.Minor(stat.Dev)
	if open.Inode != stat.Ino || open.Device != device || open.Mode != stat.Mode {
		t.Errorf("got inode %d device %#x mode %#o, want %d %#x %#o",
			open.Inode, open.Device, open.Mode, stat.Ino, device, stat.Mode)
	}
}

func TestKernelFileOutside(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	dir := makeFiles(t)
	outside := w.run(helperRun{action: "open", args: []string{"absolute", dir}, outside: true})
	inside := w.run(helperRun{action: "open", args: []string{"absolute", dir}})
	if got := w.await(1, func(r *Record) bool { return openOf(r) != nil && r.Task.PID == inside.pid }); len(got) == 0 {
		t.Error("nothing seen of a process inside of the sandbox")
	}
	if got := w.seen(func(r *Record) bool { return r.Task.PID == outside.pid }); len(got) != 0 {
		t.Errorf("saw %d records of a process outside of the sandbox, want none", len(got))
	}
}

func TestCleanPath(t *testing.T) {
	for in, want := range map[string]string{
		"/":            "/",
		"//":           "/",
		"/./":          "/",
		"/a//b":        "/a/b",
		"/a/./b":       "/a/b",
		"/a/.":         "/a",
		"/a/../b":      "/a/../b",
		"./a":          "./a",
		"../a/./b":     "../a/b",
		"/a/.hidden":   "/a/.hidden",
		"/a/x./b":      "/a/x./b",
		"":             "",
		"/a/b/":        "/a/b/",
		"/a//b/.../c/": "/a/b/.../c",
	} {
		if got := cleanPath(in); got != want {
			t.Errorf("cleanPath(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestPathText(t *testing.T) {
	for _, c := range []struct {
		path  string
		mode  uint32
		flags uint32
		want  string
	}{
		{"/etc/passwd", unix.S_IFREG, 0, "/etc/passwd"},
		{"", unix.S_IFIFO, pathPseudo, "pipe:[7]"},
		{"", unix.S_IFSOCK, pathPseudo, "socket:[7]"},
		{"memfd:x", unix.S_IFREG, pathPseudo, "/memfd:x"},
		{"[eventpoll]", 0o600, pathPseudo, "anon_inode:[eventpoll]"},
	} {
		if got := pathText(c.path, c.flags, c.mode, 7); got != c.want {
			t.Errorf("pathText(%q, %#o) = %q, want %q", c.path, c.mode, got, c.want)
		}
	}
}

// recordBytes is a C struct and what follows it as the ring would hold them.
func recordBytes(t testing.TB, head any, tail []byte) []byte {
	t.Helper()
	data, err := binary.Append(nil, binary.NativeEndian, head)
	if err != nil {
		t.Fatal(err)
	}
	return append(data, tail...)
}

func TestDecodeFile(t *testing.T) {
	open := fileOpen{
		Inode: 12, Device: 8<<20 | 1, Mode: unix.S_IFREG | 0o644, Asked: unix.O_RDWR | unix.O_CREAT,
		FileFlags: unix.O_RDWR, FileMode: fmodeRead | fmodeWrite, PathSize: 4,
	}
	r := Record{memory: &memory{}}
	if err := decodeFile(&r, fileKindOpen, recordBytes(t, &open, []byte("/a\nbxx"))); err != nil {
		t.Fatal(err)
	}
	got := openOf(&r)
	if got.Path != "/a\nb" || got.Access != read|write|event.AccessCreate || got.Claimed || got.Inode != 12 {
		t.Errorf("got %+v", got)
	}
	for name, data := range map[string][]byte{
		"nothing":        nil,
		"half a head":    recordBytes(t, &open, nil)[:60],
		"path too short": recordBytes(t, &open, []byte("/a")),
		"path of 4 GiB":  recordBytes(t, &fileOpen{PathSize: ^uint32(0)}, []byte("/a")),
	} {
		if err := decodeFile(&Record{memory: &memory{}}, fileKindOpen, data); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := decodeFile(&Record{memory: &memory{}}, 99, recordBytes(t, &open, []byte("/a/b"))); err == nil {
		t.Error("another kind: no error")
	}
}

func FuzzDecodeFile(f *testing.F) {
	f.Add(uint16(fileKindOpen), recordBytes(f, &fileOpen{PathSize: 9, Inode: 1}, []byte("/etc//./x")))
	f.Add(uint16(fileKindOpen), recordBytes(f, &fileOpen{PathSize: 7, PathFlags: pathPseudo}, []byte("memfd:x")))
	f.Add(uint16(fileKindUse), recordBytes(f, &fileOpen{PathSize: 4, Inode: 1}, []byte("/a/b")))
	f.Add(uint16(0), []byte{})
	f.Fuzz(func(t *testing.T, kind uint16, data []byte) {
		r := Record{memory: &memory{}}
		if err := decodeFile(&r, kind, data); err != nil {
			return
		}
		// A path may be longer than its bytes by what is said of a pseudo file.
		most := len(data) + 64
		switch p := r.Payload.(type) {
		case *event.FileOpen:
			if len(p.Path) > most || len(p.HostPath) > most || len(p.Asked) > most {
				t.Errorf("%+v of %d bytes", p, len(data))
			}
		case *event.FileMap:
			if len(p.Path) > most || len(p.HostPath) > most {
				t.Errorf("%+v of %d bytes", p, len(data))
			}
		case *event.FileChange:
			if len(p.Path) > 2*most || len(p.HostPath) > most || len(p.Target) > 2*most {
				t.Errorf("%+v of %d bytes", p, len(data))
			}
		case *FileUse:
			if len(p.IO.Path) > most || len(p.IO.HostPath) > most {
				t.Errorf("%+v of %d bytes", p, len(data))
			}
		default:
			t.Errorf("no error, but got %+v of %d bytes", r.Payload, len(data))
		}
	})
}
