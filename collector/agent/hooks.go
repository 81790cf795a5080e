// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/watchglass/watchglass/event"
)

// Bounds of what a hook's input may hold; what is longer is cut, or no id.
const (
	maxHookText      = 256
	maxHookCommand   = 8 << 10
	maxHookArguments = 16 << 10
)

// HookOptions is what the operator wants told of what passes through a session: off, it is left out.
type HookOptions struct {
	// Prompts is the text of prompts, Results what tools answered.
	Prompts, Results bool
}

// hookInput is what Codex, Claude Code and Gemini CLI write to a hook's standard input: the fields that are
// read, of any of them. Seen with codex-cli 0.169.0, Claude Code 2.1.197 and gemini-cli 0.61.0.
type hookInput struct {
	Event      string          `json:"hook_event_name"`
	Session    string          `json:"session_id"`
	Turn       string          `json:"turn_id"`   // codex
	Prompt     string          `json:"prompt_id"` // claude
	SubAgent   string          `json:"agent_id"`
	Directory  string          `json:"cwd"`
	Model      string          `json:"model"`
	Mode       string          `json:"permission_mode"`
	Text       string          `json:"prompt"`
	Reason     string          `json:"reason"`
	Tool       string          `json:"tool_name"`
	Call       string          `json:"tool_use_id"`
	Input      json.RawMessage `json:"tool_input"`
	Response   json.RawMessage `json:"tool_response"`
	Error      json.RawMessage `json:"error"`
	Interrupt  bool            `json:"is_interrupt"`
	Duration   float64         `json:"duration_ms"`
	MCPContext struct {
		Server string `json:"server_name"`
	} `json:"mcp_context"` // gemini
}

// ErrHookEvent says that a hook's input is of an event that says nothing about a session.
var ErrHookEvent = errors.New("no event that is listened to")

// HookClaim makes a claim of what an agent wrote to a hook's standard input. name is the adapter's that the hook
// was set up for, "" when not known; now is when it came. The input is hostile: an error says what is wrong with
// it, and is ErrHookEvent where nothing is but that the event says nothing.
func HookClaim(name string, input []byte, now time.Time, options HookOptions) (event.Said, error) {
	// Agents write large results too; what the model saw is decoded only where it is wanted.
	var in hookInput
	if err := json.Unmarshal(input, &in); err != nil {
		return nil, fmt.Errorf("decode a hook's input: %w", err)
	}
	in.Session = id(in.Session)
	if in.Session == "" {
		return nil, errors.New("a hook's input names no session")
	}
	claim := event.Claim{
		Agent: id(name), Session: in.Session, Turn: first(id(in.Turn), id(in.Prompt)),
		SubAgent: id(in.SubAgent), Channel: event.ChannelHook, TimeSource: event.TimeHook, Received: now,
	}
	if name == codex().Name && claim.SubAgent == "" {
		claim.Conversation = in.Session
	}
	switch in.Event {
	case "SessionStart":
		return &event.SessionStart{Claim: claim, Model: shortText(in.Model), ApprovalMode: shortText(in.Mode)}, nil
	case "SessionEnd":
		return &event.SessionEnd{Claim: claim, Reason: "claimed"}, nil
	case "UserPromptSubmit", "BeforeAgent":
		said := &event.Prompt{Claim: claim, Length: utf8.RuneCountInString(in.Text)}
		if options.Prompts {
			said.Text = clip(in.Text, maxHookArguments)
		}
		return said, nil
	case "PreToolUse", "BeforeTool":
		return in.toolCall(claim, event.PhaseStart), nil
	case "PostToolUse", "PostToolUseFailure", "AfterTool":
		return in.toolEnd(claim, options), nil
	case "PermissionRequest":
		return &event.Approval{
			Claim: claim, CallID: id(in.Call), Tool: shortText(in.Tool), Command: in.command(), State: event.ApprovalRequested,
		}, nil
	case "Stop", "AfterAgent", "SubagentStop":
		return &event.TurnEnd{Claim: claim}, nil
	case "":
		return nil, errors.New("a hook's input names no event")
	}
	return nil, ErrHookEvent
}

func (in *hookInput) toolCall(claim event.Claim, phase event.Phase) *event.ToolCall {
	call := &event.ToolCall{
		Claim: claim, Phase: phase, ID: id(in.Call), Name: shortText(in.Tool), Type: "function",
		Command: in.command(), WorkingDirectory: clip(in.Directory, maxHookCommand),
		MCPServer: shortText(in.MCPContext.Server),
	}
	if call.MCPServer == "" { // Codex and Claude Code name tools of servers mcp__SERVER__TOOL
		if rest, ok := strings.CutPrefix(call.Name, "mcp__"); ok {
			call.MCPServer, _, _ = strings.Cut(rest, "__")
		}
	}
	if call.MCPServer != "" {
		call.Type = "extension"
	}
	if call.Command == "" {
		call.Paths = parseDocument(string(in.Input)).paths()
	}
	if len(in.Input) <= maxHookArguments {
		call.Arguments = strings.ToValidUTF8(string(in.Input), "\uFFFD")
	}
	return call
}

// command is the command line of a tool that runs commands; "" for others.
func (in *hookInput) command() string {
	var arguments struct {
		Command json.RawMessage `json:"command"`
		Cmd     string          `json:"cmd"`
	}
	if len(in.Input) == 0 || json.Unmarshal(in.Input, &arguments) != nil {
		return ""
	}
	var line string
	var list []string
	switch {
	case arguments.Cmd != "":
		line = arguments.Cmd
	case json.Unmarshal(arguments.Command, &line) == nil:
	case json.Unmarshal(arguments.Command, &list) == nil:
		line = strings.Join(list, " ")
	}
	return clip(line, maxHookCommand)
}

// toolEnd is the end of a call. Only Claude Code tells success from failure, by the event; of Gemini CLI's the result
// has an error when the call did not run. Codex hands on what the command wrote, which is the command's word.
func (in *hookInput) toolEnd(claim event.Claim, options HookOptions) *event.ToolCall {
	call := in.toolCall(claim, event.PhaseEnd)
	call.Duration = milliseconds(in.Duration)
	var response string
	if json.Unmarshal(in.Response, &response) != nil {
		response = string(in.Response)
	}
	if options.Results {
		call.Result = clip(response, maxHookArguments)
	}
	if in.Event == "PostToolUseFailure" {
		call.Outcome, call.Error = event.OutcomeFailure, errorText(in.Error)
		return call
	}
	if claim.Agent == claudeCode().Name {
		call.Outcome = event.OutcomeSuccess
	}
	var result struct {
		Error       json.RawMessage `json:"error"`
		Interrupted bool            `json:"interrupted"`
		IsError     bool            `json:"isError"` // of the Model Context Protocol
		Content     json.RawMessage `json:"llmContent"`
	}
	if json.Unmarshal(in.Response, &result) != nil {
		return call
	}
	if content := ""; json.Unmarshal(result.Content, &content) == nil {
		call.ProcessGroup = geminiGroup(content)
	}
	if call.Error = errorText(result.Error); call.Error != "" || result.Interrupted || result.IsError {
		call.Outcome = event.OutcomeFailure
	}
	return call
}

// geminiGroup is the process group in which Gemini CLI says that it ran a command: the last line of what it tells its
// model, after the command's own words. 0 when it does not say.
func geminiGroup(output string) uint32 {
	output = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(output), "</untrusted_context>"))
	text, ok := strings.CutPrefix(output[strings.LastIndexByte(output, '\n')+1:], "Process Group PGID: ")
	if !ok {
		return 0
	}
	group, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0
	}
	return uint32(group)
}

// errorText is an error as agents write it: a text, or an object with a message.
func errorText(raw json.RawMessage) string {
	var message string
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	if json.Unmarshal(raw, &message) == nil {
		return shortText(message)
	}
	var object struct {
		Message string `json:"message"`
		Type    string `json:"type"`
	}
	if json.Unmarshal(raw, &object) == nil {
		return shortText(first(object.Message, object.Type))
	}
	return shortText(string(raw))
}

// milliseconds is a duration as agents write it; 0 when it cannot be one.
func milliseconds(n float64) time.Duration {
	if !(n > 0) || n > float64(24*time.Hour/time.Millisecond)*365 {
		return 0
	}
	return time.Duration(n * float64(time.Millisecond))
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func shortText(s string) string { return clip(s, maxHookText) }

// clip is s in at most n bytes of whole, valid characters.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
		for len(s) > 0 && !utf8.ValidString(s[max(0, len(s)-utf8.UTFMax):]) && len(s) > n-utf8.UTFMax {
			s = s[:len(s)-1]
		}
	}
	return strings.Clone(strings.ToValidUTF8(s, "\uFFFD"))
}

// Recognise is the name of the adapter whose agent a process runs, by its executable and arguments; "" for none.
func Recognise(executable string, args []string) string {
	exec := event.ProcessExec{Executable: executable, Args: args}
	for _, a := range Adapters() {
		if a.runs(&exec) {
			return a.Name
		}
	}
	return ""
}

// NamesCall says whether an environment variable is one in which an agent gives its tools the id of their call.
func NamesCall(variable string) bool {
	for _, a := range Adapters() {
		if a.Call != "" && a.Call == variable {
			return true
		}
	}
	return false
}
