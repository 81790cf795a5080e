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

#include "direct.h"

/*
 * ABI_STRUCT(x) and ABI_ENUM(x) keep clang from dropping a type that only the records use, and name it
 * to the generator, which writes its Go twin from BTF.
 */
#define ABI_STRUCT(name) const struct name *abi_##name __attribute__((unused))
#define ABI_ENUM(name) const enum name *abi_##name __attribute__((unused))

/* EVENT_SLOTS bounds the kinds of records of all probes together, and one more a probe for what has no kind. */
#define EVENT_SLOTS 64
/* EVENT_WINDOW is how long a sandbox's budget lasts, in nanoseconds. */
#define EVENT_WINDOW 100000000ll

/*
 * Classes of records, or'ed with the kind where a record is reserved. A full ring and a spent budget
 * refuse the lower class first, so that a flood of what is common cannot drown what is rare and telling.
 */
/* EVENT_BULK is what a program makes at its leisure: opens, flows. Refused when three quarters of the ring wait. */
#define EVENT_BULK 0x000
/* EVENT_KEPT is what must survive a flood of bulk: connects, notable calls, watched files. Has a budget of its own. */
#define EVENT_KEPT 0x100
/* EVENT_VITAL is what all else hangs on: births, execs and ends of processes, cgroups. Never throttled. */
#define EVENT_VITAL 0x200
#define EVENT_KIND_MASK 0xff
#define EVENT_CLASS_SHIFT 8

/* Which place the probe has in probes.go; the loader sets it. */
const volatile __u16 probe_index;
/* The probe's first slot in the accounts, for what has no kind, and how many kinds it has; the loader sets both. */
const volatile __u16 event_slot;
const volatile __u16 event_kinds;
/* How many bytes must wait before the reader is woken at once; the loader sets it by the ring's size. */
const volatile __u32 event_wake_bytes;
/* How many bytes may wait, with the new record, for one of bulk and one that is kept; the loader sets them. */
const volatile __u32 event_limits[2];
/* How many bytes of bulk and of what is kept a sandbox may send in a window, 0 for any; the loader sets them. */
const volatile __u64 event_budgets[2];

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

/* event_caller is what is known of the current task: found out once for all that tells of it. task is its address. */
struct event_caller {
	__u64 task;
	__u64 cgroup;
	__u64 start;
	__u32 pid;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 * 1024 * 1024);
} events SEC(".maps");

/*
 * event_tally is the account of one kind of record in one sandbox. What was seen is the sum of what was
 * submitted and of these: told by another record with a count, found no room in the ring or in a table,
 * refused for a spent budget.
 */
struct event_tally {
	__u64 seen;
	__u64 aggregated;
	__u64 dropped;
	__u64 throttled;
};

/* event_budget is what a sandbox sent of one class since the window began, and which slots passed in spite of that. */
struct event_budget {
	__u64 window;
	__u64 bytes;
	__u64 passed;
};

/* event_count is one sandbox's accounts and budgets. */
struct event_count {
	struct event_tally tallies[EVENT_SLOTS];
	struct event_budget budgets[2];
};

/*
 * event_counts is by sandbox. User space adds the entry before the sandbox is watched, so programs
 * only look it up: adding to a map without preallocation can fail from here. Entry 0 takes what
 * belongs to no sandbox. Not per CPU: that would be 2 KiB a sandbox on every possible CPU, and CPUs
 * contend only for the counters of one sandbox.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
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

/* event_slot_of is the slot of a kind of the probe. */
static __always_inline __u32 event_slot_of(__u32 what)
{
	__u32 kind = what & EVENT_KIND_MASK;

	if (kind > event_kinds)
		kind = 0;
	return (event_slot + kind) & (EVENT_SLOTS - 1);
}

/* event_aggregate_many counts so many records that are not sent: a later one, or one that was, tells of them with a count. */
static __always_inline void event_aggregate_many(__u64 sandbox, __u32 kind, __u64 records)
{
	struct event_count *count = event_count_of(sandbox);
	__u32 slot = event_slot_of(kind);

	if (!count)
		return;
	__sync_fetch_and_add(&count->tallies[slot].seen, records);
	__sync_fetch_and_add(&count->tallies[slot].aggregated, records);
}

/* event_aggregate counts one of them. */
static __always_inline void event_aggregate(__u64 sandbox, __u32 kind)
{
	event_aggregate_many(sandbox, kind, 1);
}

/* event_lose_many counts so many records that could not even be made, for lack of room in a table. */
static __always_inline void event_lose_many(__u64 sandbox, __u32 kind, __u64 records)
{
	struct event_count *count = event_count_of(sandbox);
	__u32 slot = event_slot_of(kind);

	if (!count)
		return;
	__sync_fetch_and_add(&count->tallies[slot].seen, records);
	__sync_fetch_and_add(&count->tallies[slot].dropped, records);
}

/* event_lose counts one of them. */
static __always_inline void event_lose(__u64 sandbox, __u32 kind)
{
	event_lose_many(sandbox, kind, 1);
}

/* event_count_add counts one record of no kind, as sent or as dropped. */
static __always_inline void event_count_add(__u64 sandbox, bool dropped)
{
	struct event_count *count = event_count_of(sandbox);
	__u32 slot = event_slot_of(0);

	if (!count)
		return;
	__sync_fetch_and_add(&count->tallies[slot].seen, 1);
	if (dropped)
		__sync_fetch_and_add(&count->tallies[slot].dropped, 1);
}

/* event_waiting is how many bytes wait in the ring: what bpf_ringbuf_query() says, without a call where the kernel allows that. */
static __always_inline __u64 event_waiting(void)
{
	struct bpf_ringbuf *ring;

	if (!DIRECT)
		return bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
	ring = DIRECT_AT(struct bpf_ringbuf, ((struct bpf_ringbuf_map *)(void *)&events)->rb);
	return ring->producer_pos - ring->consumer_pos;
}

/* event_budget_limit is how many bytes a budget allows in a window while so many wait in the ring, 0 for any. */
static __always_inline __u64 event_budget_limit(__u32 class, __u64 waiting)
{
	__u64 limit = event_budgets[class & 1];

	return waiting > event_limits[0] - event_limits[0] / 3 ? limit / 8 : limit;
}

/* event_spent is when the window began in which a sandbox has spent its budget of bulk or of what is kept, 0 where it has not. */
static __always_inline __u64 event_spent(__u64 sandbox, __u32 class, __u64 now)
{
	struct event_count *count = event_count_of(sandbox);
	struct event_budget *budget;
	__u64 limit;

	if (!count)
		return 0;
	budget = &count->budgets[class >> EVENT_CLASS_SHIFT & 1];
	if ((__s64)(now - budget->window) >= EVENT_WINDOW)
		return 0;
	limit = event_budget_limit(class >> EVENT_CLASS_SHIFT, event_waiting());
	return limit && budget->bytes > limit ? budget->window : 0;
}

/*
 * event_budget_allows says whether a sandbox may send another record of bulk or of what is kept. The first of each
 * kind after the budget is spent passes, in every window, so that a flood of one kind never hides
 * that there is another. While half of the ring waits, an eighth of the budget must do: then those who send
 * least lose last. Two CPUs that begin a window at once may let a few records too many pass.
 */
static __always_inline bool event_budget_allows(struct event_count *count, __u32 class, __u32 slot,
						__u64 size, __u64 waiting, __u64 now)
{
	struct event_budget *budget = &count->budgets[class & 1];
	__u64 limit = event_budget_limit(class, waiting);
	__u64 bit = 1ull << slot;

	if (!limit)
		return true;
	/* Reading the clock takes as long as all the rest here. */
	if (!now)
		now = bpf_ktime_get_boot_ns();
	/* Signed: a record that was begun before the window is of the window. */
	if ((__s64)(now - budget->window) >= EVENT_WINDOW) {
		budget->window = now;
		budget->bytes = 0;
		budget->passed = 0;
	}
	if (__sync_fetch_and_add(&budget->bytes, size) + size <= limit)
		return true;
	return !(budget->passed & bit) && !(__sync_fetch_and_or(&budget->passed, bit) & bit);
}

/* event_admission is what event_admit found out: the account, for event_refused(), and how many bytes wait, 0 if not known. */
struct event_admission {
	struct event_tally *account;
	__u64 waiting;
};

/*
 * event_admit counts one record of a size as seen, and says whether it may be put into the ring; if not, that has
 * been counted too. now is the boot clock, 0 to have it read.
 */
static __always_inline bool event_admit(__u64 sandbox, __u32 what, __u64 size, __u64 now,
					struct event_admission *admission)
{
	struct event_count *count = event_count_of(sandbox);
	__u32 class = what >> EVENT_CLASS_SHIFT;
	__u32 slot = event_slot_of(what);
	struct event_tally *tally;
	__u64 waiting;

	admission->account = NULL;
	admission->waiting = 0;
	if (!count)
		return true;
	tally = &count->tallies[slot];
	admission->account = tally;
	/* Atomic: a program can be interrupted by another of the same probe on the same CPU. */
	__sync_fetch_and_add(&tally->seen, 1);
	if (what >= EVENT_VITAL)
		return true;
	waiting = event_waiting();
	admission->waiting = waiting;
	if (!event_budget_allows(count, class, slot, size, waiting, now)) {
		__sync_fetch_and_add(&tally->throttled, 1);
		return false;
	}
	if (waiting + size > event_limits[class & 1]) {
		__sync_fetch_and_add(&tally->dropped, 1);
		return false;
	}
	return true;
}

static __always_inline void event_refused(struct event_tally *account)
{
	if (account)
		__sync_fetch_and_add(&account->dropped, 1);
}

/* event_comm copies a task's name: 16 bytes, of which the last is NUL. What follows the first NUL says nothing. */
static __always_inline void event_comm(__u8 *to, const struct task_struct *task)
{
	__u64 from = (__u64)task + bpf_core_field_offset(struct task_struct, comm);

	if (DIRECT) {
		*(__u64 *)to = direct_word(from);
		*(__u64 *)(to + 8) = direct_word(from + 8);
		return;
	}
	bpf_core_read_str(to, sizeof(task->comm), &task->comm);
}

/*
 * event_header_rest fills in who, but for what is known already: of any task that the verifier knows as one, not only the
 * current. Loads are direct, cheaper than bpf_probe_read_kernel(); a bad pointer reads as 0 either way.
 */
static __always_inline void event_header_rest(struct event_header *header, struct task_struct *task,
					      __u64 start, __u32 tgid)
{
	struct task_struct *parent = task->real_parent;
	const struct cred *cred = task->cred;
	struct pid *pid = task->group_leader->thread_pid;
	__u32 level = pid->level;
	struct upid upid = {.nr = tgid};

	/* Only direct loads at constant offsets are allowed: that is the initial namespace. */
	if (level)
		bpf_core_read(&upid, sizeof(upid), &pid->numbers[level]);
	header->start = start;
	header->parent_start = parent->group_leader->start_boottime;
	header->pid = tgid;
	header->tid = task->pid;
	header->parent_pid = parent->tgid;
	header->vpid = upid.nr;
	header->uid = cred->euid.val;
	header->gid = cred->egid.val;
	event_comm(header->comm, task);
}

/* event_header_task fills in who. */
static __always_inline void event_header_task(struct event_header *header, struct task_struct *task)
{
	event_header_rest(header, task, task->group_leader->start_boottime, task->tgid);
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
	header->cgroup = task_plain()->cgroups->dfl_cgrp->kn->id;
	event_header_task(header, task_plain());
}

/* event_caller_find finds out what is known of the current task, which is given as the helper returns it. */
static __always_inline void event_caller_find(struct event_caller *caller, struct task_struct *task)
{
	/*
	 * From what the helper returns, not task_plain(): a load of what the verifier trusts is one instruction, of
	 * what it does not ten.
	 */
	caller->task = (__u64)task;
	caller->cgroup = task->cgroups->dfl_cgrp->kn->id;
	caller->start = task->group_leader->start_boottime;
	caller->pid = task->tgid;
	caller->reserved = 0;
}

/* event_caller_task is the task, to read from: without a call where the kernel allows that. */
static __always_inline struct task_struct *event_caller_task(const struct event_caller *caller)
{
	return DIRECT ? DIRECT_AT(struct task_struct, caller->task) : task_plain();
}

/* event_header_of is event_header_fill of a caller. */
static __always_inline void event_header_of(struct event_header *header, __u64 sandbox, __u16 kind,
					    const struct event_caller *caller)
{
	event_header_begin(header, sandbox, kind);
	header->cgroup = caller->cgroup;
	event_header_rest(header, event_caller_task(caller), caller->start, caller->pid);
}

/*
 * event_reserve_as makes room for a record of a constant size in the ring. what is its kind, or'ed with
 * its class. NULL means that there was no room or no budget, which has then been counted. The bytes are not
 * zeroed: fill all of them.
 */
static __always_inline void *event_reserve_as(__u64 sandbox, __u32 what, __u64 size)
{
	struct event_admission admission;
	void *record;

	if (!event_admit(sandbox, what, size, 0, &admission))
		return NULL;
	record = bpf_ringbuf_reserve(&events, size, 0);
	if (!record)
		event_refused(admission.account);
	return record;
}

/* event_reserve is event_reserve_as for bulk of no kind. */
static __always_inline void *event_reserve(__u64 sandbox, __u64 size)
{
	return event_reserve_as(sandbox, EVENT_BULK, size);
}

/*
 * event_sleepers holds whether the reader has found nothing for a while, and sleeps until it is woken: user space says so, the
 * first record takes it back.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} event_sleepers SEC(".maps");

/* event_sleeper_wakes says whether the reader is to be woken for a record because it sleeps. */
static __always_inline bool event_sleeper_wakes(void)
{
	__u32 zero = 0;
	__u64 *sleeper = bpf_map_lookup_elem(&event_sleepers, &zero);

	if (!sleeper || !*(volatile __u64 *)sleeper)
		return false;
	/* Of two CPUs both may wake it: that costs less than finding out which is the first. */
	*(volatile __u64 *)sleeper = 0;
	return true;
}

/* event_wake_flags says whether the reader must be woken for this record, before which so many bytes waited, 0 to look. */
static __always_inline __u64 event_wake_flags(__u64 waiting)
{
	/*
	 * Waking costs the observed process 1 to 2 us, more than all the rest. While there are records the reader looks by itself
	 * every few milliseconds, so it is woken only when that could be too late for the ring's size.
	 */
	if (!waiting)
		waiting = event_waiting();
	return waiting >= event_wake_bytes || event_sleeper_wakes() ? BPF_RB_FORCE_WAKEUP
								    : BPF_RB_NO_WAKEUP;
}

/* event_submit hands a reserved record to user space. */
static __always_inline void event_submit(void *record)
{
	bpf_ringbuf_submit(record, event_wake_flags(0));
}

/*
 * event_output_as copies a record of variable size, its header filled in, to the ring. what is its kind, or'ed with its class. False means
 * that it was refused, and counted.
 */
static __always_inline bool event_output_as(__u64 sandbox, __u32 what, void *record, __u64 size)
{
	struct event_admission admission;

	if (!event_admit(sandbox, what, size, ((struct event_header *)record)->time, &admission))
		return false;
	if (!bpf_ringbuf_output(&events, record, size, event_wake_flags(admission.waiting)))
		return true;
	event_refused(admission.account);
	return false;
}

/* event_output is event_output_as for bulk of no kind. */
static __always_inline bool event_output(__u64 sandbox, void *record, __u64 size)
{
	return event_output_as(sandbox, EVENT_BULK, record, size);
}

#endif
