// SPDX-License-Identifier: Apache-2.0

package event

import "strings"

// KindProbe is the state of one of the collector's probes, told when it starts and when that changes.
const KindProbe Kind = "watchglass.telemetry.probe"

// ProbeState is how well a probe works.
type ProbeState string

// The states.
const (
	// ProbeAttached: it works as the hook plan wants it.
	ProbeAttached ProbeState = "attached"
	// ProbeFallback: it tells everything, by a plan or at a place that every process of the node pays for.
	ProbeFallback ProbeState = "fallback"
	// ProbeDegraded: some of its events, or all, are missing.
	ProbeDegraded ProbeState = "degraded"
)

// ProbeStates is all of them.
func ProbeStates() []ProbeState { return []ProbeState{ProbeAttached, ProbeFallback, ProbeDegraded} }

// Probe is the state of one probe.
type Probe struct {
	Name  string
	State ProbeState
	// Plan is the hook plan by which it sees system calls, "" when it sees none.
	Plan string
	// Reason is why it is not attached as it should be, "" when it is; a line of the kernel's or the loader's.
	Reason string
	// Lost is the kinds of records of which some or all are missing.
	Lost []string
}

// ProbeOf is the state that a probe's account says.
func ProbeOf(s *ProbeStats) *Probe {
	p := &Probe{Name: s.Name, State: ProbeAttached, Plan: s.Plan}
	switch {
	case !s.Attached:
		p.State, p.Reason, p.Lost = ProbeDegraded, s.Err, s.Kinds
	case s.Fallback != "":
		p.State, p.Reason = ProbeFallback, s.Fallback
	}
	p.Reason, _, _ = strings.Cut(p.Reason, "\n")
	return p
}

// Kind implements Payload.
func (*Probe) Kind() Kind { return KindProbe }

// Severity implements Payload.
func (p *Probe) Severity() Severity {
	if p.State == ProbeAttached {
		return SeverityDebug
	}
	return SeverityWarn
}

// AppendAttributes implements Payload.
func (p *Probe) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(dst, Attribute{ProbeName, String(p.Name)}, Attribute{ProbeStateKey, String(string(p.State))})
	if p.Plan != "" {
		dst = append(dst, Attribute{ProbePlan, String(p.Plan)})
	}
	if p.Reason != "" {
		dst = append(dst, Attribute{ProbeReason, String(p.Reason)})
	}
	if len(p.Lost) > 0 {
		dst = append(dst, Attribute{ProbeLost, Strings(p.Lost)})
	}
	return dst
}

// AppendBody implements Payload.
func (p *Probe) AppendBody(dst []byte) []byte {
	dst = append(dst, p.Name...)
	dst = append(dst, ": "...)
	dst = append(dst, p.State...)
	if p.Plan != "" {
		dst = append(dst, ", plan "...)
		dst = append(dst, p.Plan...)
	}
	if p.Reason != "" {
		dst = append(dst, ": "...)
		dst = append(dst, p.Reason...)
	}
	return dst
}
