/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rooms that all CPUs share: where records are put together that take too much memory for one on each CPU.
 *
 * Owns who is in which. It must not know what is in a room: that is a map of the includer's with an entry for each.
 *
 * Why few are enough: a CPU is in its room for some microseconds, once for every exec of its. Where there are as many rooms
 * as CPUs each has its own; else, who finds it taken tries the others in turn, and then waits for the first to be left.
 *
 * So only a program may take one that is not preempted in it, and cannot interrupt another one that does, as those of
 * tracepoints are: it would wait for what it stands in the way of.
 */
#ifndef WATCHGLASS_ROOM_H
#define WATCHGLASS_ROOM_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

/*
 * ROOM_TRIES bounds the wait to some milliseconds. They are up where the CPUs in all of the rooms stand still meanwhile, as
 * those of a virtual machine can: then there is no room.
 */
#define ROOM_TRIES (1 << 18)

/* How many rooms there are; the loader sets it, and the size of room_doors. */
const volatile __u32 rooms;

/* room_door is whether a room is taken. Of a cache line: each is another CPU's, mostly. */
struct room_door {
	__u32 taken;
	__u32 reserved[15];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct room_door);
} room_doors SEC(".maps");

/* room_enter takes a room if nobody has it. */
static __always_inline bool room_enter(__u32 room)
{
	struct room_door *door = bpf_map_lookup_elem(&room_doors, &room);

	return door && !*(volatile __u32 *)&door->taken &&
	       !__sync_val_compare_and_swap(&door->taken, 0, 1);
}

/* room_search is on the stack and constant during a loop. */
struct room_search {
	__u32 first;
};

static long room_step(__u32 index, struct room_search *search)
{
	/* Nobody gets in by the last step, so that the number of steps says whether and where. */
	return index == ROOM_TRIES - 1 || room_enter((search->first + index) % rooms);
}

/* room_take takes a room, until room_leave; -1 for none. */
static __always_inline __s32 room_take(void)
{
	struct room_search search = {.first = bpf_get_smp_processor_id()};
	long steps;

	if (room_enter(search.first % rooms))
		return (__s32)(search.first % rooms);
	steps = bpf_loop(ROOM_TRIES, room_step, &search, 0);
	if (steps < 1 || steps >= ROOM_TRIES)
		return -1;
	return (__s32)((search.first + (__u32)steps - 1) % rooms);
}

/* room_leave gives a room back: with a full barrier, so that all that was done in it is over. */
static __always_inline void room_leave(__u32 room)
{
	struct room_door *door = bpf_map_lookup_elem(&room_doors, &room);

	if (door)
		__sync_lock_test_and_set(&door->taken, 0);
}

#endif
