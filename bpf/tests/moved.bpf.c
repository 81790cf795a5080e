/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
//go:build ignore

/*
 * Tests of lib/moved.h: programs that count what calls moved.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "../lib/moved.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* moves is so many calls that move so many bytes each. */
struct moves {
	__u64 bytes;
	__u64 calls;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct transfer);
} counted SEC(".maps");

static long moves_step(__u32 index, struct moves *moves)
{
	__u32 zero = 0;
	struct transfer *transfer = bpf_map_lookup_elem(&counted, &zero);

	if (!transfer)
		return 1;
	transfer_count_read(transfer, moves->bytes);
	transfer_count_written(transfer, moves->bytes);
	return 0;
}

/* Counts calls that read, and as many that write. Answers how many. */
SEC("syscall")
int test_transfer_count(struct moves *moves)
{
	struct moves own = *moves;

	return bpf_loop(own.calls, moves_step, &own, 0);
}

enum place_step {
	PLACE_NOTE,
	PLACE_CLOSE,
	PLACE_COUNT,
};

/* place_test is something that is done with the place of a file: so many calls of so many bytes each are counted there. */
struct place_test {
	struct transfer_key key;
	__u64 bytes;
	__u64 calls;
	__u32 descriptor;
	/* enum place_step. */
	__u32 step;
	__u64 found;
};

static long place_count_step(__u32 index, struct place_test *test)
{
	if (moving_count(&test->key, test->descriptor, index & 1, test->bytes))
		test->found++;
	return 0;
}

/* Does a step. Answers how many calls found the place. */
SEC("syscall")
int test_moving(struct place_test *test)
{
	struct place_test own = *test;

	own.found = 0;
	if (own.step == PLACE_NOTE)
		moving_note(&own.key, 99, own.descriptor + 1);
	else if (own.step == PLACE_CLOSE)
		moving_closed(&own.key);
	else
		bpf_loop(own.calls, place_count_step, &own, 0);
	return own.found;
}

ABI_STRUCT(moves);
ABI_STRUCT(transfer_key);
ABI_STRUCT(place_test);
ABI_ENUM(place_step);
ABI_STRUCT(moving);
ABI_ENUM(moving_state);
ABI_STRUCT(transfer);
ABI_ENUM(transfer_packing);
