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

/* REPEATS is how many places there are. An open is counted at one of two, next to each other, that its process and mix say. */
#define REPEATS 4096
#define REPEAT_MIX 0x9e3779b1u

/*
 * repeat is which open a place is of, and of which sandbox: of nobody where the mix is 0; how often it was opened again since
 * that was told, and when last.
 */
struct repeat {
	struct repeat_key key;
	__u64 sandbox;
	__u64 count;
	__u64 last;
};

/*
 * repeats is filled and emptied by user space alone, so that no count is ever pushed out untold. Why no hash: the place is
 * found by comparing, with no call, and the sandbox's account by who tells the count: none is looked up for each open.
 * What finds both of its places taken is told each time.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, REPEATS);
	__type(key, __u32);
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

/* repeat_place is the first of the places of an open. */
static __always_inline __u32 repeat_place(const struct repeat_key *key)
{
	__u32 mix = (__u32)(key->mix >> 32) ^ key->pid * REPEAT_MIX;

	return (__u32)((__u64)mix * (REPEATS / 2) >> 32) * 2;
}

/* repeat_of is what is at a place if that is of the open; else NULL. */
static __always_inline struct repeat *repeat_of(__u32 place, __u64 sandbox,
						const struct repeat_key *key)
{
	struct repeat *repeat = bpf_map_lookup_elem(&repeats, &place);

	if (repeat && repeat->key.mix == key->mix && repeat->key.inode == key->inode &&
	    repeat->key.start == key->start && repeat->key.device == key->device &&
	    repeat->key.pid == key->pid && repeat->sandbox == sandbox)
		return repeat;
	return NULL;
}

/* repeat_count counts an open that needs no record. False means that it does. */
static __always_inline bool repeat_count(__u64 sandbox, const struct repeat_key *key)
{
	__u32 place = repeat_place(key);
	struct repeat *repeat = repeat_of(place, sandbox, key);

	if (!repeat)
		repeat = repeat_of(place + 1, sandbox, key);
	if (!repeat)
		return false;
	__sync_fetch_and_add(&repeat->count, 1);
	repeat->last = tick_time();
	return true;
}

/* repeat_take gives a place to an open, where it is nobody's. kind is that of the records that it needs no more. */
static __always_inline bool repeat_take(__u32 place, __u64 sandbox, const struct repeat_key *key,
					__u32 kind)
{
	struct repeat *repeat = bpf_map_lookup_elem(&repeats, &place);
	__u64 late;

	if (!repeat || repeat->key.mix)
		return false;
	/* Counted by a program that had found the place when it was given back. */
	late = __sync_lock_test_and_set(&repeat->count, 0);
	if (late)
		event_lose_many(repeat->sandbox, kind, late);
	repeat->last = 0;
	repeat->sandbox = sandbox;
	repeat->key.inode = key->inode;
	repeat->key.start = key->start;
	repeat->key.device = key->device;
	repeat->key.pid = key->pid;
	__sync_lock_test_and_set(&repeat->key.mix, key->mix);
	return true;
}

/* repeat_end has an open counted no more. */
static __always_inline void repeat_end(__u32 place)
{
	struct repeat *repeat = bpf_map_lookup_elem(&repeats, &place);

	if (repeat)
		__sync_lock_test_and_set(&repeat->key.mix, 0);
}

/* repeat_told takes off what was told of a count, which the sandbox's account has from now on. */
static __always_inline void repeat_told(__u32 place, __u64 told, __u32 kind)
{
	struct repeat *repeat = bpf_map_lookup_elem(&repeats, &place);

	if (!repeat || !told)
		return;
	__sync_fetch_and_add(&repeat->count, -told);
	event_aggregate_many(repeat->sandbox, kind, told);
}

#endif
