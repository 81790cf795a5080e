/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
//go:build ignore

/*
 * The file probe: which files were opened, or tried to be, by whom, for what, and with what result.
 *
 * Owns the open family: open, openat, openat2, creat, of 64-bit and 32-bit callers. It must not decide
 * which files matter: that is the collector's.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "lib/descriptor.h"
#include "lib/event.h"
#include "lib/path.h"
#include "lib/sandbox.h"
#include "lib/syscall.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Macros of the kernel, which BTF does not carry. */
#define AT_FDCWD (-100)
#define O_CREAT 00000100
#define O_WRONLY 00000001
#define O_TRUNC 00001000
#define SYS_OPEN 2
#define SYS_CREAT 85
#define SYS_OPENAT 257
#define SYS_OPENAT2 437
#define COMPAT_SYS_OPEN 5
#define COMPAT_SYS_CREAT 8
#define COMPAT_SYS_OPENAT 295

enum file_kind {
	FILE_OPEN = 1,
};

/* open is the head of a record: path_size bytes of path follow. */
struct open {
	struct event_header header;
	__u64 inode;
	__u32 device;
	/* The inode's type and permission bits; 0 when the open failed. */
	__u32 mode;
	/* What the call asked for (O_ flags), and what the opened file has (O_ flags, FMODE_ bits). */
	__u32 asked;
	__u32 file_flags;
	__u32 file_mode;
	/* A positive error number; 0 for success. */
	__u32 error;
	/* enum path_flags. */
	__u32 path_flags;
	__u32 path_size;
};

/* open_record is a record under construction: what is sent of it is the head and path_size bytes. */
struct open_record {
	struct open open;
	__u8 path[PATH_END];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct open_record);
} open_records SEC(".maps");

/* open_call is a finished call of the open family. */
struct open_call {
	__u64 path;
	/* Where the flags of openat2 are; 0 for the other calls, whose flags are an argument. */
	__u64 how;
	__s32 directory;
	__u32 asked;
};

static __always_inline __u32 how_flags(__u64 how)
{
	__u64 flags = 0;

	bpf_probe_read_user(&flags, sizeof(flags), (void *)how);
	return (__u32)flags;
}

/* call_decode finds what an open asked for; it returns false for other system calls. */
static __always_inline bool call_decode(const struct pt_regs *regs, struct open_call *call)
{
	struct syscall_call finished = syscall_finished(regs);
	__u32 compat = finished.compat;
	__u32 number = finished.number;

	if (number == (compat ? COMPAT_SYS_OPENAT : SYS_OPENAT)) {
		call->directory = (__s32)syscall_argument_0(regs, compat);
		call->path = syscall_argument_1(regs, compat);
		call->asked = (__u32)syscall_argument_2(regs, compat);
		return true;
	}
	if (number == SYS_OPENAT2) {
		call->directory = (__s32)syscall_argument_0(regs, compat);
		call->path = syscall_argument_1(regs, compat);
		call->how = syscall_argument_2(regs, compat);
		return true;
	}
	call->directory = AT_FDCWD;
	call->path = syscall_argument_0(regs, compat);
	if (number == (compat ? COMPAT_SYS_OPEN : SYS_OPEN)) {
		call->asked = (__u32)syscall_argument_1(regs, compat);
		return true;
	}
	call->asked = O_CREAT | O_WRONLY | O_TRUNC;
	return number == (compat ? COMPAT_SYS_CREAT : SYS_CREAT);
}

/* opened_fill fills in what is known of an opened file, all of it from the kernel's object. */
static __always_inline void opened_fill(struct open_record *record, struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct path_walk *walk;

	record->open.inode = BPF_CORE_READ(inode, i_ino);
	record->open.device = BPF_CORE_READ(inode, i_sb, s_dev);
	record->open.mode = BPF_CORE_READ(inode, i_mode);
	record->open.file_flags = BPF_CORE_READ(file, f_flags);
	record->open.file_mode = (__u32)BPF_CORE_READ(file, f_mode);
	walk = path_resolve_file(0, file);
	if (!walk)
		return;
	record->open.path_flags = walk->flags;
	record->open.path_size = path_copy(record->path, walk);
}

/* path_is_absolute says whether the user's string of `size` bytes starts at the root. */
static __always_inline bool path_is_absolute(const struct open_record *record, __u32 size)
{
	return size > 0 && record->path[0] == '/';
}

/*
 * directory_prepend puts the directory that a relative path starts from before the path, when both
 * fit. The directory is the kernel's word, the path stays the caller's.
 */
static __always_inline void directory_prepend(struct open_record *record, __s32 directory)
{
	__u32 asked = record->open.path_size & PATH_BYTES;
	struct path_walk *walk;
	__u32 length;

	if (directory == AT_FDCWD) {
		walk = path_resolve_cwd(0);
	} else {
		struct file *file = descriptor_file((__u32)directory);

		if (!file)
			return;
		walk = path_resolve_file(0, file);
	}
	if (!walk)
		return;
	length = walk->length;
	if (length + 1 + asked > PATH_BYTES || (walk->flags & (PATH_TRUNCATED | PATH_PSEUDO)))
		return;
	/* After the directory's text, in the scratch that the walk leaves for this. */
	walk->bytes[PATH_END] = '/';
	bpf_probe_read_kernel(&walk->bytes[PATH_END + 1], asked, record->path);
	walk->length = length + 1 + asked;
	record->open.path_flags |= walk->flags & PATH_OUTSIDE;
	record->open.path_size = path_copy(record->path, walk);
}

/* failed_fill fills in what was asked for: the caller's word, since no file exists to ask. */
static __always_inline void failed_fill(struct open_record *record, const struct open_call *call)
{
	long size = bpf_probe_read_user_str(record->path, PATH_END, (void *)call->path);
	char last = 0;

	/* The size counts the NUL. */
	if (size <= 0)
		return;
	if (size == PATH_END &&
	    !bpf_probe_read_user(&last, sizeof(last), (void *)(call->path + PATH_BYTES)) && last)
		record->open.path_flags |= PATH_TRUNCATED;
	record->open.path_size = (__u32)(size - 1) & PATH_BYTES;
	if (record->open.path_size > 0 && !path_is_absolute(record, record->open.path_size))
		directory_prepend(record, call->directory);
}

/*
 * Reports every finished open: the file's own path, inode and mode for a success, the path asked for
 * with the error for a failure.
 *
 * Why at the exit: symlinks, relative paths, directory descriptors and bind mounts have been resolved
 * by then, by the kernel itself, so the path is that of the struct file behind the new descriptor, and
 * nothing the caller writes into its memory changes it. Read at the entry, 1 % of paths in a build lie
 * on pages that are not in memory; at the exit the kernel has just read them.
 * Why not lsm/file_open or fexit: they cost the rest of the node nothing, but many kernels refuse
 * both. Why not tracepoint/syscalls/sys_exit_open*: see lib/syscall.h. Since 5.5.
 * The test for the number goes before the scope: it is cheaper, and nearly every call of the machine
 * ends there.
 *
 * Misses: opens through io_uring and open_by_handle_at. When another thread puts a file of its own in
 * the place of the new descriptor before this runs, that file is told.
 */
SEC("tp_btf/sys_exit")
int BPF_PROG(file_on_sys_exit, struct pt_regs *regs, long ret)
{
	struct open_call call = {};
	struct open_record *record;
	struct file *file;
	__u64 sandbox, size;
	__u32 zero = 0;

	if (!call_decode(regs, &call))
		return 0;
	sandbox = sandbox_current();
	if (!sandbox)
		return 0;
	if (call.how)
		call.asked = how_flags(call.how);
	record = bpf_map_lookup_elem(&open_records, &zero);
	if (!record)
		return 0;
	event_header_fill(&record->open.header, sandbox, FILE_OPEN);
	__builtin_memset(&record->open.inode, 0,
			 sizeof(record->open) - offsetof(struct open, inode));
	record->open.asked = call.asked;
	if (ret < 0) {
		record->open.error = (__u32)-ret;
		failed_fill(record, &call);
	} else {
		file = descriptor_file((__u32)ret);
		/* Closed again by another thread already: what it was is gone, that it was opened is not. */
		if (file)
			opened_fill(record, file);
		else
			failed_fill(record, &call);
	}
	if (record->open.path_flags & PATH_TRUNCATED)
		record->open.header.flags |= EVENT_TRUNCATED;
	size = sizeof(record->open) + (record->open.path_size & PATH_BYTES);
	event_output_as(sandbox, EVENT_BULK | FILE_OPEN, record, size);
	return 0;
}

ABI_STRUCT(open);
