/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
//go:build ignore

/*
 * The notable probe: single system calls that change what a process may do, or reach into another one.
 *
 * Owns which calls those are at run time (notable_specs, filled from the one table in notable.go), their
 * arguments and results, and signals to other processes. It must not decode arguments: user space does.
 * Counting calls is the syscall probe's, files and sockets are those of their own.
 *
 * Misses: memory that was made executable by remap_file_pages or before its sandbox was watched; calls that do not
 * return (the reboot that succeeds); what a call pointed to beyond its strings and
 * 16 bytes.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "lib/compat.h"
#include "lib/event.h"
#include "lib/hook.h"
#include "lib/sandbox.h"
#include "lib/syscall.h"
#include "lib/task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* NOTABLE_NUMBERS bounds the numbers of each convention. */
#define NOTABLE_NUMBERS 1024
#define NOTABLE_ARGUMENTS 6
/* NOTABLE_STRINGS is how many strings of a call are told at most, NOTABLE_TEXT_BYTES how much of each, with its NUL. */
#define NOTABLE_STRINGS 3
#define NOTABLE_TEXT_BYTES 512
/* NOTABLE_VALUES is how many first arguments a call can be narrowed to. */
#define NOTABLE_VALUES 16
#define EPERM 1
/* Of i386 alone. */
#define COMPAT_SYS_OLD_MMAP 90
#define PROT_EXEC 4
#define VM_WRITE 2
#define VM_EXEC 4

enum notable_kind {
	NOTABLE_CALL = 1,
	NOTABLE_SIGNAL = 2,
};

/*
 * notable_abi is the calling convention, each with numbers of its own: that of 64-bit programs, that of 32-bit ones (i386,
 * or arm), and x32.
 */
enum notable_abi {
	NOTABLE_NATIVE = 0,
	NOTABLE_COMPAT = 1,
	NOTABLE_X32 = 2,
	NOTABLE_ABIS = 3,
};

enum notable_flags {
	/* Told only when it was refused for lack of a right. */
	NOTABLE_DENIED = 1,
	/* 16 bytes that an argument points to were read, and follow. */
	NOTABLE_POINTED = 2,
	/* Told only when it makes memory executable that is no unchanged file: once a process, for each form of it. */
	NOTABLE_MEMORY = 4,
	/* What that memory is, as the kernel says: of no file, of a file; changed since it was mapped; writable still. */
	NOTABLE_ANONYMOUS = 8,
	NOTABLE_FILE = 16,
	NOTABLE_CHANGED = 32,
	NOTABLE_WRITABLE = 64,
	/* The memory is where the result says, not the first argument. */
	NOTABLE_MAPS = 128,
	/* The namespaces are told, and follow. */
	NOTABLE_SPACES = 256,
};

/* notable_spec says what to tell of a system call. */
struct notable_spec {
	/* One more than the call's place among those that are listed, 0 for one that is not. */
	__u8 listed;
	/* One more than the argument whose first 16 bytes are told, 0 for none. */
	__u8 pointed;
	/* How many arguments are told. */
	__u8 arguments;
	/* How many of values count: then only calls with one of these as their first argument are told. */
	__u8 count;
	/* Those that are strings, four bits each from the lowest: one more than the argument, 0 for no more. */
	__u16 strings;
	__u16 flags;
	__u32 values[NOTABLE_VALUES];
};

/*
 * call is one finished system call. What there is of it follows, in this order and without padding: the arguments, a word
 * each; with NOTABLE_POINTED two words that one of them points to; with NOTABLE_SPACES a struct task_namespaces; the
 * strings.
 */
struct call {
	struct event_header header;
	__s64 result;
	/* After the call. */
	struct task_credentials credentials;
	__u16 number;
	__u8 abi;
	__u8 arguments;
	__u16 flags;
	/* The sizes of the strings, in the order of their arguments, without a NUL: the caller's word. */
	__u16 sizes[NOTABLE_STRINGS];
	__u32 reserved;
};

/* Room for all that can follow, and slack for the verifier: a string at any masked place. */
#define CALL_TAIL 2560
#define CALL_TAIL_MASK 2047

/* call_room is where one is put together. The arguments are stored all, as words, and what follows those that are told over the rest. */
struct call_room {
	struct call call;
	union {
		__u64 words[8];
		__u8 tail[CALL_TAIL];
	};
};

/* signal is a signal to another process, of another process group or sandbox; the header is about the sender. */
struct signal {
	struct event_header header;
	__u64 target_start;
	/* The target's cgroup and sandbox, 0 for none. */
	__u64 target_cgroup;
	__u64 target_sandbox;
	__u32 target_pid;
	__u32 target_uid;
	__u8 target_comm[16];
	__u32 number;
	/* SI_USER, SI_TKILL, SI_QUEUE, ...: how it was sent. */
	__s32 code;
	/* TRACE_SIGNAL_*: 0 delivered, 1 ignored, 2 pending already, 3 and 4 without room. */
	__u32 result;
	__u32 reserved;
};

ABI_STRUCT(notable_spec);
ABI_STRUCT(call);
ABI_STRUCT(task_namespaces);
ABI_STRUCT(signal);
ABI_ENUM(notable_kind);
ABI_ENUM(notable_abi);
ABI_ENUM(notable_flags);

/* notable_specs is by convention and number: NOTABLE_NUMBERS of each. User space fills it before it is loaded. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NOTABLE_ABIS *NOTABLE_NUMBERS);
	__type(key, __u32);
	__type(value, struct notable_spec);
} notable_specs SEC(".maps");

/* call_rooms has a room a CPU, of whoever has hook_try(): programs on the return of functions can be preempted by others. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct call_room);
} call_rooms SEC(".maps");

/* call_wanted says whether a call with that first argument and result is told. */
static __always_inline bool call_wanted(const struct notable_spec *spec, __u32 first, long ret)
{
	__u32 i;

	if ((spec->flags & NOTABLE_DENIED) && ret != -EPERM)
		return false;
	if (!spec->count)
		return true;
	for (i = 0; i < NOTABLE_VALUES; i++)
		if (i < spec->count && spec->values[i] == first)
			return true;
	return false;
}

/* FIRSTS_CALLS is how many calls there can be, each as one that failed and one that did not; FIRSTS_SIGNALS is how many signals. */
#define FIRSTS_CALLS 512
#define FIRSTS_SIGNALS 64

/* firsts is which calls and signals passed in a window in spite of a budget that is spent. */
struct firsts {
	__u64 window;
	__u64 passed[(FIRSTS_CALLS + FIRSTS_SIGNALS) / 64];
};

/* call_firsts is by sandbox, and LRU: of one that is pushed out another one of each passes. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, __u64);
	__type(value, struct firsts);
} call_firsts SEC(".maps");

/*
 * notable_class is the class of a record of a call or a signal, by its bit. Where the sandbox has spent its budget the first of
 * each passes, in every window: a flood of one, or of refused ones, never hides that there is another.
 */
static __always_inline __u32 notable_class(__u64 sandbox, __u32 bit, __u64 now)
{
	__u64 window = event_spent(sandbox, EVENT_KEPT, now);
	struct firsts none = {};
	struct firsts *firsts;
	__u64 *word, mask = 1ull << (bit & 63);
	__u32 i;

	if (!window)
		return EVENT_KEPT;
	firsts = bpf_map_lookup_elem(&call_firsts, &sandbox);
	if (!firsts) {
		bpf_map_update_elem(&call_firsts, &sandbox, &none, BPF_NOEXIST);
		firsts = bpf_map_lookup_elem(&call_firsts, &sandbox);
	}
	bit /= 64;
	if (!firsts || bit >= sizeof(firsts->passed) / sizeof(firsts->passed[0]))
		return EVENT_KEPT;
	if (firsts->window != window) {
		firsts->window = window;
#pragma unroll
		for (i = 0; i < sizeof(firsts->passed) / sizeof(firsts->passed[0]); i++)
			firsts->passed[i] = 0;
	}
	word = &firsts->passed[bit];
	return *word & mask || __sync_fetch_and_or(word, mask) & mask ? EVENT_KEPT : EVENT_VITAL;
}

/* memory_form is what a process was told of once. */
struct memory_form {
	__u64 start;
	__u32 pid;
	/* enum notable_flags. */
	__u32 flags;
};

/* memory_forms is LRU: what is pushed out is told again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct memory_form);
	__type(value, __u8);
} memory_forms SEC(".maps");

/* memory_look takes what a mapping is. */
struct memory_look {
	__u32 flags;
};

static long memory_see(struct task_struct *task, struct vm_area_struct *area,
		       struct memory_look *look)
{
	look->flags = area->vm_file ? NOTABLE_FILE : NOTABLE_ANONYMOUS;
	/* A private mapping of a file has memory of its own once it was written to. */
	if (area->vm_file && area->anon_vma)
		look->flags |= NOTABLE_CHANGED;
	if (area->vm_flags & VM_WRITE)
		look->flags |= NOTABLE_WRITABLE;
	if (!(area->vm_flags & VM_EXEC))
		look->flags = 0;
	return 0;
}

/* memory_executable says whether a call of mmap, mprotect or pkey_mprotect asked for memory to execute, and got it. */
static __always_inline bool memory_executable(const struct pt_regs *regs, __u32 compat,
					      __u32 number, long ret)
{
	__u32 words[4];

	if (ret < 0 && ret >= -4095)
		return false;
	if (!compat || number != COMPAT_SYS_OLD_MMAP)
		return syscall_argument(regs, compat, 2) & PROT_EXEC;
	return !bpf_probe_read_user(words, sizeof(words), (void *)syscall_argument(regs, 1, 0)) &&
	       (words[2] & PROT_EXEC);
}

/*
 * memory_notable finds out what the memory is that a call made executable: the mapping itself, as it is now. 0 for
 * what is told elsewhere, a file that is mapped as it is, and for what the process was told of before.
 */
static __always_inline __u32 memory_notable(__u64 sandbox, __u64 address)
{
	struct task_struct *task = task_plain();
	struct memory_form form = {.start = task->group_leader->start_boottime, .pid = task->tgid};
	struct memory_look look = {};
	__u8 seen = 1;

	/* Where the mappings are being changed at this moment nobody can look: told as it is asked for. */
	if (bpf_find_vma(bpf_get_current_task_btf(), address, memory_see, &look, 0))
		look.flags = NOTABLE_MEMORY;
	if (!look.flags || look.flags == NOTABLE_FILE)
		return 0;
	form.flags = look.flags;
	if (!bpf_map_update_elem(&memory_forms, &form, &seen, BPF_NOEXIST))
		return look.flags;
	event_aggregate(sandbox, NOTABLE_CALL);
	return 0;
}

/* call_strings adds the strings that arguments point to, and returns how long the tail is with them. */
static __always_inline __u32 call_strings(struct call_room *room, __u32 strings, __u32 at)
{
	__u32 i;

#pragma unroll
	for (i = 0; i < NOTABLE_STRINGS; i++) {
		__u32 argument = strings >> (4 * i) & 15;
		long size;

		if (!argument)
			break;
		size = compat_read_user_str(&room->tail[at & CALL_TAIL_MASK], NOTABLE_TEXT_BYTES,
					    (void *)room->words[(argument - 1) & 7]);
		if (size == NOTABLE_TEXT_BYTES)
			room->call.header.flags |= EVENT_TRUNCATED;
		size = size > 0 ? size - 1 : 0;
		room->call.sizes[i] = (__u16)size;
		at += (__u32)size;
	}
	return at;
}

/* call_told puts what a call was given and pointed to into the room, and returns how long that is. */
static __always_inline __u32 call_told(struct call_room *room, const struct notable_spec *spec,
				       const struct pt_regs *regs, __u32 compat)
{
	__u32 at = (spec->arguments & 7) * sizeof(__u64);
	__u64 pointed = 0;
	__u32 i;

	room->call.arguments = spec->arguments & 7;
#pragma unroll
	for (i = 0; i < NOTABLE_ARGUMENTS; i++) {
		__u64 value = syscall_argument(regs, compat, i);

		room->words[i] = value;
		if (spec->pointed == i + 1)
			pointed = value;
	}
	if (spec->pointed && !bpf_probe_read_user(&room->tail[at & CALL_TAIL_MASK],
						  2 * sizeof(__u64), (void *)pointed)) {
		room->call.flags |= NOTABLE_POINTED;
		at += 2 * sizeof(__u64);
	}
	if (spec->flags & NOTABLE_SPACES) {
		room->call.flags |= NOTABLE_SPACES;
		task_read_namespaces((struct task_namespaces *)&room->tail[at & CALL_TAIL_MASK],
				     task_plain());
		at += sizeof(struct task_namespaces);
	}
	return call_strings(room, spec->strings, at);
}

/* call_finished reports a finished call of those that the table lists with all of these flags (enum notable_flags). */
static __always_inline void call_finished(const struct pt_regs *regs, long ret, __u32 flags)
{
	__u32 compat = syscall_compat(regs, task_plain());
	__u32 number = syscall_number(regs);
	__u32 abi = compat ? NOTABLE_COMPAT : NOTABLE_NATIVE;
	struct notable_spec *spec;
	struct call_room *room;
	struct call *call;
	__u64 sandbox;
	__u32 memory = 0;
	__u32 zero = 0;
	__u32 class;
	__u32 size;
	__u32 key;

	if (!compat && syscall_x32(number)) {
		abi = NOTABLE_X32;
		number &= ~SYSCALL_X32_BIT;
	}
	if (number >= NOTABLE_NUMBERS)
		return;
	key = abi * NOTABLE_NUMBERS + number;
	spec = bpf_map_lookup_elem(&notable_specs, &key);
	if (!spec || !spec->listed || (spec->flags & flags) != flags ||
	    !call_wanted(spec, (__u32)syscall_argument(regs, compat, 0), ret))
		return;
	if ((spec->flags & NOTABLE_MEMORY) && !memory_executable(regs, compat, number, ret))
		return;
	sandbox = syscall_sandbox();
	if (!sandbox)
		return;
	if (spec->flags & NOTABLE_MEMORY) {
		memory = memory_notable(sandbox, spec->flags & NOTABLE_MAPS
							 ? syscall_address(ret, compat)
							 : syscall_argument(regs, compat, 0));
		if (!memory)
			return;
	}
	room = bpf_map_lookup_elem(&call_rooms, &zero);
	if (!room || !hook_try()) {
		event_lose(sandbox, NOTABLE_CALL);
		return;
	}
	call = &room->call;
	event_header_fill(&call->header, sandbox, NOTABLE_CALL);
	call->result = ret;
	task_read_credentials(&call->credentials, task_plain());
	call->number = (__u16)number;
	call->abi = (__u8)abi;
	call->flags = (__u16)memory;
	__builtin_memset(call->sizes, 0, sizeof(call->sizes));
	call->reserved = 0;
	size = call_told(room, spec, regs, compat);
	class = notable_class(sandbox, 2 * (spec->listed - 1) + (ret < 0), call->header.time);
	event_output_as(sandbox, class | NOTABLE_CALL, call,
			sizeof(*call) + (size & CALL_TAIL_MASK));
	hook_leave();
}

/* call_returned is call_finished where a call's entry returns to the kernel. */
static __always_inline void call_returned(struct pt_regs *kernel)
{
	const struct pt_regs *regs;

	if (hook_unlikely())
		return;
	regs = hook_registers();
	if (!hook_proved(kernel, regs))
		call_finished(regs, syscall_result(kernel), 0);
}

/*
 * Reports a finished call of those that the table lists.
 * Why at the exit: the result is known, what strings the call was given is in memory, and one hook costs
 * the node less than two. Why the raw hook: see lib/syscall.h. Since 5.5 (tp_btf).
 * The strings are read again, after the kernel has: another thread may have changed them, so they are
 * the caller's word.
 */
SEC("tp_btf/sys_exit")
int BPF_PROG(notable_on_sys_exit, struct pt_regs *regs, long ret)
{
	if (syscall_outside())
		return 0;
	call_finished(regs, ret, 0);
	return syscall_done(ctx);
}

/*
 * As notable_on_sys_exit, in its place, where kernel functions can be hung on: one program on the entries of
 * all of the table's calls, but for the few below. Why not fexit: a trampoline for each of some 150 entries takes half a minute to
 * remove, and the types of kernels before 6.12 name some of them twice. Since 5.18, with CONFIG_FPROBE.
 * Misses: calls beyond the number that the kernel has room to follow at once, up to 6.13: twice as many as there
 * are entries, times the processors. It counts them, and so does the probe's account.
 */
SEC("kretprobe.multi")
int notable_on_return(struct pt_regs *kernel)
{
	call_returned(kernel);
	return 0;
}

/*
 * As notable_on_return, in its place, on kernels without CONFIG_FPROBE: a kretprobe on each of the entries. Since 5.15
 * (pinned links to events), with CONFIG_KPROBE_EVENTS and CONFIG_KRETPROBES.
 * Misses: calls of one entry beyond the number that it was given room for (returns.go), counted too; on kernels
 * before 6.7, uncounted, as notable_on_return: those that return on a CPU where a task was preempted while it
 * changed a BPF map.
 */
SEC("kretprobe")
int notable_on_each_return(struct pt_regs *kernel)
{
	call_returned(kernel);
	return 0;
}

/* function_returned is call_finished where a function that has a program of its own returns, with an int where narrow says so. */
static __always_inline int function_returned(void *ctx, bool narrow, __u32 flags)
{
	const struct pt_regs *regs;
	__u64 ret;

	if (hook_unlikely())
		return 0;
	regs = hook_registers();
	if (hook_proved(ctx, regs))
		return 0;
	ret = hook_result(ctx);
	call_finished(regs, narrow ? (int)ret : (long)ret, flags);
	return 0;
}

/*
 * As notable_on_return, for the calls that map memory, and below for those that change what may be done to it. Why not there:
 * every process of the node makes them, and for one whose function has a program of its own the kernel does less. It is in
 * these functions in other calls too, in execs above all.
 */
SEC("fexit/vm_mmap_pgoff")
int notable_on_map(void *ctx)
{
	return function_returned(ctx, false, NOTABLE_MEMORY);
}

SEC("fexit/do_mprotect_pkey")
int notable_on_protect(void *ctx)
{
	return function_returned(ctx, true, NOTABLE_MEMORY);
}

/*
 * The same of other calls that every process of the node makes, at their entries: no function does their work for callers
 * of 64 and of 32 bits alike. So few of them that the trampolines are soon removed.
 */
SEC("fexit/__x64_sys_prctl")
int notable_on_entry(void *ctx)
{
	return function_returned(ctx, false, 0);
}

/*
 * Reports a signal that a process of a sandbox sent to another process: of another process group, or of
 * another sandbox or none.
 * Why not kill(2) alone: its argument is a number of the caller's PID namespace, or stands for many; here
 * is the process that gets it. Refused ones never come here: those are calls, above. Since 5.5 (tp_btf).
 */
SEC("tp_btf/signal_generate")
int BPF_PROG(notable_on_signal, int number, struct kernel_siginfo *info, struct task_struct *target,
	     int group, int result)
{
	struct task_struct *task = task_plain();
	struct signal *signal;
	__u64 target_sandbox;
	__u64 target_cgroup;
	__u64 sandbox;
	__u32 class;
	int code;

	if (sandbox_unlikely(bpf_get_current_task_btf()))
		return 0;
	/* SEND_SIG_NOINFO is 0, SEND_SIG_PRIV 1: the kernel's own. So is a code above 0. */
	if ((__u64)info <= 1 || task->tgid == target->tgid)
		return 0;
	sandbox = sandbox_current();
	if (!sandbox)
		return 0;
	code = BPF_CORE_READ(info, si_code);
	if (code > 0)
		return 0;
	target_cgroup = sandbox_cgroup_of(target);
	target_sandbox = sandbox_of(target_cgroup);
	if (target_sandbox == sandbox &&
	    task_group(task, TASK_PIDTYPE_PGID) == task_group(target, TASK_PIDTYPE_PGID))
		return 0;
	class = notable_class(sandbox, FIRSTS_CALLS + (number & (FIRSTS_SIGNALS - 1)),
			      bpf_ktime_get_boot_ns());
	signal = event_reserve_as(sandbox, class | NOTABLE_SIGNAL, sizeof(*signal));
	if (!signal)
		return 0;
	event_header_fill(&signal->header, sandbox, NOTABLE_SIGNAL);
	signal->target_start = target->group_leader->start_boottime;
	signal->target_cgroup = target_cgroup;
	signal->target_sandbox = target_sandbox;
	signal->target_pid = target->tgid;
	signal->target_uid = target->cred->euid.val;
	bpf_core_read_str(signal->target_comm, sizeof(signal->target_comm), &target->comm);
	signal->number = number;
	signal->code = code;
	signal->result = result;
	signal->reserved = 0;
	event_submit(signal);
	return 0;
}
