/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The counters of what a process reads and writes of each file.
 *
 * Owns them, and how they are added to: for those who tell a file's first use (lib/transfer.h), and for the program on the
 * hook of system calls, which counts every later one itself. It must not tell of anything.
 */
#ifndef WATCHGLASS_MOVED_H
#define WATCHGLASS_MOVED_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "direct.h"
#include "used.h"

/* Macros of the kernel, which BTF does not carry. */
#define TRANSFER_IFMT 0170000
#define TRANSFER_IFREG 0100000
#define TRANSFER_IFBLK 0060000

/* Whether transfers are counted at all; the loader sets it. */
const volatile __u32 transfers_counted;

/* transfer is how much was read and written, in how many calls. */
struct transfer {
	__u64 sandbox;
	__u64 read;
	__u64 written;
	__u64 reads;
	__u64 writes;
	/* What is still to be added to these: see transfer_count(). */
	__u64 reading;
	__u64 writing;
	/* enum transfer_marks. */
	__u32 marks;
	/* One more than the descriptor that was used last, which need not be noted again; 0 from the close on. */
	__u32 last;
	/* How many descriptors were used for it and not closed since; whether the last of them was closed. */
	__u32 open;
	__u32 closed;
};

/* transfers is emptied by user space alone, so that nothing counted is ever pushed out untold. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, struct transfer_key);
	__type(value, struct transfer);
} transfers SEC(".maps");

/* moving_place is how the place of a file is found, for user space too: see moving_of(). */
enum moving_place {
	/* Of so many bits is a place's number. */
	MOVING_BITS = 10,
	/* What mixes process and file. */
	MOVING_MIX_PID = 0x9e3779b1,
	MOVING_MIX_INODE = 0x85ebca77,
};

/* MOVINGS is how many places there are. */
#define MOVINGS (1 << MOVING_BITS)

/* moving_state is whose a place is. */
enum moving_state {
	MOVING_FREE,
	/* Somebody's, as its key says; while that is being written no descriptor has been used last. */
	MOVING_USED,
	/* User space is about to free it: no other file is to have it before. */
	MOVING_LEFT,
};

/* moving is what was moved of a file that has counters, besides these; a word each as there (transfer_count()). */
struct moving {
	struct transfer_key key;
	__u64 sandbox;
	__u64 reading;
	__u64 writing;
	/* As in the counters. With 0 nobody counts here. */
	__u32 last;
	/* enum moving_state. */
	__u32 state;
};

/*
 * movings is where most of what is moved is counted: by comparing, with no look into a hash, which takes more than half of the
 * rest. A file of a process has one place, that both say; what finds it taken is counted in the hash alone. The kernel side takes
 * places, and user space alone frees them: first it has nobody count there any more, and at its next look, when no program
 * can still be about to, the place is free. It reads and takes the words by itself, in the memory of the map.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MOVINGS);
	__type(key, __u32);
	__type(value, struct moving);
} movings SEC(".maps");

/* transfer_packing is how a word holds a sum of bytes, in its lower bits, and above them the number of calls. */
enum transfer_packing {
	TRANSFER_BYTE_BITS = 44,
};

#define TRANSFER_CALL (1ull << TRANSFER_BYTE_BITS)
/* Half of what there is room for, of calls or of bytes. */
#define TRANSFER_FULL (1ull << 63 | TRANSFER_CALL >> 1)
/* What one call moves is less: MAX_RW_COUNT of the kernel. */
#define TRANSFER_ONCE (1ull << 31)

/*
 * transfer_pack adds what a call moved to a sum of bytes and a number of calls: both at once, in one word, since that is one
 * atomic operation and not two. True means that it is half full and to be emptied (transfer_unpack): each processor finds that out
 * by its next call at the latest, so that the other half is never used up.
 */
static __always_inline bool transfer_pack(__u64 *word, __u64 moved)
{
	return __sync_fetch_and_add(word, TRANSFER_CALL | moved) & TRANSFER_FULL;
}

/* transfer_unpack empties a word into what it stands for. */
static __always_inline void transfer_unpack(__u64 *word, __u64 *bytes, __u64 *calls)
{
	__u64 sum = __sync_lock_test_and_set(word, 0);

	__sync_fetch_and_add(bytes, sum & (TRANSFER_CALL - 1));
	__sync_fetch_and_add(calls, sum >> TRANSFER_BYTE_BITS);
}

/* transfer_count adds what a call moved to the counters of a file. */
static __always_inline void transfer_count(__u64 *word, __u64 *bytes, __u64 *calls, __u64 moved)
{
	/* Of requests that are only asked for (io_submit) the size is the caller's word. */
	if (moved >= TRANSFER_ONCE) {
		__sync_fetch_and_add(bytes, moved);
		__sync_fetch_and_add(calls, 1);
		return;
	}
	if (transfer_pack(word, moved))
		transfer_unpack(word, bytes, calls);
}

static __always_inline void transfer_count_read(struct transfer *transfer, __u64 moved)
{
	transfer_count(&transfer->reading, &transfer->read, &transfer->reads, moved);
}

static __always_inline void transfer_count_written(struct transfer *transfer, __u64 moved)
{
	transfer_count(&transfer->writing, &transfer->written, &transfer->writes, moved);
}

/* transfer_identify makes out which file it is, but for whose; false for what is not counted. */
static __always_inline bool transfer_identify(struct transfer_key *key, struct file *file)
{
	struct inode *inode = DIRECT_READ(struct file, file, f_inode);
	__u32 type = DIRECT_READ(struct inode, inode, i_mode) & TRANSFER_IFMT;
	struct super_block *block;

	if (type != TRANSFER_IFREG && type != TRANSFER_IFBLK)
		return false;
	key->inode = DIRECT_READ(struct inode, inode, i_ino);
	block = DIRECT_READ(struct inode, inode, i_sb);
	key->device = DIRECT_READ(struct super_block, block, s_dev);
	return true;
}

/* moving_of is the place of a file, which may be another one's. */
static __always_inline struct moving *moving_of(const struct transfer_key *key)
{
	__u32 place = ((__u32)key->inode * MOVING_MIX_INODE ^ key->pid * MOVING_MIX_PID) >>
		      (32 - MOVING_BITS);

	return bpf_map_lookup_elem(&movings, &place);
}

static __always_inline bool moving_is(const struct moving *moving, const struct transfer_key *key)
{
	return moving->key.inode == key->inode && moving->key.pid == key->pid &&
	       moving->key.start == key->start && moving->key.device == key->device;
}

/*
 * moving_note notes which descriptor was used last for a file, as its counters do, and takes its place for that where it
 * is free, or was left by the same file.
 */
static __always_inline void moving_note(const struct transfer_key *key, __u64 sandbox, __u32 last)
{
	struct moving *moving = moving_of(key);
	__u32 state;

	if (!moving)
		return;
	state = moving->state;
	if (state != MOVING_FREE && !moving_is(moving, key))
		return;
	if (state != MOVING_USED) {
		if (__sync_val_compare_and_swap(&moving->state, state, MOVING_USED) != state)
			return;
		moving->key = *key;
		moving->sandbox = sandbox;
	}
	/* Ordered, for those who compare. */
	__sync_lock_test_and_set(&moving->last, last);
}

/* moving_closed has the next use of a file noted again. */
static __always_inline void moving_closed(const struct transfer_key *key)
{
	struct moving *moving = moving_of(key);

	if (moving && moving_is(moving, key))
		moving->last = 0;
}

/* moving_empty has what a place counted of one kind added to the file's counters, as it is half full. */
static __always_inline void moving_empty(struct moving *moving, const struct transfer_key *key,
					 bool reads)
{
	struct transfer *transfer = bpf_map_lookup_elem(&transfers, key);

	/* User space has just taken them, and takes this too; what comes begins anew. */
	if (!transfer)
		moving->last = 0;
	else if (reads)
		transfer_unpack(&moving->reading, &transfer->read, &transfer->reads);
	else
		transfer_unpack(&moving->writing, &transfer->written, &transfer->writes);
}

/*
 * moving_count counts what a call moved of a file that its process has used by this descriptor before, so that there is
 * nothing to tell or to note. False means that its place is not its own, or there is something.
 */
static __always_inline bool moving_count(const struct transfer_key *key, __u32 descriptor,
					 bool reads, __u64 moved)
{
	struct moving *moving = moving_of(key);

	if (!moving || moving->last != descriptor + 1 || !moving_is(moving, key) ||
	    moved >= TRANSFER_ONCE)
		return false;
	if (transfer_pack(reads ? &moving->reading : &moving->writing, moved))
		moving_empty(moving, key, reads);
	return true;
}

/* transfer_known is the counters of such a file; else NULL. */
static __always_inline struct transfer *transfer_known(const struct transfer_key *key,
						       __u32 descriptor)
{
	struct transfer *transfer = bpf_map_lookup_elem(&transfers, key);

	return transfer && transfer->last == descriptor + 1 ? transfer : NULL;
}

#endif
