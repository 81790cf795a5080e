// SPDX-License-Identifier: Apache-2.0

package unixsocket

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "s")
	for range 2 { // the second finds what a crash of the first left
		l, err := Listen(path, 0o620)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o620 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		if _, err := Listen(path, 0o600); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), path) {
			t.Errorf("a second listener: %v", err)
		}
		if c, err := net.Dial("unix", path); err != nil {
			t.Errorf("the first does not listen any more: %v", err)
		} else {
			_ = c.Close()
		}
		l.SetUnlinkOnClose(false)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	l, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestListenRefuses(t *testing.T) {
	dir := t.TempDir()
	directory := func(name string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/dev/null", link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		directory("all", 0o777) + "/s":   "can be written to by others",
		directory("group", 0o770) + "/s": "can be written to by others",
		file:                             "is no socket",
		link:                             "is no socket",
		file + "/s":                      "make the socket's directory",
	} {
		if l, err := Listen(path, 0o600); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
			if err == nil {
				_ = l.Close()
			}
		}
	}
	sticky := directory("sticky", 0o777|fs.ModeSticky) // as /tmp: what another made there cannot be replaced
	l, err := Listen(filepath.Join(sticky, "s"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]string{"": "no absolute path", "s": "no absolute path", "/" + strings.Repeat("x", MaxPath): "at most 107 bytes"} {
		if err := Check(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", path, err, want)
		}
	}
	if err := Check("/" + strings.Repeat("x", MaxPath-1)); err != nil {
		t.Error(err)
	}
}
