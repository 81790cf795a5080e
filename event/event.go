// SPDX-License-Identifier: Apache-2.0

package event

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
)

// SchemaURL names the version of the OpenTelemetry conventions the attribute names come from.
const SchemaURL = "https://opentelemetry.io/schemas/1.41.0"

// Kind is an event's name.
type Kind string

// Severity is an OpenTelemetry severity number.
type Severity uint8

// The severities in use. Findings use all of info to critical; other events use debug, info and warn.
const (
	SeverityDebug    Severity = 5
	SeverityInfo     Severity = 9
	SeverityLow      Severity = 10
	SeverityMedium   Severity = 13
	SeverityWarn     Severity = 13
	SeverityError    Severity = 17
	SeverityHigh     Severity = 17
	SeverityCritical Severity = 21
)

// Text is the short name that OpenTelemetry gives the severity number.
func (s Severity) Text() string {
	switch {
	case s >= SeverityCritical:
		return "FATAL"
	case s >= SeverityHigh:
		return "ERROR"
	case s >= SeverityWarn:
		return "WARN"
	case s >= SeverityInfo:
		return "INFO"
	default:
		return "DEBUG"
	}
}

// FindingName is the severity's name in the scale of findings.
func (s Severity) FindingName() string {
	switch {
	case s >= SeverityCritical:
		return "critical"
	case s >= SeverityHigh:
		return "high"
	case s >= SeverityMedium:
		return "medium"
	case s >= SeverityLow:
		return "low"
	default:
		return "info"
	}
}

// ParseFindingSeverity is the severity that FindingName calls so.
func ParseFindingSeverity(name string) (Severity, error) {
	for _, s := range []Severity{SeverityInfo, SeverityLow, SeverityMedium, SeverityHigh, SeverityCritical} {
		if s.FindingName() == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("%q is none of info, low, medium, high and critical", name)
}

// Payload is what an event is about. Implementations are pointers to the structs of this package.
// They are immutable once the event was published.
type Payload interface {
	// Kind is the event's name.
	Kind() Kind
	// Severity is how much attention the event deserves.
	Severity() Severity
	// AppendAttributes appends the payload's attributes, absent ones left out, and returns the extended slice.
	AppendAttributes(dst []Attribute) []Attribute
	// AppendBody appends one display line without a newline. It holds the sandbox's bytes unescaped.
	AppendBody(dst []byte) []byte
}

// Event is one thing that happened. It is immutable once published: stages share the pointer.
type Event struct {
	// Time is when it happened, by the kernel's clock.
	Time time.Time
	// Observed is when the collector read it.
	Observed time.Time
	// Seq grows by one per published event; see EventSeq.
	Seq uint64
	// Instance is unique per start of the collector; with Seq it makes the UID.
	Instance string
	// Sandbox is where it happened. Nil for events of the collector itself.
	Sandbox *Sandbox
	// Process is who did it. Nil for events that no process caused.
	Process *Process
	// Truncated is true when any field was cut at a limit.
	Truncated bool
	// Place is where the kernel's record of it ends, zero when none made it. It is not told: it is for the journal.
	Place Place
	// Payload is what happened. Never nil.
	Payload Payload
}

// Place is where a record ends in the kernel's ring. Places of one ring are in the order of their positions.
type Place struct {
	// Ring is the ring's identity, Position is in bytes since it was made.
	Ring, Position uint64
}

// Kind is the payload's kind.
func (e *Event) Kind() Kind { return e.Payload.Kind() }

// UID is the event's log.record.uid: the collector's instance and the sequence number.
func (e *Event) UID() string {
	b := make([]byte, 0, len(e.Instance)+17)
	b = append(b, e.Instance...)
	b = append(b, '-')
	return string(strconv.AppendUint(b, e.Seq, 10))
}

// AppendAttributes appends everything that varies inside a sandbox: the record's own attributes,
// the process's, and the payload's. Resource attributes are Sandbox.AppendAttributes.
func (e *Event) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(dst,
		Attribute{OtelEventName, String(string(e.Kind()))},
		Attribute{LogRecordUID, Value{kind: ValueString, form: formUID, str: e.Instance, num: e.Seq}},
		Attribute{EventSeq, Int(int64(e.Seq))})
	if e.Truncated {
		dst = append(dst, Attribute{CaptureTruncated, Bool(true)})
	}
	if e.Process != nil {
		dst = e.Process.appendOwn(dst)
		// A claim says itself which session and call it is about.
		if _, claim := e.Payload.(Said); !claim && e.Process.Agent != nil {
			dst = e.Process.Agent.appendAttributes(dst)
		}
	}
	return e.Payload.AppendAttributes(dst)
}

// Sandbox is one watched cgroup and what is known of it: the resource of its events. Immutable.
type Sandbox struct {
	// ID is the stable identity, Name what people call it.
	ID, Name string
	// Runtime is what made it.
	Runtime string
	// Cgroup is the path below the cgroup2 mount, with a leading slash.
	Cgroup string
	// CgroupID is the inode of the cgroup's directory: the kernel's id of the sandbox.
	CgroupID uint64
	// Started is when watching began.
	Started time.Time
}

// AppendAttributes appends the resource attributes of the sandbox.
func (s *Sandbox) AppendAttributes(dst []Attribute) []Attribute {
	return append(dst,
		Attribute{SandboxID, String(s.ID)},
		Attribute{SandboxName, String(s.Name)},
		Attribute{SandboxRuntime, String(s.Runtime)},
		Attribute{SandboxCgroup, String(s.Cgroup)})
}

// ProcessID is the stable identity of a process: a 64-bit hash of boot id, pid and start time.
type ProcessID uint64

// String is the identity as 16 hexadecimal digits, or "" for the zero identity.
func (id ProcessID) String() string {
	if id == 0 {
		return ""
	}
	var b [16]byte
	return string(id.append(b[:0]))
}

func (id ProcessID) append(dst []byte) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, digits[id>>shift&0xf])
	}
	return dst
}

// Process is a process as it was at one moment. It is immutable: an exec makes a new one with the same UID.
type Process struct {
	// UID, ParentUID, RootUID: see the attributes of those names. Zero when not known.
	UID, ParentUID, RootUID ProcessID
	// PID and ParentPID are in the initial PID namespace, VPID in the process's own.
	PID, ParentPID, VPID uint32
	// UserID and GroupID are the effective ids in the initial user namespace.
	UserID, GroupID uint32
	// Start is when the process was forked.
	Start time.Time
	// Executable is the path of the running program; Name its last element.
	Executable, Name string
	// Args is the first arguments of the last exec, as far as the process tree keeps them; the exec's own
	// event has all. Shared, never change it.
	Args []string
	// Cgroup is the process's cgroup path, when it differs from the sandbox's.
	Cgroup string
	// Agent is what is known of the agent that the process works for; nil when nothing is.
	Agent *Agent
	// Parent is the parent as it was at the fork; nil when unknown. Chains are bounded by the process tree.
	Parent *Process
}

// Agent joins a process to the agent's session and tool call.
type Agent struct {
	// Name is the agent's name, one of the adapters' names.
	Name string
	// SessionID and ConversationID are the agent's own ids; "" when not known.
	SessionID, ConversationID string
	// Turn is the agent's id of the turn; CallID the tool call that owns the process and Tool its tool; "" outside
	// of any. Approval is the id of the approval that the call got; "" when none is known.
	Turn, CallID, Tool, Approval string
	// MCPServer is the name of the tool server (Model Context Protocol) that the process is or is of; "" for none.
	MCPServer string
	// TraceID and SpanID are the agent's span that owns the process; zero when not known.
	TraceID [16]byte
	SpanID  [8]byte
	// Method is how this is known (collector/agent has the values), Confidence how sure it is (exact, strong, inferred).
	Method, Confidence string
}

// HasTrace says whether the agent's trace context is known.
func (a *Agent) HasTrace() bool { return a != nil && a.TraceID != [16]byte{} }

// TraceIDHex is the trace id as lower-case hexadecimal.
func (a *Agent) TraceIDHex() string { return hex.EncodeToString(a.TraceID[:]) }

// SpanIDHex is the span id as lower-case hexadecimal.
func (a *Agent) SpanIDHex() string { return hex.EncodeToString(a.SpanID[:]) }

// appendOwn appends the attributes that say which process caused an event, but for what it works for.
func (p *Process) appendOwn(dst []Attribute) []Attribute {
	dst = append(dst,
		Attribute{ProcessPID, Int(int64(p.PID))},
		Attribute{ProcessCreationTime, Timestamp(p.Start)},
		Attribute{ProcessUID, idValue(p.UID)},
		Attribute{ProcessParentPID, Int(int64(p.ParentPID))},
		Attribute{ProcessUserID, Int(int64(p.UserID))},
		Attribute{ProcessGroupID, Int(int64(p.GroupID))})
	if p.VPID != 0 {
		dst = append(dst, Attribute{ProcessVPID, Int(int64(p.VPID))})
	}
	if p.ParentUID != 0 {
		dst = append(dst, Attribute{ProcessParentUID, idValue(p.ParentUID)})
	}
	if p.RootUID != 0 {
		dst = append(dst, Attribute{ProcessRootUID, idValue(p.RootUID)})
	}
	dst = appendString(dst, ProcessExecutableName, p.Name)
	dst = appendString(dst, ProcessExecutablePath, p.Executable)
	return appendString(dst, ProcessLinuxCgroup, p.Cgroup)
}

func (a *Agent) appendAttributes(dst []Attribute) []Attribute {
	dst = appendString(dst, GenAIAgentName, a.Name)
	dst = appendString(dst, SessionID, a.SessionID)
	dst = appendString(dst, GenAIConversationID, a.ConversationID)
	dst = appendString(dst, TurnID, a.Turn)
	dst = appendString(dst, GenAIToolCallID, a.CallID)
	dst = appendString(dst, GenAIToolName, a.Tool)
	dst = appendString(dst, ApprovalID, a.Approval)
	dst = appendString(dst, MCPServerName, a.MCPServer)
	dst = appendString(dst, JoinMethod, a.Method)
	return appendString(dst, JoinConfidence, a.Confidence)
}

// Ancestry is the executable names from the parent upwards, at most limit.
func (p *Process) Ancestry(limit int) []string { return p.AppendAncestry(nil, limit) }

// AppendAncestry appends them to dst, at most limit, and returns the extended slice.
func (p *Process) AppendAncestry(dst []string, limit int) []string {
	for q := p.Parent; q != nil && limit > 0; q, limit = q.Parent, limit-1 {
		dst = append(dst, q.Name)
	}
	return dst
}

func appendString(dst []Attribute, key Key, value string) []Attribute {
	if value == "" {
		return dst
	}
	return append(dst, Attribute{key, String(value)})
}
