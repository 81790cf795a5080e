// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/watchglass/watchglass/event"
)

// syscallUnknown is the number under which the kernel side counts numbers that are no system call.
const syscallUnknown = 1024

// decodeSyscall refuses every record: the syscall probe only counts.
func decodeSyscall(_ *Record, kind uint16, _ []byte) error {
	return fmt.Errorf("%w: kind %d", errUnknown, kind)
}

// syscallName is the kernel's name of a system call, "syscall_NUMBER" where there is none yet. Calls of
// 32-bit programs have other numbers, and a suffix: "/i386" or "/arm".
func syscallName(number uint32, compat bool) string {
	names, suffix := syscallNames[:], ""
	if compat {
		names, suffix = compatSyscallNames[:], "/"+string(event.CompatABI())
	}
	switch {
	case number == syscallUnknown:
		return "unknown" + suffix
	case int(number) < len(names) && names[number] != "":
		return names[number] + suffix
	default:
		return "syscall_" + strconv.FormatUint(uint64(number), 10) + suffix
	}
}

// add adds one system call.
func (c *SyscallCounts) add(name string, n callCount) {
	if n.calls > 0 {
		c.Counts = append(c.Counts, event.Count{Name: name, N: int64(n.calls)})
	}
	if n.errors > 0 {
		c.Errors = append(c.Errors, event.Count{Name: name, N: int64(n.errors)})
	}
}

func compareCounts(a, b event.Count) int { return strings.Compare(a.Name, b.Name) }
