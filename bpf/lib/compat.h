/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every difference between kernels, in one place. Each entry says which kernels differ and when it
 * may go. Probes must not test for kernels themselves.
 */
#ifndef WATCHGLASS_COMPAT_H
#define WATCHGLASS_COMPAT_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "direct.h"

/*
 * inode times: 6.11 split i_mtime and i_ctime into seconds and nanoseconds (commit 3aa63a569c64,
 * "fs: switch timespec64 fields in inode to discrete integers"); 6.6 had renamed i_ctime to
 * __i_ctime and 6.7 i_mtime to __i_mtime. May go when the minimum is 6.11.
 */
struct inode___times66 {
	struct timespec64 __i_ctime;
	struct timespec64 __i_mtime;
} __attribute__((preserve_access_index));

struct inode___times61 {
	struct timespec64 i_ctime;
	struct timespec64 i_mtime;
} __attribute__((preserve_access_index));

#define NSEC_PER_SEC 1000000000ull

/*
 * 6.13 keeps a mark in the top bit of i_ctime_nsec (commit 4e40eff0b573, "fs: add infrastructure for
 * multigrain timestamps"); nanoseconds never reach it.
 */
#define COMPAT_NSEC_MASK 0x3fffffffu

/* compat_inode_ctime is the inode's change time in nanoseconds since 1970. */
static __always_inline __u64 compat_inode_ctime(struct inode *inode)
{
	struct inode___times66 *middle = (void *)inode;
	struct inode___times61 *old = (void *)inode;

	if (bpf_core_field_exists(inode->i_ctime_sec))
		return DIRECT_READ(struct inode, inode, i_ctime_sec) * NSEC_PER_SEC +
		       (DIRECT_READ(struct inode, inode, i_ctime_nsec) & COMPAT_NSEC_MASK);
	if (bpf_core_field_exists(middle->__i_ctime))
		return BPF_CORE_READ(middle, __i_ctime.tv_sec) * NSEC_PER_SEC +
		       BPF_CORE_READ(middle, __i_ctime.tv_nsec);
	return BPF_CORE_READ(old, i_ctime.tv_sec) * NSEC_PER_SEC +
	       BPF_CORE_READ(old, i_ctime.tv_nsec);
}

/* compat_inode_mtime is the inode's modification time in nanoseconds since 1970. */
static __always_inline __u64 compat_inode_mtime(struct inode *inode)
{
	struct inode___times66 *middle = (void *)inode;
	struct inode___times61 *old = (void *)inode;

	if (bpf_core_field_exists(inode->i_mtime_sec))
		return DIRECT_READ(struct inode, inode, i_mtime_sec) * NSEC_PER_SEC +
		       DIRECT_READ(struct inode, inode, i_mtime_nsec);
	if (bpf_core_field_exists(middle->__i_mtime))
		return BPF_CORE_READ(middle, __i_mtime.tv_sec) * NSEC_PER_SEC +
		       BPF_CORE_READ(middle, __i_mtime.tv_nsec);
	return BPF_CORE_READ(old, i_mtime.tv_sec) * NSEC_PER_SEC +
	       BPF_CORE_READ(old, i_mtime.tv_nsec);
}

/*
 * compat_read_user_str is bpf_probe_read_user_str, which returns the size with its NUL: for an empty
 * string 1, as documented. Up to 6.1 at least it returns 0 then (seen on 6.1.192; 6.18 does as documented,
 * falcosecurity/libs issue 866 tells of earlier ones). May go when the minimum returns 1.
 */
static __always_inline long compat_read_user_str(void *dst, __u32 size, const void *src)
{
	long n = bpf_probe_read_user_str(dst, size, src);

	return n == 0 ? 1 : n;
}

/*
 * References to a file: f_count until 6.12; since 6.13 f_ref, which is 0 for one (commit 90ee6ed776c0,
 * "fs: port files to file_ref"). May go when the minimum is 6.13.
 */
struct file___count {
	atomic_long_t f_count;
} __attribute__((preserve_access_index));

/* compat_file_references is how many references there are to an open file. */
static __always_inline __s64 compat_file_references(struct file *file)
{
	struct file___count *old = (void *)file;

	if (bpf_core_field_exists(file->f_ref))
		return DIRECT_READ(struct file, file, f_ref.refcnt.counter) + 1;
	return BPF_CORE_READ(old, f_count.counter);
}

/*
 * The files that a ring holds without a descriptor: an array of the ring until 6.12, since 6.13 nodes ("io_uring/rsrc: get
 * rid of the empty node and dummy_ubuf", and those before). May go when the minimum is 6.13.
 */
struct io_fixed_file___612 {
	unsigned long file_ptr;
} __attribute__((preserve_access_index));

struct io_file_table___612 {
	struct io_fixed_file___612 *files;
} __attribute__((preserve_access_index));

struct io_ring_ctx___612 {
	struct io_file_table___612 file_table;
	unsigned int nr_user_files;
	unsigned int reserved;
} __attribute__((preserve_access_index));

/* The lowest bits of the address of such a file are flags of the kernel's (FFS_MASK). */
#define COMPAT_RING_FILE_MASK (~7ull)

/* compat_ring_file is the file at a place in a ring's table, or NULL. */
static __always_inline struct file *compat_ring_file(struct io_ring_ctx *ring, __u32 place)
{
	struct io_ring_ctx___612 *old = (void *)ring;
	struct io_rsrc_node *node = NULL;
	__u64 file;

	if (bpf_core_field_exists(old->file_table.files)) {
		if (place >= BPF_CORE_READ(old, nr_user_files))
			return NULL;
		file = direct_word((__u64)BPF_CORE_READ(old, file_table.files) +
				   (__u64)place * bpf_core_type_size(struct io_fixed_file___612));
		return (struct file *)(file & COMPAT_RING_FILE_MASK);
	}
	if (!bpf_core_field_exists(node->file_ptr) ||
	    place >= BPF_CORE_READ(ring, file_table.data.nr))
		return NULL;
	node = (struct io_rsrc_node *)direct_word(
		(__u64)BPF_CORE_READ(ring, file_table.data.nodes) + (__u64)place * sizeof(node));
	return node ? (struct file *)(BPF_CORE_READ(node, file_ptr) & COMPAT_RING_FILE_MASK) : NULL;
}

/*
 * The address that a bind through io_uring names: in memory of the request, which until some day in 2026 began with more
 * (struct io_async_msghdr) and holds nothing but the address since then, stable kernels included. BTF does not tell
 * which; but the longer form begins with an address of the kernel's, whose lowest bits are no family. May go when all
 * kernels are of the shorter form.
 */
static __always_inline __u64 compat_ring_address(void *data)
{
	struct io_async_msghdr *message = data;
	__u16 family = 0;

	if (!data || bpf_probe_read_kernel(&family, sizeof(family), data))
		return 0;
	if (family == 1 || family == 2 || family == 10)
		return (__u64)data;
	if (!bpf_core_field_exists(message->addr))
		return 0;
	return (__u64)data + bpf_core_field_offset(struct io_async_msghdr, addr);
}

/*
 * The last thread of a process: tp_btf/sched_process_exit says since 6.16 in a second argument whether it is the thread
 * ("exit: move and extend sched_process_exit() tracepoint"). Before that only a count tells, which two threads that end
 * at the same moment may both find to be 0. A program that reads an argument which is not there does not load; the
 * trace event's record has it in the same versions. May go when the minimum is 6.16.
 */
struct trace_event_raw_sched_process_exit___last {
	bool group_dead;
} __attribute__((preserve_access_index));

/* compat_last_thread_once says that it finds one thread of each process to be the last, and not two. */
static __always_inline bool compat_last_thread_once(void)
{
	struct trace_event_raw_sched_process_exit___last *record = NULL;

	return bpf_core_field_exists(record->group_dead);
}

/* compat_last_thread says whether a thread that ends is the last of its process; ctx is the hook's. */
static __always_inline bool compat_last_thread(const __u64 *ctx, struct signal_struct *signal)
{
	struct trace_event_raw_sched_process_exit___last *record = NULL;

	if (bpf_core_field_exists(record->group_dead))
		return ctx[1] & 1;
	return BPF_CORE_READ(signal, live.counter) == 0;
}

#endif
