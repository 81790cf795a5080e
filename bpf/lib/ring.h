/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whether what the kernel does for the current task was asked for through io_uring.
 *
 * Owns telling that from where an operation runs. It must not know what the operation is.
 *
 * An operation of a ring runs in one of the kernel's threads of the process (io-wq, SQPOLL), in io_uring_enter(2), or, where
 * it had to wait, as the task's own work at the end of whatever call the task is in. The last is taken for that
 * call's own where such a call can do the same: a mark is wrong then, and nothing is lost. Since 5.12 (PF_IO_WORKER).
 */
#ifndef WATCHGLASS_RING_H
#define WATCHGLASS_RING_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "direct.h"
#include "syscall.h"

/* Macros of the kernel, which BTF does not carry. */
#define RING_PF_IO_WORKER 0x00000010
#define RING_PF_KTHREAD 0x00200000
/* The same number in all calling conventions of both architectures. */
#define RING_SYS_ENTER 426

/* ring_thread says whether the current task is a thread of the kernel's that does nothing but a ring's work. */
static __always_inline bool ring_thread(const struct task_struct *task)
{
	return (task->flags & RING_PF_IO_WORKER) != 0;
}

/* ring_used says whether the task has ever given a ring work to do, or is given it. Nearly none has. */
static __always_inline bool ring_used(const struct task_struct *task)
{
	if (!bpf_core_field_exists(task->io_uring))
		return false;
	return task->io_uring || ring_thread(task);
}

/*
 * ring_outside says that what is done with an operation now is of no sandbox, at the cost of a few loads. False says nothing.
 * It is done in a thread of the process that asked for it, or of the kernel's where that process is gone.
 */
static __always_inline bool ring_outside(void)
{
	const struct task_struct *task = bpf_get_current_task_btf();

	return sandbox_unlikely(task) && !(task->flags & RING_PF_KTHREAD);
}

/* ring_entered says whether the current task is a ring's thread, or in io_uring_enter(2). */
static __always_inline bool ring_entered(void)
{
	struct task_struct *task = task_plain();

	if (!ring_used(task))
		return false;
	return ring_thread(task) || syscall_finished((const struct pt_regs *)bpf_task_pt_regs(
							     bpf_get_current_task_btf()))
						    .number == RING_SYS_ENTER;
}

#endif
