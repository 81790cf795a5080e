/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a task may do and where: its credentials, its namespaces, the filters on it.
 *
 * Owns reading them off any task. It must not judge them: what they mean is user space's.
 *
 * All from the kernel's own objects, so nothing here can be forged; but credentials are read without
 * a lock, so of a task other than the current one they may be those of a moment ago.
 */
#ifndef WATCHGLASS_TASK_H
#define WATCHGLASS_TASK_H

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* Macros of the kernel, which BTF does not carry. */
#define TASK_NO_NEW_PRIVS 0 /* PFA_NO_NEW_PRIVS, a bit of task->atomic_flags */
#define TASK_PIDTYPE_PGID 2
#define TASK_PIDTYPE_SID 3
#define TASK_TTY_BYTES 32
/* TASK_NAMESPACES is how many kinds of namespaces there are. */
#define TASK_NAMESPACES 8

/* task_credentials is who a task acts as. Ids are those of the initial user namespace, sets have a bit a capability. */
struct task_credentials {
	__u64 effective;
	__u64 permitted;
	__u64 inheritable;
	__u64 bounding;
	__u64 ambient;
	__u32 uid;
	__u32 euid;
	__u32 suid;
	__u32 fsuid;
	__u32 gid;
	__u32 egid;
	__u32 sgid;
	__u32 fsgid;
	/* The user namespace that the capabilities hold in: its inode, and how deep it is below the initial one, 0. */
	__u32 user_ns;
	__u32 user_ns_level;
};

/* task_namespaces is the inode numbers of a task's namespaces, as /proc/PID/ns shows them. */
struct task_namespaces {
	__u32 cgroup;
	__u32 ipc;
	__u32 mnt;
	__u32 net;
	__u32 pid;
	__u32 time;
	__u32 user;
	__u32 uts;
};

/* task_capabilities reads one set. Until 6.2 it is two words of 32 bits, later one of 64: the same bytes. */
static __always_inline __u64 task_capabilities(const void *set)
{
	return *(const __u64 *)set;
}

/* task_read_credentials fills in the subjective credentials: those that the task acts with. */
static __always_inline void task_read_credentials(struct task_credentials *to,
						  struct task_struct *task)
{
	const struct cred *cred = task->cred;
	struct user_namespace *user = cred->user_ns;

	to->effective = task_capabilities(&cred->cap_effective);
	to->permitted = task_capabilities(&cred->cap_permitted);
	to->inheritable = task_capabilities(&cred->cap_inheritable);
	to->bounding = task_capabilities(&cred->cap_bset);
	to->ambient = task_capabilities(&cred->cap_ambient);
	to->uid = cred->uid.val;
	to->euid = cred->euid.val;
	to->suid = cred->suid.val;
	to->fsuid = cred->fsuid.val;
	to->gid = cred->gid.val;
	to->egid = cred->egid.val;
	to->sgid = cred->sgid.val;
	to->fsgid = cred->fsgid.val;
	to->user_ns = user->ns.inum;
	to->user_ns_level = user->level;
}

/* task_pid_namespace is the inode of the PID namespace that a task is in, not of the one its children will be. */
static __always_inline __u32 task_pid_namespace(struct task_struct *task)
{
	struct pid *pid = task->thread_pid;
	__u32 level = pid->level;
	struct upid upid = {};

	/* Loads only at constant offsets: that is the initial namespace. */
	if (!level)
		return pid->numbers[0].ns->ns.inum;
	bpf_core_read(&upid, sizeof(upid), &pid->numbers[level]);
	return BPF_CORE_READ(upid.ns, ns.inum);
}

static __always_inline void task_read_namespaces(struct task_namespaces *to,
						 struct task_struct *task)
{
	struct nsproxy *proxy = task->nsproxy;

	to->cgroup = proxy->cgroup_ns->ns.inum;
	to->ipc = proxy->ipc_ns->ns.inum;
	to->mnt = proxy->mnt_ns->ns.inum;
	to->net = proxy->net_ns->ns.inum;
	to->pid = task_pid_namespace(task);
	to->time = proxy->time_ns->ns.inum;
	to->user = task->cred->user_ns->ns.inum;
	to->uts = proxy->uts_ns->ns.inum;
}

/* task_group is the number of a task's process group or session in the initial PID namespace, 0 without one. */
static __always_inline __u32 task_group(struct task_struct *task, __u32 type)
{
	const struct pid *pid = task->signal->pids[type];

	return pid->numbers[0].nr;
}

static __always_inline bool task_no_new_privs(const struct task_struct *task)
{
	return task->atomic_flags & (1ul << TASK_NO_NEW_PRIVS);
}

#endif
