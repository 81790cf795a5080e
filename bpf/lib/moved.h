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
 * transfer_count adds what a call moved to a sum of bytes and a number of calls: both at once, in one word, since that is one
 * atomic operation and not two. The word is emptied when it is half full: each processor finds that out by its next
 * call at the latest, so that the other half is never used up.
 */
static __always_inline void transfer_count(__u64 *word, __u64 *bytes, __u64 *calls, __u64 moved)
{
	__u64 sum;

	/* Of requests that are only asked for (io_submit) the size is the caller's word. */
	if (moved >= TRANSFER_ONCE) {
		__sync_fetch_and_add(bytes, moved);
		__sync_fetch_and_add(calls, 1);
		return;
	}
	if (!(__sync_fetch_and_add(word, TRANSFER_CALL | moved) & TRANSFER_FULL))
		return;
	sum = __sync_lock_test_and_set(word, 0);
	__sync_fetch_and_add(bytes, sum & (TRANSFER_CALL - 1));
	__sync_fetch_and_add(calls, sum >> TRANSFER_BYTE_BITS);
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

/*
 * transfer_known is the counters of a file that its process has used by this descriptor before, so that there is nothing to
 * tell or to note; else NULL.
 */
static __always_inline struct transfer *transfer_known(const struct transfer_key *key,
						       __u32 descriptor)
{
	struct transfer *transfer = bpf_map_lookup_elem(&transfers, key);

	return transfer && transfer->last == descriptor + 1 ? transfer : NULL;
}

#endif
