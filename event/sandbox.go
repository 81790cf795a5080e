// SPDX-License-Identifier: Apache-2.0

package event

import "strconv"

// Kinds of sandbox events.
const (
	// KindSandboxStart is the moment from which a sandbox is watched.
	KindSandboxStart Kind = "watchglass.sandbox.start"
	// KindSandboxStop is the moment from which it no longer is.
	KindSandboxStop Kind = "watchglass.sandbox.stop"
)

// SandboxStart says that watching began. What the sandbox is stands in the event's resource.
type SandboxStart struct {
	// Processes is how many processes were alive in it already.
	Processes int
}

// Kind implements Payload.
func (*SandboxStart) Kind() Kind { return KindSandboxStart }

// Severity implements Payload.
func (*SandboxStart) Severity() Severity { return SeverityInfo }

// AppendAttributes implements Payload.
func (s *SandboxStart) AppendAttributes(dst []Attribute) []Attribute {
	return append(dst, Attribute{SandboxProcesses, Int(int64(s.Processes))})
}

// AppendBody implements Payload.
func (s *SandboxStart) AppendBody(dst []byte) []byte {
	dst = append(dst, "watching, "...)
	dst = strconv.AppendInt(dst, int64(s.Processes), 10)
	return append(dst, " processes alive"...)
}

// SandboxStop says that watching ended, because the cgroup is gone or the collector stops.
type SandboxStop struct {
	// Processes is how many processes were seen in all; Outlived how many were still alive.
	Processes, Outlived int
	// Outlivers is the names of the first of those, as name[pid]; Left how many of them nobody has ended since.
	Outlivers []string
	Left      int
}

// Kind implements Payload.
func (*SandboxStop) Kind() Kind { return KindSandboxStop }

// Severity implements Payload.
func (*SandboxStop) Severity() Severity { return SeverityInfo }

// AppendAttributes implements Payload.
func (s *SandboxStop) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(dst,
		Attribute{SandboxProcesses, Int(int64(s.Processes))},
		Attribute{SandboxOutlived, Int(int64(s.Outlived))},
		Attribute{SandboxLeft, Int(int64(s.Left))})
	return appendStrings(dst, SandboxOutlivers, s.Outlivers)
}

// AppendBody implements Payload.
func (s *SandboxStop) AppendBody(dst []byte) []byte {
	dst = append(dst, "no longer watching, "...)
	dst = strconv.AppendInt(dst, int64(s.Processes), 10)
	dst = append(dst, " processes seen, "...)
	dst = strconv.AppendInt(dst, int64(s.Outlived), 10)
	return append(dst, " still alive"...)
}
