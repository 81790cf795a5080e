/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Fields of kernel objects of which only the address is known, and short texts, without a call where the
 * kernel allows that.
 *
 * Owns the choice between a load and bpf_probe_read_kernel(), and asking for the current task once. It must not know what
 * is read.
 *
 * Why: the verifier lets a program load from what it knows as a kernel object, and a walk from one object to
 * the next ends where an address was kept in a map or came out of an array. bpf_rdonly_cast() gives such an
 * address its type again, and costs nothing: the verifier makes a move of it. A load takes about 1 ns, a call of
 * bpf_probe_read_kernel() about 30 where returns are guarded against speculation. Since 6.2; before, the call.
 * A bad address reads as 0 either way.
 */
#ifndef WATCHGLASS_DIRECT_H
#define WATCHGLASS_DIRECT_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

extern void *bpf_rdonly_cast(const void *object, __u32 type) __ksym __weak;

/*
 * The current task is the same all along, so that one call of the helper serves a whole function: the attribute says so
 * to the compiler. Returning from a call is what is dear where returns are guarded.
 */
static struct task_struct *(*const task_current)(void)__attribute__((const, unused)) = (void *)
	BPF_FUNC_get_current_task_btf;
#define bpf_get_current_task_btf task_current

/* Whether there is bpf_rdonly_cast(); the verifier deletes the branch that is not taken. */
#define DIRECT ((void *)bpf_rdonly_cast != NULL)

/* DIRECT_AT is an address as a kernel object. Only where DIRECT. */
#define DIRECT_AT(type, address)                                                                   \
	((type *)bpf_rdonly_cast((const void *)(address), bpf_core_type_id_kernel(type)))

/*
 * task_plain is the current task, to read from. Why not always what the helper returns: of each pointer that is loaded
 * from an object that it trusts, the verifier (6.3 to 6.18, at least) looks through all names of the kernel's types for what it may be.
 * That was 60 % of the time that loading all programs took. Storage and some helpers take only what is trusted.
 */
static __always_inline struct task_struct *task_plain(void)
{
	struct task_struct *task = bpf_get_current_task_btf();

	return DIRECT ? DIRECT_AT(struct task_struct, task) : task;
}

/* DIRECT_READ is a field of the object at an address. */
#define DIRECT_READ(type, address, field)                                                          \
	(DIRECT ? DIRECT_AT(type, address)->field : BPF_CORE_READ((type *)(address), field))

/* direct_word is the 8 bytes at an address. Its type is any of the kernel's that starts with as many. */
static __always_inline __u64 direct_word(__u64 address)
{
	__u64 word = 0;

	if (DIRECT)
		return (__u64)DIRECT_AT(struct timespec64, address)->tv_sec;
	bpf_probe_read_kernel(&word, sizeof(word), (void *)address);
	return word;
}

/* DIRECT_ADDRESS is a field that is an address, as a number: global functions take no kernel objects. */
#define DIRECT_ADDRESS(type, address, field)                                                       \
	direct_word((__u64)(address) + bpf_core_field_offset(type, field))

/* DIRECT_TEXT is how long a text may be that is copied by loads. */
#define DIRECT_TEXT 40

/*
 * direct_text copies a text of at most DIRECT_TEXT bytes, and leaves what follows it in to as it is: there must be 7
 * bytes more of to. Up to 7 bytes behind the text are loaded too, and not used.
 */
static __always_inline void direct_text(__u8 *to, __u64 from, __u32 size)
{
	__u32 at;

	for (at = 0; at < DIRECT_TEXT; at += 8) {
		__u64 *word = (__u64 *)(to + at);
		__u64 mask;

		if (at >= size)
			break;
		if (size - at >= 8) {
			*word = direct_word(from + at);
			continue;
		}
		mask = (1ull << ((size - at) * 8 & 63)) - 1;
		*word = (direct_word(from + at) & mask) | (*word & ~mask);
	}
}

#endif
