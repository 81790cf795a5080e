/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
//go:build ignore

/*
 * The network probe: who reached, or tried to reach, which peer, with what result, and how much went
 * over it.
 *
 * Owns connects and flows of IPv4 and IPv6, TCP and UDP, in both directions, and the making, binding and
 * use of other sockets. It must not decide: its cgroup programs always allow.
 *
 * How the programs share the work:
 *   network_on_connect4/6   notes what a connect asks for, from the kernel's copy of the address
 *   network_on_set_state    TCP's result, latency and bytes
 *   network_on_sys_exit     the result of UDP connects, and of connects that no socket state shows; what
 *                           sockets are made, bound, listened on and accepted
 *   network_on_release      when a UDP socket is closed, whose datagrams the packet probe counts
 *   network_on_iterate      what went over connections that go on
 *   network_on_sendmsg4/6   the first datagram to a destination of a socket that is not connected
 *
 * Misses: what goes over packet and raw sockets, of which the making is told. Datagrams to a unix socket
 * that is not connected. The result of a sendmsg. What comes through io_uring ends in the uring probe, which tells what no
 * socket state shows of it.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define SOCKET_KIND NETWORK_SOCKET
#define CONNECT_KIND NETWORK_CONNECT

#include "lib/attempt.h"
#include "lib/connection.h"
#include "lib/descriptor.h"
#include "lib/event.h"
#include "lib/flow.h"
#include "lib/hook.h"
#include "lib/outside.h"
#include "lib/ring.h"
#include "lib/sandbox.h"
#include "lib/socket.h"
#include "lib/syscall.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Macros of the kernel, which BTF does not carry. */
#define EAGAIN 11
#define ECONNRESET 104
#define ETIMEDOUT 110
#define COMPAT_SYS_SOCKETCALL 102
#define SOCKETCALL_SOCKET 1
#define SOCKETCALL_BIND 2
#define SOCKETCALL_CONNECT 3
#define SOCKETCALL_LISTEN 4
#define SOCKETCALL_ACCEPT 5
#define SOCKETCALL_ACCEPT4 18

/* How long a flow goes on before what went over it so far is told, in nanoseconds; the loader sets it. */
const volatile __u64 flow_interval;
/* Whether every flow that goes on is told now; user space sets it when it tells what is left, and clears it. */
volatile __u32 flows_left;

/* CALLS is above every number below; a multiple of two, for the mask. */
#define CALLS 1024
/* CALL_MANY is a call that is any of the operations, by its first argument. */
#define CALL_MANY 0x80
/* CALL_SENDS is a call that sends, which is none of the operations. */
#define CALL_SENDS 0x40

/*
 * Which operation each call is, by number: that of 64-bit calls, which x32 shares, and of 32-bit calls. The loader fills
 * them from the one table by name (call_tables.go): the rest, and what sends, is not handed on to this probe.
 */
const volatile __u8 native_calls[CALLS];
const volatile __u8 compat_calls[CALLS];

/*
 * asked_by_ring says whether what connects or sends for the current task was asked for through io_uring: then the task is
 * in no call that does either.
 */
static __always_inline bool asked_by_ring(void)
{
	struct task_struct *task = task_plain();
	struct syscall_call call;

	if (!ring_used(task))
		return false;
	if (ring_thread(task))
		return true;
	call = syscall_finished(
		(const struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf()));
	if (call.number >= CALLS)
		return true;
	return !(call.compat ? compat_calls[call.number & (CALLS - 1)]
			     : native_calls[call.number & (CALLS - 1)]);
}

/* destinations is what was reported already. A destination pushed out by others is reported again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct destination);
	__type(value, __u8);
} destinations SEC(".maps");

static __always_inline void endpoint_set6(struct endpoint *end, const struct bpf_sock_addr *ctx)
{
	/* Word by word: the verifier allows no other access to this part of the context. */
	__u32 words[4] = {ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]};

	__builtin_memcpy(end->address, words, sizeof(words));
	end->port = bpf_ntohs((__u16)ctx->user_port);
}

/* endpoints_of_socket reads both ends of a TCP socket. The local one is all zero until it is bound. */
static __always_inline void endpoints_of_socket(const struct sock *sk, struct endpoint *peer,
						struct endpoint *local)
{
	struct in6_addr peer6, local6;

	if (sk->__sk_common.skc_family == AF_INET6) {
		peer6 = sk->__sk_common.skc_v6_daddr;
		local6 = sk->__sk_common.skc_v6_rcv_saddr;
		__builtin_memcpy(peer->address, &peer6, sizeof(peer->address));
		__builtin_memcpy(local->address, &local6, sizeof(local->address));
	} else {
		endpoint_set4(peer, sk->__sk_common.skc_daddr, 0);
		endpoint_set4(local, sk->__sk_common.skc_rcv_saddr, 0);
	}
	peer->port = bpf_ntohs(sk->__sk_common.skc_dport);
	local->port = sk->__sk_common.skc_num;
}

/* socket_cgroup is the cgroup that a socket is of. The verifier allows no load there from a cgroup program. */
static __always_inline __u64 socket_cgroup(struct bpf_sock *sk)
{
	struct sock *plain = NULL;

	/* Its address, read where it lies on the stack, is a number. */
	if (bpf_probe_read_kernel(&plain, sizeof(plain), &sk))
		return 0;
	return BPF_CORE_READ(plain, sk_cgrp_data.cgroup, kn, id);
}

/* datagrams_own notes whose a UDP socket is, the first time that it connects or sends, and has its datagrams counted. */
static __always_inline void datagrams_own(struct bpf_sock_addr *ctx, __u64 sandbox, bool ring)
{
	struct bpf_sock *sk = ctx->sk;
	struct datagrams *socket;

	if (!sk)
		return;
	socket = bpf_sk_storage_get(&datagram_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!socket) {
		event_lose(sandbox, NETWORK_FLOW);
		return;
	}
	socket->ring = ring;
	if (socket->cookie)
		return;
	event_header_fill(&socket->owner, sandbox, NETWORK_FLOW);
	/* Of two that send at once by the same socket one counts it. */
	if (!sandbox_of(socket_cgroup(sk)) && !__sync_lock_test_and_set(&socket->outside, 1))
		outside_begin();
	socket->cookie = bpf_get_socket_cookie(ctx);
}

/*
 * Reports nothing: notes that a UDP socket was closed, so that user space tells what went over it.
 * Why here: no system call tells when the last descriptor of a socket goes. Since 5.9.
 * Misses: peers of the socket beyond DATAGRAM_PEERS, whose flows end when they are idle.
 */
SEC("cgroup/sock_release")
int network_on_release(struct bpf_sock *ctx)
{
	struct datagrams *socket = bpf_sk_storage_get(&datagram_sockets, ctx, NULL, 0);
	struct flow *flow;
	__u32 i;

	if (!socket)
		return 1;
	if (__sync_lock_test_and_set(&socket->outside, 0))
		outside_end();
	for (i = 0; i < DATAGRAM_PEERS; i++) {
		struct destination key = {.cookie = socket->cookie};

		if (i >= socket->peers)
			break;
		key.peer = socket->ends[i];
		flow = bpf_map_lookup_elem(&datagram_flows, &key);
		if (flow)
			flow->end = FLOW_LOCAL;
	}
	return 1;
}

/* endpoint_same says whether two ends are the same. */
static __always_inline bool endpoint_same(const struct endpoint *a, const struct endpoint *b)
{
	return a->port == b->port && !__builtin_memcmp(a->address, b->address, sizeof(a->address));
}

/*
 * attempt_untold tells of a connect whose place another one takes before its result is known. Where socket states will
 * report it there is nothing to tell.
 */
static __always_inline void attempt_untold(__u64 sandbox, const struct attempt *attempt, __u8 flags)
{
	struct connect found = {
		.peer = attempt->peer,
		.protocol = attempt->protocol,
		.flags = CONNECT_ABANDONED | flags,
	};

	if (!attempt->started)
		connect_emit(sandbox, &found);
}

static __always_inline void attempt_note(struct bpf_sock_addr *ctx, __u64 sandbox,
					 const struct endpoint *peer)
{
	struct attempt attempt = {.peer = *peer, .protocol = protocol_told(ctx->protocol)};
	__u64 key = bpf_get_current_pid_tgid();
	bool ring = asked_by_ring();
	struct attempt *before;

	if (!attempt.protocol)
		return;
	attempt.socket = bpf_get_socket_cookie(ctx);
	if (ring) {
		key = attempt_of_ring(attempt.socket);
		before = bpf_map_lookup_elem(&attempts, &key);
		if (before && !endpoint_same(&before->peer, peer))
			attempt_untold(sandbox, before, CONNECT_URING);
	}
	bpf_map_update_elem(&attempts, &key, &attempt, BPF_ANY);
	if (attempt.protocol == IPPROTO_UDP)
		datagrams_own(ctx, sandbox, ring);
}

/*
 * Reports nothing yet: notes the address of a connect, from the kernel's own copy.
 * Why not sys_enter_connect: user memory there can be changed by another thread (38 % of raced
 * connects read wrong), and a connect through io_uring makes no system call. Since 4.17; attached to
 * the root of the cgroup2 hierarchy beside whatever else is (BPF_F_ALLOW_MULTI).
 * Misses: connects refused before the protocol saw them, by seccomp or an LSM: see network_on_sys_exit.
 */
SEC("cgroup/connect4")
int network_on_connect4(struct bpf_sock_addr *ctx)
{
	__u64 sandbox = sandbox_current();
	struct endpoint peer = {};

	if (!sandbox)
		return 1;
	endpoint_set4(&peer, ctx->user_ip4, bpf_ntohs((__u16)ctx->user_port));
	attempt_note(ctx, sandbox, &peer);
	return 1;
}

/* As network_on_connect4, for IPv6 sockets, whose peer may be IPv4 in its mapped form. */
SEC("cgroup/connect6")
int network_on_connect6(struct bpf_sock_addr *ctx)
{
	__u64 sandbox = sandbox_current();
	struct endpoint peer = {};

	if (!sandbox)
		return 1;
	endpoint_set6(&peer, ctx);
	attempt_note(ctx, sandbox, &peer);
	return 1;
}

/* destination_first says whether the socket sends to the peer for the first time, and remembers. */
static __always_inline bool destination_first(struct bpf_sock_addr *ctx,
					      const struct endpoint *peer)
{
	struct destination destination = {.cookie = bpf_get_socket_cookie(ctx), .peer = *peer};
	__u8 seen = 1;

	/* BPF_NOEXIST fails where it is there: look up and remember in one step. */
	return bpf_map_update_elem(&destinations, &destination, &seen, BPF_NOEXIST) == 0;
}

/* datagram_by_ring marks what the socket exchanges with a peer, if it does already. */
static __always_inline void datagram_by_ring(struct bpf_sock_addr *ctx, const struct endpoint *peer)
{
	struct destination key = {.cookie = bpf_get_socket_cookie(ctx), .peer = *peer};
	struct flow *flow = bpf_map_lookup_elem(&datagram_flows, &key);

	if (flow)
		flow->marks |= FLOW_URING;
}

static __always_inline void sendmsg_report(struct bpf_sock_addr *ctx, __u64 sandbox,
					   const struct endpoint *peer)
{
	struct connect found = {.peer = *peer, .protocol = protocol_told(ctx->protocol)};

	if (found.protocol != IPPROTO_UDP)
		return;
	if (asked_by_ring())
		found.flags = CONNECT_URING;
	datagrams_own(ctx, sandbox, found.flags != 0);
	if (found.flags)
		datagram_by_ring(ctx, peer);
	if (destination_first(ctx, peer))
		connect_emit(sandbox, &found);
}

/*
 * Reports the first datagram of a socket to a destination, from the kernel's own copy of the address.
 * Why not sys_enter_sendto: sendmsg and sendmmsg carry the address behind pointers into memory that
 * other threads can change. Since 4.18.
 * Misses: whether the datagram left. Datagrams of connected sockets are network_on_connect4's.
 */
SEC("cgroup/sendmsg4")
int network_on_sendmsg4(struct bpf_sock_addr *ctx)
{
	__u64 sandbox = sandbox_current();
	struct endpoint peer = {};

	if (!sandbox)
		return 1;
	endpoint_set4(&peer, ctx->user_ip4, bpf_ntohs((__u16)ctx->user_port));
	sendmsg_report(ctx, sandbox, &peer);
	return 1;
}

/* As network_on_sendmsg4, for IPv6 sockets. */
SEC("cgroup/sendmsg6")
int network_on_sendmsg6(struct bpf_sock_addr *ctx)
{
	__u64 sandbox = sandbox_current();
	struct endpoint peer = {};

	if (!sandbox)
		return 1;
	endpoint_set6(&peer, ctx);
	sendmsg_report(ctx, sandbox, &peer);
	return 1;
}

/* connection_of is what is noted of a connection; one of no sandbox has nothing stored with it, which costs no call to see. */
static __always_inline struct connection *connection_of(struct sock *sk)
{
	return sk->sk_bpf_storage ? bpf_sk_storage_get(&connections, sk, NULL, 0) : NULL;
}

/* connection_begin notes the owner of a connection at its first SYN, which is built in the caller's context. */
static __always_inline void connection_begin(struct sock *sk)
{
	struct connection *connection;
	struct attempt *attempt;
	__u64 sandbox;
	__u8 outside;
	__u64 key;

	if (sandbox_unlikely(bpf_get_current_task_btf()))
		return;
	sandbox = sandbox_current();
	if (!sandbox)
		return;
	key = bpf_get_current_pid_tgid();
	connection = bpf_sk_storage_get(&connections, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!connection) {
		event_lose(sandbox, NETWORK_CONNECT);
		return;
	}
	event_header_fill(&connection->owner, sandbox, NETWORK_CONNECT);
	connection->started = bpf_ktime_get_boot_ns();
	/* It is counted already where the end of an earlier connect of the socket has been missed. */
	outside = connection->outside;
	__builtin_memset(&connection->sent, 0,
			 sizeof(*connection) - offsetof(struct connection, sent));
	connection->outside = outside || !sandbox_of(sk->sk_cgrp_data.cgroup->kn->id);
	if (connection->outside && !outside)
		outside_begin();
	if (asked_by_ring()) {
		connection->ring = 1;
		key = attempt_of_ring((__u64)sk->__sk_common.skc_cookie.counter);
	}
	attempt = bpf_map_lookup_elem(&attempts, &key);
	if (attempt)
		attempt->started = 1;
}

/*
 * connection_inbound notes a connection that a peer made to a listener of a sandbox. It runs in softirq: the
 * socket's cgroup, which is the listener's, says whose it is.
 */
static __always_inline void connection_inbound(struct sock *sk)
{
	__u64 cgroup = sk->sk_cgrp_data.cgroup->kn->id;
	__u64 sandbox = sandbox_of(cgroup);
	struct connection *connection;

	if (!sandbox)
		return;
	connection = bpf_sk_storage_get(&connections, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!connection) {
		event_lose(sandbox, NETWORK_FLOW);
		return;
	}
	__builtin_memset(connection, 0, sizeof(*connection));
	event_header_begin(&connection->owner, sandbox, NETWORK_FLOW);
	connection->owner.cgroup = cgroup;
	connection->started = connection->owner.time;
	connection->established = 1;
	connection->inbound = 1;
}

/* connection_report tells a connect's result, which is known since just now unless it is late. */
static __always_inline void connection_report(struct sock *sk, struct connection *connection,
					      __u16 error, __u8 flags)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct connect *record = event_reserve_as(connection->owner.sandbox,
						  EVENT_KEPT | NETWORK_CONNECT, sizeof(*record));

	if (!record)
		return;
	record->header = connection->owner;
	record->header.time = now;
	record->latency = flags & CONNECT_LATE ? 0 : now - connection->started;
	endpoints_of_socket(sk, &record->peer, &record->local);
	record->error = error;
	record->protocol = IPPROTO_TCP;
	record->flags = connection->ring ? flags | CONNECT_URING : flags;
	event_submit(record);
}

/* flow_end says how a connection ended, by the socket's error and the state before the last. */
static __always_inline __u8 flow_end(int error, int state)
{
	if (error == ETIMEDOUT)
		return FLOW_TIMEOUT;
	if (error)
		return FLOW_RESET;
	switch (state) {
	case TCP_LAST_ACK:
		return FLOW_PEER;
	case TCP_FIN_WAIT1:
	case TCP_FIN_WAIT2:
	case TCP_CLOSING:
	case TCP_TIME_WAIT:
		return FLOW_LOCAL;
	}
	return FLOW_ABORTED;
}

/*
 * flow_told notes how much of one direction is told now, and returns how much was before. Who tells that it goes on
 * and who tells its end may run at once: each takes what the other left.
 */
static __always_inline __u64 flow_told(__u64 *told, __u64 now)
{
	__u64 before = __sync_lock_test_and_set(told, now);

	return before < now ? before : now;
}

/* ring_socket says whether some of a connection went through io_uring, and forgets it at its end. */
static __always_inline bool ring_socket(const struct sock *sk, const struct connection *connection,
					bool end)
{
	__u64 key = (__u64)sk;
	__u64 *used = bpf_map_lookup_elem(&ring_sockets, &key);
	bool by_ring;

	if (!used)
		return false;
	/* Earlier than the connection, it was another one, whose place in memory this one has. */
	by_ring = *used >= connection->started;
	if (end)
		bpf_map_delete_elem(&ring_sockets, &key);
	return by_ring;
}

/*
 * flow_report tells what went over a connection: payload only.
 * bytes_sent counts payload with what was sent again, so that is taken off; bytes_acked would count
 * SYN and FIN. bytes_received counts the peer's FIN, which SOCK_DONE shows.
 */
static __always_inline void flow_report(struct sock *sk, struct connection *connection, __u8 end)
{
	struct event_header *acceptor;
	__u64 key = (__u64)sk;
	__u64 now = bpf_ktime_get_boot_ns();
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct flow *record;
	__u64 fin;

	if (!tcp)
		return;
	record = event_reserve_as(connection->owner.sandbox, EVENT_BULK | NETWORK_FLOW,
				  sizeof(*record));
	if (!record)
		return;
	fin = (sk->__sk_common.skc_flags >> bpf_core_enum_value(enum sock_flags, SOCK_DONE)) & 1;
	record->header = connection->owner;
	if (connection->inbound) {
		acceptor = bpf_map_lookup_elem(&accepted, &key);
		if (acceptor)
			record->header = *acceptor;
		if (end != FLOW_CONTINUES)
			bpf_map_delete_elem(&accepted, &key);
	}
	record->header.probe = probe_index;
	record->header.kind = NETWORK_FLOW;
	record->header.time = now;
	record->duration = now - connection->started;
	record->sent = tcp->bytes_sent - tcp->bytes_retrans;
	record->received = tcp->bytes_received;
	if (record->received >= fin)
		record->received -= fin;
	record->told_sent = flow_told(&connection->told_sent, record->sent);
	record->told_received = flow_told(&connection->told_received, record->received);
	endpoints_of_socket(sk, &record->peer, &record->local);
	record->sent_packets = tcp->segs_out;
	record->received_packets = tcp->segs_in;
	record->retransmits = tcp->total_retrans;
	record->rtt = tcp->srtt_us >> 3;
	record->protocol = IPPROTO_TCP;
	record->end = end;
	record->marks = connection->inbound ? FLOW_INBOUND : 0;
	if (ring_socket(sk, connection, end != FLOW_CONTINUES) || connection->ring)
		record->marks |= FLOW_URING;
	record->shown = 0;
	event_submit(record);
}

/*
 * connection_established notes which byte is the first that a connection sends: where the packet programs come to see it
 * later, what they see is not taken for that. Bytes that went with the SYN were before.
 */
static __always_inline void connection_established(struct sock *sk, struct connection *connection)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	connection->established = 1;
	if (!tcp || connection->sent.begun)
		return;
	connection->sent.first = tcp->snd_una - (tcp->data_segs_out ? 1 : 0);
	connection->sent.begun = 1;
}

/* connection_end reports what was not reported yet when a socket becomes closed. */
static __always_inline void connection_end(struct sock *sk, struct connection *connection,
					   int state)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	__u64 key = bpf_get_current_pid_tgid();
	struct attempt *attempt;

	if (connection->outside) {
		connection->outside = 0;
		outside_end();
	}
	if (!connection->established && tcp && tcp->bytes_acked) {
		/* The SYN was acknowledged: that it was established has been missed. */
		connection->established = 1;
		connection_report(sk, connection, 0, CONNECT_LATE);
	}
	if (connection->established) {
		flow_report(sk, connection, flow_end(sk->sk_err, state));
		return;
	}
	if (sk->sk_err) {
		connection_report(sk, connection, (__u16)sk->sk_err, 0);
		return;
	}
	/* No error in the socket: either a connect is just failing, and its end will know, or this is a close. */
	if (connection->ring)
		key = attempt_of_ring((__u64)sk->__sk_common.skc_cookie.counter);
	attempt = bpf_map_lookup_elem(&attempts, &key);
	if (attempt && attempt->started)
		attempt->started = 0;
	else
		connection_report(sk, connection, 0, CONNECT_ABANDONED);
}

/*
 * Reports the result and latency of a TCP connect, and its bytes and duration when it ends.
 * Why not sys_exit_connect: it knows nothing of non-blocking connects, which is what every event loop
 * makes, nor of bytes. Since 5.5 (tp_btf); the owner is kept in socket storage, in tracing since 5.11.
 * The states after SYN_SENT run in any context, so the storage, not the current task, says whether the
 * socket is in scope. Sockets of MPTCP are counted by their first TCP subflow; the MPTCP socket itself
 * is no tcp_sock and is left alone.
 * Misses: connections that were open before their sandbox was watched.
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(network_on_set_state, struct sock *sk, int oldstate, int newstate)
{
	struct connection *connection;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (newstate == TCP_SYN_SENT) {
		connection_begin(sk);
		return 0;
	}
	if (newstate == TCP_ESTABLISHED && oldstate == TCP_SYN_RECV) {
		connection_inbound(sk);
		return 0;
	}
	if (newstate != TCP_ESTABLISHED && newstate != TCP_CLOSE)
		return 0;
	connection = connection_of(sk);
	if (!connection)
		return 0;
	if (newstate == TCP_CLOSE) {
		connection_end(sk, connection, oldstate);
		bpf_sk_storage_delete(&connections, sk);
	} else if (!connection->established) {
		connection_established(sk, connection);
		connection_report(sk, connection, 0, 0);
	}
	return 0;
}

/*
 * Reports what network_on_set_state missed of a connection. The kernel does not run a program inside of
 * itself on one CPU: a connection that closes in an interrupt taken while the program tells of another
 * one would have no end. Without this about one flow in 50,000 had none, on a busy machine. Since 5.5.
 */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(network_on_destroy_sock, struct sock *sk)
{
	struct connection *connection = connection_of(sk);

	if (!connection)
		return 0;
	connection_end(sk, connection, sk->__sk_common.skc_state);
	bpf_sk_storage_delete(&connections, sk);
	return 0;
}

/*
 * Reports connections that go on: what went over each so far.
 * Why an iterator: it looks at the connections of sandboxes alone, when user space says so, and costs no packet
 * anything. Since 5.9.
 */
SEC("iter/bpf_sk_storage_map")
int network_on_iterate(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct connection *connection = ctx->value;
	struct sock *sk = ctx->sk;
	__u64 now = bpf_ktime_get_boot_ns();
	__u64 since;

	if (!sk || !connection || !connection->established ||
	    sk->__sk_common.skc_state == TCP_CLOSE)
		return 0;
	since = connection->told ? connection->told : connection->started;
	if (!flows_left && (!flow_interval || now - since < flow_interval))
		return 0;
	connection->told = now;
	flow_report(sk, connection, FLOW_CONTINUES);
	return 0;
}

/* call_operation is what a system call does to a socket, 0 for all others. It looks at registers alone. */
static __always_inline __u32 call_operation(const struct syscall_call *call,
					    const struct pt_regs *regs)
{
	__u32 operation;

	if (call->number >= CALLS)
		return 0;
	operation = call->compat ? compat_calls[call->number & (CALLS - 1)]
				 : native_calls[call->number & (CALLS - 1)];
	if (operation != CALL_MANY)
		return operation & ~CALL_SENDS;
	switch (syscall_argument(regs, 1, 0)) {
	case SOCKETCALL_SOCKET:
		return SOCKET_CREATE;
	case SOCKETCALL_BIND:
		return SOCKET_BIND;
	case SOCKETCALL_CONNECT:
		return SOCKET_CONNECT;
	case SOCKETCALL_LISTEN:
		return SOCKET_LISTEN;
	case SOCKETCALL_ACCEPT:
	case SOCKETCALL_ACCEPT4:
		return SOCKET_ACCEPT;
	}
	return 0;
}

/* call_arguments reads the arguments of a call on a socket; false when they cannot be. */
static __always_inline bool call_arguments(const struct syscall_call *call,
					   const struct pt_regs *regs, struct socket_call *made)
{
	__u32 words[3] = {};

	if (call->compat && call->number == COMPAT_SYS_SOCKETCALL) {
		/* Two words are what listen has; the third is beyond them in memory at worst. */
		if (bpf_probe_read_user(words, sizeof(words),
					(void *)syscall_argument(regs, 1, 1)) &&
		    bpf_probe_read_user(words, 8, (void *)syscall_argument(regs, 1, 1)))
			return false;
		made->arguments[0] = words[0];
		made->arguments[1] = words[1];
		made->arguments[2] = words[2];
		return true;
	}
	made->arguments[0] = (__u32)syscall_argument(regs, call->compat, 0);
	made->arguments[1] = syscall_argument(regs, call->compat, 1);
	made->arguments[2] = syscall_argument(regs, call->compat, 2);
	return true;
}

/* socket_called is the socket that a finished call made, or was made on. */
static __always_inline struct sock *socket_called(const struct socket_call *made, long ret)
{
	return socket_of(made->operation == SOCKET_ACCEPT && ret >= 0 ? (__u32)ret
								      : (__u32)made->arguments[0]);
}

/* attempt_is_of says whether an attempt is that of a socket: that of MPTCP is noted of the one that it starts with. */
static __always_inline bool attempt_is_of(const struct attempt *attempt, const struct sock *sk)
{
	return sk && (attempt_cookie(sk) == attempt->socket ||
		      BPF_CORE_READ(sk, sk_protocol) == IPPROTO_MPTCP);
}

/* connect_finished tells the result of a connect that no socket state shows. */
static __always_inline void connect_finished(__u64 sandbox, const struct socket_call *made,
					     long ret)
{
	struct sock *sk = socket_of((__u32)made->arguments[0]);
	__u64 thread = bpf_get_current_pid_tgid();
	struct attempt *attempt;

	attempt = bpf_map_lookup_elem(&attempts, &thread);
	if (attempt && !attempt_is_of(attempt, sk)) {
		/*
		 * Of another socket: one that a thread has put another one's descriptor over since, or one that no
		 * connect(2) ended. It is told, and so is what this one was.
		 */
		attempt_untold(sandbox, attempt, 0);
		bpf_map_delete_elem(&attempts, &thread);
		attempt = NULL;
	}
	if (!attempt) {
		connect_without(sandbox, made, sk, ret);
		return;
	}
	connect_result(sandbox, attempt, ret, 0);
	bpf_map_delete_elem(&attempts, &thread);
}

/* socket_finished tells of a call on a socket of a sandbox, by its arguments and result. */
static __always_inline void socket_finished(__u64 sandbox, const struct socket_call *made, long ret)
{
	/* Nothing to accept, or not yet. */
	if (made->operation == SOCKET_ACCEPT && (ret == -EAGAIN || ret == -ERESTARTSYS))
		return;
	if (made->operation == SOCKET_CONNECT)
		connect_finished(sandbox, made, ret);
	else
		socket_report(sandbox, made, socket_called(made, ret), ret);
}

/* network_finished tells of a finished call. */
static __always_inline void network_finished(const struct pt_regs *regs, long ret)
{
	struct syscall_call call = syscall_finished(regs);
	struct socket_call made = {.operation = call_operation(&call, regs)};
	__u64 sandbox;

	if (!made.operation)
		return;
	sandbox = syscall_sandbox();
	if (sandbox && call_arguments(&call, regs, &made))
		socket_finished(sandbox, &made, ret);
}

/*
 * Reports the result of UDP connects, and of TCP connects that failed before there was a SYN: no route,
 * no free port, refused by another cgroup program. The address is the kernel's copy, noted by
 * network_on_connect4. Where seccomp or an LSM refused, that did not run: then the address is the
 * caller's word and says so (CONNECT_CLAIMED).
 * Reports too which sockets are bound, listened on and accepted, connects of unix and other sockets, and
 * the making of sockets of families that no other hook sees: raw, packet, netlink, vsock. What they are
 * and their addresses are the kernel's socket's.
 * Why not tracepoint/syscalls/sys_exit_connect: it does not see 32-bit calls. Since 5.5.
 * The test for the number goes before the scope: it is cheaper, and nearly every call ends there.
 * Misses: calls through io_uring.
 */
SEC("tp_btf/sys_exit")
int BPF_PROG(network_on_sys_exit, struct pt_regs *regs, long ret)
{
	if (syscall_outside())
		return 0;
	network_finished(regs, ret);
	return syscall_done(ctx);
}

/* socket_returned tells of a call on a socket whose work is done. */
static __always_inline int socket_returned(void *ctx, struct socket_call *made, int ret)
{
	__u64 sandbox;

	if (hook_unlikely() || hook_proved(ctx, hook_registers()))
		return 0;
	sandbox = sandbox_current();
	if (!sandbox || !hook_enter(sandbox, NETWORK_SOCKET))
		return 0;
	socket_finished(sandbox, made, ret);
	hook_leave();
	return 0;
}

/*
 * These report what network_on_sys_exit does, in its place, where kernel functions can be hung on. Why these
 * functions: each does the work of its call for 64-bit and 32-bit callers alike, socketcall too, whose
 * arguments are the kernel's copies here. Since 6.1 at least, under these names.
 * Misses: calls through io_uring; calls that seccomp refused, which never come here.
 */
SEC("fexit/__sys_socket")
int BPF_PROG(network_on_socket, int family, int type, int protocol, int ret)
{
	struct socket_call made = {
		.operation = SOCKET_CREATE,
		.arguments = {(__u32)family, (__u32)type, (__u32)protocol},
	};

	return socket_returned(ctx, &made, ret);
}

SEC("fexit/__sys_bind")
int BPF_PROG(network_on_bind, int fd, struct sockaddr *address, int size, int ret)
{
	struct socket_call made = {
		.operation = SOCKET_BIND,
		.arguments = {(__u32)fd, (__u64)address, (__u32)size},
	};

	return socket_returned(ctx, &made, ret);
}

SEC("fexit/__sys_listen")
int BPF_PROG(network_on_listen, int fd, int backlog, int ret)
{
	struct socket_call made = {
		.operation = SOCKET_LISTEN,
		.arguments = {(__u32)fd, (__u32)backlog},
	};

	return socket_returned(ctx, &made, ret);
}

SEC("fexit/__sys_accept4")
int BPF_PROG(network_on_accept, int fd, struct sockaddr *address, int *size, int flags, int ret)
{
	struct socket_call made = {
		.operation = SOCKET_ACCEPT,
		.arguments = {(__u32)fd},
	};

	return socket_returned(ctx, &made, ret);
}

SEC("fexit/__sys_connect")
int BPF_PROG(network_on_connect, int fd, struct sockaddr *address, int size, int ret)
{
	struct socket_call made = {
		.operation = SOCKET_CONNECT,
		.arguments = {(__u32)fd, (__u64)address, (__u32)size},
	};

	return socket_returned(ctx, &made, ret);
}

ABI_STRUCT(endpoint);
ABI_STRUCT(connect);
ABI_STRUCT(flow);
ABI_STRUCT(destination);
ABI_ENUM(flow_end);
ABI_ENUM(flow_marks);
ABI_ENUM(connect_flags);
ABI_ENUM(socket_marks);
ABI_ENUM(socket_operation);
ABI_STRUCT(socket_event);
