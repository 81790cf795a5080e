// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"

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

// readSyscallCounts reads the counters of every sandbox. The result is ordered by sandbox, and by name.
func readSyscallCounts(counters *ebpf.Map) ([]SyscallCounts, error) {
	bySandbox := map[uint64]*SyscallCounts{}
	// When a key is deleted meanwhile, the kernel starts again from the first: count each once.
	counted := map[syscallCounterKey]bool{}
	var key syscallCounterKey
	var perCPU []syscallCounter
	entries := counters.Iterate()
	for entries.Next(&key, &perCPU) {
		if counted[key] {
			continue
		}
		counted[key] = true
		counts := bySandbox[key.Sandbox]
		if counts == nil {
			counts = &SyscallCounts{Sandbox: key.Sandbox}
			bySandbox[key.Sandbox] = counts
		}
		counts.add(syscallName(key.Number, key.Compat != 0), perCPU)
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("reading system call counters: %w", err)
	}
	all := make([]SyscallCounts, 0, len(bySandbox))
	for _, counts := range bySandbox {
		slices.SortFunc(counts.Counts, compareCounts)
		slices.SortFunc(counts.Errors, compareCounts)
		all = append(all, *counts)
	}
	slices.SortFunc(all, func(a, b SyscallCounts) int {
		switch {
		case a.Sandbox < b.Sandbox:
			return -1
		case a.Sandbox > b.Sandbox:
			return 1
		}
		return 0
	})
	return all, nil
}

// add adds the counters of all CPUs of one system call.
func (c *SyscallCounts) add(name string, perCPU []syscallCounter) {
	var calls, failed uint64
	for _, cpu := range perCPU {
		calls += cpu.Calls
		failed += cpu.Errors
	}
	if calls > 0 {
		c.Counts = append(c.Counts, event.Count{Name: name, N: int64(calls)})
	}
	if failed > 0 {
		c.Errors = append(c.Errors, event.Count{Name: name, N: int64(failed)})
	}
}

func compareCounts(a, b event.Count) int { return strings.Compare(a.Name, b.Name) }

// forgetSyscallCounts deletes the counters of a sandbox that is no longer watched, for others to use.
func forgetSyscallCounts(counters *ebpf.Map, sandbox uint64) error {
	var key syscallCounterKey
	var perCPU []syscallCounter
	var old []syscallCounterKey
	entries := counters.Iterate()
	for entries.Next(&key, &perCPU) {
		if key.Sandbox == sandbox {
			old = append(old, key)
		}
	}
	if err := entries.Err(); err != nil {
		return fmt.Errorf("finding system call counters: %w", err)
	}
	for _, key := range old {
		if err := counters.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("deleting a system call counter: %w", err)
		}
	}
	return nil
}
