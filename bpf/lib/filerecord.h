/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The records of what was done to files, and filling them from kernel objects.
 *
 * Owns their layout, for all probes that tell of files: user space decodes them in one place. It must not
 * know how a call came, nor decide which files matter.
 */
#ifndef WATCHGLASS_FILERECORD_H
#define WATCHGLASS_FILERECORD_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "claim.h"
#include "event.h"
#include "hostpath.h"
#include "path.h"

/*
 * The slot of path_walks that file records use. One: the text of each walk is copied to where it belongs before the next
 * is begun.
 */
#define FILE_WALK 0

/* FILE_TAIL is room for three paths, and slack for the verifier: see tail_append. */
#define FILE_TAIL 16384
#define FILE_TAIL_MASK 16383
#define FILE_TAIL_START 8191

enum file_kind {
	FILE_OPEN = 1,
	FILE_CHANGE = 2,
	FILE_MAP = 3,
	/* The first use of a file by a process: see lib/transfer.h. */
	FILE_USE = 4,
};

enum file_marks {
	/* The path is the caller's word, or that of a descriptor that another thread may have replaced. */
	FILE_CLAIMED = 1,
	/* The new descriptor's file has other references already: another thread may have put it there. */
	FILE_RACED = 2,
	/* It came through io_uring. */
	FILE_URING = 4,
	/* It was opened by handle: nobody named a path. */
	FILE_HANDLE = 8,
	/* There is no result: the kernel had no room to wait for it. */
	FILE_UNFINISHED = 16,
};

enum file_operation {
	FILE_MKDIR = 1,
	FILE_MKNOD = 2,
	FILE_RMDIR = 3,
	FILE_UNLINK = 4,
	FILE_RENAME = 5,
	FILE_LINK = 6,
	FILE_SYMLINK = 7,
	FILE_TRUNCATE = 8,
	FILE_CHMOD = 9,
	FILE_CHOWN = 10,
};

/* open is the head of a record: path_size, host_size and asked_size bytes of paths follow. */
struct open {
	struct event_header header;
	/* Of an open that may be told by a count next time: see lib/repeat.h; else 0. */
	__u64 mix;
	__u64 inode;
	__u32 device;
	/* The inode's type and permission bits; 0 when the open failed. */
	__u32 mode;
	/* What the call asked for (O_ flags), and what the opened file has (O_ flags, FMODE_ bits). */
	__u32 asked;
	__u32 file_flags;
	__u32 file_mode;
	/* A positive error number; 0 for success. */
	__u32 error;
	/* enum path_flags, enum file_marks. */
	__u32 path_flags;
	__u32 marks;
	/* The path; the path on the host where that is another one; the path that was asked for, if told. */
	__u32 path_size;
	__u32 host_size;
	__u32 asked_size;
	__u32 reserved;
};

/* change is the head of a record: path_size, host_size and second_size bytes of paths follow. */
struct change {
	struct event_header header;
	__u64 inode;
	/* What truncate cuts to. */
	__u64 length;
	__u32 device;
	__u32 mode;
	/* enum file_operation. */
	__u32 operation;
	__u32 error;
	/* What chmod, mkdir or mknod asked for; what chown asked for. */
	__u32 asked_mode;
	__u32 owner;
	__u32 group;
	__u32 path_flags;
	__u32 marks;
	__u32 path_size;
	__u32 host_size;
	/* The other name of a rename or link; the text of a symlink. */
	__u32 second_size;
};

struct open_record {
	struct open open;
	__u8 tail[FILE_TAIL];
};

struct change_record {
	struct change change;
	__u8 tail[FILE_TAIL];
};

/* file_record is a record of either form: each call is told by one of them. */
union file_record {
	struct open_record open;
	struct change_record change;
};

/* file_records is where a CPU puts one together. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, union file_record);
} file_records SEC(".maps");

/* open_record_room and change_record_room are the CPU's record as what is to be told, as it was left. */
static __always_inline struct open_record *open_record_room(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&file_records, &zero);
}

static __always_inline struct change_record *change_record_room(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&file_records, &zero);
}

/* tail_append copies a text to a place in the tail and returns how long it was. */
static __always_inline __u32 tail_append(__u8 *tail, __u32 at, const void *text, __u32 size)
{
	size &= PATH_BYTES;
	if (bpf_probe_read_kernel(&tail[at & FILE_TAIL_START], size, text))
		return 0;
	return size;
}

/* TAIL_WORDS is how many words of a path are copied without a call: most are no longer. */
#define TAIL_WORDS 12

/* tail_walk copies the result of a walk to a place in the tail and returns how long it was. */
static __always_inline __u32 tail_walk(__u8 *tail, __u32 at, const struct path_walk *walk)
{
	const __u64 *from = (const __u64 *)&walk->bytes[walk->start & (PATH_END - 1)];
	__u64 *to = (__u64 *)&tail[at & FILE_TAIL_START];
	__u32 size = walk->length & PATH_BYTES;
	__u32 i;

	if (size > TAIL_WORDS * sizeof(*to))
		return tail_append(tail, at, from, size);
	/* All of them: what is too much is not told, and a loop that ends sooner is dearer to verify. */
	for (i = 0; i < TAIL_WORDS; i++)
		to[i] = from[i];
	return size;
}

static __always_inline void open_record_zero(struct open_record *record)
{
	__builtin_memset(&record->open.mix, 0, sizeof(record->open) - offsetof(struct open, mix));
}

/* open_record_begin is the CPU's record with its header filled in and the rest zeroed, or NULL. */
static __always_inline struct open_record *open_record_begin(__u64 sandbox, __u16 kind)
{
	struct open_record *record = open_record_room();

	if (!record)
		return NULL;
	event_header_fill(&record->open.header, sandbox, kind);
	open_record_zero(record);
	return record;
}

/* open_record_begin_of is open_record_begin of a caller of whom is known who that is. */
static __always_inline struct open_record *open_record_begin_of(__u64 sandbox, __u16 kind,
								const struct event_caller *caller)
{
	struct open_record *record = open_record_room();

	if (!record)
		return NULL;
	event_header_of(&record->open.header, sandbox, kind, caller);
	open_record_zero(record);
	return record;
}

static __always_inline struct change_record *change_record_begin(__u64 sandbox)
{
	struct change_record *record = change_record_room();

	if (!record)
		return NULL;
	event_header_fill(&record->change.header, sandbox, FILE_CHANGE);
	__builtin_memset(&record->change.inode, 0,
			 sizeof(record->change) - offsetof(struct change, inode));
	return record;
}

/*
 * open_record_file_of fills in what is known of a file that a caller opened, all of it from the kernel's object. caller is
 * NULL for the current task, which is then asked for.
 */
static __always_inline void open_record_file_of(struct open_record *record, struct file *file,
						const struct event_caller *caller)
{
	struct inode *inode = DIRECT_READ(struct file, file, f_inode);
	struct super_block *block = DIRECT_READ(struct inode, inode, i_sb);
	__u64 owner = caller ? caller->task : bpf_get_current_task();
	struct path_walk *walk;

	record->open.inode = DIRECT_READ(struct inode, inode, i_ino);
	record->open.device = DIRECT_READ(struct super_block, block, s_dev);
	record->open.mode = DIRECT_READ(struct inode, inode, i_mode);
	record->open.file_flags = DIRECT_READ(struct file, file, f_flags);
	record->open.file_mode = (__u32)DIRECT_READ(struct file, file, f_mode);
	walk = path_resolve_file_of(FILE_WALK, file, owner);
	if (!walk)
		return;
	record->open.path_flags = walk->flags;
	record->open.path_size = tail_walk(record->tail, 0, walk);
	walk = path_resolve_file_host(FILE_WALK, file,
				      caller ? event_caller_task(caller) : task_plain());
	if (walk)
		record->open.host_size = tail_walk(record->tail, record->open.path_size, walk);
}

static __always_inline void open_record_file(struct open_record *record, struct file *file)
{
	open_record_file_of(record, file, NULL);
}

/* open_record_claim puts the claim's text in as the path: the caller's word. */
static __always_inline void open_record_claim(struct open_record *record)
{
	struct claim *claim = claim_slot();

	if (!claim)
		return;
	record->open.marks |= FILE_CLAIMED;
	record->open.path_flags |= claim->flags;
	record->open.path_size = tail_append(record->tail, 0, claim->bytes, claim->size);
}

/* open_record_asked adds the claim's text as what was asked for. */
static __always_inline void open_record_asked(struct open_record *record)
{
	struct claim *claim = claim_slot();

	if (claim)
		record->open.asked_size =
			tail_append(record->tail, record->open.path_size + record->open.host_size,
				    claim->bytes, claim->size);
}

/*
 * open_record_submit sends the record; false means that it was refused, and counted. kind is its kind: a constant,
 * which the 6.1 verifier needs to see.
 */
static __always_inline bool open_record_submit(__u64 sandbox, struct open_record *record,
					       __u32 kind)
{
	__u64 size = record->open.path_size + record->open.host_size + record->open.asked_size;

	if (record->open.path_flags & PATH_TRUNCATED)
		record->open.header.flags |= EVENT_TRUNCATED;
	return event_output_as(sandbox, EVENT_BULK | kind, record,
			       sizeof(record->open) + (size & FILE_TAIL_MASK));
}

/* change_record_file fills in what is known of a file that was changed through a descriptor. */
static __always_inline void change_record_file(struct change_record *record, struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct path_walk *walk;

	record->change.inode = BPF_CORE_READ(inode, i_ino);
	record->change.device = BPF_CORE_READ(inode, i_sb, s_dev);
	record->change.mode = BPF_CORE_READ(inode, i_mode);
	walk = path_resolve_file(FILE_WALK, file);
	if (!walk)
		return;
	record->change.path_flags = walk->flags;
	record->change.path_size = tail_walk(record->tail, 0, walk);
	walk = path_resolve_file_host(FILE_WALK, file, task_plain());
	if (walk)
		record->change.host_size = tail_walk(record->tail, record->change.path_size, walk);
}

/* change_record_claim puts the claim's text in as the path, change_record_second that of a later claim as the second one. */
static __always_inline void change_record_claim(struct change_record *record)
{
	struct claim *claim = claim_slot();

	if (!claim)
		return;
	record->change.marks |= FILE_CLAIMED;
	record->change.path_flags |= claim->flags;
	record->change.path_size = tail_append(record->tail, 0, claim->bytes, claim->size);
}

static __always_inline void change_record_second(struct change_record *record)
{
	struct claim *claim = claim_slot();

	if (!claim)
		return;
	record->change.path_flags |= claim->flags & PATH_TRUNCATED;
	record->change.second_size =
		tail_append(record->tail, record->change.path_size + record->change.host_size,
			    claim->bytes, claim->size);
}

static __always_inline void change_record_submit(__u64 sandbox, struct change_record *record)
{
	__u64 size =
		record->change.path_size + record->change.host_size + record->change.second_size;

	if (record->change.path_flags & PATH_TRUNCATED)
		record->change.header.flags |= EVENT_TRUNCATED;
	event_output_as(sandbox, EVENT_BULK | FILE_CHANGE, record,
			sizeof(record->change) + (size & FILE_TAIL_MASK));
}

#endif
