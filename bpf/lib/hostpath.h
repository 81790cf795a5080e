/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Paths as the host sees them, where that is not how the sandbox sees them: in a container, below a
 * chroot, behind a private bind mount.
 *
 * Owns finding a mount of the file's file system in the host's mount namespace, and the walk from there.
 * Where a file system is mounted on the host at all (the merged directory of a container's overlay, a
 * volume, a disk), every file of it has a path there; where it is not (a tmpfs of the container's own),
 * it has none, and none is told.
 *
 * Why through the super block: mounts of a container are copies of the host's, whose parents lead to the
 * top of the container's own tree. What both have in common is the super block, which lists its mounts.
 *
 * Misses: a file system of which the host has mounted only directories that the file is not in, and one
 * with more than HOST_MOUNTS mounts before the host's. The list is read without its lock: a mount that
 * comes or goes meanwhile can hide the others, which then means that no path is told.
 */
#ifndef WATCHGLASS_HOSTPATH_H
#define WATCHGLASS_HOSTPATH_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "path.h"

/* HOST_MOUNTS bounds how many mounts of one file system are looked at. */
#define HOST_MOUNTS 1024

/* Which mount namespace is the host's; 0 where that is not known, and then no path is told. The loader sets it. */
const volatile __u32 host_mounts;

/*
 * The mounts of a super block: in 6.1 and 6.12 a list_head, linked by mnt_instance; in 6.18 a chain by
 * mnt_next_for_sb. May go when the minimum has the chain.
 */
struct super_block___list {
	struct list_head s_mounts;
} __attribute__((preserve_access_index));

struct mount___list {
	struct list_head mnt_instance;
} __attribute__((preserve_access_index));

/* host_search is the state of a search: in a map, see path.h. */
struct host_search {
	/* The next mount, or list_head in one, and the head of the list; 0 at the end of a chain. */
	__u64 next;
	__u64 head;
	__u64 root;
	/* The best mount so far. */
	__u64 found;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct host_search);
} host_searches SEC(".maps");

static __always_inline __u32 mount_namespace(const struct mount *mount)
{
	struct mnt_namespace *namespace = DIRECT_READ(struct mount, mount, mnt_ns);

	return DIRECT_READ(struct mnt_namespace, namespace, ns.inum);
}

struct host_context {
	struct host_search *search;
};

static long host_step(__u32 index, struct host_context *context)
{
	struct host_search *search = context->search;
	struct mount *mount = (struct mount *)search->next;

	if (!bpf_core_field_exists(mount->mnt_next_for_sb)) {
		struct list_head *entry = (struct list_head *)search->next;

		if (search->next == search->head)
			return 1;
		mount = (void *)entry - bpf_core_field_offset(struct mount___list, mnt_instance);
		search->next = (__u64)DIRECT_READ(struct list_head, entry, next);
	} else {
		search->next = (__u64)DIRECT_READ(struct mount, mount, mnt_next_for_sb);
	}
	if (mount_namespace(mount) == host_mounts) {
		search->found = (__u64)mount;
		/* A mount of the whole file system has every file of it. */
		if ((__u64)DIRECT_READ(struct mount, mount, mnt.mnt_root) == search->root)
			return 1;
	}
	return !search->next;
}

/* host_mount is a mount of the super block in the host's namespace, or NULL. */
static __always_inline struct mount *host_mount(struct super_block *block)
{
	struct super_block___list *listed = (void *)block;
	struct host_context context;
	struct mount *mount = NULL;
	__u32 zero = 0;

	context.search = bpf_map_lookup_elem(&host_searches, &zero);
	if (!context.search)
		return NULL;
	context.search->found = 0;
	context.search->root = (__u64)DIRECT_READ(struct super_block, block, s_root);
	if (bpf_core_field_exists(mount->mnt_next_for_sb)) {
		context.search->next = (__u64)DIRECT_READ(struct super_block, block, s_mounts);
	} else {
		context.search->head =
			(__u64)block + bpf_core_field_offset(struct super_block___list, s_mounts);
		context.search->next = (__u64)BPF_CORE_READ(listed, s_mounts.next);
	}
	if (context.search->next)
		bpf_loop(HOST_MOUNTS, host_step, &context, 0);
	return (struct mount *)context.search->found;
}

/* host_differs says whether a task may see other paths than the host: a few loads where it does not. */
static __always_inline bool host_differs(struct task_struct *task)
{
	struct mount *mount, *parent;
	struct vfsmount *mnt;

	if (!host_mounts)
		return false;
	if (task->nsproxy->mnt_ns->ns.inum != host_mounts)
		return true;
	mnt = task->fs->root.mnt;
	if (task->fs->root.dentry != mnt->mnt_root)
		return true;
	/* The root is usually mounted over that of the initial RAM disk, and there the tree ends. */
	mount = (void *)mnt - bpf_core_field_offset(struct mount, mnt);
	parent = DIRECT_READ(struct mount, mount, mnt_parent);
	return parent != mount && (DIRECT_READ(struct mount, mount, mnt_mountpoint) !=
					   DIRECT_READ(struct mount, parent, mnt.mnt_root) ||
				   DIRECT_READ(struct mount, parent, mnt_parent) != parent);
}

/*
 * path_resolve_host walks from dentry on the vfsmount to the root of the host and leaves the result in the
 * slot. It returns the number of bytes; 0 or less when the host has no path for it.
 */
__noinline int path_resolve_host(__u32 slot, __u64 vfsmount, __u64 dentry)
{
	struct path_walk *walk = path_walk_slot(slot);
	struct path_context context = {.walk = walk};
	struct vfsmount *mnt = (struct vfsmount *)vfsmount;
	struct mount *mount;

	if (!walk)
		return -1;
	mount = (void *)mnt - bpf_core_field_offset(struct mount, mnt);
	if (mount_namespace(mount) != host_mounts)
		mount = host_mount(DIRECT_READ(struct vfsmount, mnt, mnt_sb));
	if (!mount)
		return 0;
	walk->root_dentry = 0;
	walk->root_mount = 0;
	walk->dentry = dentry;
	walk->mount = (__u64)mount;
	walk->mount_root = (__u64)DIRECT_READ(struct mount, mount, mnt.mnt_root);
	walk->start = PATH_END;
	walk->flags = 0;
	walk->done = 0;
	bpf_loop(PATH_STEPS, path_step, &context, 0);
	if (!walk->done)
		walk->flags |= PATH_TRUNCATED;
	if (walk->flags & PATH_PSEUDO)
		return 0;
	if (walk->start >= PATH_END) {
		walk->start = PATH_END - 1;
		walk->bytes[PATH_END - 1] = '/';
	}
	walk->length = PATH_END - walk->start;
	return walk->length;
}

/* path_resolve_file_host is the path of an open file of a task on the host, NULL where it is none or no other one. */
static __always_inline struct path_walk *path_resolve_file_host(__u32 slot, struct file *file,
								struct task_struct *task)
{
	__u64 mount = DIRECT_ADDRESS(struct file, file, f_path.mnt);

	if (!host_differs(task))
		return NULL;
	if (path_resolve_host(slot, mount, DIRECT_ADDRESS(struct file, file, f_path.dentry)) <= 0)
		return NULL;
	return path_walk_slot(slot);
}

#endif
