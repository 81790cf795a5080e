/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What goes over sockets, and the datagrams that those of sandboxes exchange with each peer.
 *
 * Owns the record of a flow, and the counters of datagrams: the network probe says whose sockets they are and when
 * those are closed, the packet programs count, user space reads. It must not report anything itself.
 */
#ifndef WATCHGLASS_FLOW_H
#define WATCHGLASS_FLOW_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "connection.h"
#include "event.h"

/* How a flow ended. */
enum flow_end {
	/* Closed here first, or by the peer. */
	FLOW_LOCAL = 1,
	FLOW_PEER = 2,
	/* Reset by the peer; timed out; given up here with data unread or unsent. */
	FLOW_RESET = 3,
	FLOW_TIMEOUT = 4,
	FLOW_ABORTED = 5,
	/* It goes on: what went over it so far. Nothing went over it for some time, of one without an end of its own. */
	FLOW_CONTINUES = 6,
	FLOW_IDLE = 7,
};

enum flow_marks {
	/* The peer began it. */
	FLOW_INBOUND = 1,
	/* Some of it went through io_uring. */
	FLOW_URING = 2,
};

/* flow is what went over a TCP connection, or between a UDP socket and a peer. */
struct flow {
	struct event_header header;
	__u64 duration;
	__u64 sent;
	__u64 received;
	/* What of both was told before. */
	__u64 told_sent;
	__u64 told_received;
	__u32 sent_packets;
	__u32 received_packets;
	__u32 retransmits;
	/* The smoothed round-trip time in microseconds. */
	__u32 rtt;
	struct endpoint peer;
	struct endpoint local;
	__u8 protocol;
	/* enum flow_end. */
	__u8 end;
	/* enum flow_marks. */
	__u8 marks;
	/* How many datagrams were shown to user space. */
	__u8 shown;
};

/* DATAGRAM_PEERS is how many peers of a socket are known when it is closed; flows with others end when they are idle. */
#define DATAGRAM_PEERS 4

/* datagrams is kept with a UDP socket of a sandbox from its first connect or send on. */
struct datagrams {
	/* Who that was. */
	struct event_header owner;
	__u64 cookie;
	__u32 peers;
	struct endpoint ends[DATAGRAM_PEERS];
	/* Whether the last connect or send that named a peer came through io_uring. */
	__u32 ring;
	/* Whether the socket is of no watched cgroup, and counted as that. */
	__u32 outside;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct datagrams);
} datagram_sockets SEC(".maps");

/* destination is one peer of a socket that sends datagrams. */
struct destination {
	__u64 cookie;
	struct endpoint peer;
	__u8 reserved[6];
};

/* datagram_flows is emptied by user space alone, so that nothing counted is ever pushed out untold. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct destination);
	__type(value, struct flow);
} datagram_flows SEC(".maps");

#endif
