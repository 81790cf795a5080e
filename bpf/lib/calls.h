/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How often each process made each system call, how often it failed, and how long it took.
 *
 * Owns the counters by process. Each call is counted once: here, or where a process, or a call of it, finds no
 * room here, with its sandbox. So a sandbox's sum is exact, whatever has room. It must not empty what it
 * counted: user space does that when the process has ended, so that no count is pushed out untold.
 *
 * Why not per CPU: that would be 2 KiB a process on every possible CPU. Calls are counted in a small table of each
 * CPU's own (lib/front.h) and added up here later, so that CPUs hardly ever contend for a counter.
 */
#ifndef WATCHGLASS_CALLS_H
#define WATCHGLASS_CALLS_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "event.h"

/* A process has room for so many calls, in rows by their number. */
#define CALLS_ROWS 16
#define CALLS_ROW 4
/* What mixes a number for its second row: of many, the one that leaves the fewest calls without room. */
#define CALLS_MIX 0x8723919fu
#define CALLS_MIX_SHIFT 28
/* Marks of a call's name: that there is one, and that its number is of i386. */
#define CALLS_NAMED 0x80000000u
#define CALLS_COMPAT 0x40000000u
/*
 * Latencies are counted by powers of two of a second: bucket 0 up to 2^-22 s, each next one up to twice as long, the last
 * one beyond 2^4 s. So they are the buckets of an exponential histogram of scale 0.
 */
#define CALLS_BUCKETS 28
/* What a duration in nanoseconds is multiplied with and shifted by for one in 2^-30 s; the first bucket has 8 bits of that. */
#define CALLS_TICKS 1125900
#define CALLS_TICKS_SHIFT 20
#define CALLS_FIRST_BITS 8
/* Longer ones would overflow: over two hours. */
#define CALLS_LONGEST (1ull << 43)

/* caller is a process. */
struct caller {
	__u64 start;
	__u32 pid;
	__u32 reserved;
};

/* caller_call is one system call of a process; name is 0 where there is none, else its number and marks. */
struct caller_call {
	__u32 name;
	__u32 reserved;
	__u64 calls;
	__u64 errors;
};

/* latencies is how long calls took: all together, in nanoseconds, and how many of them which time. */
struct latencies {
	__u64 sum;
	__u64 buckets[CALLS_BUCKETS];
};

/*
 * caller_calls is the calls of a process in one sandbox. other is how many of them are counted with the sandbox,
 * latencies those of all.
 */
struct caller_calls {
	__u64 sandbox;
	__u64 other;
	struct latencies latencies;
	struct caller_call calls[CALLS_ROWS * CALLS_ROW];
};

/* callers is filled here and emptied by user space. Without preallocation: most of it is never used. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2048);
	__type(key, struct caller);
	__type(value, struct caller_calls);
} callers SEC(".maps");

/* Too large for the stack. */
const volatile struct caller_calls caller_none;

/* counter_key is a counter's name: one system call of one sandbox, 32-bit calls, which have numbers of their own, apart. */
struct counter_key {
	__u64 sandbox;
	__u32 number;
	__u32 compat;
};

/* counter is calls that returned and no process has a counter for, and those of them that returned an error. */
struct counter {
	__u64 calls;
	__u64 errors;
};

/*
 * Preallocated: without, quick inserts of new keys fail with ENOMEM while the kernel refills its pool
 * (seen on 6.12 and 6.18). A full map counts in nothing but losses.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct counter_key);
	__type(value, struct counter);
} counters SEC(".maps");

/* call_latencies is how long each call of each sandbox took. The loader sizes it. What has no room there has no latency. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct counter_key);
	__type(value, struct latencies);
} call_latencies SEC(".maps");

/* Too large for the stack. */
const volatile struct latencies latencies_none;

/* calls_key is the name of a call of a sandbox, by its name among those of a process. */
static __always_inline struct counter_key calls_key(__u64 sandbox, __u32 name)
{
	struct counter_key key = {.sandbox = sandbox};

	key.number = name & ~(CALLS_NAMED | CALLS_COMPAT);
	key.compat = (name & CALLS_COMPAT) != 0;
	return key;
}

static __always_inline struct counter *counter_of(const struct counter_key *key)
{
	struct counter *counter = bpf_map_lookup_elem(&counters, key);
	struct counter none = {};

	if (counter)
		return counter;
	bpf_map_update_elem(&counters, key, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&counters, key);
}

static __always_inline struct latencies *latencies_of(const struct counter_key *key)
{
	struct latencies *latencies = bpf_map_lookup_elem(&call_latencies, key);

	if (latencies)
		return latencies;
	bpf_map_update_elem(&call_latencies, key, (const void *)&latencies_none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&call_latencies, key);
}

/* caller_of returns the counters of a process in a sandbox, NULL where there is no room for them. */
static __always_inline struct caller_calls *caller_of(__u64 sandbox, __u64 start, __u32 pid)
{
	struct caller key = {.start = start, .pid = pid};
	struct caller_calls *calls = bpf_map_lookup_elem(&callers, &key);

	if (!calls) {
		bpf_map_update_elem(&callers, &key, (const void *)&caller_none, BPF_NOEXIST);
		calls = bpf_map_lookup_elem(&callers, &key);
		if (!calls)
			return NULL;
		__sync_val_compare_and_swap(&calls->sandbox, 0, sandbox);
	}
	/* What it did before it was moved here is told of the sandbox that it was in. */
	return calls->sandbox == sandbox ? calls : NULL;
}

/*
 * caller_call_of returns the counters of one of a process's calls, NULL where both rows of its number are full. Two rows,
 * so that hardly any call of a process with many finds none.
 */
static __always_inline struct caller_call *caller_call_of(struct caller_calls *caller, __u32 name)
{
	__u32 row = (name & (CALLS_ROWS - 1)) * CALLS_ROW;
	struct caller_call *call;
	__u32 known;
	int i;

#pragma unroll
	for (i = 0; i < 2 * CALLS_ROW; i++) {
		if (i == CALLS_ROW)
			row = (name * CALLS_MIX >> CALLS_MIX_SHIFT) * CALLS_ROW;
		call = &caller->calls[row + i % CALLS_ROW];
		known = call->name;
		if (!known)
			known = __sync_val_compare_and_swap(&call->name, 0, name);
		if (!known || known == name)
			return call;
	}
	return NULL;
}

/* calls_add adds calls of a process to its counters, or where it has none for them, to those of its sandbox. */
static __always_inline void calls_add(struct caller_calls *caller, const struct counter_key *key,
				      __u32 name, __u64 calls, __u64 errors)
{
	struct caller_call *call = caller ? caller_call_of(caller, name) : NULL;
	struct counter *counter;

	if (call) {
		__sync_fetch_and_add(&call->calls, calls);
		__sync_fetch_and_add(&call->errors, errors);
		return;
	}
	if (caller)
		__sync_fetch_and_add(&caller->other, calls);
	counter = counter_of(key);
	if (!counter) {
		event_lose_many(key->sandbox, 0, calls);
		return;
	}
	__sync_fetch_and_add(&counter->calls, calls);
	__sync_fetch_and_add(&counter->errors, errors);
}

/* calls_bucket is the bucket of a duration in nanoseconds. */
static __always_inline __u32 calls_bucket(__u64 took)
{
	__u64 ticks = (took < CALLS_LONGEST ? took : CALLS_LONGEST) * CALLS_TICKS >>
		      (CALLS_TICKS_SHIFT + CALLS_FIRST_BITS);
	__u32 bucket = 0;

	if (ticks >> 32) {
		bucket += 32;
		ticks >>= 32;
	}
	if (ticks >> 16) {
		bucket += 16;
		ticks >>= 16;
	}
	if (ticks >> 8) {
		bucket += 8;
		ticks >>= 8;
	}
	if (ticks >> 4) {
		bucket += 4;
		ticks >>= 4;
	}
	if (ticks >> 2) {
		bucket += 2;
		ticks >>= 2;
	}
	bucket += ticks >> 1 ? 2 : ticks;
	return bucket < CALLS_BUCKETS ? bucket : CALLS_BUCKETS - 1;
}

#endif
