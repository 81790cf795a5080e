// SPDX-License-Identifier: Apache-2.0

package event

import "slices"

// KindSandboxPosture is what holds a sandbox in, and what does not, as its processes show it soon after its start, and
// again when it is another.
const KindSandboxPosture Kind = "watchglass.sandbox.posture"

// Weakness is one thing that a sandbox's set-up leaves open.
type Weakness string

// The weaknesses.
const (
	// WeakNone is no sandbox at all: root of the machine, in its namespaces, with nothing taken away.
	WeakNone Weakness = "no_isolation"
	// WeakRoot is root in the initial user namespace.
	WeakRoot Weakness = "root"
	// WeakCapabilities is capabilities of the initial user namespace that lead out of a container.
	WeakCapabilities Weakness = "privileged_capabilities"
	// WeakSeccomp is no filter of system calls.
	WeakSeccomp Weakness = "no_seccomp"
	// WeakNoNewPrivs is that set-user-id programs still give privileges.
	WeakNoNewPrivs Weakness = "new_privileges"
	// WeakNamespaces is namespaces shared with the machine.
	WeakNamespaces Weakness = "host_namespaces"
	// WeakMounts is directories of the machine that can be written to.
	WeakMounts Weakness = "writable_host_mounts"
	// WeakRuntimeSocket is the socket of a container runtime within reach.
	WeakRuntimeSocket Weakness = "runtime_socket"
	// WeakDevices is block devices, or the memory of the machine, within reach.
	WeakDevices Weakness = "devices"
	// WeakMetadata is a route to the cloud's metadata service.
	WeakMetadata Weakness = "metadata_service"
	// WeakNetwork is a network without a policy.
	WeakNetwork Weakness = "no_network_policy"
	// WeakLimits is no limit of processes or memory.
	WeakLimits Weakness = "no_limits"
)

// SandboxPosture is what one process of a sandbox shows of its set-up.
type SandboxPosture struct {
	// UserID is its user in the initial user namespace; InitialUserNS whether that is its own.
	UserID        uint32
	InitialUserNS bool
	// Capabilities is the effective ones by name, in its user namespace.
	Capabilities []string
	NoNewPrivs   bool
	// Seccomp is disabled, strict or filter.
	Seccomp string
	// HostNamespaces is the kinds of namespaces that it shares with the machine's first process.
	HostNamespaces []string
	// WritableMounts is mount points of the machine's own file systems that it may write to, at most 16.
	WritableMounts []string
	// Sockets and Devices is the runtimes' sockets and the dangerous devices within reach, at most 16 each.
	Sockets, Devices []string
	// Network is none, host or own.
	Network string
	// MetadataRoute says that packets to the metadata service have a way.
	MetadataRoute bool
	// PidsLimit and MemoryLimit are the limits of its cgroup, 0 for none or unknown.
	PidsLimit, MemoryLimit uint64
	// Weaknesses is what follows, the gravest first.
	Weaknesses []Weakness
}

// Kind implements Payload.
func (*SandboxPosture) Kind() Kind { return KindSandboxPosture }

// Severity implements Payload.
func (*SandboxPosture) Severity() Severity { return SeverityInfo }

// Same says whether two postures say the same; nil says nothing.
func (p *SandboxPosture) Same(other *SandboxPosture) bool {
	if p == nil || other == nil {
		return p == other
	}
	return p.UserID == other.UserID && p.InitialUserNS == other.InitialUserNS && p.NoNewPrivs == other.NoNewPrivs &&
		p.Seccomp == other.Seccomp && p.Network == other.Network && p.MetadataRoute == other.MetadataRoute &&
		p.PidsLimit == other.PidsLimit && p.MemoryLimit == other.MemoryLimit &&
		slices.Equal(p.Capabilities, other.Capabilities) && slices.Equal(p.HostNamespaces, other.HostNamespaces) &&
		slices.Equal(p.WritableMounts, other.WritableMounts) && slices.Equal(p.Sockets, other.Sockets) &&
		slices.Equal(p.Devices, other.Devices) && slices.Equal(p.Weaknesses, other.Weaknesses)
}

// AppendAttributes implements Payload.
func (p *SandboxPosture) AppendAttributes(dst []Attribute) []Attribute {
	weaknesses := make([]string, 0, len(p.Weaknesses))
	for _, w := range p.Weaknesses {
		weaknesses = append(weaknesses, string(w))
	}
	dst = append(dst,
		Attribute{PostureUserID, Int(int64(p.UserID))},
		Attribute{PostureInitialUserNS, Bool(p.InitialUserNS)},
		Attribute{PostureNoNewPrivs, Bool(p.NoNewPrivs)})
	dst = appendString(dst, PostureSeccomp, p.Seccomp)
	dst = appendString(dst, PostureNetwork, p.Network)
	dst = append(dst, Attribute{PostureMetadata, Bool(p.MetadataRoute)})
	dst = appendStrings(dst, PostureCapabilities, p.Capabilities)
	dst = appendStrings(dst, PostureNamespaces, p.HostNamespaces)
	dst = appendStrings(dst, PostureMounts, p.WritableMounts)
	dst = appendStrings(dst, PostureSockets, p.Sockets)
	dst = appendStrings(dst, PostureDevices, p.Devices)
	dst = appendInt(dst, PosturePidsLimit, int64(p.PidsLimit))
	dst = appendInt(dst, PostureMemoryLimit, int64(p.MemoryLimit))
	return appendStrings(dst, PostureWeaknesses, weaknesses)
}

// AppendBody implements Payload.
func (p *SandboxPosture) AppendBody(dst []byte) []byte {
	if len(p.Weaknesses) == 0 {
		return append(dst, "nothing is left open"...)
	}
	dst = append(dst, "open: "...)
	for i, w := range p.Weaknesses {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = append(dst, w...)
	}
	return dst
}

// Assess fills in Weaknesses. policy says that the network of the sandbox has a policy.
func (p *SandboxPosture) Assess(policy bool) {
	p.Weaknesses = nil
	add := func(open bool, w Weakness) {
		if open {
			p.Weaknesses = append(p.Weaknesses, w)
		}
	}
	root := p.UserID == 0 && p.InitialUserNS
	if root && len(p.HostNamespaces) >= allNamespaces && p.Seccomp == "disabled" && !p.NoNewPrivs {
		// Everything else follows from it: one word instead of ten.
		p.Weaknesses = []Weakness{WeakNone}
		return
	}
	add(len(p.Sockets) > 0, WeakRuntimeSocket)
	add(len(p.Devices) > 0 && p.InitialUserNS, WeakDevices)
	add(p.InitialUserNS && privileged(p.Capabilities), WeakCapabilities)
	add(len(p.HostNamespaces) > 0, WeakNamespaces)
	add(root, WeakRoot)
	add(len(p.WritableMounts) > 0, WeakMounts)
	add(p.Seccomp == "disabled", WeakSeccomp)
	add(!p.NoNewPrivs, WeakNoNewPrivs)
	add(p.MetadataRoute, WeakMetadata)
	add(p.Network != "none" && !policy, WeakNetwork)
	add(p.PidsLimit == 0 || p.MemoryLimit == 0, WeakLimits)
}

// allNamespaces is how many kinds of namespaces isolate: pid, mnt, net, ipc, uts. The user and cgroup ones are
// told elsewhere, or isolate nothing.
const allNamespaces = 5

// privileged says whether capabilities are among those that lead out of a container.
func privileged(capabilities []string) bool {
	for _, c := range capabilities {
		switch c {
		case "CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_DAC_READ_SEARCH", "CAP_BPF",
			"CAP_SYS_BOOT", "CAP_NET_ADMIN", "CAP_PERFMON", "CAP_MAC_ADMIN":
			return true
		}
	}
	return false
}
