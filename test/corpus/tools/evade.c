/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The ways in which a program reads a file and hopes not to be seen: a newer call, a path on a cold page, a second
 * thread that rewrites the path, io_uring, a 32-bit call; and calls that no shell makes. evade MODE FILE; it exits with 0
 * when it has read, or done it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
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

static int by_uring(const char *path)
{
	struct io_uring_params params = {0};
	int ring = syscall(SYS_io_uring_setup, 4, &params);
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqe;
	char *sq, *cq;

	if (ring < 0)
		return 0;
	sq = mmap(NULL, params.sq_off.array + params.sq_entries * sizeof(uint32_t), PROT_READ | PROT_WRITE, MAP_SHARED,
		  ring, IORING_OFF_SQ_RING);
	cq = mmap(NULL, params.cq_off.cqes + params.cq_entries * sizeof(*cqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		  IORING_OFF_CQ_RING);
	sqes = mmap(NULL, params.sq_entries * sizeof(*sqes), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || sqes == MAP_FAILED)
		return 0;
	memset(sqes, 0, sizeof(*sqes));
	sqes->opcode = IORING_OP_OPENAT;
	sqes->fd = AT_FDCWD;
	sqes->addr = (uintptr_t)path;
	sqes->open_flags = O_RDONLY;
	*(uint32_t *)(sq + params.sq_off.array) = 0;
	__atomic_store_n((uint32_t *)(sq + params.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		return 0;
	cqe = (struct io_uring_cqe *)(cq + params.cq_off.cqes);
	return reads(cqe->res);
}

/* open(2) of i386 is number 5, which is fstat of x86_64. Its pointer has 32 bits. */
static int by_compat(const char *path)
{
#if defined(__x86_64__)
	char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	long fd = 5;

	if (low == MAP_FAILED || strlen(path) >= 4096)
		return 0;
	strcpy(low, path);
	__asm__ volatile("int $0x80" : "+a"(fd) : "b"(low), "c"(O_RDONLY), "d"(0) : "memory", "r8", "r9", "r10", "r11");
	return reads((int)fd);
#else
	return by_openat2(path);
#endif
}

/* Makes a BPF map, which has no place in the work of an agent. */
static int by_bpf(const char *unused)
{
	union bpf_attr attr = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};

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
		{"openat2", by_openat2}, {"cold", by_cold_page}, {"race", by_race}, {"uring", by_uring}, {"compat", by_compat},
		{"bpf", by_bpf}, {"ptrace", by_ptrace},
	};
	size_t i;

	for (i = 0; argc == 3 && i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(argv[1], modes[i].name))
			return modes[i].read(argv[2]) ? 0 : 1;
	fprintf(stderr, "usage: evade MODE FILE\n");
	return 2;
}
