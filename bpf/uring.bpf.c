/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
//go:build ignore

/*
 * The uring probe: what is done to files through io_uring, which makes no system call of its own: one
 * io_uring_enter submits any number of operations, and with SQPOLL a kernel thread does without even that.
 *
 * Owns opens and changes of names that come through a ring, and what is done to sockets by one. They are told as those
 * of system calls are, and marked. Whom a ring connects and sends to, the network probe's hooks see by themselves; the
 * results that those cannot see are told here.
 *
 * How the programs share the work:
 *   uring_on_submit_req/sqe   notes what an operation asks for: the kernel has its own copy of the path by
 *                             then, so nothing that another thread writes changes it
 *   uring_on_complete         tells it, with its result; of sockets, all there is to tell
 *
 * The task that submits is the ring's owner, also for SQPOLL: the kernel's thread is one of the process
 * that made the ring, in its cgroup.
 *
 * Misses: the result and the file of what completes without a word
 * (IOSQE_CQE_SKIP_SUCCESS), or beyond URING_PENDING at once: that is told when it is submitted, and marked
 * as unfinished. Which socket a connect without a word of its success was of, where an address is all that is known.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/* ring_kind is beyond those of records about files (enum file_kind), which come first. */
enum ring_kind {
	RING_SOCKET = 5,
	RING_CONNECT = 6,
};

#define SOCKET_KIND RING_SOCKET
#define CONNECT_KIND RING_CONNECT

#include "lib/attempt.h"
#include "lib/compat.h"
#include "lib/descriptor.h"
#include "lib/event.h"
#include "lib/filerecord.h"
#include "lib/flow.h"
#include "lib/path.h"
#include "lib/pending.h"
#include "lib/ring.h"
#include "lib/sandbox.h"
#include "lib/socket.h"
#include "lib/transfer.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Numbers of the kernel's interface, which BTF does not carry under a name that can be asked for. */
#define IORING_READV 1
#define IORING_WRITEV 2
#define IORING_READ_FIXED 4
#define IORING_WRITE_FIXED 5
#define IORING_SENDMSG 9
#define IORING_RECVMSG 10
#define IORING_ACCEPT 13
#define IORING_CONNECT 16
#define IORING_OPENAT 18
#define IORING_CLOSE 19
#define IORING_READ 22
#define IORING_WRITE 23
#define IORING_SEND 26
#define IORING_RECV 27
#define IORING_OPENAT2 28
#define IORING_SPLICE 30
#define IORING_RENAMEAT 35
#define IORING_UNLINKAT 36
#define IORING_MKDIRAT 37
#define IORING_SYMLINKAT 38
#define IORING_LINKAT 39
#define IORING_SOCKET 45
#define IORING_SEND_ZC 47
#define IORING_SENDMSG_ZC 48
#define IORING_READ_MULTISHOT 49
#define IORING_FTRUNCATE 55
#define IORING_BIND 56
#define IORING_LISTEN 57
#define IORING_RECV_ZC 58
#define IORING_READV_FIXED 60
#define IORING_WRITEV_FIXED 61
/* IOSQE_FIXED_FILE and IOSQE_CQE_SKIP_SUCCESS: the request's flags start with those of its entry. */
#define REQUEST_FIXED_FILE (1 << 0)
#define REQUEST_SKIPS_SUCCESS (1 << 6)
/* IORING_ACCEPT_MULTISHOT, and the slot that stands for any that is free (IORING_FILE_INDEX_ALLOC). */
#define ACCEPT_MULTISHOT (1 << 0)
#define SLOT_ANY 0xffffffffu
/* SPLICE_F_FD_IN_FIXED */
#define SPLICE_INPUT_FIXED (1u << 31)
#define AT_REMOVEDIR 0x200

#define EINTR 4
#define EAGAIN 11
#define ECANCELED 125

#define RING_OP(number) (1ull << (number))
/* Operations of which what they ask for is noted, those of which all is known at their end, and what goes over sockets. */
#define RING_NOTED                                                                                 \
	(RING_OP(IORING_OPENAT) | RING_OP(IORING_OPENAT2) | RING_OP(IORING_RENAMEAT) |             \
	 RING_OP(IORING_UNLINKAT) | RING_OP(IORING_MKDIRAT) | RING_OP(IORING_SYMLINKAT) |          \
	 RING_OP(IORING_LINKAT))
#define RING_ENDED                                                                                 \
	(RING_OP(IORING_ACCEPT) | RING_OP(IORING_CONNECT) | RING_OP(IORING_SOCKET) |               \
	 RING_OP(IORING_BIND) | RING_OP(IORING_LISTEN) | RING_OP(IORING_FTRUNCATE))
#define RING_SPOKEN                                                                                \
	(RING_OP(IORING_SENDMSG) | RING_OP(IORING_RECVMSG) | RING_OP(IORING_SEND) |                \
	 RING_OP(IORING_RECV) | RING_OP(IORING_SEND_ZC) | RING_OP(IORING_SENDMSG_ZC) |             \
	 RING_OP(IORING_RECV_ZC))

/*
 * Whether the file probe tells opens that succeeded, by hanging on the function that opens files; then only those that
 * failed are left to tell. User space sets it once it knows.
 */
volatile __u32 opens_told;

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

/* name_relative says whether a path begins elsewhere than at the root. */
static __always_inline bool name_relative(struct filename *name)
{
	const char *text = BPF_CORE_READ(name, name);
	char first = 0;

	bpf_probe_read_kernel(&first, sizeof(first), text);
	return first != '/';
}

__noinline int pending_path(__u64 name, __s32 directory)
{
	__u32 zero = 0;
	struct pending *pending = bpf_map_lookup_elem(&pending_rooms, &zero);
	struct claim *claim = claim_kernel((struct filename *)name, directory, FILE_WALK);

	if (!pending || !claim)
		return -1;
	pending->path_size = pending_text(pending, pending->path, claim);
	pending->relative = name_relative((struct filename *)name);
	return 0;
}

__noinline int pending_second(__u64 name, __s32 directory)
{
	__u32 zero = 0;
	struct pending *pending = bpf_map_lookup_elem(&pending_rooms, &zero);
	struct claim *claim = claim_kernel((struct filename *)name, directory, FILE_WALK);

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
		pending->slot = BPF_CORE_READ(open, file_slot);
		pending->name = (__u64)BPF_CORE_READ(open, filename);
		pending_path(pending->name, BPF_CORE_READ(open, dfd));
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

/* request_result is the file that a request has opened: behind a new descriptor, or in the ring's table. */
static __always_inline struct file *request_result(struct io_kiocb *request, __u32 slot,
						   __s32 result)
{
	if (!slot)
		return descriptor_file((__u32)result);
	return compat_ring_file(BPF_CORE_READ(request, ctx),
				slot == SLOT_ANY ? (__u32)result : slot - 1);
}

/*
 * pending_open tells of an open: the opened file's own path, with the one that the kernel was asked for. request is NULL
 * where there is no result.
 */
static __always_inline void pending_open(struct pending *pending, struct open_record *record,
					 struct io_kiocb *request, __s32 result)
{
	struct file *file = NULL;

	record->open.asked = pending->asked;
	if (request && result >= 0)
		file = request_result(request, pending->slot, result);
	if (file) {
		open_record_file(record, file);
		if (compat_file_references(file) != 1)
			record->open.marks |= FILE_RACED;
		record->open.asked_size =
			tail_append(record->tail, record->open.path_size + record->open.host_size,
				    pending->path, pending->path_size & URING_TEXT_MASK);
		return;
	}
	/* The path is the kernel's copy; where it begins another thread may have changed. */
	if (pending->relative || !request || result >= 0)
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

/* pending_tell tells of an operation: one that is unfinished has no request any more, and no result. */
static __always_inline void pending_tell(struct pending *pending, struct io_kiocb *request,
					 __s32 result)
{
	__u32 marks = FILE_URING | (request ? 0 : FILE_UNFINISHED);
	__u64 sandbox = pending->header.sandbox;
	struct change_record *change;
	struct open_record *open;

	if (pending->operation) {
		change = change_record_room();
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
	open = open_record_room();
	if (!open)
		return;
	__builtin_memset(&open->open, 0, sizeof(open->open));
	open->open.header = pending->header;
	open->open.header.time = bpf_ktime_get_boot_ns();
	open->open.marks = marks;
	open->open.error = result < 0 ? (__u32)-result : 0;
	pending_open(pending, open, request, result);
	open_record_submit(sandbox, open, FILE_OPEN);
}

/* pending_elsewhere says whether the file probe tells of an operation, unless it fails. */
static __always_inline bool pending_elsewhere(const struct pending *pending)
{
	return opens_told && !pending->operation;
}

/* pending_over tells of an operation that is over, or of which no more will be known, unless the file probe has. */
static __always_inline void pending_over(struct pending *pending, struct io_kiocb *request,
					 __s32 result)
{
	if (!pending_elsewhere(pending)) {
		pending_tell(pending, request, result);
		return;
	}
	bpf_map_delete_elem(&pending_opens, &pending->name);
	if (result < 0)
		pending_tell(pending, request, result);
}

/*
 * accepting is an accept that goes on: each connection completes by itself, and says nothing but what the program gave it
 * to know it by.
 */
struct accepting_key {
	__u64 ring;
	__u64 user_data;
};

struct accepting {
	/* How many of the same name there are. */
	__u32 count;
	/* As of an open. */
	__u32 slot;
};

/* accepts is taken from when they end. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, URING_PENDING);
	__type(key, struct accepting_key);
	__type(value, struct accepting);
} accepts SEC(".maps");

/* ring_call is an operation on a socket, for the function that tells of it. */
struct ring_call {
	struct socket_call made;
	__u64 sandbox;
	__u64 socket;
	__s64 result;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ring_call);
} ring_calls SEC(".maps");

static __always_inline struct ring_call *ring_call_slot(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&ring_calls, &zero);
}

/* ring_used_with marks what goes over a socket as gone through a ring. */
static __always_inline void ring_used_with(struct sock *sk)
{
	__u32 protocol = sk ? BPF_CORE_READ(sk, sk_protocol) : 0;
	__u64 now = bpf_ktime_get_boot_ns();
	struct destination key = {};
	struct socket_event *ends;
	struct flow *flow;
	__u64 place = (__u64)sk;
	__u32 zero = 0;

	if (protocol == IPPROTO_TCP) {
		bpf_map_update_elem(&ring_sockets, &place, &now, BPF_ANY);
		return;
	}
	ends = bpf_map_lookup_elem(&socket_rooms, &zero);
	if (protocol != IPPROTO_UDP || !ends)
		return;
	ends->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	socket_ends(ends, sk);
	key.cookie = attempt_cookie(sk);
	key.peer = ends->peer;
	flow = key.cookie ? bpf_map_lookup_elem(&datagram_flows, &key) : NULL;
	if (flow)
		flow->marks |= FLOW_URING;
}

/* ring_connected tells the result of a connect, unless socket states do. */
static __always_inline void ring_connected(struct ring_call *call, struct sock *sk)
{
	__u64 key = attempt_of_ring(sk ? attempt_cookie(sk) : 0);
	struct attempt *attempt = bpf_map_lookup_elem(&attempts, &key);

	if (!attempt) {
		connect_without(call->sandbox, &call->made, sk, call->result);
		return;
	}
	connect_result(call->sandbox, attempt, call->result, CONNECT_URING);
	bpf_map_delete_elem(&attempts, &key);
}

/* ring_call_report tells of the operation in the CPU's slot. A global function: verified once. */
__noinline int ring_call_report(void)
{
	struct ring_call *call = ring_call_slot();
	struct sock *sk;

	if (!call)
		return 0;
	sk = (struct sock *)call->socket;
	if (call->made.operation == SOCKET_CONNECT && !(call->made.flags & SOCKET_UNFINISHED))
		ring_connected(call, sk);
	else
		socket_report(call->sandbox, &call->made, sk, call->result);
	if (sk && call->result >= 0)
		ring_used_with(sk);
	return 0;
}

/*
 * request_file is the file that a request is about. Before the kernel has begun with it that is only known by number, and
 * another thread may still put another one there.
 */
static __always_inline struct file *request_file(struct io_kiocb *request)
{
	struct file *file = BPF_CORE_READ(request, file);
	__u32 number;

	if (file)
		return file;
	number = (__u32)BPF_CORE_READ(request, cqe.fd);
	if ((__u32)BPF_CORE_READ(request, flags) & REQUEST_FIXED_FILE)
		return compat_ring_file(BPF_CORE_READ(request, ctx), number);
	return descriptor_file(number);
}

/* request_arguments reads what an operation on a socket was asked for, and finds the socket. */
static __always_inline bool request_arguments(struct ring_call *call, struct io_kiocb *request,
					      __u32 opcode)
{
	struct io_connect *connect = (void *)request;
	struct io_socket *made = (void *)request;
	struct io_listen *listen = (void *)request;
	struct io_bind *bind = (void *)request;
	__u64 *arguments = call->made.arguments;

	call->socket = 0;
	arguments[1] = 0;
	if (opcode == IORING_SOCKET) {
		call->made.operation = SOCKET_CREATE;
		if (!bpf_core_type_exists(struct io_socket))
			return false;
		arguments[0] = (__u32)BPF_CORE_READ(made, domain);
		arguments[1] = (__u32)BPF_CORE_READ(made, type);
		arguments[2] = (__u32)BPF_CORE_READ(made, protocol);
		return true;
	}
	call->socket = (__u64)socket_of_file(request_file(request));
	switch (opcode) {
	case IORING_ACCEPT:
		call->made.operation = SOCKET_ACCEPT;
		return true;
	case IORING_CONNECT:
		call->made.operation = SOCKET_CONNECT;
		if (bpf_core_field_exists(connect->addr))
			arguments[1] = (__u64)BPF_CORE_READ(connect, addr);
		arguments[2] = (__u32)BPF_CORE_READ(connect, addr_len);
		return true;
	case IORING_BIND:
		call->made.operation = SOCKET_BIND;
		if (!bpf_core_type_exists(struct io_bind))
			return false;
		call->made.flags |= SOCKET_KERNEL;
		arguments[1] = compat_ring_address(BPF_CORE_READ(request, async_data));
		arguments[2] = (__u32)BPF_CORE_READ(bind, addr_len);
		return true;
	case IORING_LISTEN:
		call->made.operation = SOCKET_LISTEN;
		if (!bpf_core_type_exists(struct io_listen))
			return false;
		arguments[1] = (__u32)BPF_CORE_READ(listen, backlog);
		return true;
	}
	return false;
}

/* ring_truncated tells of a file that was cut. */
static __always_inline void ring_truncated(struct io_kiocb *request, __u64 sandbox, __s32 result,
					   __u32 marks)
{
	struct io_ftrunc *truncate = (void *)request;
	struct file *file = request_file(request);
	struct change_record *record;

	if (!file || !bpf_core_type_exists(struct io_ftrunc))
		return;
	record = change_record_begin(sandbox);
	if (!record)
		return;
	record->change.operation = FILE_TRUNCATE;
	record->change.marks = FILE_URING | marks;
	record->change.error = result < 0 ? (__u32)-result : 0;
	record->change.length = BPF_CORE_READ(truncate, len);
	change_record_file(record, file);
	change_record_submit(sandbox, record);
}

/*
 * request_ended tells of an operation of which all is known at its end; or, with marks, of one that will have no result,
 * before it begins.
 */
static __always_inline void request_ended(struct io_kiocb *request, __u32 opcode, __s32 result,
					  bool unfinished)
{
	struct io_accept *accept = (void *)request;
	__u64 sandbox = sandbox_current();
	struct ring_call *call = ring_call_slot();
	__u32 slot;

	/* What was called off before it began was nothing. */
	if (!sandbox || !call || (result == -ECANCELED && opcode != IORING_CONNECT))
		return;
	if (opcode == IORING_FTRUNCATE) {
		ring_truncated(request, sandbox, result, unfinished ? FILE_UNFINISHED : 0);
		return;
	}
	call->made.flags = SOCKET_URING | (unfinished ? SOCKET_UNFINISHED : 0);
	call->sandbox = sandbox;
	call->result = result;
	if (!request_arguments(call, request, opcode))
		return;
	if (opcode == IORING_ACCEPT && !unfinished) {
		if (result == -EAGAIN || result == -EINTR || result == -ERESTARTSYS)
			return;
		slot = BPF_CORE_READ(accept, file_slot);
		if (result >= 0)
			call->socket = (__u64)socket_of_file(request_result(request, slot, result));
	}
	ring_call_report();
}

/* accept_begun notes an accept that goes on, or may. */
static __always_inline void accept_begun(struct io_kiocb *request, __u64 sandbox)
{
	struct io_accept *accept = (void *)request;
	struct accepting_key key = {
		.ring = (__u64)BPF_CORE_READ(request, ctx),
		.user_data = BPF_CORE_READ(request, cqe.user_data),
	};
	struct accepting first = {.count = 1, .slot = BPF_CORE_READ(accept, file_slot)};
	struct accepting *same;

	/* Before 6.10 only the kernel's own flags say which. */
	if (bpf_core_field_exists(accept->iou_flags) &&
	    !(BPF_CORE_READ(accept, iou_flags) & ACCEPT_MULTISHOT))
		return;
	same = bpf_map_lookup_elem(&accepts, &key);
	if (same)
		__sync_fetch_and_add(&same->count, 1);
	else if (bpf_map_update_elem(&accepts, &key, &first, BPF_NOEXIST))
		event_lose(sandbox, RING_SOCKET);
}

/* accept_over forgets an accept. */
static __always_inline void accept_over(struct io_kiocb *request)
{
	struct accepting_key key = {
		.ring = (__u64)BPF_CORE_READ(request, ctx),
		.user_data = BPF_CORE_READ(request, cqe.user_data),
	};
	struct accepting *same = bpf_map_lookup_elem(&accepts, &key);

	if (same && (__s32)__sync_fetch_and_add(&same->count, -1) <= 1)
		bpf_map_delete_elem(&accepts, &key);
}

/* accept_goes_on tells of a connection that was accepted by an accept which goes on. */
static __always_inline void accept_goes_on(struct io_ring_ctx *ring, __u64 user_data, __s32 result)
{
	struct accepting_key key = {.ring = (__u64)ring, .user_data = user_data};
	struct accepting *accepting = bpf_map_lookup_elem(&accepts, &key);
	struct ring_call *call = ring_call_slot();
	__u64 sandbox = sandbox_current();
	struct file *file;

	if (!accepting || !call || !sandbox || result < 0)
		return;
	if (accepting->slot)
		file = compat_ring_file(ring, (__u32)result);
	else
		file = descriptor_file((__u32)result);
	call->made.operation = SOCKET_ACCEPT;
	call->made.flags = SOCKET_URING;
	call->sandbox = sandbox;
	call->socket = (__u64)socket_of_file(file);
	call->result = result;
	ring_call_report();
}

/* request_noted notes an operation of a sandbox, or tells it at once where there will be no result. */
static __always_inline void request_noted(struct io_kiocb *request, __u32 opcode, __u64 sandbox,
					  bool silent)
{
	struct pending *pending, *forgotten;
	__u64 key = (__u64)request;
	__u32 zero = 0;

	/* Its result was never told, and the kernel uses the request for another operation. */
	forgotten = bpf_map_lookup_elem(&pending_calls, &key);
	if (forgotten)
		pending_over(forgotten, NULL, 0);
	pending = bpf_map_lookup_elem(&pending_rooms, &zero);
	if (!pending)
		return;
	event_header_fill(&pending->header, sandbox, FILE_OPEN);
	__builtin_memset(&pending->operation, 0,
			 offsetof(struct pending, path) - offsetof(struct pending, operation));
	pending->opcode = opcode;
	if (!request_decode(pending, request))
		return;
	/* Of what fails there is always word. */
	if (silent && !pending_elsewhere(pending)) {
		pending_tell(pending, NULL, 0);
		return;
	}
	if (bpf_map_update_elem(&pending_calls, &key, pending, BPF_ANY))
		pending_over(pending, NULL, 0);
	else if (pending_elsewhere(pending))
		bpf_map_update_elem(&pending_opens, &pending->name, &key, BPF_ANY);
}

/* request_submitted looks at what an operation of a sandbox asks for. */
static __always_inline int request_submitted(struct io_kiocb *request)
{
	__u64 operation;
	__u64 sandbox;
	__u32 opcode;
	bool silent;

	if (ring_outside())
		return 0;
	opcode = BPF_CORE_READ(request, opcode);
	operation = opcode < 64 ? RING_OP(opcode) : 0;
	if (!(operation & (RING_NOTED | RING_ENDED | RING_SPOKEN)))
		return 0;
	sandbox = sandbox_current();
	if (!sandbox)
		return 0;
	silent = (__u32)BPF_CORE_READ(request, flags) & REQUEST_SKIPS_SUCCESS;
	if (operation & RING_NOTED)
		request_noted(request, opcode, sandbox, silent);
	else if (silent && (operation & RING_ENDED))
		request_ended(request, opcode, 0, true);
	else if (opcode == IORING_ACCEPT)
		accept_begun(request, sandbox);
	else if (silent)
		ring_used_with(socket_of_file(request_file(request)));
	return 0;
}

/* request_spoke marks what went over a socket. */
static __always_inline void request_spoke(struct io_kiocb *request)
{
	if (sandbox_current())
		ring_used_with(socket_of_file(request_file(request)));
}

/* splice_input is the file that a splice read from: its number is all that is kept of it. */
static __always_inline struct file *splice_input(struct io_kiocb *request)
{
	struct io_splice *splice = (void *)request;
	__u32 number = (__u32)BPF_CORE_READ(splice, splice_fd_in);

	if (BPF_CORE_READ(splice, flags) & SPLICE_INPUT_FIXED)
		return compat_ring_file(BPF_CORE_READ(request, ctx), number);
	return descriptor_file(number);
}

/* request_moved counts what a completed operation read or wrote. */
static __always_inline void request_moved(struct io_kiocb *request, __u32 opcode, __s32 result)
{
	struct transfer_room *room;
	bool reads = false;
	__u64 sandbox;

	switch (opcode) {
	case IORING_READV:
	case IORING_READ_FIXED:
	case IORING_READ:
	case IORING_READ_MULTISHOT:
	case IORING_READV_FIXED:
		reads = true;
		break;
	case IORING_WRITEV:
	case IORING_WRITE_FIXED:
	case IORING_WRITE:
	case IORING_WRITEV_FIXED:
	case IORING_SPLICE:
		break;
	default:
		return;
	}
	sandbox = sandbox_current();
	room = transfer_room();
	if (!sandbox || !room)
		return;
	room->first.sandbox = sandbox;
	room->file = BPF_CORE_READ(request, file);
	room->marks = TRANSFER_URING;
	room->descriptor = TRANSFER_NO_DESCRIPTOR;
	room->read = reads ? (__u32)result : 0;
	room->written = reads ? 0 : (__u32)result;
	ring_used_with(socket_of_file(room->file));
	if (transfers_counted)
		transfer_add();
	if (!transfers_counted || opcode != IORING_SPLICE)
		return;
	room->file = splice_input(request);
	room->read = (__u32)result;
	room->written = 0;
	transfer_add();
}

/* request_closed notes a descriptor that an operation closed, unless that was a place in the ring's table. */
static __always_inline void request_closed(struct io_kiocb *request)
{
	struct io_close *close = (void *)request;

	if (transfers_counted && !BPF_CORE_READ(close, file_slot))
		transfer_close((__u32)BPF_CORE_READ(close, fd));
}

/* request_completed tells of an operation, and counts what one moved. */
static __always_inline int request_completed(struct io_kiocb *request, __s32 result)
{
	struct pending *pending;
	__u64 key = (__u64)request;
	__u64 operation;
	__u32 opcode;

	pending = bpf_map_lookup_elem(&pending_calls, &key);
	if (pending) {
		pending_over(pending, request, result);
		bpf_map_delete_elem(&pending_calls, &key);
		return 0;
	}
	opcode = BPF_CORE_READ(request, opcode);
	operation = opcode < 64 ? RING_OP(opcode) : 0;
	if (opcode == IORING_ACCEPT)
		accept_over(request);
	if (operation & RING_ENDED)
		request_ended(request, opcode, result, false);
	else if (operation & RING_SPOKEN)
		request_spoke(request);
	else if (result > 0)
		request_moved(request, opcode, result);
	else if (opcode == IORING_CLOSE && !result)
		request_closed(request);
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
 * Of one that completes again and again there is no request but at its end.
 */
SEC("tp_btf/io_uring_complete")
int BPF_PROG(uring_on_complete, struct io_ring_ctx *ring, void *request, struct io_uring_cqe *entry)
{
	__s32 result;

	if (ring_outside())
		return 0;
	result = BPF_CORE_READ(entry, res);
	if (request)
		request_completed(request, result);
	else
		accept_goes_on(ring, BPF_CORE_READ(entry, user_data), result);
	return 0;
}

/* values_completed is request_completed, or of an accept that goes on, by the values of the entry. */
static __always_inline int values_completed(struct io_ring_ctx *ring, void *request,
					    __u64 user_data, int result)
{
	if (request)
		request_completed(request, result);
	else
		accept_goes_on(ring, user_data, result);
	return 0;
}

/* As uring_on_complete, for kernels that pass the values of the entry one by one. */
SEC("tp_btf/io_uring_complete")
int BPF_PROG(uring_on_complete_values, struct io_ring_ctx *ring, void *request, __u64 user_data,
	     int result)
{
	if (ring_outside())
		return 0;
	return values_completed(ring, request, user_data, result);
}

/*
 * As uring_on_complete_values, for kernels up to 6.2, which it takes more of the stack on than they have. Does without asking
 * whose it is first.
 */
SEC("tp_btf/io_uring_complete")
int BPF_PROG(uring_on_complete_deep, struct io_ring_ctx *ring, void *request, __u64 user_data,
	     int result)
{
	return values_completed(ring, request, user_data, result);
}

ABI_STRUCT(open);
ABI_STRUCT(change);
ABI_STRUCT(connect);
ABI_STRUCT(socket_event);
ABI_ENUM(ring_kind);
