/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * System calls as seen at tp_btf/sys_exit, or at the return of a function that does a call's work: which one it was, its arguments and its result.
 *
 * Owns the difference between the calling conventions of the architecture. It must not know what the
 * calls mean to a probe.
 *
 * Why the raw hook: tracepoint/syscalls/sys_exit_* ignore 32-bit calls altogether, and a filter on
 * 64-bit numbers takes an i386 openat (295) for another call. A 64-bit program makes 32-bit calls
 * with one `int $0x80`, so this is how to hide from tools that do not look. 32-bit calls are known by
 * TS_COMPAT, which the kernel clears only after this hook. Since 5.5 (tp_btf).
 */
#ifndef WATCHGLASS_SYSCALL_H
#define WATCHGLASS_SYSCALL_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#if !defined(__TARGET_ARCH_x86)
#error "the calling convention of this architecture is not written yet"
#endif

/* TS_COMPAT and X32_SYSCALL_BIT are macros of the kernel, which BTF does not carry. */
#define SYSCALL_TS_COMPAT 0x0002
#define SYSCALL_X32_BIT 0x40000000

/* syscall_call is one finished system call. Compat numbers are those of i386. */
struct syscall_call {
	__u32 number;
	__u32 compat;
};

/* syscall_finished says which system call the current task is returning from. */
static __always_inline struct syscall_call syscall_finished(const struct pt_regs *regs)
{
	const struct task_struct *task = bpf_get_current_task_btf();
	struct syscall_call call = {.number = (__u32)regs->orig_ax};

	call.compat = (task->thread_info.status & SYSCALL_TS_COMPAT) != 0;
	/* x32 shares the numbers of 64-bit calls but for those above 512, which need no name here. */
	if (!call.compat)
		call.number &= ~SYSCALL_X32_BIT;
	return call;
}

/* The arguments are as the caller passed them: registers, that no other thread can change. */
static __always_inline __u64 syscall_argument_0(const struct pt_regs *regs, __u32 compat)
{
	return compat ? (__u32)regs->bx : regs->di;
}

static __always_inline __u64 syscall_argument_1(const struct pt_regs *regs, __u32 compat)
{
	return compat ? (__u32)regs->cx : regs->si;
}

static __always_inline __u64 syscall_argument_2(const struct pt_regs *regs, __u32 compat)
{
	return compat ? (__u32)regs->dx : regs->dx;
}

static __always_inline __u64 syscall_argument_3(const struct pt_regs *regs, __u32 compat)
{
	return compat ? (__u32)regs->si : regs->r10;
}

static __always_inline __u64 syscall_argument_4(const struct pt_regs *regs, __u32 compat)
{
	return compat ? (__u32)regs->di : regs->r8;
}

static __always_inline __u64 syscall_argument_5(const struct pt_regs *regs, __u32 compat)
{
	return compat ? (__u32)regs->bp : regs->r9;
}

#endif
