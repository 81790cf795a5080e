// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// boostedNice is the nice value that the collector gives itself. A sandbox that keeps every processor busy with many
	// processes would otherwise leave it so little that the ring fills, and what all sandboxes do is lost.
	boostedNice = -10
	// niceOffset is what the system call adds to a nice value, so that none is negative.
	niceOffset = 20
	// boostRounds bounds how often threads are looked for that were made meanwhile, with the nice value of the one before.
	boostRounds = 10
)

// boost gives the whole program its nice value, unless somebody has given it one already. Without it the program works,
// but where processors are spare.
func boost(log *slog.Logger) {
	nice, err := niceOf(0)
	for round, changed := 0, 1; round < boostRounds && nice == 0 && changed > 0 && err == nil; round++ {
		changed, err = boostThreads()
	}
	if err != nil {
		log.Warn("a sandbox that keeps all processors busy can make this collector lose events", "error", err)
	}
}

// boostThreads boosts each thread that is not, and returns how many those were.
func boostThreads() (changed int, err error) {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 0, fmt.Errorf("listing the threads: %w", err)
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			continue
		}
		if nice, err := niceOf(id); err != nil || nice == boostedNice {
			continue // it is gone, or was made by one that was boosted
		}
		err = unix.Setpriority(unix.PRIO_PROCESS, id, boostedNice)
		if errors.Is(err, unix.ESRCH) {
			continue // it has ended meanwhile
		}
		if err != nil {
			return changed, fmt.Errorf("setting the nice value of a thread to %d: %w", boostedNice, err)
		}
		changed++
	}
	return changed, nil
}

// niceOf is the nice value of a thread, 0 for the calling one.
func niceOf(thread int) (int, error) {
	nice, err := unix.Getpriority(unix.PRIO_PROCESS, thread)
	if err != nil {
		return 0, fmt.Errorf("reading a nice value: %w", err)
	}
	return niceOffset - nice, nil
}

// atNice runs f on a thread with this nice value, which what f starts inherits. The thread lives on: a program that asks for a
// signal when its parent dies, as sandboxes do, gets it when the thread ends that started it (PR_SET_PDEATHSIG).
func atNice(nice int, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		// Lowering is allowed to everybody, and raising to who was allowed to boost.
		if before, err := niceOf(0); err == nil {
			defer func() { _ = unix.Setpriority(unix.PRIO_PROCESS, 0, before) }()
		}
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, nice)
		f()
	}()
	<-done
}
