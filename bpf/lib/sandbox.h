/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The one scoping decision: does the current task run inside a watched sandbox, and in which?
 *
 * Owns the map of watched cgroups, and that of strays: processes that were moved out of a watched one.
 * It must not report anything: cgroup.bpf.c keeps the first map true as cgroups come and go,
 * process.bpf.c the second as processes do, user space adds the sandboxes themselves.
 *
 * Why by cgroup2 id: a task cannot leave its cgroup unless somebody writes to a file of another one, a
 * child is in it before its first instruction, and one lookup answers for any depth since descendants are entered
 * when they are made. A process outside pays that one lookup, however many sandboxes are watched; a second
 * one only while there are strays; and none where a program asks sandbox_unlikely() before.
 *
 * Why strays: whoever can write to the cgroup file system, root in a sandbox for one, could leave its sandbox
 * by one write. A process that leaves keeps its sandbox, and so do its children.
 */
#ifndef WATCHGLASS_SANDBOX_H
#define WATCHGLASS_SANDBOX_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "direct.h"

/* sandboxes maps the id of a watched cgroup, or of one below it, to the id of the watched one. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u64);
} sandboxes SEC(".maps");

/* sandbox_of returns the sandbox of a cgroup, 0 when it is in none. */
static __always_inline __u64 sandbox_of(__u64 cgroup)
{
	__u64 *id = bpf_map_lookup_elem(&sandboxes, &cgroup);

	return id ? *id : 0;
}

/* stray is the sandbox that a process keeps, by its id. The start time tells it from a later one of the same id. */
struct stray {
	__u64 sandbox;
	__u64 start;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct stray);
} strays SEC(".maps");

/*
 * unlabelled counts processes of sandboxes that have no label (process.bpf.c) or could not be kept as strays, for
 * lack of room. While it is 0, a process without a label is in no sandbox. User space has all processes listed then, and
 * labelled (labels.go). Its two highest bits are user space's, which
 * knows when there may be others: while a cgroup becomes watched that processes are in.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} unlabelled SEC(".maps");

/*
 * unlabelled_count is its counter, without a look-up, which costs every call of the node: the loader makes the address
 * of the map that of its only value.
 */
static __always_inline __u64 *unlabelled_count(void)
{
	return (__u64 *)&unlabelled;
}

/*
 * sandbox_unlikely says that a task is in no sandbox, at the cost of three loads: nothing is stored with its process.
 * False says nothing. Since 5.11.
 */
static __always_inline bool sandbox_unlikely(const struct task_struct *task)
{
	return !task->group_leader->bpf_storage && !*(volatile __u64 *)unlabelled_count();
}

/* stray_counts holds how many strays there may be: 0 means that nobody needs to look. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} stray_counts SEC(".maps");

static __always_inline __u64 *stray_count(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&stray_counts, &zero);
}

/* stray_any says whether there is any stray. */
static __always_inline bool stray_any(void)
{
	__u64 *count = stray_count();

	return count && *count;
}

/*
 * scope_changes counts how often user space has changed which cgroups are watched: what was found out before the last time
 * may be true no more.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} scope_changes SEC(".maps");

/* scope_change is how often that was; by a look-up that is no call. */
static __always_inline __u64 scope_change(void)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&scope_changes, &zero);

	return count ? *(volatile __u64 *)count : 0;
}

/* stray_sandbox returns the sandbox that the current process keeps, 0 when it is no stray or the sandbox is over. */
static __always_inline __u64 stray_sandbox(void)
{
	struct task_struct *task = task_plain();
	__u32 pid = task->tgid;
	struct stray *stray;

	if (!stray_any())
		return 0;
	stray = bpf_map_lookup_elem(&strays, &pid);
	if (!stray || stray->start != task->group_leader->start_boottime)
		return 0;
	return sandbox_of(stray->sandbox);
}

/*
 * sandbox_cgroup_of returns the cgroup2 id of any task that the verifier knows as one, also one that has not run
 * yet. Loads are cheaper than bpf_get_current_cgroup_id(), which is a call.
 */
static __always_inline __u64 sandbox_cgroup_of(const struct task_struct *task)
{
	return task->cgroups->dfl_cgrp->kn->id;
}

/* sandbox_current returns the sandbox of the current task, 0 when it is in none. */
static __always_inline __u64 sandbox_current(void)
{
	__u64 sandbox = sandbox_of(sandbox_cgroup_of(task_plain()));

	return sandbox ? sandbox : stray_sandbox();
}

#endif
