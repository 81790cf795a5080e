/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Changes of names, by the kernel's own objects: where a call that names paths has found what they mean.
 *
 * Owns what is kept of a change from the moment the kernel asks its security modules (security_path_*) to the call's
 * return: the paths, resolved, and the file. It must not know how a call came, nor its result.
 *
 * Why at that moment: symlinks, relative paths and mounts have been resolved, the directory is locked, and nothing has been
 * changed yet: a removed file still has its name, a renamed one its old. Why kept at all: only the return knows whether it
 * was done. Not kept on the stack of a task of its own, which may have thousands: a table, and who finds no room in it is
 * told by the caller's word, marked as such.
 *
 * Since 6.1 at least, with CONFIG_SECURITY_PATH; elsewhere the programs that need it do not hang, and all is told by the
 * caller's word.
 * Misses: what fails before the kernel asks: names that are not there, or are there already.
 */
#ifndef WATCHGLASS_RESOLVED_H
#define WATCHGLASS_RESOLVED_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "filerecord.h"
#include "hostpath.h"
#include "path.h"

/* RESOLVED_CHANGES is how many threads can be inside of such a call at once; the loader makes it 1 where none is looked at. */
#define RESOLVED_CHANGES 64
/* RESOLVED_PLACES is in how many places a thread's may be, RESOLVED_MIX and RESOLVED_SHIFT what makes the first of them. */
#define RESOLVED_PLACES 8
#define RESOLVED_MIX 0x9e3779b1u
#define RESOLVED_SHIFT 26

/* resolved_change is what is kept of a thread's call; thread is 0 where the place is nobody's. */
struct resolved_change {
	__u64 thread;
	struct change_record record;
};

/*
 * resolved_changes is by thread. Each is let go of at the call's return. Not a hash, of which the kernel would keep another
 * element for each CPU.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RESOLVED_CHANGES);
	__type(key, __u32);
	__type(value, struct resolved_change);
} resolved_changes SEC(".maps");

/*
 * resolved_path is a path of the kernel's, for the functions below: global functions take no kernel objects, and what has
 * been in a map is a number.
 */
struct resolved_path {
	__u64 mount;
	__u64 dentry;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct resolved_path);
} resolved_paths SEC(".maps");

/* resolved_put is a path for resolved_begin (0) or resolved_second (1). */
static __always_inline void resolved_put(__u32 slot, const struct vfsmount *mount,
					 const struct dentry *dentry)
{
	struct resolved_path *path = bpf_map_lookup_elem(&resolved_paths, &slot);

	if (path) {
		path->mount = (__u64)mount;
		path->dentry = (__u64)dentry;
	}
}

/* resolved_walk walks a path to the root of the current task. */
static __always_inline struct path_walk *resolved_walk(const struct resolved_path *path)
{
	if (path_resolve(FILE_WALK, path->mount, path->dentry, (__u64)bpf_get_current_task()) < 0)
		return NULL;
	return path_walk_slot(FILE_WALK);
}

/* resolved_place is one of the places of a thread, NULL where there are no more. */
static __always_inline struct resolved_change *resolved_place(__u64 thread, __u32 index)
{
	__u32 place =
		(((__u32)thread * RESOLVED_MIX >> RESOLVED_SHIFT) + index) & (RESOLVED_CHANGES - 1);

	return bpf_map_lookup_elem(&resolved_changes, &place);
}

/* resolved_taken is what is kept of the current thread's call, NULL for nothing. */
static __always_inline struct resolved_change *resolved_taken(void)
{
	__u64 thread = bpf_get_current_pid_tgid();
	__u32 i;

	for (i = 0; i < RESOLVED_PLACES; i++) {
		struct resolved_change *change = resolved_place(thread, i);

		if (!change)
			break;
		if (change->thread == thread)
			return change;
	}
	return NULL;
}

/* resolved_take is a place for the current thread: the one that it has, or one of nobody's, NULL where others have all. */
static __always_inline struct resolved_change *resolved_take(void)
{
	struct resolved_change *change = resolved_taken();
	__u64 thread = bpf_get_current_pid_tgid();
	__u32 i;

	if (change)
		return change;
	for (i = 0; i < RESOLVED_PLACES; i++) {
		change = resolved_place(thread, i);
		if (!change)
			break;
		if (!__sync_val_compare_and_swap(&change->thread, 0, thread))
			return change;
	}
	return NULL;
}

/* resolved_begin fills the CPU's record with a path and what is there; not 0 when it cannot. A global function: verified once. */
__noinline int resolved_begin(__u64 sandbox)
{
	__u32 zero = 0;
	struct resolved_path *path = bpf_map_lookup_elem(&resolved_paths, &zero);
	struct change_record *record = change_record_begin(sandbox);
	struct path_walk *walk;
	struct dentry *dentry;
	struct inode *inode;

	if (!record || !path)
		return -1;
	dentry = (struct dentry *)path->dentry;
	inode = DIRECT_READ(struct dentry, dentry, d_inode);
	if (inode) {
		struct super_block *block = DIRECT_READ(struct inode, inode, i_sb);

		record->change.inode = DIRECT_READ(struct inode, inode, i_ino);
		record->change.device = DIRECT_READ(struct super_block, block, s_dev);
		record->change.mode = DIRECT_READ(struct inode, inode, i_mode);
	}
	walk = resolved_walk(path);
	if (!walk)
		return -1;
	record->change.path_flags = walk->flags & ~PATH_DELETED;
	record->change.path_size = tail_walk(record->tail, 0, walk);
	if (!host_differs(task_plain()) ||
	    path_resolve_host(FILE_WALK, path->mount, path->dentry) <= 0)
		return 0;
	walk = path_walk_slot(FILE_WALK);
	if (walk)
		record->change.host_size = tail_walk(record->tail, record->change.path_size, walk);
	return 0;
}

/* resolved_second adds another path; not 0 when it cannot. */
__noinline int resolved_second(void)
{
	struct change_record *record = change_record_room();
	__u32 one = 1;
	struct resolved_path *path = bpf_map_lookup_elem(&resolved_paths, &one);
	struct path_walk *walk;

	if (!record || !path)
		return -1;
	walk = resolved_walk(path);
	if (!walk)
		return -1;
	record->change.path_flags |= walk->flags & PATH_TRUNCATED;
	record->change.second_size =
		tail_walk(record->tail, record->change.path_size + record->change.host_size, walk);
	return 0;
}

/* resolved_text adds a text of the kernel's as the second path. */
static __always_inline void resolved_text(const char *text)
{
	struct change_record *record = change_record_room();
	__u32 at;
	long size;

	if (!record)
		return;
	at = record->change.path_size + record->change.host_size;
	size = bpf_probe_read_kernel_str(&record->tail[at & FILE_TAIL_START], PATH_END, text);
	if (size > 0)
		record->change.second_size = (__u32)(size - 1) & PATH_BYTES;
}

/* resolved_keep keeps the CPU's record for the return of the call that the current thread is in. */
static __always_inline void resolved_keep(void)
{
	struct change_record *record = change_record_room();
	struct resolved_change *kept;
	__u64 size;

	if (!record)
		return;
	kept = resolved_take();
	if (!kept)
		return;
	size = record->change.path_size + record->change.host_size + record->change.second_size;
	bpf_probe_read_kernel(&kept->record, sizeof(record->change) + (size & FILE_TAIL_MASK),
			      record);
}

/* resolved_drop lets go of what is kept of the current thread's call. */
static __always_inline void resolved_drop(void)
{
	struct resolved_change *kept = resolved_taken();

	if (kept)
		__sync_lock_test_and_set(&kept->thread, 0);
}

#endif
