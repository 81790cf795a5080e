/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How much each process reads and writes of each file.
 *
 * Owns what is told of the counters (lib/moved.h), by process and inode, so that descriptors which were duplicated, inherited or passed count
 * for whoever uses them and for the file that is really behind them; and which of a process's descriptors
 * were used for a file, so that its last close is known. It must not send a record for each read or write:
 * the first use of a file by a process tells its path, user space reads the counters when the file is
 * closed, when it is idle, and when the process ends.
 *
 * What a process reads of files that are nothing special (plain_files), as every program does of its libraries, is one
 * sum until it is worth telling: ten thousand short programs are no twenty thousand records.
 *
 * Only regular files and block devices: what goes through sockets is told by flows; pipes and terminals
 * have no place to look for what went through.
 *
 * Misses: what came of io_submit(2), where the kernel does not do it at once or nothing hangs on what does: then what was asked
 * for is counted, and marked so; what goes through mappings, of which only that there was one is told. The close of a
 * descriptor by another process that shares it, and beyond TRANSFER_RANGE at once, is not seen: such a file is told when it is
 * idle, when its number is used again, or when the process ends. Nor is that by an exec, at which user space has everything told.
 */
#ifndef WATCHGLASS_TRANSFER_H
#define WATCHGLASS_TRANSFER_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "descriptor.h"
#include "direct.h"
#include "event.h"
#include "filemix.h"
#include "filerecord.h"
#include "moved.h"
#include "used.h"

enum transfer_marks {
	/* Some of it was mapped into memory, where nobody counts. */
	TRANSFER_MAPPED = 1,
	/* Some of it went through io_uring. */
	TRANSFER_URING = 2,
	/* Some of it is what io_submit(2) asked for and has not come yet, as far as is known: the caller's word. */
	TRANSFER_ASKED = 4,
};

/* other_transfers is, by process, of all files that found no room there: of inode 0. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2048);
	__type(key, struct transfer_key);
	__type(value, struct transfer);
} other_transfers SEC(".maps");

/* plain_key is a file by the name that it was reached by: see filemix.h. */
struct plain_key {
	__u64 mix;
	__u64 inode;
	__u32 device;
	__u32 reserved;
};

/* plain_files is the files that user space has found to be none of the watched. It alone fills and empties it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct plain_key);
	__type(value, __u32);
} plain_files SEC(".maps");

/* TRANSFER_SMALL is how much a process reads of plain files before that is told. User space has the same bound. */
#define TRANSFER_SMALL (64 << 10)

/* transfer_closed notes that a descriptor no longer stands for the file of a key. */
static __always_inline void transfer_closed(const struct transfer_key *key)
{
	struct transfer *transfer = bpf_map_lookup_elem(&transfers, key);

	if (!transfer)
		return;
	if ((__s32)__sync_fetch_and_add(&transfer->open, -1) <= 1)
		transfer->closed = 1;
	/* The number may stand for the file again: then it must be noted again. */
	transfer->last = 0;
	moving_closed(key);
}

/* transfer_descriptor notes that a descriptor is used for the file of a key. */
static __always_inline void transfer_descriptor(struct transfer *transfer,
						const struct transfer_key *key, __u32 descriptor)
{
	struct used_descriptor used = {
		.start = key->start, .pid = key->pid, .descriptor = descriptor};
	struct transfer_key *before = bpf_map_lookup_elem(&used_descriptors, &used);
	struct transfer_key old;
	struct small_use *use;

	transfer->last = descriptor + 1;
	moving_note(key, transfer->sandbox, descriptor + 1);
	/* Also where it is noted: what is kept with a process's first thread is gone where another one has executed. */
	use = bpf_task_storage_get(&small_uses, bpf_get_current_task_btf()->group_leader, NULL,
				   BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (use) {
		used_note(use, descriptor, true);
		if (use->top <= descriptor)
			use->top = descriptor + 1;
	}
	if (before) {
		old = *before;
		if (old.inode == key->inode && old.device == key->device)
			return;
		/* It was closed where nobody looked: by an exec, by close_range, under another thread. */
		transfer_closed(&old);
	}
	if (bpf_map_update_elem(&used_descriptors, &used, key, BPF_ANY))
		return;
	__sync_fetch_and_add(&transfer->open, 1);
}

/*
 * transfer_room passes what a global function cannot take: a pointer. first is what the counters of a file begin as: of a
 * sandbox, and nothing else. Here and not on the stack, of which Linux 6.1 has no more.
 */
struct transfer_room {
	struct transfer first;
	struct file *file;
	__u64 read;
	__u64 written;
	__u32 marks;
	/* TRANSFER_NO_DESCRIPTOR where it did not come through one. */
	__u32 descriptor;
};

#define TRANSFER_NO_DESCRIPTOR 0xffffffffu

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct transfer_room);
} transfer_rooms SEC(".maps");

static __always_inline struct transfer_room *transfer_room(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&transfer_rooms, &zero);
}

/* transfer_rest is the counters of a process's files that have none of their own, and makes key theirs. */
static __always_inline struct transfer *transfer_rest(const struct transfer_room *room,
						      struct transfer_key *key)
{
	struct transfer *rest;

	key->inode = 0;
	key->device = 0;
	rest = bpf_map_lookup_elem(&other_transfers, key);
	if (rest)
		return rest;
	bpf_map_update_elem(&other_transfers, key, &room->first, BPF_NOEXIST);
	rest = bpf_map_lookup_elem(&other_transfers, key);
	if (!rest)
		event_lose(room->first.sandbox, FILE_USE);
	return rest;
}

/*
 * transfer_begin makes the counters of a file that a process uses for the first time, and tells its path. Where
 * one of both finds no room the process's other files take it.
 */
static __always_inline struct transfer *transfer_begin(const struct transfer_room *room,
						       struct transfer_key *key)
{
	__u64 sandbox = room->first.sandbox;
	struct open_record *record = open_record_begin(sandbox, FILE_USE);

	if (record && !bpf_map_update_elem(&transfers, key, &room->first, BPF_NOEXIST)) {
		open_record_file(record, room->file);
		record->open.mix = mix_file(0, room->file) | 1;
		record->open.marks = room->marks & TRANSFER_URING ? FILE_URING : 0;
		if (open_record_submit(sandbox, record, FILE_USE))
			return bpf_map_lookup_elem(&transfers, key);
		bpf_map_delete_elem(&transfers, key);
	}
	return transfer_rest(room, key);
}

/*
 * transfer_small counts what is read of a plain file with what the process has read of others. False means that it is to
 * be counted by itself: then the sum was too much, and *small is where it is.
 */
static __always_inline bool transfer_small(const struct transfer_room *room,
					   const struct transfer_key *key, struct small_use **small)
{
	struct plain_key plain = {.inode = key->inode, .device = key->device};
	struct small_use *use;

	if (room->written || (room->marks & (TRANSFER_URING | TRANSFER_ASKED)))
		return false;
	plain.mix = mix_file(0, room->file) | 1;
	if (!bpf_map_lookup_elem(&plain_files, &plain))
		return false;
	use = bpf_task_storage_get(&small_uses, bpf_get_current_task_btf()->group_leader, NULL,
				   BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!use)
		return false;
	if (use->inode != key->inode || use->device != key->device) {
		use->inode = key->inode;
		use->device = key->device;
		use->own_read = 0;
		use->own_reads = 0;
	}
	if (use->read + room->read >= TRANSFER_SMALL) {
		*small = use;
		return false;
	}
	if (room->read) {
		__sync_fetch_and_add(&use->read, room->read);
		__sync_fetch_and_add(&use->reads, 1);
		use->own_read += room->read;
		use->own_reads++;
	}
	use->marks |= room->marks;
	event_aggregate(room->first.sandbox, FILE_USE);
	return true;
}

/*
 * transfer_spill tells what was small: what of it is of the file whose counters are given goes there, the rest where the
 * process's other files are counted. Of threads that read at once it may give one file what is another's; the sum is right.
 */
static __always_inline void transfer_spill(struct small_use *small, struct transfer *transfer,
					   const struct transfer_room *room,
					   struct transfer_key key)
{
	__u64 read = __sync_lock_test_and_set(&small->read, 0);
	__u64 reads = __sync_lock_test_and_set(&small->reads, 0);
	__u64 own = small->own_read < read ? small->own_read : read;
	__u64 calls = small->own_reads < reads ? small->own_reads : reads;
	struct transfer *rest;

	small->own_read = 0;
	small->own_reads = 0;
	if (own)
		__sync_fetch_and_add(&transfer->read, own);
	if (calls)
		__sync_fetch_and_add(&transfer->reads, calls);
	if (reads == calls)
		return;
	rest = transfer_rest(room, &key);
	if (!rest)
		return;
	__sync_fetch_and_add(&rest->read, read - own);
	__sync_fetch_and_add(&rest->reads, reads - calls);
	rest->marks |= small->marks;
}

/* transfer_add counts what the room says. A global function: verified once, not in each of its callers. */
__noinline int transfer_add(void)
{
	struct transfer_room *room = transfer_room();
	struct transfer_key key = {};
	struct small_use *small = NULL;
	struct transfer *transfer;
	struct task_struct *task;

	if (!room || !room->file || !transfer_identify(&key, room->file))
		return 0;
	task = task_plain();
	key.pid = task->tgid;
	key.start = task->group_leader->start_boottime;
	if (!room->marks && !room->read != !room->written &&
	    room->descriptor != TRANSFER_NO_DESCRIPTOR &&
	    moving_count(&key, room->descriptor, !room->written, room->read | room->written))
		return 0;
	transfer = bpf_map_lookup_elem(&transfers, &key);
	if (!transfer) {
		if (transfer_small(room, &key, &small))
			return 0;
		transfer = transfer_begin(room, &key);
	}
	if (!transfer)
		return 0;
	if (small)
		transfer_spill(small, transfer, room, key);
	if (room->read)
		transfer_count_read(transfer, room->read);
	if (room->written)
		transfer_count_written(transfer, room->written);
	if ((transfer->marks & room->marks) != room->marks)
		transfer->marks |= room->marks;
	if (transfer->closed)
		transfer->closed = 0;
	if (key.inode && room->descriptor != TRANSFER_NO_DESCRIPTOR &&
	    transfer->last != room->descriptor + 1)
		transfer_descriptor(transfer, &key, room->descriptor);
	return 0;
}

/* transfer_close_of notes that the current process, which is given, closed a descriptor. */
static __always_inline void transfer_close_of(const struct event_caller *caller, __u32 descriptor)
{
	struct small_use *use = bpf_task_storage_get(
		&small_uses, bpf_get_current_task_btf()->group_leader, NULL, 0);
	struct used_descriptor used = used_descriptor_of(caller, descriptor);
	struct transfer_key *before = bpf_map_lookup_elem(&used_descriptors, &used);
	struct transfer_key key;

	if (use)
		used_note(use, descriptor, false);
	if (!before)
		return;
	key = *before;
	if (!bpf_map_delete_elem(&used_descriptors, &used))
		transfer_closed(&key);
}

/* transfer_close notes that the current process closed a descriptor. */
static __always_inline void transfer_close(__u32 descriptor)
{
	struct task_struct *task = task_plain();
	struct event_caller caller = {
		.start = task->group_leader->start_boottime,
		.pid = task->tgid,
	};

	transfer_close_of(&caller, descriptor);
}

/* TRANSFER_RANGE bounds how many descriptors are looked at where many are closed at once. */
#define TRANSFER_RANGE 1024

static long transfer_range_step(__u32 index, __u32 *first)
{
	transfer_close(*first + index);
	return 0;
}

/*
 * transfer_close_between notes that the current process closed all descriptors between two. A process of which none was
 * noted pays one look-up.
 */
static __always_inline void transfer_close_between(__u32 first, __u32 last)
{
	struct small_use *use = bpf_task_storage_get(
		&small_uses, bpf_get_current_task_btf()->group_leader, NULL, 0);
	__u32 count;

	if (!use || first >= use->top || last < first)
		return;
	count = (last < use->top - 1 ? last + 1 : use->top) - first;
	bpf_loop(count < TRANSFER_RANGE ? count : TRANSFER_RANGE, transfer_range_step, &first, 0);
}

#endif
