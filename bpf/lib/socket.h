/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What programs do with sockets besides connecting by IP: make ones that see or reach what others do not,
 * bind, listen, accept, and connect to unix and vsock sockets.
 *
 * Owns the record and filling it from the kernel's socket. It must not know how the call came.
 */
#ifndef WATCHGLASS_SOCKET_H
#define WATCHGLASS_SOCKET_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "connection.h"
#include "descriptor.h"
#include "event.h"

/* Macros of the kernel, which BTF does not carry. */
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define AF_NETLINK 16
#define AF_VSOCK 40
#define SOCK_RAW 3
#define SOCK_TYPE_MASK 0xf
#define S_IFMT 0170000
#define S_IFSOCK 0140000

/* SOCKET_NAME is the longest name of a unix socket; SOCKET_NAME_ROOM makes a mask of its length enough. */
#define SOCKET_NAME 108
#define SOCKET_NAME_ROOM 128

enum socket_operation {
	SOCKET_CREATE = 1,
	SOCKET_BIND = 2,
	SOCKET_LISTEN = 3,
	SOCKET_ACCEPT = 4,
	SOCKET_CONNECT = 5,
};

enum socket_marks {
	/* The address is the caller's word, or of a descriptor that another thread may have replaced. */
	SOCKET_CLAIMED = 1,
};

/* socket_event is one call on a socket. */
struct socket_event {
	struct event_header header;
	/* enum socket_operation. */
	__u16 operation;
	__u16 family;
	__u16 type;
	__u16 protocol;
	__u32 error;
	__u32 flags;
	__u32 backlog;
	/* The process at the other end of a unix socket, in the initial PID namespace. */
	__u32 peer_pid;
	/* The address of a vsock socket. */
	__u32 cid;
	__u32 port;
	struct endpoint local;
	struct endpoint peer;
	/* A unix socket's name: a path, or abstract with a leading NUL. */
	__u16 name_size;
	__u8 name[SOCKET_NAME_ROOM];
	__u8 reserved[2];
};

/* socket_of is the kernel's socket behind a descriptor of the current task, or NULL. */
static __always_inline struct sock *socket_of(__u32 fd)
{
	struct file *file = descriptor_file(fd);
	struct socket *socket;

	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

/* socket_ends reads both ends of an IP socket. */
static __always_inline void socket_ends(struct socket_event *record, struct sock *sk)
{
	if (record->family == AF_INET) {
		endpoint_set4(&record->peer, BPF_CORE_READ(sk, __sk_common.skc_daddr), 0);
		endpoint_set4(&record->local, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr), 0);
	} else if (record->family == AF_INET6) {
		bpf_core_read(record->peer.address, sizeof(record->peer.address),
			      &sk->__sk_common.skc_v6_daddr);
		bpf_core_read(record->local.address, sizeof(record->local.address),
			      &sk->__sk_common.skc_v6_rcv_saddr);
	} else {
		return;
	}
	record->peer.port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	record->local.port = BPF_CORE_READ(sk, __sk_common.skc_num);
}

/* socket_name reads the name that a unix socket is bound to. */
static __always_inline void socket_name(struct socket_event *record, struct unix_sock *bound)
{
	struct unix_address *address = BPF_CORE_READ(bound, addr);
	__u32 size = BPF_CORE_READ(address, len);

	/* The length counts the family. */
	if (!address || size <= 2 || size > SOCKET_NAME + 2)
		return;
	size -= 2;
	/* The compiler knows the bound and drops the mask, the 6.1 verifier does not and needs it. */
	barrier_var(size);
	if (bpf_probe_read_kernel(record->name, size & (SOCKET_NAME_ROOM - 1),
				  (void *)address +
					  bpf_core_field_offset(struct unix_address, name) + 2))
		return;
	record->name_size = size;
}

/* socket_describe fills in what the kernel's socket says of itself. */
static __always_inline void socket_describe(struct socket_event *record, struct sock *sk)
{
	struct unix_sock *end = (struct unix_sock *)sk;

	record->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	record->type = BPF_CORE_READ(sk, sk_type);
	record->protocol = BPF_CORE_READ(sk, sk_protocol);
	socket_ends(record, sk);
	if (record->family != AF_UNIX || !bpf_core_type_exists(struct unix_sock))
		return;
	/* The end that has a name is the one that was bound: for a connect the other one. */
	if (record->operation == SOCKET_CONNECT)
		end = (struct unix_sock *)BPF_CORE_READ(end, peer);
	socket_name(record, end);
	if (record->operation == SOCKET_CONNECT || record->operation == SOCKET_ACCEPT)
		record->peer_pid = BPF_CORE_READ(sk, sk_peer_pid, numbers[0].nr);
}

/* socket_claim reads the address that a call named from the caller's memory: its word. */
static __always_inline void socket_claim(struct socket_event *record, __u64 address, __u64 size)
{
	__u8 bytes[28] = {};
	__u16 family;
	long length;

	if (bpf_probe_read_user(&family, sizeof(family), (void *)address))
		return;
	record->flags |= SOCKET_CLAIMED;
	if (family == AF_UNIX) {
		/* The size bounds an abstract name, a NUL a path. */
		length = size > 2 && size <= SOCKET_NAME + 2 ? (long)size - 2 : 0;
		if (length <= 0)
			return;
		barrier_var(length);
		if (bpf_probe_read_user(record->name, length & (SOCKET_NAME_ROOM - 1),
					(void *)(address + 2)))
			return;
		record->name_size = (__u16)length;
		return;
	}
	bpf_probe_read_user(bytes, sizeof(struct sockaddr_in), (void *)address);
	if (family == AF_INET) {
		__u32 ip;

		__builtin_memcpy(&ip, &bytes[4], sizeof(ip));
		endpoint_set4(&record->local, ip, (__u16)(bytes[2] << 8 | bytes[3]));
	} else if (family == AF_INET6) {
		bpf_probe_read_user(bytes, sizeof(bytes), (void *)address);
		__builtin_memcpy(record->local.address, &bytes[8], sizeof(record->local.address));
		record->local.port = (__u16)(bytes[2] << 8 | bytes[3]);
	} else if (family == AF_VSOCK) {
		__builtin_memcpy(&record->port, &bytes[4], sizeof(record->port));
		__builtin_memcpy(&record->cid, &bytes[8], sizeof(record->cid));
	}
}

#endif
