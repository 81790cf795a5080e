/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Programs of the trampoline plan: those that hang on the return of single kernel functions, or on the entry where the
 * return says nothing more, so that no other system call of the node pays for them.
 *
 * Owns what they have in common: the caller's registers, the proof that a program runs when it must, and
 * one program at a time in what a CPU has once. Which functions they hang on is user space's (plan.go):
 * each is loaded once for each of them. It must not know what a function means to a probe.
 *
 * Why a proof: the compiler may have put a function's body into its callers, of the same file above all,
 * and then a program that hangs on it is attached, and never runs. User space makes each call once, with
 * a token in the register of a sixth argument, that none of them has.
 *
 * Since 5.17 (bpf_get_func_ret), 5.19 (bpf_get_attach_cookie).
 */
#ifndef WATCHGLASS_HOOK_H
#define WATCHGLASS_HOOK_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "event.h"
#include "sandbox.h"
#include "syscall.h"

/* HOOK_TARGETS bounds the functions that one object's programs hang on. */
#define HOOK_TARGETS 64
/* Pointers from here on are error numbers. */
#define HOOK_ERRORS ((__u64) - 4095)

/* hook_token is what a call is made with as a proof, 0 while there is none; user space sets it. */
volatile __u64 hook_token;
/* hook_proofs is the token that each target's program met last, by the cookie it is attached with. */
volatile __u64 hook_proofs[HOOK_TARGETS];

/* hook_busy is whether a program of this object is at work on this CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} hook_busy SEC(".maps");

/* hook_registers is the registers with which the current task made its system call. */
static __always_inline const struct pt_regs *hook_registers(void)
{
	return (const struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
}

/*
 * hook_unlikely says that a call is neither of a sandbox nor a proof, at the cost of a few loads. Every program asks it
 * before anything else: nearly all that it runs for is the rest of the node's.
 */
static __always_inline bool hook_unlikely(void)
{
	return !hook_token && sandbox_unlikely(bpf_get_current_task_btf());
}

/* hook_proved says whether the call is one that user space makes as a proof, and notes that it was seen. */
static __always_inline bool hook_proved(void *ctx, const struct pt_regs *regs)
{
	__u64 token = hook_token;

	if (!token || syscall_argument(regs, 0, 5) != token)
		return false;
	hook_proofs[bpf_get_attach_cookie(ctx) & (HOOK_TARGETS - 1)] = token;
	return true;
}

/* hook_result is what the function returned at whose return a program hangs. */
static __always_inline __u64 hook_result(void *ctx)
{
	__u64 result = 0;

	bpf_get_func_ret(ctx, &result);
	return result;
}

/* hook_try is hook_enter where nothing is lost by another one's having it. */
static __always_inline bool hook_try(void)
{
	__u32 zero = 0;
	__u32 *busy = bpf_map_lookup_elem(&hook_busy, &zero);

	return busy && __sync_val_compare_and_swap(busy, 0, 1) == 0;
}

/*
 * hook_enter takes what the CPU has once of the object's maps, until hook_leave: tracepoints run their
 * programs without being preempted, kernel functions on kernels with full preemption do not. False means
 * that another one has it: what is to be told is lost then, and counted.
 */
static __always_inline bool hook_enter(__u64 sandbox, __u32 kind)
{
	if (hook_try())
		return true;
	event_lose(sandbox, kind);
	return false;
}

static __always_inline void hook_leave(void)
{
	__u32 zero = 0;
	__u32 *busy = bpf_map_lookup_elem(&hook_busy, &zero);

	if (busy)
		*busy = 0;
}

/* hook_failed says whether a function that returns a pointer returned an error. */
static __always_inline bool hook_failed(const void *pointer)
{
	return (__u64)pointer >= HOOK_ERRORS;
}

#endif
