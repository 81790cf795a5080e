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
#include "lib/descriptor.h"
#include "lib/event.h"
#include "lib/front.h"
#include "lib/moved.h"
#include "lib/sandbox.h"
#include "lib/syscall.h"
#include "lib/used.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* SYSCALL_NUMBERS bounds what is counted apart: numbers above are no system call of any kernel. */
#define SYSCALL_NUMBERS 1024
/* rt_sigreturn takes its own number away before it returns: it restores the one of an interrupted program, -1. */
#define SYS_RT_SIGRETURN (SYSCALL_ARM64 ? 139 : 15)
#define COMPAT_SYS_RT_SIGRETURN 173
/* SYSCALL_MAX_ERRNO is the kernel's MAX_ERRNO: results from -4095 to -1 are errors, others are values. */
#define SYSCALL_MAX_ERRNO 4095

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

/* SYSCALL_ROUTES bounds the numbers of calls that are handed on. */
#define SYSCALL_ROUTES 1024

/* Whether calls are counted, and whether it is told how long they took; the loader sets both. */
const volatile __u32 syscalls_counted;
const volatile __u32 syscalls_timed;
/*
 * Which handlers a call is handed on to, a bit each (ROUTE_HANDED), and enum route, by its number: those of 64-bit calls and
 * x32 in the low byte, those of 32-bit calls in the high one. The loader sets them.
 */
const volatile __u16 syscall_routes[SYSCALL_ROUTES];

/* route is what a call does of which some need not be handed on: those that the handler of files has nothing to tell of. */
enum route {
	ROUTE_HANDED = (1 << SYSCALL_HANDLERS) - 1,
	/* Its result is how many bytes it read from, or wrote to, the file behind the descriptor that is its first argument. */
	ROUTE_READS = 0x10,
	ROUTE_WRITES = 0x20,
	ROUTE_MOVES = ROUTE_READS | ROUTE_WRITES,
	/* It closes that descriptor. */
	ROUTE_CLOSES = 0x40,
};

/* The handler of files, a bit; the loader sets it. 0 where there is none. */
const volatile __u32 file_route;

/* entry is when a thread began the call that it is in, by the monotonic clock; 0 outside of one. */
struct entry {
	__u64 time;
};

/*
 * entries is by thread. With the thread itself, and not in a table: a thread that waits in a call for hours is then as
 * cheap as one that does not, there is no other thread that pushes it out, and it goes with it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct entry);
} entries SEC(".maps");

/* syscall_took is how long the current thread was in the call that it returns from, in nanoseconds; 0 where that is not known. */
static __always_inline __u64 syscall_took(void)
{
	struct entry *entry = bpf_task_storage_get(&entries, bpf_get_current_task_btf(), NULL, 0);
	__u64 began, now;

	if (!entry || !entry->time)
		return 0;
	now = bpf_ktime_get_ns();
	began = entry->time;
	entry->time = 0;
	return now > began ? now - began : 1;
}

/* syscall_count counts a call of the current process. It returns where it was counted, NULL for nowhere. */
static __always_inline struct front *syscall_count(const struct event_caller *caller, __u32 name,
						   bool failed)
{
	__u32 place = front_place(caller->pid, name);
	struct front *front = bpf_map_lookup_elem(&fronts, &place);
	struct latencies *times = NULL;
	__u64 sandbox, took;
	__u32 bucket, changes;

	if (!front)
		return NULL;
	if (syscalls_timed)
		times = bpf_map_lookup_elem(&front_latencies, &place);
	if (!front_is(front, caller, name)) {
		changes = scope_change();
		sandbox = sandbox_current();
		if (!sandbox)
			return NULL;
		front_empty(front, times);
		front_take(front, caller, name, sandbox, changes);
	}
	front_count(front, times, failed);
	if (!times)
		return front;
	took = syscall_took();
	if (took) {
		bucket = calls_bucket(took);
		bucket &= 31;
		if (bucket < CALLS_BUCKETS) {
			__sync_fetch_and_add(&times->buckets[bucket], 1);
			__sync_fetch_and_add(&times->sum, took);
		}
	}
	return front;
}

/*
 * syscall_front_sandbox is the sandbox of a process whose call was counted, by what was looked up for an earlier one; 0 where
 * user space has changed meanwhile which cgroups are watched.
 */
static __always_inline __u64 syscall_front_sandbox(struct front *front)
{
	__u32 changes = scope_change();
	__u64 sandbox;

	if (front->changes == changes)
		return front->sandbox;
	sandbox = sandbox_current();
	if (sandbox == front->sandbox)
		front->changes = changes;
	else
		front->cgroup =
			0; /* the next call takes the place, and adds up what it holds before */
	return sandbox;
}

/* syscall_counted_name is what a call is counted as. */
static __always_inline __u32 syscall_counted_name(const struct pt_regs *regs, __u32 number,
						  __u32 compat)
{
	if (number >= SYSCALL_NUMBERS)
		number = SYSCALL_NUMBERS;
	if ((__s32)syscall_number(regs) == -1)
		number = compat ? COMPAT_SYS_RT_SIGRETURN : SYS_RT_SIGRETURN;
	return number | CALLS_NAMED | (compat ? CALLS_COMPAT : 0);
}

/* syscall_routes_of is the handlers of a call's number, in all conventions. */
static __always_inline __u32 syscall_routes_of(__u32 number)
{
	return number < SYSCALL_ROUTES ? syscall_routes[number & (SYSCALL_ROUTES - 1)] : 0;
}

/*
 * syscall_closes_unused says whether a call closes a descriptor of which nothing was noted, or none: programs close nearly as
 * often as they open, and to hand it on takes as long as to find out.
 */
static __always_inline bool syscall_closes_unused(const struct syscall_call *call,
						  const struct pt_regs *regs, long ret,
						  struct task_struct *task)
{
	return ret < 0 ||
	       !used_descriptor_noted(task, (__u32)syscall_argument(regs, call->compat, 0));
}

/*
 * syscall_moved counts what a sandbox's call moved of a file that its process has used before: to hand it on takes longer than
 * that. False means that it is to be handed on; what is no file, and what moved nothing, is not.
 */
static __always_inline bool syscall_moved(const struct syscall_call *call,
					  const struct event_caller *caller,
					  const struct pt_regs *regs, bool reads, long ret,
					  struct task_struct *task)
{
	__u32 descriptor = (__u32)syscall_argument(regs, call->compat, 0);
	struct transfer *transfer;
	struct transfer_key key;
	struct file *file;

	if (!transfers_counted || ret <= 0)
		return true;
	file = descriptor_file_of(task, descriptor);
	if (!file || !transfer_identify(&key, file))
		return true;
	key.start = caller->start;
	key.pid = caller->pid;
	if (moving_count(&key, descriptor, reads, (__u64)ret))
		return true;
	transfer = transfer_known(&key, descriptor);
	if (!transfer)
		return false;
	if (reads)
		transfer_count_read(transfer, (__u64)ret);
	else
		transfer_count_written(transfer, (__u64)ret);
	return true;
}

/*
 * syscall_file_over says whether the handler of files has nothing to tell of a call. front is where it was counted, without
 * which nobody has looked whether it is a sandbox's.
 */
static __always_inline bool syscall_file_over(const struct syscall_call *call,
					      const struct event_caller *caller,
					      const struct front *front, const struct pt_regs *regs,
					      __u32 routes, long ret, struct task_struct *task)
{
	if (routes & ROUTE_CLOSES)
		return syscall_closes_unused(call, regs, ret, task);
	return front && routes & ROUTE_MOVES &&
	       syscall_moved(call, caller, regs, routes & ROUTE_READS, ret, task);
}

/*
 * syscall_inside is the rest of the program for a call that is probably a sandbox's. A function of its own, so that
 * the program has nothing to save for all the others.
 */
static __noinline int syscall_inside(__u64 *ctx, struct task_struct *task)
{
	const struct pt_regs *regs = (const struct pt_regs *)ctx[0];
	struct syscall_call call = syscall_finished_of(regs, task);
	long ret = (long)ctx[1];
	struct event_caller caller;
	struct syscall_scope *scope;
	struct front *front = NULL;
	__u32 routes;

	event_caller_find(&caller, task);
	if (syscalls_counted) {
		front = syscall_count(&caller, syscall_counted_name(regs, call.number, call.compat),
				      ret < 0 && ret >= -SYSCALL_MAX_ERRNO);
		if (!front)
			return 0;
	}
	routes = syscall_routes_of(call.number);
	routes = call.compat ? routes >> 8 : routes & 0xff;
	if (syscall_file_over(&call, &caller, front, regs, routes, ret, task))
		routes &= ~file_route;
	routes &= ROUTE_HANDED;
	if (!routes)
		return 0;
	scope = syscall_scope();
	if (!scope)
		return 0;
	scope->sandbox = front ? syscall_front_sandbox(front) : sandbox_current();
	if (!scope->sandbox)
		return 0;
	scope->caller = caller;
	scope->call = call;
	scope->waiting = routes;
	return syscall_next(ctx, scope);
}

/*
 * Counts finished system calls and their errors, and hands on those that other probes tell of; but for what is moved of a file
 * that is known, which it counts for the file probe.
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
	struct task_struct *task;

	if (!syscalls_counted) {
		const struct pt_regs *regs = (const struct pt_regs *)ctx[0];

		/* On arm64 a number with x32's bit is none, and ends at what follows. */
		if (!syscall_routes_of(syscall_number(regs) & ~SYSCALL_X32_BIT))
			return 0;
	}
	task = bpf_get_current_task_btf();
	if (sandbox_unlikely(task))
		return 0;
	return syscall_inside(ctx, task);
}

/*
 * Notes when a thread of a sandbox begins a call. Attached where somebody wants to know how long calls take, since it
 * costs each call of the node, and of all its processes, as much again as the hook at the exit. Since 5.11 (task storage).
 * Misses: what a seccomp filter refuses before.
 */
SEC("tp_btf/sys_enter")
int syscall_on_sys_enter(__u64 *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct entry *entry;

	if (sandbox_unlikely(task))
		return 0;
	entry = bpf_task_storage_get(&entries, task, NULL, 0);
	if (!entry) {
		/* What is stored with a thread of no sandbox makes each call of its process dearer. */
		if (!sandbox_current())
			return 0;
		entry = bpf_task_storage_get(&entries, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (!entry)
			return 0;
	}
	entry->time = bpf_ktime_get_ns();
	return 0;
}

/* settling is which places of which CPU are added up, and whether they are to be nobody's then. Constant during a loop. */
struct settling {
	__u32 cpu;
	__u32 first;
	__u32 forget;
};

/* settle_step adds up one place. It returns 1 after the last. */
static long settle_step(__u32 index, struct settling *settling)
{
	__u32 place = settling->first + index;
	struct front *front = bpf_map_lookup_percpu_elem(&fronts, &place, settling->cpu);

	if (!front)
		return 1;
	if (!front->name)
		return 0;
	front_empty(front, bpf_map_lookup_percpu_elem(&front_latencies, &place, settling->cpu));
	/* Its name stays, for a call that is just being counted. */
	if (settling->forget)
		front->cgroup = 0;
	return 0;
}

/*
 * Adds up what a CPU has counted, a part of it. Run by user space, on that CPU, and on another one only where that one is
 * off. Arguments: the CPU, the first place, and whether the places are to be nobody's then. Since 5.19.
 */
SEC("raw_tp")
int syscall_settle(struct bpf_raw_tracepoint_args *ctx)
{
	struct settling settling = {
		.cpu = ctx->args[0],
		.first = ctx->args[1],
		.forget = ctx->args[2],
	};

	/* Why not a plain loop: the verifier would go through each of its rounds. */
	bpf_loop(FRONTS_RUN, settle_step, &settling, 0);
	return 0;
}

ABI_ENUM(route);
ABI_STRUCT(counter_key);
ABI_STRUCT(counter);
ABI_STRUCT(caller);
ABI_STRUCT(front);
ABI_STRUCT(caller_calls);
ABI_STRUCT(latencies);
