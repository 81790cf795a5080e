// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFindCommand(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, mode := range map[string]fs.FileMode{
		"first/plain": 0o644, "first/both": 0o644, "second/both": 0o755, "second/tool": 0o755, "here": 0o755, "file": 0o644,
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	search := dir + "/first:" + dir + "/file:" + dir + "/missing:" + dir + "/second"
	for _, test := range []struct {
		name, search, want string
		code               int
		message            string
	}{
		{"tool", search, dir + "/second/tool", 0, ""},
		{"both", search, dir + "/second/both", 0, ""},
		{"plain", search, "", 126, "plain: permission denied"},
		{"nothing", search, "", 127, "nothing: command not found"},
		{"nothing", "", "", 127, "nothing: command not found"},
		{"here", search, "", 127, "here: command not found"},
		{"here", search + ":", "./here", 0, ""},
		{"./here", "", "./here", 0, ""},
		{dir + "/here", "", dir + "/here", 0, ""},
		{"first/plain", search, "", 126, "first/plain: permission denied"},
		{"./first", search, "", 126, "./first: is a directory"},
		{"./missing", search, "", 127, "./missing: command not found"},
		{"./file/x", search, "", 127, "./file/x: command not found"},
		{"", search, "", 127, ": command not found"},
	} {
		got, err := findCommand(test.name, test.search)
		if got != test.want || (err == nil) != (test.code == 0) {
			t.Errorf("%q in %q: %q, %v; want %q", test.name, test.search, got, err, test.want)
			continue
		}
		if err == nil {
			continue
		}
		failure := new(errCommand)
		if !errors.As(err, &failure) || failure.code != test.code || err.Error() != test.message {
			t.Errorf("%q in %q: %v; want %d %q", test.name, test.search, err, test.code, test.message)
		}
	}
}

func TestStartError(t *testing.T) {
	for errno, want := range map[syscall.Errno]int{
		unix.ENOENT: 127, unix.EACCES: 126, unix.E2BIG: 126, unix.ENOEXEC: 126, unix.ETXTBSY: 126,
		unix.EAGAIN: 0, unix.ENOMEM: 0, unix.EBADF: 0,
	} {
		failure, code := new(errCommand), 0
		if errors.As(startError("x", errno), &failure) {
			code = failure.code
		}
		if code != want {
			t.Errorf("%v is exit code %d, want %d", errno, code, want)
		}
	}
}

func TestExitCode(t *testing.T) {
	for status, want := range map[syscall.WaitStatus]int{0: 0, 3 << 8: 3, 255 << 8: 255, 9: 137, 11 | 0x80: 139} {
		if got := exitCode(status); got != want {
			t.Errorf("%#x is %d, want %d", int(status), got, want)
		}
	}
}
