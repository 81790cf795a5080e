// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestSyscallName(t *testing.T) {
	for _, c := range []struct {
		number uint32
		compat bool
		want   string
	}{
		{unix.SYS_READ, false, "read"},
		{unix.SYS_OPENAT2, false, "openat2"},
		{5, true, "open/i386"},
		{295, true, "openat/i386"},
		{334, false, "rseq"},
		{400, false, "syscall_400"},
		{1023, false, "syscall_1023"},
		{syscallUnknown, false, "unknown"},
		{syscallUnknown, true, "unknown/i386"},
		{^uint32(0), true, "syscall_4294967295/i386"},
	} {
		if got := syscallName(c.number, c.compat); got != c.want {
			t.Errorf("syscallName(%d, %v) = %q, want %q", c.number, c.compat, got, c.want)
		}
	}
}
