/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
//go:build ignore

/*
 * The process probe: which processes were born, what they run, how they ended.
 *
 * Owns fork, exec and exit of processes, their moves between cgroups, and telling of those that lived before
 * they were watched. Threads are not told. It must not read what a program says of itself later, only
 * what exec committed.
 *
 * Misses: execs that failed; a program that rewrites its arguments after exec; strays of a sandbox whose
 * cgroup was removed, with which it is over.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/*
 * Of the iterator there is one run at a time, by user space's care, and of the hook of moves by the kernel's, which calls it
 * with a lock: a slot each for all CPUs. Each room of execs has one. The loader sets how many those are together.
 */
#define PATH_SHARED
#define PATH_SLOT_ITERATOR 0
#define PATH_SLOT_MOVE 1
#define PATH_SLOT_EXEC 2

#include "lib/compat.h"
#include "lib/event.h"
#include "lib/outside.h"
#include "lib/path.h"
#include "lib/room.h"
#include "lib/sandbox.h"
#include "lib/task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Macros of the kernel, which BTF does not carry. */
#define CLONE_PARENT 0x00008000
#define CLONE_THREAD 0x00010000
#define CLONE_INTO_CGROUP 0x200000000ull
#define PF_KTHREAD 0x00200000
#define SIGNAL_GROUP_EXIT 0x00000004
#define OVERLAYFS_SUPER_MAGIC 0x794c7630
#define MNT_READONLY 0x40
#define SB_RDONLY 1

/* EXEC_ARGUMENTS_BYTES is the most that is told of the arguments: the longest single one Linux takes. */
#define EXEC_ARGUMENTS_BYTES (128 * 1024)
/* EXEC_ENVIRONMENT_BYTES is how much of the environment is searched for the names asked for. */
#define EXEC_ENVIRONMENT_BYTES (128 * 1024)
/* EXEC_ENVIRONMENT_STEPS bounds the search: each step looks at so many words and ends of variables, and each byte may be one. */
#define EXEC_ENVIRONMENT_STEPS 4096
#define EXEC_ENVIRONMENT_RUN 64
/* EXEC_VARIABLE_BYTES is the longest variable told, with its name and a terminating NUL. */
#define EXEC_VARIABLE_BYTES 4096
/* EXEC_VARIABLES_BYTES is the most that is told of all variables. */
#define EXEC_VARIABLES_BYTES (16 * 1024)
/*
 * EXEC_TEXT_MASK bounds the text before the arguments: three paths of less than 4 KiB and the
 * variables. Offsets are masked with it, since the 6.1 verifier does not learn from a comparison.
 */
#define EXEC_TEXT_MASK (32 * 1024 - 1)

#define ENVIRONMENT_NAMES 32
#define ENVIRONMENT_NAME_WORDS 8
/* ENVIRONMENT_HEAD_BYTES is how much of a variable is compared: longer than each name, with a NUL. */
#define ENVIRONMENT_HEAD_BYTES 128
/* ENVIRONMENT_BLOCK is how much of the environment is read at once: a page. Offsets in it are masked as in text. */
#define ENVIRONMENT_BLOCK 4096
#define ENVIRONMENT_BLOCK_MASK (2 * ENVIRONMENT_BLOCK - 1)
/* ENVIRONMENT_HASH makes a hash of a name's first 8 bytes: the product's 16 highest bits. User space does the same. */
#define ENVIRONMENT_HASH 0x9e3779b97f4a7c15ull

enum process_kind {
	PROCESS_FORK = 1,
	PROCESS_EXEC = 2,
	PROCESS_EXIT = 3,
	PROCESS_EXISTING = 4,
	PROCESS_MOVE = 5,
};

enum exec_flags {
	/* A script: an interpreter runs, and the file name is the script's. */
	EXEC_SCRIPT = 1,
	/* The executable lies in no directory (memfd). */
	EXEC_PSEUDO = 2,
	/* The executable's last name is gone. */
	EXEC_DELETED = 4,
	/* On an overlay: in the layer that is written to, or in one of the image's. */
	EXEC_UPPER = 8,
	EXEC_LOWER = 16,
	/* Neither the mount nor the file system it is on is read-only. */
	EXEC_WRITABLE = 32,
	EXEC_NO_NEW_PRIVS = 64,
	/* The program got ids or capabilities that its caller did not have: AT_SECURE. */
	EXEC_SECURE = 128,
};

enum exit_flags {
	/* The kernel chose it when memory had run out. */
	EXIT_OOM = 1,
};

/* usage is what threads used. */
struct usage {
	/* Nanoseconds on a CPU, exactly; then in user and in kernel mode, as sampled. */
	__u64 runtime;
	__u64 user;
	__u64 system;
	/* Bytes through read(2) and write(2) and the like, and those that went to and from disks. */
	__u64 read;
	__u64 written;
	__u64 disk_read;
	__u64 disk_written;
	__u64 minor_faults;
	__u64 major_faults;
	/* The most memory that was resident, in pages. */
	__u64 resident;
};

/* fork is the birth of a process; the header is about the child. */
struct fork {
	struct event_header header;
	__u64 flags;
};

/*
 * exec is a new program. Text follows, in this order and without padding: the executable's path, the
 * current directory, the file name asked for, the variables and the arguments, the last two with a NUL
 * after each.
 */
struct exec {
	struct event_header header;
	__u64 inode;
	/* Nanoseconds since 1970. */
	__u64 changed;
	__u64 modified;
	/* The kernel's own encoding: major << 20 | minor. */
	__u32 device;
	/* The super block's magic number: the type of the file system. */
	__u32 filesystem;
	__u32 links;
	__u32 arguments;
	__u32 executable_size;
	__u32 directory_size;
	__u32 filename_size;
	__u32 variables_size;
	__u32 arguments_size;
	__u32 flags;
	struct task_credentials credentials;
	struct task_namespaces namespaces;
	/* Those of them that are not the node's own, and those of which that is not known: a bit each, in order. */
	__u32 namespaces_own;
	__u32 namespaces_unknown;
	/* SECCOMP_MODE_*, and how many filters there are. */
	__u32 seccomp;
	__u32 seccomp_filters;
	/* Process group and session in the initial PID namespace; the audit login id, -1 when none was set. */
	__u32 group;
	__u32 session;
	__u32 login_uid;
	/* The executable's st_mode. */
	__u32 mode;
	__u8 tty[TASK_TTY_BYTES];
};

/* exit is the end of a process: of its last thread. What it used is of all its threads, not of its children. */
struct exit {
	struct event_header header;
	struct usage usage;
	/* As wait(2) reports it. */
	__u32 status;
	__u32 flags;
};

/* existing is a process that was alive when it became watched. Its executable's path follows. */
struct existing {
	struct event_header header;
	__u32 executable_size;
	__u32 reserved;
};

enum move_flags {
	/* It did not move: it was born in the other cgroup, by CLONE_INTO_CGROUP. */
	MOVE_BORN = 1,
	/* One thread of it alone. */
	MOVE_THREAD = 2,
};

/* MOVE_PATH_BYTES is the kernel's own limit: the tracepoint's path comes from a buffer of that size. */
#define MOVE_PATH_BYTES 1024

/* move is a process that went to another cgroup; the header is about it. */
struct move {
	struct event_header header;
	/* The cgroups' ids; from is 0 where it is not known. */
	__u64 from;
	__u64 to;
	/* The sandboxes that it was in and is in, 0 for none. */
	__u64 left;
	__u64 joined;
	/* Who did it. */
	__u64 mover_start;
	__u32 mover_pid;
	__u32 mover_uid;
	__u8 mover_comm[16];
	__u32 flags;
	/* The path of the new cgroup below the cgroup2 mount. */
	__u32 path_size;
	__u8 path[MOVE_PATH_BYTES];
};

/* environment_name is one variable to look for, "NAME=", and a mask of the bytes that count. */
struct environment_name {
	__u64 words[ENVIRONMENT_NAME_WORDS];
	__u64 masks[ENVIRONMENT_NAME_WORDS];
};

/* environment is all variables to look for. */
struct environment {
	/* A bit for the hash of the first bytes of each name, as many as the mask has: most variables need no further look. */
	__u8 starts[8192];
	__u64 start_mask;
	struct environment_name names[ENVIRONMENT_NAMES];
	__u32 count;
	__u32 reserved;
};

ABI_STRUCT(event_header);
ABI_STRUCT(event_tally);
ABI_STRUCT(event_budget);
ABI_STRUCT(event_count);
ABI_STRUCT(fork);
ABI_STRUCT(exec);
ABI_STRUCT(task_credentials);
ABI_STRUCT(task_namespaces);
ABI_STRUCT(exit);
ABI_STRUCT(usage);
ABI_STRUCT(existing);
ABI_STRUCT(move);
ABI_STRUCT(stray);
ABI_STRUCT(environment);
ABI_STRUCT(room_door);
ABI_ENUM(event_flags);
ABI_ENUM(process_kind);
ABI_ENUM(exec_flags);
ABI_ENUM(exit_flags);
ABI_ENUM(move_flags);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct environment);
} environments SEC(".maps");

/* environment_scan is how far the search of one environment is. In a map: see lib/path.h on loops. */
struct environment_scan {
	/* Where the block begins that was read last, and where the environment ends. */
	__u64 at;
	__u64 end;
	/* The ends of variables in the word before next that are still to be seen to: the top bit of each such byte. */
	__u64 nuls;
	/* The size of the block, and its next word. */
	__u32 size;
	__u32 next;
	/* Set where a variable begins with the next block. */
	__u32 begins;
	__u32 done;
	/* The front of a variable that may be wanted. */
	__u64 head[ENVIRONMENT_HEAD_BYTES / 8];
};

/* exec_room is where an exec's record is put together. */
struct exec_room {
	struct environment_scan scan;
	/* How much of text is written. */
	__u32 used;
	/* The slot of path_walks that goes with it. */
	__u32 walk;
	struct exec exec;
	union {
		__u8 text[EXEC_TEXT_MASK + 1 + EXEC_ARGUMENTS_BYTES];
		/* The block of the environment is where only arguments come, and those after it. */
		struct {
			__u8 before[EXEC_TEXT_MASK + 1 + EXEC_VARIABLE_BYTES];
			__u64 block[(ENVIRONMENT_BLOCK_MASK + 1) / 8 + 1];
		};
	};
};

/* exec_rooms is as many as the loader says: see lib/room.h. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct exec_room);
} exec_rooms SEC(".maps");

/* exec_context is on the stack and constant during a loop. */
struct exec_context {
	struct exec_room *room;
	const struct environment *environment;
	/* Which of the rooms that is. */
	__u32 at;
	__u32 reserved;
};

/*
 * label is the sandbox that a process was last in, and its cgroup: at the hook of a move it is already
 * in the new one. In the storage of its first thread, which the kernel frees with it. Every process with a thread in
 * a sandbox has one: sandbox_unlikely() takes that for granted.
 */
struct label {
	__u64 sandbox;
	__u64 cgroup;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct label);
} labels SEC(".maps");

static __always_inline void label_failed(void)
{
	__sync_fetch_and_add(unlabelled_count(), 1);
}

/* label_set notes where a process is; task is its first thread. */
static __always_inline void label_set(struct task_struct *task, __u64 sandbox, __u64 cgroup)
{
	struct label *label =
		bpf_task_storage_get(&labels, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!label) {
		label_failed();
		return;
	}
	label->sandbox = sandbox;
	label->cgroup = cgroup;
}

/* stray_add has a process keep its sandbox. */
static __always_inline void stray_add(struct task_struct *task, __u64 sandbox)
{
	struct stray stray = {.sandbox = sandbox, .start = task->group_leader->start_boottime};
	__u64 *count = stray_count();
	__u32 pid = task->tgid;

	if (bpf_map_update_elem(&strays, &pid, &stray, BPF_NOEXIST)) {
		/* It is there already, with another sandbox perhaps, or there is no room. */
		if (bpf_map_update_elem(&strays, &pid, &stray, BPF_EXIST))
			label_failed();
		return;
	}
	outside_add(count);
}

/* stray_remove forgets a stray that came back, or ended. */
static __always_inline void stray_remove(__u32 pid)
{
	__u64 *count = stray_count();

	if (count && *count && !bpf_map_delete_elem(&strays, &pid))
		__sync_fetch_and_sub(count, 1);
}

/* moved is what there is to tell of a move. */
struct moved {
	__u64 from;
	__u64 to;
	__u64 left;
	__u64 joined;
	__u32 flags;
	__u32 reserved;
};

/* move_begin reserves the record of a move of task, by the current task, and fills in all but the path. */
static __always_inline struct move *move_begin(__u64 sandbox, struct task_struct *task,
					       const struct moved *found)
{
	struct move *move = event_reserve_as(sandbox, EVENT_KEPT | PROCESS_MOVE, sizeof(*move));
	struct task_struct *mover = bpf_get_current_task_btf();

	if (!move)
		return NULL;
	event_header_begin(&move->header, sandbox, PROCESS_MOVE);
	event_header_task(&move->header, task);
	move->mover_start = mover->group_leader->start_boottime;
	move->mover_pid = mover->tgid;
	move->mover_uid = mover->cred->euid.val;
	bpf_core_read_str(move->mover_comm, sizeof(move->mover_comm), &mover->comm);
	move->header.cgroup = found->to;
	move->from = found->from;
	move->to = found->to;
	move->left = found->left;
	move->joined = found->joined;
	move->flags = found->flags;
	move->path_size = 0;
	return move;
}

/* fork_stray returns the sandbox of a child that is in no watched cgroup: its parent's, of which it is a stray then. */
static __always_inline __u64 fork_stray(struct task_struct *child, __u64 cgroup, __u32 flags)
{
	__u64 parent = bpf_get_current_cgroup_id();
	struct moved found = {.from = parent, .to = cgroup, .flags = MOVE_BORN | flags};
	struct move *move;
	__u64 sandbox;

	if (parent == cgroup && !stray_any())
		return 0;
	sandbox = sandbox_current();
	if (!sandbox)
		return 0;
	stray_add(child, sandbox);
	if (parent == cgroup)
		return sandbox;
	found.left = sandbox;
	move = move_begin(sandbox, child, &found);
	if (move)
		event_submit(move);
	return sandbox;
}

/*
 * fork_outside says that a child is in no sandbox, at the cost of a few loads: so is its parent, and it is in the same
 * cgroups. False says nothing. The parent is the current task, but where a child becomes its sibling.
 */
static __always_inline bool fork_outside(const struct task_struct *child, __u64 flags)
{
	const struct task_struct *parent = child->real_parent;

	return !(flags & CLONE_PARENT) && sandbox_unlikely(parent) &&
	       child->cgroups == parent->cgroups;
}

/* thread_label labels the process of a thread that is in a sandbox by itself, in a threaded cgroup. False: it is in none. */
static __always_inline bool thread_label(struct task_struct *thread, __u64 cgroup)
{
	struct task_struct *leader = thread->group_leader;

	if (!sandbox_of(cgroup))
		return false;
	if (!leader->bpf_storage)
		label_set(leader, 0, 0);
	return true;
}

/* fork_thread sees to a thread that is born in another cgroup than the one that made it, into a sandbox or out of one. */
static __always_inline void fork_thread(struct task_struct *thread)
{
	__u64 cgroup = sandbox_cgroup_of(thread);

	if (!thread_label(thread, cgroup))
		fork_stray(thread, cgroup, MOVE_THREAD);
}

/*
 * fork_inside is the rest of the program for a child that may be in a sandbox. A function of its own, as those for execs
 * and ends are: for all others the program is a few instructions that lie together, and has nothing to save.
 */
static __noinline int fork_inside(struct task_struct *child, __u64 flags)
{
	struct fork *fork;
	__u64 sandbox;
	__u64 cgroup;

	if (flags & CLONE_THREAD) {
		fork_thread(child);
		return 0;
	}
	cgroup = sandbox_cgroup_of(child);
	sandbox = sandbox_of(cgroup);
	if (!sandbox)
		sandbox = fork_stray(child, cgroup, 0);
	if (!sandbox)
		return 0;
	label_set(child, sandbox, cgroup);
	fork = event_reserve_as(sandbox, EVENT_VITAL | PROCESS_FORK, sizeof(*fork));
	if (!fork)
		return 0;
	event_header_begin(&fork->header, sandbox, PROCESS_FORK);
	fork->header.cgroup = cgroup;
	event_header_task(&fork->header, child);
	fork->flags = flags;
	event_submit(fork);
	return 0;
}

/*
 * Reports the birth of a process; the record is about the child.
 * Why not sched_process_fork: it runs after the child may have been seen elsewhere, and not for threads
 * of io_uring. At this hook the child is in its cgroup (CLONE_INTO_CGROUP, 5.7) and has not run yet.
 * Since 5.5 (tp_btf), 5.11 (task storage).
 */
SEC("tp_btf/task_newtask")
int BPF_PROG(process_on_newtask, struct task_struct *child, __u64 flags)
{
	/* A thread is born where its process is, unless somebody wants it elsewhere. */
	if ((flags & (CLONE_THREAD | CLONE_INTO_CGROUP)) == CLONE_THREAD)
		return 0;
	if (!(flags & CLONE_THREAD) && fork_outside(child, flags))
		return 0;
	return fork_inside(child, flags);
}

/* environment_wants says whether a variable that starts with these bytes was asked for. Global: verified once. */
__noinline int environment_wants(const struct environment_name *head)
{
	struct environment *environment;
	__u32 zero = 0;
	__u32 i;
	__u32 j;

	if (!head)
		return 0;
	environment = bpf_map_lookup_elem(&environments, &zero);
	if (!environment)
		return 0;
	for (i = 0; i < ENVIRONMENT_NAMES; i++) {
		const struct environment_name *name = &environment->names[i];
		__u64 differs;

		if (i >= environment->count)
			break;
		differs = (head->words[0] ^ name->words[0]) & name->masks[0];
		if (differs)
			continue;
		for (j = 1; j < ENVIRONMENT_NAME_WORDS; j++)
			differs |= (head->words[j] ^ name->words[j]) & name->masks[j];
		if (!differs)
			return 1;
	}
	return 0;
}

/* environment_take copies the variable at an address into the record. */
static __always_inline void environment_take(struct exec_room *room, __u64 address)
{
	__u32 used = room->used;
	long size;

	if (room->exec.variables_size > EXEC_VARIABLES_BYTES - EXEC_VARIABLE_BYTES) {
		room->exec.header.flags |= EVENT_TRUNCATED;
		return;
	}
	size = compat_read_user_str(&room->text[used & EXEC_TEXT_MASK], EXEC_VARIABLE_BYTES,
				    (void *)address);
	if (size <= 0) {
		room->exec.header.flags |= EVENT_TRUNCATED;
		return;
	}
	if (size == EXEC_VARIABLE_BYTES)
		room->exec.header.flags |= EVENT_TRUNCATED;
	room->used = used + size;
	room->exec.variables_size += size;
}

/* environment_look takes the variable at an address, if it was asked for. Global: verified once. */
__noinline int environment_look(__u32 at, __u64 address)
{
	struct exec_room *room = bpf_map_lookup_elem(&exec_rooms, &at);

	if (!room)
		return 0;
	if (compat_read_user_str(room->scan.head, sizeof(room->scan.head), (void *)address) <= 0)
		room->exec.header.flags |= EVENT_TRUNCATED;
	else if (environment_wants((const struct environment_name *)room->scan.head))
		environment_take(room, address);
	return 0;
}

/* environment_begin sees to the variable that begins at an offset of the block. */
static __always_inline void environment_begin(struct exec_context *context, __u32 offset)
{
	struct exec_room *room = context->room;
	struct environment_scan *scan = &room->scan;
	__u64 start;

	if (offset >= scan->size) {
		/* What lies behind the block's end is of another one. */
		if (offset == scan->size)
			scan->begins = 1;
		return;
	}
	start = *(__u64 *)((__u8 *)room->block + (offset & ENVIRONMENT_BLOCK_MASK));
	start = (start & context->environment->start_mask) * ENVIRONMENT_HASH >> 48;
	if (offset + sizeof(start) <= scan->size &&
	    !(context->environment->starts[start >> 3] & (1 << (start & 7))))
		return;
	environment_look(context->at, scan->at + offset);
}

/*
 * environment_block reads the next block: what is left of a page, so that a page that is not there takes nothing of
 * another one with it. It returns 1 where there is no more.
 */
static __always_inline long environment_block(struct exec_room *room)
{
	struct environment_scan *scan = &room->scan;
	__u64 at = scan->at + scan->size;
	__u64 size = ENVIRONMENT_BLOCK - (at & (ENVIRONMENT_BLOCK - 1));

	if (at >= scan->end) {
		scan->done = 1;
		return 1;
	}
	if (size > scan->end - at)
		size = scan->end - at;
	/* Masked: the 6.1 verifier does not learn from the comparison. */
	size = ((size - 1) & (ENVIRONMENT_BLOCK - 1)) + 1;
	if (bpf_probe_read_user(room->block, size, (void *)at))
		return 1;
	scan->at = at;
	scan->size = size;
	scan->next = 0;
	return 0;
}

/* environment_nuls has the top bit of each byte of a word set that is NUL, and no other. */
static __always_inline __u64 environment_nuls(__u64 word)
{
	const __u64 low = 0x7f7f7f7f7f7f7f7full;

	return ~(((word & low) + low) | word | low);
}

/* environment_first is the place in a word of the first byte that environment_nuls() found: the product's top byte has it. */
static __always_inline __u32 environment_first(__u64 nuls)
{
	return ((nuls & -nuls) >> 7) * 0x0001020304050607ull >> 56;
}

/*
 * environment_step goes on with the block, for so many words and ends of variables, or with the next one. It returns 1 at
 * the end. Why words: a call for each variable took longer than all the rest of an exec.
 */
static long environment_step(__u32 index, struct exec_context *context)
{
	struct exec_room *room = context->room;
	struct environment_scan *scan = &room->scan;
	__u64 nuls;
	__u32 next;
	__u32 i;

	if (!scan->nuls && scan->next >= scan->size) {
		if (environment_block(room))
			return 1;
		if (scan->begins) {
			scan->begins = 0;
			environment_begin(context, 0);
		}
	}
	nuls = scan->nuls;
	next = scan->next;
	for (i = 0; i < EXEC_ENVIRONMENT_RUN; i++) {
		next &= ENVIRONMENT_BLOCK_MASK & ~7;
		if (nuls) {
			__u32 end = next - 8 + environment_first(nuls);

			nuls &= nuls - 1;
			environment_begin(context, end + 1);
			continue;
		}
		if (next >= scan->size)
			break;
		nuls = environment_nuls(room->block[next / 8]);
		next += 8;
	}
	scan->nuls = nuls;
	scan->next = next;
	return 0;
}

/* exec_environment searches the environment for the variables that were asked for. */
static __always_inline void exec_environment(struct exec_room *room, __u32 at,
					     const struct mm_struct *mm)
{
	struct exec_context context = {.room = room, .at = at};
	struct environment_scan *scan = &room->scan;
	__u32 zero = 0;

	context.environment = bpf_map_lookup_elem(&environments, &zero);
	if (!context.environment || context.environment->count == 0)
		return;
	scan->at = mm->env_start;
	scan->end = mm->env_end;
	scan->nuls = 0;
	scan->size = 0;
	scan->next = 0;
	scan->begins = 1;
	scan->done = 0;
	if (scan->end - scan->at > EXEC_ENVIRONMENT_BYTES) {
		scan->end = scan->at + EXEC_ENVIRONMENT_BYTES;
		room->exec.header.flags |= EVENT_TRUNCATED;
	}
	bpf_loop(EXEC_ENVIRONMENT_STEPS, environment_step, &context, 0);
	if (!scan->done)
		room->exec.header.flags |= EVENT_TRUNCATED;
}

/* exec_text_path appends a resolved path to the text and returns its size. */
static __always_inline __u32 exec_text_path(struct exec_room *room, const struct path_walk *walk)
{
	__u32 size;

	if (!walk)
		return 0;
	size = path_copy(&room->text[room->used & EXEC_TEXT_MASK], walk);
	room->used += size;
	if (walk->flags & PATH_TRUNCATED)
		room->exec.header.flags |= EVENT_TRUNCATED;
	return size;
}

/*
 * exec_layer tells which layer of an overlay a file is in. The overlay's own inode is followed by the
 * dentry of the upper layer, NULL while the file is only in a lower one: so in every kernel from 4.19 to
 * 6.18. Its type cannot be asked for, because overlay is a module on many kernels, whose types are not
 * the kernel's.
 */
static __always_inline __u32 exec_layer(struct inode *inode)
{
	__u64 upper = direct_word((__u64)inode + bpf_core_type_size(struct inode));

	return upper ? EXEC_UPPER : EXEC_LOWER;
}

/* exec_executable tells the file that runs, from the kernel's own reference to it. */
static __always_inline void exec_executable(struct exec_room *room, struct mm_struct *mm)
{
	struct file *file = mm->exe_file;
	struct inode *inode = file->f_inode;
	struct super_block *filesystem = inode->i_sb;
	struct exec *exec = &room->exec;
	struct path_walk *walk;

	exec->inode = inode->i_ino;
	exec->device = filesystem->s_dev;
	exec->filesystem = filesystem->s_magic;
	exec->links = inode->i_nlink;
	exec->changed = compat_inode_ctime(inode);
	exec->modified = compat_inode_mtime(inode);
	exec->mode = inode->i_mode;
	if (exec->filesystem == OVERLAYFS_SUPER_MAGIC)
		exec->flags |= exec_layer(inode);
	if (!(file->f_path.mnt->mnt_flags & MNT_READONLY) && !(filesystem->s_flags & SB_RDONLY))
		exec->flags |= EXEC_WRITABLE;
	walk = path_resolve_file(room->walk, file);
	exec->executable_size = exec_text_path(room, walk);
	if (walk && (walk->flags & PATH_PSEUDO))
		exec->flags |= EXEC_PSEUDO;
	if (walk && (walk->flags & PATH_DELETED))
		exec->flags |= EXEC_DELETED;
}

/*
 * node_namespaces is the node's own, in the order of task_namespaces, 0 where not known. The loader sets
 * those that are constants of the kernel, the first run of the iterator the others.
 */
volatile __u32 node_namespaces[TASK_NAMESPACES];

static __always_inline void exec_own_namespaces(struct exec *exec)
{
	const __u32 *numbers = (const __u32 *)&exec->namespaces;
	__u32 i;

	for (i = 0; i < TASK_NAMESPACES; i++) {
		__u32 node = node_namespaces[i];

		if (!node)
			exec->namespaces_unknown |= 1u << i;
		else if (numbers[i] != node)
			exec->namespaces_own |= 1u << i;
	}
}

/* exec_task tells what the new program may do, and where. */
static __always_inline void exec_task(struct exec *exec, struct task_struct *task,
				      struct linux_binprm *binprm)
{
	struct tty_struct *tty = task->signal->tty;

	task_read_credentials(&exec->credentials, task);
	task_read_namespaces(&exec->namespaces, task);
	if (task_no_new_privs(task))
		exec->flags |= EXEC_NO_NEW_PRIVS;
	if (BPF_CORE_READ_BITFIELD(binprm, secureexec))
		exec->flags |= EXEC_SECURE;
	exec_own_namespaces(exec);
	exec->seccomp = task->seccomp.mode;
	exec->seccomp_filters = task->seccomp.filter_count.counter;
	exec->group = task_group(task, TASK_PIDTYPE_PGID);
	exec->session = task_group(task, TASK_PIDTYPE_SID);
	exec->login_uid = -1;
	/* Without CONFIG_AUDIT there is none. */
	if (bpf_core_field_exists(task->loginuid))
		exec->login_uid = task->loginuid.val;
	if (tty)
		bpf_core_read_str(exec->tty, sizeof(exec->tty), &tty->name);
}

/* exec_filename tells what was asked for when something else runs: a script, whose interpreter does. */
static __always_inline void exec_filename(struct exec_room *room, struct linux_binprm *binprm)
{
	const char *filename = binprm->filename;
	long size;

	if (binprm->interp == filename)
		return;
	room->exec.flags |= EXEC_SCRIPT;
	size = bpf_probe_read_kernel_str(&room->text[room->used & EXEC_TEXT_MASK], PATH_END,
					 filename);
	if (size <= 1)
		return;
	room->exec.filename_size = size - 1;
	room->used += size - 1;
}

/* exec_arguments copies the arguments and returns the size of the whole record. */
static __always_inline __u64 exec_arguments(struct exec_room *room, const struct mm_struct *mm)
{
	__u64 start = mm->arg_start;
	__u64 size = mm->arg_end - start;
	__u32 used = room->used & EXEC_TEXT_MASK;
	__u64 last;

	if (size == 0)
		return sizeof(room->exec) + used;
	if (size > EXEC_ARGUMENTS_BYTES) {
		size = EXEC_ARGUMENTS_BYTES;
		room->exec.header.flags |= EVENT_TRUNCATED;
	}
	/* Never past the end: behind the arguments may be no memory, and then nothing at all is read. */
	last = (size - 1) & (EXEC_ARGUMENTS_BYTES - 1);
	if (bpf_probe_read_user(&room->text[used], last + 1, (void *)start)) {
		room->exec.header.flags |= EVENT_TRUNCATED;
		return sizeof(room->exec) + used;
	}
	room->exec.arguments_size = last + 1;
	return sizeof(room->exec) + used + last + 1;
}

/* exec_inside is the rest of the program for an exec that may be a sandbox's. */
static __noinline int exec_inside(struct task_struct *task, pid_t old_pid,
				  struct linux_binprm *binprm)
{
	__u64 sandbox = sandbox_current();
	struct exec_room *room;
	struct mm_struct *mm;
	struct exec *exec;
	__u64 size;
	__s32 at;

	if (!sandbox)
		return 0;
	/* An exec of another thread than the first makes it the first, without what was stored with that. */
	if (task->pid != old_pid || !task->bpf_storage)
		label_set(task, sandbox, sandbox_cgroup_of(task));
	at = room_take();
	room = at < 0 ? NULL : bpf_map_lookup_elem(&exec_rooms, &at);
	if (!room) {
		event_lose(sandbox, PROCESS_EXEC);
		return 0;
	}
	exec = &room->exec;
	__builtin_memset(exec, 0, sizeof(*exec));
	room->used = 0;
	room->walk = PATH_SLOT_EXEC + at;
	event_header_fill(&exec->header, sandbox, PROCESS_EXEC);
	exec->arguments = binprm->argc;
	mm = task->mm;
	exec_task(exec, task, binprm);
	exec_executable(room, mm);
	exec->directory_size = exec_text_path(room, path_resolve_cwd(room->walk));
	exec_filename(room, binprm);
	exec_environment(room, at, mm);
	size = exec_arguments(room, mm);
	event_output_as(sandbox, EVENT_VITAL | PROCESS_EXEC, exec, size);
	room_leave(at);
	return 0;
}

/*
 * Reports a new program: its file, arguments, current directory and some of its environment.
 * Why not sys_enter_execve: arguments read there are another thread's to change, may not be in memory
 * yet, and the exec may fail. Here the new memory is in place and nothing of it has run. Since 5.5
 * (tp_btf). Misses: nothing that succeeded.
 */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_on_exec, struct task_struct *task, pid_t old_pid, struct linux_binprm *binprm)
{
	/* Why not where another thread executes: nothing is stored with it yet, whoever's it is. */
	if (task->pid == old_pid && sandbox_unlikely(task))
		return 0;
	return exec_inside(task, old_pid, binprm);
}

/* usage_add adds what a thread used that is not in its process's account: that takes only those that are gone. */
static __always_inline void usage_add(struct usage *usage, const struct task_struct *thread)
{
	usage->runtime += DIRECT_READ(struct task_struct, thread, se.sum_exec_runtime);
	usage->user += DIRECT_READ(struct task_struct, thread, utime);
	usage->system += DIRECT_READ(struct task_struct, thread, stime);
	usage->minor_faults += DIRECT_READ(struct task_struct, thread, min_flt);
	usage->major_faults += DIRECT_READ(struct task_struct, thread, maj_flt);
	/* Without CONFIG_TASK_XACCT and CONFIG_TASK_IO_ACCOUNTING there are none. */
	if (bpf_core_field_exists(thread->ioac.rchar)) {
		usage->read += DIRECT_READ(struct task_struct, thread, ioac.rchar);
		usage->written += DIRECT_READ(struct task_struct, thread, ioac.wchar);
	}
	if (bpf_core_field_exists(thread->ioac.read_bytes)) {
		usage->disk_read += DIRECT_READ(struct task_struct, thread, ioac.read_bytes);
		usage->disk_written += DIRECT_READ(struct task_struct, thread, ioac.write_bytes);
	}
}

/* USAGE_STEPS bounds the walk over a process's threads, with walks that begin again. */
#define USAGE_STEPS 2048

/* usage_walk is how far the threads of a process are added up. It lives in a map value: see lib/path.h. */
struct usage_walk {
	struct usage sum;
	__u64 signal;
	/* The list node that is next; 0 before the first. */
	__u64 at;
	__u32 sequence;
	__u32 done;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct usage_walk);
} usage_walks SEC(".maps");

/* usage_sequence is odd while, and another after, a thread that is gone is put into its process's account. */
static __always_inline __u32 usage_sequence(const struct signal_struct *signal)
{
	return BPF_CORE_READ(signal, stats_lock.seqcount.seqcount.sequence);
}

/* usage_context is on the stack and constant during a loop. */
struct usage_context {
	struct usage_walk *walk;
};

/* usage_begin takes the process's account, of the threads that are gone. */
static __always_inline void usage_begin(struct usage_walk *walk, struct signal_struct *signal)
{
	struct usage *usage = &walk->sum;

	walk->sequence = usage_sequence(signal);
	usage->runtime = DIRECT_READ(struct signal_struct, signal, sum_sched_runtime);
	usage->user = DIRECT_READ(struct signal_struct, signal, utime);
	usage->system = DIRECT_READ(struct signal_struct, signal, stime);
	usage->minor_faults = DIRECT_READ(struct signal_struct, signal, min_flt);
	usage->major_faults = DIRECT_READ(struct signal_struct, signal, maj_flt);
	usage->read = 0;
	usage->written = 0;
	usage->disk_read = 0;
	usage->disk_written = 0;
	if (bpf_core_field_exists(signal->ioac.rchar)) {
		usage->read = DIRECT_READ(struct signal_struct, signal, ioac.rchar);
		usage->written = DIRECT_READ(struct signal_struct, signal, ioac.wchar);
	}
	if (bpf_core_field_exists(signal->ioac.read_bytes)) {
		usage->disk_read = DIRECT_READ(struct signal_struct, signal, ioac.read_bytes);
		usage->disk_written = DIRECT_READ(struct signal_struct, signal, ioac.write_bytes);
	}
	walk->at = (__u64)DIRECT_READ(struct signal_struct, signal, thread_head.next);
}

/* usage_step adds one thread; at the end of the list it says whether none has left it meanwhile. */
static long usage_step(__u32 index, void *data)
{
	const struct usage_context *context = data;
	struct usage_walk *walk = context->walk;
	struct signal_struct *signal = (struct signal_struct *)walk->signal;
	struct list_head *node = (struct list_head *)walk->at;

	if (!node) {
		usage_begin(walk, signal);
		return 0;
	}
	if ((__u64)node ==
	    (__u64)signal + bpf_core_field_offset(struct signal_struct, thread_head)) {
		walk->done = !(walk->sequence & 1) && usage_sequence(signal) == walk->sequence;
		walk->at = 0;
		return walk->done;
	}
	usage_add(&walk->sum,
		  (void *)node - bpf_core_field_offset(struct task_struct, thread_node));
	walk->at = (__u64)DIRECT_READ(struct list_head, node, next);
	return 0;
}

/*
 * usage_read adds up what all threads of the process used whose last thread is ending. Those that end at this
 * very moment on another CPU are in no account yet, but still in the list of threads; so is the first thread, as
 * a zombie, until the process is reaped. Of more threads than fit into the steps the rest is missing.
 */
static __always_inline void usage_read(struct usage *usage, struct signal_struct *signal)
{
	struct usage_context context = {};
	struct usage_walk *walk;
	__u32 zero = 0;

	walk = bpf_map_lookup_elem(&usage_walks, &zero);
	if (!walk) {
		__builtin_memset(usage, 0, sizeof(*usage));
		return;
	}
	walk->signal = (__u64)signal;
	walk->at = 0;
	context.walk = walk;
	bpf_loop(USAGE_STEPS, usage_step, &context, 0);
	*usage = walk->sum;
	/* The kernel has brought it up to date just before this hook. */
	usage->resident = signal->maxrss;
}

/* exit_key is a process whose end was told. */
struct exit_key {
	__u64 start;
	__u32 pid;
	__u32 reserved;
};

/*
 * exits holds the processes whose end was told lately. Where the kernel does not say which thread is the last, two that
 * end at the same moment can both find that no other is left: the count is taken before the hook (compat_last_thread).
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct exit_key);
	__type(value, __u8);
} exits SEC(".maps");

/*
 * exit_outside says that the current task's process is in no sandbox, at the cost of a few loads. False says nothing. Why
 * not of a process of which a thread has ended: it may be its first, which the exec of another one replaced that then
 * failed, and nothing is stored with the new one.
 */
static __always_inline bool exit_outside(const struct task_struct *task)
{
	return sandbox_unlikely(task) && !task->signal->sum_sched_runtime;
}

/* exit_inside is the rest of the program for an end that may be a sandbox's. */
static __noinline int exit_inside(const __u64 *ctx, struct task_struct *task)
{
	struct signal_struct *signal = task->signal;
	__u64 sandbox = sandbox_current();
	struct exit_key key = {};
	struct exit *exit;
	__u8 told = 1;

	if (!sandbox) {
		/* A stray whose sandbox is over: nobody is to look for it any more. */
		if (stray_any() && compat_last_thread(ctx, signal))
			stray_remove(task->tgid);
		return 0;
	}
	if (!compat_last_thread(ctx, signal))
		return 0;
	key.start = task->group_leader->start_boottime;
	key.pid = task->tgid;
	/* Why the cast: before 6.4 a map's error is in the lower half of the register alone. */
	if (!compat_last_thread_once() &&
	    (int)bpf_map_update_elem(&exits, &key, &told, BPF_NOEXIST) == -17 /* EEXIST */)
		return 0;
	stray_remove(key.pid);
	exit = event_reserve_as(sandbox, EVENT_VITAL | PROCESS_EXIT, sizeof(*exit));
	if (!exit)
		return 0;
	event_header_fill(&exit->header, sandbox, PROCESS_EXIT);
	/* As wait(2) finds it: the group's status if one thread ended all, else the first thread's own. */
	if (signal->flags & SIGNAL_GROUP_EXIT)
		exit->status = signal->group_exit_code;
	else
		exit->status = task->group_leader->exit_code;
	/*
	 * Why not tp_btf/mark_victim: its arguments changed in 6.8, and the mark stays on the process anyway.
	 * Since 4.6; only the kernel's own killer sets it, not one in user space.
	 */
	exit->flags = signal->oom_mm ? EXIT_OOM : 0;
	usage_read(&exit->usage, signal);
	event_submit(exit);
	return 0;
}

/*
 * Reports the end of a process, when its last thread ends.
 * Why not pid == tgid: the first thread may end long before the others. Why not sched_process_free: it
 * runs when the parent has waited, in any task. Since 5.5 (tp_btf).
 */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_on_exit, struct task_struct *task)
{
	return exit_outside(task) ? 0 : exit_inside(ctx, task);
}

/* existing_sandbox is the sandbox whose processes the iterator is to tell; user space sets it. */
volatile __u64 existing_sandbox;

/* existing_room is where one record of an existing process is put together. */
struct existing_room {
	struct existing existing;
	__u8 text[PATH_END];
};

/* existing_rooms has a room for the iterator and one for the hook of moves. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct existing_room);
} existing_rooms SEC(".maps");

/* existing_report tells a process that is alive in a sandbox, from the room and the path slot of the caller. */
static __always_inline void existing_report(struct task_struct *task, __u64 sandbox, __u64 cgroup,
					    __u32 slot)
{
	__u32 key = slot == PATH_SLOT_MOVE;
	struct existing_room *room = bpf_map_lookup_elem(&existing_rooms, &key);
	struct task_struct *leader;
	struct path_walk *walk;
	struct file *file;
	__u32 size = 0;

	if (!room) {
		event_lose(sandbox, PROCESS_EXISTING);
		return;
	}
	event_header_begin(&room->existing.header, sandbox, PROCESS_EXISTING);
	room->existing.header.cgroup = cgroup;
	event_header_task(&room->existing.header, task);
	file = BPF_CORE_READ(task, mm, exe_file);
	/* The same task, but an address read from memory: global functions take no typed pointers as numbers. */
	leader = BPF_CORE_READ(task, group_leader);
	walk = file ? path_resolve_file_of(slot, file, (__u64)leader) : NULL;
	if (walk)
		size = path_copy(room->text, walk);
	if (walk && (walk->flags & PATH_TRUNCATED))
		room->existing.header.flags |= EVENT_TRUNCATED;
	room->existing.executable_size = size;
	event_output_as(sandbox, EVENT_VITAL | PROCESS_EXISTING, &room->existing,
			sizeof(room->existing) + (size & PATH_BYTES));
}

/* move_report tells one of the sandboxes that a move is about. */
static __always_inline void move_report(struct task_struct *task, __u64 sandbox,
					const struct moved *found, const char *path)
{
	struct move *move = move_begin(sandbox, task, found);
	long size;

	if (!move)
		return;
	size = bpf_probe_read_kernel_str(move->path, sizeof(move->path), path);
	/* The size counts the terminating NUL. */
	move->path_size = size > 0 ? size - 1 : 0;
	if (size >= MOVE_PATH_BYTES)
		move->header.flags |= EVENT_TRUNCATED;
	event_submit(move);
}

/*
 * Reports that a process, or one thread of it, was moved to another cgroup out of, into, or within a sandbox.
 * One that leaves keeps its sandbox: it becomes a stray. One that comes in is told as an existing process
 * first.
 * Why not cgroup.procs watched from user space: that tells after the fact, and not who came. The hook runs
 * inside of the write, after the move; the path and the cgroup's lock hold still meanwhile. Fires for every
 * hierarchy, whose ids are from number spaces of their own. Since 5.5 (tp_btf), 5.11 (task storage).
 * Misses: where a process was that moved between being watched and being listed.
 */
SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(process_on_attach, struct cgroup *cgroup, const char *path, struct task_struct *task,
	     bool threadgroup)
{
	struct moved found = {.flags = threadgroup ? 0 : MOVE_THREAD};
	struct task_struct *leader = task->group_leader;
	struct label *label;

	if (BPF_CORE_READ(cgroup, root, hierarchy_id) != 0)
		return 0;
	found.to = BPF_CORE_READ(cgroup, kn, id);
	found.joined = sandbox_of(found.to);
	label = bpf_task_storage_get(&labels, leader, NULL, 0);
	if (label) {
		found.left = sandbox_of(label->sandbox);
		found.from = label->cgroup;
	}
	if (!found.left && !found.joined)
		return 0;
	if (!found.joined)
		stray_add(task, found.left);
	else if (threadgroup)
		stray_remove(task->tgid);
	if (threadgroup)
		label_set(leader, found.joined ? found.joined : found.left, found.to);
	else if (!label)
		label_set(leader, 0, 0);
	if (found.joined && found.joined != found.left && threadgroup)
		existing_report(leader, found.joined, found.to, PATH_SLOT_MOVE);
	if (found.left)
		move_report(task, found.left, &found, path);
	if (found.joined && found.joined != found.left)
		move_report(task, found.joined, &found, path);
	return 0;
}

/* node_learn takes the namespaces of a kernel thread, which are the node's own, for those not known yet. */
static __always_inline void node_learn(struct task_struct *thread)
{
	struct task_namespaces namespaces = {};
	const __u32 *numbers = (const __u32 *)&namespaces;
	__u32 i;

	task_read_namespaces(&namespaces, thread);
	for (i = 0; i < TASK_NAMESPACES; i++)
		if (!node_namespaces[i])
			node_namespaces[i] = numbers[i];
}

/* stray_label labels a process that has left a sandbox and keeps it. */
static __always_inline void stray_label(struct task_struct *task, __u64 cgroup)
{
	__u32 pid = task->tgid;
	struct stray *stray;

	if (!stray_any())
		return;
	stray = bpf_map_lookup_elem(&strays, &pid);
	if (stray && stray->start == task->start_boottime && sandbox_of(stray->sandbox))
		label_set(task, stray->sandbox, cgroup);
}

/*
 * Reports each process that is alive in a sandbox, and labels those of all sandboxes. Run by user space after the
 * other hooks are in place, so that a process is told twice rather than not at all.
 * Why not /proc: 39 us a process against 1, and a process that ends in between leaves half a record.
 * Since 5.8 (iter/task). Misses: processes outside of the collector's own PID namespace.
 */
SEC("iter/task")
int process_on_iterate(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	__u64 sandbox;
	__u64 cgroup;

	if (!task)
		return 0;
	if (task->pid != task->tgid) {
		thread_label(task, sandbox_cgroup_of(task));
		return 0;
	}
	if (BPF_CORE_READ(task, flags) & PF_KTHREAD) {
		node_learn(task);
		return 0;
	}
	if (BPF_CORE_READ(task, signal, live.counter) == 0)
		return 0;
	cgroup = sandbox_cgroup_of(task);
	sandbox = sandbox_of(cgroup);
	if (!sandbox) {
		stray_label(task, cgroup);
		return 0;
	}
	label_set(task, sandbox, cgroup);
	if (sandbox != existing_sandbox)
		return 0;
	existing_report(task, sandbox, cgroup, PATH_SLOT_ITERATOR);
	return 0;
}

/*
 * Says what keeps processes without a label from being taken for those of no sandbox. Run by user space. Arguments: the
 * bits of unlabelled to set, and those to clear. Why not by user space itself: what it reads and writes back may have been
 * counted in between. Since 5.10.
 */
SEC("raw_tp")
int process_doubt(struct bpf_raw_tracepoint_args *ctx)
{
	__sync_fetch_and_or(unlabelled_count(), ctx->args[0]);
	__sync_fetch_and_and(unlabelled_count(), ~ctx->args[1]);
	return 0;
}
