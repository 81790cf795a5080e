/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where system calls are counted first: a small table of each CPU's own, by process and call.
 *
 * Owns that table and its emptying into the counters of lib/calls.h. It must not decide what a call is called or who
 * is in a sandbox.
 *
 * Why: most calls are of few processes and few kinds again and again. The counter of such a one is found by comparing, with
 * no look into a hash table, not even for the sandbox, and no other CPU writes to it. What has to make room for another is
 * added to the counters by then, and user space has all of it added up before it reads them (syscall_settle).
 *
 * A place is of a process in a cgroup, so that one that is moved has another. That a cgroup is no longer, or newly, of a
 * sandbox is user space's doing, which has all places emptied and forgotten then.
 *
 * No program is interrupted by one of its own kind on a CPU, but by syscall_settle. So a call is counted without an
 * atomic operation, which takes as long as the rest of the counting: by the one program that writes to the count, beside which
 * stands how much of it was added up. What is rare is counted by atomic operations, and taken away.
 */
#ifndef WATCHGLASS_FRONT_H
#define WATCHGLASS_FRONT_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "calls.h"
#include "sandbox.h"

/* FRONTS is how many places a CPU has; FRONTS_RUN how many of them one run of syscall_settle empties. */
#define FRONTS 512
#define FRONTS_RUN 128
/* FRONT_UNTOLD is how many calls are counted before they are added up, if nobody else does. */
#define FRONT_UNTOLD (1ull << 31)
/* What mixes process and call for a place. */
#define FRONT_MIX_PID 0x9e3779b1u
#define FRONT_MIX_NAME 0x85ebca77u
#define FRONT_MIX_SHIFT 23

/*
 * front is the calls of one name that one process made on a CPU, and how many of them failed. name is 0 where it is nobody's.
 * calls only ever grows, and has those of earlier owners of the place in it; told is the lower half of it when it was added up
 * the last time. changes is the lower half of scope_change() when the sandbox was looked up. There is no room for whole ones:
 * what every CPU has hundreds of is what the kernel memory of a large machine is used for.
 */
struct front {
	__u64 start;
	__u64 cgroup;
	__u64 sandbox;
	__u32 changes;
	__u32 told;
	__u32 pid;
	__u32 name;
	__u64 calls;
	__u64 errors;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FRONTS);
	__type(key, __u32);
	__type(value, struct front);
} fronts SEC(".maps");

/* front_latencies is how long those calls took, place by place. The loader leaves one where nobody wants to know. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FRONTS);
	__type(key, __u32);
	__type(value, struct latencies);
} front_latencies SEC(".maps");

/*
 * front_untold takes what of the calls has not been added up, for the caller to do so. Twice, where another one took some of it
 * meanwhile: then what is left is what was counted since.
 */
static __always_inline __u32 front_untold(struct front *front)
{
	__u32 now, before;
	int i;

	for (i = 0; i < 2; i++) {
		before = *(volatile __u32 *)&front->told;
		now = *(volatile __u64 *)&front->calls;
		if (__sync_val_compare_and_swap(&front->told, before, now) == before)
			return now - before;
	}
	return 0;
}

/*
 * front_empty adds what a place holds to the counters. A global function: verified once, not with all that came before.
 * times may be NULL.
 */
__noinline int front_empty(struct front *front, struct latencies *times)
{
	struct caller_calls *caller;
	struct latencies *latencies;
	struct counter_key key;
	__u64 calls, errors, n;
	__u32 name;
	int i;

	if (!front)
		return 0;
	name = front->name;
	if (!name)
		return 0;
	calls = front_untold(front);
	errors = __sync_lock_test_and_set(&front->errors, 0);
	if (!calls && !errors)
		return 0;
	key = calls_key(front->sandbox, name);
	caller = caller_of(front->sandbox, front->start, front->pid);
	calls_add(caller, &key, name, calls, errors);
	if (!times || !times->sum)
		return 0;
	latencies = latencies_of(&key);
	n = __sync_lock_test_and_set(&times->sum, 0);
	if (latencies)
		__sync_fetch_and_add(&latencies->sum, n);
	if (caller)
		__sync_fetch_and_add(&caller->latencies.sum, n);
	for (i = 0; i < CALLS_BUCKETS; i++) {
		if (!times->buckets[i])
			continue;
		n = __sync_lock_test_and_set(&times->buckets[i], 0);
		if (latencies)
			__sync_fetch_and_add(&latencies->buckets[i], n);
		if (caller)
			__sync_fetch_and_add(&caller->latencies.buckets[i], n);
	}
	return 0;
}

/*
 * front_count counts a call, of the program on the hook and on the CPU that has the place. What is not added up never takes
 * more than told has room for: where user space is away for long, the program adds up itself.
 */
static __always_inline void front_count(struct front *front, struct latencies *times, bool failed)
{
	__u64 calls = front->calls + 1;

	*(volatile __u64 *)&front->calls = calls;
	if (failed)
		__sync_fetch_and_add(&front->errors, 1);
	if (!(calls & (FRONT_UNTOLD - 1)))
		front_empty(front, times);
}

/* front_place is the place of a call of a process. */
static __always_inline __u32 front_place(__u32 pid, __u32 name)
{
	return (pid * FRONT_MIX_PID ^ name * FRONT_MIX_NAME) >> FRONT_MIX_SHIFT & (FRONTS - 1);
}

/* front_is says whether a place is of a call of a process as it is now. */
static __always_inline bool front_is(const struct front *front, const struct event_caller *caller,
				     __u32 name)
{
	return front->name == name && front->pid == caller->pid && front->start == caller->start &&
	       front->cgroup == caller->cgroup;
}

/*
 * front_take gives a place to a call of a process in a sandbox; what it held was added up. changes is from before the
 * sandbox was looked up.
 */
static __always_inline void front_take(struct front *front, const struct event_caller *caller,
				       __u32 name, __u64 sandbox, __u64 changes)
{
	/* Nobody's meanwhile: syscall_settle must not add up what is half one's and half another's. */
	front->name = 0;
	barrier();
	front->start = caller->start;
	front->cgroup = caller->cgroup;
	front->sandbox = sandbox;
	front->changes = changes;
	front->pid = caller->pid;
	barrier();
	front->name = name;
}

#endif
