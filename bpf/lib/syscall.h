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

#include "sandbox.h"

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

/* SYSCALL_HANDLERS is how many programs one can hand calls on to. */
#define SYSCALL_HANDLERS 4

/*
 * Each program on this hook costs every call of the node as much as the hook itself, whatever it does. So there is
 * one, of the syscall probe, which finds what concerns a sandbox and hands it on to the programs of other
 * probes. Those are on the hook themselves where that one could not be loaded; the loader says which.
 */
const volatile __u32 syscall_handed_on;

/* syscall_scope is what the program on the hook found out about the call, and which handlers are still to see it. */
struct syscall_scope {
	__u64 sandbox;
	__u32 waiting;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct syscall_scope);
} syscall_scopes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, SYSCALL_HANDLERS);
	__type(key, __u32);
	__type(value, __u32);
} syscall_handlers SEC(".maps");

static __always_inline struct syscall_scope *syscall_scope(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&syscall_scopes, &zero);
}

/* syscall_compat says whether the current task is returning from a 32-bit call. */
static __always_inline __u32 syscall_compat(void)
{
	const struct task_struct *task = bpf_get_current_task_btf();

	return (task->thread_info.status & SYSCALL_TS_COMPAT) != 0;
}

/* syscall_sandbox returns the sandbox of the current task, 0 when it is in none. */
static __always_inline __u64 syscall_sandbox(void)
{
	struct syscall_scope *scope;

	if (!syscall_handed_on)
		return sandbox_current();
	scope = syscall_scope();
	return scope ? scope->sandbox : 0;
}

/* syscall_next hands the call on to the next handler, if any is to see it. The last thing that a program does. */
static __always_inline int syscall_next(void *ctx, struct syscall_scope *scope)
{
	__u32 waiting = scope->waiting;

	scope->waiting = waiting & (waiting - 1);
	if (waiting & 1)
		bpf_tail_call(ctx, &syscall_handlers, 0);
	else if (waiting & 2)
		bpf_tail_call(ctx, &syscall_handlers, 1);
	else if (waiting & 4)
		bpf_tail_call(ctx, &syscall_handlers, 2);
	else if (waiting & 8)
		bpf_tail_call(ctx, &syscall_handlers, 3);
	return 0;
}

/* syscall_done is the end of every handler. */
static __always_inline int syscall_done(void *ctx)
{
	struct syscall_scope *scope = syscall_handed_on ? syscall_scope() : NULL;

	return scope ? syscall_next(ctx, scope) : 0;
}

/* syscall_finished says which system call the current task is returning from. */
static __always_inline struct syscall_call syscall_finished(const struct pt_regs *regs)
{
	struct syscall_call call = {.number = (__u32)regs->orig_ax, .compat = syscall_compat()};

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
