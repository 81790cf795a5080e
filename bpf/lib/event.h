/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Records: their header, the ring they travel through, and the account of those that found no room.
 *
 * Owns who did it and when (the header), reserving and submitting, and the counters behind
 * "seen = delivered + dropped". It must not know any probe's records.
 */
#ifndef WATCHGLASS_EVENT_H
#define WATCHGLASS_EVENT_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/*
 * ABI_STRUCT(x) and ABI_ENUM(x) keep clang from dropping a type that only the records use, and name it
 * to the generator, which writes its Go twin from BTF.
 */
#define ABI_STRUCT(name) const struct name *abi_##name __attribute__((unused))
#define ABI_ENUM(name) const enum name *abi_##name __attribute__((unused))

/* EVENT_PROBES bounds the probes that the counters have room for. */
#define EVENT_PROBES 8
/* Which place the probe has in probes.go; the loader sets it. */
const volatile __u16 probe_index;
/* How many bytes must wait before the reader is woken at once; the loader sets it by the ring's size. */
const volatile __u32 event_wake_bytes;

/* EVENT_TRUNCATED: a field was cut at a limit. */
enum event_flags {
	EVENT_TRUNCATED = 1,
};

/* event_header starts every record. Times are nanoseconds of the boot clock, ids those of the initial namespaces. */
struct event_header {
	__u64 time;
	/* The watched cgroup, and the task's own: the same or below it. */
	__u64 sandbox;
	__u64 cgroup;
	/* With the boot id and the pid the identity of a process. */
	__u64 start;
	__u64 parent_start;
	__u32 pid;
	__u32 tid;
	__u32 parent_pid;
	/* The process id in the innermost PID namespace. */
	__u32 vpid;
	/* The effective ids, in the initial user namespace. */
	__u32 uid;
	__u32 gid;
	__u16 probe;
	/* Local to the probe. */
	__u16 kind;
	__u32 flags;
	__u8 comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 * 1024 * 1024);
} events SEC(".maps");

/* event_count is one sandbox's account: per probe, records that were to be sent and those that found no room. */
struct event_count {
	__u64 seen[EVENT_PROBES];
	__u64 dropped[EVENT_PROBES];
};

/*
 * event_counts is by sandbox. User space adds the entry before the sandbox is watched, so programs
 * only look it up: adding to a map without preallocation can fail from here. Entry 0 takes what
 * belongs to no sandbox.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, struct event_count);
} event_counts SEC(".maps");

static __always_inline struct event_count *event_count_of(__u64 sandbox)
{
	struct event_count *count = bpf_map_lookup_elem(&event_counts, &sandbox);
	__u64 nobody = 0;

	return count ? count : bpf_map_lookup_elem(&event_counts, &nobody);
}

/* event_count_add adds one record to the sandbox's account of the probe, as sent or as dropped. */
static __always_inline void event_count_add(__u64 sandbox, bool dropped)
{
	struct event_count *count = event_count_of(sandbox);
	__u32 probe = probe_index & (EVENT_PROBES - 1);

	if (!count)
		return;
	/* Atomic: a program can be interrupted by another of the same probe on the same CPU. */
	__sync_fetch_and_add(&count->seen[probe], 1);
	if (dropped)
		__sync_fetch_and_add(&count->dropped[probe], 1);
}

/*
 * event_header_task fills in who: any task that the verifier knows as one, not only the current. Loads
 * are direct, cheaper than bpf_probe_read_kernel(); a bad pointer reads as 0 either way.
 */
static __always_inline void event_header_task(struct event_header *header, struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	struct task_struct *parent = task->real_parent;
	const struct cred *cred = task->cred;
	struct pid *pid = leader->thread_pid;
	__u32 level = pid->level;
	struct upid upid = {.nr = task->tgid};

	/* Only direct loads at constant offsets are allowed: that is the initial namespace. */
	if (level)
		bpf_core_read(&upid, sizeof(upid), &pid->numbers[level]);
	header->start = leader->start_boottime;
	header->parent_start = parent->group_leader->start_boottime;
	header->pid = task->tgid;
	header->tid = task->pid;
	header->parent_pid = parent->tgid;
	header->vpid = upid.nr;
	header->uid = cred->euid.val;
	header->gid = cred->egid.val;
	bpf_core_read_str(header->comm, sizeof(header->comm), &task->comm);
}

/* event_header_begin fills in what and when: all but who (event_header_task) and the cgroup. */
static __always_inline void event_header_begin(struct event_header *header, __u64 sandbox,
					       __u16 kind)
{
	header->time = bpf_ktime_get_boot_ns();
	header->sandbox = sandbox;
	header->probe = probe_index;
	header->kind = kind;
	header->flags = 0;
}

/* event_header_fill fills in the whole header for the current task. */
static __always_inline void event_header_fill(struct event_header *header, __u64 sandbox,
					      __u16 kind)
{
	event_header_begin(header, sandbox, kind);
	header->cgroup = bpf_get_current_cgroup_id();
	event_header_task(header, bpf_get_current_task_btf());
}

/*
 * event_reserve makes room for a record of a constant size in the ring. NULL means that there was
 * none, which has then been counted. The bytes are not zeroed: fill all of them.
 */
static __always_inline void *event_reserve(__u64 sandbox, __u64 size)
{
	void *record = bpf_ringbuf_reserve(&events, size, 0);

	event_count_add(sandbox, !record);
	return record;
}

/* event_wake_flags says whether the reader must be woken for this record. */
static __always_inline __u64 event_wake_flags(void)
{
	/*
	 * Waking costs the observed process 1 to 2 us, more than all the rest. The reader looks by itself
	 * every few milliseconds, so it is woken only when that could be too late for the ring's size.
	 */
	if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >= event_wake_bytes)
		return BPF_RB_FORCE_WAKEUP;
	return BPF_RB_NO_WAKEUP;
}

/* event_submit hands a reserved record to user space. */
static __always_inline void event_submit(void *record)
{
	bpf_ringbuf_submit(record, event_wake_flags());
}

/* event_output copies a record of variable size to the ring. False means that it was dropped, and counted. */
static __always_inline bool event_output(__u64 sandbox, void *record, __u64 size)
{
	bool dropped = bpf_ringbuf_output(&events, record, size, event_wake_flags()) != 0;

	event_count_add(sandbox, dropped);
	return !dropped;
}

#endif
