// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// desk takes the signals of `watchglass run`, and what becomes of one depends on the moment: before
// the command is started, one that ends programs gives the session up; while it runs, all are passed
// on to it, and the second SIGTERM ends everything in its cgroup; after it, one that ends programs
// cuts the rest of the work short.
type desk struct {
	signals chan os.Signal
	done    chan struct{}
	// giveUp and hurry are called at most once each. kill ends everything in the session's cgroup.
	giveUp, hurry, kill func()

	mu      sync.Mutex
	command *command // while it runs
	started bool
	terms   int
	ended   syscall.Signal // what gave the session up
}

// openDesk starts to take signals, but leaves those ignored that this process was started ignoring,
// as nohup does it.
func openDesk() *desk {
	d := &desk{signals: make(chan os.Signal, 64), done: make(chan struct{})}
	for _, s := range passedOn() {
		if !signal.Ignored(s) {
			signal.Notify(d.signals, s)
		}
	}
	// A reader that goes away must not end the program by SIGPIPE before it has cleaned up. The
	// command starts with the disposition that this process was given.
	if !signal.Ignored(syscall.SIGPIPE) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	}
	return d
}

// passedOn is the signals for the command. Missing are those that concern one process alone (its
// children, its own faults), those that cannot be caught, and those of job control (terminal.go).
func passedOn() []os.Signal {
	list := []os.Signal{
		unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH,
		unix.SIGALRM, unix.SIGCONT, unix.SIGPWR, unix.SIGIO,
	}
	const firstRealTime, lastRealTime = 34, 64 // 32 and 33 are the C library's own
	for s := syscall.Signal(firstRealTime); s <= lastRealTime; s++ {
		list = append(list, s)
	}
	return list
}

// serve handles signals until close.
func (d *desk) serve() {
	for {
		select {
		case s := <-d.signals:
			d.handle(s.(syscall.Signal))
		case <-d.done:
			return
		}
	}
}

func (d *desk) close() {
	signal.Stop(d.signals)
	close(d.done)
}

func (d *desk) handle(s syscall.Signal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.command != nil:
		if s == unix.SIGTERM {
			d.terms++
		}
		if d.terms > 1 {
			d.kill()
			return
		}
		d.command.signal(s)
	case !ends(s):
	case d.started:
		d.hurry()
	case d.ended == 0:
		d.ended = s
		d.giveUp()
	}
}

// ends says whether a signal is meant to end a program.
func ends(s syscall.Signal) bool {
	return s == unix.SIGHUP || s == unix.SIGINT || s == unix.SIGQUIT || s == unix.SIGTERM
}

// start starts the command, unless a signal gave the session up; then it returns that signal.
func (d *desk) start(c *command) (syscall.Signal, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended != 0 {
		return d.ended, nil
	}
	d.started = true
	if err := c.start(); err != nil {
		return 0, err
	}
	d.command = c
	return 0, nil
}

// over says that the command has ended.
func (d *desk) over() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.command = nil
}

// gaveUp is the signal that ended the session before its command was started, 0 for none.
func (d *desk) gaveUp() syscall.Signal {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ended
}

// wasStarted says whether the command was started, or tried to be.
func (d *desk) wasStarted() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.started
}
