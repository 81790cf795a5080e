/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The process probe: births, execs and deaths of processes, and which were there before.
 *
 * Owns fork, exec and exit records. It must not keep a process tree: user space does.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/* One slot: the only program that walks paths runs in process context. */
#include "lib/compat.h"
#include "lib/event.h"
#include "lib/path.h"
#include "lib/sandbox.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Macros of the kernel, which BTF does not carry. */
#define CLONE_THREAD 0x00010000
#define SIGNAL_GROUP_EXIT 0x00000004
#define TMPFS_MAGIC 0x01021994

/* EXEC_ARGS_MAX is how much of the arguments is told: user space says so when there was more. */
#define EXEC_ARGS_MAX (128 * 1024)
/* EXEC_ARGS_INLINE is how much of them fits the exec record; chunks of EXEC_CHUNK carry the rest. */
#define EXEC_ARGS_INLINE 8191
#define EXEC_CHUNK 8192
#define EXEC_ENV_MAX 4095
/* EXEC_ENV_STEPS bounds the scan: variables, or kilobytes of longer ones. */
#define EXEC_ENV_STEPS 8192
/* ENV_VALUE is how much of one variable, its name included, is read at a time and told at most. */
#define ENV_VALUE 1024
#define ENV_NAME 32

enum process_kind {
	PROCESS_FORK = 1,
	PROCESS_EXEC = 2,
	PROCESS_ARGS = 3,
	PROCESS_EXIT = 4,
	PROCESS_EXISTING = 5,
};

enum exec_flags {
	EXEC_MEMFD = 1,
	EXEC_DELETED = 2,
	EXEC_TMPFS = 4,
	/* What was cut: a path, the environment. */
	EXEC_PATH_CUT = 8,
	EXEC_ENV_CUT = 16,
};

struct fork {
	struct event_header header;
	__u64 clone_flags;
};
ABI_STRUCT(fork);

/*
 * exec is followed by five texts, one after the other: executable, working directory, file name as
 * asked for, environment, arguments. The last two are NUL-separated.
 */
struct exec {
	struct event_header header;
	__u64 inode;
	/* Nanoseconds since 1970. */
	__u64 changed;
	__u64 modified;
	/* Major << 20 | minor. */
	__u32 device;
	__u32 flags;
	/* All arguments: how many, and how many bytes with their NULs. */
	__u32 args_count;
	__u32 args_bytes;
	/* The lengths of the texts, in their order. */
	__u32 executable_size;
	__u32 directory_size;
	__u32 filename_size;
	__u32 env_size;
	__u32 args_size;
	__u32 reserved;
};
ABI_STRUCT(exec);

/* args continues an exec record's arguments. Chunks come before their exec, in order. */
struct args {
	struct event_header header;
	__u32 offset;
	__u32 size;
	__u8 bytes[EXEC_CHUNK];
};
ABI_STRUCT(args);

struct exit {
	struct event_header header;
	/* Nanoseconds since the fork. */
	__u64 duration;
	/* As wait(2) tells it. */
	__u32 status;
	__u32 reserved;
};
ABI_STRUCT(exit);

struct existing {
	struct event_header header;
};
ABI_STRUCT(existing);

/*
 * exec_build is where an exec record is put together. The slack behind the last possible offset lets
 * the verifier accept any masked offset with any masked length.
 */
#define EXEC_BYTES_MASK 16383
struct exec_build {
	struct exec exec;
	__u8 bytes[EXEC_BYTES_MASK + 1 + EXEC_ARGS_INLINE + 1];
};

/* env_scan is the state of the environment's scan: in a map, see lib/path.h for why. */
struct env_scan {
	__u64 position;
	__u64 end;
	__u32 size;
	/* Inside a variable longer than one read. */
	__u32 inside;
	__u32 cut;
	__u32 offset;
	/* The value at position; its tail stays from earlier reads. */
	__u8 value[ENV_VALUE];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct exec_build);
} exec_builds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct env_scan);
} env_scans SEC(".maps");

/* env_name is the beginning of a variable, "NAME=": the trie finds the allow-listed name that it starts with. */
struct env_name {
	__u32 bits;
	__u8 name[ENV_NAME];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 64);
	__type(key, struct env_name);
	__type(value, __u8);
} env_names SEC(".maps");

/* env_initials says which bytes an allow-listed name starts with: most variables need no look at the trie. */
const volatile __u8 env_initials[256];

/* exits is the processes whose exit was told: see process_on_exit. */
struct exit_key {
	__u64 start;
	__u32 pid;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct exit_key);
	__type(value, __u8);
} exits SEC(".maps");

/* bootstrap_sandbox is whose processes the iterator tells; the loader sets it before each run. */
volatile __u64 bootstrap_sandbox;

static __always_inline __u64 task_cgroup(struct task_struct *task)
{
	return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
}

/*
 * Reports the birth of a process.
 * Why not sched_process_fork: that one does not fire for tasks the kernel makes itself, and runs before
 * the child is in its cgroup on some kernels. Here the child is complete and has run nothing yet, also
 * with CLONE_INTO_CGROUP, so the scope is the child's own. Since 5.5 (tp_btf).
 * Misses: threads, on purpose.
 */
SEC("tp_btf/task_newtask")
int BPF_PROG(process_on_newtask, struct task_struct *task, __u64 clone_flags)
{
	__u64 cgroup, sandbox;
	struct fork *record;

	if (clone_flags & CLONE_THREAD)
		return 0;
	cgroup = task_cgroup(task);
	sandbox = sandbox_of(cgroup);
	if (!sandbox)
		return 0;
	record = event_reserve(sandbox, sizeof(*record));
	if (!record)
		return 0;
	event_header_fill(&record->header, sandbox, PROCESS_FORK);
	event_header_task(&record->header, task);
	record->header.cgroup = cgroup;
	record->clone_flags = clone_flags;
	event_submit(record);
	return 0;
}

/* exec_append_path adds a walked path to the record and returns its size. */
static __always_inline __u32 exec_append_path(struct exec_build *build, __u32 *offset, const struct path_walk *walk)
{
	__u32 size = 0;

	if (!walk)
		return 0;
	size = path_copy(&build->bytes[*offset & EXEC_BYTES_MASK], walk);
	if (walk->flags & PATH_TRUNCATED)
		build->exec.flags |= EXEC_PATH_CUT;
	*offset += size;
	return size;
}

struct env_context {
	struct env_scan *scan;
	struct exec_build *build;
};

/* env_wanted says whether the variable that was just read is on the allow-list. */
static __always_inline bool env_wanted(struct env_scan *scan)
{
	struct env_name name = {.bits = ENV_NAME * 8};

	if (!env_initials[scan->value[0]])
		return false;
	__builtin_memcpy(name.name, scan->value, sizeof(name.name));
	return bpf_map_lookup_elem(&env_names, &name) != NULL;
}

static long env_step(__u32 index, struct env_context *context)
{
	struct env_scan *scan = context->scan;
	struct exec_build *build = context->build;
	__u32 inside = scan->inside;
	__u32 size;
	long n;

	if (scan->position >= scan->end)
		return 1;
	n = bpf_probe_read_user_str(scan->value, sizeof(scan->value), (const void *)scan->position);
	if (n <= 0) {
		scan->cut = 1;
		return 1;
	}
	/* A full buffer ends in a NUL that is not the variable's own: go on inside of it. */
	scan->inside = n == sizeof(scan->value);
	scan->position += scan->inside ? n - 1 : n;
	if (inside || !env_wanted(scan))
		return 0;
	if (scan->inside)
		scan->cut = 1;
	size = n & (2 * ENV_VALUE - 1);
	if (size > ENV_VALUE)
		size = ENV_VALUE;
	if (scan->size + size > EXEC_ENV_MAX) {
		scan->cut = 1;
		return 1;
	}
	bpf_probe_read_kernel(&build->bytes[(scan->offset + scan->size) & EXEC_BYTES_MASK], size, scan->value);
	scan->size += size;
	return 0;
}

/* exec_append_env adds the allow-listed variables. A global function: verified once, by itself. */
__noinline int exec_append_env(__u32 offset, __u64 start, __u64 end)
{
	__u32 zero = 0;
	struct env_context context = {
		.scan = bpf_map_lookup_elem(&env_scans, &zero),
		.build = bpf_map_lookup_elem(&exec_builds, &zero),
	};

	if (!context.scan || !context.build)
		return 0;
	context.scan->position = start;
	context.scan->end = end;
	context.scan->size = 0;
	context.scan->inside = 0;
	context.scan->cut = 0;
	context.scan->offset = offset;
	bpf_loop(EXEC_ENV_STEPS, env_step, &context, 0);
	if (context.scan->cut || context.scan->position < end)
		context.build->exec.flags |= EXEC_ENV_CUT;
	return context.scan->size;
}

struct args_context {
	__u64 sandbox;
	__u64 start;
	__u64 end;
};

static long args_step(__u32 index, struct args_context *context)
{
	__u64 position = context->start + EXEC_ARGS_INLINE + (__u64)index * EXEC_CHUNK;
	struct args *record;
	__u64 size;

	if (position >= context->end)
		return 1;
	size = context->end - position;
	if (size > EXEC_CHUNK)
		size = EXEC_CHUNK;
	record = event_reserve(context->sandbox, sizeof(*record));
	if (!record)
		return 1;
	event_header_fill(&record->header, context->sandbox, PROCESS_ARGS);
	record->offset = EXEC_ARGS_INLINE + index * EXEC_CHUNK;
	record->size = size;
	/* Never past the end: above it the stack ends, and a read that fails there copies nothing. */
	if (bpf_probe_read_user(record->bytes, size, (const void *)position))
		record->size = 0;
	event_submit(record);
	return 0;
}

/* exec_send_args sends what the exec record has no room for, up to EXEC_ARGS_MAX in all. */
__noinline int exec_send_args(__u64 sandbox, __u64 start, __u64 end)
{
	struct args_context context = {.sandbox = sandbox, .start = start, .end = end};

	if (end - start > EXEC_ARGS_MAX)
		context.end = start + EXEC_ARGS_MAX;
	bpf_loop(EXEC_ARGS_MAX / EXEC_CHUNK + 1, args_step, &context, 0);
	return 0;
}

/* exec_describe fills in what the executable's inode tells. */
static __always_inline void exec_describe(struct exec *exec, struct file *file, __u32 path_flags)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct super_block *sb = BPF_CORE_READ(inode, i_sb);
	bool tmpfs = BPF_CORE_READ(sb, s_magic) == TMPFS_MAGIC;

	exec->inode = BPF_CORE_READ(inode, i_ino);
	exec->device = BPF_CORE_READ(sb, s_dev);
	exec->changed = compat_inode_ctime(inode);
	exec->modified = compat_inode_mtime(inode);
	if (tmpfs)
		exec->flags |= EXEC_TMPFS;
	if (BPF_CORE_READ(inode, i_nlink) == 0 || path_flags & PATH_DELETED)
		exec->flags |= EXEC_DELETED;
	/* memfd_create makes a file without a link on a tmpfs mount that is mounted nowhere. */
	if (tmpfs && path_flags & PATH_PSEUDO)
		exec->flags |= EXEC_MEMFD;
}

/* exec_fill puts the record together and returns the size of the texts. */
static __always_inline __u32 exec_fill(struct exec_build *build, struct mm_struct *mm, struct linux_binprm *bprm)
{
	__u64 args_start = BPF_CORE_READ(mm, arg_start), args_end = BPF_CORE_READ(mm, arg_end);
	struct file *file = BPF_CORE_READ(mm, exe_file);
	struct exec *exec = &build->exec;
	struct path_walk *walk;
	__u32 offset = 0;
	__u64 size;
	long n;

	exec->flags = 0;
	exec->reserved = 0;
	exec->args_count = BPF_CORE_READ(bprm, argc);
	exec->args_bytes = args_end - args_start;

	walk = path_resolve_file(0, file);
	exec_describe(exec, file, walk ? walk->flags : 0);
	exec->executable_size = exec_append_path(build, &offset, walk);
	exec->directory_size = exec_append_path(build, &offset, path_resolve_cwd(0));

	n = bpf_probe_read_kernel_str(&build->bytes[offset & EXEC_BYTES_MASK], PATH_BYTES, BPF_CORE_READ(bprm, filename));
	exec->filename_size = n > 0 ? (n - 1) & PATH_BYTES : 0;
	offset += exec->filename_size;

	exec->env_size = exec_append_env(offset, BPF_CORE_READ(mm, env_start), BPF_CORE_READ(mm, env_end)) & EXEC_ENV_MAX;
	offset += exec->env_size;

	size = args_end - args_start;
	if (size > EXEC_ARGS_INLINE)
		size = EXEC_ARGS_INLINE;
	size &= EXEC_ARGS_INLINE;
	exec->args_size = 0;
	if (!bpf_probe_read_user(&build->bytes[offset & EXEC_BYTES_MASK], size, (const void *)args_start))
		exec->args_size = size;
	return offset + exec->args_size;
}

/*
 * Reports an exec that succeeded, from the new program's committed memory and kernel objects.
 * Why not sys_enter_execve: its arguments are the caller's memory, which another thread can change
 * after they were read, and the call may yet fail. Why not bprm_check_security: the memory is not the
 * new program's yet, and it runs once per interpreter. Since 5.5 (tp_btf), bpf_loop 5.17.
 * Misses: execs that fail.
 */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(process_on_exec, struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)
{
	__u64 sandbox = sandbox_current();
	struct exec_build *build;
	struct mm_struct *mm;
	__u32 zero = 0;
	__u64 size;

	if (!sandbox)
		return 0;
	build = bpf_map_lookup_elem(&exec_builds, &zero);
	mm = BPF_CORE_READ(task, mm);
	if (!build || !mm)
		return 0;
	event_header_fill(&build->exec.header, sandbox, PROCESS_EXEC);
	size = sizeof(build->exec) + exec_fill(build, mm, bprm);
	if (build->exec.args_bytes > EXEC_ARGS_INLINE)
		exec_send_args(sandbox, BPF_CORE_READ(mm, arg_start), BPF_CORE_READ(mm, arg_end));
	if (size > sizeof(*build))
		size = sizeof(*build);
	event_output(sandbox, build, size);
	return 0;
}

/*
 * Reports the death of a process, when its last thread is gone.
 * Why by signal->live and not by the leader: a leader may end long before the other threads. Two
 * threads that end at the same moment can both see live == 0 (seen on 6.1), so what was told is
 * remembered for a while. Since 5.5 (tp_btf).
 */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_on_exit, struct task_struct *task)
{
	struct signal_struct *signal = BPF_CORE_READ(task, signal);
	struct exit_key key = {};
	__u64 sandbox;
	struct exit *record;
	__u8 told = 1;

	sandbox = sandbox_current();
	if (!sandbox || BPF_CORE_READ(signal, live.counter) != 0)
		return 0;
	key.pid = BPF_CORE_READ(task, tgid);
	key.start = BPF_CORE_READ(task, group_leader, start_boottime);
	if (bpf_map_update_elem(&exits, &key, &told, BPF_NOEXIST))
		return 0;
	record = event_reserve(sandbox, sizeof(*record));
	if (!record)
		return 0;
	event_header_fill(&record->header, sandbox, PROCESS_EXIT);
	record->duration = record->header.time - key.start;
	/* What wait(2) will say: the group's code when it was ended as a group, else the leader's own. */
	if (BPF_CORE_READ(signal, flags) & SIGNAL_GROUP_EXIT)
		record->status = BPF_CORE_READ(signal, group_exit_code);
	else
		record->status = BPF_CORE_READ(task, group_leader, exit_code);
	record->reserved = 0;
	event_submit(record);
	return 0;
}

/*
 * Reports the processes that are in a sandbox already when it becomes watched.
 * Why an iterator: reading /proc for every process of a node takes 18 times as long, and misses those
 * that fork meanwhile. The loader attaches all hooks first, then iterates; a process that is told by
 * both has the same identity. Since 5.8.
 */
SEC("iter/task")
int process_iterate(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct existing *record;
	__u64 cgroup, sandbox;

	if (!task || task->pid != task->tgid)
		return 0;
	cgroup = task_cgroup(task);
	sandbox = sandbox_of(cgroup);
	if (!sandbox || sandbox != bootstrap_sandbox)
		return 0;
	record = event_reserve(sandbox, sizeof(*record));
	if (!record)
		return 0;
	event_header_fill(&record->header, sandbox, PROCESS_EXISTING);
	event_header_task(&record->header, task);
	record->header.cgroup = cgroup;
	event_submit(record);
	return 0;
}
