/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Paths that only the caller's word exists of: of opens that failed, of names that were made or removed.
 *
 * Owns reading the text, and putting the directory before it that a relative one starts from. That
 * directory is the kernel's word; the text stays the caller's, and whoever tells it must say so, unless it is
 * the copy that the kernel made for itself (claim_kernel).
 *
 * Read at the exit of the call: the kernel has just read it, so its page is there, unless another thread
 * took it away since.
 */
#ifndef WATCHGLASS_CLAIM_H
#define WATCHGLASS_CLAIM_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "descriptor.h"
#include "path.h"

/* AT_FDCWD is a macro of the kernel, which BTF does not carry. */
#define AT_FDCWD (-100)

/* claim is one text, and what is known of it (enum path_flags). mix is lib/failed.h's, which makes it out of the text. */
struct claim {
	__u32 size;
	__u32 flags;
	__u64 mix;
	/* With room for a word of zeros behind the longest. */
	__u8 bytes[PATH_END + 8];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct claim);
} claims SEC(".maps");

/* claim_slot is the CPU's, of which there is one: a call that names two paths has the first one copied before the second is read. */
static __always_inline struct claim *claim_slot(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&claims, &zero);
}

/* claim_text reads a path of the caller's memory into the slot as it stands there. */
static __always_inline struct claim *claim_text(__u64 path)
{
	struct claim *claim = claim_slot();
	char last = 0;
	long size;

	if (!claim)
		return NULL;
	claim->size = 0;
	claim->flags = 0;
	size = bpf_probe_read_user_str(claim->bytes, PATH_END, (void *)path);
	/* The size counts the NUL. */
	if (size <= 0)
		return claim;
	if (size == PATH_END &&
	    !bpf_probe_read_user(&last, sizeof(last), (void *)(path + PATH_BYTES)) && last)
		claim->flags |= PATH_TRUNCATED;
	claim->size = (__u32)(size - 1) & PATH_BYTES;
	return claim;
}

/* claim_directory puts the directory that a relative path starts from before it, when both fit. */
static __always_inline void claim_directory(struct claim *claim, __s32 directory, __u32 walk_slot)
{
	__u32 asked = claim->size & PATH_BYTES;
	struct path_walk *walk;
	__u32 length;

	if (asked == 0 || claim->bytes[0] == '/')
		return;
	if (directory == AT_FDCWD) {
		walk = path_resolve_cwd(walk_slot);
	} else {
		struct file *file = descriptor_file((__u32)directory);

		if (!file)
			return;
		walk = path_resolve_file(walk_slot, file);
	}
	if (!walk)
		return;
	length = walk->length;
	if (length + 1 + asked > PATH_BYTES || (walk->flags & (PATH_TRUNCATED | PATH_PSEUDO)))
		return;
	/* After the directory's text, in the scratch that the walk leaves for this. */
	walk->bytes[PATH_END] = '/';
	bpf_probe_read_kernel(&walk->bytes[PATH_END + 1], asked, claim->bytes);
	walk->length = length + 1 + asked;
	claim->flags |= walk->flags & PATH_OUTSIDE;
	claim->size = path_copy(claim->bytes, walk);
}

/*
 * claim_finish makes the path in the slot absolute, using the slot of path_walks that is named. A global function: verified
 * once, not in each of its callers.
 */
__noinline int claim_finish(__s32 directory, __u32 walk_slot)
{
	struct claim *claim = claim_slot();

	if (!claim)
		return -1;
	claim_directory(claim, directory, walk_slot);
	return claim->size;
}

/*
 * claim_read reads the path at an address of the caller's into the slot and makes it absolute, using the
 * slot of path_walks that is named. A global function: verified once, not in each of its callers.
 */
__noinline int claim_read(__u64 path, __s32 directory, __u32 walk_slot)
{
	struct claim *claim = claim_text(path);

	if (!claim)
		return -1;
	claim_directory(claim, directory, walk_slot);
	return claim->size;
}

/* claim_kernel_text puts a path that the kernel has copied into the slot as it is. */
static __always_inline struct claim *claim_kernel_text(struct filename *name)
{
	struct claim *claim = claim_slot();
	const char *text = BPF_CORE_READ(name, name);
	long size;

	if (!claim)
		return NULL;
	claim->size = 0;
	claim->flags = 0;
	size = bpf_probe_read_kernel_str(claim->bytes, PATH_END, text);
	if (size <= 0)
		return claim;
	claim->size = (__u32)(size - 1) & PATH_BYTES;
	return claim;
}

/* claim_kernel is that, made absolute. */
static __always_inline struct claim *claim_kernel(struct filename *name, __s32 directory,
						  __u32 walk_slot)
{
	struct claim *claim = claim_kernel_text(name);

	if (claim && claim->size)
		claim_directory(claim, directory, walk_slot);
	return claim;
}

#endif
