/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Absolute paths of kernel objects, as a task's root sees them.
 *
 * Owns the walk from a (mount, dentry) pair up to the root. It must not read user memory.
 *
 * Why not bpf_d_path(): tracepoint programs may not call it ("helper call is not allowed in
 * probe", 5.10 to 6.18), and it says neither whether it cut nor whether the file still has a name.
 *
 * Which path: the kernel's prepend_path() rules. The walk crosses mounts (bind mounts, overlays,
 * pivot_root) and stops at task->fs->root, so a process in a container or a chroot gets the path it
 * would use itself. Marked, each by a flag: cut at PATH_BYTES (the outer directories are
 * lost, the file's own name stays), outside of the task's root (the path is then from the mount
 * tree's top), deleted, and pseudo files that live in no directory (pipe, socket, memfd).
 *
 * Misses: a rename of a directory above the file during the walk may show a mix of the old and the
 * new path, since rename_lock cannot be read from here. It cannot make up a name that never was.
 *
 * Loops: state lives in a map value. Kernels up to 6.1 verify a bpf_loop() callback once, take what
 * only later rounds change on the stack for constant and delete branches without an error.
 *
 * The includer may define PATH_SLOTS before: each program that can interrupt another one of the
 * same object needs its own slot. A program cannot interrupt itself on one CPU: the kernel counts
 * the second run as missed. Each CPU has slots of its own, unless the includer defines PATH_SHARED: then
 * all have the same ones, as many as the loader says, and who uses one must have it alone.
 */
#ifndef WATCHGLASS_PATH_H
#define WATCHGLASS_PATH_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "direct.h"

/* PATH_BYTES is the longest path told, without a terminating NUL: the longest that open(2) takes. */
#define PATH_BYTES 4095
/* PATH_END is where the walk's text ends in path_walk.bytes: it is written backwards from here. */
#define PATH_END 4096
/* PATH_STEPS bounds names and mounts of one walk; 4,095 bytes hold at most 2,048 names. */
#define PATH_STEPS 3072
/* PATH_NAME_MASK bounds one name: no file system has longer ones than 255 bytes. */
#define PATH_NAME_MASK 255

#ifndef PATH_SLOTS
#define PATH_SLOTS 1
#endif
#ifdef PATH_SHARED
#define PATH_MAP BPF_MAP_TYPE_ARRAY
#else
#define PATH_MAP BPF_MAP_TYPE_PERCPU_ARRAY
#endif

enum path_flags {
	PATH_TRUNCATED = 1,
	PATH_OUTSIDE = 2,
	PATH_DELETED = 4,
	PATH_PSEUDO = 8,
};

/* path_walk is one walk: its state, then its result, bytes[start] to bytes[start + length]. */
struct path_walk {
	/* The next name to write, the mount it is on, and that mount's root. */
	__u64 dentry;
	__u64 mount;
	__u64 mount_root;
	/* Where the task's root is: a dentry and a vfsmount. */
	__u64 root_dentry;
	__u64 root_mount;
	__u32 start;
	__u32 length;
	__u32 flags;
	__u32 done;
	/*
	 * The walk's text ends at PATH_END. What follows is the caller's to append to, and slack that
	 * lets the verifier accept any masked offset with any masked length.
	 */
	__u8 bytes[2 * PATH_END + PATH_NAME_MASK + 1];
};

struct {
	__uint(type, PATH_MAP);
	__uint(max_entries, PATH_SLOTS);
	__type(key, __u32);
	__type(value, struct path_walk);
} path_walks SEC(".maps");

static __always_inline struct path_walk *path_walk_slot(__u32 slot)
{
	return bpf_map_lookup_elem(&path_walks, &slot);
}

/* path_step_mount goes from a mount's root to where it is mounted. It returns 1 at the topmost mount. */
static __always_inline long path_step_mount(struct path_walk *walk)
{
	struct mount *mount = (struct mount *)walk->mount;
	struct mount *parent = DIRECT_READ(struct mount, mount, mnt_parent);

	if (!parent || parent == mount) {
		walk->flags |= PATH_OUTSIDE;
		walk->done = 1;
		return 1;
	}
	walk->dentry = (__u64)DIRECT_READ(struct mount, mount, mnt_mountpoint);
	walk->mount = (__u64)parent;
	walk->mount_root = (__u64)DIRECT_READ(struct mount, parent, mnt.mnt_root);
	return 0;
}

/* path_put copies one name to where it belongs. */
static __always_inline void path_put(struct path_walk *walk, __u32 start, const struct qstr *name,
				     __u32 size)
{
	if (DIRECT && size <= DIRECT_TEXT)
		direct_text(&walk->bytes[start & (PATH_END - 1)], (__u64)name->name, size);
	else
		bpf_probe_read_kernel(&walk->bytes[start & (PATH_END - 1)], size, name->name);
}

/* path_name reads the name of a dentry. */
static __always_inline void path_name(struct qstr *name, struct dentry *dentry)
{
	if (DIRECT) {
		struct dentry *at = DIRECT_AT(struct dentry, dentry);

		name->len = at->d_name.len;
		name->name = at->d_name.name;
		return;
	}
	bpf_core_read(name, sizeof(*name), &dentry->d_name);
}

/* path_step_name writes one name. It returns 1 when there is no room, or the dentry is nobody's child. */
static __always_inline long path_step_name(struct path_walk *walk)
{
	struct dentry *dentry = (struct dentry *)walk->dentry;
	struct dentry *parent = DIRECT_READ(struct dentry, dentry, d_parent);
	struct qstr name = {};
	__u32 start = walk->start;
	__u32 size;

	path_name(&name, dentry);
	size = name.len & PATH_NAME_MASK;
	if (!parent || parent == dentry) {
		/* A pipe, a socket, a memfd, or a directory cut off from its mount: a name, no path. */
		walk->flags |= PATH_PSEUDO;
		walk->done = 1;
		if (start == PATH_END && size > 0) {
			start -= size;
			path_put(walk, start, &name, size);
			walk->start = start;
		}
		return 1;
	}
	if (start > PATH_END || start < size + 2 || size == 0) {
		/* One byte more than the name and its slash: the text may be PATH_BYTES long, not PATH_END. */
		walk->flags |= PATH_TRUNCATED;
		walk->done = 1;
		return 1;
	}
	start -= size;
	path_put(walk, start, &name, size);
	start -= 1;
	walk->bytes[start & (PATH_END - 1)] = '/';
	walk->start = start;
	walk->dentry = (__u64)parent;
	return 0;
}

/* path_context is on the stack and constant during a loop: only a pointer to where the state is. */
struct path_context {
	struct path_walk *walk;
};

/* path_arrived says whether a walk is where the task's root is. */
static __always_inline bool path_arrived(struct path_walk *walk)
{
	struct mount *at = (struct mount *)walk->mount;

	if (walk->dentry != walk->root_dentry ||
	    (__u64)__builtin_preserve_access_index(&at->mnt) != walk->root_mount)
		return false;
	walk->done = 1;
	return true;
}

static long path_step(__u32 index, struct path_context *context)
{
	struct path_walk *walk = context->walk;

	if (path_arrived(walk))
		return 1;
	if (walk->dentry == walk->mount_root)
		return path_step_mount(walk);
	return path_step_name(walk);
}

/* PATH_NEAR is how many steps are made without a call for each. */
#define PATH_NEAR 3

/* path_climb makes all steps of a walk. */
static __always_inline void path_climb(struct path_context *context)
{
	__u32 i;

	/* The verifier goes through each of them again for every way through those before: few. */
	for (i = 0; i < PATH_NEAR; i++)
		if (path_step(i, context))
			return;
	if (path_arrived(context->walk))
		return;
	bpf_loop(PATH_STEPS, path_step, context, 0);
}

/*
 * path_resolve walks from dentry on the vfsmount up to the root of the task, whose address is given,
 * and leaves the result in the slot. It returns the number of bytes, at least 1, or a negative number
 * when the slot does not exist. A global function: verified once, not in each of its callers.
 */
__noinline int path_resolve(__u32 slot, __u64 vfsmount, __u64 dentry, __u64 owner)
{
	struct path_walk *walk = path_walk_slot(slot);
	struct path_context context = {.walk = walk};
	struct task_struct *task = (struct task_struct *)owner;
	struct vfsmount *mnt = (struct vfsmount *)vfsmount;
	struct dentry *leaf = (struct dentry *)dentry;
	struct fs_struct *fs;

	if (!walk)
		return -1;
	fs = DIRECT_READ(struct task_struct, task, fs);
	walk->root_dentry = (__u64)DIRECT_READ(struct fs_struct, fs, root.dentry);
	walk->root_mount = (__u64)DIRECT_READ(struct fs_struct, fs, root.mnt);
	walk->dentry = dentry;
	walk->mount = vfsmount - bpf_core_field_offset(struct mount, mnt);
	walk->mount_root = (__u64)DIRECT_READ(struct vfsmount, mnt, mnt_root);
	walk->start = PATH_END;
	walk->flags = 0;
	walk->done = 0;
	/* As the kernel's d_unlinked(): unhashed, and not the root of a tree of its own. */
	if (!DIRECT_READ(struct dentry, leaf, d_hash.pprev) &&
	    DIRECT_READ(struct dentry, leaf, d_parent) != leaf)
		walk->flags |= PATH_DELETED;

	path_climb(&context);

	if (!walk->done)
		walk->flags |= PATH_TRUNCATED;
	if (walk->start >= PATH_END && !(walk->flags & PATH_PSEUDO)) {
		walk->start = PATH_END - 1;
		walk->bytes[PATH_END - 1] = '/';
	}
	walk->length = PATH_END - walk->start;
	return walk->length;
}

/* path_resolve_file_of resolves the path of an open file as the task at an address sees it. */
static __always_inline struct path_walk *path_resolve_file_of(__u32 slot, struct file *file,
							      __u64 owner)
{
	__u64 mount = DIRECT_ADDRESS(struct file, file, f_path.mnt);

	if (path_resolve(slot, mount, DIRECT_ADDRESS(struct file, file, f_path.dentry), owner) < 0)
		return NULL;
	return path_walk_slot(slot);
}

/* path_resolve_file resolves the path of an open file, path_resolve_cwd that of the current directory. */
static __always_inline struct path_walk *path_resolve_file(__u32 slot, struct file *file)
{
	return path_resolve_file_of(slot, file, bpf_get_current_task());
}

static __always_inline struct path_walk *path_resolve_cwd(__u32 slot)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct fs_struct *fs = DIRECT_READ(struct task_struct, task, fs);
	__u64 mount = DIRECT_ADDRESS(struct fs_struct, fs, pwd.mnt);

	if (path_resolve(slot, mount, DIRECT_ADDRESS(struct fs_struct, fs, pwd.dentry),
			 (__u64)task) < 0)
		return NULL;
	return path_walk_slot(slot);
}

/*
 * path_copy copies the result to dst, which must have room for PATH_BYTES, and returns how many bytes
 * that were: 0 when there is nothing, never more than PATH_BYTES.
 */
static __always_inline __u32 path_copy(void *dst, const struct path_walk *walk)
{
	__u32 size = walk->length & PATH_BYTES;

	if (bpf_probe_read_kernel(dst, size, &walk->bytes[walk->start & (PATH_END - 1)]))
		return 0;
	return size;
}

#endif
