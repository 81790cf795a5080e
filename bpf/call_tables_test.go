// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"runtime"
	"testing"
)

// numbered is a system call by number, as it is on one architecture.
type numbered struct {
	name   string
	number int
	compat bool
	want   uint8
}

// TestCallTables holds what the probes make of numbers against what the kernel's headers say they are.
func TestCallTables(t *testing.T) {
	const (
		at     = uint8(fileCallCALL_AT)
		two    = uint8(fileCallCALL_TWO)
		rename = uint8(fileFileOperationFILE_RENAME)
		accept = uint8(networkSocketOperationSOCKET_ACCEPT)
	)
	type tables struct{ file, network []numbered }
	want, known := map[string]tables{
		"amd64": {
			file: []numbered{
				{"open", 2, false, uint8(fileCallCALL_OPEN)},
				{"renameat2", 316, false, rename | at | two},
				{"readv of x32", 515, false, uint8(fileCallCALL_READ)},
				{"pwritev2 of x32", 547, false, uint8(fileCallCALL_WRITE)},
				{"getppid", 110, false, 0},
				{"open of i386", 5, true, uint8(fileCallCALL_OPEN)},
				{"openat of i386", 295, true, uint8(fileCallCALL_OPENAT)},
				{"the old mmap of i386", 90, true, uint8(fileCallCALL_MMAP)},
			},
			network: []numbered{
				{"connect", 42, false, uint8(networkSocketOperationSOCKET_CONNECT)},
				{"accept4", 288, false, accept},
				{"getuid, whose number is that of socketcall", 102, false, 0},
				{"socketcall of i386", 102, true, 0x80},
				{"accept4 of i386", 364, true, accept},
			},
		},
		"arm64": {
			file: []numbered{
				{"openat", 56, false, uint8(fileCallCALL_OPENAT)},
				{"renameat2", 276, false, rename | at | two},
				{"mmap", 222, false, uint8(fileCallCALL_MMAP)},
				{"io_destroy, whose number is that of an open elsewhere", 1, false, 0},
				{"a number of x32", 515, false, 0},
				{"open of arm", 5, true, uint8(fileCallCALL_OPEN)},
				{"openat of arm", 322, true, uint8(fileCallCALL_OPENAT)},
				{"no call of arm: mmap of i386", 90, true, 0},
			},
			network: []numbered{
				{"connect", 203, false, uint8(networkSocketOperationSOCKET_CONNECT)},
				{"accept4", 242, false, accept},
				{"no call of arm: socketcall of i386", 102, true, 0},
				{"accept4 of arm", 366, true, accept},
			},
		},
	}[runtime.GOARCH]
	if !known {
		t.Fatalf("nothing is known of %s", runtime.GOARCH)
	}
	check := func(table *callTable, calls []numbered) {
		routes := table.routes()
		for _, c := range calls {
			place := 0
			if c.compat {
				place = 1
			}
			if got := table[place][c.number]; got != c.want {
				t.Errorf("%s (%d) is %#x, want %#x", c.name, c.number, got, c.want)
			}
			if routes[place][c.number] != (c.want != 0) {
				t.Errorf("%s (%d) is handed on: %v", c.name, c.number, routes[place][c.number])
			}
		}
	}
	check(newCallTable(fileCalls()), want.file)
	check(newCallTable(networkCalls()), want.network)
}

func TestFileRoutes(t *testing.T) {
	for call, want := range map[fileCall]syscallRoute{
		fileCallCALL_READ:     syscallRouteROUTE_READS,
		fileCallCALL_WRITE:    syscallRouteROUTE_WRITES,
		fileCallCALL_CLOSE:    syscallRouteROUTE_CLOSES,
		fileCallCALL_SENDFILE: 0,
		fileCallCALL_DUP2:     0,
		fileCallCALL_OPENAT:   0,
		0:                     0,
	} {
		got := fileRoutes(uint8(call), true)
		if got != uint16(want) {
			t.Errorf("of %#x it is %#x, want %#x", call, got, want)
		}
		if without := fileRoutes(uint8(call), false); without != uint16(want&^syscallRouteROUTE_MOVES) {
			t.Errorf("of %#x it is %#x where what is moved is not counted", call, without)
		}
		if got&uint16(syscallRouteROUTE_HANDED) != 0 {
			t.Errorf("%#x is a handler's bit", got)
		}
	}
}
