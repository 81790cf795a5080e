// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Requirement is one thing that the kernel side needs of the machine, or would use.
type Requirement struct {
	// Name is what it is.
	Name string
	// OK is whether it is there.
	OK bool
	// Required is whether nothing works without it; otherwise its absence costs some events.
	Required bool
	// Detail is what was found, Remedy what to do when it is not OK.
	Detail, Remedy string
}

// Check looks for everything that a Tracer needs, by really loading and attaching each probe for a
// moment, as the configuration says. Without the rights for that it says so, and looks at the rest; so where another process
// reads pins and this would cost it calls.
func Check(cfg Config) []Requirement {
	all := []Requirement{checkRelease(), checkBTF()}
	all = append(all, checkCapabilities()...)
	all = append(all, checkProbes(cfg)...)
	return append(all, checkMounted("tracefs", "/sys/kernel/tracing"), checkMounted("bpf", "/sys/fs/bpf"), checkLSM())
}

// checkRelease tells kernels that were never tried. The probes' own lines say what really works.
func checkRelease() Requirement {
	const minMajor, minMinor = 6, 1
	r := Requirement{Name: "kernel"}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		r.Detail = err.Error()
		return r
	}
	r.Detail = unix.ByteSliceToString(name.Release[:])
	major, rest, _ := strings.Cut(r.Detail, ".")
	end := strings.IndexFunc(rest, func(c rune) bool { return c < '0' || c > '9' })
	if end < 0 {
		end = len(rest)
	}
	a, errMajor := strconv.Atoi(major)
	b, errMinor := strconv.Atoi(rest[:end])
	r.OK = errMajor == nil && errMinor == nil && (a > minMajor || a == minMajor && b >= minMinor)
	if !r.OK {
		r.Remedy = fmt.Sprintf("use Linux %d.%d or later", minMajor, minMinor)
	}
	return r
}

func checkBTF() Requirement {
	r := Requirement{Name: "kernel type information (BTF)", Required: true, Detail: btfPath}
	if _, err := os.Stat(btfPath); err != nil {
		r.Detail, r.Remedy = err.Error(), ErrNoBTF.Error()
		return r
	}
	r.OK = true
	return r
}

// capability is one that the tracer uses, and for what.
type capability struct {
	number int
	name   string
	use    string
	// admin is whether CAP_SYS_ADMIN, from which it was split, stands for it.
	admin bool
	// required is whether nothing works without it.
	required bool
}

// capabilities is every capability in use. CAP_SYS_RESOURCE is not among them: since
// Linux 5.11 the memory of maps counts as the cgroup's. Package rlimit of cilium/ebpf, which would lift the limit of
// before, tries the system call bpf in every process that only imports it, a hook inside of a sandbox among them.
func capabilities() []capability {
	return []capability{
		{number: unix.CAP_BPF, name: "CAP_BPF", use: "load programs", admin: true, required: true},
		{number: unix.CAP_PERFMON, name: "CAP_PERFMON", use: "read kernel objects", admin: true, required: true},
		{number: unix.CAP_NET_ADMIN, name: "CAP_NET_ADMIN", use: "see connects", admin: true},
		{number: unix.CAP_DAC_READ_SEARCH, name: "CAP_DAC_READ_SEARCH", use: "find cgroups without a search"},
		{number: unix.CAP_SYS_PTRACE, name: "CAP_SYS_PTRACE", use: "read the arguments of processes that were there before"},
	}
}

// checkCapabilities tells the capabilities that are missing: those that all needs, then those that some does.
func checkCapabilities() []Requirement {
	held, err := effectiveCapabilities()
	if err != nil {
		return []Requirement{{Name: "capabilities", Required: true, Detail: err.Error()}}
	}
	has := func(number int) bool { return held&(1<<number) != 0 }
	missing := map[bool][]string{}
	for _, c := range capabilities() {
		if !has(c.number) && (!c.admin || !has(unix.CAP_SYS_ADMIN)) {
			missing[c.required] = append(missing[c.required], c.name+" ("+c.use+")")
		}
	}
	all := []Requirement{
		{Name: "capabilities", Required: true, Detail: "CAP_BPF and CAP_PERFMON"},
		{Name: "capabilities of some probes", Detail: "all"},
	}
	for i := range all {
		r := &all[i]
		if lost := missing[r.Required]; len(lost) > 0 {
			r.Detail, r.Remedy = "missing "+strings.Join(lost, ", "), "run as root, or with these capabilities"
			continue
		}
		r.OK = true
	}
	return all
}

// effectiveCapabilities is the set of capabilities of this process, by number.
func effectiveCapabilities() (uint64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("reading the capabilities: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if hex, found := strings.CutPrefix(line, "CapEff:"); found {
			held, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			if err != nil {
				return 0, fmt.Errorf("reading the capabilities: %w", err)
			}
			return held, nil
		}
	}
	return 0, errors.New("reading the capabilities: /proc/self/status does not tell them")
}

// checkProbes loads and attaches every probe, then takes all of them away again.
func checkProbes(cfg Config) []Requirement {
	t, err := newTracer(cfg)
	if err != nil {
		return []Requirement{{Name: "probes", Required: true, Detail: "not tried: " + err.Error(), Remedy: remedyOf(err)}}
	}
	defer t.Close() //nolint:errcheck // nothing was watched
	if pid := watching(cfg.Pins); pid != 0 && t.plan == PlanTrampoline {
		return []Requirement{checkPlan(t), checkCounts(t), {
			Name: "probes", Required: true, OK: true,
			Detail: fmt.Sprintf("not tried: process %d watches, and would lose the calls that are under way; its log, metrics and events tell how they are", pid),
		}}
	}
	t.openProbes()
	if err := t.places.try(); err != nil {
		t.places.probe.err = errors.Join(t.places.probe.err, explain(err))
		t.places.probe.attached = false
	}
	all := []Requirement{checkPlan(t), checkCounts(t)}
	for i := range t.probes {
		p := &t.probes[i]
		if p.off {
			continue
		}
		r := Requirement{Name: "probe " + p.name, Required: p.required, OK: p.attached, Remedy: remedyOf(p.err)}
		switch {
		case p.err != nil:
			r.Detail = p.err.Error()
		case p.fallback != nil:
			r.OK, r.Detail = false, "follows the plan tracepoint, so that each system call of the node pays: "+p.fallback.Error()
			r.Remedy = "nothing is lost; a kernel with what is named would spare the node that"
		default:
			r.Detail = fmt.Sprintf("loads and attaches, programs: %d", len(p.collection.Programs))
		}
		all = append(all, r)
	}
	return all
}

// watching is the process that reads a set of pins beside those, 0 where none does. Programs that come to the functions that its
// own hang on, and go, would take calls from it: see triedFunction.
func watching(pins *Pins) int {
	if pins == nil {
		return 0
	}
	sets, err := PinSets(filepath.Dir(pins.Dir))
	if err != nil {
		return 0
	}
	for _, set := range sets {
		if set.Held {
			return set.PID
		}
	}
	return 0
}

// remedyOf is what to do about an error of the tracer.
func remedyOf(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrNoPermission):
		return "run as root"
	case errors.Is(err, ErrNoTrampolines):
		return "set kernel.plan to auto, or to tracepoint"
	case errors.Is(err, ErrNoCgroup2):
		return "mount cgroup2: mount -t cgroup2 none /sys/fs/cgroup/unified"
	case errors.Is(err, ErrOldKernel):
		return "use Linux 6.1 or later"
	case errors.Is(err, ErrNoBTF):
		return "use a kernel with CONFIG_DEBUG_INFO_BTF=y"
	case errors.Is(err, unix.EPERM):
		return "the kernel forbids it even to root: look for lockdown, a seccomp filter or an LSM around this process"
	default:
		return "use Linux 6.1 or later; on such a kernel this is a bug of Watchglass, please report it"
	}
}

// checkMounted tells of file systems that other tools need and Watchglass does not to work: all of its hooks are
// attached by BTF id or to a cgroup. What is pinned in a bpffs is told apart.
func checkMounted(fstype, usual string) Requirement {
	r := Requirement{Name: fstype, OK: true, Detail: "not mounted; not needed"}
	if fstype == "bpf" {
		r.Name = "bpffs"
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		r.Detail = err.Error()
		return r
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[2] == fstype {
			r.Detail = "at " + fields[1] + "; not needed"
			if fields[1] == usual {
				return r
			}
		}
	}
	return r
}

// checkPlan tells which hook plan the probes follow, and what that costs.
func checkPlan(t *Tracer) Requirement {
	r := Requirement{Name: "hook plan", OK: true, Detail: string(t.plan) + ": " + t.planReason}
	if t.plan == PlanTracepoint {
		r.Detail += "; each system call of the node costs a little more"
	} else {
		r.Detail += "; system calls that matter to no probe cost nothing"
	}
	return r
}

// checkCounts tells what is counted that every process of the node pays for.
func checkCounts(t *Tracer) Requirement {
	r := Requirement{Name: "counts of system calls", OK: true, Detail: "counted"}
	switch {
	case t.cfg.SyscallCounts == CountOff:
		r.Detail = "not counted: switched off"
	case !t.cfg.countsCalls(t.plan):
		r.Detail = "not counted under the plan trampoline, since each system call of the node would pay (kernel.syscall_counts: true counts all the same)"
	}
	switch {
	case !t.cfg.FileIO:
		r.Detail += "; reads and writes of files are not: switched off"
	case t.plan == PlanTrampoline:
		r.Detail += "; reads and writes of files are, for which those of the node pay a little (kernel.file_io: false spares them)"
	default:
		r.Detail += "; reads and writes of files too"
	}
	return r
}

// checkLSM tells whether programs can be attached to security hooks. Nothing uses that yet.
func checkLSM() Requirement {
	r := Requirement{Name: "BPF LSM", OK: true, Detail: "available; not used"}
	err := try(&ebpf.ProgramSpec{
		Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: "file_open",
	}, func(p *ebpf.Program) (link.Link, error) { return link.AttachLSM(link.LSMOptions{Program: p}) })
	if err != nil {
		r.Detail = "not available; not used: " + firstLine(err)
	}
	return r
}

// firstLine leaves out the verifier's log, and the loader's guess at the reason of a refusal.
func firstLine(err error) string {
	if errors.Is(err, unix.EPERM) {
		return "the kernel does not permit it"
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
