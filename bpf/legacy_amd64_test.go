// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// The calls that take a path alone. arm64 has none of them: there libraries make others of them, and so do the tests.

func callMkdir(path any, mode int) error { return call(unix.SYS_MKDIR, path, mode) }
func callMknod(path any, mode int) error { return call(unix.SYS_MKNOD, path, mode, 0) }
func callRmdir(path any) error           { return call(unix.SYS_RMDIR, path) }
func callUnlink(path any) error          { return call(unix.SYS_UNLINK, path) }
func callRename(path, to any) error      { return call(unix.SYS_RENAME, path, to) }
func callLink(path, to any) error        { return call(unix.SYS_LINK, path, to) }
func callSymlink(says, path any) error   { return call(unix.SYS_SYMLINK, says, path) }
func callChmod(path any, mode int) error { return call(unix.SYS_CHMOD, path, mode) }
func callChown(path any, user, group int) error {
	return call(unix.SYS_CHOWN, path, user, group)
}

func callLchown(path any, user, group int) error {
	return call(unix.SYS_LCHOWN, path, user, group)
}

// openRead opens what is at an address to read, by the oldest call there is.
func openRead(path uintptr) (uintptr, unix.Errno) {
	fd, _, errno := unix.RawSyscall(unix.SYS_OPEN, path, unix.O_RDONLY, 0)
	return fd, errno
}

// duplicateOver makes one descriptor a copy of another.
func duplicateOver(of, to uintptr) { _, _, _ = unix.RawSyscall(unix.SYS_DUP2, of, to, 0) }

// legacyOpenCases is the opens that only this architecture has.
func legacyOpenCases() []fileCase {
	return []fileCase{
		{
			name: "old open", path: "@/plain", access: event.AccessRead, mode: unix.S_IFREG,
			do: func(dir string) error { return rawOpen(unix.SYS_OPEN, dir+"/plain", unix.O_RDONLY) },
		},
		{
			name: "creat", path: "@/made", access: event.AccessWrite | event.AccessCreate | event.AccessTruncate, mode: unix.S_IFREG,
			do: func(dir string) error { return rawOpen(unix.SYS_CREAT, dir+"/made", 0o640) },
		},
		{
			name: "x32", path: "@/plain", access: event.AccessRead, mode: x32Mode(), err: noX32(), claimed: noX32() != 0,
			do: func(dir string) error { return rawOpen(unix.SYS_OPEN|x32Bit, dir+"/plain", unix.O_RDONLY) },
		},
	}
}
