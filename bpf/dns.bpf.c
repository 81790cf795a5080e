/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
//go:build ignore

/*
 * The packet probe, called dns after what it was made for: the DNS messages of a sandbox, the first bytes that it
 * sends on each connection and to each peer, in which TLS, HTTP and QUIC name whom they mean, and the count
 * of its datagrams.
 *
 * Owns shipping them whole. It must not read them, but for whether there is more that can name anyone: that is done in
 * user space by real parsers. It must not decide: its programs let every packet pass.
 *
 * Where its programs hang is user space's business (places.go): at the cgroups of sandboxes, so that no other process's
 * packets run any. A packet runs those of every cgroup around its socket; so below a cgroup where they hang they hang at no
 * other. While there is somebody to be seen who is in none of those cgroups, others hang at the root cgroup, which pass
 * over the packets that were seen below.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/connection.h"
#include "lib/event.h"
#include "lib/flow.h"
#include "lib/ring.h"
#include "lib/sandbox.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Macros of the kernel, which BTF does not carry. */
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define IP_FRAGMENT_OFFSET 0x1fff

#define DNS_PORT 53
/* DNS_HEADER is the size of the fixed part of a message: there is nothing to read in less. */
#define DNS_HEADER 12
/*
 * PACKET_TINY is what a sandbox sends that cuts up what it says, to hide it: 4,096 records of one byte each must fit into
 * its budget. PACKET_SHORT is what nearly every question of DNS has room in. PACKET_SMALL is the longest DNS message without EDNS; PACKET_LARGE the longest that resolvers offer to take.
 */
#define PACKET_TINY 16
#define PACKET_SHORT 128
#define PACKET_SMALL 512
#define PACKET_LARGE 4096
/*
 * STREAM_SENT is how much of what a connection sends is shown: more than any ClientHello and request line.
 * STREAM_RECEIVED is how much a name server may answer on one.
 */
#define STREAM_SENT 4096
#define STREAM_RECEIVED 16384
/* How a TLS connection begins: the head of its first record, and that of the ClientHello in it. */
#define TLS_HANDSHAKE 0x16
#define TLS_CLIENT_HELLO 1
#define TLS_RECORD_HEAD 5
#define TLS_MESSAGE_HEAD 4
/* HTTP_END ends the head of a request: CR LF CR LF. */
#define HTTP_END 0x0d0a0d0a
/* QUIC_SHOWN is how many datagrams to a peer are shown: a ClientHello rarely needs more than two. */
#define QUIC_SHOWN 4
/* QUIC_INITIAL is the least size of a client's first datagrams (RFC 9000, section 14.1), QUIC_LONG the bits of their form. */
#define QUIC_INITIAL 1200
#define QUIC_LONG 0xc0
#define QUIC_VERSION_1 1
#define QUIC_VERSION_2 0x6b3343cf

enum dns_kind {
	DNS_MESSAGE = 1,
	DNS_STREAM = 2,
	/* One of the first datagrams to a peer that may begin a QUIC connection. */
	DNS_DATAGRAM = 3,
	/* None is sent: datagrams that are not counted for lack of room. */
	DNS_FLOW = 4,
};

/* packet_places has the cgroups where the programs hang that see the packets of one sandbox. User space keeps it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u8);
} packet_places SEC(".maps");

/* PLACE_LEVELS is how deep a cgroup may be to have programs of its own. */
#define PLACE_LEVELS 32

/* packet_placed says whether a packet is seen by the programs at a cgroup around its socket. */
static __always_inline bool packet_placed(struct __sk_buff *skb)
{
	__u64 cgroup;
	int level;

	for (level = 1; level <= PLACE_LEVELS; level++) {
		cgroup = bpf_skb_ancestor_cgroup_id(skb, level);
		if (!cgroup)
			return false;
		if (bpf_map_lookup_elem(&packet_places, &cgroup))
			return true;
	}
	return false;
}

/* packet is the head of a record: size bytes follow, and room that means nothing. */
struct packet {
	struct event_header header;
	/* Of a stream: which, and how many bytes of it were before these. */
	__u64 stream;
	__u32 offset;
	__u32 size;
	struct endpoint peer;
	/* The port on this side. */
	__u16 port;
	/* Whether the sandbox sent it. */
	__u8 sent;
	/* Whether that came through io_uring. */
	__u8 ring;
	__u8 reserved[2];
};

struct packet_tiny {
	struct packet packet;
	__u8 bytes[PACKET_TINY];
};

struct packet_short {
	struct packet packet;
	__u8 bytes[PACKET_SHORT];
};

struct packet_small {
	struct packet packet;
	__u8 bytes[PACKET_SMALL];
};

struct packet_large {
	struct packet packet;
	__u8 bytes[PACKET_LARGE];
};

/* transport is where a packet's UDP or TCP header starts, 0 when it is neither and when none starts here. */
struct transport {
	__u32 offset;
	__u8 protocol;
	__u8 reserved[3];
};

static __always_inline struct transport transport_of(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct transport found = {};
	struct ipv6hdr *six = data;
	struct iphdr *four = data;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if ((void *)(four + 1) > end || (four->frag_off & bpf_htons(IP_FRAGMENT_OFFSET)))
			return found;
		found.protocol = four->protocol;
		found.offset = four->ihl * 4;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if ((void *)(six + 1) > end)
			return found;
		found.protocol = six->nexthdr;
		found.offset = sizeof(*six);
	}
	return found;
}

/* ports is the first bytes of UDP and of TCP. */
struct ports {
	__be16 source;
	__be16 dest;
};

/* TRANSPORT_MASK bounds where a transport's header starts: an IPv4 header has 60 bytes at most. */
#define TRANSPORT_MASK 63

/* ports_of reads the ports of a packet: by loads, where its linear part has them. False where there are none. */
static __always_inline bool ports_of(struct __sk_buff *skb, __u32 offset, struct ports *ports)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ports *at = data + (offset & TRANSPORT_MASK);

	if ((void *)(at + 1) > end)
		return !bpf_skb_load_bytes(skb, offset, ports, sizeof(*ports));
	*ports = *at;
	return true;
}

/* PACKET_SEND sends size bytes of the packet from an offset on, after the head, with room for as many as are given. */
#define PACKET_SEND(type, room)                                                                    \
	do {                                                                                       \
		struct type *record = event_reserve_as(head->header.sandbox, EVENT_KEPT | kind,    \
						       sizeof(*record));                           \
                                                                                                   \
		if (!record)                                                                       \
			return;                                                                    \
		record->packet = *head;                                                            \
		record->packet.size = size;                                                        \
		if (bpf_skb_load_bytes(skb, from, record->bytes, ((size - 1) & ((room) - 1)) + 1)) \
			record->packet.size = 0;                                                   \
		event_submit(record);                                                              \
	} while (0)

/* packet_send sends size bytes of the packet from an offset on, after the head. */
static __always_inline void packet_send(struct __sk_buff *skb, const struct packet *head,
					__u32 kind, __u32 from, __u32 size)
{
	if (size <= PACKET_TINY)
		PACKET_SEND(packet_tiny, PACKET_TINY);
	else if (size <= PACKET_SHORT)
		PACKET_SEND(packet_short, PACKET_SHORT);
	else if (size <= PACKET_SMALL)
		PACKET_SEND(packet_small, PACKET_SMALL);
	else
		PACKET_SEND(packet_large, PACKET_LARGE);
}

/* packet_end reads one end of a packet: where it goes to, or where it comes from. */
static __always_inline void packet_end(struct __sk_buff *skb, struct endpoint *end,
				       bool destination, __u16 port)
{
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		__u32 address = 0;

		bpf_skb_load_bytes(skb, destination ? 16 : 12, &address, sizeof(address));
		endpoint_set4(end, address, bpf_ntohs(port));
		return;
	}
	bpf_skb_load_bytes(skb, destination ? 24 : 8, end->address, sizeof(end->address));
	end->port = bpf_ntohs(port);
}

/* packet_peer fills in who is at the other end: of a packet that is sent its destination. */
static __always_inline void packet_peer(struct __sk_buff *skb, struct packet *head, __u16 port)
{
	packet_end(skb, &head->peer, head->sent, port);
}

/* flow_none is what a flow begins as. */
static const struct flow flow_none;

/* datagram_begin makes the counters of a socket and a peer. */
static __always_inline struct flow *datagram_begin(struct __sk_buff *skb, struct datagrams *socket,
						   const struct destination *key,
						   const struct udphdr *udp, __u32 sent)
{
	struct flow *flow;
	__u32 peer;

	/* Of two that come at once one makes it; the other counts, since it is there then. */
	if (bpf_map_update_elem(&datagram_flows, key, &flow_none, BPF_NOEXIST))
		return bpf_map_lookup_elem(&datagram_flows, key);
	flow = bpf_map_lookup_elem(&datagram_flows, key);
	if (!flow)
		return NULL;
	flow->peer = key->peer;
	packet_end(skb, &flow->local, !sent, sent ? udp->source : udp->dest);
	flow->protocol = IPPROTO_UDP;
	flow->marks = sent ? 0 : FLOW_INBOUND;
	if (sent && (socket->ring || ring_entered()))
		flow->marks |= FLOW_URING;
	flow->header = socket->owner;
	flow->header.time = bpf_ktime_get_boot_ns();
	peer = socket->peers;
	if (peer < DATAGRAM_PEERS) {
		socket->ends[peer & (DATAGRAM_PEERS - 1)] = key->peer;
		socket->peers = peer + 1;
	}
	return flow;
}

/* datagram_socket is what is kept with the socket of a datagram, NULL when no sandbox connected or sent by it. */
static __always_inline struct datagrams *datagram_socket(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct datagrams *socket;

	if (!sk)
		return NULL;
	/* It looks by itself whether it is a full socket: since 5.11. */
	socket = bpf_sk_storage_get(&datagram_sockets, sk, NULL, 0);
	return socket && socket->cookie ? socket : NULL;
}

/*
 * datagram_show ships one of the first datagrams to a peer, if it may begin a QUIC connection. It and what follows
 * are functions of their own for the room on the stack.
 */
__noinline int datagram_show(struct __sk_buff *skb, __u32 offset)
{
	struct datagrams *socket = datagram_socket(skb);
	struct destination key = {};
	struct packet head = {.sent = 1};
	__u32 version = 0, size;
	struct udphdr udp;
	struct flow *flow;
	__u8 form = 0;

	if (!socket || bpf_skb_load_bytes(skb, offset, &udp, sizeof(udp)))
		return 0;
	offset += sizeof(udp);
	if (skb->len < offset + QUIC_INITIAL ||
	    bpf_skb_load_bytes(skb, offset, &form, sizeof(form)) ||
	    bpf_skb_load_bytes(skb, offset + 1, &version, sizeof(version)) ||
	    (form & QUIC_LONG) != QUIC_LONG ||
	    (version != bpf_htonl(QUIC_VERSION_1) && version != bpf_htonl(QUIC_VERSION_2)))
		return 0;
	key.cookie = socket->cookie;
	packet_end(skb, &key.peer, true, udp.dest);
	flow = bpf_map_lookup_elem(&datagram_flows, &key);
	if (!flow)
		return 0;
	head.header = socket->owner;
	head.header.time = bpf_ktime_get_boot_ns();
	head.header.probe = probe_index;
	head.header.kind = DNS_DATAGRAM;
	head.ring = socket->ring || ring_entered();
	head.stream = key.cookie;
	head.offset = flow->shown++;
	head.peer = key.peer;
	head.port = bpf_ntohs(udp.source);
	size = skb->len - offset;
	packet_send(skb, &head, DNS_DATAGRAM, offset, size < PACKET_LARGE ? size : PACKET_LARGE);
	return 0;
}

/*
 * datagram_count counts a datagram of a socket that a sandbox connected or sent by. 1 means that it is one of the first
 * and may be worth showing.
 */
__noinline int datagram_count(struct __sk_buff *skb, struct datagrams *socket, __u32 offset,
			      __u32 sent)
{
	struct destination key = {};
	struct udphdr udp;
	struct flow *flow;
	__u32 packets, size;

	if (!socket || bpf_skb_load_bytes(skb, offset, &udp, sizeof(udp)))
		return 0;
	offset += sizeof(udp);
	if (skb->len < offset)
		return 0;
	size = skb->len - offset;
	key.cookie = socket->cookie;
	packet_end(skb, &key.peer, sent, sent ? udp.dest : udp.source);
	flow = bpf_map_lookup_elem(&datagram_flows, &key);
	if (!flow)
		flow = datagram_begin(skb, socket, &key, &udp, sent);
	if (!flow) {
		event_lose(socket->owner.sandbox, DNS_FLOW);
		return 0;
	}
	/* A socket that is told to segment sends many at once. */
	packets = skb->gso_segs ? skb->gso_segs : 1;
	flow->duration = bpf_ktime_get_boot_ns() - flow->header.time;
	if (!sent) {
		__sync_fetch_and_add(&flow->received, size);
		__sync_fetch_and_add(&flow->received_packets, packets);
		return 0;
	}
	__sync_fetch_and_add(&flow->sent, size);
	__sync_fetch_and_add(&flow->sent_packets, packets);
	return flow->shown < QUIC_SHOWN && size >= QUIC_INITIAL;
}

/*
 * dns_message ships a DNS message. A query is usually sent by whoever asks; an answer arrives in nobody's name.
 */
__noinline int dns_message(struct __sk_buff *skb, __u32 offset, __u32 sent)
{
	struct task_struct *task = task_plain();
	struct packet head = {.sent = (__u8)sent};
	struct datagrams *socket;
	struct udphdr udp;
	__u64 cgroup, sandbox;
	__u32 size;

	if (bpf_skb_load_bytes(skb, offset, &udp, sizeof(udp)) ||
	    (sent ? udp.dest : udp.source) != bpf_htons(DNS_PORT))
		return 0;
	cgroup = bpf_skb_cgroup_id(skb);
	sandbox = sandbox_of(cgroup);
	if (!sandbox) {
		/* A stray's, or one that was made outside. */
		socket = datagram_socket(skb);
		sandbox = socket ? sandbox_of(socket->owner.sandbox) : 0;
	}
	if (!sandbox)
		return 0;
	offset += sizeof(udp);
	size = skb->len - offset;
	if (skb->len < offset + DNS_HEADER || size > PACKET_LARGE)
		return 0;
	event_header_begin(&head.header, sandbox, DNS_MESSAGE);
	head.header.cgroup = cgroup;
	if (sent && sandbox_current() == sandbox) {
		event_header_task(&head.header, task);
		socket = datagram_socket(skb);
		head.ring = (socket && socket->ring) || ring_entered();
	}
	head.port = bpf_ntohs(sent ? udp.source : udp.dest);
	packet_peer(skb, &head, sent ? udp.dest : udp.source);
	packet_send(skb, &head, DNS_MESSAGE, offset, size);
	return 0;
}

/* tls_needed is how much of a connection that begins like TLS there is to be shown: its first record, if the hello ends in it. */
static __always_inline __u32 tls_needed(struct __sk_buff *skb, __u32 offset)
{
	__u8 head[TLS_RECORD_HEAD + TLS_MESSAGE_HEAD];
	__u32 record, hello;

	if (bpf_skb_load_bytes(skb, offset, head, sizeof(head)) || head[5] != TLS_CLIENT_HELLO)
		return STREAM_SENT;
	record = (__u32)head[3] << 8 | head[4];
	hello = (__u32)head[6] << 16 | (__u32)head[7] << 8 | head[8];
	return hello + TLS_MESSAGE_HEAD <= record ? record + TLS_RECORD_HEAD : STREAM_SENT;
}

/*
 * stream_begin looks at how a connection begins: whether it can be TLS, of which the hello is needed, or HTTP, of which the
 * head of the first request is, which may stand behind empty lines. All else names nobody, and nothing of it is shown: many
 * small requests of another protocol would spend the budget that connects have, too. To name servers messages are sent, of
 * which every one counts.
 */
static __always_inline void stream_begin(struct __sk_buff *skb, struct shown *shown, __u32 offset,
					 const struct tcphdr *tcp, __u32 before)
{
	__u8 first = 0;

	shown->needed = STREAM_SENT;
	/* Where nobody saw how it begins, all that may be needed is. */
	if (before || tcp->dest == bpf_htons(DNS_PORT) ||
	    bpf_skb_load_bytes(skb, offset, &first, sizeof(first)))
		return;
	if (first == TLS_HANDSHAKE)
		shown->needed = tls_needed(skb, offset);
	else if (first >= 'A' && first <= 'Z')
		shown->text = 1;
	else if (first != '\r' && first != '\n')
		shown->needed = 0;
}

/* stream_enough says whether nothing can name anyone that comes after a piece of what is sent, of a size, which ends so far on. */
static __always_inline bool stream_enough(struct __sk_buff *skb, const struct shown *shown,
					  __u32 size, __u32 end)
{
	__be32 last = 0;

	if (end >= shown->needed)
		return true;
	/* Of a head that ends elsewhere in a piece it is the limit that ends what is shown. */
	return shown->text && size >= sizeof(last) &&
	       !bpf_skb_load_bytes(skb, skb->len - sizeof(last), &last, sizeof(last)) &&
	       last == bpf_htonl(HTTP_END);
}

/*
 * stream_show ships what is new of the first `limit` bytes of one direction of a connection. start is the number
 * of its first byte, where that is known before any was seen.
 */
static __always_inline void stream_show(struct __sk_buff *skb, const struct connection *connection,
					struct shown *shown, struct packet *head, __u32 limit)
{
	struct tcphdr tcp;
	__u32 offset = head->offset;
	__u32 before, size, sequence;

	if (bpf_skb_load_bytes(skb, offset, &tcp, sizeof(tcp)))
		return;
	offset += tcp.doff * 4;
	if (skb->len <= offset)
		return;
	size = skb->len - offset;
	/* The SYN takes a number of its own before what is sent with it. */
	sequence = bpf_ntohl(tcp.seq) + tcp.syn;
	if (!shown->begun) {
		shown->first = sequence;
		shown->begun = 1;
	}
	before = sequence - shown->first;
	if (head->sent && !shown->looked) {
		shown->looked = 1;
		stream_begin(skb, shown, offset, &tcp, before);
	}
	if (head->sent && (__s32)before >= 0 && before >= shown->needed) {
		/* What is sent comes by here in order: all that is to be shown was. */
		shown->bytes = 2 * limit;
		return;
	}
	if (before >= limit)
		return;
	if (size > limit - before)
		size = limit - before;
	if (size > PACKET_LARGE)
		size = PACKET_LARGE;
	shown->bytes += size;
	if (head->sent && stream_enough(skb, shown, size, before + size))
		shown->bytes = 2 * limit;
	head->header = connection->owner;
	head->header.time = bpf_ktime_get_boot_ns();
	head->header.probe = probe_index;
	head->header.kind = DNS_STREAM;
	head->stream = bpf_get_socket_cookie(skb);
	head->offset = before;
	/* What is sent again, or once there is room, is sent in anybody's name. */
	head->ring = connection->ring ||
		     (head->sent && (__u32)task_plain()->tgid == connection->owner.pid &&
		      ring_entered());
	head->port = bpf_ntohs(head->sent ? tcp.source : tcp.dest);
	packet_peer(skb, head, head->sent ? tcp.dest : tcp.source);
	packet_send(skb, head, DNS_STREAM, offset, size);
}

/* stream_connection is what is kept with the socket of a packet, NULL when no sandbox made that connection. */
static __always_inline struct connection *stream_connection(struct __sk_buff *skb)
{
	struct connection *connection;
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return NULL;
	connection = bpf_sk_storage_get(&connections, sk, NULL, 0);
	return connection && !connection->inbound ? connection : NULL;
}

/*
 * stream_sent shows what is new of what a connection sends. It and the next one are functions of their own, so that
 * packets that show nothing have no head to prepare.
 */
__noinline int stream_sent(struct __sk_buff *skb, __u32 offset)
{
	struct connection *connection = stream_connection(skb);
	struct packet head = {.sent = 1, .offset = offset};

	if (connection)
		stream_show(skb, connection, &connection->sent, &head, STREAM_SENT);
	return 0;
}

/* stream_received shows what is new of what a name server answers on a connection. */
__noinline int stream_received(struct __sk_buff *skb, __u32 offset)
{
	struct connection *connection = stream_connection(skb);
	struct packet head = {.offset = offset};
	struct bpf_sock *sk = skb->sk;
	struct bpf_tcp_sock *tcp;

	if (!connection || !sk || !connection->established ||
	    connection->received.bytes >= 2 * STREAM_RECEIVED)
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	tcp = bpf_tcp_sock(sk);
	if (!tcp)
		return 0;
	if (!connection->received.begun) {
		/* Nothing was received yet: what comes first may not be what was sent first. */
		connection->received.first = tcp->rcv_nxt;
		connection->received.begun = 1;
	}
	stream_show(skb, connection, &connection->received, &head, STREAM_RECEIVED);
	return 0;
}

/* packet_sent looks at a packet that is sent; rest is whether those that other programs see are passed over. */
static __always_inline void packet_sent(struct __sk_buff *skb, bool rest)
{
	struct transport transport = transport_of(skb);
	struct connection *connection;
	struct datagrams *socket;
	struct ports ports;

	if (transport.protocol == IPPROTO_UDP) {
		if (!ports_of(skb, transport.offset, &ports))
			return;
		socket = datagram_socket(skb);
		if (rest && ((!socket && ports.dest != bpf_htons(DNS_PORT)) || packet_placed(skb)))
			return;
		if (socket && datagram_count(skb, socket, transport.offset, 1))
			datagram_show(skb, transport.offset);
		if (ports.dest == bpf_htons(DNS_PORT))
			dns_message(skb, transport.offset, 1);
		return;
	}
	if (transport.protocol != IPPROTO_TCP)
		return;
	connection = stream_connection(skb);
	if (connection && connection->sent.bytes < 2 * STREAM_SENT && !(rest && packet_placed(skb)))
		stream_sent(skb, transport.offset);
}

/* packet_received looks at a packet that is received. */
static __always_inline void packet_received(struct __sk_buff *skb, bool rest)
{
	struct transport transport = transport_of(skb);
	struct datagrams *socket = NULL;
	struct ports ports;

	if ((transport.protocol != IPPROTO_TCP && transport.protocol != IPPROTO_UDP) ||
	    !ports_of(skb, transport.offset, &ports))
		return;
	if (transport.protocol == IPPROTO_UDP)
		socket = datagram_socket(skb);
	if (rest && ((!socket && ports.source != bpf_htons(DNS_PORT)) || packet_placed(skb)))
		return;
	if (socket)
		datagram_count(skb, socket, transport.offset, 0);
	if (ports.source != bpf_htons(DNS_PORT))
		return;
	if (transport.protocol == IPPROTO_UDP)
		dns_message(skb, transport.offset, 0);
	else
		stream_received(skb, transport.offset);
}

/*
 * Reports DNS queries, and of each connection that the sandbox made the first 4 KiB that it sends, as far as they can name
 * whom it means.
 * Why here and not in sendmsg: that carries the bytes in user memory, in pieces, or by splice and io_uring;
 * here they are what goes over the wire. Since 4.10; socket storage here since 5.2.
 * A connection that has shown enough costs the look-up of its storage.
 * Misses: DNS to another port, over TLS or HTTPS; names in an encrypted ClientHello; connections that
 * others made to the sandbox; packets behind IPv6 extension headers.
 */
SEC("cgroup_skb/egress")
int dns_on_egress(struct __sk_buff *skb)
{
	packet_sent(skb, false);
	return 1;
}

/*
 * Reports DNS messages from port 53 that a socket of the sandbox receives, by UDP and on connections.
 * Why here and not in recvmsg: the packet is complete and the kernel's own, and it is seen before the
 * resolver library returns, so the name is known before the connect. The socket's cgroup says whose it
 * is. Since 4.10 (cgroup_skb), bpf_skb_cgroup_id here since 4.18.
 * The test for the port goes before the scope: it is cheaper, and nearly every packet ends there.
 * Misses: DNS over TLS, HTTPS or another port; answers above 4 KiB by UDP; packets behind IPv6 extension
 * headers. A process of the sandbox can send an answer of its own making: names are hints, not facts.
 */
SEC("cgroup_skb/ingress")
int dns_on_ingress(struct __sk_buff *skb)
{
	packet_received(skb, false);
	return 1;
}

/*
 * As dns_on_egress, at the root cgroup: for whoever is in no cgroup where that hangs. bpf_skb_ancestor_cgroup_id here
 * since 4.19.
 */
SEC("cgroup_skb/egress")
int dns_on_egress_rest(struct __sk_buff *skb)
{
	packet_sent(skb, true);
	return 1;
}

/* As dns_on_ingress, at the root cgroup. */
SEC("cgroup_skb/ingress")
int dns_on_ingress_rest(struct __sk_buff *skb)
{
	packet_received(skb, true);
	return 1;
}

ABI_STRUCT(packet);
