// SPDX-License-Identifier: Apache-2.0

package event

import (
	"strconv"
	"time"
)

// KindSyscallSummary is how often each system call was made in a sandbox over an interval.
const KindSyscallSummary Kind = "watchglass.syscall.summary"

// SyscallSummary is the system calls of one sandbox over one interval.
type SyscallSummary struct {
	// Window is the length of the interval.
	Window time.Duration
	// Counts and Errors are by name of the call, most frequent first; calls that were not made are absent.
	Counts, Errors []Count
	// Processes is how many of the calls were made by which process: by the UIDs of those that made the most, each of
	// which has a SyscallProcess of its own, then OtherCount for the rest. The sum is that of Counts.
	Processes []Count
	// Latencies is how long the calls took; nil where that is not measured.
	Latencies *Latencies
}

// OtherCount is the name under which everything is counted that has no count of its own.
const OtherCount = "_other"

// Kind implements Payload.
func (*SyscallSummary) Kind() Kind { return KindSyscallSummary }

// Severity implements Payload.
func (*SyscallSummary) Severity() Severity { return SeverityDebug }

// AppendAttributes implements Payload.
func (s *SyscallSummary) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(dst, Attribute{SyscallWindow, Seconds(s.Window)})
	dst = appendCounts(dst, s.Counts, s.Errors)
	if len(s.Processes) > 0 {
		dst = append(dst, Attribute{SyscallProcesses, Counts(s.Processes)})
	}
	return s.Latencies.AppendAttributes(dst)
}

// AppendBody implements Payload.
func (s *SyscallSummary) AppendBody(dst []byte) []byte {
	return appendCalls(dst, s.Counts, s.Window)
}

func appendCounts(dst []Attribute, counts, errs []Count) []Attribute {
	dst = append(dst, Attribute{SyscallCounts, Counts(counts)})
	if len(errs) > 0 {
		dst = append(dst, Attribute{SyscallErrors, Counts(errs)})
	}
	return dst
}

func appendCalls(dst []byte, counts []Count, window time.Duration) []byte {
	dst = strconv.AppendInt(dst, SumOf(counts), 10)
	dst = append(dst, " system calls of "...)
	dst = strconv.AppendInt(dst, int64(len(counts)), 10)
	dst = append(dst, " kinds in "...)
	return append(dst, roundDuration(window).String()...)
}

// KindSyscallProcess is how often a process made each system call over an interval.
const KindSyscallProcess Kind = "watchglass.syscall.process"

// SyscallProcess is the system calls of one process over the interval of its sandbox's SyscallSummary, of which they are
// a part. The event's process is whose they are.
type SyscallProcess struct {
	// Window is the length of the interval.
	Window time.Duration
	// Counts and Errors are by name of the call, most frequent first.
	Counts, Errors []Count
	// Other is how many more calls it made, of kinds that found no room of their own: a process has room for 64.
	Other int64
	// Latencies is how long its calls took, those of Other too, as AllCalls; nil where that is not measured.
	Latencies *Latencies
}

// Kind implements Payload.
func (*SyscallProcess) Kind() Kind { return KindSyscallProcess }

// Severity implements Payload.
func (*SyscallProcess) Severity() Severity { return SeverityDebug }

// AppendAttributes implements Payload.
func (s *SyscallProcess) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(dst, Attribute{SyscallWindow, Seconds(s.Window)})
	dst = appendCounts(dst, s.Counts, s.Errors)
	if s.Other > 0 {
		dst = append(dst, Attribute{SyscallOther, Int(s.Other)})
	}
	return s.Latencies.AppendAttributes(dst)
}

// AppendBody implements Payload.
func (s *SyscallProcess) AppendBody(dst []byte) []byte { return appendCalls(dst, s.Counts, s.Window) }
