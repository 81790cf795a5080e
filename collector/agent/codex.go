// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/watchglass/watchglass/event"
)

// codex is OpenAI's Codex CLI. It gives every process of a tool call, from the outermost sandbox
// helper down, the ids of the call, the thread and the session. Seen with codex-cli 0.169.0.
func codex() Adapter {
	return Adapter{
		Name:         "codex",
		Executables:  []string{"codex"},
		Marks:        []string{"CODEX_TOOL_CALL_ID", "CODEX_THREAD_ID"},
		Confining:    []string{"read-only", "workspace-write"},
		ShellTools:   []string{"exec_command", "shell", "local_shell", "shell_command", "unified_exec", "Bash"},
		Call:         "CODEX_TOOL_CALL_ID",
		Session:      "CODEX_SESSION_ID",
		Conversation: "CODEX_THREAD_ID",
		speaks: func(r *record) bool {
			return strings.HasPrefix(r.scope, "codex_otel") || strings.HasPrefix(r.name, "codex.") ||
				slices.Contains([]string{"codex", "codex_exec", "codex_cli_rs", "codex-app-server"}, r.scope)
		},
		hear: func(h *hearing, r *record) Verdict {
			c := &codexRecord{hearing: h, record: r, conversation: r.id("conversation.id")}
			if r.channel == event.ChannelSpan {
				return c.hearSpan()
			}
			return c.hearLog()
		},
	}
}

// conversation is what Codex says of one at its start and what its later records mean by it.
type conversation struct{ approvalPolicy string }

type codexRecord struct {
	*hearing
	*record
	conversation string
}

func (c *codexRecord) claim() event.Claim {
	claim := c.hearing.claim(c.record, "codex", c.word("app.version"), c.conversation)
	if claim.Version == "" {
		claim.Version = text(c.resource, "service.version", maxName)
	}
	claim.Turn = c.id("turn.id")
	if sub := c.word("agent_name"); sub != "/root" {
		claim.SubAgent = sub
	}
	return claim
}

func (c *codexRecord) hearLog() Verdict {
	switch c.name {
	case "codex.conversation_starts":
		c.conversations.Put(c.conversation, conversation{approvalPolicy: c.word("approval_policy")})
		c.say(c.at, &event.SessionStart{
			Claim: c.claim(), Provider: c.word("provider_name"), Model: c.word("model"),
			ApprovalMode: c.word("approval_policy"), Sandbox: c.word("sandbox_policy"),
		})
	case "codex.user_prompt":
		prompt := &event.Prompt{Claim: c.claim(), Length: c.count("prompt_length")}
		if c.cfg.Content.Prompts {
			prompt.Text = withoutRedaction(c.text("prompt", maxContent))
		}
		c.say(c.at, prompt)
	case "codex.api_request":
		return c.hearRequest()
	case "codex.sse_event":
		return c.hearAnswer()
	case "codex.tool_decision":
		c.hearDecision()
	case "codex.tool_result":
		c.hearResult()
	case "codex.sandbox_outcome":
		c.say(c.at, &event.SandboxOutcome{
			Claim: c.claim(), CallID: c.id("call_id"), Tool: c.word("tool_name"),
			Outcome: c.word("outcome"), Duration: c.milliseconds("initial_duration_ms"),
		})
	case "codex.network_proxy.policy_decision":
		c.hearNetwork()
	case "codex.startup_phase", "codex.turn_ttft", "codex.agent_response", "codex.skill_invocation", "codex.turn_cost",
		"codex.auth_recovery", "codex.websocket_connect", "codex.websocket_request", "codex.websocket_event":
		return Silent
	default:
		// Debug lines of its own telemetry have no event.name; their eventName is a place in its sources.
		if strings.HasPrefix(c.scope, "codex_otel::") {
			return Silent
		}
		return Unknown
	}
	return Told
}

// hearRequest tells of a request that failed. Of one that did not, the answer's end tells more.
func (c *codexRecord) hearRequest() Verdict {
	request := event.ModelRequest{
		Model: c.word("model"), Duration: c.milliseconds("duration_ms"), Error: c.text("error.message", maxReason),
		Status: c.count("http.response.status_code"), Attempt: c.count("attempt"),
	}
	if request.Error == "" && request.Status < 400 {
		return Silent
	}
	if request.Error == "" {
		request.Error = "http " + strconv.Itoa(request.Status)
	}
	request.Claim = c.claim()
	c.say(c.at, &request)
	return Told
}

func (c *codexRecord) hearAnswer() Verdict {
	request := event.ModelRequest{
		Model: c.word("model"), Input: c.number("input_token_count"), Output: c.number("output_token_count"),
		Reasoning: c.number("reasoning_token_count"), CacheRead: c.number("cached_token_count"),
		CacheCreation: c.number("cache_write_token_count"), FirstChunk: c.milliseconds("ttft_ms"),
		Error: c.text("error.message", maxReason),
	}
	switch kind := c.word("event.kind"); {
	case request.Error != "":
	case kind != "response.completed", request.Input == 0 && request.Output == 0:
		// Of an answer's end there are two records: one of the event, and one of what was used.
		return Silent
	}
	request.Claim = c.claim()
	c.say(c.at, &request)
	return Told
}

// hearDecision tells an approval, and the start of the call when it was granted.
func (c *codexRecord) hearDecision() {
	approval := &event.Approval{
		Claim: c.claim(), CallID: c.id("call_id"), Tool: c.word("tool_name"), Decider: c.decider(),
	}
	approval.ID = approval.CallID
	approval.State, approval.Scope = event.ApprovalGranted, "call"
	switch c.word("decision") {
	case "approved":
	case "approved_for_session":
		approval.Scope = "session"
	case "approved_with_amendment", "approved_execpolicy_amendment":
		approval.Scope = "rule"
	default: // denied, abort, timed_out, and whatever is not an approval
		approval.State, approval.Scope = event.ApprovalDenied, ""
	}
	c.calls.Put(approval.CallID, approval.State)
	c.say(c.at, approval)
	if approval.State == event.ApprovalGranted {
		call := c.call()
		call.Phase = event.PhaseStart
		c.say(c.at, &call)
	}
}

// decider is who decided. Calls that the policy "never" refuses without asking anybody are said to be the
// user's decision.
func (c *codexRecord) decider() string {
	switch source := strings.ToLower(c.word("source")); source {
	case "user":
		if known, _ := c.conversations.Get(c.conversation); known.approvalPolicy == "never" {
			return "config"
		}
		return "user"
	case "config":
		return source
	case "automatedreviewer", "automated_reviewer", "guardian":
		return "reviewer"
	}
	return "unknown"
}

func (c *codexRecord) call() event.ToolCall {
	namespace := c.word("tool_namespace")
	call := event.ToolCall{
		Claim: c.claim(), ID: c.id("call_id"), Name: c.word("tool_name"), Type: "function", MCPServer: c.word("mcp_server"),
	}
	if server, ok := strings.CutPrefix(namespace, "mcp__"); ok && call.MCPServer == "" {
		call.MCPServer = server
	}
	if call.MCPServer != "" {
		call.Type = "extension"
	}
	return call
}

// hearResult tells the end of a call. The exit code is a line of the output's heading; where the process goes
// on, the heading has a number by which a later call, with an id of its own, asks for more of it.
func (c *codexRecord) hearResult() {
	arguments, output := c.document("arguments"), c.text("output", maxContent)
	head, _, hasOutput := strings.Cut(output, "\nOutput:\n")
	call := c.call()
	call.Phase, call.Outcome, call.Duration = event.PhaseEnd, c.outcome(), c.milliseconds("duration_ms")
	call.Command = arguments.command("cmd", "command")
	call.WorkingDirectory = arguments.text("workdir", maxCommand)
	call.ClaimedExit, call.HasExit = numberAfter(head, "Process exited with code ", "Exit code: ")
	background, running := numberAfter(head, "Process running with session ID ")
	call.Running = running && !call.HasExit
	refusal := refusalOf(output, call.Outcome)
	if call.Outcome == event.OutcomeFailure {
		call.Error = refusal
		if call.Error == "" && !hasOutput {
			call.Error = firstLine(output)
		}
	}
	c.content(&call, output)
	if _, decided := c.calls.Get(call.ID); refusal != "" && !decided {
		// Nobody was asked and nothing else says so.
		approval := &event.Approval{
			Claim: c.claim(), ID: call.ID, CallID: call.ID, Tool: call.Name, Command: call.Command,
			State: event.ApprovalDenied, Decider: "config", Reason: refusal,
		}
		if strings.Contains(refusal, rejectedByUser) {
			approval.Decider = "user"
		}
		c.say(c.at, approval)
	}
	if number, ok := arguments.number("session_id"); ok && call.Name == "write_stdin" {
		call.Shell = c.backgroundKey(number)
	} else if running {
		call.Shell = c.backgroundKey(background)
	}
	c.say(c.at, &call)
	switch {
	case call.Running && call.Name != "write_stdin":
		c.remember(background, &call)
	case call.Name == "write_stdin" && call.HasExit:
		c.endBackground(arguments, &call)
	}
}

func (c *codexRecord) content(call *event.ToolCall, output string) {
	if c.cfg.Content.Arguments {
		call.Arguments = c.text("arguments", maxContent)
	}
	if c.cfg.Content.Results {
		call.Result = output
	}
}

// backgroundKey names a process that a conversation left running.
func (c *codexRecord) backgroundKey(number int) string {
	return c.conversation + "/" + strconv.Itoa(number)
}

func (c *codexRecord) remember(number int, call *event.ToolCall) {
	kept := *call
	kept.Result, kept.Arguments = "", ""
	c.background.Put(c.backgroundKey(number), kept)
}

// endBackground tells the end of the call whose process a later call saw end.
func (c *codexRecord) endBackground(arguments document, seen *event.ToolCall) {
	number, ok := arguments.number("session_id")
	if !ok {
		return
	}
	call, ok := c.background.Get(c.backgroundKey(number))
	if !ok || call.ID == seen.ID {
		return
	}
	ended := call
	ended.Claim = c.claim()
	ended.Running, ended.HasExit, ended.ClaimedExit, ended.Duration = false, true, seen.ClaimedExit, 0
	c.say(c.at, &ended)
}

const rejectedByUser = "rejected by user"

// refusalOf is why a call was refused before anything ran; "" when it was not, or when it is not known.
func refusalOf(output string, outcome event.Outcome) string {
	if outcome != event.OutcomeFailure {
		return ""
	}
	if _, rest, ok := strings.Cut(strings.ReplaceAll(output, `\"`, `"`), `Rejected("`); ok {
		reason, _, _ := strings.Cut(rest, `")`)
		return firstLine(reason)
	}
	_, text, ok := strings.Cut(output, "\nOutput:\n")
	if !ok {
		text = output
	}
	line := firstLine(text)
	for _, phrase := range []string{
		"requires approval, but approval policy is", "approval policy is Never", "AskForApproval is set to Never",
		rejectedByUser, "blocked by policy", "policy forbids", "execpolicy",
	} {
		if strings.Contains(line, phrase) {
			return line
		}
	}
	return ""
}

// numberAfter is the number with which a line of a text ends that begins with one of the words.
func numberAfter(text string, words ...string) (int, bool) {
	for line := range strings.Lines(text) {
		for _, word := range words {
			if rest, ok := strings.CutPrefix(line, word); ok {
				n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 32)
				return int(n), err == nil
			}
		}
	}
	return 0, false
}

// hearNetwork tells a decision of Codex's network proxy. The client is the bridge between the sandbox's
// network namespace and the host's, not the program that asked.
func (c *codexRecord) hearNetwork() {
	decision := &event.PolicyDecision{
		Claim: c.claim(), Decision: event.DecisionDeny, Policy: c.word("network.policy.source"),
		Reason: c.word("network.policy.reason"), Enforcement: "proxy", Server: c.word("server.address"),
		Transport: event.TransportTCP, // its protocols are http and socks5
	}
	switch c.word("network.policy.decision") {
	case "allow":
		decision.Decision = event.DecisionAllow
	case "ask":
		decision.Decision = event.DecisionAsk
	}
	if port := c.number("server.port"); port < 1<<16 {
		decision.ServerPort = uint16(port)
	}
	decision.Subject = decision.Server + ":" + strconv.Itoa(int(decision.ServerPort))
	if client, err := netip.ParseAddrPort(c.word("client.address")); err == nil {
		decision.Client = netip.AddrPortFrom(client.Addr().WithZone(""), client.Port())
	}
	c.say(c.at, decision)
}

// hearSpan takes the one span of a call that has its name, its id and its turn. There are about a hundred
// others, of functions of Codex's own.
func (c *codexRecord) hearSpan() Verdict {
	if c.word("codex.tool.phase") != "dispatch" || c.id("call_id") == "" {
		return Silent
	}
	call := c.call()
	for _, e := range c.events.All() {
		// The span's own name of a tool is namespace and name in one.
		if e.Name() == "codex.tool_result_ready" {
			call.Name = text(e.Attributes(), "tool_name", maxName)
			if server, ok := strings.CutPrefix(text(e.Attributes(), "tool_namespace", maxName), "mcp__"); ok {
				call.MCPServer, call.Type = server, "extension"
			}
		}
	}
	if aborted, _ := c.truth("aborted"); aborted {
		call.Outcome, call.Error = event.OutcomeFailure, "aborted"
	}
	c.sayCall(c.record, call)
	return Told
}

// withoutRedaction is a text that an agent did not redact.
func withoutRedaction(s string) string {
	if s == "[REDACTED]" || s == "<REDACTED>" {
		return ""
	}
	return s
}
