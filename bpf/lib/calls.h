/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How often each process made each system call.
 *
 * Owns the counters by process. Each call is counted once: here, or where a process, or a call of it, finds no
 * room here, with its sandbox (syscall.bpf.c). So a sandbox's sum is exact, whatever has room. It must not
 * empty what it counted: user space does that when the process has ended, so that no count is pushed out untold.
 *
 * Why not per CPU: that would be 2 KiB a process on every possible CPU. CPUs contend only for the counters of one
 * process.
 */
#ifndef WATCHGLASS_CALLS_H
#define WATCHGLASS_CALLS_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* A process has room for so many calls, in rows by their number. */
#define CALLS_ROWS 16
#define CALLS_ROW 4
/* What mixes a number for its second row: of many, the one that leaves the fewest calls without room. */
#define CALLS_MIX 0x8723919fu
#define CALLS_MIX_SHIFT 28
/* Marks of a call's name: that there is one, and that its number is of i386. */
#define CALLS_NAMED 0x80000000u
#define CALLS_COMPAT 0x40000000u
/* caller is a process. */
struct caller {
	__u64 start;
	__u32 pid;
	__u32 reserved;
};

/* caller_call is one system call of a process; name is 0 where there is none, else its number and marks. */
struct caller_call {
	__u32 name;
	__u32 reserved;
	__u64 calls;
	__u64 errors;
};

/* caller_calls is the calls of a process in one sandbox. other is how many of them are counted with the sandbox. */
struct caller_calls {
	__u64 sandbox;
	__u64 other;
	struct caller_call calls[CALLS_ROWS * CALLS_ROW];
};

/* callers is filled here and emptied by user space. Without preallocation: most of it is never used. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2048);
	__type(key, struct caller);
	__type(value, struct caller_calls);
} callers SEC(".maps");

/* Too large for the stack. */
const volatile struct caller_calls caller_none;

/* caller_of returns the counters of the current process in a sandbox, NULL where there is no room for them. */
static __always_inline struct caller_calls *caller_of(__u64 sandbox, const struct task_struct *task)
{
	struct caller key = {.start = task->group_leader->start_boottime, .pid = task->tgid};
	struct caller_calls *calls = bpf_map_lookup_elem(&callers, &key);

	if (!calls) {
		bpf_map_update_elem(&callers, &key, (const void *)&caller_none, BPF_NOEXIST);
		calls = bpf_map_lookup_elem(&callers, &key);
		if (!calls)
			return NULL;
		__sync_val_compare_and_swap(&calls->sandbox, 0, sandbox);
	}
	/* What it did before it was moved here is told of the sandbox that it was in. */
	return calls->sandbox == sandbox ? calls : NULL;
}

/*
 * caller_call_of returns the counters of one of a process's calls, NULL where both rows of its number are full. Two rows,
 * so that hardly any call of a process with many finds none.
 */
static __always_inline struct caller_call *caller_call_of(struct caller_calls *caller, __u32 name)
{
	__u32 row = (name & (CALLS_ROWS - 1)) * CALLS_ROW;
	struct caller_call *call;
	__u32 known;
	int i;

#pragma unroll
	for (i = 0; i < 2 * CALLS_ROW; i++) {
		if (i == CALLS_ROW)
			row = (name * CALLS_MIX >> CALLS_MIX_SHIFT) * CALLS_ROW;
		call = &caller->calls[row + i % CALLS_ROW];
		known = call->name;
		if (!known)
			known = __sync_val_compare_and_swap(&call->name, 0, name);
		if (!known || known == name)
			return call;
	}
	return NULL;
}

/*
 * caller_count counts a call of the current process; 0 means that the sandbox is to count it. A global function: verified
 * once, not with all that came before.
 */
__noinline int caller_count(__u64 sandbox, __u32 number, __u32 compat, __u32 failed)
{
	__u32 name = number | CALLS_NAMED | (compat ? CALLS_COMPAT : 0);
	struct caller_calls *caller = caller_of(sandbox, bpf_get_current_task_btf());
	struct caller_call *call;

	if (!caller)
		return 0;
	call = caller_call_of(caller, name);
	if (call) {
		__sync_fetch_and_add(&call->calls, 1);
		if (failed)
			__sync_fetch_and_add(&call->errors, 1);
		return 1;
	}
	__sync_fetch_and_add(&caller->other, 1);
	return 0;
}

#endif
