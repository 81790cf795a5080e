/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * SipHash-1-3 of a text under a key that nobody in a sandbox knows.
 *
 * Owns the hash. It must not know what is hashed.
 *
 * Why this one: who can find two texts of equal hash can have one told under the name of the other. The sums and
 * multiplications that are enough for numbers of the kernel's own are not for text of the caller's choosing.
 */
#ifndef WATCHGLASS_SIPHASH_H
#define WATCHGLASS_SIPHASH_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

/* siphash_key is random; user space sets it at the start. While it is 0, nothing is hashed. */
volatile __u64 siphash_key[2];

struct siphash {
	__u64 v0, v1, v2, v3;
};

static __always_inline __u64 siphash_turn(__u64 value, __u32 bits)
{
	return value << bits | value >> (64 - bits);
}

static __always_inline void siphash_round(struct siphash *s)
{
	s->v0 += s->v1;
	s->v1 = siphash_turn(s->v1, 13) ^ s->v0;
	s->v0 = siphash_turn(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = siphash_turn(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = siphash_turn(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = siphash_turn(s->v1, 17) ^ s->v2;
	s->v2 = siphash_turn(s->v2, 32);
}

/* siphash_begin starts a hash; false while there is no key. */
static __always_inline bool siphash_begin(struct siphash *s)
{
	__u64 k0 = siphash_key[0], k1 = siphash_key[1];

	if (!k0)
		return false;
	s->v0 = k0 ^ 0x736f6d6570736575ull;
	s->v1 = k1 ^ 0x646f72616e646f6dull;
	s->v2 = k0 ^ 0x6c7967656e657261ull;
	s->v3 = k1 ^ 0x7465646279746573ull;
	return true;
}

static __always_inline void siphash_word(struct siphash *s, __u64 word)
{
	s->v3 ^= word;
	siphash_round(s);
	s->v0 ^= word;
}

static __always_inline __u64 siphash_end(struct siphash *s)
{
	s->v2 ^= 0xff;
	siphash_round(s);
	siphash_round(s);
	siphash_round(s);
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

#endif
