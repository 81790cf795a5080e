// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/event"
)

// namespaceNames is the names in /proc/PID/ns, in the order of struct task_namespaces.
func namespaceNames() [8]string {
	return [...]string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"}
}

// nodeNamespaces is the inode numbers of the node's own namespaces, in that order, as far as they are
// constants of the kernel (linux/proc_ns.h). The iterator finds the others on a kernel thread, which /proc does
// not show without CAP_SYS_PTRACE, and which a PID namespace of the collector's own hides.
func nodeNamespaces() [8]uint32 {
	return [...]uint32{0: 0xeffffffb, 1: 0xefffffff, 4: 0xeffffffc, 5: 0xeffffffa, 6: 0xeffffffd, 7: 0xeffffffe}
}

// privileges is what the new program may do.
func (e *processExec) privileges(m *memory) event.Privileges {
	return event.Privileges{
		Credentials: e.Credentials.credentials(),
		Namespaces: event.Namespaces{
			Cgroup: e.Namespaces.Cgroup, IPC: e.Namespaces.Ipc, Mount: e.Namespaces.Mnt, Net: e.Namespaces.Net,
			PID: e.Namespaces.Pid, Time: e.Namespaces.Time, User: e.Namespaces.User, UTS: e.Namespaces.Uts,
			Own: m.namespacesOf(e.NamespacesOwn), Unknown: m.namespacesOf(e.NamespacesUnknown),
		},
		NoNewPrivs:     e.has(processExecFlagsEXEC_NO_NEW_PRIVS),
		Seccomp:        seccompMode(e.Seccomp),
		SeccompFilters: int(e.SeccompFilters),
	}
}

// namespacesOf is the names of the namespaces of which mask has the bit.
func namespacesOf(mask uint32) []string {
	var names []string
	for i, name := range namespaceNames() {
		if mask>>i&1 != 0 {
			names = append(names, name)
		}
	}
	return names
}

func seccompMode(mode uint32) event.SeccompMode {
	switch mode {
	case unix.SECCOMP_MODE_DISABLED:
		return event.SeccompDisabled
	case unix.SECCOMP_MODE_STRICT:
		return event.SeccompStrict
	default:
		// SECCOMP_MODE_DEAD, 3, is that of a task which a filter is killing.
		return event.SeccompFilter
	}
}

// credentials is the event's form of a record's credentials.
func (c *processTaskCredentials) credentials() event.Credentials {
	return event.Credentials{
		UserID: c.Uid, EffectiveUserID: c.Euid, SavedUserID: c.Suid, FSUserID: c.Fsuid,
		GroupID: c.Gid, EffectiveGroupID: c.Egid, SavedGroupID: c.Sgid, FSGroupID: c.Fsgid,
		Effective: event.Capabilities(c.Effective), Permitted: event.Capabilities(c.Permitted),
		Inheritable: event.Capabilities(c.Inheritable), Bounding: event.Capabilities(c.Bounding),
		Ambient:       event.Capabilities(c.Ambient),
		UserNamespace: c.UserNs, UserNamespaceLevel: int(c.UserNsLevel),
	}
}

// loginUser is the audit login id, -1 when none was set.
func loginUser(id uint32) int64 {
	if id == ^uint32(0) {
		return -1
	}
	return int64(id)
}
