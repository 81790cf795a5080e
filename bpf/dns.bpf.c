/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
//go:build ignore

/*
 * The DNS probe: the answers that a sandbox's resolver got, so that addresses have names.
 *
 * Owns shipping them whole. It must not read names: that is done in user space by a real parser. It
 * must not decide: its program lets every packet pass.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "lib/event.h"
#include "lib/sandbox.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Macros of the kernel, which BTF does not carry. */
#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define IP_FRAGMENT_OFFSET 0x1fff

#define DNS_PORT 53
/* DNS_HEADER is the size of the fixed part of a message: there is no answer in less. */
#define DNS_HEADER 12
/* DNS_SMALL is the longest message without EDNS; DNS_LARGE the longest that resolvers offer to take. */
#define DNS_SMALL 512
#define DNS_LARGE 4096

enum dns_kind {
	DNS_ANSWER = 1,
};

/* answer is the head of a record: size bytes of message follow, and room that means nothing. */
struct answer {
	struct event_header header;
	__u32 size;
	__u32 reserved;
};

struct answer_small {
	struct answer answer;
	__u8 message[DNS_SMALL];
};

struct answer_large {
	struct answer answer;
	__u8 message[DNS_LARGE];
};

/* udp_offset is where a packet's UDP header starts, 0 when it is no UDP that starts here. */
static __always_inline __u32 udp_offset(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	struct ipv6hdr *six = data;
	struct iphdr *four = data;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if ((void *)(four + 1) > end || four->protocol != IPPROTO_UDP ||
		    (four->frag_off & bpf_htons(IP_FRAGMENT_OFFSET)))
			return 0;
		return four->ihl * 4;
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if ((void *)(six + 1) > end || six->nexthdr != IPPROTO_UDP)
			return 0;
		return sizeof(*six);
	}
	return 0;
}

/* answer_fill fills in the head: no process, since a packet arrives in nobody's name. */
static __always_inline void answer_fill(struct answer *answer, __u64 sandbox, __u64 cgroup,
					__u32 size)
{
	__builtin_memset(answer, 0, sizeof(*answer));
	answer->header.time = bpf_ktime_get_boot_ns();
	answer->header.sandbox = sandbox;
	answer->header.cgroup = cgroup;
	answer->header.probe = probe_index;
	answer->header.kind = DNS_ANSWER;
	answer->size = size;
}

/*
 * Reports DNS messages from port 53 that a socket of the sandbox receives.
 * Why here and not in recvmsg: the packet is complete and the kernel's own, and it is seen before the
 * resolver library returns, so the name is known before the connect. The socket's cgroup says whose it
 * is. Since 4.10 (cgroup_skb), bpf_skb_cgroup_id here since 4.18.
 * The test for the port goes before the scope: it is cheaper, and nearly every packet ends there.
 * Misses: DNS over TCP, TLS, HTTPS or another port; answers above 4 KiB; packets behind IPv6 extension
 * headers. A process of the sandbox can send an answer of its own making: names are hints, not facts.
 */
SEC("cgroup_skb/ingress")
int dns_on_ingress(struct __sk_buff *skb)
{
	struct answer_small *small;
	struct answer_large *large;
	struct udphdr udp;
	__u64 sandbox, cgroup;
	__u32 offset = udp_offset(skb);
	__u32 size;

	if (!offset || bpf_skb_load_bytes(skb, offset, &udp, sizeof(udp)) ||
	    udp.source != bpf_htons(DNS_PORT))
		return 1;
	cgroup = bpf_skb_cgroup_id(skb);
	sandbox = sandbox_of(cgroup);
	if (!sandbox)
		return 1;
	offset += sizeof(udp);
	size = skb->len - offset;
	if (skb->len < offset + DNS_HEADER || size > DNS_LARGE)
		return 1;
	if (size <= DNS_SMALL) {
		small = event_reserve_as(sandbox, EVENT_KEPT | DNS_ANSWER, sizeof(*small));
		if (!small)
			return 1;
		answer_fill(&small->answer, sandbox, cgroup, size);
		if (bpf_skb_load_bytes(skb, offset, small->message,
				       ((size - 1) & (DNS_SMALL - 1)) + 1))
			small->answer.size = 0;
		event_submit(small);
	} else {
		large = event_reserve_as(sandbox, EVENT_KEPT | DNS_ANSWER, sizeof(*large));
		if (!large)
			return 1;
		answer_fill(&large->answer, sandbox, cgroup, size);
		if (bpf_skb_load_bytes(skb, offset, large->message,
				       ((size - 1) & (DNS_LARGE - 1)) + 1))
			large->answer.size = 0;
		event_submit(large);
	}
	return 1;
}

ABI_STRUCT(answer);
