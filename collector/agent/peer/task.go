// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/collector/agent"
)

// Task is a process as /proc tells of it. A PID of 0 is one that cannot be seen from here, or has ended.
type Task struct {
	PID, Parent uint32
	// Start is in nanoseconds since boot, cut to agent.ClockTick.
	Start uint64
	// Name is the process's own, as it is now: hostile.
	Name string
	// Sandbox is the cgroup id of the watched sandbox that it is in, 0 for none; only OfUnix looks for it.
	Sandbox uint64
}

// Origin is the task as the sender of what a sandbox says.
func (t Task) Origin() agent.Origin {
	return agent.Origin{Sandbox: t.Sandbox, PID: t.PID, Start: t.Start}
}

// OfUnix is the process that connected a unix socket, and was alive still when all of it was known.
func OfUnix(c *net.UnixConn, sandbox func(pid uint32) uint64) Task {
	raw, err := c.SyscallConn()
	if err != nil {
		return Task{}
	}
	var found Task
	_ = raw.Control(func(fd uintptr) {
		credentials, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil || credentials.Pid <= 0 {
			return
		}
		// One that connects, gives its descriptor away and ends leaves a pid that can come to mean another process. A
		// pidfd tells; before Linux 6.5 a socket gives none.
		pidfd, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD)
		if err == nil {
			defer func() { _ = unix.Close(pidfd) }()
		}
		t, ok := ReadTask(uint32(credentials.Pid))
		if !ok {
			return
		}
		t.Sandbox = sandbox(t.PID)
		if err == nil && ended(pidfd) {
			return
		}
		found = t
	})
	return found
}

// ended says whether the process of a pidfd has: it is readable then.
func ended(pidfd int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 0)
	return err != nil || n != 0
}

// ReadTask reads what is needed of /proc/PID/stat; false when there is no such process.
func ReadTask(pid uint32) (Task, bool) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Task{}, false
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxStat))
	if err != nil {
		return Task{}, false
	}
	t, ok := parseStat(text)
	return t, ok && t.PID == pid
}

// parseStat takes /proc/PID/stat apart: "pid (name) state ppid …". The name may hold anything but ends at the last
// parenthesis; the start time is field 22.
func parseStat(text []byte) (Task, bool) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 1 || end < open {
		return Task{}, false
	}
	const parent, start = 4 - 3, 22 - 3
	fields := bytes.Fields(text[end+1:])
	if len(fields) <= start {
		return Task{}, false
	}
	pid, pidErr := strconv.ParseUint(string(bytes.TrimSpace(text[:open])), 10, 32)
	ppid, parentErr := strconv.ParseUint(string(fields[parent]), 10, 32)
	ticks, startErr := strconv.ParseUint(string(fields[start]), 10, 53)
	if pidErr != nil || parentErr != nil || startErr != nil {
		return Task{}, false
	}
	return Task{PID: uint32(pid), Parent: uint32(ppid), Start: ticks * agent.ClockTick, Name: string(text[open+1 : end])}, true
}
