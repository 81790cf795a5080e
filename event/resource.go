// SPDX-License-Identifier: Apache-2.0

package event

import (
	"strconv"
	"time"
)

// KindResourceUsage is what a sandbox used of the machine, as its cgroups count it.
const KindResourceUsage Kind = "watchglass.resource.usage"

// ResourceUsage is the account of one sandbox at one moment. Times, bytes and counts only grow while the
// cgroup is there, so that one lost event loses no usage. What the kernel does not count there is nil or
// empty, which is not zero.
type ResourceUsage struct {
	// Sources is which kinds of cgroup it was read from: cgroup2, cgroup1.
	Sources []string
	CPU     *CPUUsage
	Memory  *MemoryUsage
	IO      *IOUsage
	// Tasks is the processes and threads.
	Tasks *TaskUsage
	// Pressure is by resource; those of which the kernel does not count stalls are nil.
	Pressure Pressures
}

// CPUUsage is processor time.
type CPUUsage struct {
	// Total is all time, User and System its parts.
	Total, User, System time.Duration
	// Throttle is nil where no quota can be set.
	Throttle *Throttling
}

// Throttling is how a quota of processor time slowed the sandbox down.
type Throttling struct {
	// Periods is how many periods of the quota passed, Throttled in how many of them it was used up.
	Periods, Throttled uint64
	// Time is for how long processes that could have run had to wait.
	Time time.Duration
}

// MemoryUsage is memory in bytes.
type MemoryUsage struct {
	// Current is what is charged now, Peak the most that was; 0 where the kernel does not keep it.
	Current, Peak uint64
	// Limit is 0 when there is none.
	Limit uint64
	// Anonymous and File are parts of Current.
	Anonymous, File uint64
	// Swap is what is swapped out.
	Swap uint64
	// MajorFaults is how many accesses had to wait for a disk.
	MajorFaults uint64
	// OOMKills is how many processes the kernel killed because the limit was reached.
	OOMKills uint64
}

// IOUsage is traffic with block devices, all of them together.
type IOUsage struct {
	ReadBytes, WrittenBytes uint64
	Reads, Writes           uint64
}

// TaskUsage is the number of processes and threads; Limit is 0 when there is none.
type TaskUsage struct{ Current, Limit uint64 }

// Pressures is how long tasks stood still for lack of a resource.
type Pressures struct{ CPU, Memory, IO *Pressure }

// Pressure is for how long some, and all, of the tasks that wanted to run stood still.
type Pressure struct{ Some, Full time.Duration }

// Kind implements Payload.
func (*ResourceUsage) Kind() Kind { return KindResourceUsage }

// Severity implements Payload.
func (*ResourceUsage) Severity() Severity { return SeverityDebug }

// AppendAttributes implements Payload.
func (u *ResourceUsage) AppendAttributes(dst []Attribute) []Attribute {
	dst = appendStrings(dst, ResourceSource, u.Sources)
	if c := u.CPU; c != nil {
		dst = append(dst,
			Attribute{ResourceCPUTime, Seconds(c.Total)},
			Attribute{ResourceCPUUser, Seconds(c.User)},
			Attribute{ResourceCPUSystem, Seconds(c.System)})
		if t := c.Throttle; t != nil {
			dst = append(dst,
				Attribute{ResourceCPUPeriods, Int(int64(t.Periods))},
				Attribute{ResourceCPUThrottled, Int(int64(t.Throttled))},
				Attribute{ResourceCPUThrottledTime, Seconds(t.Time)})
		}
	}
	if m := u.Memory; m != nil {
		dst = append(dst,
			Attribute{ResourceMemoryUsage, Int(int64(m.Current))},
			Attribute{ResourceMemoryAnonymous, Int(int64(m.Anonymous))},
			Attribute{ResourceMemoryFile, Int(int64(m.File))},
			Attribute{ResourceMemorySwap, Int(int64(m.Swap))},
			Attribute{ResourceMemoryMajorFaults, Int(int64(m.MajorFaults))},
			Attribute{ResourceOOMKills, Int(int64(m.OOMKills))})
		dst = appendPositive(dst, ResourceMemoryPeak, m.Peak)
		dst = appendPositive(dst, ResourceMemoryLimit, m.Limit)
	}
	if io := u.IO; io != nil {
		dst = append(dst,
			Attribute{ResourceIOReadBytes, Int(int64(io.ReadBytes))},
			Attribute{ResourceIOWrittenBytes, Int(int64(io.WrittenBytes))},
			Attribute{ResourceIOReads, Int(int64(io.Reads))},
			Attribute{ResourceIOWrites, Int(int64(io.Writes))})
	}
	if t := u.Tasks; t != nil {
		dst = append(dst, Attribute{ResourceTasks, Int(int64(t.Current))})
		dst = appendPositive(dst, ResourceTasksLimit, t.Limit)
	}
	if p := u.Pressure.CPU; p != nil {
		dst = append(dst, Attribute{PressureCPUSome, Seconds(p.Some)}, Attribute{PressureCPUFull, Seconds(p.Full)})
	}
	if p := u.Pressure.Memory; p != nil {
		dst = append(dst, Attribute{PressureMemorySome, Seconds(p.Some)}, Attribute{PressureMemoryFull, Seconds(p.Full)})
	}
	if p := u.Pressure.IO; p != nil {
		dst = append(dst, Attribute{PressureIOSome, Seconds(p.Some)}, Attribute{PressureIOFull, Seconds(p.Full)})
	}
	return dst
}

// AppendBody implements Payload.
func (u *ResourceUsage) AppendBody(dst []byte) []byte {
	start := len(dst)
	part := func(name string) {
		if len(dst) > start {
			dst = append(dst, ", "...)
		}
		dst = append(dst, name...)
	}
	if u.CPU != nil {
		part("cpu ")
		dst = append(dst, roundDuration(u.CPU.Total).String()...)
	}
	if u.Memory != nil {
		part("memory ")
		dst = AppendBytes(dst, u.Memory.Current)
		if u.Memory.Limit > 0 {
			dst = AppendBytes(append(dst, " of "...), u.Memory.Limit)
		}
	}
	if u.IO != nil {
		part("read ")
		dst = AppendBytes(dst, u.IO.ReadBytes)
		part("written ")
		dst = AppendBytes(dst, u.IO.WrittenBytes)
	}
	if u.Tasks != nil {
		part("tasks ")
		dst = strconv.AppendUint(dst, u.Tasks.Current, 10)
	}
	if u.Memory != nil && u.Memory.OOMKills > 0 {
		part("killed for memory ")
		dst = strconv.AppendUint(dst, u.Memory.OOMKills, 10)
	}
	if len(dst) == start {
		return append(dst, "nothing is counted"...)
	}
	return dst
}

func appendPositive(dst []Attribute, key Key, n uint64) []Attribute {
	if n == 0 {
		return dst
	}
	return append(dst, Attribute{key, Int(int64(n))})
}
