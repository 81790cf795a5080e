// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/watchglass/watchglass/event"
)

// The variables in which the plugin that `watchglass agents setup` writes for opencode puts the ids of a call.
// opencode itself has none.
const (
	OpenCodeCall    = "WATCHGLASS_CALL_ID"
	OpenCodeSession = "WATCHGLASS_SESSION_ID"
)

// openCode is opencode. Its tools' processes know only that they are its, unless a plugin tells them more. Seen with
// opencode 1.18.33.
func openCode() Adapter {
	return Adapter{
		Name:        "opencode",
		Executables: []string{"opencode", "opencode.exe"},
		Marks:       []string{"OPENCODE"},
		Call:        OpenCodeCall,
		Session:     OpenCodeSession,
		speaks: func(r *record) bool {
			// The scope of its logs is the service's name, which the environment can change.
			return r.scope == "opencode" || text(r.resource, "opencode.run", maxName) != "" || text(r.resource, "opencode.client", maxName) != ""
		},
		hear: func(h *hearing, r *record) Verdict {
			o := &openCodeRecord{hearing: h, record: r}
			if r.channel == event.ChannelSpan {
				return o.hearSpan()
			}
			return o.hearLog()
		},
		ShellTools: []string{"bash", "shell"},
		PlainShell: true,
	}
}

type openCodeRecord struct {
	*hearing
	*record
}

// claim finds the session by the trace, where the record does not name it: a trace is of one session.
func (o *openCodeRecord) claim(session string) event.Claim {
	switch {
	case session == "":
		session, _ = o.sessions.Get(o.trace)
	case o.trace != [16]byte{}:
		o.sessions.Put(o.trace, session)
	}
	claim := o.hearing.claim(o.record, "opencode", text(o.resource, "service.version", maxName), session)
	claim.Turn = o.id("message.id")
	return claim
}

// hearLog takes the lines for developers that opencode logs: a word or two, and an object as text.
func (o *openCodeRecord) hearLog() Verdict {
	if o.body.Type() != pcommon.ValueTypeSlice || o.body.Slice().Len() < 2 {
		return Silent
	}
	line, fields := o.body.Slice().At(0).Str(), o.body.Slice().At(1).Str()
	if len(fields) > maxContent || line != "created" && line != "evaluated" && !strings.Contains(fields, `"session.id"`) {
		return Silent
	}
	// Its JSON has JavaScript's undefined in it.
	d := parseDocument(strings.ReplaceAll(fields, ":undefined", ":null"))
	session := id(d.text("session.id", maxID+1))
	switch line {
	case "created":
		if session = id(d.text("id", maxID+1)); !strings.HasPrefix(session, "ses_") {
			return Silent
		}
		start := &event.SessionStart{Claim: o.claim(session)}
		start.ParentSession = id(d.text("parentID", maxID+1))
		o.say(o.at, start)
		return Told
	case "evaluated":
		return o.hearEvaluation(d)
	}
	if session != "" {
		_ = o.claim(session) // to know the trace
	}
	return Silent
}

// hearEvaluation tells what a rule decides on a command, or on a part of one: "ask" is decided by the user.
func (o *openCodeRecord) hearEvaluation(d document) Verdict {
	rule := d.object("action")
	approval := &event.Approval{
		Claim: o.claim(""), Tool: d.text("permission", maxName), Decider: "config",
		Reason: cut("rule "+rule.text("permission", maxName)+" "+rule.text("pattern", maxName), maxReason),
	}
	if approval.Tool == "bash" {
		approval.Command = d.text("pattern", maxCommand)
	}
	switch rule.text("action", maxName) {
	case "allow":
		approval.State, approval.Scope = event.ApprovalGranted, "rule"
	case "deny":
		approval.State = event.ApprovalDenied
	case "ask":
		approval.State, approval.Decider = event.ApprovalRequested, "user"
		o.asked.Put(o.span, struct{}{})
	default:
		return Silent
	}
	o.say(o.at, approval)
	return Told
}

// hearSpan takes those of the more than two thousand spans of a run that tell of calls, approvals and requests.
func (o *openCodeRecord) hearSpan() Verdict {
	if session := o.id("session.id"); session != "" {
		_ = o.claim(session) // to know the trace
	}
	switch o.name {
	case "Tool.execute":
		call := event.ToolCall{Claim: o.claim(o.id("session.id")), ID: o.id("tool.call_id"), Name: o.word("tool.name"), Type: "function"}
		call.Outcome, call.Error = o.result()
		if detail, ok := o.details[call.ID]; ok {
			o.detail(&call, spanRecord(o.source, detail, o.received))
		}
		o.sayCall(o.record, call)
	case "ai.toolCall":
		call := event.ToolCall{Claim: o.claim(o.id("session.id")), ID: o.id("ai.toolCall.id"), Name: o.word("ai.toolCall.name"), Type: "function"}
		if _, ok := o.executions[call.ID]; ok {
			return Silent // told with the execution, which came along
		}
		call.Outcome, call.Error = o.result()
		o.detail(&call, o.record)
		o.sayCall(o.record, call)
	case "Permission.ask":
		return o.hearPermission()
	case "ai.streamText.doStream", "ai.generateText.doGenerate":
		o.hearRequest()
	default:
		return Silent
	}
	return Told
}

func (o *openCodeRecord) result() (event.Outcome, string) {
	if o.failed {
		return event.OutcomeFailure, firstLine(o.message)
	}
	return event.OutcomeSuccess, ""
}

// detail adds what the span of the AI SDK says of a call: there only with experimental.openTelemetry.
func (o *openCodeRecord) detail(call *event.ToolCall, r *record) {
	arguments, result := r.document("ai.toolCall.args"), r.document("ai.toolCall.result")
	if call.Name == "bash" {
		call.Command, call.WorkingDirectory = arguments.command("command"), arguments.text("workdir", maxCommand)
	}
	if call.Command == "" {
		call.Paths = arguments.paths()
	}
	call.ClaimedExit, call.HasExit = result.object("metadata").number("exit")
	if o.cfg.Content.Arguments {
		call.Arguments = r.text("ai.toolCall.args", maxContent)
	}
	if o.cfg.Content.Results {
		call.Result = r.text("ai.toolCall.result", maxContent)
	}
}

// hearPermission tells how a question ended. What rules decide alone is told by the log.
func (o *openCodeRecord) hearPermission() Verdict {
	_, asked := o.asked.Get(o.span)
	if !o.failed && !asked {
		return Silent
	}
	approval := &event.Approval{Claim: o.claim(""), State: event.ApprovalGranted, Decider: "unknown", Scope: "call"}
	if asked {
		approval.Decider, approval.Latency = "user", o.at.Sub(o.start)
	}
	if o.failed {
		approval.State, approval.Scope, approval.Reason = event.ApprovalDenied, "", firstLine(o.message)
	}
	approval.CallID, approval.Tool = o.callAround()
	approval.ID = approval.CallID
	o.say(o.at, approval)
	return Told
}

// maxClimb is how far a span's ancestors are looked at: they may be a circle.
const maxClimb = 16

// callAround is the call of the span that this one is below, as far as the request has it.
func (o *openCodeRecord) callAround() (call, tool string) {
	at := o.parent
	for range maxClimb {
		span, ok := o.spans[at]
		if !ok {
			return "", ""
		}
		if span.Name() == "Tool.execute" {
			return id(text(span.Attributes(), "tool.call_id", maxID+1)), text(span.Attributes(), "tool.name", maxName)
		}
		at = span.ParentSpanID()
	}
	return "", ""
}

func (o *openCodeRecord) hearRequest() {
	request := &event.ModelRequest{
		Claim: o.claim(o.id("session.id")), Provider: cmp.Or(o.word("gen_ai.system"), o.word("ai.model.provider")),
		Model: cmp.Or(o.word("gen_ai.request.model"), o.word("ai.model.id")), ResponseModel: o.word("gen_ai.response.model"),
		ResponseID: cmp.Or(o.id("gen_ai.response.id"), o.id("ai.response.id")),
		Input:      o.number("gen_ai.usage.input_tokens"), Output: o.number("gen_ai.usage.output_tokens"),
		Reasoning: o.number("ai.usage.reasoningTokens"), CacheRead: o.number("ai.usage.cachedInputTokens"),
		Duration: o.at.Sub(o.start), FirstChunk: o.milliseconds("ai.response.msToFirstChunk"),
	}
	if o.failed {
		request.Error = cmp.Or(firstLine(o.message), "error")
	}
	o.say(o.at, request)
}
