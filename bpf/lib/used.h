/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which descriptors of a process were used for a file whose reads and writes are counted.
 *
 * Owns the map of them, for those who note them (lib/transfer.h) and for the program on the hook of system calls, which hands
 * on no close of another one: nearly none was used so. It must not know what is counted.
 */
#ifndef WATCHGLASS_USED_H
#define WATCHGLASS_USED_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "event.h"

/* transfer_key is a file of a process. */
struct transfer_key {
	__u64 inode;
	__u64 start;
	__u32 device;
	__u32 pid;
};

/* used_descriptor is a descriptor of a process. */
struct used_descriptor {
	__u64 start;
	__u32 pid;
	__u32 descriptor;
};

/* USED_BITS is how many descriptors, the lowest, a process has a bit for. */
#define USED_BITS 64

/*
 * small_use is what a process has read of plain files and has not been told, the last of them apart (lib/transfer.h); and which
 * of its descriptors were noted.
 */
struct small_use {
	__u64 read;
	__u64 reads;
	__u64 inode;
	__u64 own_read;
	__u64 own_reads;
	/* Of each of the lowest descriptors whether it is noted: what a look into a table would say, for less. */
	__u64 noted;
	__u32 device;
	__u32 marks;
	/* One more than the highest descriptor that was ever noted of the process. */
	__u32 top;
	__u32 reserved;
};

/* small_uses is kept with the process's first thread, and goes with it: its end tells what it read in all. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct small_use);
} small_uses SEC(".maps");

/* used_descriptors is LRU: of a descriptor that is pushed out the close is not seen, only that it is idle. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct used_descriptor);
	__type(value, struct transfer_key);
} used_descriptors SEC(".maps");

static __always_inline struct used_descriptor used_descriptor_of(const struct event_caller *caller,
								 __u32 descriptor)
{
	struct used_descriptor used = {
		.start = caller->start,
		.pid = caller->pid,
		.descriptor = descriptor,
	};

	return used;
}

/* used_note notes in a process's bits that a descriptor is noted, or is no longer. */
static __always_inline void used_note(struct small_use *use, __u32 descriptor, bool noted)
{
	__u64 bit = 1ull << (descriptor & (USED_BITS - 1));

	if (descriptor >= USED_BITS)
		return;
	if (noted)
		__sync_fetch_and_or(&use->noted, bit);
	else
		__sync_fetch_and_and(&use->noted, ~bit);
}

/* used_descriptor_noted says whether a descriptor of the current task's process may have been noted. */
static __always_inline bool used_descriptor_noted(struct task_struct *task, __u32 descriptor)
{
	struct small_use *use = bpf_task_storage_get(&small_uses, task->group_leader, NULL, 0);

	if (!use)
		return false;
	if (descriptor >= USED_BITS)
		return descriptor < use->top;
	return use->noted >> (descriptor & (USED_BITS - 1)) & 1;
}

#endif
