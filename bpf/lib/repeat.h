/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Opens that are told by a count: the same process opens the same file in the same way again.
 *
 * Owns the map of opens that need no record of their own, and what makes two opens the same. It must not
 * decide which those are: user space enters them, once it has seen that a file is none of those that are
 * watched. What it does not know yet, and what it watches, is told every time.
 *
 * The same means: process, inode, device, access, and the names of the file and of the two directories
 * above it, so that a file that was renamed, or its directory, is another one. A process whose threads share
 * descriptors can put another file in the place of the one it opened: then the path that was asked for, the end of a long
 * one, must be the same too, and the directory that it starts from.
 */
#ifndef WATCHGLASS_REPEAT_H
#define WATCHGLASS_REPEAT_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "claim.h"
#include "compat.h"
#include "direct.h"
#include "event.h"
#include "filemix.h"
#include "tick.h"

/* REPEAT_TAIL is how much of the end of a path that was asked for is compared, besides its length. */
#define REPEAT_TAIL 32
/*
 * REPEAT_WORDS is how much of a path is read at once: one that is shorter is compared as a whole. Twice as long as
 * REPEAT_TAIL, so that a mask of the length is enough for the 6.1 verifier.
 */
#define REPEAT_WORDS (2 * REPEAT_TAIL / 8)

/* Whether opens are told by counts at all; the loader sets it. */
const volatile __u32 repeats_counted;

struct repeat_key {
	/* Everything that makes opens the same but what follows. */
	__u64 mix;
	__u64 inode;
	__u64 start;
	__u32 device;
	__u32 pid;
};

/* repeat is how often it was opened again, and when last. */
struct repeat {
	__u64 count;
	__u64 last;
};

/* repeats is filled and emptied by user space alone, so that no count is ever pushed out untold. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, struct repeat_key);
	__type(value, struct repeat);
} repeats SEC(".maps");

/* repeat_mix_start mixes in where a path starts, by its first byte; false when that says too little. */
static __always_inline bool repeat_mix_start(__u64 *mix, __u8 first, __s32 directory)
{
	/* Not task_plain(): what that takes of the stack is more than Linux 6.1 lets the file probe have. */
	struct task_struct *task = bpf_get_current_task_btf();

	if (first == '/')
		return true;
	if (!first || directory != AT_FDCWD)
		return false;
	*mix = mix_word(*mix, DIRECT_ADDRESS(struct fs_struct, task->fs, pwd.dentry));
	return true;
}

/* Of a word, to find a byte that is 0: see Hacker's Delight, "Find First 0-Byte". */
#define REPEAT_ONES 0x0101010101010101ull
#define REPEAT_HIGHS 0x8080808080808080ull

/*
 * repeat_mix_near mixes in a path that ends within the words that were read of it; false when it does not. Without a
 * branch for each word: what follows the end counts as 0.
 */
static __always_inline bool repeat_mix_near(__u64 *mix, const __u64 words[REPEAT_WORDS])
{
	__u64 word, end, live = ~0ull;
	int i;

	for (i = 0; i < REPEAT_WORDS; i++) {
		word = words[i] & live;
		end = (word - REPEAT_ONES) & ~word & REPEAT_HIGHS;
		/* The lowest bit is that of the first 0; what is below its byte is of the path, all of it where there is none. */
		end &= -end;
		*mix = mix_word(*mix, word & ((end >> 7) - 1));
		live &= ((end | -end) >> 63) - 1;
	}
	return !live;
}

/* repeat_mix_far mixes in the end of a path, and how long it is. */
static __always_inline bool repeat_mix_far(__u64 *mix, __u64 path, __s32 directory,
					   __u64 tail[REPEAT_WORDS])
{
	struct claim *claim = claim_text(path);
	__u32 size, from;
	int i;

	if (!claim || !claim->size || !repeat_mix_start(mix, claim->bytes[0], directory))
		return false;
	size = claim->size & PATH_BYTES;
	*mix = mix_word(*mix, size);
	from = size > REPEAT_TAIL ? size - REPEAT_TAIL : 0;
	if (size > REPEAT_TAIL)
		size = REPEAT_TAIL;
	barrier_var(size);
	__builtin_memset(tail, 0, REPEAT_TAIL);
	bpf_probe_read_kernel(tail, size & (2 * REPEAT_TAIL - 1), &claim->bytes[from & PATH_BYTES]);
	for (i = 0; i < REPEAT_TAIL / 8; i++)
		*mix = mix_word(*mix, tail[i]);
	return true;
}

/* repeat_mix_asked mixes in what was asked for; false when that says too little. */
static __always_inline bool repeat_mix_asked(__u64 *mix, __u64 path, __s32 directory)
{
	__u64 words[REPEAT_WORDS] = {};
	__u64 near = *mix;

	/* One call for most paths; where the path lies at the end of a page and no other follows, it fails. */
	if (!bpf_probe_read_user(words, sizeof(words), (void *)path) &&
	    repeat_mix_near(&near, words)) {
		*mix = near;
		return repeat_mix_start(mix, (__u8)words[0], directory);
	}
	return repeat_mix_far(mix, path, directory, words);
}

/* repeat_count counts an open that needs no record. False means that it does. */
static __always_inline bool repeat_count(__u64 sandbox, __u32 kind, const struct repeat_key *key)
{
	struct repeat *repeat = bpf_map_lookup_elem(&repeats, key);

	if (!repeat)
		return false;
	__sync_fetch_and_add(&repeat->count, 1);
	repeat->last = tick_time();
	event_aggregate(sandbox, kind);
	return true;
}

#endif
