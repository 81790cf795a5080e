// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/collector/agent"
)

// task is a process as /proc tells of it. A pid of 0 is one that cannot be seen from here, or has ended.
type task struct {
	pid, parent uint32
	// start is in nanoseconds since boot, cut to agent.ClockTick.
	start uint64
	name  string
}

func (t task) origin(sandbox uint64) agent.Origin {
	return agent.Origin{Sandbox: sandbox, PID: t.pid, Start: t.start}
}

// identify finds the process that connected, and that it is alive: it waits for the answer.
func identify(connection *net.UnixConn) task {
	raw, err := connection.SyscallConn()
	if err != nil {
		return task{}
	}
	var found task
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
		t, ok := readTask(uint32(credentials.Pid))
		if !ok || err == nil && ended(pidfd) {
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

// readTask reads what is needed of /proc/PID/stat.
func readTask(pid uint32) (task, bool) {
	text, err := readProc(pid, "stat", 4<<10)
	if err != nil {
		return task{}, false
	}
	t, ok := parseStat(text)
	return t, ok && t.pid == pid
}

// parseStat takes /proc/PID/stat apart: "pid (name) state ppid …". The name may hold anything but ends at the last
// parenthesis; the start time is field 22.
func parseStat(text []byte) (task, bool) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 1 || end < open {
		return task{}, false
	}
	const parent, start = 4 - 3, 22 - 3
	fields := bytes.Fields(text[end+1:])
	if len(fields) <= start {
		return task{}, false
	}
	pid, pidErr := strconv.ParseUint(string(bytes.TrimSpace(text[:open])), 10, 32)
	ppid, parentErr := strconv.ParseUint(string(fields[parent]), 10, 32)
	ticks, startErr := strconv.ParseUint(string(fields[start]), 10, 53)
	if pidErr != nil || parentErr != nil || startErr != nil {
		return task{}, false
	}
	return task{uint32(pid), uint32(ppid), ticks * agent.ClockTick, string(text[open+1 : end])}, true
}

func readProc(pid uint32, file string, limit int64) ([]byte, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	return io.ReadAll(io.LimitReader(f, limit))
}

const (
	// maxWrappers is how many shells may stand between an agent and its hook.
	maxWrappers = 6
	// maxArguments and maxEnvironment bound what is read of a process's own memory.
	maxArguments   = 16 << 10
	maxEnvironment = 256 << 10
)

// trace finds the agent that started a hook: the nearest ancestor but shells. It is the hook itself when the
// ancestors are of another sandbox or gone, or when the hook runs inside of a tool call: then it is the tool that
// speaks, not the agent. name is the adapter's of a known agent, else "".
func (s *Server) trace(hook task, sandbox uint64) (origin, via agent.Origin, name string) {
	if hook.pid == 0 {
		return agent.Origin{}, agent.Origin{}, ""
	}
	own := hook.origin(sandbox)
	if insideCall(hook.pid) {
		return own, agent.Origin{}, ""
	}
	t := hook
	for range maxWrappers {
		parent, ok := readTask(t.parent)
		// A parent that is younger than its child is another process with the pid of one that ended.
		if !ok || parent.pid <= 1 || parent.start > t.start || s.settings.Sandbox(parent.pid) != sandbox {
			return own, agent.Origin{}, ""
		}
		if name := agent.Recognise(program(parent.pid)); name != "" {
			return parent.origin(sandbox), own, name
		}
		if !isWrapper(parent.name) {
			return parent.origin(sandbox), own, ""
		}
		t = parent
	}
	return own, agent.Origin{}, ""
}

// isWrapper says whether a program is one that agents put before a hook's command.
func isWrapper(name string) bool {
	return slices.Contains([]string{"sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "busybox", "env", "timeout"}, name)
}

// program is the executable and the arguments of a process; empty as far as they cannot be read.
func program(pid uint32) (executable string, args []string) {
	executable, _ = os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	executable = strings.TrimSuffix(executable, " (deleted)")
	if text, err := readProc(pid, "cmdline", maxArguments); err == nil {
		args = strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
	}
	return executable, args
}

// insideCall says whether a process's environment names a tool call. That is the process's word, and what it does
// not say the kernel's own record of it may (see agent.Statement).
func insideCall(pid uint32) bool {
	text, err := readProc(pid, "environ", maxEnvironment)
	if err != nil {
		return false
	}
	for variable := range bytes.SplitSeq(text, []byte{0}) {
		name, value, _ := bytes.Cut(variable, []byte("="))
		if len(value) > 0 && agent.NamesCall(string(name)) {
			return true
		}
	}
	return false
}
