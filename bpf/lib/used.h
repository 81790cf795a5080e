/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which descriptors of a process were used for a file whose reads and writes are counted.
 *
 * Owns the map of them, for those who note them (lib/transfer.h) and for the program on the hook of system calls, which hands
 * on no close of another one: nearly none was used so. It must not know what is counted.
 */
#ifndef WATCHGLASS_USED_H
#define WATCHGLASS_USED_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "event.h"

/* transfer_key is a file of a process. */
struct transfer_key {
	__u64 inode;
	__u64 start;
	__u32 device;
	__u32 pid;
};

/* used_descriptor is a descriptor of a process. */
struct used_descriptor {
	__u64 start;
	__u32 pid;
	__u32 descriptor;
};

/* used_descriptors is LRU: of a descriptor that is pushed out the close is not seen, only that it is idle. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct used_descriptor);
	__type(value, struct transfer_key);
} used_descriptors SEC(".maps");

static __always_inline struct used_descriptor used_descriptor_of(const struct event_caller *caller,
								 __u32 descriptor)
{
	struct used_descriptor used = {
		.start = caller->start,
		.pid = caller->pid,
		.descriptor = descriptor,
	};

	return used;
}

/* used_descriptor_noted says whether a descriptor of a caller was noted. */
static __always_inline bool used_descriptor_noted(const struct event_caller *caller,
						  __u32 descriptor)
{
	struct used_descriptor used = used_descriptor_of(caller, descriptor);

	return bpf_map_lookup_elem(&used_descriptors, &used) != NULL;
}

#endif
