/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
//go:build ignore

/*
 * A flood of records, as fast as they are asked for: what the reading side can sustain is measured with it. Each goes
 * the way of every record of variable size, with its account and its sandbox's budget.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "../lib/event.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* FLOOD_SANDBOXES is how many sandboxes send by turns; a power of two. */
#define FLOOD_SANDBOXES 16
/* FLOOD_BYTES bounds a record; a power of two. */
#define FLOOD_BYTES 512

/* flood is what is asked for: so many records of a size, of a kind or'ed with its class. */
struct flood {
	__u64 count;
	__u64 what;
	__u64 size;
};

ABI_STRUCT(flood);

/* flood_room is the record and who sends it. */
struct flood_room {
	struct event_header header;
	__u8 rest[FLOOD_BYTES - sizeof(struct event_header)];
	__u64 sandboxes[FLOOD_SANDBOXES];
	__u64 what;
	__u64 size;
	/* Whose turn it is. */
	__u64 turn;
};

ABI_STRUCT(flood_room);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flood_room);
} flood_rooms SEC(".maps");

static long flood_step(__u32 index, void *unused)
{
	__u32 zero = 0;
	struct flood_room *room = bpf_map_lookup_elem(&flood_rooms, &zero);
	__u64 sandbox;

	if (!room)
		return 1;
	/* Not by index: of many short runs the first few would send all, and spend their budgets. */
	sandbox = room->sandboxes[room->turn++ & (FLOOD_SANDBOXES - 1)];
	room->header.time = bpf_ktime_get_boot_ns();
	room->header.sandbox = sandbox;
	room->header.cgroup = sandbox;
	event_output_as(sandbox, (__u32)room->what, room, room->size & (FLOOD_BYTES - 1));
	return 0;
}

/* Sends that many records, of the sandboxes by turns. */
SEC("syscall")
int test_flood(struct flood *flood)
{
	__u32 zero = 0;
	struct flood_room *room = bpf_map_lookup_elem(&flood_rooms, &zero);

	if (!room)
		return 1;
	room->what = flood->what;
	room->size = flood->size;
	bpf_loop((__u32)flood->count, flood_step, NULL, 0);
	return 0;
}
