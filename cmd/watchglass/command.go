// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exit codes of `watchglass run`, those of env(1), nice(1) and shells.
const (
	exitOwnFailure    = 125
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128
)

// command is the command of `watchglass run`. It is a child like a shell's: the same files,
// working directory, nice value and signal dispositions as this process was given, and its environment but for where
// hooks are to speak to.
type command struct {
	// args is the command's name and arguments, path the file that runs.
	args []string
	path string
	env  []string
	// cgroup is a descriptor of the cgroup that it is born in.
	cgroup int
	// terminal is lent to it; nil when there is none to lend.
	terminal *terminal
	// nice is the nice value that this process was given.
	nice int

	mu    sync.Mutex
	pid   int // 0 before the start and once it was waited for
	group int // its process group, 0 when it shares this process's
}

// errCommand is a command that cannot be run, with the exit code that a shell would give.
type errCommand struct {
	name string
	code int
	err  error
}

func (e *errCommand) Error() string {
	if e.code == exitNotFound && errors.Is(e.err, fs.ErrNotExist) {
		return e.name + ": command not found"
	}
	return fmt.Sprintf("%s: %v", e.name, e.err)
}

func (e *errCommand) Unwrap() error { return e.err }

// findCommand finds the file of a command as execvp(3) does: a name with a slash is a path, any
// other is looked for in the directories of searchPath.
func findCommand(name, searchPath string) (string, error) {
	candidates := []string{name}
	if filepath.Base(name) == name {
		candidates = nil
		for _, dir := range filepath.SplitList(searchPath) {
			if dir == "" {
				dir = "." // an empty element is the working directory, for execvp and so for whoever wrote it
			}
			candidates = append(candidates, dir+"/"+name)
		}
	}
	var denied error
	for _, path := range candidates {
		switch err := executable(path); {
		case err == nil:
			return path, nil
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		case denied == nil:
			denied = err
		}
	}
	if denied != nil {
		return "", &errCommand{name, exitNotExecutable, denied}
	}
	return "", &errCommand{name, exitNotFound, fs.ErrNotExist}
}

func executable(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return errors.Unwrap(err)
	}
	if st.IsDir() {
		return unix.EISDIR
	}
	return unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS)
}

// start starts the command. What cannot be executed is an *errCommand.
func (c *command) start() error {
	attr := &syscall.ProcAttr{
		Env: c.env,
		// Descriptors from 3 on that this process was given are open on exec and pass by themselves
		// (a shell's <(…) needs that); those that it opened are not.
		Files: []uintptr{0, 1, 2},
		Sys:   &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: c.cgroup},
	}
	if c.terminal != nil {
		attr.Sys.Foreground, attr.Sys.Ctty = true, c.terminal.fd
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var pid int
	var err error
	atNice(c.nice, func() {
		pid, _, err = syscall.StartProcess(c.path, c.args, attr)
		if errors.Is(err, unix.ENOEXEC) { // a script without #!: a shell reads it, as execvp has it
			args := append([]string{"sh", c.path}, c.args[1:]...)
			pid, _, err = syscall.StartProcess("/bin/sh", args, attr)
		}
	})
	if err != nil {
		if c.terminal != nil { // a child that failed to execute had the terminal already
			c.terminal.ignoreStops()
			c.terminal.takeFrom(c.terminal.foreground())
		}
		return startError(c.args[0], err)
	}
	c.pid = pid
	if c.terminal != nil {
		c.group = pid
		c.terminal.ignoreStops()
	}
	return nil
}

// startError tells what is wrong with the command from what is wrong with this machine.
func startError(name string, err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return fmt.Errorf("start %s: %w", name, err)
	}
	switch errno {
	case unix.ENOENT: // of a file that was there a moment ago: its interpreter is missing
		return &errCommand{name, exitNotFound, errors.New("its interpreter is not found")}
	case unix.E2BIG, unix.EACCES, unix.ELOOP, unix.EISDIR, unix.ENOEXEC, unix.ENOTDIR, unix.ETXTBSY,
		unix.ELIBBAD, unix.EINVAL, unix.ENAMETOOLONG, unix.EPERM:
		return &errCommand{name, exitNotExecutable, errno}
	default:
		return fmt.Errorf("start %s in its cgroup: %w", name, err)
	}
}

// wait waits for the command's end. Where the command has a terminal, this process stops when it does.
func (c *command) wait() (syscall.WaitStatus, error) {
	for {
		status, err := c.change()
		switch {
		case err != nil:
			return 0, fmt.Errorf("wait for the command: %w", err)
		case status.Stopped() && c.terminal != nil:
			c.terminal.stop(c.group, status.StopSignal())
		case status.Exited() || status.Signaled():
			if c.terminal != nil {
				c.terminal.takeFrom(c.group)
				if status.Signaled() {
					c.terminal.restore()
				}
			}
			return status, nil
		}
	}
}

// change waits until the command ends or stops.
func (c *command) change() (status syscall.WaitStatus, err error) {
	pid := c.pid
	for {
		// Looked at first and collected then under the lock, so that signal cannot meet another
		// process under the same number.
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if status, done, err := c.collect(pid); done || err != nil {
			return status, err
		}
	}
}

// collect collects a change of state; done is false when there is none after all.
func (c *command) collect(pid int) (status syscall.WaitStatus, done bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	got, err := syscall.Wait4(pid, &status, syscall.WUNTRACED|syscall.WNOHANG, nil)
	if errors.Is(err, unix.EINTR) || err == nil && got == 0 { // continued meanwhile
		return 0, false, nil
	}
	if err == nil && !status.Stopped() {
		c.pid = 0
	}
	return status, true, err
}

// signal passes a signal on to the command, if it is running.
func (c *command) signal(s syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pid == 0 {
		return
	}
	switch {
	case s == unix.SIGCONT && c.terminal != nil:
		c.terminal.resume(c.group)
	case s == unix.SIGCONT:
		_ = unix.Kill(c.pid, s)
	case c.heard(s):
	default:
		_ = unix.Kill(c.pid, s)
	}
}

// heard says that the command got the signal itself: a terminal sends those of its keys to the whole
// group in its foreground. Nothing tells them from those that somebody sends to this process alone,
// but that is rare where a terminal is.
func (c *command) heard(s syscall.Signal) bool {
	switch s {
	case unix.SIGINT, unix.SIGQUIT, unix.SIGWINCH:
	default:
		return false
	}
	if c.group != 0 {
		return false
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer func() { _ = tty.Close() }()
	foreground, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && foreground == unix.Getpgrp()
}

// exitCode is a command's end as a shell gives it.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return exitSignal + int(status.Signal())
	}
	return status.ExitStatus()
}
