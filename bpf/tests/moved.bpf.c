/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
//go:build ignore

/*
 * Tests of lib/moved.h: a program that counts what calls moved.
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

ABI_STRUCT(moves);
ABI_STRUCT(transfer);
ABI_ENUM(transfer_packing);
