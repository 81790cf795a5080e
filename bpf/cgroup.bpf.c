/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
//go:build ignore

/*
 * The cgroup probe: cgroups as they come and go.
 *
 * Owns keeping the map of watched cgroups true: a cgroup made below a watched one is watched before
 * mkdir(2) returns, so before anything can run in it. Reports every new cgroup, since selectors may
 * want it, and the end of watched ones.
 *
 * Misses: cgroups of v1 hierarchies, whose ids are from number spaces of their own.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "lib/event.h"
#include "lib/sandbox.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* CHANGE_PATH_BYTES is the kernel's own limit: the tracepoint's path comes from a buffer of that size. */
#define CHANGE_PATH_BYTES 1024

enum change_kind {
	CHANGE_MADE = 1,
	CHANGE_GONE = 2,
};

/* change is the birth or the end of a cgroup. The path is below the cgroup2 mount. */
struct change {
	struct event_header header;
	__u64 id;
	__u32 path_size;
	__u32 reserved;
	__u8 path[CHANGE_PATH_BYTES];
};

ABI_STRUCT(change);
ABI_ENUM(change_kind);

/* refusals counts cgroups below watched ones that found no room in the map of sandboxes. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} refusals SEC(".maps");

static __always_inline void change_report(__u64 sandbox, __u64 id, const char *path, __u16 kind)
{
	struct change *change = event_reserve_as(sandbox, EVENT_VITAL | kind, sizeof(*change));
	long size;

	if (!change)
		return;
	event_header_fill(&change->header, sandbox, kind);
	change->header.cgroup = id;
	change->id = id;
	change->reserved = 0;
	size = bpf_probe_read_kernel_str(change->path, sizeof(change->path), path);
	/* The size counts the terminating NUL. */
	change->path_size = size > 0 ? size - 1 : 0;
	if (size >= CHANGE_PATH_BYTES)
		change->header.flags |= EVENT_TRUNCATED;
	/*
	 * The reader is woken at once, unlike for other records: a selector may choose the new cgroup, and
	 * what runs in it before user space has entered it is not seen. Cgroups are made rarely.
	 */
	bpf_ringbuf_submit(change, BPF_RB_FORCE_WAKEUP);
}

/*
 * Reports a new cgroup; makes it watched when the one it is in is.
 * Why not inotify on the cgroup file system: it tells after the fact, and a process born into the new
 * cgroup by CLONE_INTO_CGROUP would run unseen. This hook runs inside mkdir(2). Since 5.5 (tp_btf).
 */
SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup_on_mkdir, struct cgroup *cgroup, const char *path)
{
	struct cgroup *parent;
	__u64 sandbox;
	__u32 zero = 0;
	__u64 *refused;
	__u64 id;

	if (BPF_CORE_READ(cgroup, root, hierarchy_id) != 0)
		return 0;
	id = BPF_CORE_READ(cgroup, kn, id);
	/* Not kn->parent: 6.15 renamed it. */
	parent = (void *)BPF_CORE_READ(cgroup, self.parent) -
		 bpf_core_field_offset(struct cgroup, self);
	sandbox = sandbox_of(BPF_CORE_READ(parent, kn, id));
	if (sandbox && bpf_map_update_elem(&sandboxes, &id, &sandbox, BPF_ANY)) {
		refused = bpf_map_lookup_elem(&refusals, &zero);
		if (refused)
			__sync_fetch_and_add(refused, 1);
	}
	change_report(sandbox, id, path, CHANGE_MADE);
	return 0;
}

/*
 * Reports the removal of a watched cgroup, and forgets it.
 * Why not cgroup_release: that is when the last reference to a removed cgroup is dropped, which page
 * cache can delay by hours; nothing can run in it since rmdir(2). Since 5.5 (tp_btf).
 */
SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(cgroup_on_rmdir, struct cgroup *cgroup, const char *path)
{
	__u64 sandbox;
	__u64 id;

	if (BPF_CORE_READ(cgroup, root, hierarchy_id) != 0)
		return 0;
	id = BPF_CORE_READ(cgroup, kn, id);
	sandbox = sandbox_of(id);
	if (!sandbox)
		return 0;
	bpf_map_delete_elem(&sandboxes, &id);
	change_report(sandbox, id, path, CHANGE_GONE);
	return 0;
}
