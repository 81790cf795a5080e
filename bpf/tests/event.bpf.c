/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
//go:build ignore

/*
 * Tests of lib/event.h and lib/sandbox.h: each program calls what it is named after, for the task that
 * runs it.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "../lib/event.h"
#include "../lib/sandbox.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* question is what a program is asked, and its answer. */
struct question {
	__u64 cgroup;
	__u64 sandbox;
	__u64 size;
	__u64 answer;
};

/* message is a record of a fixed size. */
struct message {
	struct event_header header;
	__u8 text[64];
};

ABI_STRUCT(event_header);
ABI_STRUCT(event_tally);
ABI_STRUCT(event_budget);
ABI_STRUCT(event_count);
ABI_STRUCT(question);
ABI_STRUCT(message);

/* room is as large as the mask of a size. */
struct room {
	struct message message;
	__u8 slack[256 - sizeof(struct message)];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct room);
} rooms SEC(".maps");

/* Answers the sandbox of a cgroup. */
SEC("syscall")
int test_sandbox_of(struct question *question)
{
	question->answer = sandbox_of(question->cgroup);
	return 0;
}

/* Answers the sandbox of the task that runs it. */
SEC("syscall")
int test_sandbox_current(struct question *question)
{
	question->answer = sandbox_current();
	return 0;
}

/* Answers the cgroup of the task that runs it, found the way that works for any task. */
SEC("syscall")
int test_sandbox_cgroup_of(struct question *question)
{
	question->answer = sandbox_cgroup_of(bpf_get_current_task_btf());
	return 0;
}

/* Sends one message; returns whether there was room. */
SEC("syscall")
int test_event_submit(struct question *question)
{
	struct message *message = event_reserve(question->sandbox, sizeof(*message));

	/* Told by the result: of stores to the context on both ways clang makes one that 6.1 refuses. */
	if (!message)
		return 0;
	event_header_fill(&message->header, question->sandbox, 7);
	__builtin_memset(message->text, 'x', sizeof(message->text));
	event_submit(message);
	return 1;
}

/* Sends one message of the kind and class in size; returns whether it was taken. */
SEC("syscall")
int test_event_submit_as(struct question *question)
{
	struct message *message =
		event_reserve_as(question->sandbox, (__u32)question->size, sizeof(*message));

	if (!message)
		return 0;
	event_header_fill(&message->header, question->sandbox, 7);
	__builtin_memset(message->text, 'x', sizeof(message->text));
	event_submit(message);
	return 1;
}

/* Counts a record of the kind in size as told by another. */
SEC("syscall")
int test_event_aggregate(struct question *question)
{
	event_aggregate(question->sandbox, (__u32)question->size);
	return 0;
}

/* Counts a record of the kind in size as one that could not be made. */
SEC("syscall")
int test_event_lose(struct question *question)
{
	event_lose(question->sandbox, (__u32)question->size);
	return 0;
}

/* Sends the first bytes of a message; returns whether there was room, 2 when it is not that long. */
SEC("syscall")
int test_event_output(struct question *question)
{
	__u32 zero = 0;
	struct room *room = bpf_map_lookup_elem(&rooms, &zero);
	struct message *message;
	__u64 size = question->size;

	if (!room || size > sizeof(*message))
		return 2;
	message = &room->message;
	/* clang knows that this changes nothing; the 6.1 verifier has forgotten by then that the size is bounded. */
	asm volatile("" : "+r"(size));
	size &= 0xff;
	event_header_fill(&message->header, question->sandbox, 8);
	return event_output(question->sandbox, message, size);
}
