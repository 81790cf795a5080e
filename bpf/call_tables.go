// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// fileCalls is what the file probe tells of each system call, by the kernel's name of it: an open, a mapping, bytes moved,
// or an operation with the form of its arguments. Numbers come from the kernel's own tables, in all calling conventions.
func fileCalls() map[string]uint8 {
	const (
		at         = uint8(fileCallCALL_AT)
		descriptor = uint8(fileCallCALL_DESCRIPTOR)
		two        = uint8(fileCallCALL_TWO)

		chmod    = uint8(fileFileOperationFILE_CHMOD)
		chown    = uint8(fileFileOperationFILE_CHOWN)
		truncate = uint8(fileFileOperationFILE_TRUNCATE)
	)
	calls := map[string]uint8{
		"open": uint8(fileCallCALL_OPEN), "openat": uint8(fileCallCALL_OPENAT), "openat2": uint8(fileCallCALL_OPENAT2),
		"creat": uint8(fileCallCALL_CREAT), "open_by_handle_at": uint8(fileCallCALL_OPEN_HANDLE),
		"close": uint8(fileCallCALL_CLOSE), "dup2": uint8(fileCallCALL_DUP2), "dup3": uint8(fileCallCALL_DUP2),
		"close_range": uint8(fileCallCALL_CLOSE_RANGE), "io_submit": uint8(fileCallCALL_SUBMIT),
		"mmap": uint8(fileCallCALL_MMAP), "mmap2": uint8(fileCallCALL_MMAP),
	}
	for kind, names := range map[uint8][]string{
		uint8(fileCallCALL_READ):     {"read", "readv", "pread64", "preadv", "preadv2"},
		uint8(fileCallCALL_WRITE):    {"write", "writev", "pwrite64", "pwritev", "pwritev2"},
		uint8(fileCallCALL_SENDFILE): {"sendfile", "sendfile64"},
		uint8(fileCallCALL_SPLICE):   {"splice", "copy_file_range"},

		truncate:              {"truncate", "truncate64"},
		truncate | descriptor: {"ftruncate", "ftruncate64"},
		chmod:                 {"chmod"},
		chmod | at:            {"fchmodat", "fchmodat2"},
		chmod | descriptor:    {"fchmod"},
		chown:                 {"chown", "lchown", "chown32", "lchown32"},
		chown | at:            {"fchownat"},
		chown | descriptor:    {"fchown", "fchown32"},

		uint8(fileFileOperationFILE_UNLINK):            {"unlink"},
		uint8(fileFileOperationFILE_UNLINK) | at:       {"unlinkat"},
		uint8(fileFileOperationFILE_RMDIR):             {"rmdir"},
		uint8(fileFileOperationFILE_MKDIR):             {"mkdir"},
		uint8(fileFileOperationFILE_MKDIR) | at:        {"mkdirat"},
		uint8(fileFileOperationFILE_MKNOD):             {"mknod"},
		uint8(fileFileOperationFILE_MKNOD) | at:        {"mknodat"},
		uint8(fileFileOperationFILE_SYMLINK):           {"symlink"},
		uint8(fileFileOperationFILE_SYMLINK) | at:      {"symlinkat"},
		uint8(fileFileOperationFILE_LINK) | two:        {"link"},
		uint8(fileFileOperationFILE_LINK) | two | at:   {"linkat"},
		uint8(fileFileOperationFILE_RENAME) | two:      {"rename"},
		uint8(fileFileOperationFILE_RENAME) | two | at: {"renameat", "renameat2"},
	} {
		for _, name := range names {
			calls[name] = kind
		}
	}
	return calls
}

// networkCalls is the operation on a socket that each system call is.
func networkCalls() map[string]uint8 {
	const many = 0x80 // CALL_MANY: any of them, by its first argument
	return map[string]uint8{
		"socket":     uint8(networkSocketOperationSOCKET_CREATE),
		"connect":    uint8(networkSocketOperationSOCKET_CONNECT),
		"accept":     uint8(networkSocketOperationSOCKET_ACCEPT),
		"accept4":    uint8(networkSocketOperationSOCKET_ACCEPT),
		"bind":       uint8(networkSocketOperationSOCKET_BIND),
		"listen":     uint8(networkSocketOperationSOCKET_LISTEN),
		"socketcall": many,
	}
}

// callSends is what a call is to the network probe that sends, and is none of its operations (CALL_SENDS).
const callSends = 0x40

// sendingCalls is the calls that send by a socket, and may name whom they send to.
func sendingCalls() []string { return []string{"sendto", "sendmsg", "sendmmsg"} }

// callTable is what a probe makes of each system call, by the number of 64-bit calls, which x32 shares, and of 32-bit ones.
type callTable [2][maxRoutes]uint8

// newCallTable finds the numbers of calls.
func newCallTable(byName map[string]uint8) *callTable {
	table := &callTable{}
	for abi := range notableNotableAbi(notableNotableAbiNOTABLE_ABIS) {
		place := tablePlace(abi)
		for number := range uint32(maxRoutes) {
			if what := byName[callName(number, abi)]; what != 0 {
				table[place][number] = what
			}
		}
	}
	return table
}

// tablePlace is which half of a table the numbers of a calling convention are in.
func tablePlace(abi notableNotableAbi) int {
	if abi == notableNotableAbiNOTABLE_COMPAT {
		return 1
	}
	return 0
}

// prepare fills the tables of an object.
func (t *callTable) prepare(spec *ebpf.CollectionSpec) error {
	for place, name := range []string{"native_calls", "compat_calls"} {
		variable := spec.Variables[name]
		if variable == nil {
			return fmt.Errorf("there is no table %s", name)
		}
		for number, what := range t[place] {
			if what != 0 && uint32(number) >= variable.Size() {
				return fmt.Errorf("the table %s has room for %d calls, not for number %d", name, variable.Size(), number)
			}
		}
		if err := variable.Set(t[place][:variable.Size()]); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return nil
}

// routes is the calls that the table has something about.
func (t *callTable) routes() *routes {
	r := &routes{}
	for place := range t {
		for number, what := range t[place] {
			r[place][number] = what != 0
		}
	}
	return r
}
