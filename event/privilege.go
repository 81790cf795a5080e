// SPDX-License-Identifier: Apache-2.0

package event

import (
	"maps"
	"math/bits"
	"strconv"
	"sync/atomic"
)

// Capabilities is a set of Linux capabilities, a bit each by its number.
type Capabilities uint64

// Has says whether the set has the capability of that number.
func (c Capabilities) Has(number int) bool { return number >= 0 && number < 64 && c>>number&1 != 0 }

// maxCapabilityLists bounds what Names remembers: few sets are in use on one node.
const maxCapabilityLists = 256

// capabilityLists is the lists made so far.
var capabilityLists atomic.Pointer[map[Capabilities][]string] //nolint:gochecknoglobals // a pure function's results; making one anew for each exec allocates

// Names is the kernel's names of the capabilities, by number: "CAP_CHOWN". One that has no name yet is "CAP_41".
// The list is shared and must not be changed.
func (c Capabilities) Names() []string {
	known := capabilityLists.Load()
	if known == nil {
		known = &map[Capabilities][]string{}
	}
	list, ok := (*known)[c]
	if ok {
		return list
	}
	list = c.list()
	if len(*known) < maxCapabilityLists {
		more := maps.Clone(*known)
		more[c] = list
		capabilityLists.Store(&more) // another goroutine's may be overwritten, and is made anew
	}
	return list
}

func (c Capabilities) list() []string {
	names := capabilityNames()
	list := make([]string, 0, bits.OnesCount64(uint64(c)))
	for rest := uint64(c); rest != 0; rest &= rest - 1 {
		n := bits.TrailingZeros64(rest)
		if n < len(names) {
			list = append(list, names[n])
			continue
		}
		list = append(list, "CAP_"+strconv.Itoa(n))
	}
	return list
}

// capabilityNames is by number (linux/capability.h).
func capabilityNames() [41]string {
	return [...]string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST",
		"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO",
		"CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE",
		"CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
		"CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
		"CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
	}
}

// SeccompMode is how a process's system calls are filtered.
type SeccompMode string

// The modes.
const (
	SeccompDisabled SeccompMode = "disabled"
	SeccompStrict   SeccompMode = "strict"
	SeccompFilter   SeccompMode = "filter"
)

// Credentials is who a process acts as: what the kernel asks when it decides what the process may do.
type Credentials struct {
	// The user and group ids in the initial user namespace: real, effective, saved, and those for file access.
	UserID, EffectiveUserID, SavedUserID, FSUserID     uint32
	GroupID, EffectiveGroupID, SavedGroupID, FSGroupID uint32
	// The sets of capabilities. They hold in the user namespace below, and in those inside of it.
	Effective, Permitted, Inheritable, Bounding, Ambient Capabilities
	// UserNamespace is the inode number of the user namespace, UserNamespaceLevel how deep it is: 0 is the
	// initial one, in which capabilities are the node's.
	UserNamespace      uint32
	UserNamespaceLevel int
}

// InitialUserNamespace says whether the capabilities are those over the node itself.
func (c *Credentials) InitialUserNamespace() bool { return c.UserNamespaceLevel == 0 }

// Namespaces is the inode numbers of a process's namespaces, as /proc/PID/ns shows them.
type Namespaces struct {
	Cgroup, IPC, Mount, Net, PID, Time, User, UTS uint32
	// Own is the names, as in /proc/PID/ns, of those that are not the node's own. A name is missing too when the
	// node's own is not known: see Unknown.
	Own []string
	// Unknown is the names of those whose number on the node is not known.
	Unknown []string
}

// numbers is the numbers in the order of namespaceNames.
func (n *Namespaces) numbers() [8]uint32 {
	return [...]uint32{n.Cgroup, n.IPC, n.Mount, n.Net, n.PID, n.Time, n.User, n.UTS}
}

// namespaceNames is the names in /proc/PID/ns.
func namespaceNames() [8]string {
	return [...]string{"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"}
}

func (n *Namespaces) length() int { return len(n.numbers()) }

func (n *Namespaces) appendItem(dst []byte, i int) []byte { return append(dst, namespaceNames()[i]...) }

func (n *Namespaces) number(i int) int64 { return int64(n.numbers()[i]) }

// Privileges is what a process may do, and what of the node it sees: facts to hold a claimed sandbox against.
type Privileges struct {
	Credentials Credentials
	Namespaces  Namespaces
	// NoNewPrivs is true when no exec can give more rights.
	NoNewPrivs bool
	// Seccomp is the mode, SeccompFilters how many filters there are in it.
	Seccomp        SeccompMode
	SeccompFilters int
}

// appendPrivileges appends what is known; nothing for nil.
func (p *Privileges) appendPrivileges(dst []Attribute) []Attribute {
	if p == nil {
		return dst
	}
	c := &p.Credentials
	if c.UserID != c.EffectiveUserID || c.SavedUserID != c.EffectiveUserID {
		dst = append(dst,
			Attribute{ProcessRealUserID, Int(int64(c.UserID))},
			Attribute{ProcessSavedUserID, Int(int64(c.SavedUserID))})
	}
	dst = append(dst,
		Attribute{ProcessCapsEffective, Strings(c.Effective.Names())},
		Attribute{ProcessCapsPermitted, Strings(c.Permitted.Names())},
		Attribute{ProcessCapsBounding, Strings(c.Bounding.Names())},
		Attribute{ProcessInitialUserNS, Bool(c.InitialUserNamespace())},
		Attribute{ProcessNamespaces, itemsOf(ValueMap, &p.Namespaces)},
		Attribute{ProcessOwnNamespaces, Strings(p.Namespaces.Own)})
	if len(p.Namespaces.Unknown) > 0 {
		dst = append(dst, Attribute{ProcessUnknownNamespaces, Strings(p.Namespaces.Unknown)})
	}
	return append(dst,
		Attribute{ProcessNoNewPrivs, Bool(p.NoNewPrivs)},
		Attribute{ProcessSeccomp, String(string(p.Seccomp))},
		Attribute{ProcessSeccompFilters, Int(int64(p.SeccompFilters))})
}
