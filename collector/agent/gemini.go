// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"strings"

	"github.com/watchglass/watchglass/event"
)

// geminiCLI is Google's Gemini CLI. Its tools' processes know only that they are its; its hooks know
// the session too. Seen with gemini-cli 0.61.0.
func geminiCLI() Adapter {
	return Adapter{
		Name:        "gemini-cli",
		Executables: []string{"gemini"},
		Marks:       []string{"GEMINI_CLI"},
		ShellTools:  []string{"run_shell_command", "ShellTool"},
		Session:     "GEMINI_SESSION_ID",
		speaks: func(r *record) bool {
			return r.scope == "gemini-cli" || strings.HasPrefix(r.name, geminiPrefix)
		},
		hear: func(h *hearing, r *record) Verdict {
			g := &geminiRecord{hearing: h, record: r}
			if r.channel == event.ChannelSpan {
				return g.hearSpan()
			}
			return g.hearLog()
		},
	}
}

const (
	geminiPrefix   = "gemini_cli."
	geminiProvider = "gcp.gen_ai"
	geminiShell    = "run_shell_command"
)

type geminiRecord struct {
	*hearing
	*record
}

// claim has no version: service.version is that of node.
func (g *geminiRecord) claim() event.Claim {
	session := cmp.Or(g.id("session.id"), g.id("gen_ai.conversation.id"), id(text(g.resource, "session.id", maxID+1)))
	claim := g.hearing.claim(g.record, "gemini-cli", "", session)
	claim.Turn = g.id("prompt_id")
	return claim
}

func (g *geminiRecord) hearLog() Verdict {
	switch g.name {
	case "gemini_cli.config":
		// sandbox_enabled is true also where there is none: it is not told.
		g.say(g.at, &event.SessionStart{
			Claim: g.claim(), Provider: geminiProvider, Model: g.word("model"), ApprovalMode: g.word("approval_mode"),
		})
	case "gemini_cli.user_prompt":
		prompt := &event.Prompt{Claim: g.claim(), Length: g.count("prompt_length")}
		if g.cfg.Content.Prompts {
			prompt.Text = g.text("prompt", maxContent)
		}
		g.say(g.at, prompt)
	case "gemini_cli.api_response":
		g.say(g.at, &event.ModelRequest{
			Claim: g.claim(), Provider: geminiProvider, Model: g.word("model"), Input: g.number("input_token_count"),
			Output: g.number("output_token_count"), Reasoning: g.number("thoughts_token_count"),
			CacheRead: g.number("cached_content_token_count"), Duration: g.milliseconds("duration_ms"), Status: g.count("status_code"),
		})
	case "gemini_cli.api_error":
		g.say(g.at, &event.ModelRequest{
			Claim: g.claim(), Provider: geminiProvider, Model: g.word("model"), Duration: g.milliseconds("duration_ms"),
			Status: g.count("status_code"), Error: cmp.Or(g.text("error.message", maxReason), g.text("error", maxReason), g.word("error.type"), "error"),
		})
	case "gemini_cli.tool_call":
		g.hearCall()
	case "gemini_cli.api_request", "gen_ai.client.inference.operation.details", "gemini_cli.hook_call",
		"gemini_cli.model_routing", "gemini_cli.startup_stats", "gemini_cli.ripgrep_fallback", "gemini_cli.slash_command",
		"gemini_cli.file_operation", "gemini_cli.plan.approval_mode_duration":
		return Silent
	default:
		return Unknown
	}
	return Told
}

// hearCall tells the end of a call, and what was decided on it. The record has no id of the call: its trace has
// the span that does. In a parallel batch all records are stamped at the end of the batch. Success says that
// the tool ran: a command's exit code, when it is not 0, is in the metadata.
func (g *geminiRecord) hearCall() {
	arguments, metadata := g.document("function_args"), g.document("metadata")
	call := event.ToolCall{
		Claim: g.claim(), Phase: event.PhaseEnd, Name: g.word("function_name"), Type: "function",
		MCPServer: g.word("mcp_server_name"), Outcome: g.outcome(), Duration: g.milliseconds("duration_ms"),
	}
	g.shell(&call, arguments)
	if call.MCPServer != "" {
		call.Type = "extension"
	}
	if call.Outcome == event.OutcomeFailure {
		call.Error = cmp.Or(g.word("error_type"), g.word("error.type"), firstLine(g.text("error", maxReason)))
	}
	if call.Command == "" {
		call.Paths = arguments.paths()
	}
	call.ClaimedExit, call.HasExit = metadata.number("exitCode")
	if g.cfg.Content.Arguments {
		call.Arguments = g.text("function_args", maxContent)
	}
	g.hearDecision(&call)
	g.say(g.at, &call)
}

// shell reads the arguments of the tool that runs commands.
func (g *geminiRecord) shell(call *event.ToolCall, arguments document) {
	if call.Name != geminiShell {
		return
	}
	call.Command = arguments.command("command")
	call.WorkingDirectory = cmp.Or(arguments.text("dir_path", maxCommand), arguments.text("directory", maxCommand))
	call.Running = arguments.truth("is_background")
}

// hearDecision tells an approval. Who gave it is not said: "accept" is also what a policy decides.
func (g *geminiRecord) hearDecision(call *event.ToolCall) {
	approval := &event.Approval{
		Claim: call.Claim, Tool: call.Name, Command: call.Command, State: event.ApprovalGranted, Decider: "unknown", Scope: "call",
	}
	switch decision := g.word("decision"); {
	case decision == "accept":
	case decision == "auto_accept":
		approval.Decider = "config"
	case decision == "modify":
		approval.Decider = "user"
	case decision == "reject":
		approval.State, approval.Decider, approval.Scope = event.ApprovalDenied, "user", ""
	case g.word("error_type") == "policy_violation":
		approval.State, approval.Decider, approval.Scope = event.ApprovalDenied, "config", ""
		approval.Reason = firstLine(g.text("error", maxReason))
	default:
		return
	}
	g.say(g.at, approval)
}

// geminiResponseGroup is the process group of a command, where what the model was answered tells it.
func geminiResponseGroup(response document) uint32 {
	parts, _ := response["responseParts"].([]any)
	if len(parts) == 0 {
		return 0
	}
	part, _ := parts[0].(map[string]any)
	answer, _ := document(part).object("functionResponse").object("response")["output"].(string)
	return geminiGroup(answer)
}

func (g *geminiRecord) hearSpan() Verdict {
	switch g.name {
	case "tool_call":
		g.hearCallSpan()
	case "llm_call", "schedule_tool_calls", "user_prompt", "system_prompt":
		return Silent
	default:
		return Unknown
	}
	return Told
}

// hearCallSpan tells a call by its span, which hugs the process. What it was given and what came of it are
// there only when the agent's contents are (telemetry.traces).
func (g *geminiRecord) hearCallSpan() {
	input, output := g.document("gen_ai.input.messages"), g.document("gen_ai.output.messages")
	call := event.ToolCall{
		Claim: g.claim(), ID: cmp.Or(g.id("gen_ai.tool.call_id"), g.id("gen_ai.tool.call.id")), Name: g.word("gen_ai.tool.name"), Type: "function",
	}
	call.Turn = cmp.Or(call.Turn, id(input.text("prompt_id", maxID+1)))
	g.shell(&call, input.object("args"))
	switch {
	case g.failed:
		call.Outcome, call.Error = event.OutcomeFailure, firstLine(g.message)
	case output.text("status", maxName) == "success":
		call.Outcome = event.OutcomeSuccess
	case output.text("status", maxName) == "error":
		call.Outcome = event.OutcomeFailure
		call.Error = output.object("response").text("errorType", maxName)
	}
	call.ClaimedExit, call.HasExit = output.object("response").object("data").number("exitCode")
	call.ProcessGroup = geminiResponseGroup(output.object("response"))
	g.sayCall(g.record, call)
}
