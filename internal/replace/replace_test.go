// SPDX-License-Identifier: Apache-2.0

package replace

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/internal/testenv"
)

// alone says which files are in a folder.
func alone(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if strings.Join(names, " ") != strings.Join(want, " ") {
		t.Errorf("the folder has %q, not %q", names, want)
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, c := range []struct {
		text string
		mode os.FileMode
	}{{"one", 0o600}, {"", 0o644}, {strings.Repeat("x", 1<<20), 0o666}} {
		if err := File(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil || string(text) != c.text {
			t.Errorf("%v: it holds %.20q, not %.20q", err, text, c.text)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != c.mode {
			t.Errorf("%v: mode %v, not %v", err, info.Mode(), c.mode)
		}
		alone(t, dir, "file")
	}
}

// TestFailures: what cannot be replaced stays, and nothing is left beside it.
func TestFailures(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "folder")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := File(path, []byte("x"), 0o600); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("in the place of a folder: %v", err)
	}
	alone(t, dir, "folder")
	if err := File(filepath.Join(dir, "none", "file"), []byte("x"), 0o600); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a folder that is not there: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		testenv.Unable(t, "needs root, to mount a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		testenv.Unable(t, "cannot mount a tmpfs: "+err.Error())
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	path := filepath.Join(dir, "file")
	if err := File(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := File(path, make([]byte, 128<<10), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("on a full disk: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "old" {
		t.Errorf("%v: it holds %.20q", err, text)
	}
	alone(t, dir, "file")
}

// TestLink: what a link leads to is not written.
func TestLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	victim, path := filepath.Join(dir, "victim"), filepath.Join(dir, "file")
	if err := errors.Join(os.WriteFile(victim, []byte("old"), 0o600), os.Symlink(victim, path)); err != nil {
		t.Fatal(err)
	}
	if err := File(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "old" {
		t.Errorf("%v: the link's end holds %q", err, text)
	}
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		t.Errorf("%v: the place has %v", err, info.Mode())
	}
}

// TestReaders: whoever reads meanwhile reads the old text or the new one.
func TestReaders(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	texts := [][]byte{bytes.Repeat([]byte("a"), 200<<10), bytes.Repeat([]byte("b"), 100<<10)}
	if err := File(path, texts[0], 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		var errs []error
		for i := range 50 {
			errs = append(errs, File(path, texts[(i+1)%2], 0o600))
		}
		done <- errors.Join(errs...)
	}()
	for {
		text, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(text, texts[0]) && !bytes.Equal(text, texts[1]) {
			t.Fatalf("%v: half a text is read: %d bytes", err, len(text))
		}
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
}

// TestUnfinished: what a kill leaves is found by the pattern.
func TestUnfinished(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{".key.new-123": true, "key": false, "key.new-1": false} {
		if got, err := filepath.Match(Unfinished, name); err != nil || got != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
