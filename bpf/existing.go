// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// maxExistingArguments is as much of the arguments as an exec tells.
	maxExistingArguments = 128 << 10
	// clockTick is the unit of start times in /proc: USER_HZ is 100 on every architecture.
	clockTick = time.Second / 100
)

// readArguments reads the arguments of a process that was found alive. They are the process's own memory,
// so its word, and missing when it ended since. A later process with its pid is told by its start time.
func readArguments(task *Task) (args []string, truncated bool) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/cmdline", task.PID))
	if err != nil {
		return nil, false
	}
	defer file.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(file, maxExistingArguments+1))
	if err != nil || !startedAt(task) {
		return nil, false
	}
	if len(text) > maxExistingArguments {
		text, truncated = text[:maxExistingArguments], true
	}
	return splitNUL(string(text)), truncated
}

// startedAt is whether the process that has the task's pid now is the task.
func startedAt(task *Task) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", task.PID))
	if err != nil {
		return false
	}
	// The name, field 2, may hold anything but ends at the last parenthesis. The start time is field 22.
	const afterName = 22 - 3
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) <= afterName {
		return false
	}
	ticks, err := strconv.ParseUint(fields[afterName], 10, 64)
	return err == nil && ticks == task.Start/uint64(clockTick)
}
