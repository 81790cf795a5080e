// SPDX-License-Identifier: Apache-2.0

package digest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fileOf is a file as the kernel would tell of it.
func fileOf(t *testing.T, path string) File {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		t.Fatal(err)
	}
	version := versionOf(&stat)
	return File{Inode: stat.Ino, Device: deviceOf(&stat), Changed: version[0], Modified: version[1]}
}

func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// ask asks and waits.
func ask(t *testing.T, d *Digester, r Request) Result {
	t.Helper()
	done := make(chan Result, 1)
	if result := d.Ask(r, func(result Result) { done <- result }); result != (Result{}) {
		return result
	}
	select {
	case result := <-done:
		return result
	case <-time.After(time.Minute):
		t.Fatal("no result")
		return Result{}
	}
}

func running(t *testing.T, cfg Config) *Digester {
	t.Helper()
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { d.Run(ctx); close(ended) }()
	t.Cleanup(func() { stop(); <-ended })
	return d
}

// gone is a process that there is none of, self the test's.
const gone = 1<<31 - 1

func self() uint32 { return uint32(os.Getpid()) }

func TestResults(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "program")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	cfg := DefaultConfig()
	cfg.MaxBytes = 100
	d := running(t, cfg)
	request := func(path string) Request {
		return Request{File: fileOf(t, path), Processes: []uint32{gone, self()}, Path: path}
	}
	first := request(path)
	if got := ask(t, d, first); got.SHA256 != sumOf("first") {
		t.Fatalf("got %+v", got)
	}
	write("second version")
	if got := ask(t, d, first); got.SHA256 != sumOf("first") {
		t.Errorf("the first version's sum is not remembered: %+v", got)
	}
	second := request(path)
	if got := ask(t, d, second); got.SHA256 != sumOf("second version") {
		t.Errorf("the second version: %+v", got)
	}
	third := request(path)
	third.File.Changed--
	if got := ask(t, d, third); got.Reason != ReasonChanged {
		t.Errorf("a version that is no more: %+v", got)
	}
	write(string(make([]byte, 101)))
	if got := ask(t, d, request(path)); got.Reason != ReasonTooLarge {
		t.Errorf("a large file: %+v", got)
	}
	if got := ask(t, d, Request{File: File{Inode: 1}, Processes: []uint32{gone}, Path: path}); got.Reason != ReasonGone {
		t.Errorf("no process: %+v", got)
	}
}

// TestHostilePaths: what is put in a file's place is never taken for it, nor waited for.
func TestHostilePaths(t *testing.T) {
	dir := t.TempDir()
	path, secret := filepath.Join(dir, "program"), filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := running(t, DefaultConfig())
	for name, place := range map[string]func() error{
		"link":   func() error { return os.Symlink(secret, path) },
		"FIFO":   func() error { return unix.Mkfifo(path, 0o600) },
		"device": func() error { return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) },
		"other":  func() error { return os.WriteFile(path, []byte("other"), 0o600) },
	} {
		if err := place(); err != nil {
			t.Logf("%s: %v", name, err) // a device needs root
			continue
		}
		if got := ask(t, d, Request{File: fileOf(t, secret), Processes: []uint32{gone, self()}, Path: path}); got.Reason != ReasonGone {
			t.Errorf("%s: %+v", name, got)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOwnExecutable(t *testing.T) {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := ask(t, running(t, DefaultConfig()), Request{File: fileOf(t, path), Processes: []uint32{self()}})
	if got.SHA256 != sumOf(string(text)) {
		t.Errorf("got %+v", got)
	}
}

func TestBounds(t *testing.T) {
	d, err := New(Config{MaxBytes: 1, Files: 2, Waiting: 1})
	if err != nil {
		t.Fatal(err)
	}
	file := func(i uint64) File { return File{Inode: i} }
	none := func(Result) { t.Error("nobody reads") }
	if got := d.Ask(Request{File: file(1)}, none); got != (Result{}) {
		t.Errorf("the first: %+v", got)
	}
	if got := d.Ask(Request{File: file(1)}, none); got != (Result{}) {
		t.Errorf("the first again: %+v", got)
	}
	if got := d.Ask(Request{File: file(2)}, none); got.Reason != ReasonBusy {
		t.Errorf("one too many: %+v", got)
	}
	for i := range uint64(3) {
		d.remember(file(i), Result{SHA256: "sum"})
	}
	if len(d.sums) != 2 || len(d.order) != 2 || d.sums[file(0)] != "" {
		t.Errorf("%d sums are remembered: %v", len(d.sums), d.order)
	}
	for _, cfg := range []Config{{}, {MaxBytes: 1}, {MaxBytes: 1, Files: 1}, {MaxBytes: 1 << 50, Files: 1, Waiting: 1}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}
