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
}

// Kind implements Payload.
func (*SyscallSummary) Kind() Kind { return KindSyscallSummary }

// Severity implements Payload.
func (*SyscallSummary) Severity() Severity { return SeverityDebug }

// AppendAttributes implements Payload.
func (s *SyscallSummary) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(dst,
		Attribute{SyscallWindow, Seconds(s.Window)},
		Attribute{SyscallCounts, Counts(s.Counts)})
	if len(s.Errors) > 0 {
		dst = append(dst, Attribute{SyscallErrors, Counts(s.Errors)})
	}
	return dst
}

// AppendBody implements Payload.
func (s *SyscallSummary) AppendBody(dst []byte) []byte {
	var total int64
	for _, c := range s.Counts {
		total += c.N
	}
	dst = strconv.AppendInt(dst, total, 10)
	dst = append(dst, " system calls of "...)
	dst = strconv.AppendInt(dst, int64(len(s.Counts)), 10)
	dst = append(dst, " kinds in "...)
	return append(dst, roundDuration(s.Window).String()...)
}
