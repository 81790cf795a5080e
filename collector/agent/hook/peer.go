// SPDX-License-Identifier: Apache-2.0

package hook

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/collector/agent/peer"
)

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
func (s *Server) trace(hook peer.Task) (origin, via agent.Origin, name string) {
	if hook.PID == 0 {
		return agent.Origin{}, agent.Origin{}, ""
	}
	own := hook.Origin()
	if insideCall(hook.PID) {
		return own, agent.Origin{}, ""
	}
	t := hook
	for range maxWrappers {
		parent, ok := peer.ReadTask(t.Parent)
		// A parent that is younger than its child is another process with the pid of one that ended.
		if !ok || parent.PID <= 1 || parent.Start > t.Start || s.settings.Sandbox(parent.PID) != hook.Sandbox {
			return own, agent.Origin{}, ""
		}
		parent.Sandbox = hook.Sandbox
		if name := agent.Recognise(program(parent.PID)); name != "" {
			return parent.Origin(), own, name
		}
		if !isWrapper(parent.Name) {
			return parent.Origin(), own, ""
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
