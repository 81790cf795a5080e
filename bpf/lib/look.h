/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Copies of kernel objects, for those who look at many of their fields.
 *
 * Owns the room for them. It must not know what they are looked at for.
 */
#ifndef WATCHGLASS_LOOK_H
#define WATCHGLASS_LOOK_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/*
 * repeat_look is copies of kernel objects: one read of each, since reads of single fields are most of what this
 * costs. LOOK_FILE and LOOK_OBJECT hold all fields that are asked for, on every kernel that the loader accepts.
 */
#define LOOK_FILE 256
#define LOOK_OBJECT 192

struct repeat_look {
	__u8 file[LOOK_FILE];
	__u8 dentry[LOOK_OBJECT];
	__u8 inode[LOOK_OBJECT];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct repeat_look);
} repeat_looks SEC(".maps");

/* LOOK is a field of a copy. */
#define LOOK(copy, type, field)                                                                    \
	(*(typeof(((type *)0)->field) *)((copy) + bpf_core_field_offset(type, field)))

#endif
