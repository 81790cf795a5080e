// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"strings"

	"golang.org/x/sys/unix"
)

// nowhere is a descriptor that is none. A name at address 0 cannot be read either: calls with these change nothing.
const nowhere = ^uintptr(0)

// fileTrampolines is how the file probe follows the trampoline plan. That the functions are reached is proved for each
// call that enters them by a way of its own; the entries themselves are reached from a table, and need no proof.
func fileTrampolines() trampolines {
	none := []byte("/dev/null/none\x00")
	name := address(none)
	opens := append(legacyOpens(), proof{number: unix.SYS_OPENAT, arguments: [5]uintptr{nowhere}})
	words := strings.Fields
	returns := func(program, functions, calls string, proofs ...proof) target {
		t := target{program: program, functions: words(functions), calls: words(calls), proofs: proofs}
		for _, function := range t.functions {
			t.proofs = append(t.proofs, legacyCalls()[function]...)
		}
		return t
	}
	moves := func(function, calls string, numbers ...uintptr) target {
		t := target{program: "file_on_moved", entry: "file_on_transfer", functions: words(function), calls: words(calls), moves: true}
		for _, number := range numbers {
			t.proofs = append(t.proofs, proof{number: number, opened: true})
		}
		return t
	}
	ends := func(functions, calls string, proofs ...proof) target {
		return returns("file_on_return", functions, calls, proofs...)
	}
	resolves := func(program, functions string) target {
		return target{program: program, functions: words(functions), optional: true}
	}
	at := func(number uintptr, arguments ...uintptr) proof {
		p := proof{number: number, arguments: [5]uintptr{nowhere}}
		copy(p.arguments[1:], arguments)
		return p
	}
	return trampolines{targets: []target{
		{program: "file_on_filp_open", functions: words("do_filp_open"), proofs: []proof{
			{number: unix.SYS_OPENAT, arguments: [5]uintptr{nowhere, name}, memory: none},
		}},
		// It is reached by what succeeds alone, from another file of the kernel's.
		{program: "file_on_open_root", functions: words("file_open_root")},
		{program: "file_on_mmap", functions: words("vm_mmap_pgoff"), proofs: []proof{mapsNothing()}},
		returns("file_on_open_return", "do_sys_openat2", "open openat openat2 creat", opens...),
		returns("file_on_open_return", "do_handle_open", "open_by_handle_at", at(unix.SYS_OPEN_BY_HANDLE_AT)),
		ends("do_unlinkat do_rmdir", "unlink rmdir unlinkat", at(unix.SYS_UNLINKAT), at(unix.SYS_UNLINKAT, 0, unix.AT_REMOVEDIR)),
		ends("do_renameat2", "rename renameat renameat2", at(unix.SYS_RENAMEAT, 0, nowhere), at(unix.SYS_RENAMEAT2, 0, nowhere)),
		ends("do_mkdirat", "mkdir mkdirat", at(unix.SYS_MKDIRAT)),
		ends("do_mknodat", "mknod mknodat", at(unix.SYS_MKNODAT)),
		ends("do_symlinkat", "symlink symlinkat", proof{number: unix.SYS_SYMLINKAT, arguments: [5]uintptr{0, nowhere}}),
		ends("do_linkat", "link linkat", at(unix.SYS_LINKAT, 0, nowhere)),
		ends("do_fchmodat", "chmod fchmodat fchmodat2", at(unix.SYS_FCHMODAT), at(unix.SYS_FCHMODAT2)),
		ends("do_fchownat", "chown lchown fchownat chown16 lchown16", at(unix.SYS_FCHOWNAT)),
		ends("ksys_fchown", "fchown fchown16", at(unix.SYS_FCHOWN)),
		ends("do_sys_truncate", "truncate ia32_truncate64 aarch32_truncate64", proof{number: unix.SYS_TRUNCATE}),
		ends("do_sys_ftruncate", "ftruncate ia32_ftruncate64 aarch32_ftruncate64", at(unix.SYS_FTRUNCATE)),
		// Reached from another file of the kernel's, by what has found its paths.
		resolves("file_on_path_entry", "security_path_unlink security_path_rmdir security_path_mkdir security_path_mknod"),
		resolves("file_on_path", "security_path_chmod security_path_chown security_path_truncate"),
		resolves("file_on_file_truncate", "security_file_truncate"),
		resolves("file_on_path_symlink", "security_path_symlink"),
		resolves("file_on_path_link", "security_path_link"),
		resolves("file_on_path_rename", "security_path_rename"),
		// No function does the work of fchmod from its start.
		ends("", "fchmod", at(unix.SYS_FCHMOD)),
		moves("vfs_read", "read pread64 ia32_pread64 aarch32_pread64", unix.SYS_READ, unix.SYS_PREAD64),
		moves("vfs_write", "write pwrite64 ia32_pwrite64 aarch32_pwrite64", unix.SYS_WRITE, unix.SYS_PWRITE64),
		moves("vfs_readv", "readv preadv preadv2 preadv64 preadv64v2", unix.SYS_READV, unix.SYS_PREADV, unix.SYS_PREADV2),
		moves("vfs_writev", "writev pwritev pwritev2 pwritev64 pwritev64v2", unix.SYS_WRITEV, unix.SYS_PWRITEV, unix.SYS_PWRITEV2),
		{
			program: "file_on_transfer", functions: words("do_sendfile"), calls: words("sendfile sendfile64"), moves: true,
			proofs: []proof{{number: unix.SYS_SENDFILE, arguments: [5]uintptr{nowhere, nowhere}}},
		},
		// Few make them, and no function of theirs knows the descriptors.
		{program: "file_on_transfer", calls: words("splice dup2 dup3 close_range"), moves: true},
		// It is reached by what succeeds alone. The types of Linux 6.1 have two entries of the call by one name.
		{program: "file_on_transfer", functions: words("vfs_copy_file_range"), calls: words("copy_file_range"), moves: true},
		{
			program: "file_on_submitted", entry: "file_on_submit", functions: words("aio_read aio_write"), calls: words("io_submit"), moves: true,
			optional: true, proofs: []proof{{number: unix.SYS_IO_SUBMIT, prepare: submitsRead}, {number: unix.SYS_IO_SUBMIT, prepare: submitsWrite}},
		},
		{program: "file_on_close", calls: words("close"), moves: true},
	}}
}

// mapsNothing makes a mapping of no file that is not to be run.
func mapsNothing() proof {
	return proof{number: unix.SYS_MMAP, arguments: [5]uintptr{0, 4096, unix.PROT_READ, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, nowhere}}
}

// networkTrampolines is how the network probe follows the trampoline plan.
func networkTrampolines() trampolines {
	ends := func(program, function string, numbers ...uintptr) target {
		t := target{program: program, functions: []string{function}}
		for _, number := range numbers {
			t.proofs = append(t.proofs, proof{number: number, arguments: [5]uintptr{nowhere}})
		}
		return t
	}
	return trampolines{targets: []target{
		ends("network_on_socket", "__sys_socket", unix.SYS_SOCKET),
		ends("network_on_bind", "__sys_bind", unix.SYS_BIND),
		ends("network_on_listen", "__sys_listen", unix.SYS_LISTEN),
		ends("network_on_accept", "__sys_accept4", unix.SYS_ACCEPT, unix.SYS_ACCEPT4),
		ends("network_on_connect", "__sys_connect", unix.SYS_CONNECT),
	}}
}

// trampolines is how the notable probe follows the trampoline plan: one program for all the calls of the table but those that
// every process of the node makes. They have programs of their own, which cost less: those that make memory executable on the
// functions that do their work, others on their entries.
func (t *notableTable) trampolines() trampolines {
	all := trampolines{
		program: "notable_on_return", each: "notable_on_each_return",
		// Asking for one's personality is no change of it.
		proofs: []proof{{number: unix.SYS_PERSONALITY, arguments: [5]uintptr{0xffffffff}}},
	}
	maps := target{program: "notable_on_map", functions: []string{"vm_mmap_pgoff"}, proofs: []proof{mapsNothing()}}
	protects := target{program: "notable_on_protect", functions: []string{"do_mprotect_pkey"}}
	for _, number := range []uintptr{unix.SYS_MPROTECT, unix.SYS_PKEY_MPROTECT} {
		protects.proofs = append(protects.proofs, proof{number: number, arguments: [5]uintptr{nowhere}})
	}
	enters := target{program: "notable_on_entry"}
	for _, n := range notableCalls() {
		switch {
		case n.often:
			enters.calls = append(enters.calls, entryNames(n.name)...)
		case n.maps:
			maps.calls = append(maps.calls, entryNames(n.name)...)
		case n.memory:
			protects.calls = append(protects.calls, entryNames(n.name)...)
		default:
			all.calls = append(all.calls, entryNames(n.name)...)
		}
	}
	all.targets = []target{maps, protects, enters}
	return all
}

// entryNames is the names of a call in those of its entries, where they are not the call's own.
func entryNames(call string) []string {
	if own := ownEntryNames()[call]; own != nil {
		return own
	}
	switch call {
	case "umount2":
		return []string{"umount"}
	case "clock_settime":
		return []string{"clock_settime", "clock_settime32"}
	case "clock_settime64":
		return []string{"clock_settime"}
	}
	for _, wide := range wideIdentities() {
		switch call {
		case wide:
			return []string{wide, wide + "16"}
		case wide + "32":
			return []string{wide}
		}
	}
	return []string{call}
}

// wideIdentities is the calls that 32-bit programs have with ids of 16 bits, and with "32" behind their names of 32.
func wideIdentities() []string {
	return []string{"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups"}
}
