/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The ways in which a program reads a file and hopes not to be seen: a newer call, a path on a cold page, a second
 * thread that rewrites the path, io_uring, a 32-bit call; and calls that no shell makes. evade MODE FILE; it exits with 0
 * when it has read, or done it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int reads(int fd)
{
	char byte;

	return fd >= 0 && read(fd, &byte, 1) == 1;
}

static int by_openat2(const char *path)
{
	struct open_how how = {.flags = O_RDONLY};

	return reads(syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how)));
}

/* The path is in a file that is mapped and dropped from the page cache: nobody has touched its page yet. */
static int by_cold_page(const char *path)
{
	char name[] = "coldXXXXXX";
	int fd = mkstemp(name);
	char *cold;

	if (fd < 0 || write(fd, path, strlen(path) + 1) < 0 || fsync(fd))
		return 0;
	cold = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	unlink(name);
	return cold != MAP_FAILED && reads(open(cold, O_RDONLY));
}

static char raced[4096];
static const char *volatile wanted;
static volatile int done;

static void *rewrite(void *unused)
{
	(void)unused;
	while (!done) {
		strcpy(raced, wanted);
		strcpy(raced, "/dev/null");
	}
	return NULL;
}

static int by_race(const char *path)
{
	pthread_t thread;
	int got = 0;
	int i;

	if (strlen(path) >= sizeof(raced))
		return 0;
	wanted = path;
	strcpy(raced, path);
	pthread_create(&thread, NULL, rewrite, NULL);
	for (i = 0; i < 200000 && !got; i++) {
		int fd = open(raced, O_RDONLY);

		got = reads(fd);
		if (fd >= 0)
			close(fd);
	}
	done = 1;
	pthread_join(thread, NULL);
	return got;
}

/* A ring, and how far it was used. */
struct ring {
	int fd;
	struct io_uring_params params;
	struct io_uring_sqe *sqes;
	char *sq, *cq;
	uint32_t used;
};

static int ring_open(struct ring *ring, uint32_t flags)
{
	struct io_uring_params *params = &ring->params;

	memset(ring, 0, sizeof(*ring));
	params->flags = flags;
	params->sq_thread_idle = 1000;
	ring->fd = syscall(SYS_io_uring_setup, 4, params);
	if (ring->fd < 0)
		return 0;
	ring->sq = mmap(NULL, params->sq_off.array + params->sq_entries * sizeof(uint32_t),
			PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
	ring->cq =
		mmap(NULL, params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe),
		     PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_CQ_RING);
	ring->sqes = mmap(NULL, params->sq_entries * sizeof(*ring->sqes), PROT_READ | PROT_WRITE,
			  MAP_SHARED, ring->fd, IORING_OFF_SQES);
	return ring->sq != MAP_FAILED && ring->cq != MAP_FAILED && ring->sqes != MAP_FAILED;
}

/* ring_do has the ring do one thing, and returns its result. */
static int ring_do(struct ring *ring, const struct io_uring_sqe *sqe)
{
	const struct io_uring_params *params = &ring->params;
	uint32_t slot = ring->used & (params->sq_entries - 1);
	uint32_t *head = (uint32_t *)(ring->cq + params->cq_off.head);
	const struct io_uring_cqe *cqes =
		(const struct io_uring_cqe *)(ring->cq + params->cq_off.cqes);
	int result;

	ring->sqes[slot] = *sqe;
	((uint32_t *)(ring->sq + params->sq_off.array))[slot] = slot;
	__atomic_store_n((uint32_t *)(ring->sq + params->sq_off.tail), ++ring->used,
			 __ATOMIC_RELEASE);
	do {
		if (syscall(SYS_io_uring_enter, ring->fd, 1, 1,
			    IORING_ENTER_GETEVENTS | IORING_ENTER_SQ_WAKEUP, NULL, 0) < 0) {
			perror("evade: io_uring_enter");
			return -1;
		}
	} while (__atomic_load_n((uint32_t *)(ring->cq + params->cq_off.tail), __ATOMIC_ACQUIRE) ==
		 *head);
	result = cqes[*head & (params->cq_entries - 1)].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	if (result < 0)
		fprintf(stderr, "evade: operation %d of the ring: %s\n", sqe->opcode,
			strerror(-result));
	return result;
}

static int ring_read_file(struct ring *ring, const char *path)
{
	struct io_uring_sqe open = {
		.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uintptr_t)path};
	struct io_uring_sqe read = {.opcode = IORING_OP_READ, .len = 1};
	char byte;

	read.addr = (uintptr_t)&byte;
	read.fd = ring_do(ring, &open);
	return read.fd >= 0 && ring_do(ring, &read) == 1;
}

static int by_uring(const char *path)
{
	struct ring ring;

	return ring_open(&ring, 0) && ring_read_file(&ring, path);
}

/* Two names at once, of two directories. */
static int ring_names(struct ring *ring, int op, const char *old, const char *new)
{
	struct io_uring_sqe sqe = {.opcode = op, .fd = AT_FDCWD, .len = (uint32_t)AT_FDCWD};

	sqe.addr = (uintptr_t)old;
	sqe.addr2 = (uintptr_t)new;
	if (op == IORING_OP_SYMLINKAT)
		sqe.len = 0;
	return ring_do(ring, &sqe) == 0;
}

static int ring_connect(struct ring *ring, int family, const void *address, uint32_t length)
{
	struct io_uring_sqe make = {.opcode = IORING_OP_SOCKET, .fd = family, .off = SOCK_STREAM};
	struct io_uring_sqe connect = {.opcode = IORING_OP_CONNECT, .off = length};

	connect.fd = ring_do(ring, &make);
	connect.addr = (uintptr_t)address;
	return connect.fd >= 0 && ring_do(ring, &connect) == 0;
}

/*
 * Everything that a ring does where others need a system call, by a thread of the kernel's: reads the file, gives it other
 * names, makes a directory, connects to $PORT and to the unix socket $SOCKET.
 */
static int by_ring_alone(const char *path)
{
	struct io_uring_sqe mkdir = {.opcode = IORING_OP_MKDIRAT,
				     .fd = AT_FDCWD,
				     .len = 0700,
				     .addr = (uintptr_t)"ring-dir"};
	struct io_uring_sqe unlink = {.opcode = IORING_OP_UNLINKAT,
				      .fd = AT_FDCWD,
				      .addr = (uintptr_t)"ring-dir/renamed"};
	struct sockaddr_in peer = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct sockaddr_un local = {.sun_family = AF_UNIX};
	const char *port = getenv("PORT"), *socket = getenv("SOCKET");
	struct ring ring;

	if (!port || !socket || strlen(socket) >= sizeof(local.sun_path) ||
	    !ring_open(&ring, IORING_SETUP_SQPOLL))
		return 0;
	peer.sin_port = htons(atoi(port));
	strcpy(local.sun_path, socket);
	return ring_read_file(&ring, path) && ring_do(&ring, &mkdir) == 0 &&
	       ring_names(&ring, IORING_OP_SYMLINKAT, path, "ring-dir/symlink") &&
	       ring_names(&ring, IORING_OP_LINKAT, path, "ring-dir/hardlink") &&
	       ring_names(&ring, IORING_OP_RENAMEAT, "ring-dir/hardlink", "ring-dir/renamed") &&
	       ring_do(&ring, &unlink) == 0 && ring_connect(&ring, AF_INET, &peer, sizeof(peer)) &&
	       ring_connect(&ring, AF_UNIX, &local, sizeof(local));
}

/* open(2) of i386 is number 5, which is fstat of x86_64. Its pointer has 32 bits. */
static int by_compat(const char *path)
{
#if defined(__x86_64__)
	char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	long fd = 5;

	if (low == MAP_FAILED || strlen(path) >= 4096)
		return 0;
	strcpy(low, path);
	__asm__ volatile("int $0x80"
			 : "+a"(fd)
			 : "b"(low), "c"(O_RDONLY), "d"(0)
			 : "memory", "r8", "r9", "r10", "r11");
	return reads((int)fd);
#else
	return by_openat2(path);
#endif
}

/* Makes a BPF map, which has no place in the work of an agent. */
static int by_bpf(const char *unused)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};

	(void)unused;
	return syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr)) >= 0;
}

/* Takes hold of the process whose number is given, and lets it go. */
static int by_ptrace(const char *pid)
{
	pid_t target = atoi(pid);

	if (ptrace(PTRACE_ATTACH, target, NULL, NULL))
		return 0;
	waitpid(target, NULL, 0);
	return ptrace(PTRACE_DETACH, target, NULL, NULL) == 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*read)(const char *);
	} modes[] = {
		{"openat2", by_openat2}, {"cold", by_cold_page},  {"race", by_race},
		{"uring", by_uring},     {"ring", by_ring_alone}, {"compat", by_compat},
		{"bpf", by_bpf},         {"ptrace", by_ptrace},
	};
	size_t i;

	for (i = 0; argc == 3 && i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(argv[1], modes[i].name))
			return modes[i].read(argv[2]) ? 0 : 1;
	fprintf(stderr, "usage: evade MODE FILE\n");
	return 2;
}
