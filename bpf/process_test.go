// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// start starts a command that is born in the sandbox.
func (w *watch) start(cmd *exec.Cmd) {
	w.t.Helper()
	startIn(w.t, w.cgroup, cmd)
}

// finish starts a command in the sandbox and waits for its end, however that is.
func (w *watch) finish(cmd *exec.Cmd) *os.ProcessState {
	w.t.Helper()
	var out strings.Builder
	return w.finishSaying(cmd, &out)
}

// finishSaying is finish with what the command says.
func (w *watch) finishSaying(cmd *exec.Cmd, out *strings.Builder) *os.ProcessState {
	w.t.Helper()
	cmd.Stdout, cmd.Stderr = out, out
	w.start(cmd)
	var failed *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &failed) {
		w.t.Fatalf("waiting for %v: %v\n%s", cmd.Args, err, out.String())
	}
	return cmd.ProcessState
}

// talkIn starts a command that is born in a cgroup, and is talked with by its standard input and output.
func talkIn(t *testing.T, cgroup string, cmd *exec.Cmd) (in io.WriteCloser, out io.Reader) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if out, err = cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	startIn(t, cgroup, cmd)
	return in, out
}

// startIn starts a command that is born in a cgroup.
func startIn(t *testing.T, cgroup string, cmd *exec.Cmd) {
	t.Helper()
	dir, err := os.Open(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %v: %v", cmd.Args, err)
	}
}

// of picks the records of one process whose payload is a P.
func of[P any](pid int) func(*Record) bool {
	return func(r *Record) bool {
		_, ok := r.Payload.(P)
		return ok && int(r.Task.PID) == pid
	}
}

// one waits for exactly one record of a process whose payload is a P.
func one[P any](w *watch, pid int) (*Record, P) {
	w.t.Helper()
	records := w.await(1, of[P](pid))
	if len(records) != 1 {
		for _, r := range records {
			w.t.Logf("%+v: %+v", *r, r.Payload)
		}
		w.t.Fatalf("%d records of process %d with that payload, want 1", len(records), pid)
	}
	return records[0], records[0].Payload.(P)
}

// copyOf copies a program to a path, executable.
func copyOf(t *testing.T, program, path string) string {
	t.Helper()
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// realPath is where the kernel says a program is.
func realPath(t *testing.T, path string) string {
	t.Helper()
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	return real
}

func TestKernelProcessLife(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	dir := realPath(t, t.TempDir())
	cmd := exec.Command("/bin/sh", "-c", "exit 3", "first\nsecond", "", "\xff\xfe")
	cmd.Dir = dir
	before := time.Now()
	w.finish(cmd)
	pid := cmd.Process.Pid

	fork, born := one[*Fork](w, pid)
	execRecord, ran := one[*event.ProcessExec](w, pid)
	exitRecord, ended := one[*event.ProcessExit](w, pid)

	if born.Flags&unix.CLONE_INTO_CGROUP == 0 {
		t.Errorf("clone flags %#x lack CLONE_INTO_CGROUP", born.Flags)
	}
	var stat unix.Stat_t
	if err := unix.Stat("/bin/sh", &stat); err != nil {
		t.Fatal(err)
	}
	want := &event.ProcessExec{
		Args: cmd.Args, ArgsCount: len(cmd.Args),
		Executable: realPath(t, "/bin/sh"), WorkingDirectory: dir,
		Origin: originAt(t, "/bin/sh"), Inode: stat.Ino,
		Device:   unix.Major(stat.Dev)<<20 | unix.Minor(stat.Dev),
		Changed:  time.Unix(stat.Ctim.Unix()),
		Modified: time.Unix(stat.Mtim.Unix()),
		// What the program may do has tests of its own: TestKernelPrivileges.
		WritableMount: ran.WritableMount, TTY: ran.TTY, Privileges: ran.Privileges,
		ProcessGroup: uint32(unix.Getpgrp()), TerminalSession: sessionOf(t), LoginUserID: loginOf(t),
	}
	if diff := cmp.Diff(want, ran); diff != "" {
		t.Errorf("exec differs (-want +got):\n%s", diff)
	}
	if execRecord.Truncated {
		t.Error("the exec says that something was cut")
	}
	if ended.Code != 3 || ended.Signal != 0 || ended.CoreDumped {
		t.Errorf("exit is %+v, want code 3", ended)
	}
	if ended.Duration <= 0 || ended.Duration > time.Since(before) {
		t.Errorf("the process lived %v, the whole test %v", ended.Duration, time.Since(before))
	}
	for _, r := range []*Record{fork, execRecord, exitRecord} {
		if r.Sandbox != w.id || r.Cgroup != w.id {
			t.Errorf("%T is in sandbox %d, cgroup %d; want %d", r.Payload, r.Sandbox, r.Cgroup, w.id)
		}
		task := r.Task
		if int(task.ParentPID) != os.Getpid() || int(task.TID) != pid || int(task.VPID) != pid || task.UserID != 0 {
			t.Errorf("%T is of task %+v", r.Payload, task)
		}
		if task.Start == 0 || task.Start != fork.Task.Start || task.ParentStart >= task.Start {
			t.Errorf("%T has start %d, parent start %d", r.Payload, task.Start, task.ParentStart)
		}
		if r.Time.Before(before) || r.Time.After(time.Now()) || task.StartTime.Before(before) {
			t.Errorf("%T happened at %v, started %v; the test began %v", r.Payload, r.Time, task.StartTime, before)
		}
	}
	if execRecord.Task.Comm != "sh" {
		t.Errorf("comm is %q", execRecord.Task.Comm)
	}
}

func TestKernelProcessIdentity(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: 1234, Gid: 4321},
		Cloneflags: syscall.CLONE_NEWPID,
	}
	w.finish(cmd)
	r, _ := one[*event.ProcessExec](w, cmd.Process.Pid)
	if r.Task.UserID != 1234 || r.Task.GroupID != 4321 || r.Task.VPID != 1 {
		t.Errorf("task is %+v, want user 1234, group 4321, process 1 of its namespace", r.Task)
	}
}

func TestKernelProcessScript(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh -e\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(script, "x")
	w.finish(cmd)
	_, ran := one[*event.ProcessExec](w, cmd.Process.Pid)
	if ran.Filename != script || ran.Executable != realPath(t, "/bin/sh") {
		t.Errorf("script %q ran by %q", ran.Filename, ran.Executable)
	}
	if diff := cmp.Diff([]string{"/bin/sh", "-e", script, "x"}, ran.Args); diff != "" || ran.ArgsCount != 4 {
		t.Errorf("%d arguments (-want +got):\n%s", ran.ArgsCount, diff)
	}
}

func TestKernelProcessEnvironment(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	long := strings.Repeat("v", 5000)
	tests := []struct {
		name      string
		env       []string
		want      []event.EnvVar
		truncated bool
	}{
		{name: "none", env: []string{"PATH=/bin", "HOME=/"}},
		{
			name: "first and last", env: []string{"TRACEPARENT=00-1", "A=", "CODEX_THREAD_ID=t"},
			want: []event.EnvVar{{Name: "TRACEPARENT", Value: "00-1"}, {Name: "CODEX_THREAD_ID", Value: "t"}},
		},
		{
			name: "after a long value", env: []string{"LONG=" + long, "CLAUDECODE=1"},
			want: []event.EnvVar{{Name: "CLAUDECODE", Value: "1"}},
		},
		{name: "inside of a long value", env: []string{"LONG=" + long + "CLAUDECODE=1", "X=TRACEPARENT=1"}},
		{name: "longer names", env: []string{"CLAUDECODE_X=1", "XCLAUDECODE=1", "CODEX_THREAD_IDS=2", "CLAUDECODE", "C"}},
		{name: "empty value", env: []string{"CLAUDECODE="}, want: []event.EnvVar{{Name: "CLAUDECODE"}}},
		{
			name: "value of 256 bytes with its name", env: []string{"X=" + strings.Repeat("y", 253), "AI_AGENT=a"},
			want: []event.EnvVar{{Name: "AI_AGENT", Value: "a"}},
		},
		{
			name: "values around the head's size", want: []event.EnvVar{{Name: "AI_AGENT", Value: "a"}},
			env: []string{"X=" + strings.Repeat("y", 252), "X=" + strings.Repeat("y", 254), "X=" + strings.Repeat("y", 255), "AI_AGENT=a"},
		},
		{
			name: "cut value", env: []string{"AI_AGENT=" + long, "CLAUDECODE=1"}, truncated: true,
			want: []event.EnvVar{{Name: "AI_AGENT", Value: long[:4095-len("AI_AGENT=")]}, {Name: "CLAUDECODE", Value: "1"}},
		},
		{
			name: "newlines and bytes that are no text", env: []string{"AI_AGENT=a\nTRACEPARENT=b\xff"},
			want: []event.EnvVar{{Name: "AI_AGENT", Value: "a\nTRACEPARENT=b\xff"}},
		},
		{
			name: "120 KiB before", env: append(slices.Repeat([]string{"FILL=" + strings.Repeat("f", 10234)}, 12), "CLAUDECODE=1"),
			want: []event.EnvVar{{Name: "CLAUDECODE", Value: "1"}},
		},
		{
			name: "many small before", env: append(slices.Repeat([]string{"F=1"}, 10000), "CLAUDECODE=1"),
			want: []event.EnvVar{{Name: "CLAUDECODE", Value: "1"}},
		},
		{
			name: "as many as there can be before", env: append(slices.Repeat([]string{""}, 130_000), "CLAUDECODE=1"),
			want: []event.EnvVar{{Name: "CLAUDECODE", Value: "1"}},
		},
		{
			name: "130 KiB before", env: append(slices.Repeat([]string{"FILL=" + strings.Repeat("f", 10234)}, 13), "CLAUDECODE=1"),
			truncated: true,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cmd := &exec.Cmd{Path: "/bin/true", Args: []string{"true"}}
			// Not cmd.Env: os/exec drops duplicates and what is no assignment.
			w.startRaw(t, cmd, test.env)
			r, ran := one[*event.ProcessExec](w, cmd.Process.Pid)
			if diff := cmp.Diff(test.want, ran.Env); diff != "" {
				t.Errorf("environment differs (-want +got):\n%s", diff)
			}
			if r.Truncated != test.truncated {
				t.Errorf("truncated is %v, want %v", r.Truncated, test.truncated)
			}
		})
	}
}

// startRaw runs a program in the sandbox with exactly this environment, to its end.
func (w *watch) startRaw(t *testing.T, cmd *exec.Cmd, env []string) {
	t.Helper()
	dir, err := os.Open(w.cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	process, err := os.StartProcess(cmd.Path, cmd.Args, &os.ProcAttr{
		Env: env, Sys: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())},
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd.Process = process
	if _, err := process.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestKernelProcessArguments(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	// The kernel takes arguments of a quarter of the stack's limit.
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_STACK, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_STACK, &unix.Rlimit{Cur: 16 << 20, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_STACK, &old); err != nil {
			t.Error(err)
		}
	})
	const limit = 128 << 10
	argument := func(n int) string { return strings.Repeat("a", n) }
	tests := []struct {
		name string
		args []string
	}{
		{"one page", []string{"true", argument(4096)}},
		{"40 KiB in one", []string{"true", argument(40 << 10)}},
		{"all of the limit", []string{"true", argument(limit/2 - len("true") - 2), argument(limit/2 - 1)}},
		{"a byte too many", []string{"true", argument(limit/2 - len("true") - 2), argument(limit / 2)}},
		{"the longest single one", []string{"true", argument(limit - 1)}},
		{"2 MB", append([]string{"true"}, slices.Repeat([]string{argument(99999)}, 21)...)},
		{"2 MB of small ones", append([]string{"true"}, slices.Repeat([]string{"1234567"}, 200000)...)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cmd := &exec.Cmd{Path: "/bin/true", Args: test.args, Env: []string{"CLAUDECODE=1"}}
			w.finish(cmd)
			r, ran := one[*event.ProcessExec](w, cmd.Process.Pid)
			all := strings.Join(test.args, "\x00") + "\x00"
			if got := len(all) > limit; got != r.Truncated {
				t.Errorf("%d bytes of arguments: truncated is %v", len(all), r.Truncated)
			}
			want := all[:min(len(all), limit)]
			if got := strings.Join(ran.Args, "\x00"); got != strings.TrimSuffix(want, "\x00") {
				t.Errorf("got %d bytes of arguments, want %d, or they differ", len(got), len(want))
			}
			if ran.ArgsCount != len(test.args) {
				t.Errorf("%d arguments, want %d", ran.ArgsCount, len(test.args))
			}
			if diff := cmp.Diff([]event.EnvVar{{Name: "CLAUDECODE", Value: "1"}}, ran.Env); diff != "" {
				t.Errorf("environment differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKernelProcessOrigin(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	dir := realPath(t, t.TempDir())
	t.Run("memfd", func(t *testing.T) {
		fd, err := unix.MemfdCreate("payload", 0)
		if err != nil {
			t.Fatal(err)
		}
		file := os.NewFile(uintptr(fd), "memfd")
		defer file.Close()
		text, err := os.ReadFile("/bin/true")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Write(text); err != nil {
			t.Fatal(err)
		}
		wantOrigin(t, w, &exec.Cmd{Path: "/proc/self/fd/3", Args: []string{"true"}, ExtraFiles: []*os.File{file}},
			event.OriginMemfd, "/memfd:payload")
	})
	t.Run("deleted", func(t *testing.T) {
		path := copyOf(t, "/bin/true", filepath.Join(dir, "gone"))
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		wantOrigin(t, w, &exec.Cmd{Path: "/proc/self/fd/3", Args: []string{"true"}, ExtraFiles: []*os.File{file}},
			event.OriginDeleted, path)
	})
	t.Run("removes itself", func(t *testing.T) {
		path := copyOf(t, "/bin/rm", filepath.Join(dir, "rm"))
		wantOrigin(t, w, &exec.Cmd{Path: path, Args: []string{"rm", path}}, originAt(t, dir), path)
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it is still there: %v", err)
		}
	})
	t.Run("tmpfs", func(t *testing.T) {
		mount := filepath.Join(dir, "memory")
		if err := os.Mkdir(mount, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("none", mount, "tmpfs", 0, "size=64m"); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}()
		path := copyOf(t, "/bin/true", filepath.Join(mount, "true"))
		wantOrigin(t, w, &exec.Cmd{Path: path, Args: []string{"true"}}, event.OriginTmpfs, path)
	})
	t.Run("odd names", func(t *testing.T) {
		path := copyOf(t, "/bin/true", filepath.Join(dir, "line\nbreak \xff"))
		wantOrigin(t, w, &exec.Cmd{Path: path, Args: []string{"true"}}, originAt(t, dir), path)
	})
	t.Run("longest path", func(t *testing.T) {
		cmd, path := longestPath(t, dir)
		wantOrigin(t, w, cmd, originAt(t, dir), path)
	})
}

// originAt is the origin of a file with a name at a path: on some machines all files are in memory.
func originAt(t *testing.T, path string) event.Origin {
	t.Helper()
	var stat unix.Statfs_t
	if err := unix.Statfs(path, &stat); err != nil {
		t.Fatal(err)
	}
	if stat.Type == unix.TMPFS_MAGIC || stat.Type == unix.RAMFS_MAGIC {
		return event.OriginTmpfs
	}
	return event.OriginFile
}

// longestPath makes a program whose path has 4,095 bytes, and a command that runs it from nearby.
func longestPath(t *testing.T, dir string) (cmd *exec.Cmd, path string) {
	t.Helper()
	const limit = 4095
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	path = dir
	for len(path) < limit-1 {
		name := strings.Repeat("d", min(200, limit-len(path)-1))
		if rest := limit - len(path) - 1 - len(name); rest == 1 {
			name = name[1:]
		}
		path += "/" + name
		if len(path) == limit {
			break
		}
		if err := unix.Mkdirat(fd, name, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, name, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		fd = next
	}
	name := filepath.Base(path)
	file, err := unix.Openat(fd, name, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(file, text); err != nil {
		t.Fatal(err)
	}
	unix.Close(file)
	parent := os.NewFile(uintptr(fd), "parent")
	t.Cleanup(func() { parent.Close() })
	return &exec.Cmd{Path: "/proc/self/fd/3/" + name, Args: []string{"true"}, ExtraFiles: []*os.File{parent}}, path
}

// wantOrigin runs a command in the sandbox and checks where its program is said to come from.
func wantOrigin(t *testing.T, w *watch, cmd *exec.Cmd, origin event.Origin, path string) {
	t.Helper()
	w.finish(cmd)
	r, ran := one[*event.ProcessExec](w, cmd.Process.Pid)
	if ran.Origin != origin || ran.Executable != path {
		t.Errorf("runs %q of origin %s, want %q of %s", ran.Executable, ran.Origin, path, origin)
	}
	if r.Truncated {
		t.Error("says that something was cut")
	}
	if _, ended := one[*event.ProcessExit](w, cmd.Process.Pid); ended.Code != 0 || ended.Signal != 0 {
		t.Errorf("ended with %+v", ended)
	}
}

func TestKernelProcessExit(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	tests := []struct{ name, script string }{
		{"success", "exit 0"},
		{"code", "exit 255"},
		{"killed", "kill -KILL $$"},
		{"terminated", "kill -TERM $$"},
		{"core", "ulimit -c unlimited; kill -SEGV $$"},
		{"real-time signal", "kill -40 $$"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cmd := exec.Command("/bin/sh", "-c", test.script)
			cmd.Dir = t.TempDir()
			status := w.finish(cmd).Sys().(syscall.WaitStatus)
			_, ended := one[*event.ProcessExit](w, cmd.Process.Pid)
			want := &event.ProcessExit{Exited: ended.Exited, Duration: ended.Duration, CoreDumped: status.CoreDump(), Usage: ended.Usage}
			if status.Signaled() {
				want.Signal = int(status.Signal())
			} else {
				want.Code = status.ExitStatus()
			}
			if diff := cmp.Diff(want, ended); diff != "" {
				t.Errorf("exit differs from what wait says (-want +got):\n%s", diff)
			}
			if test.name == "core" && !status.CoreDump() {
				t.Log("no core was written here, so the flag was only seen unset")
			}
		})
	}
}

// onThread runs f on an operating system thread that is the process's first one, or that is not; that thread ends with f,
// where it is not the first.
func onThread(first bool, f func()) error {
	const most = 1000 // threads, each of which may be the wrong one
	held := make(chan struct{})
	defer close(held)
	for range most {
		matches := make(chan bool)
		go func() {
			runtime.LockOSThread()
			match := (unix.Gettid() == unix.Getpid()) == first
			if match {
				f()
			}
			matches <- match
			if match {
				return // locked still, which ends the thread
			}
			<-held // so that the next attempt gets another thread
			runtime.UnlockOSThread()
		}()
		if <-matches {
			return nil
		}
	}
	return errors.New("the thread could not be had")
}

// helperExecByThread has a thread that is not the first one exec, which makes it the first one. The program opens a file;
// or is the one that is given.
func helperExecByThread(args []string) (string, error) {
	program := "/bin/sh"
	if len(args) == 1 {
		program = args[0]
	}
	var err error
	failed := onThread(false, func() { err = unix.Exec(program, []string{"sh", "-c", ": < /dev/null && echo ran"}, nil) })
	return "", fmt.Errorf("exec from a thread: %w", errors.Join(err, failed))
}

// helperLeaderExitsFirst ends the process's first thread, and later the process.
func helperLeaderExitsFirst([]string) (string, error) {
	go func() {
		time.Sleep(200 * time.Millisecond)
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 5, 0, 0)
	}()
	return "", onThread(true, func() { unix.RawSyscall(unix.SYS_EXIT, 9, 0, 0) })
}

// brokenProgram makes a program that the kernel finds to be broken when the one that executes it is gone already: a segment
// has more in the file than in memory.
func brokenProgram(t *testing.T) string {
	t.Helper()
	path := copyOf(t, "/bin/true", filepath.Join(t.TempDir(), "broken"))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The headers of the segments, of 56 bytes: type, flags, offset, two addresses, size in the file, size in memory.
	headers, number := binary.LittleEndian.Uint64(text[32:]), binary.LittleEndian.Uint16(text[56:])
	for i := range uint64(number) {
		header := text[headers+56*i:]
		if binary.LittleEndian.Uint32(header) == 1 {
			binary.LittleEndian.PutUint64(header[40:], 1)
			break
		}
	}
	if err := os.WriteFile(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestKernelProcessThreads(t *testing.T) {
	requireKernel(t)
	w := startWatch(t)
	helper := func(action string) *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcess$")
		cmd.Env = append(os.Environ(), helperVariable+"="+action)
		return cmd
	}
	t.Run("exec by another thread", func(t *testing.T) {
		cmd := helper("exec by thread")
		w.finish(cmd)
		execs := w.await(2, of[*event.ProcessExec](cmd.Process.Pid))
		if len(execs) != 2 {
			t.Fatalf("%d execs, want 2", len(execs))
		}
		a, b := execs[0].Task, execs[1].Task
		if a.PID != b.PID || a.Start != b.Start || b.TID != b.PID {
			t.Errorf("identity changed from %+v to %+v", a, b)
		}
		if _, ended := one[*event.ProcessExit](w, cmd.Process.Pid); ended.Code != 0 {
			t.Errorf("ended with %+v", ended)
		}
	})
	t.Run("exec by another thread that ends the process", func(t *testing.T) {
		cmd := helper("exec by thread")
		cmd.Args = append(cmd.Args, "--", brokenProgram(t))
		status := w.finish(cmd).Sys().(syscall.WaitStatus)
		if !status.Signaled() {
			t.Fatalf("the helper ended with %v", status)
		}
		if _, ended := one[*event.ProcessExit](w, cmd.Process.Pid); ended.Signal != int(status.Signal()) {
			t.Errorf("ended with %+v, want signal %d", ended, status.Signal())
		}
	})
	t.Run("first thread ends first", func(t *testing.T) {
		cmd := helper("leader exits first")
		if code := w.finish(cmd).ExitCode(); code != 5 {
			t.Fatalf("the helper ended with %d", code)
		}
		r, ended := one[*event.ProcessExit](w, cmd.Process.Pid)
		if ended.Code != 5 || ended.Duration < 200*time.Millisecond {
			t.Errorf("ended with %+v", ended)
		}
		if forked, _ := one[*Fork](w, cmd.Process.Pid); forked.Task.Start != r.Task.Start {
			t.Errorf("start was %d, is %d", forked.Task.Start, r.Task.Start)
		}
	})
	t.Run("threads are no processes", func(t *testing.T) {
		forks := w.seen(func(r *Record) bool {
			_, ok := r.Payload.(*Fork)
			return ok && r.Task.TID != r.Task.PID
		})
		if len(forks) != 0 {
			t.Errorf("%d forks of threads", len(forks))
		}
	})
}
