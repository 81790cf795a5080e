/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The one scoping decision: does the current task run inside a watched sandbox, and in which?
 *
 * Owns the map of watched cgroups. It must not report anything: cgroup.bpf.c keeps the map true as
 * cgroups come and go, user space adds the sandboxes themselves.
 *
 * Why by cgroup2 id: a task cannot leave its cgroup by anything it does to itself, a child is in it
 * before its first instruction, and one lookup answers for any depth since descendants are entered
 * when they are made. A process outside pays that one lookup, however many sandboxes are watched.
 */
#ifndef WATCHGLASS_SANDBOX_H
#define WATCHGLASS_SANDBOX_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

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

/* sandbox_current returns the sandbox of the current task, 0 when it is in none. */
static __always_inline __u64 sandbox_current(void)
{
	return sandbox_of(bpf_get_current_cgroup_id());
}

/* sandbox_cgroup_of returns the cgroup2 id of any task, also one that has not run yet. */
static __always_inline __u64 sandbox_cgroup_of(const struct task_struct *task)
{
	return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
}

#endif
