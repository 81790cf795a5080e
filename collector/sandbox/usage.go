// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/cgroups/v3/cgroup1"
	v1stats "github.com/containerd/cgroups/v3/cgroup1/stats"
	"github.com/containerd/cgroups/v3/cgroup2"

	"github.com/watchglass/watchglass/event"
)

// ErrGone says that a sandbox's cgroup is not there any more, or that another took its place.
var ErrGone = errors.New("the sandbox's cgroup is gone")

// Controllers is where the controllers of cgroup v1 are mounted, by name: cpuacct, memory, blkio, pids, …
// Empty on a machine with cgroup2 alone.
type Controllers map[string]string

// FindControllers finds them in the list of this process's mounts.
func FindControllers() (Controllers, error) {
	f, err := os.Open(MountInfo)
	if err != nil {
		return nil, fmt.Errorf("find the cgroup v1 controllers: %w", err)
	}
	defer func() { _ = f.Close() }()
	return ParseControllers(f)
}

// ParseControllers finds the cgroup v1 controllers in a list of mounts; see proc_pid_mountinfo(5). Only
// mounts of whole hierarchies count: in a part of one, paths mean something else.
func ParseControllers(mountinfo io.Reader) (Controllers, error) {
	found := Controllers{}
	lines := bufio.NewScanner(mountinfo)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m, fsType := parseMountLine(lines.Text())
		if fsType != "cgroup" || m.Root != "/" {
			continue
		}
		_, super, _ := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(super)
		for option := range strings.SplitSeq(fields[len(fields)-1], ",") {
			if _, ok := found[option]; !ok && option != "rw" && option != "ro" {
				found[option] = m.Dir
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the list of mounts: %w", err)
	}
	return found, nil
}

// Meter reads what sandboxes use of the machine, as the kernel counts it for their cgroups. On a machine
// with both kinds of cgroup the controllers are version 1's: they count a sandbox whose runtime made
// cgroups of the same path there, as container runtimes do. `watchglass run` makes none.
type Meter struct {
	mount Mount
	v1    Controllers
}

// NewMeter makes a meter for the cgroups below mount, and below the v1 controllers, if any.
func NewMeter(mount Mount, v1 Controllers) *Meter { return &Meter{mount: mount, v1: v1} }

// Read is what the sandbox has used since its cgroup was made. What nobody counts is nil in it, which is
// not zero. The error is ErrGone when the cgroup is not there any more.
func (m *Meter) Read(s *event.Sandbox) (*event.ResourceUsage, error) {
	below, err := filepath.Rel(m.mount.Root, s.Cgroup)
	if err != nil || below == ".." || strings.HasPrefix(below, "../") {
		return nil, fmt.Errorf("measure cgroup %q: it is not below the cgroup2 mount", s.Cgroup)
	}
	dir := filepath.Join(m.mount.Dir, below)
	u := &event.ResourceUsage{}
	if err := readUnified(m.mount.Dir, filepath.Join("/", below), u); err != nil {
		return nil, fmt.Errorf("measure cgroup %q: %w", s.Cgroup, err)
	}
	// After reading, so that it was this one that was read.
	if id, err := ID(dir); errors.Is(err, fs.ErrNotExist) || err == nil && id != s.CgroupID {
		return nil, ErrGone
	} else if err != nil {
		return nil, err
	}
	m.readControllers(s.Cgroup, u)
	return u, nil
}

// readUnified reads a cgroup of version 2. The library does not tell a file that is missing from one that
// says 0, so whether a controller is there is looked up first.
func readUnified(mount, group string, u *event.ResourceUsage) error {
	dir := filepath.Join(mount, group)
	mask := cgroup2.StatMask(0)
	has := func(file string, bits cgroup2.StatMask) bool {
		_, err := os.Lstat(filepath.Join(dir, file))
		if err == nil {
			mask |= bits
		}
		return err == nil
	}
	cpu, quota := has("cpu.stat", cgroup2.StatCPU), has("cpu.max", 0)
	memory := has("memory.current", cgroup2.StatMemory|cgroup2.StatMemoryEvents)
	io, pids := has("io.stat", cgroup2.StatIO), has("pids.current", cgroup2.StatPids)
	manager, err := cgroup2.Load(group, cgroup2.WithMountpoint(mount))
	if err != nil {
		return err
	}
	stats, err := manager.StatFiltered(mask)
	if err != nil {
		return err
	}
	if c := stats.GetCPU(); cpu {
		u.CPU = &event.CPUUsage{
			Total: micro(c.GetUsageUsec()), User: micro(c.GetUserUsec()), System: micro(c.GetSystemUsec()),
		}
		if quota {
			u.CPU.Throttle = &event.Throttling{
				Periods: c.GetNrPeriods(), Throttled: c.GetNrThrottled(), Time: micro(c.GetThrottledUsec()),
			}
		}
	}
	if s := stats.GetMemory(); memory {
		u.Memory = &event.MemoryUsage{
			Current: s.GetUsage(), Peak: s.GetMaxUsage(), Limit: limit(s.GetUsageLimit()), Anonymous: s.GetAnon(), File: s.GetFile(),
			Swap: s.GetSwapUsage(), MajorFaults: s.GetPgmajfault(), OOMKills: stats.GetMemoryEvents().GetOomKill(),
		}
	}
	if io {
		u.IO = &event.IOUsage{}
		for _, device := range stats.GetIo().GetUsage() {
			u.IO.ReadBytes += device.GetRbytes()
			u.IO.WrittenBytes += device.GetWbytes()
			u.IO.Reads += device.GetRios()
			u.IO.Writes += device.GetWios()
		}
	}
	if pids {
		u.Tasks = &event.TaskUsage{Current: stats.GetPids().GetCurrent(), Limit: limit(stats.GetPids().GetLimit())}
	}
	u.Pressure = event.Pressures{
		CPU: readPressure(dir, "cpu"), Memory: readPressure(dir, "memory"), IO: readPressure(dir, "io"),
	}
	if cpu || memory || io || pids {
		u.Sources = append(u.Sources, "cgroup2")
	}
	return nil
}

// readControllers adds what version 1 counts and version 2 does not. A controller that fails counts nothing.
func (m *Meter) readControllers(group string, u *event.ResourceUsage) {
	counted := false
	// The library looks for DIRECTORY/NAME; where controllers share a mount, their names are links to it.
	root := func(name string) (string, bool) {
		dir := filepath.Dir(m.v1[name])
		_, err := os.Stat(filepath.Join(dir, name, group))
		return dir, m.v1[name] != "" && err == nil
	}
	fresh := func() *v1stats.Metrics {
		return &v1stats.Metrics{CPU: &v1stats.CPUStat{Usage: &v1stats.CPUUsage{}, Throttling: &v1stats.Throttle{}}}
	}
	if dir, ok := root("cpu"); ok && u.CPU != nil && u.CPU.Throttle == nil {
		if s := fresh(); cgroup1.NewCpu(dir).Stat(group, s) == nil {
			t := s.GetCPU().GetThrottling()
			u.CPU.Throttle = &event.Throttling{
				Periods: t.GetPeriods(), Throttled: t.GetThrottledPeriods(), Time: nano(t.GetThrottledTime()),
			}
			counted = true
		}
	}
	if dir, ok := root("memory"); ok && u.Memory == nil {
		controller := cgroup1.NewMemory(dir, cgroup1.IgnoreModules("kmem", "kmem.tcp"), cgroup1.OptionalSwap())
		if s := fresh(); controller.Stat(group, s) == nil {
			u.Memory = memoryV1(s)
			counted = true
		}
	}
	if dir, ok := root("blkio"); ok && u.IO == nil {
		if s := fresh(); cgroup1.NewBlkio(dir).Stat(group, s) == nil {
			u.IO = &event.IOUsage{}
			u.IO.ReadBytes, u.IO.WrittenBytes = sumEntries(s.GetBlkio().GetIoServiceBytesRecursive())
			u.IO.Reads, u.IO.Writes = sumEntries(s.GetBlkio().GetIoServicedRecursive())
			counted = true
		}
	}
	if dir, ok := root("pids"); ok && u.Tasks == nil {
		if s := fresh(); cgroup1.NewPids(dir).Stat(group, s) == nil {
			u.Tasks = &event.TaskUsage{Current: s.GetPids().GetCurrent(), Limit: limit(s.GetPids().GetLimit())}
			counted = true
		}
	}
	if counted {
		u.Sources = append(u.Sources, "cgroup1")
	}
}

func memoryV1(s *v1stats.Metrics) *event.MemoryUsage {
	m := s.GetMemory()
	current, both := m.GetUsage().GetUsage(), m.GetSwap().GetUsage() // the latter with what is swapped out
	return &event.MemoryUsage{
		Current: current, Peak: m.GetUsage().GetMax(), Limit: limit(m.GetUsage().GetLimit()),
		Anonymous: m.GetTotalRSS(), File: m.GetTotalCache(), Swap: max(both, current) - current,
		MajorFaults: m.GetTotalPgMajFault(), OOMKills: s.GetMemoryOomControl().GetOomKill(),
	}
}

func sumEntries(entries []*v1stats.BlkIOEntry) (read, written uint64) {
	for _, e := range entries {
		switch strings.ToLower(e.GetOp()) {
		case "read":
			read += e.GetValue()
		case "write":
			written += e.GetValue()
		}
	}
	return read, written
}

// limit is a limit, 0 for none: version 1 shows "none" as the most pages that fit into 63 bits, whatever
// their size, version 2 as "max".
func limit(n uint64) uint64 {
	const most = math.MaxInt64 &^ (1<<20 - 1)
	if n >= most {
		return 0
	}
	return n
}

func micro(n uint64) time.Duration { return duration(n, time.Microsecond) }
func nano(n uint64) time.Duration  { return duration(n, time.Nanosecond) }

// duration does not wrap around, whatever a file says.
func duration(n uint64, unit time.Duration) time.Duration {
	return time.Duration(min(n, uint64(math.MaxInt64/unit))) * unit
}

// readPressure reads how long tasks stood still; nil where the kernel does not count it. The library reads
// this too, but that of memory only where version 2 has the memory controller, without which the kernel
// counts it all the same.
func readPressure(dir, resource string) *event.Pressure {
	text, err := os.ReadFile(filepath.Join(dir, resource+".pressure"))
	if err != nil {
		return nil
	}
	return parsePressure(string(text))
}

// parsePressure takes "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and the same of "full" apart.
func parsePressure(text string) *event.Pressure {
	p, found := &event.Pressure{}, false
	for line := range strings.Lines(text) {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		_, total, ok := strings.Cut(rest, "total=")
		n, err := strconv.ParseUint(total, 10, 64)
		if !ok || err != nil {
			continue
		}
		switch kind {
		case "some":
			p.Some, found = micro(n), true
		case "full":
			p.Full, found = micro(n), true
		}
	}
	if !found {
		return nil
	}
	return p
}
