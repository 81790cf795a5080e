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
 * TS_COMPAT, which the kernel clears only after this hook; on arm64 by the mode that the caller's processor is
 * in, which a program cannot change. Since 5.5 (tp_btf).
 *
 * One object is for both architectures: which one the kernel is of is known when it is loaded (CO-RE), and the
 * verifier deletes the branches of the other. Numbers are the architecture's own, so that tables by number are
 * user space's.
 */
#ifndef WATCHGLASS_SYSCALL_H
#define WATCHGLASS_SYSCALL_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "event.h"
#include "sandbox.h"

/* TS_COMPAT and X32_SYSCALL_BIT are macros of the kernel, which BTF does not carry. */
#define SYSCALL_TS_COMPAT 0x0002
#define SYSCALL_X32_BIT 0x40000000
/* PSR_MODE32_BIT, of the architecture itself. */
#define SYSCALL_ARM_MODE32 0x10

/* The caller's registers of each architecture, as far as they are looked at. */
struct pt_regs___amd64 {
	unsigned long bx, cx, dx, si, di, bp, r8, r9, r10, orig_ax;
} __attribute__((preserve_access_index));

struct pt_regs___arm64 {
	__u64 regs[31];
	__u64 pstate;
	/* The first register, which the result has taken the place of. */
	__u64 orig_x0;
	__s32 syscallno;
	__u32 reserved;
} __attribute__((preserve_access_index));

struct thread_info___amd64 {
	__u32 status;
} __attribute__((preserve_access_index));

struct task_struct___amd64 {
	struct thread_info___amd64 thread_info;
} __attribute__((preserve_access_index));

/* Whether the kernel is one of arm64. A constant to the verifier. */
#define SYSCALL_ARM64 bpf_core_field_exists(((struct pt_regs___arm64 *)0)->syscallno)

/* syscall_call is one finished system call. Compat numbers are those of i386, or of 32-bit arm. */
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

/*
 * syscall_scope is what the program on the hook found out about the call and who made it, and which handlers are still to see
 * it. sandbox is 0 until one of them asks where it was not known for certain: some have nothing to tell.
 */
struct syscall_scope {
	__u64 sandbox;
	struct event_caller caller;
	struct syscall_call call;
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

/* syscall_compat says whether a task, the current one, whose registers those are, is returning from a 32-bit call. */
static __always_inline __u32 syscall_compat(const struct pt_regs *regs,
					    const struct task_struct *current)
{
	const struct task_struct___amd64 *task = (const void *)current;
	const struct pt_regs___arm64 *arm64 = (const void *)regs;

	if (SYSCALL_ARM64)
		return (arm64->pstate & SYSCALL_ARM_MODE32) != 0;
	return (task->thread_info.status & SYSCALL_TS_COMPAT) != 0;
}

/* syscall_number is the number of a call as the caller passed it: with x32's bit, all ones for none. */
static __always_inline __u32 syscall_number(const struct pt_regs *regs)
{
	const struct pt_regs___amd64 *amd64 = (const void *)regs;
	const struct pt_regs___arm64 *arm64 = (const void *)regs;

	if (SYSCALL_ARM64)
		return (__u32)arm64->syscallno;
	return (__u32)amd64->orig_ax;
}

/* syscall_x32 says whether a number of a 64-bit call is x32's. */
static __always_inline bool syscall_x32(__u32 number)
{
	return !SYSCALL_ARM64 && number & SYSCALL_X32_BIT;
}

/* syscall_scope_sandbox is the sandbox of a call that was handed on, 0 for none. */
static __always_inline __u64 syscall_scope_sandbox(struct syscall_scope *scope)
{
	if (!scope->sandbox)
		scope->sandbox = sandbox_current();
	return scope->sandbox;
}

/* syscall_sandbox returns the sandbox of the current task, 0 when it is in none. */
static __always_inline __u64 syscall_sandbox(void)
{
	struct syscall_scope *scope;

	if (!syscall_handed_on)
		return sandbox_current();
	scope = syscall_scope();
	return scope ? syscall_scope_sandbox(scope) : 0;
}

/*
 * syscall_outside says that a call is of no sandbox, at the cost of a few loads, where the program is on the hook itself and
 * all of the node's calls come by: those that are handed on are of processes that have something stored with them.
 */
static __always_inline bool syscall_outside(void)
{
	return !syscall_handed_on && sandbox_unlikely(bpf_get_current_task_btf());
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

/* syscall_finished_of is syscall_finished of the current task, which is given. */
static __always_inline struct syscall_call syscall_finished_of(const struct pt_regs *regs,
							       const struct task_struct *task)
{
	struct syscall_call call = {
		.number = syscall_number(regs),
		.compat = syscall_compat(regs, task),
	};

	/* x32 shares the numbers of 64-bit calls but for those above 512, which are its own. */
	if (!call.compat && syscall_x32(call.number))
		call.number &= ~SYSCALL_X32_BIT;
	return call;
}

/* syscall_finished says which system call the current task is returning from. */
static __always_inline struct syscall_call syscall_finished(const struct pt_regs *regs)
{
	return syscall_finished_of(regs, task_plain());
}

/*
 * syscall_handed is what the program on the hook found out about the call that is handed on; where none is handed on, that
 * is found out now. NULL is for want of room.
 */
static __always_inline struct syscall_scope *syscall_handed(const struct pt_regs *regs)
{
	struct syscall_scope *scope = syscall_scope();

	if (!scope || syscall_handed_on)
		return scope;
	scope->sandbox = 0;
	scope->call = syscall_finished(regs);
	event_caller_find(&scope->caller, bpf_get_current_task_btf());
	return scope;
}

/*
 * syscall_argument is an argument as the caller passed it: a register, that no other thread can change. The index is
 * a constant.
 */
static __always_inline __u64 syscall_argument(const struct pt_regs *regs, __u32 compat, __u32 index)
{
	const struct pt_regs___amd64 *amd64 = (const void *)regs;
	const struct pt_regs___arm64 *arm64 = (const void *)regs;

	if (SYSCALL_ARM64) {
		__u64 value = index ? arm64->regs[index] : arm64->orig_x0;

		return compat ? (__u32)value : value;
	}
	switch (index) {
	case 0:
		return compat ? (__u32)amd64->bx : amd64->di;
	case 1:
		return compat ? (__u32)amd64->cx : amd64->si;
	case 2:
		return compat ? (__u32)amd64->dx : amd64->dx;
	case 3:
		return compat ? (__u32)amd64->si : amd64->r10;
	case 4:
		return compat ? (__u32)amd64->di : amd64->r8;
	default:
		return compat ? (__u32)amd64->bp : amd64->r9;
	}
}

/*
 * syscall_address is the result of a call as an address. arm64 extends that of a 32-bit program by its sign, which is none in
 * an address.
 */
static __always_inline __u64 syscall_address(long result, __u32 compat)
{
	return compat ? (__u32)result : (__u64)result;
}

/*
 * syscall_result is what a kernel function returned, by the registers at its return: the context of a program, of which
 * the verifier takes nothing but loads at constant places. Hence in assembly, lest the compiler makes one load at two
 * places of two loads; the places are the architectures' interface to user space.
 */
static __always_inline long syscall_result(const struct pt_regs *context)
{
	long result;

	if (SYSCALL_ARM64)
		asm volatile("%0 = *(u64 *)(%1 + 0)" : "=r"(result) : "r"(context));
	else
		asm volatile("%0 = *(u64 *)(%1 + 80)" : "=r"(result) : "r"(context));
	return result;
}

#endif
