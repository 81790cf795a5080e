/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * By which name and in whose view a file was reached, as a number.
 *
 * Owns that number: two files of equal inode and device and of an equal mix have the same path, as far as it can be
 * known without a walk: the same mount and root, and the same names of the file and of the two directories
 * above it. So a file that was renamed, or its directory, is another one, and so is a hard link.
 */
#ifndef WATCHGLASS_FILEMIX_H
#define WATCHGLASS_FILEMIX_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "direct.h"

/* A multiplier that mixes bits well: 2^64 divided by the golden ratio. */
#define MIX_FACTOR 0x9e3779b97f4a7c15ull

static __always_inline __u64 mix_word(__u64 mix, __u64 value)
{
	mix = (mix ^ value) * MIX_FACTOR;
	return mix ^ (mix >> 32);
}

/* mix_name mixes in a name and returns the directory that it is in. */
static __always_inline struct dentry *mix_name(__u64 *mix, struct dentry *dentry)
{
	*mix = mix_word(*mix, (__u64)dentry);
	*mix = mix_word(*mix, DIRECT_READ(struct dentry, dentry, d_name.hash_len));
	return (struct dentry *)DIRECT_ADDRESS(struct dentry, dentry, d_parent);
}

/* mix_directory mixes in what the current task's path of its current directory depends on, as mix_file does of a file. */
static __always_inline __u64 mix_directory(__u64 mix)
{
	struct task_struct *task = task_plain();
	struct dentry *dentry;

	mix = mix_word(mix, DIRECT_ADDRESS(struct fs_struct, task->fs, pwd.mnt));
	mix = mix_word(mix, DIRECT_ADDRESS(struct fs_struct, task->fs, root.dentry));
	dentry = (struct dentry *)DIRECT_ADDRESS(struct fs_struct, task->fs, pwd.dentry);
	dentry = mix_name(&mix, dentry);
	dentry = mix_name(&mix, dentry);
	mix_name(&mix, dentry);
	return mix;
}

/* mix_file_of mixes in what a task's path of a file depends on. */
static __always_inline __u64 mix_file_of(__u64 mix, struct file *file, struct task_struct *task)
{
	struct dentry *dentry;

	mix = mix_word(mix, DIRECT_ADDRESS(struct file, file, f_path.mnt));
	mix = mix_word(mix, DIRECT_ADDRESS(struct fs_struct, task->fs, root.dentry));
	dentry = (struct dentry *)DIRECT_ADDRESS(struct file, file, f_path.dentry);
	dentry = mix_name(&mix, dentry);
	dentry = mix_name(&mix, dentry);
	mix_name(&mix, dentry);
	return mix;
}

/* mix_file mixes in what the current task's path of a file depends on. */
static __always_inline __u64 mix_file(__u64 mix, struct file *file)
{
	return mix_file_of(mix, file, task_plain());
}

#endif
