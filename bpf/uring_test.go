// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/testenv"
)

// ringCase is one operation through a ring, and the event that must come of it: an open or a change.
type ringCase struct {
	name  string
	entry func(r *ring, dir string) ringEntry
	open  *event.FileOpen
	want  *event.FileChange
	err   event.Errno
	// since is the 6.x that the kernel has it since, 0 for all.
	since int
}

const currentDirectory = unix.AT_FDCWD

func ringCases() []ringCase {
	return []ringCase{
		{
			name: "openat", open: &event.FileOpen{Path: "@/plain", Access: read},
			entry: func(r *ring, dir string) ringEntry {
				return ringEntry{Op: ringOpOpenat, FD: currentDirectory, Address: r.path(dir + "/plain")}
			},
		},
		{
			name: "openat of a symlink", open: &event.FileOpen{Path: "@/plain", Asked: "@/link", Access: read | write},
			entry: func(r *ring, _ string) ringEntry {
				return ringEntry{Op: ringOpOpenat, FD: currentDirectory, Address: r.path("link"), OpFlags: unix.O_RDWR}
			},
		},
		{
			name: "openat of what is not there", err: event.Errno(unix.ENOENT),
			open: &event.FileOpen{Path: "@/missing", Access: read},
			entry: func(r *ring, dir string) ringEntry {
				return ringEntry{Op: ringOpOpenat, FD: currentDirectory, Address: r.path(dir + "/missing")}
			},
		},
		{
			name: "openat of what is not there, from a directory", err: event.Errno(unix.ENOENT),
			open: &event.FileOpen{Path: "@/missing", Access: read, Claimed: true},
			entry: func(r *ring, _ string) ringEntry {
				return ringEntry{Op: ringOpOpenat, FD: currentDirectory, Address: r.path("missing")}
			},
		},
		{
			name: "openat2", open: &event.FileOpen{Path: "@/made", Access: write | event.AccessCreate},
			entry: func(r *ring, dir string) ringEntry {
				how := &unix.OpenHow{Flags: unix.O_WRONLY | unix.O_CREAT, Mode: 0o600}
				return ringEntry{
					Op: ringOpOpenat2, FD: currentDirectory, Address: r.path(dir + "/made"),
					Len: unix.SizeofOpenHow, Offset: r.keep(unsafe.Pointer(how), how),
				}
			},
		},
		{
			name: "openat that says nothing", open: &event.FileOpen{Path: "@/plain", Access: read, Claimed: true, Unfinished: true},
			entry: func(r *ring, dir string) ringEntry {
				return ringEntry{Op: ringOpOpenat, Flags: ringEntrySkipSuccess, FD: currentDirectory, Address: r.path(dir + "/plain")}
			},
		},
		{
			name: "openat without a descriptor", open: &event.FileOpen{Path: "@/plain", Access: read | write},
			entry: func(r *ring, dir string) ringEntry {
				return ringEntry{Op: ringOpOpenat, FD: currentDirectory, Address: r.path(dir + "/./plain"), OpFlags: unix.O_RDWR, FileIndex: 2}
			},
		},
		{
			name: "openat without a descriptor, anywhere", open: &event.FileOpen{Path: "@/plain", Access: read},
			entry: func(r *ring, dir string) ringEntry {
				return ringEntry{Op: ringOpOpenat, FD: currentDirectory, Address: r.path(dir + "/plain"), FileIndex: ringSlotAny}
			},
		},
		{
			name: "ftruncate", since: 9, want: &event.FileChange{Operation: event.FileTruncate, Path: "@/plain", Length: 9},
			entry: func(_ *ring, dir string) ringEntry {
				return ringEntry{Op: ringOpFtruncate, FD: openFor(dir + "/plain"), Offset: 9}
			},
		},
		{
			name: "ftruncate that says nothing", since: 9, want: &event.FileChange{Operation: event.FileTruncate, Path: "@/plain", Length: 9, Unfinished: true},
			entry: func(_ *ring, dir string) ringEntry {
				return ringEntry{Op: ringOpFtruncate, Flags: ringEntrySkipSuccess, FD: openFor(dir + "/plain"), Offset: 9}
			},
		},
		{
			name: "unlinkat", want: &event.FileChange{Operation: event.FileUnlink, Path: "@/plain"},
			entry: func(r *ring, _ string) ringEntry {
				return ringEntry{Op: ringOpUnlinkat, FD: currentDirectory, Address: r.path("plain")}
			},
		},
		{
			name: "unlinkat of what is not there", err: event.Errno(unix.ENOENT),
			want: &event.FileChange{Operation: event.FileUnlink, Path: "@/missing"},
			entry: func(r *ring, dir string) ringEntry {
				return ringEntry{Op: ringOpUnlinkat, FD: currentDirectory, Address: r.path(dir + "/missing")}
			},
		},
		{
			name: "unlinkat of a directory", want: &event.FileChange{Operation: event.FileRmdir, Path: "@/mount"},
			entry: func(r *ring, dir string) ringEntry {
				return ringEntry{Op: ringOpUnlinkat, FD: currentDirectory, Address: r.path(dir + "/mount"), OpFlags: unix.AT_REMOVEDIR}
			},
		},
		{
			name: "mkdirat", want: &event.FileChange{Operation: event.FileMkdir, Path: "@/made", Asked: 0o710},
			entry: func(r *ring, dir string) ringEntry {
				return ringEntry{Op: ringOpMkdirat, FD: currentDirectory, Address: r.path(dir + "/made"), Len: 0o710}
			},
		},
		{
			name: "renameat", want: &event.FileChange{Operation: event.FileRenamed, Path: "@/plain", Target: "@/other"},
			entry: func(r *ring, dir string) ringEntry {
				return ringEntry{
					Op: ringOpRenameat, FD: currentDirectory, Address: r.path(dir + "/plain"),
					Len: uint32(unix.AT_FDCWD & 0xffffffff), Offset: r.path("other"),
				}
			},
		},
		{
			name: "linkat", want: &event.FileChange{Operation: event.FileLinked, Path: "@/plain", Target: "@/hard"},
			entry: func(r *ring, dir string) ringEntry {
				return ringEntry{
					Op: ringOpLinkat, FD: currentDirectory, Address: r.path(dir + "/plain"),
					Len: uint32(unix.AT_FDCWD & 0xffffffff), Offset: r.path(dir + "/hard"),
				}
			},
		},
		{
			name: "symlinkat", want: &event.FileChange{Operation: event.FileSymlink, Path: "@/soft", Target: "no/../where"},
			entry: func(r *ring, dir string) ringEntry {
				return ringEntry{
					Op: ringOpSymlinkat, FD: currentDirectory, Address: r.path("no/../where"), Offset: r.path(dir + "/soft"),
				}
			},
		},
	}
}

// openFor is a file to be written to, -1 where it cannot be opened.
func openFor(path string) int32 {
	fd, err := unix.Open(path, unix.O_RDWR, 0)
	if err != nil {
		return -1
	}
	return int32(fd)
}

// ringModes is how a ring can be driven: by io_uring_enter, by the kernel's workers, by its own kernel thread.
func ringModes() map[string]struct {
	setup uint32
	entry uint8
} {
	return map[string]struct {
		setup uint32
		entry uint8
	}{
		"inline": {}, "async": {entry: ringEntryAsync}, "sqpoll": {setup: ringSetupPoll},
	}
}

// helperRing does one case of ringCases in one of ringModes, in a directory. It says "no io_uring: why" where
// the kernel has none.
func helperRing(args []string) (string, error) {
	name, mode, dir := args[0], ringModes()[args[1]], args[2]
	if err := unix.Chdir(dir); err != nil {
		return "", err
	}
	r, err := newRing(mode.setup)
	if err != nil {
		return "no io_uring: " + err.Error(), nil
	}
	defer r.close()
	cases := ringCases()
	c := cases[slices.IndexFunc(cases, func(c ringCase) bool { return c.name == name })]
	if err := r.table(4); err != nil {
		return "", err
	}
	entry := c.entry(r, dir)
	entry.Flags |= mode.entry
	_, err = r.do(entry)
	if c.since != 0 && errnoOf(err) == unix.EINVAL {
		return notInThisKernel, nil
	}
	if errno := errnoOf(err); err != nil && event.Errno(errno) != c.err || err == nil && c.err != 0 {
		return "", fmt.Errorf("got error %w, want number %d", err, c.err)
	}
	return "", nil
}

// requireRing ends the test where the helper had no ring. All kernels that Watchglass runs on have io_uring,
// unless the machine's owner turned it off.
func requireRing(t *testing.T, said string) {
	t.Helper()
	if !strings.HasPrefix(said, "no io_uring") {
		return
	}
	if disabled, err := os.ReadFile("/proc/sys/kernel/io_uring_disabled"); err == nil && strings.TrimSpace(string(disabled)) == "0" {
		t.Fatalf("io_uring is not disabled here, but: %s", said)
	}
	testenv.Unable(t, "needs io_uring (sysctl kernel.io_uring_disabled=0): "+said)
}

func TestKernelRing(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	for mode := range ringModes() {
		for _, c := range ringCases() {
			t.Run(mode+"/"+c.name, func(t *testing.T) {
				dir := makeFiles(t)
				helper := w.run(helperRun{action: "ring", args: []string{c.name, mode, dir}})
				requireRing(t, helper.said)
				requireSince(t, helper.said, c.since)
				c.check(t, w, helper.pid, dir)
			})
		}
	}
	t.Run("outside", func(t *testing.T) {
		outside := w.run(helperRun{action: "ring", args: []string{"mkdirat", "inline", makeFiles(t)}, outside: true})
		if got := w.seen(func(r *Record) bool { return r.Task.PID == outside.pid }); len(got) != 0 {
			t.Errorf("saw %d records of a process outside of the sandbox, want none", len(got))
		}
	})
}

// check finds the one event of the case.
func (c *ringCase) check(t *testing.T, w *watch, pid uint32, dir string) {
	t.Helper()
	in := func(path string) string { return strings.Replace(path, "@", dir, 1) }
	found := w.await(1, func(r *Record) bool {
		if r.Task.PID != pid {
			return false
		}
		switch payload := r.Payload.(type) {
		case *event.FileOpen:
			return c.open != nil && payload.Via == event.ViaURing
		case *event.FileChange:
			return payload.Via == event.ViaURing
		default:
			return false
		}
	})
	if len(found) != 1 {
		for _, r := range found {
			t.Logf("told at %v by %s (%d): %+v", r.Time, r.Task.Comm, r.Task.TID, r.Payload)
		}
		t.Fatalf("%d events, want 1", len(found))
	}
	switch got := found[0].Payload.(type) {
	case *event.FileOpen:
		if c.open == nil {
			t.Fatalf("got %+v", *got)
		}
		want := *c.open
		want.Path, want.Asked, want.Error, want.Via = in(want.Path), in(want.Asked), c.err, event.ViaURing
		if w.tracer.Plan() == PlanTrampoline && c.err == 0 {
			// Told where the file is opened: by the file, whatever the program wants to hear of.
			want.Asked, want.Claimed, want.Unfinished = "", false, false
		}
		if known := got.Inode != 0; known == (want.Claimed || c.err != 0) {
			t.Errorf("the file is known: %v", known)
		}
		want.Inode, want.Device, want.Mode, want.Created = got.Inode, got.Device, got.Mode, got.Created
		if *got != want {
			t.Errorf("got  %+v,\nwant %+v", *got, want)
		}
	case *event.FileChange:
		if c.want == nil {
			t.Fatalf("got %+v", *got)
		}
		want := *c.want
		want.Path, want.Target, want.Error = in(want.Path), in(want.Target), c.err
		want.Claimed, want.Via = want.Operation != event.FileTruncate, event.ViaURing
		want.Inode, want.Device, want.Mode = got.Inode, got.Device, got.Mode
		if *got != want {
			t.Errorf("got  %+v,\nwant %+v", *got, want)
		}
	}
}
