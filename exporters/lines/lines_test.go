// SPDX-License-Identifier: Apache-2.0

package lines

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
	"github.com/watchglass/watchglass/internal/testenv"
)

// plain is lines of "line ", a body and a newline.
type plain struct{}

func (plain) Append(dst []byte, r *exporters.Recorded) []byte {
	if r.Body == "" {
		return dst
	}
	return append(append(append(dst, "line "...), r.Body...), '\n')
}

func (plain) Begins(text []byte) bool {
	return bytes.HasPrefix([]byte("line "), text) || bytes.HasPrefix(text, []byte("line "))
}

// decode takes the record for the body; "bad" is none.
func decode(e *event.Encoded) (*exporters.Recorded, error) {
	if string(e.Record) == "bad" {
		return nil, errors.New("no record")
	}
	return &exporters.Recorded{Body: string(e.Record)}, nil
}

func batch(records ...string) []event.Encoded {
	var list []event.Encoded
	for i, r := range records {
		list = append(list, event.Encoded{Seq: uint64(i + 1), Record: []byte(r)})
	}
	return list
}

func opened(t *testing.T, path string, keep bool) *Destination {
	t.Helper()
	d, err := Open(Settings{Name: "lines", Path: path, Keep: keep, Decode: decode, Format: plain{}})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func send(t *testing.T, d *Destination, records ...string) {
	t.Helper()
	if _, err := d.Send(t.Context(), batch(records...)); err != nil {
		t.Fatal(err)
	}
}

func contents(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestLines(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lines")
	for _, round := range []struct {
		keep bool
		want string
	}{{true, "line a\nline b\n"}, {true, "line a\nline b\nline a\nline b\n"}, {false, "line a\nline b\n"}} {
		d := opened(t, path, round.keep)
		rejected, err := d.Send(t.Context(), batch("a", "bad", "", "b"))
		if err != nil || len(rejected) != 1 || rejected[0].Index != 1 || rejected[0].Reason != "no record" {
			t.Errorf("%v: rejected %v", err, rejected)
		}
		if err := d.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if got := contents(t, path); got != round.want {
			t.Errorf("keep %v: %q", round.keep, got)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, mode %v", err, info.Mode())
	}
}

// TestTornEnd: what a crash left of a line goes, what somebody else wrote stays.
func TestTornEnd(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 200<<10)
	for _, c := range []struct{ name, before, after string }{
		{"empty", "", ""},
		{"whole", "line a\n", "line a\n"},
		{"the beginning of a line", "line a\nli", "line a\n"},
		{"a line without its newline", "line a\nline b", "line a\n"},
		{"nothing else", "line", ""},
		{"longer than what is read at once", "line a\nline " + long, "line a\n"},
		{"another's line", "line a\nsomething", "line a\nsomething\n"},
		{"another's long line", long, long + "\n"},
	} {
		path := filepath.Join(t.TempDir(), "lines")
		if err := os.WriteFile(path, []byte(c.before), 0o600); err != nil {
			t.Fatal(err)
		}
		d := opened(t, path, true)
		send(t, d, "z")
		send(t, d, "y")
		if err := d.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if got := contents(t, path); got != c.after+"line z\nline y\n" {
			t.Errorf("%s: %.100q", c.name, got)
		}
	}
}

// TestFullDisk: a batch that does not fit leaves the file as it was, and comes again whole.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		testenv.Unable(t, "needs root, to mount a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
		testenv.Unable(t, "cannot mount a tmpfs: "+err.Error())
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	path := filepath.Join(dir, "lines")
	d := opened(t, path, true)
	send(t, d, "a")
	large := make([]string, 5) // the last does not fit
	for i := range large {
		large[i] = strings.Repeat("x", flushBytes)
	}
	if _, err := d.Send(t.Context(), batch(large...)); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	if got := contents(t, path); got != "line a\n" {
		t.Errorf("%d bytes are left of a batch that comes again", len(got))
	}
	send(t, d, large[:2]...)
	if got := strings.Count(contents(t, path), "\n"); got != 3 {
		t.Errorf("%d lines", got)
	}
	if err := d.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestReaderThatStandsStill: whoever does not read a pipe does not hold up the end.
func TestReaderThatStandsStill(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = read.Close() }()
	d, err := Open(Settings{Name: "lines", File: write, Decode: decode, Format: plain{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.Send(ctx, batch(strings.Repeat("x", 1<<20))); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if err := d.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := write.Stat(); err != nil {
		t.Errorf("the caller's file is closed: %v", err)
	}
	_ = write.Close()
}

func TestNoFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "no", "lines")
	if _, err := Open(Settings{Name: "lines", Path: path}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
}

// TestDevices: what is no file is written without being read or cut back.
func TestDevices(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	d := opened(t, path, false)
	send(t, d, "a")
	buf := make([]byte, 64)
	if n, err := reader.Read(buf); err != nil || string(buf[:n]) != "line a\n" {
		t.Errorf("%v: %q", err, buf[:n])
	}
	if err := d.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	full := opened(t, "/dev/full", true)
	if _, err := full.Send(t.Context(), batch("a")); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v", err)
	}
	if err := full.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func FuzzTornEnd(f *testing.F) {
	f.Add([]byte("line a\nli"))
	f.Add([]byte("else"))
	f.Add([]byte("\n\n"))
	f.Fuzz(func(t *testing.T, before []byte) {
		path := filepath.Join(t.TempDir(), "lines")
		if err := os.WriteFile(path, before, 0o600); err != nil {
			t.Fatal(err)
		}
		d := opened(t, path, true)
		send(t, d, "z")
		if err := d.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := contents(t, path)
		rest, ok := strings.CutSuffix(got, "line z\n")
		if !ok || rest != "" && !strings.HasSuffix(rest, "\n") {
			t.Fatalf("%q became %q", before, got)
		}
		whole := before[:bytes.LastIndexByte(before, '\n')+1]
		if !strings.HasPrefix(rest, string(whole)) {
			t.Fatalf("%q became %q", before, got)
		}
	})
}
