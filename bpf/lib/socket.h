/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What programs do with sockets besides connecting by IP: make ones that see or reach what others do not,
 * bind, listen, accept, and connect to unix and vsock sockets.
 *
 * Owns the record, filling it from the kernel's socket, and whether a call is worth one. It must not know how the call came.
 */
#ifndef WATCHGLASS_SOCKET_H
#define WATCHGLASS_SOCKET_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "attempt.h"
#include "connection.h"
#include "descriptor.h"
#include "event.h"

/* Macros of the kernel, which BTF does not carry. */
#define EPERM 1
#define EACCES 13
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
	/* It came through io_uring. */
	SOCKET_URING = 2,
	/* There is no result: the ring's user asked for none. */
	SOCKET_UNFINISHED = 4,
};

/* socket_call is a call on a socket, finished or not. */
struct socket_call {
	/* enum socket_operation; 0 for all other calls. */
	__u64 operation;
	/* As connect(2) and its like have them; of an address in the kernel's memory SOCKET_KERNEL is in flags. */
	__u64 arguments[3];
	/* enum socket_marks, and: */
	__u32 flags;
	__u32 reserved;
};

#define SOCKET_KERNEL 0x100
#define SOCKET_MARKS 0xff

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

/*
 * accepted is who accepted a connection, by socket, until it closes. LRU: what is closed before it is
 * accepted leaves nothing, what is pushed out has a flow without a process.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct event_header);
} accepted SEC(".maps");

/*
 * ring_sockets is when a ring was last used with a TCP socket. LRU: what goes over a connection whose mark is pushed out
 * is told without it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u64);
} ring_sockets SEC(".maps");

/* socket_of_file is the kernel's socket behind a file, or NULL. */
static __always_inline struct sock *socket_of_file(struct file *file)
{
	struct socket *socket;

	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

/* socket_of is the kernel's socket behind a descriptor of the current task, or NULL. */
static __always_inline struct sock *socket_of(__u32 fd)
{
	return socket_of_file(descriptor_file(fd));
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

/* socket_read reads a part of the address that a call named. */
static __always_inline long socket_read(void *to, __u32 size, const struct socket_call *made,
					__u32 from)
{
	const void *address = (const void *)(made->arguments[1] + from);

	if (made->flags & SOCKET_KERNEL)
		return bpf_probe_read_kernel(to, size, address);
	return bpf_probe_read_user(to, size, address);
}

/* socket_claim reads the address that a call named: its word. */
static __always_inline void socket_claim(struct socket_event *record,
					 const struct socket_call *made)
{
	__u64 size = made->arguments[2];
	__u8 bytes[28] = {};
	__u16 family;
	long length;

	if (!made->arguments[1] || socket_read(&family, sizeof(family), made, 0))
		return;
	record->flags |= SOCKET_CLAIMED;
	if (family == AF_UNIX) {
		/* The size bounds an abstract name, a NUL a path. */
		length = size > 2 && size <= SOCKET_NAME + 2 ? (long)size - 2 : 0;
		if (length <= 0)
			return;
		barrier_var(length);
		if (socket_read(record->name, length & (SOCKET_NAME_ROOM - 1), made, 2))
			return;
		record->name_size = (__u16)length;
		return;
	}
	socket_read(bytes, sizeof(struct sockaddr_in), made, 0);
	if (family == AF_INET) {
		__u32 ip;

		__builtin_memcpy(&ip, &bytes[4], sizeof(ip));
		endpoint_set4(&record->local, ip, (__u16)(bytes[2] << 8 | bytes[3]));
	} else if (family == AF_INET6) {
		socket_read(bytes, sizeof(bytes), made, 0);
		__builtin_memcpy(record->local.address, &bytes[8], sizeof(record->local.address));
		record->local.port = (__u16)(bytes[2] << 8 | bytes[3]);
	} else if (family == AF_VSOCK) {
		__builtin_memcpy(&record->port, &bytes[4], sizeof(record->port));
		__builtin_memcpy(&record->cid, &bytes[8], sizeof(record->cid));
	}
}

/* socket_worth says whether a call is worth a record: ordinary sockets are told when they are used. */
static __always_inline bool socket_worth(const struct socket_event *record)
{
	__u32 type = record->type & SOCK_TYPE_MASK;

	switch (record->operation) {
	case SOCKET_CREATE:
		return record->family != AF_UNIX &&
		       ((record->family != AF_INET && record->family != AF_INET6) ||
			type == SOCK_RAW);
	case SOCKET_CONNECT:
		/* Of one that has no result nobody else may tell. */
		return (record->family != AF_INET && record->family != AF_INET6) ||
		       (record->flags & SOCKET_UNFINISHED);
	}
	return true;
}

/* socket_fill fills in a record, all but its header, from the kernel's socket where there is one. */
static __always_inline void socket_fill(struct socket_event *record, const struct socket_call *made,
					struct sock *sk, long ret)
{
	record->operation = made->operation;
	record->flags = made->flags & SOCKET_MARKS;
	record->error = ret < 0 ? (__u32)-ret : 0;
	if (made->operation == SOCKET_CREATE) {
		record->family = (__u16)made->arguments[0];
		record->type = (__u16)(made->arguments[1] & SOCK_TYPE_MASK);
		record->protocol = (__u16)made->arguments[2];
		return;
	}
	if (sk)
		socket_describe(record, sk);
	if (made->operation == SOCKET_LISTEN)
		record->backlog = (__u32)made->arguments[1];
	/* Of what failed, and of families whose sockets tell nothing, only the caller's word remains. */
	if ((made->operation == SOCKET_BIND || made->operation == SOCKET_CONNECT) &&
	    (ret < 0 || (made->flags & SOCKET_UNFINISHED) ||
	     (record->family != AF_UNIX && record->family != AF_INET &&
	      record->family != AF_INET6)))
		socket_claim(record, made);
}

/* acceptor_note remembers who accepted a TCP connection, for when it ends. */
static __always_inline void acceptor_note(const struct event_header *header, struct sock *sk)
{
	__u64 key = (__u64)sk;

	if (sk && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP)
		bpf_map_update_elem(&accepted, &key, header, BPF_ANY);
}

/* socket_rooms is where a record is put together: larger than a program's stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct socket_event);
} socket_rooms SEC(".maps");

/*
 * socket_report tells of a call on a socket that no other record tells, as a record of SOCKET_KIND, which is the probe's. sk
 * is the socket, that of an accept which succeeded the new one.
 */
static __always_inline void socket_report(__u64 sandbox, const struct socket_call *made,
					  struct sock *sk, long ret)
{
	__u32 zero = 0;
	struct socket_event *record = bpf_map_lookup_elem(&socket_rooms, &zero);

	if (!record)
		return;
	__builtin_memset(&record->operation, 0,
			 sizeof(*record) - offsetof(struct socket_event, operation));
	socket_fill(record, made, sk, ret);
	if (!socket_worth(record))
		return;
	event_header_fill(&record->header, sandbox, SOCKET_KIND);
	if (made->operation == SOCKET_ACCEPT && ret >= 0)
		acceptor_note(&record->header, sk);
	event_output_as(sandbox, EVENT_KEPT | SOCKET_KIND, record, sizeof(*record));
}

/* claimed_report reports a connect that was refused before the kernel copied its address to the protocol. */
static __always_inline void claimed_report(__u64 sandbox, const struct socket_call *made,
					   const struct connect *refused)
{
	struct connect found = *refused;
	struct sockaddr_in6 address = {};
	struct sockaddr_in address4 = {};

	if (bpf_probe_read_user(&address4, sizeof(address4), (void *)made->arguments[1]))
		return;
	if (address4.sin_family == AF_INET) {
		endpoint_set4(&found.peer, address4.sin_addr.s_addr, bpf_ntohs(address4.sin_port));
	} else if (address4.sin_family == AF_INET6) {
		if (bpf_probe_read_user(&address, sizeof(address), (void *)made->arguments[1]))
			return;
		__builtin_memcpy(found.peer.address, &address.sin6_addr,
				 sizeof(found.peer.address));
		found.peer.port = bpf_ntohs(address.sin6_port);
	} else {
		return;
	}
	connect_emit(sandbox, &found);
}

/* connect_without tells of a finished connect that no attempt is noted of. */
static __always_inline void connect_without(__u64 sandbox, const struct socket_call *made,
					    struct sock *sk, long ret)
{
	struct connect found = {
		.protocol = sk ? protocol_told(BPF_CORE_READ(sk, sk_protocol)) : 0,
		.flags = CONNECT_CLAIMED | (made->flags & SOCKET_URING ? CONNECT_URING : 0),
	};

	if (!found.protocol) {
		socket_report(sandbox, made, sk, ret);
	} else if (ret == -EPERM || ret == -EACCES) {
		found.error = (__u16)-ret;
		claimed_report(sandbox, made, &found);
	}
}

#endif
