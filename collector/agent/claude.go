// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"strings"

	"github.com/watchglass/watchglass/event"
)

// claudeCode is Anthropic's Claude Code. Its tools' processes know the session; the call only by
// TRACEPARENT, whose span is the tool's execution, and only where tracing is on and propagated.
// Seen with Claude Code 2.1.197.
func claudeCode() Adapter {
	return Adapter{
		Name:        "claude-code",
		Executables: []string{"claude", "claude.exe"},
		Marks:       []string{"CLAUDECODE"},
		ShellTools:  []string{"Bash"},
		Session:     "CLAUDE_CODE_SESSION_ID",
		Traceparent: true,
		speaks: func(r *record) bool {
			return strings.HasPrefix(r.scope, "com.anthropic.claude_code") || strings.HasPrefix(r.name, claudePrefix)
		},
		hear: func(h *hearing, r *record) Verdict {
			c := &claudeRecord{hearing: h, record: r}
			if r.channel == event.ChannelSpan {
				return c.hearSpan()
			}
			return c.hearLog()
		},
	}
}

const claudePrefix = "claude_code."

type claudeRecord struct {
	*hearing
	*record
}

func (c *claudeRecord) claim() event.Claim {
	version := cmp.Or(text(c.resource, "service.version", maxName), c.version)
	claim := c.hearing.claim(c.record, "claude-code", version, c.id("session.id"))
	claim.Turn = c.id("prompt.id")
	claim.SubAgent = cmp.Or(c.id("agent_id"), c.word("agent.name"))
	return claim
}

func (c *claudeRecord) hearLog() Verdict {
	switch strings.TrimPrefix(c.name, claudePrefix) {
	case "user_prompt":
		prompt := &event.Prompt{Claim: c.claim(), Length: c.count("prompt_length")}
		if c.cfg.Content.Prompts {
			prompt.Text = withoutRedaction(c.text("prompt", maxContent))
		}
		c.say(c.at, prompt)
	case "api_request":
		c.hearRequest()
	case "api_error", "api_retries_exhausted", "api_refusal":
		c.hearError()
	case "internal_error":
		c.say(c.at, &event.AgentError{Claim: c.claim(), Type: cmp.Or(c.word("error_name"), "internal_error"), Message: c.text("error", maxReason)})
	case "tool_decision":
		c.hearDecision()
	case "tool_result":
		c.hearResult()
	case "assistant_response", "mcp_server_connection", "hook_registered", "hook_execution_start",
		"hook_execution_complete", "hook_plugin_metrics", "subagent_completed", "permission_mode_changed", "compaction",
		"at_mention", "auth", "plugin_loaded", "plugin_installed", "skill_activated", "feedback_survey", "system_prompt", "tool":
		return Silent
	default:
		return Unknown
	}
	return Told
}

// hearRequest tells a request. What Claude Code calls input leaves the cached part out.
func (c *claudeRecord) hearRequest() {
	request := &event.ModelRequest{
		Claim: c.claim(), Provider: "anthropic", Model: c.word("model"), ResponseID: c.id("request_id"),
		Output: c.number("output_tokens"), CacheRead: c.number("cache_read_tokens"),
		CacheCreation: c.number("cache_creation_tokens"), CostUSD: c.fraction("cost_usd"),
		Duration: c.milliseconds("duration_ms"), Attempt: attempts(c.count("attempt")),
	}
	request.Input = c.number("input_tokens") + request.CacheRead + request.CacheCreation
	c.say(c.at, request)
}

// attempts turns a count from 1 into one from 0.
func attempts(n int) int { return max(n-1, 0) }

func (c *claudeRecord) hearError() {
	request := &event.ModelRequest{
		Claim: c.claim(), Provider: "anthropic", Model: c.word("model"), ResponseID: c.id("request_id"),
		Status: c.count("status_code"), Duration: c.milliseconds("duration_ms"), Attempt: attempts(c.count("attempt")),
		Error: cmp.Or(c.text("error", maxReason), strings.TrimPrefix(c.name, claudePrefix)),
	}
	c.say(c.at, request)
}

// hearDecision tells an approval, and the start of the call when it was granted.
func (c *claudeRecord) hearDecision() {
	call := c.call()
	approval := c.approval(c.word("decision"), c.word("source"))
	approval.CallID, approval.ID, approval.Tool, approval.Command = call.ID, call.ID, call.Name, call.Command
	c.say(c.at, approval)
	if approval.State == event.ApprovalGranted {
		call.Phase = event.PhaseStart
		c.say(c.at, &call)
	}
}

func (c *claudeRecord) approval(decision, source string) *event.Approval {
	approval := &event.Approval{Claim: c.claim(), State: event.ApprovalDenied, Decider: "unknown"}
	if decision == "accept" {
		approval.State, approval.Scope = event.ApprovalGranted, "call"
	}
	switch source {
	case "config", "hook":
		approval.Decider = source
	case "user_permanent":
		approval.Decider, approval.Scope = "user", "rule"
	case "user_temporary", "user_reject", "user_abort":
		approval.Decider = "user"
	}
	return approval
}

// call is what the attributes of a call say. Without OTEL_LOG_TOOL_DETAILS that is the tool and the id alone.
func (c *claudeRecord) call() event.ToolCall {
	parameters, input := c.document("tool_parameters"), c.document("tool_input")
	call := event.ToolCall{
		Claim: c.claim(), ID: cmp.Or(c.id("tool_use_id"), c.id("gen_ai.tool.call.id")), Name: c.word("tool_name"), Type: "function",
		Command: cmp.Or(input.command("command"), parameters.command("full_command"), c.text("full_command", maxCommand)),
		Running: input.truth("run_in_background"),
	}
	if call.Command == "" {
		call.Paths = input.paths()
	}
	if c.cfg.Content.Arguments {
		call.Arguments = c.text("tool_input", maxContent)
	}
	if server := parameters.text("mcp_server_name", maxName); server != "" {
		call.MCPServer, call.Name, call.Type = server, parameters.text("mcp_tool_name", maxName), "extension"
	}
	return call
}

// hearResult tells the end of a call. There is no exit code: a command that ends with another than 0 failed.
func (c *claudeRecord) hearResult() {
	call := c.call()
	call.Phase, call.Outcome, call.Duration = event.PhaseEnd, c.outcome(), c.milliseconds("duration_ms")
	if call.Outcome == event.OutcomeFailure {
		call.Error, call.Running = cmp.Or(c.text("error", maxReason), c.word("error_type")), false
	}
	c.say(c.at, &call)
}

func (c *claudeRecord) hearSpan() Verdict {
	switch strings.TrimPrefix(c.name, claudePrefix) {
	case "tool.execution":
		// The span that TRACEPARENT names to the tool's processes.
		call := c.call()
		call.Outcome = c.outcome()
		if call.Outcome == event.OutcomeFailure {
			call.Error = c.text("error", maxReason)
		}
		c.ofParent(&call)
		c.sayCall(c.record, call)
	case "tool.blocked_on_user":
		return c.hearWait()
	case "interaction", "llm_request", "tool", "hook", "mcp.rpc", "bash.subprocess":
		// llm_request is api_request without the cost; tool is what its execution takes its name from.
		return Silent
	default:
		return Unknown
	}
	return Told
}

// ofParent adds to a call what only the span around its execution says, when that came along.
func (c *claudeRecord) ofParent(call *event.ToolCall) {
	parent, ok := c.spans[c.parent]
	if !ok {
		return
	}
	call.Name = cmp.Or(call.Name, text(parent.Attributes(), "tool_name", maxName))
	call.Command = cmp.Or(call.Command, text(parent.Attributes(), "full_command", maxCommand))
}

// hearWait tells what was decided, and how long that took. The log says it too, but for what is refused
// because there is nobody to ask.
func (c *claudeRecord) hearWait() Verdict {
	decision := c.word("decision")
	if decision != "accept" && decision != "reject" {
		return Silent
	}
	approval := c.approval(decision, c.word("source"))
	approval.Latency = c.milliseconds("duration_ms")
	if parent, ok := c.spans[c.parent]; ok {
		approval.CallID = id(text(parent.Attributes(), "tool_use_id", maxID+1))
		approval.ID, approval.Tool = approval.CallID, text(parent.Attributes(), "tool_name", maxName)
		approval.Command = text(parent.Attributes(), "full_command", maxCommand)
	}
	c.say(c.at, approval)
	return Told
}
