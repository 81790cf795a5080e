/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * File descriptors of the current task.
 *
 * Owns the way from a number to the kernel's file. It must not hold on to what it finds: another
 * thread may close or replace the descriptor at any moment; the file's memory stays readable.
 */
#ifndef WATCHGLASS_DESCRIPTOR_H
#define WATCHGLASS_DESCRIPTOR_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "direct.h"

/* descriptor_file_of is the file behind a descriptor of a task, or NULL. */
static __always_inline struct file *descriptor_file_of(struct task_struct *task, __u32 fd)
{
	struct fdtable *table = task->files->fdt;
	struct file **slots = table->fd;

	if (fd >= table->max_fds)
		return NULL;
	return (struct file *)direct_word((__u64)slots + (__u64)fd * sizeof(*slots));
}

/* descriptor_file is the file behind a descriptor of the current task, or NULL. */
static __always_inline struct file *descriptor_file(__u32 fd)
{
	return descriptor_file_of(task_plain(), fd);
}

#endif
