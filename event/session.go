// SPDX-License-Identifier: Apache-2.0

package event

import (
	"strconv"
	"time"
)

// SessionStart is the start of a session: an agent's word, or a fact where the agent says nothing.
type SessionStart struct {
	Claim
	// Provider, Model, ApprovalMode and Sandbox are what the agent says it uses; "" when not said.
	Provider, Model, ApprovalMode, Sandbox string
}

// Kind implements Payload.
func (*SessionStart) Kind() Kind { return KindSessionStart }

// Severity implements Payload.
func (*SessionStart) Severity() Severity { return SeverityInfo }

// AppendAttributes implements Payload.
func (s *SessionStart) AppendAttributes(dst []Attribute) []Attribute {
	dst = appendString(s.appendClaim(dst), GenAIProviderName, s.Provider)
	dst = appendString(dst, GenAIRequestModel, s.Model)
	dst = appendString(dst, ApprovalMode, s.ApprovalMode)
	return appendString(dst, SandboxClaimed, s.Sandbox)
}

// AppendBody implements Payload.
func (s *SessionStart) AppendBody(dst []byte) []byte {
	dst = append(s.appendWho(dst), " session "...)
	dst = append(append(dst, s.Session...), " starts"...)
	if s.ApprovalMode != "" {
		dst = append(append(dst, ", approvals "...), s.ApprovalMode...)
	}
	if s.Sandbox != "" {
		dst = append(append(dst, ", sandbox "...), s.Sandbox...)
	}
	return dst
}

// SessionEnd is the end of a session.
type SessionEnd struct {
	Claim
	// Reason is exit (the agent's process ended), claimed, sandbox_gone (or no longer watched)
	// or evicted.
	Reason   string
	Duration time.Duration
	// Turns, ToolCalls and Processes are how many there were.
	Turns, ToolCalls, Processes int
}

// Kind implements Payload.
func (*SessionEnd) Kind() Kind { return KindSessionEnd }

// Severity implements Payload.
func (*SessionEnd) Severity() Severity { return SeverityInfo }

// AppendAttributes implements Payload.
func (s *SessionEnd) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(s.appendClaim(dst), Attribute{SessionEndReason, String(s.Reason)})
	dst = appendSeconds(dst, SessionDuration, s.Duration)
	return append(dst,
		Attribute{SessionTurns, Int(int64(s.Turns))},
		Attribute{SessionToolCalls, Int(int64(s.ToolCalls))},
		Attribute{SessionProcesses, Int(int64(s.Processes))})
}

// AppendBody implements Payload.
func (s *SessionEnd) AppendBody(dst []byte) []byte {
	dst = append(s.appendWho(dst), " session "...)
	dst = append(append(dst, s.Session...), " ends, "...)
	dst = strconv.AppendInt(dst, int64(s.ToolCalls), 10)
	dst = append(dst, " tool calls, "...)
	dst = strconv.AppendInt(dst, int64(s.Processes), 10)
	return append(dst, " processes"...)
}

// Phase is which part of a tool call an event tells.
type Phase string

// The phases.
const (
	PhaseStart Phase = "start"
	PhaseEnd   Phase = "end"
	// PhaseJoined tells what the kernel saw of the call: it names the call's root processes.
	PhaseJoined Phase = "joined"
)

// Outcome is whether something succeeded, if that is known.
type Outcome uint8

// The outcomes.
const (
	OutcomeUnknown Outcome = iota
	OutcomeSuccess
	OutcomeFailure
)

// ToolCall is one part of a tool call. A call of the Model Context Protocol has its server's name.
type ToolCall struct {
	Claim
	Phase Phase
	// ID is the agent's id of the call; "" when it gives none.
	ID string
	// Name is the tool's, Type function or extension, MCPServer the server that offers it.
	Name, Type, MCPServer string
	// Command is the command line and WorkingDirectory the directory that the agent says it runs, for tools
	// that run commands. Arguments is all arguments; Result what came of it, told only on request.
	Command, WorkingDirectory, Arguments, Result string
	// Paths is the files that the arguments name, for tools that read or change files.
	Paths []string
	// Outcome, ClaimedExit (valid with HasExit), Error and Duration are the agent's word at the end.
	Outcome     Outcome
	ClaimedExit int
	HasExit     bool
	Error       string
	Duration    time.Duration
	// Running is true when the process goes on after the result.
	Running bool
	// ProcessGroup is the group in which the agent says that it ran the command, in the agent's pid namespace; 0 when
	// not said.
	ProcessGroup uint32
	// Shell is the agent's id of a shell that outlives the call: of the call that started it, and of those that
	// write to it. "" for none.
	Shell string

	// What follows is the kernel's, in PhaseJoined.
	Roots              ProcessIDs
	Method, Confidence string
	// ExitCode is of the last root process that ended, valid with Exited.
	ExitCode int
	Exited   bool
	Totals   ToolTotals
}

// ToolTotals is what the processes of a call did, as far as seen.
type ToolTotals struct {
	Processes, FilesRead, FilesWritten, Connections int
	BytesSent, BytesReceived                        uint64
}

// Kind implements Payload.
func (*ToolCall) Kind() Kind { return KindToolCall }

// Severity implements Payload.
func (t *ToolCall) Severity() Severity {
	if t.Outcome == OutcomeFailure || t.HasExit && t.ClaimedExit != 0 {
		return SeverityError
	}
	return SeverityInfo
}

// AppendAttributes implements Payload.
func (t *ToolCall) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(t.appendClaim(dst),
		Attribute{GenAIOperationName, String("execute_tool")},
		Attribute{ToolPhase, String(string(t.Phase))})
	dst = appendString(dst, GenAIToolName, t.Name)
	dst = appendString(dst, GenAIToolType, t.Type)
	dst = appendString(dst, GenAIToolCallID, t.ID)
	if t.MCPServer != "" {
		dst = append(dst, Attribute{MCPMethodName, String("tools/call")})
	}
	dst = appendString(dst, MCPServerName, t.MCPServer)
	dst = appendString(dst, ToolCommand, t.Command)
	dst = appendString(dst, ToolWorkingDirectory, t.WorkingDirectory)
	dst = appendStrings(dst, ToolPaths, t.Paths)
	dst = appendString(dst, GenAIToolCallArguments, t.Arguments)
	dst = appendString(dst, GenAIToolCallResult, t.Result)
	if t.Outcome != OutcomeUnknown {
		dst = append(dst, Attribute{ToolSuccess, Bool(t.Outcome == OutcomeSuccess)})
	}
	if t.HasExit {
		dst = append(dst, Attribute{ToolClaimedExitCode, Int(int64(t.ClaimedExit))})
	}
	dst = appendString(dst, ErrorMessage, t.Error)
	dst = appendSeconds(dst, AgentDuration, t.Duration)
	if t.Running {
		dst = append(dst, Attribute{ToolRunning, Bool(true)})
	}
	dst = appendInt(dst, ToolProcessGroup, int64(t.ProcessGroup))
	dst = appendString(dst, ToolShell, t.Shell)
	if t.Phase == PhaseJoined {
		dst = t.appendJoined(dst)
	}
	return dst
}

func (t *ToolCall) appendJoined(dst []Attribute) []Attribute {
	dst = appendIDs(dst, ToolRoots, &t.Roots)
	dst = appendString(dst, JoinMethod, t.Method)
	dst = appendString(dst, JoinConfidence, t.Confidence)
	if t.Exited {
		dst = append(dst, Attribute{ProcessExitCode, Int(int64(t.ExitCode))})
	}
	dst = append(dst,
		Attribute{ToolProcesses, Int(int64(t.Totals.Processes))},
		Attribute{ToolFilesRead, Int(int64(t.Totals.FilesRead))},
		Attribute{ToolFilesWritten, Int(int64(t.Totals.FilesWritten))},
		Attribute{ToolConnections, Int(int64(t.Totals.Connections))})
	dst = appendInt(dst, NetworkBytesSent, int64(t.Totals.BytesSent))
	return appendInt(dst, NetworkBytesReceived, int64(t.Totals.BytesReceived))
}

// AppendBody implements Payload.
func (t *ToolCall) AppendBody(dst []byte) []byte {
	dst = append(append(dst, t.Name...), ' ')
	dst = append(dst, t.Phase...)
	if t.Command != "" {
		dst = append(append(dst, ": "...), t.Command...)
	}
	switch {
	case t.Phase == PhaseJoined:
		dst = append(dst, ", processes "...)
		dst = strconv.AppendInt(dst, int64(t.Totals.Processes), 10)
	case t.HasExit:
		dst = append(dst, ", exit "...)
		dst = strconv.AppendInt(dst, int64(t.ClaimedExit), 10)
	case t.Outcome == OutcomeFailure:
		dst = append(append(dst, ", failed "...), t.Error...)
	}
	return dst
}
