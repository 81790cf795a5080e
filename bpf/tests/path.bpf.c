/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
//go:build ignore

/*
 * Tests of lib/path.h, lib/descriptor.h and lib/compat.h: each program resolves a path, or reads an
 * inode, of the task that runs it.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "../lib/compat.h"
#include "../lib/descriptor.h"
#include "../lib/event.h"
#include "../lib/path.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* subject is what a program is asked about. */
struct subject {
	__u64 address;
	__u32 fd;
	__u32 reserved;
};

/* found is what a program answers: in a map, since a context cannot be written to by a helper. */
struct found {
	__u64 changed;
	__u64 modified;
	__s64 size;
	__u32 flags;
	__u32 path_size;
	__u8 path[PATH_END];
};

ABI_STRUCT(subject);
ABI_STRUCT(found);
ABI_ENUM(path_flags);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct found);
} answers SEC(".maps");

static __always_inline struct found *answer(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&answers, &zero);
}

static __always_inline int answer_path(const struct path_walk *walk)
{
	struct found *found = answer();

	if (!walk || !found)
		return 1;
	found->flags = walk->flags;
	found->path_size = path_copy(found->path, walk);
	return 0;
}

/* Answers the current directory. */
SEC("syscall")
int test_path_resolve_cwd(struct subject *subject)
{
	return answer_path(path_resolve_cwd(0));
}

/* Answers the path of an open file. */
SEC("syscall")
int test_path_resolve_file(struct subject *subject)
{
	struct file *file = descriptor_file(subject->fd);

	if (!file)
		return 2;
	return answer_path(path_resolve_file(0, file));
}

/* Answers the times of an open file. */
SEC("syscall")
int test_compat_inode(struct subject *subject)
{
	struct file *file = descriptor_file(subject->fd);
	struct found *found = answer();
	struct inode *inode;

	if (!file || !found)
		return 2;
	inode = BPF_CORE_READ(file, f_inode);
	found->changed = compat_inode_ctime(inode);
	found->modified = compat_inode_mtime(inode);
	return 0;
}

/* Answers the size of a string in user memory, with its NUL. */
SEC("syscall")
int test_compat_read_user_str(struct subject *subject)
{
	struct found *found = answer();

	if (!found)
		return 2;
	found->size = compat_read_user_str(found->path, 16, (void *)subject->address);
	return 0;
}
