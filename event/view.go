// SPDX-License-Identifier: Apache-2.0

package event

import "time"

// SessionView is one session as it can be shown: a copy, of one moment. Whoever has sessions makes it, the daemon
// of what it remembers or a reader of recorded events, and whoever shows sessions needs nothing else.
//
// The JSON form is the interface of `watchglass sessions --json` and `watchglass show --json`. Texts hold the
// sandbox's bytes; what is not UTF-8 is replaced in JSON.
type SessionView struct {
	ID           string `json:"id"`
	Conversation string `json:"conversation,omitempty"`
	// Parent is the session that started this one, "" for none.
	Parent  string `json:"parent,omitempty"`
	Agent   string `json:"agent"`
	Version string `json:"version,omitempty"`
	// Sandbox is the sandbox's ID, SandboxName what people call it.
	Sandbox     string `json:"sandbox"`
	SandboxName string `json:"sandbox_name,omitempty"`
	// Provider, Model, ApprovalMode and SandboxClaimed are the agent's word.
	Provider       string `json:"provider,omitempty"`
	Model          string `json:"model,omitempty"`
	ApprovalMode   string `json:"approval_mode,omitempty"`
	SandboxClaimed string `json:"sandbox_claimed,omitempty"`
	// Claimed is true when the agent has said anything: otherwise all is the kernel's.
	Claimed bool `json:"claimed"`
	// PID is the agent's process, 0 when not known or over.
	PID uint32 `json:"pid,omitempty"`
	// Started and Ended are times; Ended is zero while the session goes on. EndReason is as in SessionEnd.
	Started   time.Time `json:"started"`
	Ended     time.Time `json:"ended,omitzero"`
	EndReason string    `json:"end_reason,omitempty"`
	// TurnCount, CallCount and ProcessCount are how many there were; those that are remembered may be fewer.
	TurnCount    int `json:"turn_count"`
	CallCount    int `json:"call_count"`
	ProcessCount int `json:"process_count"`
	Errors       int `json:"errors,omitempty"`
	// Turns is empty in lists of sessions. Decisions is those of policies that belong to no call.
	Turns     []TurnView     `json:"turns,omitempty"`
	Decisions []DecisionView `json:"decisions,omitempty"`
}

// TurnView is one turn: a prompt and what followed.
type TurnView struct {
	ID      string    `json:"id,omitempty"`
	Started time.Time `json:"started"`
	// Ended is when the agent said that it waits again; zero when it did not.
	Ended time.Time `json:"ended,omitzero"`
	// Prompt is "" unless the operator wants it told; PromptLength is in characters.
	Prompt       string  `json:"prompt,omitempty"`
	PromptLength int     `json:"prompt_length,omitempty"`
	Requests     int     `json:"requests,omitempty"`
	InputTokens  int64   `json:"input_tokens,omitempty"`
	OutputTokens int64   `json:"output_tokens,omitempty"`
	CostUSD      float64 `json:"cost_usd,omitempty"`
	// Calls is the tool calls, the first that began first.
	Calls []CallView `json:"calls,omitempty"`
}

// CallView is one tool call: what the agent said of it and what the kernel saw.
type CallView struct {
	ID        string `json:"id"`
	Tool      string `json:"tool,omitempty"`
	MCPServer string `json:"mcp_server,omitempty"`
	Command   string `json:"command,omitempty"`
	// SubAgent is the sub-agent that made the call, "" for the agent itself.
	SubAgent  string `json:"sub_agent,omitempty"`
	Directory string `json:"directory,omitempty"`
	// Started and Ended are the agent's word.
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	// Outcome is success or failure as the agent says, "" when it does not.
	Outcome     string `json:"outcome,omitempty"`
	ClaimedExit *int   `json:"claimed_exit_code,omitempty"`
	Error       string `json:"error,omitempty"`
	Sandbox     string `json:"sandbox_outcome,omitempty"`
	// Method and Confidence are of the join between call and processes; "" while there is none.
	Method     string `json:"join_method,omitempty"`
	Confidence string `json:"join_confidence,omitempty"`
	// ExitCode is the kernel's, as a shell says it: 128 and the signal's number for a signal.
	ExitCode  *int           `json:"exit_code,omitempty"`
	Approvals []ApprovalView `json:"approvals,omitempty"`
	Decisions []DecisionView `json:"decisions,omitempty"`
	Processes []ProgramView  `json:"processes,omitempty"`
	Files     []ObjectView   `json:"files,omitempty"`
	Peers     []ObjectView   `json:"peers,omitempty"`
	// Omitted is how many processes, files and connections are only in the totals.
	Omitted int        `json:"omitted,omitempty"`
	Totals  TotalsView `json:"totals"`
}

// TotalsView is what the processes of a call did in all.
type TotalsView struct {
	Processes     int    `json:"processes"`
	FilesRead     int    `json:"files_read"`
	FilesWritten  int    `json:"files_written"`
	Connections   int    `json:"connections"`
	BytesSent     uint64 `json:"bytes_sent"`
	BytesReceived uint64 `json:"bytes_received"`
}

// ApprovalView is one step of a decision on a call.
type ApprovalView struct {
	ID      string        `json:"id,omitempty"`
	State   ApprovalState `json:"state"`
	Decider string        `json:"decider,omitempty"`
	Scope   string        `json:"scope,omitempty"`
	Reason  string        `json:"reason,omitempty"`
	Time    time.Time     `json:"time"`
}

// DecisionView is one decision of a policy.
type DecisionView struct {
	Decision Decision  `json:"decision"`
	Subject  string    `json:"subject,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Method   string    `json:"join_method,omitempty"`
	Time     time.Time `json:"time"`
}

// ProgramView is one process of a call.
type ProgramView struct {
	UID       string `json:"uid"`
	ParentUID string `json:"parent_uid,omitempty"`
	PID       uint32 `json:"pid"`
	// Command is the last command line.
	Command string    `json:"command"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"`
	// ExitCode is the kernel's once Ended is set; Signal the name of what ended it instead.
	ExitCode int    `json:"exit_code"`
	Signal   string `json:"signal,omitempty"`
}

// ObjectView is a file or a peer.
type ObjectView struct {
	// Name is the path, or the peer with its transport; Host the peer's name, "" when not known.
	Name  string `json:"name"`
	Host  string `json:"host,omitempty"`
	Write bool   `json:"write,omitempty"`
	// Count is how often, Failed how often without success.
	Count    int       `json:"count"`
	Failed   int       `json:"failed,omitempty"`
	Sent     uint64    `json:"bytes_sent,omitempty"`
	Received uint64    `json:"bytes_received,omitempty"`
	First    time.Time `json:"first"`
}

// SessionStats is what is remembered of sessions, and what had to be forgotten for lack of room.
type SessionStats struct {
	// Live is how many sessions go on, Remembered how many are known with those that ended; Roots how many
	// processes that agents started are remembered.
	Live, Remembered, Roots int
	// ClaimsIgnored is how many claims were published and believed in nothing.
	ClaimsIgnored uint64
	// The rest is what was forgotten early, and what was not kept.
	SessionsEvicted, TurnsEvicted, CallsEvicted, ProcessesEvicted, ObjectsOmitted uint64
}
