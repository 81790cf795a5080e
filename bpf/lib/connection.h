/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * TCP connections of sandboxes: who owns one, and how much of what is said on it was shown to user space.
 *
 * Owns the storage beside the socket, which the network probe makes and the packet programs read, and the
 * form of addresses. It must not report anything.
 */
#ifndef WATCHGLASS_CONNECTION_H
#define WATCHGLASS_CONNECTION_H

#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "event.h"

enum network_kind {
	NETWORK_CONNECT = 1,
	NETWORK_FLOW = 2,
	NETWORK_SOCKET = 3,
};

/* endpoint is an address and port; IPv4 in its v4-mapped form. The port is in host order. */
struct endpoint {
	__u8 address[16];
	__u16 port;
};

/* shown is how much of one direction of a stream user space got, from its first byte on. */
struct shown {
	__u32 first;
	__u32 bytes;
	__u32 begun;
	/* How much there is to be shown, where its first bytes say that; and whether they may be of a request by HTTP. */
	__u32 needed;
	__u32 text;
	/* Whether it was looked at for that. */
	__u32 looked;
};

/* connection is kept with a TCP socket from the first SYN to the close. */
struct connection {
	/* Who connected: later states run in softirq, in a kernel thread, or after the process is gone. */
	struct event_header owner;
	__u64 started;
	struct shown sent;
	struct shown received;
	/* What a flow that goes on told so far, and when it told that. */
	__u64 told_sent;
	__u64 told_received;
	__u64 told;
	__u8 established;
	/* The peer connected: nobody owns it until it is accepted. */
	__u8 inbound;
	/* It was made through io_uring. */
	__u8 ring;
	/* The socket is of no watched cgroup, and counted as that. */
	__u8 outside;
	__u8 reserved[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connection);
} connections SEC(".maps");

static __always_inline void endpoint_set4(struct endpoint *end, __u32 address, __u16 port)
{
	__builtin_memset(end->address, 0, 10);
	end->address[10] = 0xff;
	end->address[11] = 0xff;
	__builtin_memcpy(&end->address[12], &address, sizeof(address));
	end->port = port;
}

#endif
