// SPDX-License-Identifier: Apache-2.0

package bpf

import "golang.org/x/sys/unix"

// notableCalls is every notable system call: the one table of them. Numbers come from the kernel's own
// tables by name, in all calling conventions.
func notableCalls() []notable {
	var all []notable
	for _, family := range [][]notable{
		processCalls(), namespaceCalls(), mountCalls(), identityCalls(), kernelCalls(), memoryCalls(),
	} {
		all = append(all, family...)
	}
	return all
}

// Shapes of arguments.
func number(name string) argument { return argument{name: name} }
func hex(name string) argument    { return argument{name: name, format: formatHex} }
func str(name string) argument    { return argument{name: name, format: formatString} }
func oneOf(name string, table []named) argument {
	return argument{name: name, format: formatOne, table: table}
}

func bitsOf(name string, table []named) argument {
	return argument{name: name, format: formatBits, table: table}
}
func untold() argument { return argument{} }

// processCalls reach into other processes.
func processCalls() []notable {
	pid, sig := number("pid"), argument{name: "sig", format: formatSignal}
	return []notable{
		{name: "ptrace", arguments: []argument{oneOf("request", ptraceRequests()), pid, hex("addr"), hex("data")}, only: values(ptraceRequests())},
		{name: "process_vm_readv", arguments: []argument{pid}},
		{name: "process_vm_writev", arguments: []argument{pid}},
		{name: "process_madvise", arguments: []argument{number("pidfd"), untold(), untold(), number("advice")}},
		{name: "pidfd_getfd", arguments: []argument{number("pidfd"), number("targetfd"), hex("flags")}},
		{name: "kcmp", arguments: []argument{number("pid1"), number("pid2"), number("type")}},
		// Of those that succeed the signal itself tells, with its target.
		{name: "kill", arguments: []argument{pid, sig}, denied: true},
		{name: "tkill", arguments: []argument{number("tid"), sig}, denied: true},
		// Go's runtime interrupts its threads by it.
		{name: "tgkill", arguments: []argument{number("tgid"), number("tid"), sig}, denied: true, often: true},
		{name: "rt_sigqueueinfo", arguments: []argument{pid, sig}, denied: true},
		{name: "rt_tgsigqueueinfo", arguments: []argument{number("tgid"), number("tid"), sig}, denied: true},
		{name: "pidfd_send_signal", arguments: []argument{number("pidfd"), sig}, denied: true},
		{name: "prctl", arguments: []argument{oneOf("option", prctlOptions()), hex("arg2"), hex("arg3")}, only: values(prctlOptions()), often: true},
		{name: "seccomp", arguments: []argument{oneOf("operation", []named{
			{unix.SECCOMP_SET_MODE_STRICT, "SECCOMP_SET_MODE_STRICT"},
			{unix.SECCOMP_SET_MODE_FILTER, "SECCOMP_SET_MODE_FILTER"},
			{unix.SECCOMP_GET_ACTION_AVAIL, "SECCOMP_GET_ACTION_AVAIL"},
			{unix.SECCOMP_GET_NOTIF_SIZES, "SECCOMP_GET_NOTIF_SIZES"},
		}), hex("flags")}},
		{name: "personality", arguments: []argument{hex("persona")}},
	}
}

// namespaceCalls change what of the node a process sees.
func namespaceCalls() []notable {
	return []notable{
		{name: "setns", arguments: []argument{number("fd"), bitsOf("nstype", namespaceFlags())}, namespaces: true},
		{name: "unshare", arguments: []argument{bitsOf("flags", namespaceFlags())}, namespaces: true},
		{name: "chroot", arguments: []argument{str("path")}},
		{name: "pivot_root", arguments: []argument{str("new_root"), str("put_old")}},
		{name: "open_by_handle_at", arguments: []argument{number("mount_fd"), untold(), hex("flags")}},
	}
}

// mountCalls change the file systems that are seen.
func mountCalls() []notable {
	return []notable{
		{name: "mount", arguments: []argument{str("source"), str("target"), str("filesystemtype"), bitsOf("mountflags", mountFlags())}},
		{name: "umount", arguments: []argument{str("target")}},
		{name: "umount2", arguments: []argument{str("target"), bitsOf("flags", []named{
			{unix.MNT_FORCE, "MNT_FORCE"}, {unix.MNT_DETACH, "MNT_DETACH"}, {unix.MNT_EXPIRE, "MNT_EXPIRE"}, {unix.UMOUNT_NOFOLLOW, "UMOUNT_NOFOLLOW"},
		})}},
		{name: "fsopen", arguments: []argument{str("fsname"), hex("flags")}},
		{name: "fspick", arguments: []argument{number("dfd"), str("path"), hex("flags")}},
		{name: "fsconfig", arguments: []argument{number("fd"), number("cmd"), str("key")}},
		{name: "fsmount", arguments: []argument{number("fsfd"), hex("flags"), hex("attr_flags")}},
		{name: "open_tree", arguments: []argument{number("dfd"), str("path"), hex("flags")}},
		{name: "move_mount", arguments: []argument{number("from_dfd"), str("from_path"), number("to_dfd"), str("to_path"), hex("flags")}},
		{name: "mount_setattr", arguments: []argument{
			number("dfd"), str("path"), hex("flags"),
			{name: "attr", format: formatWide, table: []named{{0, "attr_set"}, {0, "attr_clr"}}},
		}},
		{name: "quotactl", arguments: []argument{hex("cmd"), str("special"), number("id")}},
		{name: "quotactl_fd", arguments: []argument{number("fd"), hex("cmd"), number("id")}},
		{name: "swapon", arguments: []argument{str("path"), hex("flags")}},
		{name: "swapoff", arguments: []argument{str("path")}},
	}
}

// identityCalls change who a process acts as. i386 has each with ids of 16 and of 32 bits.
func identityCalls() []notable {
	var all []notable
	for _, suffix := range []string{"", "32"} {
		all = append(all,
			notable{name: "setuid" + suffix, arguments: []argument{number("uid")}},
			notable{name: "setgid" + suffix, arguments: []argument{number("gid")}},
			notable{name: "setreuid" + suffix, arguments: []argument{number("ruid"), number("euid")}},
			notable{name: "setregid" + suffix, arguments: []argument{number("rgid"), number("egid")}},
			notable{name: "setresuid" + suffix, arguments: []argument{number("ruid"), number("euid"), number("suid")}},
			notable{name: "setresgid" + suffix, arguments: []argument{number("rgid"), number("egid"), number("sgid")}},
			notable{name: "setfsuid" + suffix, arguments: []argument{number("fsuid")}},
			notable{name: "setfsgid" + suffix, arguments: []argument{number("fsgid")}},
			notable{name: "setgroups" + suffix, arguments: []argument{number("size")}},
		)
	}
	return append(all,
		notable{name: "capset"},
		notable{name: "keyctl", arguments: []argument{oneOf("operation", keyctlOperations()), hex("arg2"), hex("arg3"), hex("arg4")}},
		notable{name: "add_key", arguments: []argument{str("type"), str("description"), untold(), number("plen"), number("keyring")}},
		notable{name: "request_key", arguments: []argument{str("type"), str("description"), str("callout_info"), number("dest_keyring")}},
	)
}

// kernelCalls change the kernel or the machine.
func kernelCalls() []notable {
	return []notable{
		{name: "bpf", arguments: []argument{
			oneOf("cmd", bpfCommands()), {name: "attr", format: formatPointed, table: []named{{0, "attr0"}, {0, "attr1"}}}, number("size"),
		}},
		{name: "perf_event_open", arguments: []argument{
			{name: "attr", format: formatPointed, table: []named{{0, "type"}, {0, "size"}, {0, "config"}}}, number("pid"), number("cpu"), number("group_fd"), hex("flags"),
		}},
		{name: "init_module", arguments: []argument{untold(), number("len"), str("param_values")}},
		{name: "finit_module", arguments: []argument{number("fd"), str("param_values"), hex("flags")}},
		{name: "delete_module", arguments: []argument{str("name"), hex("flags")}},
		{name: "kexec_load", arguments: []argument{hex("entry"), number("nr_segments"), untold(), hex("flags")}},
		{name: "kexec_file_load", arguments: []argument{number("kernel_fd"), number("initrd_fd"), untold(), str("cmdline"), hex("flags")}},
		{name: "reboot", arguments: []argument{hex("magic"), hex("magic2"), hex("op")}},
		{name: "iopl", arguments: []argument{number("level")}},
		{name: "ioperm", arguments: []argument{hex("from"), hex("num"), number("turn_on")}},
		{name: "syslog", arguments: []argument{number("type")}},
		{name: "acct", arguments: []argument{str("filename")}},
		{name: "settimeofday"},
		{name: "clock_settime", arguments: []argument{number("clockid")}},
		{name: "clock_settime64", arguments: []argument{number("clockid")}},
		{name: "stime"},
		{name: "sethostname", arguments: []argument{untold(), number("len")}},
		{name: "setdomainname", arguments: []argument{untold(), number("len")}},
		{name: "fanotify_init", arguments: []argument{hex("flags"), hex("event_f_flags")}},
	}
}

// memoryCalls make memory or queues that other checks do not see.
func memoryCalls() []notable {
	return []notable{
		{name: "memfd_create", arguments: []argument{str("name"), bitsOf("flags", []named{
			{unix.MFD_CLOEXEC, "MFD_CLOEXEC"},
			{unix.MFD_ALLOW_SEALING, "MFD_ALLOW_SEALING"},
			{unix.MFD_HUGETLB, "MFD_HUGETLB"},
			{unix.MFD_NOEXEC_SEAL, "MFD_NOEXEC_SEAL"},
			{unix.MFD_EXEC, "MFD_EXEC"},
		})}},
		// Of these only what makes memory executable that is no unchanged file, the first of each form in a process.
		{name: "mmap", arguments: protected(bitsOf("flags", mapFlags()), number("fd")), memory: true, maps: true},
		{name: "mmap2", arguments: protected(bitsOf("flags", mapFlags()), number("fd")), memory: true, maps: true},
		{name: "mprotect", arguments: protected(), memory: true},
		{name: "pkey_mprotect", arguments: protected(number("pkey")), memory: true},
		{name: "memfd_secret", arguments: []argument{hex("flags")}},
		{name: "userfaultfd", arguments: []argument{hex("flags")}},
		{name: "io_uring_setup", arguments: []argument{
			number("entries"), {name: "params", format: formatPointed, table: []named{{}, {}, {0, "flags"}}},
		}},
	}
}

// protected is the arguments of the calls that say what may be done to memory.
func protected(more ...argument) []argument {
	return append([]argument{hex("addr"), hex("len"), bitsOf("prot", []named{
		{unix.PROT_READ, "PROT_READ"},
		{unix.PROT_WRITE, "PROT_WRITE"},
		{unix.PROT_EXEC, "PROT_EXEC"},
		{unix.PROT_GROWSDOWN, "PROT_GROWSDOWN"},
		{unix.PROT_GROWSUP, "PROT_GROWSUP"},
	})}, more...)
}

// mapFlags is the bits of mmap(2) that say what memory it is.
func mapFlags() []named {
	return []named{
		{unix.MAP_SHARED, "MAP_SHARED"},
		{unix.MAP_PRIVATE, "MAP_PRIVATE"},
		{unix.MAP_FIXED, "MAP_FIXED"},
		{unix.MAP_ANONYMOUS, "MAP_ANONYMOUS"},
		{unix.MAP_NORESERVE, "MAP_NORESERVE"},
		{unix.MAP_STACK, "MAP_STACK"},
	}
}

// values is the values of a table.
func values(table []named) []uint32 {
	all := make([]uint32, 0, len(table))
	for _, v := range table {
		all = append(all, uint32(v.value))
	}
	return all
}

// namespaceFlags is the bits that ask for namespaces.
func namespaceFlags() []named {
	return []named{
		{unix.CLONE_NEWUSER, "CLONE_NEWUSER"},
		{unix.CLONE_NEWNS, "CLONE_NEWNS"},
		{unix.CLONE_NEWPID, "CLONE_NEWPID"},
		{unix.CLONE_NEWNET, "CLONE_NEWNET"},
		{unix.CLONE_NEWIPC, "CLONE_NEWIPC"},
		{unix.CLONE_NEWUTS, "CLONE_NEWUTS"},
		{unix.CLONE_NEWCGROUP, "CLONE_NEWCGROUP"},
		{unix.CLONE_NEWTIME, "CLONE_NEWTIME"},
		{unix.CLONE_FS, "CLONE_FS"},
		{unix.CLONE_FILES, "CLONE_FILES"},
		{unix.CLONE_SYSVSEM, "CLONE_SYSVSEM"},
	}
}

// ptraceRequests is those that begin tracing or change the other process. Reading its memory word by word is left out:
// it began with one of these.
func ptraceRequests() []named {
	const pokeUser, setRegs, setFPRegs, setFPXRegs = 6, 13, 15, 19
	return []named{
		{unix.PTRACE_TRACEME, "PTRACE_TRACEME"},
		{unix.PTRACE_ATTACH, "PTRACE_ATTACH"},
		{unix.PTRACE_SEIZE, "PTRACE_SEIZE"},
		{unix.PTRACE_POKETEXT, "PTRACE_POKETEXT"},
		{unix.PTRACE_POKEDATA, "PTRACE_POKEDATA"},
		{pokeUser, "PTRACE_POKEUSR"},
		{setRegs, "PTRACE_SETREGS"},
		{setFPRegs, "PTRACE_SETFPREGS"},
		{setFPXRegs, "PTRACE_SETFPXREGS"},
		{unix.PTRACE_SETREGSET, "PTRACE_SETREGSET"},
		{unix.PTRACE_SETSIGINFO, "PTRACE_SETSIGINFO"},
	}
}

// prctlOptions is those that matter to what a process may do, or to who may look into it.
func prctlOptions() []named {
	return []named{
		{unix.PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS"},
		{unix.PR_SET_DUMPABLE, "PR_SET_DUMPABLE"},
		{unix.PR_CAPBSET_DROP, "PR_CAPBSET_DROP"},
		{unix.PR_SET_MM, "PR_SET_MM"},
		{unix.PR_SET_PTRACER, "PR_SET_PTRACER"},
		{unix.PR_SET_SECCOMP, "PR_SET_SECCOMP"},
		{unix.PR_CAP_AMBIENT, "PR_CAP_AMBIENT"},
		{unix.PR_SET_SECUREBITS, "PR_SET_SECUREBITS"},
		{unix.PR_SET_KEEPCAPS, "PR_SET_KEEPCAPS"},
	}
}

// mountFlags is the bits of mount(2).
func mountFlags() []named {
	return []named{
		{unix.MS_RDONLY, "MS_RDONLY"},
		{unix.MS_NOSUID, "MS_NOSUID"},
		{unix.MS_NODEV, "MS_NODEV"},
		{unix.MS_NOEXEC, "MS_NOEXEC"},
		{unix.MS_REMOUNT, "MS_REMOUNT"},
		{unix.MS_BIND, "MS_BIND"},
		{unix.MS_MOVE, "MS_MOVE"},
		{unix.MS_REC, "MS_REC"},
		{unix.MS_UNBINDABLE, "MS_UNBINDABLE"},
		{unix.MS_PRIVATE, "MS_PRIVATE"},
		{unix.MS_SLAVE, "MS_SLAVE"},
		{unix.MS_SHARED, "MS_SHARED"},
	}
}

// keyctlOperations is the common ones; others are told by number.
func keyctlOperations() []named {
	return []named{
		{unix.KEYCTL_GET_KEYRING_ID, "KEYCTL_GET_KEYRING_ID"},
		{unix.KEYCTL_JOIN_SESSION_KEYRING, "KEYCTL_JOIN_SESSION_KEYRING"},
		{unix.KEYCTL_UPDATE, "KEYCTL_UPDATE"},
		{unix.KEYCTL_REVOKE, "KEYCTL_REVOKE"},
		{unix.KEYCTL_CHOWN, "KEYCTL_CHOWN"},
		{unix.KEYCTL_SETPERM, "KEYCTL_SETPERM"},
		{unix.KEYCTL_DESCRIBE, "KEYCTL_DESCRIBE"},
		{unix.KEYCTL_LINK, "KEYCTL_LINK"},
		{unix.KEYCTL_UNLINK, "KEYCTL_UNLINK"},
		{unix.KEYCTL_SEARCH, "KEYCTL_SEARCH"},
		{unix.KEYCTL_READ, "KEYCTL_READ"},
		{unix.KEYCTL_GET_PERSISTENT, "KEYCTL_GET_PERSISTENT"},
	}
}

// bpfCommands is the common ones; others are told by number.
func bpfCommands() []named {
	return []named{
		{unix.BPF_MAP_CREATE, "BPF_MAP_CREATE"},
		{unix.BPF_MAP_LOOKUP_ELEM, "BPF_MAP_LOOKUP_ELEM"},
		{unix.BPF_MAP_UPDATE_ELEM, "BPF_MAP_UPDATE_ELEM"},
		{unix.BPF_MAP_DELETE_ELEM, "BPF_MAP_DELETE_ELEM"},
		{unix.BPF_MAP_GET_NEXT_KEY, "BPF_MAP_GET_NEXT_KEY"},
		{unix.BPF_PROG_LOAD, "BPF_PROG_LOAD"},
		{unix.BPF_OBJ_PIN, "BPF_OBJ_PIN"},
		{unix.BPF_OBJ_GET, "BPF_OBJ_GET"},
		{unix.BPF_PROG_ATTACH, "BPF_PROG_ATTACH"},
		{unix.BPF_PROG_DETACH, "BPF_PROG_DETACH"},
		{unix.BPF_BTF_LOAD, "BPF_BTF_LOAD"},
		{unix.BPF_LINK_CREATE, "BPF_LINK_CREATE"},
		{unix.BPF_LINK_DETACH, "BPF_LINK_DETACH"},
		{unix.BPF_RAW_TRACEPOINT_OPEN, "BPF_RAW_TRACEPOINT_OPEN"},
	}
}
