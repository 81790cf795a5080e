/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connects by IP that have no result yet.
 *
 * Owns the record of a connect, and what is noted of one from when the kernel has copied its address to when it is done:
 * by the thread that is in connect(2), by the socket where it came through io_uring, which may end in another thread.
 * It must not know how the result comes.
 */
#ifndef WATCHGLASS_ATTEMPT_H
#define WATCHGLASS_ATTEMPT_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "connection.h"
#include "event.h"

/* Macros of the kernel, which BTF does not carry. */
#define EINPROGRESS 115
#define ERESTARTSYS 512

enum connect_flags {
	/* The program closed the socket before there was a result. */
	CONNECT_ABANDONED = 1,
	/* The address is the caller's word: the kernel refused before it copied it to where we look. */
	CONNECT_CLAIMED = 2,
	/* The result is older than the record, by nobody knows how much: there is no latency. */
	CONNECT_LATE = 4,
	/* It came through io_uring. */
	CONNECT_URING = 8,
};

/* connect is one attempt to reach a peer. */
struct connect {
	struct event_header header;
	__u64 latency;
	struct endpoint peer;
	struct endpoint local;
	/* A positive error number; 0 for success. */
	__u16 error;
	__u8 protocol;
	__u8 flags;
};

/* attempt is what a connect in progress asked for. */
struct attempt {
	/* The socket's cookie. */
	__u64 socket;
	struct endpoint peer;
	__u8 protocol;
	/* Whether socket states report the result, so that the end of the call need not. */
	__u8 started;
	__u8 reserved[4];
};

/* attempts is by thread, or by socket (attempt_of_ring). LRU: what nobody ends is pushed out by what comes. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct attempt);
} attempts SEC(".maps");

/* attempt_of_ring is the key of an attempt through io_uring: no process has an id so large. */
static __always_inline __u64 attempt_of_ring(__u64 socket)
{
	return socket | 1ull << 63;
}

/* attempt_cookie is the cookie of a socket, 0 while it has none. */
static __always_inline __u64 attempt_cookie(const struct sock *sk)
{
	return (__u64)BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
}

/* protocol_told is the transport that events name: an MPTCP connection is told as the TCP it starts with. */
static __always_inline __u8 protocol_told(__u32 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
	case IPPROTO_MPTCP:
		return IPPROTO_TCP;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		return IPPROTO_UDP;
	default:
		return 0;
	}
}

/* connect_emit reports a connect whose caller is the current task, as a record of CONNECT_KIND, which is the probe's. */
static __always_inline void connect_emit(__u64 sandbox, const struct connect *found)
{
	struct connect *record =
		event_reserve_as(sandbox, EVENT_KEPT | CONNECT_KIND, sizeof(*record));

	if (!record)
		return;
	event_header_fill(&record->header, sandbox, CONNECT_KIND);
	record->latency = found->latency;
	record->peer = found->peer;
	record->local = found->local;
	record->error = found->error;
	record->protocol = found->protocol;
	record->flags = found->flags;
	event_submit(record);
}

/* connect_result reports the end of a connect, unless socket states do. */
static __always_inline void connect_result(__u64 sandbox, const struct attempt *attempt, long ret,
					   __u8 flags)
{
	struct connect found = {
		.peer = attempt->peer,
		.protocol = attempt->protocol,
		.error = ret < 0 ? (__u16)-ret : 0,
		.flags = flags,
	};

	if (found.protocol == IPPROTO_UDP ||
	    (ret < 0 && !attempt->started && ret != -EINPROGRESS && ret != -ERESTARTSYS))
		connect_emit(sandbox, &found);
}

#endif
