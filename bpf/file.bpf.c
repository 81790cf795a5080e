/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
//go:build ignore

/*
 * The file probe: which files were opened, made, removed, renamed, linked, cut, given to others or mapped
 * to be run, or were tried to be, by whom, and with what result.
 *
 * Owns the system calls that do that, of 64-bit, x32 and 32-bit callers. What comes through io_uring is
 * the uring probe's. It must not decide which files matter: that is the collector's.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "lib/compat.h"
#include "lib/descriptor.h"
#include "lib/event.h"
#include "lib/failed.h"
#include "lib/filerecord.h"
#include "lib/hook.h"
#include "lib/path.h"
#include "lib/pending.h"
#include "lib/repeat.h"
#include "lib/resolved.h"
#include "lib/ring.h"
#include "lib/sandbox.h"
#include "lib/submit.h"
#include "lib/syscall.h"
#include "lib/transfer.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Macros of the kernel, which BTF does not carry. */
#define AT_REMOVEDIR 0x200
#define O_CREAT 00000100
#define O_WRONLY 00000001
#define O_TRUNC 00001000
#define PROT_EXEC 4
#define MAP_ANONYMOUS 0x20
#define CLOSE_RANGE_CLOEXEC 4
#define VM_EXEC 4
/* Of i386 alone. */
#define COMPAT_SYS_OLD_MMAP 90
/* From which number on x32 has calls of its own, of whose arguments in memory addresses have 32 bits. */
#define X32_OWN 512
/* The same in i386 and arm. */
#define COMPAT_SYS_TRUNCATE64 193
#define COMPAT_SYS_FTRUNCATE64 194

/*
 * call is what the number of a system call says of its arguments: an open, a mapping, or an operation with
 * the form of its arguments.
 */
enum call {
	CALL_OPERATION = 0x1f,
	/* The first argument is the descriptor of the directory that the path starts from; or of the file. */
	CALL_AT = 0x20,
	CALL_DESCRIPTOR = 0x40,
	/* A second path follows, in the same form. */
	CALL_TWO = 0x80,

	/* Beyond the operations. */
	CALL_OPEN = 0x11,
	CALL_OPENAT = 0x12,
	CALL_OPENAT2 = 0x13,
	CALL_CREAT = 0x14,
	CALL_OPEN_HANDLE = 0x15,
	CALL_MMAP = 0x16,
	CALL_OPENS = 0x10,

	/* What moves bytes, from or to the first argument; the sockets' own calls are not among them. */
	CALL_READ = 0x17,
	CALL_WRITE = 0x18,
	/* To the first argument, from the second; from the first, to the third. */
	CALL_SENDFILE = 0x19,
	CALL_SPLICE = 0x1a,
	/* What ends descriptors. */
	CALL_CLOSE = 0x1b,
	CALL_DUP2 = 0x1c,
	/* A mapping that is not to be run. */
	CALL_MMAP_DATA = 0x1d,
	/* What ends descriptors from the first argument to the second. */
	CALL_CLOSE_RANGE = 0x1e,
	/* What asks for many reads and writes at once. */
	CALL_SUBMIT = 0x1f,
	CALL_TRANSFERS = CALL_READ,
};

/* CALLS is above every number below; a multiple of two, for the mask. */
#define CALLS 1024

/*
 * What each call is, by number: that of 64-bit calls, which x32 shares, and of 32-bit calls. The loader fills them from
 * the one table by name (call_tables.go): the rest is not handed on to this probe.
 */
const volatile __u8 native_calls[CALLS];
const volatile __u8 compat_calls[CALLS];

/* open_call is what an open asked for. */
struct open_call {
	__u64 path;
	__s32 directory;
	__u32 asked;
};

/* finished is a finished call, for the functions that tell of it: in a map, since a global function takes no context. */
struct finished {
	__u64 arguments[8];
	__s64 result;
	__u64 sandbox;
	/* Of an open alone. Here and not on the stack, of which Linux 6.1 has no more for the file probe. */
	struct event_caller caller;
	struct open_call open;
	__u32 call;
	__u32 compat;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct finished);
} finished_calls SEC(".maps");

static __always_inline struct finished *finished_slot(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&finished_calls, &zero);
}

/* open_decode finds what an open asked for. */
static __always_inline void open_decode(struct finished *done)
{
	struct open_call *open = &done->open;
	__u64 flags = 0;

	open->directory = AT_FDCWD;
	open->path = done->arguments[0];
	switch (done->call) {
	case CALL_OPEN:
		open->asked = (__u32)done->arguments[1];
		return;
	case CALL_CREAT:
		open->asked = O_CREAT | O_WRONLY | O_TRUNC;
		return;
	case CALL_OPEN_HANDLE:
		open->asked = (__u32)done->arguments[2];
		return;
	}
	open->directory = (__s32)done->arguments[0];
	open->path = done->arguments[1];
	open->asked = (__u32)done->arguments[2];
	if (done->call == CALL_OPENAT2) {
		/* struct open_how starts with the flags. */
		bpf_probe_read_user(&flags, sizeof(flags), (void *)done->arguments[2]);
		open->asked = (__u32)flags;
	}
}

/* descriptors_shared says whether another thread can change the descriptors of a task, the current one. */
static __always_inline bool descriptors_shared(struct task_struct *task)
{
	return task->files->count.counter > 1;
}

/*
 * open_succeeded tells of the file behind the new descriptor. A thread that shares the descriptors can have
 * put another file there since: such a file usually has more references than the one, and is not the one
 * that the path names, so both are told.
 */
static __always_inline void open_succeeded(struct open_record *record, const struct finished *done,
					   const struct open_call *open, struct file *file)
{
	struct task_struct *task = event_caller_task(&done->caller);

	if (done->call == CALL_OPEN_HANDLE)
		record->open.marks |= FILE_HANDLE;
	if (!file) {
		/* Closed again by another thread: what it was is gone, that it was opened is not. */
		record->open.marks |= FILE_RACED | FILE_CLAIMED;
		if (done->call != CALL_OPEN_HANDLE) {
			claim_read(open->path, open->directory, FILE_WALK);
			open_record_claim(record);
		}
		return;
	}
	open_record_file_of(record, file, &done->caller);
	if (!descriptors_shared(task))
		return;
	if (compat_file_references(file) != 1)
		record->open.marks |= FILE_RACED;
	if (done->call == CALL_OPEN_HANDLE)
		return;
	claim_read(open->path, open->directory, FILE_WALK);
	open_record_asked(record);
}

/* open_failed tells what was asked for: the caller's word, since no file exists to ask. */
static __always_inline void open_failed(struct open_record *record, const struct finished *done,
					const struct open_call *open)
{
	record->open.error = (__u32)-done->result;
	record->open.marks |= FILE_CLAIMED;
	if (done->call == CALL_OPEN_HANDLE) {
		record->open.marks |= FILE_HANDLE;
		return;
	}
	claim_finish(open->directory, FILE_WALK);
	open_record_claim(record);
}

/*
 * open_failed_repeated reads what an open that failed asked for, once, into the claim slot, and counts it where it
 * needs no record.
 */
static __always_inline bool open_failed_repeated(const struct finished *done,
						 struct repeat_key *key,
						 const struct open_call *open)
{
	struct claim *claim = claim_text(open->path);

	if (!claim || !repeats_counted)
		return false;
	failed_key(key, claim, (__u32)-done->result, open->asked, open->directory);
	return key->mix && repeat_count(done->sandbox, key);
}

/* open_key makes out which open of a task this is, but for who that is. Its mix is 0 for one that is always told. */
static __always_inline void open_key(struct repeat_key *key, struct file *file, __u64 mix,
				     struct task_struct *task)
{
	struct super_block *block;
	struct inode *inode;

	mix = mix_word(mix, (__u64)(__u32)DIRECT_READ(struct file, file, f_mode) << 32 |
				    DIRECT_READ(struct file, file, f_flags));
	mix = mix_file_of(mix, file, task);
	inode = DIRECT_READ(struct file, file, f_inode);
	key->inode = DIRECT_READ(struct inode, inode, i_ino);
	block = DIRECT_READ(struct inode, inode, i_sb);
	key->device = DIRECT_READ(struct super_block, block, s_dev);
	key->mix = mix | 1;
}

/*
 * open_repeated counts an open that needs no record, by the descriptor's file: where another thread can have
 * put it there, what was asked for must be the same too.
 */
static __always_inline bool open_repeated(const struct finished *done, struct repeat_key *key,
					  struct file *file, const struct open_call *open)
{
	struct task_struct *task = event_caller_task(&done->caller);
	__u64 mix = open->asked;

	if (descriptors_shared(task) && (compat_file_references(file) != 1 ||
					 !repeat_mix_asked(&mix, open->path, open->directory)))
		return false;
	open_key(key, file, mix, task);
	key->pid = done->caller.pid;
	key->start = done->caller.start;
	return key->mix && repeat_count(done->sandbox, key);
}

__noinline int open_report(void)
{
	struct finished *done = finished_slot();
	struct repeat_key key = {};
	struct open_record *record;
	struct file *file = NULL;

	if (!done)
		return 0;
	open_decode(done);
	if (done->result >= 0)
		file = descriptor_file_of(event_caller_task(&done->caller), (__u32)done->result);
	if (repeats_counted && file && done->call != CALL_OPEN_HANDLE &&
	    open_repeated(done, &key, file, &done->open))
		return 0;
	if (done->result < 0 && done->call != CALL_OPEN_HANDLE &&
	    open_failed_repeated(done, &key, &done->open))
		return 0;
	record = open_record_begin_of(done->sandbox, FILE_OPEN, &done->caller);
	if (!record)
		return 0;
	record->open.mix = key.mix;
	record->open.asked = done->open.asked;
	if (done->result < 0)
		open_failed(record, done, &done->open);
	else
		open_succeeded(record, done, &done->open, file);
	open_record_submit(done->sandbox, record, FILE_OPEN);
	return 0;
}

/* change_path finds the file of a change. It returns the place of the argument that follows. */
static __always_inline __u32 change_path(struct change_record *record, const struct finished *done)
{
	__s32 directory = (__s32)done->arguments[0];
	struct file *file = NULL;
	__u32 next = 0;

	if (done->call & CALL_DESCRIPTOR) {
		file = descriptor_file((__u32)directory);
		next = 1;
	} else {
		if (done->call & CALL_AT)
			next = 1;
		else
			directory = AT_FDCWD;
		claim_read(done->arguments[next & 7], directory, FILE_WALK);
		next++;
		change_record_claim(record);
		/* AT_EMPTY_PATH: the file that the descriptor stands for. */
		if (record->change.path_size == 0 && directory != AT_FDCWD && done->result >= 0)
			file = descriptor_file((__u32)directory);
	}
	if (!file) {
		record->change.marks |= FILE_CLAIMED;
		return next;
	}
	record->change.marks &= ~FILE_CLAIMED;
	change_record_file(record, file);
	if (descriptors_shared(task_plain()))
		record->change.marks |= FILE_CLAIMED;
	return next;
}

/* change_symlink finds the new name of a symlink and what it says, which comes first. */
static __always_inline void change_symlink(struct change_record *record,
					   const struct finished *done)
{
	__s32 directory = AT_FDCWD;
	__u64 path = done->arguments[1];

	if (done->call & CALL_AT) {
		directory = (__s32)done->arguments[1];
		path = done->arguments[2];
	}
	claim_read(path, directory, FILE_WALK);
	change_record_claim(record);
	claim_text(done->arguments[0]);
	change_record_second(record);
}

/* change_numbers reads what an operation says besides its paths, from the argument at next. */
static __always_inline void change_numbers(struct change_record *record,
					   const struct finished *done, __u32 next)
{
	__u64 first = done->arguments[next & 7];
	__u64 second = done->arguments[(next + 1) & 7];

	switch (record->change.operation) {
	case FILE_UNLINK:
		if ((done->call & CALL_AT) && (first & AT_REMOVEDIR))
			record->change.operation = FILE_RMDIR;
		break;
	case FILE_TRUNCATE:
		record->change.length = first;
		/*
		 * truncate64 and ftruncate64 pass the upper half in a register of its own; arm passes the halves in
		 * registers of even number.
		 */
		if (done->compat != COMPAT_SYS_TRUNCATE64 && done->compat != COMPAT_SYS_FTRUNCATE64)
			break;
		if (SYSCALL_ARM64)
			record->change.length = second | done->arguments[(next + 2) & 7] << 32;
		else
			record->change.length = first | second << 32;
		break;
	case FILE_MKDIR:
	case FILE_MKNOD:
	case FILE_CHMOD:
		record->change.asked_mode = (__u32)first;
		break;
	case FILE_CHOWN:
		record->change.owner = (__u32)first;
		record->change.group = (__u32)second;
		break;
	}
}

__noinline int change_report(void)
{
	struct finished *done = finished_slot();
	struct change_record *record;
	__s32 directory = AT_FDCWD;
	__u32 next;

	if (!done)
		return 0;
	record = change_record_begin(done->sandbox);
	if (!record)
		return 0;
	record->change.operation = done->call & CALL_OPERATION;
	record->change.error = done->result < 0 ? (__u32)-done->result : 0;
	if (record->change.operation == FILE_SYMLINK) {
		change_symlink(record, done);
	} else {
		next = change_path(record, done);
		if (done->call & CALL_TWO) {
			if (done->call & CALL_AT)
				directory = (__s32)done->arguments[next++ & 7];
			claim_read(done->arguments[next & 7], directory, FILE_WALK);
			change_record_second(record);
		} else {
			change_numbers(record, done, next);
		}
	}
	change_record_submit(done->sandbox, record);
	return 0;
}

/* change_resolved tells of a change whose paths the kernel has resolved; 0 means that there are none. */
__noinline int change_resolved(void)
{
	struct resolved_change *kept = resolved_taken();
	struct finished *done = finished_slot();
	struct change_record *record;
	__u32 next = 1;

	if (!kept || !done)
		return 0;
	record = &kept->record;
	record->change.header.time = bpf_ktime_get_boot_ns();
	record->change.operation = done->call & CALL_OPERATION;
	record->change.error = done->result < 0 ? (__u32)-done->result : 0;
	if ((done->call & CALL_AT) && !(done->call & CALL_DESCRIPTOR))
		next = 2;
	if (!(done->call & CALL_TWO) && record->change.operation != FILE_SYMLINK)
		change_numbers(record, done, next);
	change_record_submit(done->sandbox, record);
	return 1;
}

/* map_context takes what a mapping turned out to be. */
struct map_context {
	struct open_record *record;
};

static long map_fill(struct task_struct *task, struct vm_area_struct *area,
		     struct map_context *context)
{
	struct file *file = area->vm_file;

	if (file && (area->vm_flags & VM_EXEC))
		open_record_file(context->record, file);
	return 0;
}

/*
 * map_report tells of a file that was mapped to be run: the file of the mapping itself, whatever stands
 * behind the descriptor by now.
 */
__noinline int map_report(void)
{
	struct finished *done = finished_slot();
	struct map_context context = {};
	struct file *file;
	__u64 address;

	if (!done)
		return 0;
	address = syscall_address(done->result, done->compat);
	context.record = open_record_begin(done->sandbox, FILE_MAP);
	if (!context.record)
		return 0;
	if (bpf_find_vma(bpf_get_current_task_btf(), address, map_fill, &context, 0)) {
		/* The mappings are being changed at this moment: then the descriptor's file is the best word. */
		file = descriptor_file((__u32)done->arguments[4]);
		if (!file)
			return 0;
		context.record->open.marks |= FILE_CLAIMED;
		open_record_file(context.record, file);
	}
	if (context.record->open.inode)
		open_record_submit(done->sandbox, context.record, FILE_MAP);
	return 0;
}

/* map_of_data says whether a finished mmap made a mapping of a file that cannot be run. */
static __always_inline bool map_of_data(const struct pt_regs *regs, __u32 compat, __u32 number,
					long ret)
{
	/* The arguments of the old mmap of i386 lie in memory: too dear for what they tell. */
	if ((ret < 0 && ret >= -4095) || (compat && number == COMPAT_SYS_OLD_MMAP))
		return false;
	return !(syscall_argument(regs, compat, 2) & PROT_EXEC) &&
	       !(syscall_argument(regs, compat, 3) & MAP_ANONYMOUS);
}

/* map_of_file says whether a finished mmap made a mapping of a file that can be run. */
static __always_inline bool map_of_file(const struct pt_regs *regs, __u32 compat, __u32 number,
					long ret)
{
	__u32 words[6];

	if (ret < 0 && ret >= -4095)
		return false;
	/* The old mmap of i386 takes all of its arguments in memory: what they were, the mapping tells. */
	if (compat && number == COMPAT_SYS_OLD_MMAP)
		return !bpf_probe_read_user(words, sizeof(words),
					    (void *)syscall_argument(regs, 1, 0)) &&
		       (words[2] & PROT_EXEC) && !(words[3] & MAP_ANONYMOUS);
	return (syscall_argument(regs, compat, 2) & PROT_EXEC) &&
	       !(syscall_argument(regs, compat, 3) & MAP_ANONYMOUS);
}

/* transfer_side counts one end of a call that moved bytes. */
static __always_inline void transfer_side(struct transfer_room *room, __u32 descriptor, __u64 read,
					  __u64 written)
{
	room->file = descriptor_file(descriptor);
	room->descriptor = descriptor;
	room->read = read;
	room->written = written;
	transfer_add();
}

/* transfer_report counts what a call moved, and notes descriptors that it closed. */
static __always_inline void transfer_report(const struct finished *done)
{
	struct transfer_room *room = transfer_room();
	__u32 first = (__u32)done->arguments[0];
	__u64 moved = (__u64)done->result;

	if (!room)
		return;
	room->first.sandbox = done->sandbox;
	room->marks = 0;
	switch (done->call) {
	case CALL_READ:
		transfer_side(room, first, moved, 0);
		return;
	case CALL_WRITE:
		transfer_side(room, first, 0, moved);
		return;
	case CALL_SENDFILE:
		transfer_side(room, first, 0, moved);
		transfer_side(room, (__u32)done->arguments[1], moved, 0);
		return;
	case CALL_SPLICE:
		transfer_side(room, first, moved, 0);
		transfer_side(room, (__u32)done->arguments[2], 0, moved);
		return;
	case CALL_DUP2:
		/* What the new number stood for was closed by it. */
		if (first != (__u32)done->arguments[1])
			transfer_close((__u32)done->arguments[1]);
		return;
	case CALL_CLOSE_RANGE:
		if (!(done->arguments[2] & CLOSE_RANGE_CLOEXEC))
			transfer_close_between(first, (__u32)done->arguments[1]);
		return;
	case CALL_MMAP_DATA:
		room->marks = TRANSFER_MAPPED;
		transfer_side(room, (__u32)done->arguments[4], 0, 0);
		return;
	}
}

/* transfer_worth says whether a call moved anything, or closed what may have been used. */
static __always_inline bool transfer_worth(__u32 kind, long ret)
{
	if (!transfers_counted)
		return false;
	if (kind == CALL_CLOSE || kind == CALL_DUP2 || kind == CALL_CLOSE_RANGE)
		return ret >= 0;
	return ret > 0;
}

/* call_kind is what a system call is here (enum call), 0 for nothing. */
static __always_inline __u32 call_kind(const struct syscall_call *call)
{
	if (call->number >= CALLS)
		return 0;
	return call->compat ? compat_calls[call->number & (CALLS - 1)]
			    : native_calls[call->number & (CALLS - 1)];
}

static __always_inline bool call_opens(__u32 kind)
{
	return kind & CALL_OPENS && kind <= CALL_OPEN_HANDLE;
}

/* call_changes says whether a call changes names, or what a name stands for. */
static __always_inline bool call_changes(__u32 kind)
{
	__u32 operation = kind & CALL_OPERATION;

	return operation >= FILE_MKDIR && operation <= FILE_CHOWN;
}

/* call_transfers says whether a call moves bytes, or ends a descriptor. */
static __always_inline bool call_transfers(__u32 kind)
{
	return kind >= CALL_TRANSFERS && kind < CALL_AT;
}

/* call_finished notes a call of a sandbox by its arguments and result. */
static __always_inline struct finished *call_finished(const struct pt_regs *regs,
						      const struct syscall_call *call, __u32 kind,
						      __u64 sandbox, long ret)
{
	struct finished *done = finished_slot();

	if (!done)
		return NULL;
	done->arguments[0] = syscall_argument(regs, call->compat, 0);
	done->arguments[1] = syscall_argument(regs, call->compat, 1);
	done->arguments[2] = syscall_argument(regs, call->compat, 2);
	done->arguments[3] = syscall_argument(regs, call->compat, 3);
	done->arguments[4] = syscall_argument(regs, call->compat, 4);
	done->result = ret;
	done->sandbox = sandbox;
	done->call = kind;
	done->compat = call->compat ? call->number : 0;
	return done;
}

/* submit_report counts the reads and writes that a call had taken on. */
static __always_inline void submit_report(const struct pt_regs *regs,
					  const struct syscall_call *call, __u64 sandbox, long ret)
{
	aio_report(sandbox, syscall_argument(regs, call->compat, 2), (__u64)ret,
		   call->compat || (!SYSCALL_ARM64 && call->number >= X32_OWN));
}

/* call_report tells of a call of a sandbox. */
static __always_inline void call_report(const struct pt_regs *regs,
					const struct syscall_scope *scope, __u32 kind,
					__u64 sandbox, long ret)
{
	struct finished *done = call_finished(regs, &scope->call, kind, sandbox, ret);

	if (!done)
		return;
	done->caller = scope->caller;
	if (kind == CALL_MMAP)
		map_report();
	else if (kind == CALL_SUBMIT)
		submit_report(regs, &scope->call, sandbox, ret);
	else if (call_transfers(kind))
		transfer_report(done);
	else if (call_opens(kind))
		open_report();
	else if (!change_resolved())
		change_report();
}

/* file_finished tells of a finished call. */
static __always_inline void file_finished(const struct pt_regs *regs, long ret)
{
	struct syscall_scope *scope = syscall_handed(regs);
	struct syscall_call call;
	__u64 sandbox;
	__u32 kind;

	if (!scope)
		return;
	call = scope->call;
	kind = call_kind(&call);
	if (kind == CALL_MMAP && !map_of_file(regs, call.compat, call.number, ret))
		kind = map_of_data(regs, call.compat, call.number, ret) ? CALL_MMAP_DATA : 0;
	if (!kind || (call_transfers(kind) && !transfer_worth(kind, ret)))
		return;
	if (kind == CALL_CLOSE) {
		/* What was noted of a descriptor is a sandbox's: there is none to ask for. */
		transfer_close_of(&scope->caller, (__u32)syscall_argument(regs, call.compat, 0));
		return;
	}
	sandbox = syscall_scope_sandbox(scope);
	if (sandbox)
		call_report(regs, scope, kind, sandbox, ret);
}

/*
 * Reports every finished call that opens, changes or maps a file to run. For an open that succeeded the
 * file's own path, inode and mode, all of them of the kernel's object; for what names only paths those, as
 * the caller's word.
 *
 * Why at the exit: symlinks, relative paths, directory descriptors and bind mounts have been resolved
 * by then, by the kernel itself, so the path is that of the struct file behind the new descriptor, and
 * nothing the caller writes into its memory changes it. Read at the entry, 1 % of paths in a build lie
 * on pages that are not in memory; at the exit the kernel has just read them.
 * Why not lsm/file_open or fexit: they cost the rest of the node nothing, but many kernels refuse
 * both. Where they do not, the programs below take this one's place (the trampoline plan). Why not tracepoint/syscalls/sys_exit_open*: see lib/syscall.h. Since 5.5; bpf_find_vma since 5.17.
 * The test for the number goes before the scope: it is cheaper, and nearly every call of the machine
 * ends there.
 *
 * Misses: mprotect that makes a mapping executable later, of which the notable probe tells. Of unlink, rename, link, chmod and the like by
 * path the real path is not known, since no object is left to ask: symlinks in it are not resolved.
 */
SEC("tp_btf/sys_exit")
int BPF_PROG(file_on_sys_exit, struct pt_regs *regs, long ret)
{
	if (syscall_outside())
		return 0;
	file_finished(regs, ret);
	return syscall_done(ctx);
}

/* told_opens is whether the open that the thread is making has been told: what fails earlier has not. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} told_opens SEC(".maps");

static __always_inline void told_note(void)
{
	__u32 *told = bpf_task_storage_get(&told_opens, bpf_get_current_task_btf(), NULL,
					   BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (told)
		*told = 1;
}

static __always_inline bool told_take(void)
{
	__u32 *told = bpf_task_storage_get(&told_opens, bpf_get_current_task_btf(), NULL, 0);

	if (!told || !*told)
		return false;
	*told = 0;
	return true;
}

/*
 * opened is an open as the kernel's own function returned it: its copy of the name, and the file that no other
 * thread has seen yet.
 */
struct opened {
	__u64 name;
	__u64 file;
	__s32 directory;
	__u32 asked;
	__u32 call;
	/* enum file_marks, for one that came through io_uring. */
	__u32 marks;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct opened);
} opened_files SEC(".maps");

static __always_inline struct opened *opened_slot(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&opened_files, &zero);
}

/* opened_report tells of the open in the CPU's slot. Nothing of it is the caller's word. */
__noinline int opened_report(__u64 sandbox)
{
	struct task_struct *task = task_plain();
	struct opened *opened = opened_slot();
	struct repeat_key key = {};
	struct open_record *record;
	struct claim *claim;
	struct file *file;

	if (!opened)
		return 0;
	file = (struct file *)opened->file;
	if (repeats_counted && !hook_failed(file) && opened->call != CALL_OPEN_HANDLE) {
		open_key(&key, file, opened->asked | (__u64)opened->marks << 32, task);
		key.pid = task->tgid;
		key.start = task->group_leader->start_boottime;
		if (key.mix && repeat_count(sandbox, &key))
			return 0;
	}
	if (hook_failed(file) && opened->call != CALL_OPEN_HANDLE) {
		claim = claim_kernel_text((struct filename *)opened->name);
		if (claim && repeats_counted) {
			failed_key(&key, claim, (__u32) - (__s32)opened->file, opened->asked,
				   opened->directory);
			if (key.mix && repeat_count(sandbox, &key))
				return 0;
		}
	}
	record = open_record_begin(sandbox, FILE_OPEN);
	if (!record)
		return 0;
	record->open.mix = key.mix;
	record->open.asked = opened->asked;
	record->open.marks = opened->marks;
	if (opened->call == CALL_OPEN_HANDLE)
		record->open.marks |= FILE_HANDLE;
	if (!hook_failed(file)) {
		open_record_file(record, file);
	} else {
		record->open.error = (__u32) - (__s32)opened->file;
		claim_finish(opened->directory, FILE_WALK);
		claim = opened->call == CALL_OPEN_HANDLE ? NULL : claim_slot();
		if (claim) {
			record->open.path_flags |= claim->flags;
			record->open.path_size =
				tail_append(record->tail, 0, claim->bytes, claim->size);
		}
	}
	open_record_submit(sandbox, record, FILE_OPEN);
	return 0;
}

/*
 * open_of_ring says whether an open comes through io_uring: by the path that the uring probe noted, which is let go of where
 * the open succeeds; what found no room there by where it is done. What fails there may be tried again, and its end is the
 * uring probe's to tell.
 */
static __always_inline bool open_of_ring(const struct filename *name, const struct file *file)
{
	if (!ring_used(task_plain()))
		return false;
	if (hook_failed(file) ? pending_open_noted((__u64)name) : pending_opened((__u64)name))
		return true;
	return ring_entered();
}

/*
 * Reports every open that a system call made, with its result, and each through io_uring that succeeded, in place of
 * file_on_sys_exit.
 * Why here: the name is the kernel's copy, also of what failed, and the file is not yet behind a descriptor
 * where another thread could replace it. Why not lsm/file_open: it sees no open that failed before.
 * Execs open their program here too, and so do the kernel's own opens: none of them is in an open's system call. Since 6.1
 * at least, under this name.
 * Misses: what fails before it comes here, see file_on_return.
 */
SEC("fexit/do_filp_open")
int file_on_filp_open(__u64 *ctx)
{
	const struct open_flags *flags;
	const struct pt_regs *regs;
	struct syscall_call call;
	struct opened *opened;
	struct filename *name;
	struct file *file;
	__u64 sandbox;
	__u32 kind;
	bool ring;

	if (hook_unlikely())
		return 0;
	name = (struct filename *)ctx[1];
	flags = (const struct open_flags *)ctx[2];
	file = (struct file *)ctx[3];
	regs = hook_registers();
	call = syscall_finished(regs);
	kind = call_kind(&call);
	ring = open_of_ring(name, file);
	if (ring) {
		if (hook_failed(file))
			return 0;
		kind = CALL_OPENAT;
	}
	if (hook_proved(ctx, regs) || !call_opens(kind) || kind == CALL_OPEN_HANDLE)
		return 0;
	sandbox = sandbox_current();
	if (!sandbox)
		return 0;
	if (hook_failed(file))
		told_note();
	if (!hook_enter(sandbox, FILE_OPEN))
		return 0;
	opened = opened_slot();
	if (opened) {
		opened->name = (__u64)name;
		opened->file = (__u64)file;
		opened->directory = (__s32)ctx[0];
		opened->asked = flags->open_flag;
		opened->call = kind;
		opened->marks = ring ? FILE_URING : 0;
		opened_report(sandbox);
	}
	hook_leave();
	return 0;
}

/*
 * Reports files that were opened by their handle. Why here: as file_on_filp_open. Since 6.1 at least; where
 * the kernel opens some by other ways (those of pidfs since 6.14), file_on_return tells of them.
 */
SEC("fexit/file_open_root")
int BPF_PROG(file_on_open_root, const struct path *root, const char *name, int flags, umode_t mode,
	     struct file *file)
{
	struct syscall_call call;
	struct opened *opened;
	__u64 sandbox;

	if (hook_unlikely())
		return 0;
	call = syscall_finished(hook_registers());
	if (call_kind(&call) != CALL_OPEN_HANDLE || hook_failed(file))
		return 0;
	sandbox = sandbox_current();
	if (!sandbox)
		return 0;
	told_note();
	if (!hook_enter(sandbox, FILE_OPEN))
		return 0;
	opened = opened_slot();
	if (opened) {
		opened->file = (__u64)file;
		opened->asked = flags;
		opened->call = CALL_OPEN_HANDLE;
		opened->marks = 0;
		opened_report(sandbox);
	}
	hook_leave();
	return 0;
}

/*
 * Reports the opens that failed before file_on_filp_open: for want of a descriptor, for arguments that make no sense, for a
 * name that cannot be read. Hangs on the functions that do the work of those calls, each of 64-bit and 32-bit callers
 * alike: see plan.go. What calls them otherwise, io_uring above all, is in none of the system calls.
 * Why not one program with the next: each is loaded once for each function, and the kernel verifies all that it may do.
 */
SEC("fexit/do_sys_openat2")
int file_on_open_return(void *ctx)
{
	const struct pt_regs *regs;
	struct finished *done;
	struct syscall_call call;
	__u64 sandbox;
	__u64 ret;
	__u32 kind;

	if (hook_unlikely())
		return 0;
	regs = hook_registers();
	call = syscall_finished(regs);
	kind = call_kind(&call);
	if (hook_proved(ctx, regs) || !call_opens(kind))
		return 0;
	ret = hook_result(ctx);
	/* All of them return an int, or what fits one. */
	if (kind != CALL_OPEN_HANDLE && (int)ret >= 0)
		return 0;
	sandbox = sandbox_current();
	if (!sandbox || told_take() || !hook_enter(sandbox, FILE_OPEN))
		return 0;
	done = call_finished(regs, &call, kind, sandbox, (int)ret);
	if (done) {
		event_caller_find(&done->caller, bpf_get_current_task_btf());
		open_report();
	}
	hook_leave();
	return 0;
}

/* Reports the calls that change names and files, as file_on_sys_exit does. Hangs as file_on_open_return. */
SEC("fexit/do_unlinkat")
int file_on_return(void *ctx)
{
	const struct pt_regs *regs;
	struct syscall_call call;
	__u64 sandbox;
	__u64 ret;
	__u32 kind;

	if (hook_unlikely())
		return 0;
	regs = hook_registers();
	call = syscall_finished(regs);
	kind = call_kind(&call);
	if (hook_proved(ctx, regs) || !call_changes(kind))
		return 0;
	ret = hook_result(ctx);
	sandbox = sandbox_current();
	if (!sandbox)
		return 0;
	if (hook_enter(sandbox, FILE_CHANGE)) {
		if (call_finished(regs, &call, kind, sandbox, (int)ret) && !change_resolved())
			change_report();
		hook_leave();
	}
	resolved_drop();
	return 0;
}

/* resolved_sandbox is the sandbox of a thread whose call changes names, 0 for none. */
static __always_inline __u64 resolved_sandbox(void)
{
	struct syscall_call call = syscall_finished(hook_registers());

	return call_changes(call_kind(&call)) ? sandbox_current() : 0;
}

/* resolved_note keeps what a path of the kernel's is. */
static __always_inline int resolved_note(const struct vfsmount *mount, const struct dentry *dentry)
{
	__u64 sandbox = resolved_sandbox();

	if (!sandbox || !hook_try())
		return 0;
	resolved_put(0, mount, dentry);
	if (!resolved_begin(sandbox))
		resolved_keep();
	hook_leave();
	return 0;
}

/* resolved_note_two keeps what two paths of the kernel's are. */
static __always_inline int resolved_note_two(const struct vfsmount *mount,
					     const struct dentry *dentry,
					     const struct vfsmount *mount2,
					     const struct dentry *dentry2)
{
	__u64 sandbox = resolved_sandbox();

	if (!sandbox || !hook_try())
		return 0;
	resolved_put(0, mount, dentry);
	resolved_put(1, mount2, dentry2);
	if (!resolved_begin(sandbox) && !resolved_second())
		resolved_keep();
	hook_leave();
	return 0;
}

/*
 * These report nothing themselves: they keep for file_on_return what the paths of its call are, which the kernel has
 * resolved when it comes here. Why fentry and not lsm/path_*: those run only where "bpf" is among the kernel's security
 * modules; and at the entry the node pays less than at the return. Each hangs on several functions: see plan_targets.go, and lib/resolved.h.
 */
SEC("fentry/security_path_unlink")
int BPF_PROG(file_on_path_entry, const struct path *directory, struct dentry *dentry)
{
	if (hook_unlikely())
		return 0;
	return resolved_note(directory->mnt, dentry);
}

SEC("fentry/security_path_chmod")
int BPF_PROG(file_on_path, const struct path *path)
{
	if (hook_unlikely())
		return 0;
	return resolved_note(path->mnt, path->dentry);
}

/* Since 6.2; before, ftruncate asks as truncate does. */
SEC("fentry/security_file_truncate")
int BPF_PROG(file_on_file_truncate, struct file *file)
{
	if (hook_unlikely())
		return 0;
	return resolved_note(file->f_path.mnt, file->f_path.dentry);
}

SEC("fentry/security_path_symlink")
int BPF_PROG(file_on_path_symlink, const struct path *directory, struct dentry *dentry,
	     const char *says)
{
	__u64 sandbox;

	if (hook_unlikely())
		return 0;
	sandbox = resolved_sandbox();
	if (!sandbox || !hook_try())
		return 0;
	resolved_put(0, directory->mnt, dentry);
	if (!resolved_begin(sandbox)) {
		resolved_text(says);
		resolved_keep();
	}
	hook_leave();
	return 0;
}

/* Both names of a link are on one mount: the kernel has refused others. */
SEC("fentry/security_path_link")
int BPF_PROG(file_on_path_link, struct dentry *old, const struct path *directory,
	     struct dentry *dentry)
{
	if (hook_unlikely())
		return 0;
	return resolved_note_two(directory->mnt, old, directory->mnt, dentry);
}

SEC("fentry/security_path_rename")
int BPF_PROG(file_on_path_rename, const struct path *from, struct dentry *old,
	     const struct path *to, struct dentry *dentry)
{
	if (hook_unlikely())
		return 0;
	return resolved_note_two(from->mnt, old, to->mnt, dentry);
}

/* moved is what a call moved, from or to the file that the kernel itself did it with, and by which descriptor. */
static __always_inline void moved_note(__u64 sandbox, struct file *file, __u32 descriptor,
				       __u64 read, __u64 written, __u32 marks)
{
	struct transfer_room *room;

	if (!hook_enter(sandbox, FILE_USE))
		return;
	room = transfer_room();
	if (room) {
		room->first.sandbox = sandbox;
		room->file = file;
		room->descriptor = descriptor;
		room->read = read;
		room->written = written;
		room->marks = marks;
		transfer_add();
	}
	hook_leave();
}

/*
 * Reports files that are mapped to be run, in place of file_on_sys_exit, and notes those that are mapped otherwise.
 * Why here: the file is the kernel's, whatever another thread does to the descriptor and the mappings. Since 6.1 at least.
 * Execs map their program here too: that is told as an exec.
 */
SEC("fexit/vm_mmap_pgoff")
int file_on_mmap(__u64 *ctx)
{
	const struct pt_regs *regs;
	struct syscall_call call;
	struct open_record *record;
	struct file *file;
	__u64 protection;
	__u32 descriptor;
	__u64 sandbox;
	__u64 flags;

	if (hook_unlikely())
		return 0;
	file = (struct file *)ctx[0];
	protection = ctx[3];
	flags = ctx[4];
	regs = hook_registers();
	call = syscall_finished(regs);
	if (hook_proved(ctx, regs) || !file || ctx[6] >= HOOK_ERRORS ||
	    call_kind(&call) != CALL_MMAP)
		return 0;
	if (!(protection & PROT_EXEC) && (!transfers_counted || flags & MAP_ANONYMOUS))
		return 0;
	sandbox = sandbox_current();
	if (!sandbox)
		return 0;
	if (!(protection & PROT_EXEC)) {
		/* The old mmap of i386 has its arguments in memory. */
		descriptor = call.compat && call.number == COMPAT_SYS_OLD_MMAP
				     ? TRANSFER_NO_DESCRIPTOR
				     : (__u32)syscall_argument(regs, call.compat, 4);
		moved_note(sandbox, file, descriptor, 0, 0, TRANSFER_MAPPED);
		return 0;
	}
	if (!hook_enter(sandbox, FILE_MAP))
		return 0;
	record = open_record_begin(sandbox, FILE_MAP);
	if (record) {
		open_record_file(record, file);
		open_record_submit(sandbox, record, FILE_MAP);
	}
	hook_leave();
	return 0;
}

/*
 * Counts what system calls read and write, in place of file_on_sys_exit: each function moves bytes of one file, its
 * first argument, so that another thread cannot put another in its place. Each use is counted and none is told, see
 * lib/transfer.h.
 * Why here and not below, where no socket and no pipe comes by: file systems have no function in common there that
 * knows how much it was, and which ones a file has is known only when it is there (docs/kernels.md). So what others of the
 * node read and write by these calls pays for the hook, as under the tracepoint plan every call does. What io_uring moves, and
 * the kernel for itself, does not come here.
 */
SEC("fexit/vfs_read")
int file_on_moved(__u64 *ctx)
{
	const struct pt_regs *regs;
	struct syscall_call call;
	__u64 ret;
	__u64 sandbox;
	__u32 kind;

	if (hook_unlikely())
		return 0;
	regs = hook_registers();
	ret = hook_result(ctx);
	if (hook_proved(ctx, regs) || (__s64)ret <= 0)
		return 0;
	sandbox = sandbox_current();
	if (!sandbox)
		return 0;
	call = syscall_finished(regs);
	kind = call_kind(&call);
	if (kind != CALL_READ && kind != CALL_WRITE)
		return 0;
	moved_note(sandbox, (struct file *)ctx[0], (__u32)syscall_argument(regs, call.compat, 0),
		   kind == CALL_READ ? ret : 0, kind == CALL_WRITE ? ret : 0, 0);
	return 0;
}

/*
 * Counts what moves bytes between two files, and what ends descriptors, by the caller's registers; and what
 * file_on_moved counts, where a function of it is not there. Hangs on the entries of those calls: few make them.
 */
SEC("fexit/do_sendfile")
int file_on_transfer(__u64 *ctx)
{
	const struct pt_regs *regs;
	struct finished *done;
	struct syscall_call call;
	__u64 ret;
	__u64 sandbox;
	__u32 kind;

	if (hook_unlikely())
		return 0;
	regs = hook_registers();
	if (hook_proved(ctx, regs))
		return 0;
	call = syscall_finished(regs);
	kind = call_kind(&call);
	ret = hook_result(ctx);
	if (!call_transfers(kind) || !transfer_worth(kind, (long)ret))
		return 0;
	sandbox = sandbox_current();
	if (!sandbox || !hook_enter(sandbox, FILE_USE))
		return 0;
	done = call_finished(regs, &call, kind, sandbox, (long)ret);
	if (done)
		transfer_report(done);
	hook_leave();
	return 0;
}

/*
 * Notes descriptors that are closed. Why at the entry: it costs the node's closes less, and what a close refuses is no
 * descriptor. Hangs on the entries of the call.
 */
SEC("fentry/__x64_sys_close")
int file_on_close(void *ctx)
{
	const struct pt_regs *regs;
	__u32 compat;

	if (hook_unlikely())
		return 0;
	regs = hook_registers();
	compat = syscall_compat(regs, task_plain());
	/* What was noted of a descriptor is a sandbox's: there is none to ask for. */
	transfer_close((__u32)syscall_argument(regs, compat, 0));
	return 0;
}

/*
 * Counts what io_submit(2) reads and writes, one request at a time: what came of it where the kernel did it at once, what was
 * asked for where that is still to come. Why here: the file and the request are the kernel's, which no other thread can
 * change, and these two functions are named once in its types, which the call's entries are not before 6.12. Since 6.1 at
 * least, under these names.
 */
SEC("fexit/aio_read")
int file_on_submitted(__u64 *ctx)
{
	__u64 sandbox;

	if (hook_unlikely() || hook_proved(ctx, hook_registers()))
		return 0;
	if ((int)hook_result(ctx))
		return 0;
	sandbox = sandbox_current();
	if (!sandbox || !hook_enter(sandbox, FILE_USE))
		return 0;
	/* Whether addresses have 32 bits is the fourth argument. */
	aio_report_taken(sandbox, ctx[0], ctx[1], (__u8)ctx[3]);
	hook_leave();
	return 0;
}

/* As file_on_submitted, where its functions have become parts of others: at the call's entries, as under the tracepoint plan. */
SEC("fexit/__x64_sys_io_submit")
int file_on_submit(__u64 *ctx)
{
	const struct pt_regs *regs;
	struct syscall_call call;
	__u64 ret;
	__u64 sandbox;

	if (hook_unlikely())
		return 0;
	regs = hook_registers();
	if (hook_proved(ctx, regs))
		return 0;
	call = syscall_finished(regs);
	ret = hook_result(ctx);
	if (call_kind(&call) != CALL_SUBMIT || (long)ret <= 0)
		return 0;
	sandbox = sandbox_current();
	if (!sandbox || !hook_enter(sandbox, FILE_USE))
		return 0;
	submit_report(regs, &call, sandbox, (long)ret);
	hook_leave();
	return 0;
}

/*
 * Has the kernel side count an open. Run by user space, of which no two do so at once. Arguments: the key's mix, inode and
 * start, its device and in the upper half its pid, and the sandbox. It returns one more than the place, 0 where there is none.
 */
SEC("raw_tp")
int file_repeat_begin(struct bpf_raw_tracepoint_args *ctx)
{
	struct repeat_key key = {
		.mix = ctx->args[0],
		.inode = ctx->args[1],
		.start = ctx->args[2],
		.device = (__u32)ctx->args[3],
		.pid = ctx->args[3] >> 32,
	};
	__u64 sandbox = ctx->args[4];
	__u32 place = repeat_place(&key);

	if (repeat_take(place, sandbox, &key, FILE_OPEN))
		return place + 1;
	return repeat_take(place + 1, sandbox, &key, FILE_OPEN) ? place + 2 : 0;
}

/*
 * Says that what was counted of an open was told, so many times, and may have it counted no more. Run by user space. Arguments:
 * the place, how many, and whether that ends.
 */
SEC("raw_tp")
int file_repeat_told(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 place = ctx->args[0];

	if (ctx->args[2])
		repeat_end(place);
	repeat_told(place, ctx->args[1], FILE_OPEN);
	return 0;
}

ABI_ENUM(call);
ABI_ENUM(file_operation);
ABI_ENUM(transfer_packing);
ABI_ENUM(moving_place);
ABI_ENUM(moving_state);
ABI_STRUCT(open);
ABI_STRUCT(change);
ABI_STRUCT(repeat_key);
ABI_STRUCT(repeat);
ABI_STRUCT(transfer_key);
ABI_STRUCT(plain_key);
ABI_STRUCT(transfer);
ABI_STRUCT(moving);
