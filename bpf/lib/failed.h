/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Opens that failed and are told by a count: the same process fails to open the same path in the same way again.
 *
 * Owns what makes two of them the same. It must not decide which need no record of their own: see lib/repeat.h.
 *
 * The same means: process, error, what was asked for, all of the path's text, the root it is seen from, and the
 * directory that a relative one starts from, with the names of it and of two above it. There is no file to ask, and
 * the text is whatever the caller likes: hence a hash by a secret key, of the very bytes that are told.
 */
#ifndef WATCHGLASS_FAILED_H
#define WATCHGLASS_FAILED_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "claim.h"
#include "descriptor.h"
#include "direct.h"
#include "filemix.h"
#include "repeat.h"
#include "siphash.h"

/*
 * failed_mix makes the mix of an open that failed, whose path is in the claim slot as it was asked for: 0 for one
 * that is told every time. A global function: verified once, not with all that came before.
 */
__noinline int failed_mix(__u32 error, __u32 asked, __s32 directory)
{
	struct task_struct *task = task_plain();
	struct claim *claim = claim_slot();
	struct siphash hash;
	__u32 size, i;

	if (!claim)
		return 0;
	claim->mix = 0;
	size = claim->size;
	if (!size || (claim->flags & PATH_TRUNCATED) || !siphash_begin(&hash))
		return 0;
	siphash_word(&hash, (__u64)error << 32 | asked);
	siphash_word(&hash, DIRECT_ADDRESS(struct fs_struct, task->fs, root.mnt));
	siphash_word(&hash, DIRECT_ADDRESS(struct fs_struct, task->fs, root.dentry));
	if (claim->bytes[0] == '/') {
		siphash_word(&hash, size);
	} else if (directory == AT_FDCWD) {
		siphash_word(&hash, mix_directory(size));
	} else {
		struct file *file = descriptor_file((__u32)directory);

		if (!file)
			return 0;
		siphash_word(&hash, mix_file(size, file));
	}
	/* Zeros up to the end of the last word, so that the loop has no branch for it. */
	*(__u64 *)&claim->bytes[size & PATH_BYTES] = 0;
	for (i = 0; i < PATH_END / 8; i++) {
		if (i * 8 >= size)
			break;
		siphash_word(&hash, *(__u64 *)&claim->bytes[i * 8]);
	}
	claim->mix = siphash_end(&hash) | 1;
	return 1;
}

/* failed_key makes out which failed open this is, by the claim slot. Its mix is 0 for one that is always told. */
static __always_inline void failed_key(struct repeat_key *key, struct claim *claim, __u32 error,
				       __u32 asked, __s32 directory)
{
	struct task_struct *task = task_plain();

	failed_mix(error, asked, directory);
	key->pid = task->tgid;
	key->start = task->group_leader->start_boottime;
	key->mix = claim->mix;
}

#endif
