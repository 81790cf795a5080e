/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sockets by which a sandbox speaks though they are of no watched cgroup: those of strays, and those that others made and
 * passed on. A socket is of the cgroup that made it, for good.
 *
 * Owns the count of them. The packet programs hang at the cgroups of sandboxes, where they do not see such a socket's
 * packets: user space has them hang at the root cgroup too while there is any. It must not report anything.
 */
#ifndef WATCHGLASS_OUTSIDE_H
#define WATCHGLASS_OUTSIDE_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "event.h"

/* outside_sockets holds how many there are. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} outside_sockets SEC(".maps");

/*
 * outside_wake has the reader look at once, without a record: each packet until it has the programs hang at the root
 * cgroup is not seen. Where the ring is full it is awake.
 */
static __always_inline void outside_wake(void)
{
	void *nothing = bpf_ringbuf_reserve(&events, sizeof(__u64), 0);

	if (nothing)
		bpf_ringbuf_discard(nothing, BPF_RB_FORCE_WAKEUP);
}

/* outside_add counts one more, of sockets or of whoever makes some. */
static __always_inline void outside_add(__u64 *count)
{
	if (count && !__sync_fetch_and_add(count, 1))
		outside_wake();
}

static __always_inline __u64 *outside_count(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&outside_sockets, &zero);
}

/* outside_begin counts a socket of no watched cgroup that a sandbox begins to speak by. */
static __always_inline void outside_begin(void)
{
	outside_add(outside_count());
}

/* outside_end takes one back that outside_begin counted. */
static __always_inline void outside_end(void)
{
	__u64 *count = outside_count();

	if (count)
		__sync_fetch_and_sub(count, 1);
}

#endif
