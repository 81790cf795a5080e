/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
//go:build ignore

/*
 * The uring probe: what is done to files through io_uring, which makes no system call of its own: one
 * io_uring_enter submits any number of operations, and with SQPOLL a kernel thread does without even that.
 *
 * Owns opens and changes of names that come through a ring. They are told as those of system calls are,
 * and marked. What a ring connects or sends, the network probe's hooks see by themselves.
 *
 * How the programs share the work:
 *   uring_on_submit_req/sqe   notes what an operation asks for: the kernel has its own copy of the path by
 *                             then, so nothing that another thread writes changes it
 *   uring_on_complete         tells it, with its result
 *
 * The task that submits is the ring's owner, also for SQPOLL: the kernel's thread is one of the process
 * that made the ring, in its cgroup.
 *
 * Misses: the result and the file of what completes without a word
 * (IOSQE_CQE_SKIP_SUCCESS), or beyond URING_PENDING at once: that is told when it is submitted, and marked
 * as unfinished; the file of an open into a direct descriptor, whose path is then the one asked for.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define PATH_SLOTS 2

#include "lib/compat.h"
#include "lib/descriptor.h"
#include "lib/event.h"
#include "lib/filerecord.h"
#include "lib/path.h"
#include "lib/sandbox.h"
#include "lib/transfer.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Numbers of the kernel's interface, which BTF does not carry under a name that can be asked for. */
#define IORING_READV 1
#define IORING_WRITEV 2
#define IORING_READ_FIXED 4
#define IORING_WRITE_FIXED 5
#define IORING_OPENAT 18
#define IORING_READ 22
#define IORING_WRITE 23
#define IORING_OPENAT2 28
#define IORING_SPLICE 30
#define IORING_RENAMEAT 35
#define IORING_UNLINKAT 36
#define IORING_MKDIRAT 37
#define IORING_SYMLINKAT 38
#define IORING_LINKAT 39
#define IORING_READ_MULTISHOT 49
#define IORING_FTRUNCATE 55
#define IORING_READV_FIXED 60
#define IORING_WRITEV_FIXED 61
/* IOSQE_CQE_SKIP_SUCCESS: the request's flags start with those of its entry. */
#define REQUEST_SKIPS_SUCCESS (1 << 6)
#define AT_REMOVEDIR 0x200

/* URING_PENDING bounds the operations that wait for their result. */
#define URING_PENDING 512
/* URING_TEXT is the longest path that is kept until then; a longer one is cut, and marked. */
#define URING_TEXT 1024
#define URING_TEXT_MASK 1023

/* pending is an operation that was submitted. */
struct pending {
	struct event_header header;
	/* enum file_operation; 0 for an open. */
	__u32 operation;
	__u32 opcode;
	__u32 asked;
	__u32 mode;
	__u64 length;
	__u32 path_flags;
	__u32 path_size;
	__u32 second_size;
	__u32 direct;
	__u8 path[URING_TEXT];
	__u8 second[URING_TEXT];
};

/* pending_calls is by the kernel's request, preallocated: what submits may not sleep, and comes in batches. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, URING_PENDING);
	__type(key, __u64);
	__type(value, struct pending);
} pending_calls SEC(".maps");

/* pending_rooms is where one is put together: larger than a program's stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pending);
} pending_rooms SEC(".maps");

/* pending_text keeps a claim's text, the end of it where it is too long: a path's own name is there. */
static __always_inline __u32 pending_text(struct pending *pending, __u8 *text,
					  const struct claim *claim)
{
	__u32 size = claim->size & PATH_BYTES;
	__u32 skip = 0;

	pending->path_flags |= claim->flags;
	if (size > URING_TEXT_MASK) {
		skip = size - URING_TEXT_MASK;
		size = URING_TEXT_MASK;
		pending->path_flags |= PATH_TRUNCATED;
	}
	if (bpf_probe_read_kernel(text, size & URING_TEXT_MASK, &claim->bytes[skip & PATH_BYTES]))
		return 0;
	return size;
}

__noinline int pending_path(__u64 name, __s32 directory)
{
	__u32 zero = 0;
	struct pending *pending = bpf_map_lookup_elem(&pending_rooms, &zero);
	struct claim *claim = claim_kernel(0, (struct filename *)name, directory, FILE_WALK);

	if (!pending || !claim)
		return -1;
	pending->path_size = pending_text(pending, pending->path, claim);
	return 0;
}

__noinline int pending_second(__u64 name, __s32 directory)
{
	__u32 zero = 0;
	struct pending *pending = bpf_map_lookup_elem(&pending_rooms, &zero);
	struct claim *claim = claim_kernel(1, (struct filename *)name, directory, FILE_WALK);

	if (!pending || !claim)
		return -1;
	pending->second_size = pending_text(pending, pending->second, claim);
	return 0;
}

/* request_decode reads what a request asks for; false for operations that are not told here. */
static __always_inline bool request_decode(struct pending *pending, struct io_kiocb *request)
{
	struct io_unlink *unlink = (void *)request;
	struct io_rename *rename = (void *)request;
	struct io_mkdir *mkdir = (void *)request;
	struct io_link *link = (void *)request;
	struct io_open *open = (void *)request;

	switch (pending->opcode) {
	case IORING_OPENAT:
	case IORING_OPENAT2:
		pending->asked = (__u32)BPF_CORE_READ(open, how.flags);
		pending->direct = BPF_CORE_READ(open, file_slot) != 0;
		pending_path((__u64)BPF_CORE_READ(open, filename), BPF_CORE_READ(open, dfd));
		return true;
	case IORING_UNLINKAT:
		pending->operation =
			BPF_CORE_READ(unlink, flags) & AT_REMOVEDIR ? FILE_RMDIR : FILE_UNLINK;
		pending_path((__u64)BPF_CORE_READ(unlink, filename), BPF_CORE_READ(unlink, dfd));
		return true;
	case IORING_MKDIRAT:
		pending->operation = FILE_MKDIR;
		pending->mode = BPF_CORE_READ(mkdir, mode);
		pending_path((__u64)BPF_CORE_READ(mkdir, filename), BPF_CORE_READ(mkdir, dfd));
		return true;
	case IORING_RENAMEAT:
		pending->operation = FILE_RENAME;
		pending_path((__u64)BPF_CORE_READ(rename, oldpath), BPF_CORE_READ(rename, old_dfd));
		pending_second((__u64)BPF_CORE_READ(rename, newpath),
			       BPF_CORE_READ(rename, new_dfd));
		return true;
	case IORING_LINKAT:
		pending->operation = FILE_LINK;
		pending_path((__u64)BPF_CORE_READ(link, oldpath), BPF_CORE_READ(link, old_dfd));
		pending_second((__u64)BPF_CORE_READ(link, newpath), BPF_CORE_READ(link, new_dfd));
		return true;
	case IORING_SYMLINKAT:
		pending->operation = FILE_SYMLINK;
		pending_path((__u64)BPF_CORE_READ(link, newpath), BPF_CORE_READ(link, new_dfd));
		/* What a symlink says is a text, not a path from anywhere. */
		pending_second((__u64)BPF_CORE_READ(link, oldpath), -1);
		return true;
	}
	return false;
}

/* pending_open tells of an open: the opened file's own path, with the one that the kernel was asked for. */
static __always_inline void pending_open(struct pending *pending, struct open_record *record,
					 __s32 result)
{
	struct file *file = NULL;

	record->open.asked = pending->asked;
	if (result >= 0 && !pending->direct && !(record->open.marks & FILE_UNFINISHED))
		file = descriptor_file((__u32)result);
	if (file) {
		open_record_file(record, file);
		if (compat_file_references(file) != 1)
			record->open.marks |= FILE_RACED;
		record->open.asked_size =
			tail_append(record->tail, record->open.path_size + record->open.host_size,
				    pending->path, pending->path_size & URING_TEXT_MASK);
		return;
	}
	record->open.marks |= FILE_CLAIMED;
	record->open.path_flags = pending->path_flags;
	record->open.path_size =
		tail_append(record->tail, 0, pending->path, pending->path_size & URING_TEXT_MASK);
}

static __always_inline void pending_change(struct pending *pending, struct change_record *record)
{
	record->change.operation = pending->operation;
	record->change.asked_mode = pending->mode;
	record->change.marks |= FILE_CLAIMED;
	record->change.path_flags = pending->path_flags;
	record->change.path_size =
		tail_append(record->tail, 0, pending->path, pending->path_size & URING_TEXT_MASK);
	record->change.second_size =
		tail_append(record->tail, record->change.path_size, pending->second,
			    pending->second_size & URING_TEXT_MASK);
}

/* pending_tell tells of an operation: one that is unfinished has no result. */
static __always_inline void pending_tell(struct pending *pending, __s32 result, __u32 marks)
{
	__u64 sandbox = pending->header.sandbox;
	struct change_record *change;
	struct open_record *open;
	__u32 zero = 0;

	marks |= FILE_URING;
	if (pending->operation) {
		change = bpf_map_lookup_elem(&change_records, &zero);
		if (!change)
			return;
		__builtin_memset(&change->change, 0, sizeof(change->change));
		change->change.header = pending->header;
		change->change.header.kind = FILE_CHANGE;
		change->change.header.time = bpf_ktime_get_boot_ns();
		change->change.marks = marks;
		change->change.error = result < 0 ? (__u32)-result : 0;
		pending_change(pending, change);
		change_record_submit(sandbox, change);
		return;
	}
	open = bpf_map_lookup_elem(&open_records, &zero);
	if (!open)
		return;
	__builtin_memset(&open->open, 0, sizeof(open->open));
	open->open.header = pending->header;
	open->open.header.time = bpf_ktime_get_boot_ns();
	open->open.marks = marks;
	open->open.error = result < 0 ? (__u32)-result : 0;
	pending_open(pending, open, result);
	open_record_submit(sandbox, open, FILE_OPEN);
}

/* request_submitted notes an operation of a sandbox, or tells it at once where there will be no result. */
static __always_inline int request_submitted(struct io_kiocb *request)
{
	__u32 opcode = BPF_CORE_READ(request, opcode);
	struct pending *pending, *forgotten;
	__u64 key = (__u64)request;
	__u32 zero = 0;
	__u64 sandbox;

	if (opcode != IORING_OPENAT && opcode != IORING_OPENAT2 &&
	    (opcode < IORING_RENAMEAT || opcode > IORING_LINKAT))
		return 0;
	sandbox = sandbox_current();
	if (!sandbox)
		return 0;
	/* Its result was never told, and the kernel uses the request for another operation. */
	forgotten = bpf_map_lookup_elem(&pending_calls, &key);
	if (forgotten)
		pending_tell(forgotten, 0, FILE_UNFINISHED);
	pending = bpf_map_lookup_elem(&pending_rooms, &zero);
	if (!pending)
		return 0;
	event_header_fill(&pending->header, sandbox, FILE_OPEN);
	__builtin_memset(&pending->operation, 0,
			 offsetof(struct pending, path) - offsetof(struct pending, operation));
	pending->opcode = opcode;
	if (!request_decode(pending, request))
		return 0;
	if (((__u32)BPF_CORE_READ(request, flags) & REQUEST_SKIPS_SUCCESS) ||
	    bpf_map_update_elem(&pending_calls, &key, pending, BPF_ANY))
		pending_tell(pending, 0, FILE_UNFINISHED);
	return 0;
}

/*
 * request_moved counts what a completed operation read or wrote. Of a splice only what it wrote: its other end is
 * kept where it cannot be found any more.
 */
static __always_inline void request_moved(struct io_kiocb *request, __s32 result)
{
	__u32 opcode = BPF_CORE_READ(request, opcode);
	struct transfer_room *room;
	__u64 read = 0, written = 0;
	__u64 sandbox;

	switch (opcode) {
	case IORING_READV:
	case IORING_READ_FIXED:
	case IORING_READ:
	case IORING_READ_MULTISHOT:
	case IORING_READV_FIXED:
		read = (__u32)result;
		break;
	case IORING_WRITEV:
	case IORING_WRITE_FIXED:
	case IORING_WRITE:
	case IORING_WRITEV_FIXED:
	case IORING_SPLICE:
		written = (__u32)result;
		break;
	default:
		return;
	}
	sandbox = sandbox_current();
	room = transfer_room();
	if (!sandbox || !room)
		return;
	room->sandbox = sandbox;
	room->file = BPF_CORE_READ(request, file);
	room->read = read;
	room->written = written;
	room->marks = TRANSFER_URING;
	room->descriptor = TRANSFER_NO_DESCRIPTOR;
	transfer_add();
}

/* request_completed tells of an operation that was noted, and counts what one moved. */
static __always_inline int request_completed(__u64 request, __s32 result)
{
	struct pending *pending = bpf_map_lookup_elem(&pending_calls, &request);

	if (!pending) {
		if (transfers_counted && request && result > 0)
			request_moved((struct io_kiocb *)request, result);
		return 0;
	}
	pending_tell(pending, result, 0);
	bpf_map_delete_elem(&pending_calls, &request);
	return 0;
}

/*
 * Reports nothing yet, unless there will be no result: notes what an operation asks for.
 * Why not sys_enter_io_uring_enter: it names no operation, and SQPOLL does without it. Since 6.3; what it
 * is before, see uring_on_submit_sqe.
 */
SEC("tp_btf/io_uring_submit_req")
int BPF_PROG(uring_on_submit_req, struct io_kiocb *request)
{
	return request_submitted(request);
}

/* As uring_on_submit_req, for kernels that call it so: up to 6.2. */
SEC("tp_btf/io_uring_submit_sqe")
int BPF_PROG(uring_on_submit_sqe, struct io_kiocb *request)
{
	return request_submitted(request);
}

/*
 * Reports an operation with its result. Runs in a task of the ring's owner, so the new descriptor is among
 * the current ones. Since 5.1; in this form, with the completion's entry, in 6.18.
 */
SEC("tp_btf/io_uring_complete")
int BPF_PROG(uring_on_complete, struct io_ring_ctx *ring, void *request, struct io_uring_cqe *entry)
{
	return request_completed((__u64)request, BPF_CORE_READ(entry, res));
}

/* As uring_on_complete, for kernels that pass the values of the entry one by one. */
SEC("tp_btf/io_uring_complete")
int BPF_PROG(uring_on_complete_values, void *ring, void *request, __u64 user_data, int result)
{
	return request_completed((__u64)request, result);
}

ABI_STRUCT(open);
ABI_STRUCT(change);
