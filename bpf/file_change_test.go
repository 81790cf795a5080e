// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// changeCase is one way to change a file: what the helper does, and the event that must come of it.
type changeCase struct {
	name string
	// do runs in the helper, with dir as its current directory. An error with an error number is the call's.
	do func(dir string) error
	// want is the event but for what a run decides; a leading "@" of a path stands for the case's directory.
	want event.FileChange
	// known says that the file's inode must be told.
	known bool
	// resolved is the path where the kernel tells what the caller's meant, when it is another one.
	resolved string
}

// resolves makes of a case what is told where the kernel tells which paths a call has found: those that it has found are
// its own word, and it says which file was there.
func (c *changeCase) resolves() {
	found := c.want.Error == 0 || c.want.Error == event.Errno(unix.EACCES)
	if !found {
		return
	}
	c.want.Claimed = false
	if c.resolved != "" {
		c.want.Path = c.resolved
	}
	switch c.want.Operation {
	case event.FileMkdir, event.FileMknod, event.FileSymlink:
	default:
		c.known = true
	}
}

// resolvesChanges says whether the kernel tells the file probe which paths the calls have found that change names.
func (w *watch) resolvesChanges() bool {
	symbols, err := os.ReadFile("/proc/kallsyms")
	return err == nil && w.follows("file", PlanTrampoline) && strings.Contains(string(symbols), " security_path_unlink\n")
}

// call makes a system call with up to four arguments; strings are paths.
func call(number uintptr, args ...any) error {
	var words [6]uintptr
	var kept []*byte
	for i, arg := range args {
		switch arg := arg.(type) {
		case string:
			text, err := unix.BytePtrFromString(arg)
			if err != nil {
				return err
			}
			kept = append(kept, text)
			words[i] = uintptr(unsafe.Pointer(text))
		case int:
			words[i] = uintptr(arg)
		}
	}
	_, _, errno := unix.Syscall6(number, words[0], words[1], words[2], words[3], words[4], words[5])
	runtime.KeepAlive(kept)
	if errno != 0 {
		return errno
	}
	return nil
}

// onFile does something to the open file dir/plain.
func onFile(do func(fd int) error) func(dir string) error {
	return func(dir string) error {
		fd, err := unix.Open(dir+"/plain", unix.O_RDWR, 0)
		if err != nil {
			return err
		}
		return do(fd)
	}
}

// onDirectory does something with a descriptor of dir.
func onDirectory(do func(fd int) error) func(dir string) error {
	return func(dir string) error {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		return do(fd)
	}
}

const nobody = ^uint32(0)

func changeCases() []changeCase {
	cases := []changeCase{
		{
			name: "mkdir", want: event.FileChange{Operation: event.FileMkdir, Path: "@/made", Asked: 0o750},
			do: func(dir string) error { return callMkdir(dir+"/made", 0o750) },
		},
		{
			name: "mkdir, relative", want: event.FileChange{Operation: event.FileMkdir, Path: "@/sub/made", Asked: 0o700},
			do: func(string) error { return callMkdir("./sub//made", 0o700) },
		},
		{
			name: "mkdirat", want: event.FileChange{Operation: event.FileMkdir, Path: "@/made", Asked: 0o700},
			do: onDirectory(func(fd int) error { return call(unix.SYS_MKDIRAT, fd, "made", 0o700) }),
		},
		{
			name: "mkdir of what is there",
			want: event.FileChange{Operation: event.FileMkdir, Path: "@/sub", Asked: 0o700, Error: event.Errno(unix.EEXIST)},
			do:   func(dir string) error { return callMkdir(dir+"/sub", 0o700) },
		},
		{
			name: "mknod", want: event.FileChange{Operation: event.FileMknod, Path: "@/pipe", Asked: unix.S_IFIFO | 0o600},
			do: func(dir string) error { return callMknod(dir+"/pipe", unix.S_IFIFO|0o600) },
		},
		{
			name: "mknodat", want: event.FileChange{Operation: event.FileMknod, Path: "@/pipe", Asked: unix.S_IFIFO | 0o600},
			do: onDirectory(func(fd int) error { return call(unix.SYS_MKNODAT, fd, "pipe", unix.S_IFIFO|0o600, 0) }),
		},
		{
			name: "rmdir", want: event.FileChange{Operation: event.FileRmdir, Path: "@/mount"},
			do: func(dir string) error { return callRmdir(dir + "/mount") },
		},
		{
			name: "unlink", want: event.FileChange{Operation: event.FileUnlink, Path: "@/plain"},
			do: func(dir string) error { return callUnlink(dir + "/plain") },
		},
		{
			name: "unlink below a symlink", want: event.FileChange{Operation: event.FileUnlink, Path: "@/soft/../sub/inner"}, resolved: "@/sub/inner",
			do: func(dir string) error {
				if err := os.Symlink("sub", dir+"/soft"); err != nil {
					return err
				}
				return callUnlink(dir + "/soft/../sub/inner")
			},
		},
		{
			name: "unlink of what is not there",
			want: event.FileChange{Operation: event.FileUnlink, Path: "@/missing", Error: event.Errno(unix.ENOENT)},
			do:   func(dir string) error { return callUnlink(dir + "/missing") },
		},
		{
			name: "unlink of a bad address", want: event.FileChange{Operation: event.FileUnlink, Error: event.Errno(unix.EFAULT)},
			do: func(string) error { return callUnlink(8) },
		},
		{
			name: "unlinkat", want: event.FileChange{Operation: event.FileUnlink, Path: "@/new\nline"},
			do: onDirectory(func(fd int) error { return call(unix.SYS_UNLINKAT, fd, "new\nline", 0) }),
		},
		{
			name: "unlinkat of a directory", want: event.FileChange{Operation: event.FileRmdir, Path: "@/mount"},
			do: onDirectory(func(fd int) error { return call(unix.SYS_UNLINKAT, fd, "mount", unix.AT_REMOVEDIR) }),
		},
		{
			name: "unlinkat of no directory",
			want: event.FileChange{Operation: event.FileUnlink, Path: "plain", Error: event.Errno(unix.EBADF)},
			do:   func(string) error { return call(unix.SYS_UNLINKAT, 99, "plain", 0) },
		},
		{
			name: "rename", want: event.FileChange{Operation: event.FileRenamed, Path: "@/plain", Target: "@/sub/other"},
			do: func(dir string) error { return callRename(dir+"/plain", "sub/other") },
		},
		{
			name: "renameat", want: event.FileChange{Operation: event.FileRenamed, Path: "@/plain", Target: "@/other"},
			do: onDirectory(func(fd int) error { return call(unix.SYS_RENAMEAT, fd, "plain", fd, "other") }),
		},
		{
			name: "renameat2", want: event.FileChange{Operation: event.FileRenamed, Path: "@/plain", Target: "@/other"},
			do: onDirectory(func(fd int) error {
				return call(unix.SYS_RENAMEAT2, fd, "plain", unix.AT_FDCWD, "other", unix.RENAME_NOREPLACE)
			}),
		},
		{
			name: "rename to another file system",
			want: event.FileChange{
				Operation: event.FileRenamed, Path: "@/plain", Target: "/proc/other", Error: event.Errno(unix.EXDEV),
			},
			do: func(dir string) error { return callRename(dir+"/plain", "/proc/other") },
		},
		{
			name: "link", want: event.FileChange{Operation: event.FileLinked, Path: "@/plain", Target: "@/hard"},
			do: func(dir string) error { return callLink(dir+"/plain", dir+"/hard") },
		},
		{
			name: "linkat", want: event.FileChange{Operation: event.FileLinked, Path: "@/plain", Target: "@/hard"},
			do: onDirectory(func(fd int) error { return call(unix.SYS_LINKAT, fd, "plain", fd, "hard", 0) }),
		},
		{
			name: "symlink", want: event.FileChange{Operation: event.FileSymlink, Path: "@/soft", Target: "../no//where"},
			do: func(dir string) error { return callSymlink("../no//where", dir+"/soft") },
		},
		{
			name: "symlinkat", want: event.FileChange{Operation: event.FileSymlink, Path: "@/soft", Target: "plain"},
			do: onDirectory(func(fd int) error { return call(unix.SYS_SYMLINKAT, "plain", fd, "soft") }),
		},
		{
			name: "truncate", want: event.FileChange{Operation: event.FileTruncate, Path: "@/plain", Length: 5 << 32},
			do: func(dir string) error { return call(unix.SYS_TRUNCATE, dir+"/plain", 5<<32) },
		},
		{
			name: "chmod", want: event.FileChange{Operation: event.FileChmod, Path: "@/plain", Asked: 0o4755},
			do: func(dir string) error { return callChmod(dir+"/plain", 0o4755) },
		},
		{
			name: "fchmodat", want: event.FileChange{Operation: event.FileChmod, Path: "@/plain", Asked: 0o600},
			do: onDirectory(func(fd int) error { return call(unix.SYS_FCHMODAT, fd, "plain", 0o600) }),
		},
		{
			name: "chown", want: event.FileChange{Operation: event.FileChown, Path: "@/plain", Owner: 7, Group: nobody},
			do: func(dir string) error { return callChown(dir+"/plain", 7, -1) },
		},
		{
			name: "lchown", want: event.FileChange{Operation: event.FileChown, Path: "@/link", Owner: 7, Group: 8},
			do: func(dir string) error { return callLchown(dir+"/link", 7, 8) },
		},
		{
			name: "fchownat", want: event.FileChange{Operation: event.FileChown, Path: "@/plain", Owner: 1, Group: 2},
			do: onDirectory(func(fd int) error { return call(unix.SYS_FCHOWNAT, fd, "plain", 1, 2, 0) }),
		},
		{
			name: "refused", want: event.FileChange{Operation: event.FileUnlink, Path: "@/plain", Error: event.Errno(unix.EACCES)},
			do: func(dir string) error {
				runtime.LockOSThread()
				if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
					return fmt.Errorf("setresuid: %s", errno.Error())
				}
				return callUnlink(dir + "/plain")
			},
		},
	}
	for i := range cases {
		cases[i].want.Claimed = true
	}
	return append(append(cases, descriptorCases()...), changeCases32()...)
}

// descriptorCases is changes of a file that is open. Go's threads share their descriptors, so that the path
// is marked all the same.
func descriptorCases() []changeCase {
	return []changeCase{
		{
			name: "ftruncate", known: true,
			want: event.FileChange{Operation: event.FileTruncate, Path: "@/plain", Length: 3, Claimed: true},
			do:   onFile(func(fd int) error { return call(unix.SYS_FTRUNCATE, fd, 3) }),
		},
		{
			name: "fchmod", known: true,
			want: event.FileChange{Operation: event.FileChmod, Path: "@/plain", Asked: 0o711, Claimed: true},
			do:   onFile(func(fd int) error { return call(unix.SYS_FCHMOD, fd, 0o711) }),
		},
		{
			name: "fchown", known: true,
			want: event.FileChange{Operation: event.FileChown, Path: "@/plain", Owner: 3, Group: 4, Claimed: true},
			do:   onFile(func(fd int) error { return call(unix.SYS_FCHOWN, fd, 3, 4) }),
		},
		{
			name: "fchownat of nothing but a descriptor", known: true,
			want: event.FileChange{Operation: event.FileChown, Path: "@/plain", Owner: 3, Group: 4, Claimed: true},
			do:   onFile(func(fd int) error { return call(unix.SYS_FCHOWNAT, fd, "", 3, 4, unix.AT_EMPTY_PATH) }),
		},
		{
			name: "fchmod in one thread", known: true,
			want: event.FileChange{Operation: event.FileChmod, Path: "@/plain", Asked: 0o711},
			do: onFile(func(fd int) error {
				runtime.LockOSThread()
				if err := unix.Unshare(unix.CLONE_FILES); err != nil {
					return fmt.Errorf("unshare: %s", err.Error())
				}
				return call(unix.SYS_FCHMOD, fd, 0o711)
			}),
		},
		{
			name: "fchmod of no file",
			want: event.FileChange{Operation: event.FileChmod, Asked: 0o711, Claimed: true, Error: event.Errno(unix.EBADF)},
			do:   func(string) error { return call(unix.SYS_FCHMOD, 99, 0o711) },
		},
	}
}

// changeCases32 is calls of a 32-bit program, whose numbers mean other calls to 64-bit ones.
func changeCases32() []changeCase {
	const data = code32Data
	cases := []struct {
		name   string
		number uint32
		args   []uint32
		want   event.FileChange
	}{
		{"32-bit unlink", 10, []uint32{data}, event.FileChange{Operation: event.FileUnlink, Path: "@/plain"}},
		{"32-bit rename", 38, []uint32{data, data + 512}, event.FileChange{Operation: event.FileRenamed, Path: "@/plain", Target: "@/other"}},
		{"32-bit mkdirat", compatMkdirat, []uint32{0xffffff9c, data + 512, 0o700}, event.FileChange{Operation: event.FileMkdir, Path: "@/other", Asked: 0o700}},
		{"32-bit chmod", 15, []uint32{data, 0o640}, event.FileChange{Operation: event.FileChmod, Path: "@/plain", Asked: 0o640}},
		{"32-bit truncate64", 193, append([]uint32{data}, truncate32(1, 2)...), event.FileChange{Operation: event.FileTruncate, Path: "@/plain", Length: 2<<32 | 1}},
	}
	var all []changeCase
	for _, c := range cases {
		c.want.Claimed = true
		all = append(all, changeCase{name: c.name, want: c.want, do: func(dir string) error {
			var code code32
			code.call(c.number, c.args...)
			code.exit()
			data := make([]byte, 1024)
			copy(data, dir+"/plain")
			copy(data[512:], dir+"/other")
			return run32(&code, data)
		}})
	}
	return all
}

// helperChange does one case of changeCases: its name, and the directory.
func helperChange(args []string) (string, error) {
	for _, c := range changeCases() {
		if c.name != args[0] {
			continue
		}
		if err := unix.Chdir(args[1]); err != nil {
			return "", err
		}
		err := c.do(args[1])
		if errno := errnoOf(err); err != nil && event.Errno(errno) != c.want.Error || err == nil && c.want.Error != 0 {
			return "", fmt.Errorf("%s: got error %w, want number %d", c.name, err, c.want.Error)
		}
		return "", nil
	}
	return "", fmt.Errorf("no case %q", args[0])
}

func TestKernelFileChange(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	resolves := w.resolvesChanges()
	for _, c := range changeCases() {
		if resolves {
			c.resolves()
		}
		t.Run(c.name, func(t *testing.T) {
			dir := makeFiles(t)
			helper := w.run(helperRun{action: "change", args: []string{c.name, dir}})
			changes := func(r *Record) bool {
				change, ok := r.Payload.(*event.FileChange)
				return ok && r.Task.PID == helper.pid && change.Operation == c.want.Operation
			}
			found := w.await(1, changes)
			if len(found) != 1 {
				t.Fatalf("%d events, want 1", len(found))
			}
			got := *found[0].Payload.(*event.FileChange)
			if known := got.Inode != 0 && got.Mode != 0; known != c.known {
				t.Errorf("the file is known: %v, want %v", known, c.known)
			}
			got.Inode, got.Device, got.Mode = 0, 0, 0
			want := c.want
			want.Path = strings.Replace(want.Path, "@", dir, 1)
			want.Target = strings.Replace(want.Target, "@", dir, 1)
			if got != want {
				t.Errorf("got  %+v,\nwant %+v", got, want)
			}
		})
	}
	t.Run("outside", func(t *testing.T) {
		outside := w.run(helperRun{action: "change", args: []string{"mkdir", makeFiles(t)}, outside: true})
		if got := w.seen(func(r *Record) bool { return r.Task.PID == outside.pid }); len(got) != 0 {
			t.Errorf("saw %d records of a process outside of the sandbox, want none", len(got))
		}
	})
}

// helperMap maps the file to be run, closes it and puts another one in its place before, when asked to.
func helperMap(args []string) (string, error) {
	fd, err := unix.Open(args[0], unix.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	for _, protection := range []int{unix.PROT_READ, unix.PROT_READ | unix.PROT_EXEC} {
		if _, err := unix.Mmap(fd, 0, 4096, protection, unix.MAP_PRIVATE); err != nil {
			return "", err
		}
	}
	// Memory of no file is none of the probe's.
	if _, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON); err != nil {
		return "", err
	}
	_, err = unix.Mmap(99, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE)
	if !errors.Is(err, syscall.EBADF) {
		return "", fmt.Errorf("mapping no file: %w", err)
	}
	return "", nil
}

func TestKernelFileMap(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	file := filepath.Join(makeFiles(t), "code.so")
	if err := os.WriteFile(file, make([]byte, 4096), 0o700); err != nil {
		t.Fatal(err)
	}
	maps := func(pid uint32) func(*Record) bool {
		return func(r *Record) bool {
			m, ok := r.Payload.(*event.FileMap)
			return ok && r.Task.PID == pid && m.Path == file
		}
	}
	inside := w.run(helperRun{action: "map", args: []string{file}})
	found := w.await(1, maps(inside.pid))
	if len(found) != 1 {
		t.Fatalf("%d events, want 1", len(found))
	}
	m := found[0].Payload.(*event.FileMap)
	if m.Claimed || m.Inode == 0 || m.Mode&unix.S_IFMT != unix.S_IFREG {
		t.Errorf("got %+v", *m)
	}
	outside := w.run(helperRun{action: "map", args: []string{file}, outside: true})
	if got := w.seen(maps(outside.pid)); len(got) != 0 {
		t.Errorf("saw %d maps of a process outside of the sandbox, want none", len(got))
	}
}
