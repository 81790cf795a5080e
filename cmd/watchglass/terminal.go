// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// noControllingTerminal opens a terminal without making it this process's own.
const noControllingTerminal = unix.O_NOCTTY

// terminal is the terminal that `watchglass run` lends to its command, as a shell lends it to a job:
// the command is a process group of its own in the foreground, so that Ctrl-C and Ctrl-Z are for it
// alone, and the terminal comes back when the command ends or stops.
type terminal struct {
	fd int
	// own is this process's group.
	own int
	// modes is how the terminal was set when the command got it.
	modes *unix.Termios
	// resumed is true once the command was resumed after its last stop.
	resumed atomic.Bool
}

// borrowTerminal is the terminal to lend, nil when there is none to lend: when input or output is
// something else (in a pipeline the other commands need the foreground as well), or when this
// process is in the background itself. The command then shares this process's group.
func borrowTerminal(in, out *os.File) *terminal {
	fd := int(in.Fd())
	own := unix.Getpgrp()
	foreground, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	if err != nil || foreground != own {
		return nil
	}
	if _, err := unix.IoctlGetInt(int(out.Fd()), unix.TIOCGPGRP); err != nil {
		return nil
	}
	modes, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil
	}
	return &terminal{fd: fd, own: own, modes: modes}
}

// ignoreStops lets this process use the terminal from the background. Only after the command was
// started, which would inherit it.
func (t *terminal) ignoreStops() { signal.Ignore(syscall.SIGTTOU) }

// foreground is the process group that has the terminal.
func (t *terminal) foreground() int {
	pgrp, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP)
	if err != nil {
		return 0
	}
	return pgrp
}

// give puts a group into the foreground.
func (t *terminal) give(pgrp int) error {
	if err := unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, pgrp); err != nil {
		return fmt.Errorf("hand the terminal to process group %d: %w", pgrp, err)
	}
	return nil
}

// takeFrom takes the terminal back from the command's group, or from one that is gone; when somebody
// else has it, as the shell when the command was put into the background, it stays there.
func (t *terminal) takeFrom(pgrp int) {
	if now := t.foreground(); now == pgrp || now > 0 && unix.Kill(-now, 0) == unix.ESRCH {
		_ = t.give(t.own)
	}
}

// restore sets the terminal as it was. For a command that was killed: one that ends by itself
// leaves the terminal as it wants it to be.
func (t *terminal) restore() {
	if t.foreground() == t.own {
		_ = unix.IoctlSetTermios(t.fd, unix.TCSETSW, t.modes)
	}
}

const (
	// stopLook is how often it is looked at whether a stop is over.
	stopLook = 10 * time.Millisecond
	// stopHandled is how many looks it may take after a stop for SIGCONT to be handled, and stopLate for the stop to come.
	stopHandled, stopLate = 10, 1000
)

// waitsFor says whether a signal to a process is still to be handled by it.
func waitsFor(pid int, sig syscall.Signal) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(status), "\nShdPnd:\t")
	line, _, _ := strings.Cut(rest, "\n")
	pending, err := strconv.ParseUint(line, 16, 64)
	return err == nil && pending>>(sig-1)&1 != 0
}

// stop stops this process because its command stopped, so that the shell sees its job stopped, and
// returns when the command goes on. SIGCONT resumes it (signals.go), except where nobody would send
// one: there this process's group is orphaned, and the kernel ignores the stop as it would have
// ignored the command's. Then the command is resumed here.
func (t *terminal) stop(pgrp int, why syscall.Signal) {
	t.takeFrom(pgrp)
	t.resumed.Store(false)
	if why == unix.SIGTTIN || why == unix.SIGTTOU {
		// It wanted the terminal from the background. If that has come to the foreground since, it may have it: a shell does
		// not say that it put a job there which it takes to be running. That is asked last, since a stop after it stays.
		if t.foreground() == t.own {
			t.resume(pgrp)
			return
		}
	}
	_ = unix.Kill(0, unix.SIGTSTP)
	for handled, late := 0, 0; handled < stopHandled && late < stopLate; {
		time.Sleep(stopLook)
		if t.resumed.Load() {
			return
		}
		// Where the machine is busy the stop may be late. A command that was resumed before it would read what is typed to
		// the shell.
		if waitsFor(os.Getpid(), unix.SIGTSTP) {
			late++
		} else {
			handled++
		}
	}
	t.resume(pgrp)
}

// resume lets the command go on, in the foreground if that is where the shell put this process.
func (t *terminal) resume(pgrp int) {
	t.resumed.Store(true)
	if t.foreground() == t.own {
		_ = t.give(pgrp)
	}
	_ = unix.Kill(-pgrp, unix.SIGCONT)
}
