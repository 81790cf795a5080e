/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Operations on files that were asked of a ring and have no result yet.
 *
 * Owns what is kept of them, and finding an open by the kernel's copy of its path: the uring probe notes it, and where the
 * file probe is at the function that opens files, that one tells it there, by the file itself, before it is anybody's.
 */
#ifndef WATCHGLASS_PENDING_H
#define WATCHGLASS_PENDING_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "event.h"

/* URING_PENDING bounds the operations that wait for their result. */
#define URING_PENDING 512
/* URING_TEXT is the longest path that is kept until then; a longer one is cut, and marked. */
#define URING_TEXT 1024
#define URING_TEXT_MASK 1023

/* pending is an operation that was submitted. */
struct pending {
	struct event_header header;
	/* enum file_operation; 0 for an open. */
	__u32 operation;
	__u32 opcode;
	__u32 asked;
	__u32 mode;
	/* The kernel's copy of the path of an open: what it is found by, never to be read again. */
	__u64 name;
	__u32 path_flags;
	__u32 path_size;
	__u32 second_size;
	/* One more than the place in the ring's table that the opened file is to have, 0 for a descriptor. */
	__u32 slot;
	/* Whether another thread can have changed where a path begins that was not absolute. */
	__u32 relative;
	__u32 reserved;
	__u8 path[URING_TEXT];
	__u8 second[URING_TEXT];
};

/* pending_calls is by the kernel's request, preallocated: what submits may not sleep, and comes in batches. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, URING_PENDING);
	__type(key, __u64);
	__type(value, struct pending);
} pending_calls SEC(".maps");

/* pending_opens is the requests of opens, by the kernel's copy of the path. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, URING_PENDING);
	__type(key, __u64);
	__type(value, __u64);
} pending_opens SEC(".maps");

/* pending_open_noted says whether an open is noted, by the kernel's copy of its path. */
static __always_inline bool pending_open_noted(__u64 name)
{
	return bpf_map_lookup_elem(&pending_opens, &name) != NULL;
}

/* pending_opened forgets an open by the kernel's copy of its path, and says whether there was one. */
static __always_inline bool pending_opened(__u64 name)
{
	__u64 *request = bpf_map_lookup_elem(&pending_opens, &name);
	__u64 key;

	if (!request)
		return false;
	key = *request;
	bpf_map_delete_elem(&pending_calls, &key);
	bpf_map_delete_elem(&pending_opens, &name);
	return true;
}

#endif
