// SPDX-License-Identifier: Apache-2.0

package bpf

import "golang.org/x/sys/unix"

// What libraries make of the calls that take a path alone, which this architecture does not have.

func callMkdir(path any, mode int) error { return call(unix.SYS_MKDIRAT, unix.AT_FDCWD, path, mode) }
func callMknod(path any, mode int) error { return call(unix.SYS_MKNODAT, unix.AT_FDCWD, path, mode, 0) }
func callRmdir(path any) error {
	return call(unix.SYS_UNLINKAT, unix.AT_FDCWD, path, unix.AT_REMOVEDIR)
}
func callUnlink(path any) error { return call(unix.SYS_UNLINKAT, unix.AT_FDCWD, path, 0) }
func callRename(path, to any) error {
	return call(unix.SYS_RENAMEAT, unix.AT_FDCWD, path, unix.AT_FDCWD, to)
}

func callLink(path, to any) error {
	return call(unix.SYS_LINKAT, unix.AT_FDCWD, path, unix.AT_FDCWD, to, 0)
}
func callSymlink(says, path any) error   { return call(unix.SYS_SYMLINKAT, says, unix.AT_FDCWD, path) }
func callChmod(path any, mode int) error { return call(unix.SYS_FCHMODAT, unix.AT_FDCWD, path, mode) }
func callChown(path any, user, group int) error {
	return call(unix.SYS_FCHOWNAT, unix.AT_FDCWD, path, user, group, 0)
}

func callLchown(path any, user, group int) error {
	return call(unix.SYS_FCHOWNAT, unix.AT_FDCWD, path, user, group, unix.AT_SYMLINK_NOFOLLOW)
}

// openRead opens what is at an address to read.
func openRead(path uintptr) (uintptr, unix.Errno) {
	from := unix.AT_FDCWD
	fd, _, errno := unix.RawSyscall6(unix.SYS_OPENAT, uintptr(from), path, unix.O_RDONLY, 0, 0, 0)
	return fd, errno
}

// duplicateOver makes one descriptor a copy of another.
func duplicateOver(of, to uintptr) { _, _, _ = unix.RawSyscall(unix.SYS_DUP3, of, to, 0) }

// legacyOpenCases is the opens that only amd64 has.
func legacyOpenCases() []fileCase { return nil }
