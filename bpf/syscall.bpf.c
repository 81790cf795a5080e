/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
//go:build ignore

/*
 * The syscall probe: how often each sandbox made each system call, and how often it failed.
 *
 * Owns the counters. It must not stream: a record per call costs the sandbox ten times a counter and
 * fills any ring.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "lib/event.h"
#include "lib/sandbox.h"
#include "lib/syscall.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* SYSCALL_NUMBERS bounds what is counted apart: numbers above are no system call of any kernel. */
#define SYSCALL_NUMBERS 1024
/* rt_sigreturn takes its own number away before it returns: it restores the one of an interrupted program, -1. */
#define SYS_RT_SIGRETURN 15
#define COMPAT_SYS_RT_SIGRETURN 173
/* SYSCALL_MAX_ERRNO is the kernel's MAX_ERRNO: results from -4095 to -1 are errors, others are values. */
#define SYSCALL_MAX_ERRNO 4095

/* syscall_key is a counter's name: one system call of one sandbox, 32-bit calls (i386 numbers) apart. */
struct counter_key {
	__u64 sandbox;
	__u32 number;
	__u32 compat;
};

/* counter is of one CPU: calls that returned, and those of them that returned an error. */
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

static __always_inline struct counter *counter_of(const struct counter_key *key)
{
	struct counter *counter = bpf_map_lookup_elem(&counters, key);
	struct counter none = {};

	if (counter)
		return counter;
	bpf_map_update_elem(&counters, key, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&counters, key);
}

/*
 * Counts finished system calls and their errors.
 * Why at the exit alone: one hook instead of two, and only the exit knows the result. Why the raw hook:
 * see lib/syscall.h. Since 5.5.
 * Misses: calls that do not return: exit, exit_group, the execve that replaced its caller's
 * other threads, and the call that a signal killed. What io_uring does without a system call.
 */
SEC("tp_btf/sys_exit")
int BPF_PROG(syscall_on_sys_exit, struct pt_regs *regs, long ret)
{
	struct counter_key key = {.sandbox = sandbox_current()};
	struct syscall_call call;
	struct counter *counter;

	if (!key.sandbox)
		return 0;
	call = syscall_finished(regs);
	key.number = call.number < SYSCALL_NUMBERS ? call.number : SYSCALL_NUMBERS;
	if ((__s32)regs->orig_ax == -1)
		key.number = call.compat ? COMPAT_SYS_RT_SIGRETURN : SYS_RT_SIGRETURN;
	key.compat = call.compat;
	counter = counter_of(&key);
	if (!counter) {
		event_lose(key.sandbox, 0);
		return 0;
	}
	counter->calls++;
	if (ret < 0 && ret >= -SYSCALL_MAX_ERRNO)
		counter->errors++;
	return 0;
}

ABI_STRUCT(counter_key);
ABI_STRUCT(counter);
