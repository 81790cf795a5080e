/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What io_submit(2) has taken on of reads and writes.
 *
 * Owns reading the requests: in the caller's memory where the call returns, so that what is counted of them is what they ask
 * for, the caller's word, and marked so; in the kernel's copy where a program hangs on what does one. It must not count by
 * itself: that is lib/transfer.h's.
 *
 * Why not what came of it: the kernel has no tracepoint there, a program may take its results out of memory that it shares with
 * the kernel, without any call, and they come often in no task of its own. What the kernel does at once, as it does what goes
 * through its cache, is done when its function returns: then what came of it is known there.
 */
#ifndef WATCHGLASS_SUBMIT_H
#define WATCHGLASS_SUBMIT_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "descriptor.h"
#include "direct.h"
#include "event.h"
#include "transfer.h"

/* Operations (enum of linux/aio_abi.h, which BTF does not carry). */
#define AIO_PREAD 0
#define AIO_PWRITE 1
#define AIO_PREADV 7
#define AIO_PWRITEV 8
/* AIO_BATCH bounds the operations that are looked at of one call, AIO_PARTS the parts of memory of all of them. */
#define AIO_BATCH 1024
#define AIO_PARTS 8192
/* AIO_REQUEST_PARTS is how many the kernel takes of one (UIO_MAXIOV). */
#define AIO_REQUEST_PARTS 1024
/* What the kernel moves at most at once (MAX_RW_COUNT). */
#define AIO_MOST 0x7ffff000ull

/* aio_request is the beginning of struct iocb, of which kernels that do without io_submit(2) have no type. */
struct aio_request {
	__u64 data;
	__u64 key;
	__u16 opcode;
	__u16 priority;
	__u32 descriptor;
	__u64 buffer;
	__u64 size;
	__s64 offset;
};

/*
 * aio_batch is a call: where the caller has its requests' addresses, and the one that is looked at; or a single request: where
 * the kernel's copy is, and what the kernel knows of it.
 */
struct aio_batch {
	__u64 requests;
	__u64 taken;
	/* Whether addresses have 32 bits; how many parts of memory may yet be looked at; which of the requests is looked at. */
	__u32 narrow;
	__u32 parts;
	__u32 index;
	__u32 reserved;
	struct aio_request request;
	/* How many bytes the parts of the one have together. */
	__u64 size;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct aio_batch);
} aio_batches SEC(".maps");

static __always_inline struct aio_batch *aio_batch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&aio_batches, &zero);
}

/* aio_part_step adds the size of one of the parts of memory that a request names. */
static long aio_part_step(__u32 index, void *context)
{
	struct aio_batch *batch = aio_batch();
	__u64 half, size = 0;

	if (!batch)
		return 1;
	/* An address, and a size: half of struct iovec each. */
	half = batch->narrow ? 4 : 8;
	if (bpf_probe_read_user(&size, half & 15,
				(void *)(batch->request.buffer + (2 * (__u64)index + 1) * half)))
		return 1;
	size = batch->size + (size < AIO_MOST ? size : AIO_MOST);
	batch->size = size < AIO_MOST ? size : AIO_MOST;
	return 0;
}

/*
 * aio_parts finds how many bytes the parts of memory have together that the request names. False means that these are more
 * parts than are looked at.
 */
static __always_inline bool aio_parts(struct aio_batch *batch)
{
	batch->size = 0;
	if (batch->request.size > AIO_REQUEST_PARTS || batch->request.size > batch->parts)
		return false;
	batch->parts -= batch->request.size;
	bpf_loop((__u32)batch->request.size, aio_part_step, NULL, 0);
	return true;
}

/*
 * aio_there is how many of the bytes that a request asks for there are, where that is known: of those that are read of a file,
 * and of a device's. A device's size is that of what all names of it have in common.
 */
static __always_inline __u64 aio_there(struct file *file, __s64 offset, __u64 size, bool reads)
{
	struct inode *inode = DIRECT_READ(struct file, file, f_inode);
	__u32 type = DIRECT_READ(struct inode, inode, i_mode) & TRANSFER_IFMT;
	struct address_space *mapping;
	__s64 left;

	if (type == TRANSFER_IFBLK) {
		mapping = DIRECT_READ(struct file, file, f_mapping);
		inode = DIRECT_READ(struct address_space, mapping, host);
	} else if (type != TRANSFER_IFREG || !reads) {
		return size;
	}
	left = DIRECT_READ(struct inode, inode, i_size) - offset;
	if (left <= 0)
		return 0;
	return size < (__u64)left ? size : (__u64)left;
}

/* aio_reads says whether a request reads, aio_writes whether it writes. */
static __always_inline bool aio_reads(const struct aio_request *request)
{
	return request->opcode == AIO_PREAD || request->opcode == AIO_PREADV;
}

static __always_inline bool aio_writes(const struct aio_request *request)
{
	return request->opcode == AIO_PWRITE || request->opcode == AIO_PWRITEV;
}

/* aio_room prepares the room for what counts that the request which is looked at moved so many bytes. */
static __always_inline void aio_room(const struct aio_batch *batch, struct transfer_room *room,
				     __u64 size)
{
	bool reads = aio_reads(&batch->request);

	room->descriptor = batch->request.descriptor;
	room->read = reads ? size : 0;
	room->written = reads ? 0 : size;
}

/* aio_asks says whether the request that is looked at asks for bytes of the room's file, and prepares the room for how many. */
static __always_inline bool aio_asks(struct aio_batch *batch, struct transfer_room *room)
{
	const struct aio_request *request = &batch->request;
	__u32 opcode = request->opcode;
	__u64 size = request->size;

	room->marks = TRANSFER_ASKED;
	if (opcode == AIO_PREADV || opcode == AIO_PWRITEV) {
		if (!aio_parts(batch))
			event_lose(room->first.sandbox, FILE_USE);
		size = batch->size;
	}
	if (size > AIO_MOST)
		size = AIO_MOST;
	size = aio_there(room->file, request->offset, size, aio_reads(request));
	aio_room(batch, room, size);
	return size;
}

/*
 * aio_look reads one of the requests; what cannot be read any more is counted as lost. 1 means that there is something to count.
 * A global function, so that its stack is not below what counts: there the stack of Linux 6.1's programs ends.
 */
__noinline int aio_look(void)
{
	struct transfer_room *room = transfer_room();
	struct aio_batch *batch = aio_batch();
	__u64 address = 0;
	__u64 width;

	if (!room || !batch)
		return 0;
	width = batch->narrow ? 4 : 8;
	if (bpf_probe_read_user(&address, width & 15,
				(void *)(batch->requests + batch->index * width)) ||
	    bpf_probe_read_user(&batch->request, sizeof(batch->request), (void *)address)) {
		event_lose(room->first.sandbox, FILE_USE);
		return 0;
	}
	if (!aio_reads(&batch->request) && !aio_writes(&batch->request))
		return 0;
	room->file = descriptor_file(batch->request.descriptor);
	return room->file && aio_asks(batch, room);
}

/*
 * aio_look_taken reads the kernel's copy of one request that it has begun with. 1 means that there is something to count: what
 * came of it where it is done, where it is still to come what is asked for.
 */
__noinline int aio_look_taken(void)
{
	struct transfer_room *room = transfer_room();
	struct aio_batch *batch = aio_batch();
	struct aio_kiocb *taken;
	__s64 moved;

	if (!room || !batch)
		return 0;
	taken = (struct aio_kiocb *)batch->taken;
	room->file = BPF_CORE_READ(taken, ki_filp);
	if (!room->file ||
	    bpf_probe_read_kernel(&batch->request, sizeof(batch->request), (void *)batch->requests))
		return 0;
	/* One reference is the function's that submits, the other that of what is to come. */
	if (BPF_CORE_READ(taken, ki_refcnt.refs.counter) > 1)
		return aio_asks(batch, room);
	moved = BPF_CORE_READ(taken, ki_res.res);
	if (moved <= 0)
		return 0;
	room->marks = 0;
	aio_room(batch, room, moved);
	return 1;
}

/* aio_step counts one of the requests. */
static long aio_step(__u32 index, void *context)
{
	struct aio_batch *batch = aio_batch();

	if (!batch)
		return 1;
	batch->index = index;
	if (aio_look())
		transfer_add();
	return 0;
}

/*
 * aio_report counts the first of the requests whose addresses are an array of the caller's: so many were taken on. narrow says
 * that addresses have 32 bits.
 */
static __always_inline void aio_report(__u64 sandbox, __u64 requests, __u64 count, bool narrow)
{
	struct transfer_room *room = transfer_room();
	struct aio_batch *batch = aio_batch();

	if (!room || !batch)
		return;
	room->first.sandbox = sandbox;
	batch->requests = requests;
	batch->narrow = narrow;
	batch->parts = AIO_PARTS;
	if (count > AIO_BATCH) {
		event_lose_many(sandbox, FILE_USE, count - AIO_BATCH);
		count = AIO_BATCH;
	}
	bpf_loop((__u32)count, aio_step, NULL, 0);
}

/*
 * aio_report_taken counts one request that the kernel has begun with: what the kernel knows of it, and its copy of what was
 * asked.
 */
static __always_inline void aio_report_taken(__u64 sandbox, __u64 taken, __u64 request, bool narrow)
{
	struct transfer_room *room = transfer_room();
	struct aio_batch *batch = aio_batch();

	if (!room || !batch)
		return;
	room->first.sandbox = sandbox;
	batch->taken = taken;
	batch->requests = request;
	batch->narrow = narrow;
	batch->parts = AIO_PARTS;
	if (aio_look_taken())
		transfer_add();
}

#endif
