// SPDX-License-Identifier: Apache-2.0

package digest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
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
		file := fileOf(t, path)
		return Request{File: file, Processes: []uint32{gone, self()}, Path: path, Executed: file.Changed + int64(time.Hour)}
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

// TestTurns: a sandbox that executes more than can be read gets its share, and takes nobody else's.
func TestTurns(t *testing.T) {
	const room = 16
	d, err := New(Config{MaxBytes: 1, Files: 1, Waiting: room})
	if err != nil {
		t.Fatal(err)
	}
	inode := uint64(0)
	ask := func(sandbox string, files int) (taken int) {
		for range files {
			inode++
			switch got := d.Ask(Request{File: File{Inode: inode}, Sandbox: sandbox}, nil); got {
			case Result{}:
				taken++
			case Result{Reason: ReasonBusy}:
			default:
				t.Fatalf("got %+v", got)
			}
		}
		return taken
	}
	if got := ask("flood", 1000); got != room/2 {
		t.Errorf("one sandbox has %d of %d places, want half", got, room)
	}
	if got := ask("honest", 2); got != 2 {
		t.Errorf("beside it another one has %d, want the 2 that it asked for", got)
	}
	if got := ask("second flood", 1000); got != 3 {
		t.Errorf("a second flood has %d, want half of the 6 that are left", got)
	}
	var order []string
	for {
		w, ok := d.next()
		if !ok {
			break
		}
		order = append(order, w.request.Sandbox)
	}
	if len(order) != room/2+2+3 || order[1] != "honest" || order[4] != "honest" {
		t.Errorf("they are read in this order: %q", order)
	}
	if got := ask("flood", 1000); got != room/2 {
		t.Errorf("afterwards %d of %d places are free", got, room)
	}
}

func TestBounds(t *testing.T) {
	d, err := New(Config{MaxBytes: 1, Files: 2, Waiting: 2})
	if err != nil {
		t.Fatal(err)
	}
	file := func(i uint64) File { return File{Inode: i} }
	none := func(Result) { t.Error("nobody reads") }
	first := Request{File: file(1), Executed: int64(time.Hour)}
	if got := d.Ask(first, none); got != (Result{}) {
		t.Errorf("the first: %+v", got)
	}
	if got := d.Ask(first, none); got != (Result{}) {
		t.Errorf("the first again: %+v", got)
	}
	// It may have changed in between: nobody else's sum is its.
	first.Executed = 0
	if got := d.Ask(first, none); got.Reason != ReasonBusy {
		t.Errorf("one that has just changed: %+v", got)
	}
	if got := d.Ask(Request{File: file(2)}, none); got.Reason != ReasonBusy {
		t.Errorf("one too many: %+v", got)
	}
	for i := range uint64(3) {
		d.remember(version{file: file(i)}, "sum")
	}
	if len(d.sums) != 2 || len(d.order) != 2 || d.known(version{file: file(0)}) != "" {
		t.Errorf("%d sums are remembered: %v", len(d.sums), d.order)
	}
	for _, cfg := range []Config{{}, {MaxBytes: 1}, {MaxBytes: 1, Files: 1}, {MaxBytes: 1 << 50, Files: 1, Waiting: 1}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}

// TestUncertain: what was executed right after it had changed may have changed again before it is read, in the same step of
// the clock. Its sum is told as uncertain, and is nobody else's.
func TestUncertain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("first"), 0o700); err != nil {
		t.Fatal(err)
	}
	d := running(t, DefaultConfig())
	file := fileOf(t, path)
	at := func(after time.Duration) Request {
		return Request{File: file, Processes: []uint32{gone, self()}, Path: path, Executed: file.Changed + int64(after)}
	}
	for _, after := range []time.Duration{-time.Hour, 0, tick} {
		if got := ask(t, d, at(after)); got != (Result{SHA256: sumOf("first"), Uncertain: true}) {
			t.Errorf("%v after the change: %+v", after, got)
		}
	}
	if got := d.known(version{file: file}); got != "" {
		t.Errorf("an uncertain sum is remembered: %s", got)
	}
	after := tick + time.Millisecond
	if file.Changed%int64(time.Second) == 0 {
		after = coarseTick + time.Millisecond
	}
	if got := ask(t, d, at(after)); got != (Result{SHA256: sumOf("first")}) {
		t.Errorf("later: %+v", got)
	}
	if got := ask(t, d, at(0)); !got.Uncertain {
		t.Errorf("what is remembered is told of an exec that it may not be of: %+v", got)
	}
	whole := Request{File: File{Changed: 7e9}, Executed: 8e9}
	if whole.settled() {
		t.Error("a file system of whole seconds is taken for an exact one")
	}
}

// hookedContext does something whenever somebody asks whether to go on.
type hookedContext struct {
	context.Context
	asked func()
}

func (c hookedContext) Err() error {
	c.asked()
	return c.Context.Err()
}

// TestChangedWhileRead: a file that is written to, cut or longer while it is read has no sum.
func TestChangedWhileRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	for name, change := range map[string]func(f *os.File) error{
		"written": func(f *os.File) error { _, err := f.WriteAt([]byte("x"), 0); return err },
		"cut":     func(f *os.File) error { return f.Truncate(chunk + 1) },
		"longer":  func(f *os.File) error { return f.Truncate(4 * chunk) },
	} {
		if err := os.WriteFile(path, make([]byte, 3*chunk), 0o700); err != nil {
			t.Fatal(err)
		}
		file := fileOf(t, path)
		d, err := New(DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * tick)
		chunks := 0
		ctx := hookedContext{t.Context(), func() {
			if chunks++; chunks != 2 {
				return
			}
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err == nil {
				err = errors.Join(change(f), f.Close())
			}
			if err != nil {
				t.Error(err)
			}
		}}
		r := Request{File: file, Processes: []uint32{gone, self()}, Path: path, Executed: file.Changed + int64(time.Hour)}
		if got := d.read(ctx, &r); got.SHA256 != "" || got.Reason != ReasonChanged {
			t.Errorf("%s: %+v", name, got)
		}
		if len(d.sums) != 0 {
			t.Errorf("%s: a sum is remembered", name)
		}
	}
}

// TestMoved: a program that is deleted while a process runs it, before it is read or meanwhile, is still the one that is run.
// That nothing else has changed is not certain.
func TestMoved(t *testing.T) {
	for name, early := range map[string]bool{"before it is read": true, "while it is read": false} {
		t.Run(name, func(t *testing.T) { testMoved(t, early) })
	}
}

func testMoved(t *testing.T, early bool) {
	t.Helper()
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip("there is no sleep")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(own, text, 0o700); err != nil {
		t.Fatal(err)
	}
	file := fileOf(t, own)
	time.Sleep(2 * tick)
	cmd := &exec.Cmd{Path: own, Args: []string{"sleep", "60"}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	remove := sync.OnceFunc(func() {
		if err := os.Remove(own); err != nil {
			t.Error(err)
		}
	})
	if early {
		remove()
	}
	d, err := New(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	r := Request{File: file, Processes: []uint32{uint32(cmd.Process.Pid)}, Path: own, Executed: file.Changed + int64(time.Hour)}
	if got := d.read(hookedContext{t.Context(), remove}, &r); got != (Result{SHA256: sumOf(string(text)), Uncertain: true}) {
		t.Errorf("deleted: %+v", got)
	}
}

// TestLargeIsNotRead: what is larger than what is read is not read at all, however little of it there is.
func TestLargeIsNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sparse")
	if err := os.WriteFile(path, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<40); err != nil {
		t.Skip("the file system has no sparse files")
	}
	d, err := New(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	ctx := hookedContext{t.Context(), func() { t.Error("it is read") }}
	r := Request{File: fileOf(t, path), Processes: []uint32{gone, self()}, Path: path}
	if got := d.read(ctx, &r); got.Reason != ReasonTooLarge {
		t.Errorf("got %+v", got)
	}
}

// TestFinish: what waits when Run ends is read at the end, also what Run was reading, or told to have no sum.
func TestFinish(t *testing.T) {
	for _, late := range []bool{false, true} {
		d, err := New(DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		var got []Result
		dir := t.TempDir()
		for _, name := range []string{"a", "b"} {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(name), 0o700); err != nil {
				t.Fatal(err)
			}
			file := fileOf(t, path)
			r := Request{File: file, Processes: []uint32{gone, self()}, Path: path, Executed: file.Changed + int64(time.Hour)}
			if now := d.Ask(r, func(result Result) { got = append(got, result) }); now != (Result{}) {
				t.Fatalf("at once: %+v", now)
			}
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if w, ok := d.next(); !ok || d.answer(ended, w) {
			t.Fatal("a read that was interrupted was told")
		} else {
			d.interrupted = append(d.interrupted, w)
		}
		d.Run(ended)
		ctx, want := t.Context(), []Result{{SHA256: sumOf("a")}, {SHA256: sumOf("b")}}
		if late {
			ctx, want = ended, []Result{{Reason: ReasonBusy}, {Reason: ReasonBusy}}
		}
		if d.Finish(ctx); !slices.Equal(got, want) {
			t.Errorf("late %v: %+v, want %+v", late, got, want)
		}
	}
}
