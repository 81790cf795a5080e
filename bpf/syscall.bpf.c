/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
//go:build ignore

/*
 * The syscall probe: how often each process and sandbox made each system call, and how often it failed.
 *
 * Owns the counters. It must not stream: a record per call costs the sandbox ten times a counter and
 * fills any ring.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "lib/calls.h"
#include "lib/event.h"
#include "lib/sandbox.h"
#include "lib/syscall.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* SYSCALL_NUMBERS bounds what is counted apart: numbers above are no system call of any kernel. */
#define SYSCALL_NUMBERS 1024
/* rt_sigreturn takes its own number away before it returns: it restores the one of an interrupted program, -1. */
#define SYS_RT_SIGRETURN (SYSCALL_ARM64 ? 139 : 15)
#define COMPAT_SYS_RT_SIGRETURN 173
/* SYSCALL_MAX_ERRNO is the kernel's MAX_ERRNO: results from -4095 to -1 are errors, others are values. */
#define SYSCALL_MAX_ERRNO 4095

/* counter_key is a counter's name: one system call of one sandbox, 32-bit calls, which have numbers of their own, apart. */
struct counter_key {
	__u64 sandbox;
	__u32 number;
	__u32 compat;
};

/* counter is of one CPU: calls that returned and no process has a counter for, and those of them that returned an error. */
struct counter {
	__u64 calls;
	__u64 errors;
};

/*
 * Preallocated: without, quick inserts of new keys fail with ENOMEM while the kernel refills its pool
 * (seen on 6.12 and 6.18). The loader sets the size. A full map counts in nothing but losses.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct counter_key);
	__type(value, struct counter);
} counters SEC(".maps");

/*
 * past_counters is of processes that have ended, of which user space adds up what lib/calls.h counted: so that a collector
 * which is started again goes on with the sum. No program looks here.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct counter_key);
	__type(value, struct counter);
} past_counters SEC(".maps");

static __always_inline struct counter *counter_of(const struct counter_key *key)
{
	struct counter *counter = bpf_map_lookup_elem(&counters, key);
	struct counter none = {};

	if (counter)
		return counter;
	bpf_map_update_elem(&counters, key, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&counters, key);
}

/* SYSCALL_ROUTES bounds the numbers of calls that are handed on. */
#define SYSCALL_ROUTES 1024

/* Whether calls are counted; the loader sets it. */
const volatile __u32 syscalls_counted;
/*
 * Which handlers a call is handed on to, a bit each, by its number: those of 64-bit calls and x32 in the low byte,
 * those of 32-bit calls in the high one. The loader sets them.
 */
const volatile __u16 syscall_routes[SYSCALL_ROUTES];

/* syscall_count counts a call of a sandbox, with its process where that has room for it. */
static __always_inline void syscall_count(__u64 sandbox, const struct pt_regs *regs, __u32 number,
					  __u32 compat, long ret)
{
	bool failed = ret < 0 && ret >= -SYSCALL_MAX_ERRNO;
	struct counter_key key = {.sandbox = sandbox, .compat = compat};
	struct counter *counter;

	key.number = number < SYSCALL_NUMBERS ? number : SYSCALL_NUMBERS;
	if ((__s32)syscall_number(regs) == -1)
		key.number = compat ? COMPAT_SYS_RT_SIGRETURN : SYS_RT_SIGRETURN;
	if (caller_count(sandbox, key.number, compat, failed))
		return;
	counter = counter_of(&key);
	if (!counter) {
		event_lose(sandbox, 0);
		return;
	}
	counter->calls++;
	if (failed)
		counter->errors++;
}

/* syscall_routes_of is the handlers of a call's number, in all conventions. */
static __always_inline __u32 syscall_routes_of(__u32 number)
{
	return number < SYSCALL_ROUTES ? syscall_routes[number & (SYSCALL_ROUTES - 1)] : 0;
}

/*
 * syscall_inside is the rest of the program for a call that is probably a sandbox's. A function of its own, so that
 * the program has nothing to save for all the others.
 */
static __noinline int syscall_inside(__u64 *ctx)
{
	const struct pt_regs *regs = (const struct pt_regs *)ctx[0];
	__u64 sandbox = sandbox_current();
	__u32 number = syscall_number(regs);
	struct syscall_scope *scope;
	__u32 compat, routes;

	if (!sandbox)
		return 0;
	compat = syscall_compat(regs);
	/* Bit 30 is x32's, in 64-bit calls alone. */
	if (!compat && syscall_x32(number))
		number &= ~SYSCALL_X32_BIT;
	if (syscalls_counted)
		syscall_count(sandbox, regs, number, compat, (long)ctx[1]);
	routes = syscall_routes_of(number);
	routes = compat ? routes >> 8 : routes & 0xff;
	if (!routes)
		return 0;
	scope = syscall_scope();
	if (!scope)
		return 0;
	scope->sandbox = sandbox;
	scope->waiting = routes;
	return syscall_next(ctx, scope);
}

/*
 * Counts finished system calls and their errors, and hands on those that other probes tell of.
 * Why at the exit alone: one hook instead of two, and only the exit knows the result. Why the raw hook:
 * see lib/syscall.h. Why one program for all probes: each costs every call of the node as much as the hook.
 * Where nothing is counted, nearly every call of the node ends at its number.
 * Since 5.5; task storage, by which it knows who is in no sandbox, since 5.11.
 * Misses: calls that do not return: exit, exit_group, the execve that replaced its caller's
 * other threads, and the call that a signal killed. What io_uring does without a system call.
 */
SEC("tp_btf/sys_exit")
int syscall_on_sys_exit(__u64 *ctx)
{
	if (!syscalls_counted) {
		const struct pt_regs *regs = (const struct pt_regs *)ctx[0];

		/* On arm64 a number with x32's bit is none, and ends at what follows. */
		if (!syscall_routes_of(syscall_number(regs) & ~SYSCALL_X32_BIT))
			return 0;
	}
	if (sandbox_unlikely(bpf_get_current_task_btf()))
		return 0;
	return syscall_inside(ctx);
}

ABI_STRUCT(counter_key);
ABI_STRUCT(counter);
ABI_STRUCT(caller);
ABI_STRUCT(caller_calls);
