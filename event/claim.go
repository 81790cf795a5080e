// SPDX-License-Identifier: Apache-2.0

package event

import (
	"net/netip"
	"strconv"
	"time"
)

// Kinds of claims: what agents say of themselves.
const (
	// KindSessionStart is the start of an agent's session.
	KindSessionStart Kind = "watchglass.session.start"
	// KindSessionEnd is its end, which the kernel tells: no agent says it.
	KindSessionEnd Kind = "watchglass.session.end"
	// KindPrompt is what a user, or an agent for a sub-agent, asked for.
	KindPrompt Kind = "watchglass.prompt"
	// KindModelRequest is one request to a model and its answer.
	KindModelRequest Kind = "watchglass.model.request"
	// KindToolCall is the start or the end of a tool call, or what the kernel saw of it.
	KindToolCall Kind = "watchglass.tool.call"
	// KindApproval is a decision whether a call may be made.
	KindApproval Kind = "watchglass.approval"
	// KindPolicyDecision is a decision of a policy: of an agent's network proxy, or of our own.
	KindPolicyDecision Kind = "watchglass.policy.decision"
	// KindSandboxOutcome is what became of a call in the agent's own sandbox.
	KindSandboxOutcome Kind = "watchglass.sandbox.outcome"
	// KindAgentError is an error that the agent reports of itself or of its model.
	KindAgentError Kind = "watchglass.agent.error"
	// KindClaimMismatch is a claim and a fact that disagree.
	KindClaimMismatch Kind = "watchglass.claim.mismatch"
)

// Channel is how a claim came.
type Channel string

// The channels.
const (
	ChannelLog    Channel = "log"
	ChannelSpan   Channel = "span"
	ChannelMetric Channel = "metric"
	ChannelHook   Channel = "hook"
	// ChannelFacts marks what nobody claimed and the kernel alone tells.
	ChannelFacts Channel = "facts"
)

// TimeSource is where a claim's time is from.
type TimeSource string

// The sources of times, the best first.
const (
	TimeRecord   TimeSource = "record"
	TimeObserved TimeSource = "observed"
	TimeSpan     TimeSource = "span"
	TimeHook     TimeSource = "hook"
	TimeKernel   TimeSource = "kernel"
	// TimeDerived is computed: a start from an end and a duration.
	TimeDerived  TimeSource = "derived"
	TimeReceived TimeSource = "received"
)

// Sender is how a claim's sender, as the kernel knows it, stands to the session that the claim names.
type Sender string

// The senders.
const (
	// SenderOwner is a process of the session's own sandbox.
	SenderOwner Sender = "owner"
	// SenderForeign is one of another sandbox: the claim is kept as the sender's and believed in nothing.
	SenderForeign Sender = "foreign"
	// SenderUnattributed is a connection that the kernel side could not find the owner of.
	SenderUnattributed Sender = "unattributed"
)

// Claim says who said something and how it came. All of it but Received and Sender is the agent's word.
type Claim struct {
	// Agent and Version are the adapter's name and the agent's version.
	Agent, Version string
	// Session, Conversation and Turn are the agent's own ids; "" when not said.
	Session, Conversation, Turn string
	// SubAgent is the sub-agent that speaks, ParentSession the session that started this one; "" for none.
	SubAgent, ParentSession string
	Channel                 Channel
	TimeSource              TimeSource
	// Received is when the collector got it.
	Received time.Time
	Sender   Sender
	// TraceID and SpanID are of the agent's own span; zero when not said.
	TraceID [16]byte
	SpanID  [8]byte
}

// Said is a payload that an agent's words made.
type Said interface {
	Payload
	// Said is who said it. Never nil; the adapters fill it in before the event is published.
	Said() *Claim
}

// Said implements the interface of that name for every payload that embeds a Claim.
func (c *Claim) Said() *Claim { return c }

// HasTrace says whether the agent's trace context is known.
func (c *Claim) HasTrace() bool { return c.TraceID != [16]byte{} }

func (c *Claim) appendClaim(dst []Attribute) []Attribute {
	dst = appendString(dst, GenAIAgentName, c.Agent)
	dst = appendString(dst, GenAIAgentVersion, c.Version)
	dst = appendString(dst, GenAIAgentID, c.SubAgent)
	dst = appendString(dst, SessionID, c.Session)
	dst = appendString(dst, GenAIConversationID, c.Conversation)
	dst = appendString(dst, TurnID, c.Turn)
	dst = appendString(dst, ParentSessionID, c.ParentSession)
	dst = appendString(dst, ClaimChannel, string(c.Channel))
	dst = appendString(dst, ClaimTimeSource, string(c.TimeSource))
	dst = appendString(dst, ClaimSender, string(c.Sender))
	if !c.Received.IsZero() {
		dst = append(dst, Attribute{ClaimReceived, Timestamp(c.Received)})
	}
	return dst
}

func (c *Claim) appendWho(dst []byte) []byte {
	if c.Agent == "" {
		return append(dst, "agent"...)
	}
	return append(dst, c.Agent...)
}

func appendInt(dst []Attribute, key Key, n int64) []Attribute {
	if n == 0 {
		return dst
	}
	return append(dst, Attribute{key, Int(n)})
}

func appendSeconds(dst []Attribute, key Key, d time.Duration) []Attribute {
	if d <= 0 {
		return dst
	}
	return append(dst, Attribute{key, Seconds(d)})
}

// Prompt is what the session was asked.
type Prompt struct {
	Claim
	// Length is in characters.
	Length int
	// Text is what was asked; "" unless the operator wants it told.
	Text string
}

// Kind implements Payload.
func (*Prompt) Kind() Kind { return KindPrompt }

// Severity implements Payload.
func (*Prompt) Severity() Severity { return SeverityInfo }

// AppendAttributes implements Payload.
func (p *Prompt) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(p.appendClaim(dst), Attribute{PromptLength, Int(int64(p.Length))})
	return appendString(dst, GenAIInputMessages, p.Text)
}

// AppendBody implements Payload.
func (p *Prompt) AppendBody(dst []byte) []byte {
	dst = append(p.appendWho(dst), " was asked"...)
	if p.Text != "" {
		return append(append(dst, ": "...), p.Text...)
	}
	dst = append(dst, ", "...)
	return append(strconv.AppendInt(dst, int64(p.Length), 10), " characters"...)
}

// ModelRequest is one request to a model. All numbers are the agent's word; 0 is not said.
type ModelRequest struct {
	Claim
	Provider, Model, ResponseModel, ResponseID string
	// Input counts cached tokens too.
	Input, Output, Reasoning, CacheRead, CacheCreation int64
	CostUSD                                            float64
	Duration, FirstChunk                               time.Duration
	// Status is the HTTP status, Attempt the number of the attempt from 0.
	Status, Attempt int
	// Error is why it failed; "" when it did not.
	Error string
}

// Kind implements Payload.
func (*ModelRequest) Kind() Kind { return KindModelRequest }

// Severity implements Payload.
func (m *ModelRequest) Severity() Severity {
	if m.Error != "" {
		return SeverityWarn
	}
	return SeverityInfo
}

// AppendAttributes implements Payload.
func (m *ModelRequest) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(m.appendClaim(dst), Attribute{GenAIOperationName, String("chat")})
	dst = appendString(dst, GenAIProviderName, m.Provider)
	dst = appendString(dst, GenAIRequestModel, m.Model)
	dst = appendString(dst, GenAIResponseModel, m.ResponseModel)
	dst = appendString(dst, GenAIResponseID, m.ResponseID)
	dst = appendInt(dst, GenAIInputTokens, m.Input)
	dst = appendInt(dst, GenAIOutputTokens, m.Output)
	dst = appendInt(dst, GenAIReasoningTokens, m.Reasoning)
	dst = appendInt(dst, GenAICacheReadTokens, m.CacheRead)
	dst = appendInt(dst, GenAICacheCreationTokens, m.CacheCreation)
	if m.CostUSD > 0 {
		dst = append(dst, Attribute{AgentCost, Double(m.CostUSD)})
	}
	dst = appendSeconds(dst, AgentDuration, m.Duration)
	dst = appendSeconds(dst, GenAIFirstChunk, m.FirstChunk)
	dst = appendInt(dst, HTTPResponseStatusCode, int64(m.Status))
	dst = appendInt(dst, AgentAttempt, int64(m.Attempt))
	return appendString(dst, ErrorMessage, m.Error)
}

// AppendBody implements Payload.
func (m *ModelRequest) AppendBody(dst []byte) []byte {
	dst = append(m.appendWho(dst), " asked "...)
	if m.Model == "" {
		dst = append(dst, "its model"...)
	}
	dst = append(dst, m.Model...)
	if m.Error != "" {
		return append(append(dst, ": "...), m.Error...)
	}
	dst = append(dst, ", tokens in "...)
	dst = strconv.AppendInt(dst, m.Input, 10)
	dst = append(dst, " out "...)
	return strconv.AppendInt(dst, m.Output, 10)
}

// ApprovalState is where an approval is in its life.
type ApprovalState string

// The states.
const (
	ApprovalRequested ApprovalState = "requested"
	ApprovalGranted   ApprovalState = "granted"
	ApprovalDenied    ApprovalState = "denied"
	ApprovalExpired   ApprovalState = "expired"
)

// Approval is a decision whether a call may be made.
type Approval struct {
	Claim
	// ID is the approval's own id, or the call's where it has none. CallID, Tool and Command are of the call.
	ID, CallID, Tool, Command string
	State                     ApprovalState
	// Decider is who or what decided: user, config, hook, reviewer, unknown.
	Decider string
	// Scope is what it holds for: call, session, rule; "" when not said.
	Scope, Reason string
	// Latency is the time from the request to the decision; 0 when not known.
	Latency time.Duration
}

// Kind implements Payload.
func (*Approval) Kind() Kind { return KindApproval }

// Severity implements Payload.
func (a *Approval) Severity() Severity {
	if a.State == ApprovalDenied {
		return SeverityWarn
	}
	return SeverityInfo
}

// AppendAttributes implements Payload.
func (a *Approval) AppendAttributes(dst []Attribute) []Attribute {
	dst = a.appendClaim(dst)
	dst = appendString(dst, ApprovalID, a.ID)
	dst = appendString(dst, GenAIToolCallID, a.CallID)
	dst = appendString(dst, GenAIToolName, a.Tool)
	dst = appendString(dst, ToolCommand, a.Command)
	dst = append(dst, Attribute{ApprovalStateKey, String(string(a.State))})
	dst = appendString(dst, ApprovalSource, a.Decider)
	dst = appendString(dst, ApprovalScope, a.Scope)
	dst = appendString(dst, ApprovalReason, a.Reason)
	return appendSeconds(dst, AgentDuration, a.Latency)
}

// AppendBody implements Payload.
func (a *Approval) AppendBody(dst []byte) []byte {
	dst = append(dst, a.State...)
	if a.Decider != "" {
		dst = append(append(dst, " by "...), a.Decider...)
	}
	dst = append(append(dst, ": "...), a.Tool...)
	if a.Command != "" {
		dst = append(append(dst, ' '), a.Command...)
	}
	return dst
}

// Decision is what a policy decided.
type Decision string

// The decisions.
const (
	DecisionAllow Decision = "allow"
	DecisionDeny  Decision = "deny"
	DecisionAsk   Decision = "ask"
)

// PolicyDecision is a decision of a policy on one subject. For an agent's network proxy the claim says who;
// for Watchglass's own policy the claim's channel is facts.
type PolicyDecision struct {
	Claim
	Decision Decision
	// Policy is the policy's id or source, Subject what it was about, Reason why, Enforcement by whom.
	Policy, Subject, Reason, Enforcement string
	// Server is the host name or address meant, ServerPort its port; Client is who asked, invalid when not said.
	Server     string
	ServerPort uint16
	Client     netip.AddrPort
	Transport  Transport
}

// Kind implements Payload.
func (*PolicyDecision) Kind() Kind { return KindPolicyDecision }

// Severity implements Payload.
func (d *PolicyDecision) Severity() Severity {
	if d.Decision == DecisionDeny {
		return SeverityWarn
	}
	return SeverityInfo
}

// AppendAttributes implements Payload.
func (d *PolicyDecision) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(d.appendClaim(dst), Attribute{PolicyDecisionKey, String(string(d.Decision))})
	dst = appendString(dst, PolicyID, d.Policy)
	dst = appendString(dst, PolicySubject, d.Subject)
	dst = appendString(dst, PolicyReason, d.Reason)
	dst = appendString(dst, PolicyEnforcement, d.Enforcement)
	dst = appendString(dst, ServerAddress, d.Server)
	dst = appendInt(dst, ServerPort, int64(d.ServerPort))
	dst = appendString(dst, NetworkTransport, string(d.Transport))
	if d.Client.IsValid() {
		dst = append(dst, Attribute{ClientAddress, addressValue(d.Client.Addr())},
			Attribute{ClientPort, Int(int64(d.Client.Port()))})
	}
	return dst
}

// AppendBody implements Payload.
func (d *PolicyDecision) AppendBody(dst []byte) []byte {
	dst = append(append(dst, d.Decision...), ' ')
	dst = append(dst, d.Subject...)
	if d.Reason != "" {
		dst = append(append(dst, ": "...), d.Reason...)
	}
	return dst
}

// SandboxOutcome is what became of a call in the agent's own sandbox.
type SandboxOutcome struct {
	Claim
	CallID, Tool string
	// Outcome is the agent's word for it: denied, escalated, …
	Outcome  string
	Duration time.Duration
}

// Kind implements Payload.
func (*SandboxOutcome) Kind() Kind { return KindSandboxOutcome }

// Severity implements Payload.
func (*SandboxOutcome) Severity() Severity { return SeverityInfo }

// AppendAttributes implements Payload.
func (o *SandboxOutcome) AppendAttributes(dst []Attribute) []Attribute {
	dst = o.appendClaim(dst)
	dst = appendString(dst, GenAIToolCallID, o.CallID)
	dst = appendString(dst, GenAIToolName, o.Tool)
	dst = appendString(dst, SandboxOutcomeKey, o.Outcome)
	return appendSeconds(dst, AgentDuration, o.Duration)
}

// AppendBody implements Payload.
func (o *SandboxOutcome) AppendBody(dst []byte) []byte {
	dst = append(o.appendWho(dst), "'s sandbox: "...)
	return append(dst, o.Outcome...)
}

// AgentError is an error that an agent reports.
type AgentError struct {
	Claim
	// Type is a short word for it, Message its text, Status an HTTP status or 0.
	Type, Message string
	Status        int
}

// Kind implements Payload.
func (*AgentError) Kind() Kind { return KindAgentError }

// Severity implements Payload.
func (*AgentError) Severity() Severity { return SeverityError }

// AppendAttributes implements Payload.
func (a *AgentError) AppendAttributes(dst []Attribute) []Attribute {
	dst = appendString(a.appendClaim(dst), ErrorType, a.Type)
	dst = appendString(dst, ErrorMessage, a.Message)
	return appendInt(dst, HTTPResponseStatusCode, int64(a.Status))
}

// AppendBody implements Payload.
func (a *AgentError) AppendBody(dst []byte) []byte {
	dst = append(a.appendWho(dst), " error "...)
	dst = append(append(dst, a.Type...), ": "...)
	return append(dst, a.Message...)
}

// Mismatch is how a claim and a fact disagree.
type Mismatch string

// The mismatches.
const (
	// MismatchExitCode is a claimed exit code that is not the kernel's.
	MismatchExitCode Mismatch = "exit_code"
	// MismatchSandbox is a claimed sandbox that namespaces, seccomp or no_new_privs do not show.
	MismatchSandbox Mismatch = "sandbox"
	// MismatchCommand is an approved or claimed command other than the executed one.
	MismatchCommand Mismatch = "command"
	// MismatchDeniedButRan is a denied call that ran.
	MismatchDeniedButRan Mismatch = "denied_but_ran"
	// MismatchEscalated is a call that left the agent's sandbox, by its own word and by the kernel's, and that nobody approved.
	MismatchEscalated Mismatch = "escalated_unapproved"
	// MismatchEffectWithoutCall is what processes did that belong to no call.
	MismatchEffectWithoutCall Mismatch = "effect_without_call"
	// MismatchCallWithoutEffect is a call that started nothing.
	MismatchCallWithoutEffect Mismatch = "call_without_effect"
	// MismatchClaimsStopped is an agent that goes on and no longer speaks.
	MismatchClaimsStopped Mismatch = "claims_stopped"
	// MismatchForeignSession is a claim that names a session of another sandbox.
	MismatchForeignSession Mismatch = "foreign_session"
	// MismatchCallConflict is a process that names another call than the one it belongs to.
	MismatchCallConflict Mismatch = "call_conflict"
	// MismatchProxyDenied is a connection to what the agent's proxy had denied.
	MismatchProxyDenied Mismatch = "proxy_denied"
	// MismatchProxyBypassed is a connection around the proxy that the agent's tools go through.
	MismatchProxyBypassed Mismatch = "proxy_bypassed"
	// MismatchProxyElsewhere is a verdict on another server than the one that the connection asked the proxy for.
	MismatchProxyElsewhere Mismatch = "proxy_elsewhere"
)

// ClaimMismatch is a claim and a fact that disagree.
type ClaimMismatch struct {
	Claim
	Type Mismatch
	// CallID and Tool are of the call that it is about; "" for none.
	CallID, Tool string
	// Claimed and Fact are the two, in words.
	Claimed, Fact string
	// Method and Confidence are of the join between the two: event.Agent has the values.
	Method, Confidence string
	// Roots is the processes that it is about.
	Roots ProcessIDs
}

// Kind implements Payload.
func (*ClaimMismatch) Kind() Kind { return KindClaimMismatch }

// Severity implements Payload.
func (*ClaimMismatch) Severity() Severity { return SeverityWarn }

// AppendAttributes implements Payload.
func (m *ClaimMismatch) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(m.appendClaim(dst), Attribute{MismatchType, String(string(m.Type))})
	dst = appendString(dst, GenAIToolCallID, m.CallID)
	dst = appendString(dst, GenAIToolName, m.Tool)
	dst = appendString(dst, MismatchClaimed, m.Claimed)
	dst = appendString(dst, MismatchFact, m.Fact)
	dst = appendString(dst, JoinMethod, m.Method)
	dst = appendString(dst, JoinConfidence, m.Confidence)
	return appendIDs(dst, ToolRoots, &m.Roots)
}

// AppendBody implements Payload.
func (m *ClaimMismatch) AppendBody(dst []byte) []byte {
	dst = append(append(dst, m.Type...), ": claimed "...)
	dst = append(append(dst, m.Claimed...), ", kernel "...)
	return append(dst, m.Fact...)
}

func appendIDs(dst []Attribute, key Key, ids *ProcessIDs) []Attribute {
	if len(*ids) == 0 {
		return dst
	}
	return append(dst, Attribute{key, itemsOf(ValueStrings, ids)})
}

// ProcessIDs is a list of processes.
type ProcessIDs []ProcessID

func (l *ProcessIDs) length() int { return len(*l) }

func (l *ProcessIDs) appendItem(dst []byte, i int) []byte { return (*l)[i].append(dst) }

func (*ProcessIDs) number(int) int64 { return 0 }
