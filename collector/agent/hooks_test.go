// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/watchglass/watchglass/event"
)

const codexBefore = `{"session_id":"01a207c8-89be-70d1-9bb6-5cce789550a2","turn_id":"01a207c8-8a00","transcript_path":null,` +
	`"cwd":"/home/dev","hook_event_name":"PreToolUse","model":"gpt-5.4","permission_mode":"bypassPermissions",` +
	`"tool_name":"Bash","tool_input":{"command":"ls -la"},"tool_use_id":"call_s0c0xkrg"}`

func TestHookClaim(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	said := func(name, session, turn string) event.Claim {
		return event.Claim{
			Agent: name, Session: session, Turn: turn,
			Channel: event.ChannelHook, TimeSource: event.TimeHook, Received: now,
		}
	}
	codexSaid := said("codex", "01a207c8-89be-70d1-9bb6-5cce789550a2", "01a207c8-8a00")
	codexSaid.Conversation = codexSaid.Session
	tests := map[string]struct {
		name, input string
		options     HookOptions
		want        event.Said
	}{
		"codex before a command": {"codex", codexBefore, HookOptions{}, &event.ToolCall{
			Claim: codexSaid, Phase: event.PhaseStart, ID: "call_s0c0xkrg", Name: "Bash", Type: "function",
			Command: "ls -la", WorkingDirectory: "/home/dev", Arguments: `{"command":"ls -la"}`,
		}},
		"codex's sub-agent": {
			"codex", `{"session_id":"s","hook_event_name":"SubagentStop","agent_id":"a-1"}`,
			HookOptions{},
			&event.TurnEnd{Claim: ofSubAgent(said("codex", "s", ""), "a-1")},
		},
		"claude's success": {
			"claude-code", `{"session_id":"s","prompt_id":"p","hook_event_name":"PostToolUse","tool_name":"Bash",` +
				`"tool_input":{"command":"true"},"tool_response":{"stdout":"","stderr":"","interrupted":false},"tool_use_id":"toolu_1","duration_ms":12}`,
			HookOptions{},
			&event.ToolCall{
				Claim: said("claude-code", "s", "p"), Phase: event.PhaseEnd, ID: "toolu_1", Name: "Bash", Type: "function",
				Command: "true", Arguments: `{"command":"true"}`, Outcome: event.OutcomeSuccess, Duration: 12 * time.Millisecond,
			},
		},
		"claude's failure": {
			"claude-code", `{"session_id":"s","hook_event_name":"PostToolUseFailure","tool_name":"Bash",` +
				`"tool_input":{"command":"false"},"error":"Exit code 1","tool_use_id":"toolu_1"}`,
			HookOptions{},
			&event.ToolCall{
				Claim: said("claude-code", "s", ""), Phase: event.PhaseEnd, ID: "toolu_1", Name: "Bash", Type: "function",
				Command: "false", Arguments: `{"command":"false"}`, Outcome: event.OutcomeFailure, Error: "Exit code 1",
			},
		},
		"claude asks": {
			"claude-code", `{"session_id":"s","hook_event_name":"PermissionRequest","tool_name":"Bash","tool_input":{"command":"rm x"}}`,
			HookOptions{},
			&event.Approval{
				Claim: said("claude-code", "s", ""), Tool: "Bash", Command: "rm x", State: event.ApprovalRequested,
			},
		},
		"claude's tool of a server": {
			"claude-code", `{"session_id":"s","hook_event_name":"PreToolUse","tool_name":"mcp__git__log","tool_use_id":"toolu_2"}`,
			HookOptions{},
			&event.ToolCall{
				Claim: said("claude-code", "s", ""), Phase: event.PhaseStart, ID: "toolu_2", Name: "mcp__git__log", Type: "extension", MCPServer: "git",
			},
		},
		"gemini before a command": {"gemini-cli", `{"session_id":"s","hook_event_name":"BeforeTool","timestamp":"2026-05-01T12:00:00Z",` +
			`"tool_name":"run_shell_command","tool_input":{"command":"ls"}}`, HookOptions{}, &event.ToolCall{
			Claim: said("gemini-cli", "s", ""), Phase: event.PhaseStart, Name: "run_shell_command", Type: "function",
			Command: "ls", Arguments: `{"command":"ls"}`,
		}},
		"gemini's failure": {
			"gemini-cli", `{"session_id":"s","hook_event_name":"AfterTool","tool_name":"run_shell_command",` +
				`"tool_response":{"llmContent":"x","error":{"message":"denied","type":"policy_violation"}},"mcp_context":{"server_name":"m"}}`,
			HookOptions{},
			&event.ToolCall{
				Claim: said("gemini-cli", "s", ""), Phase: event.PhaseEnd, Name: "run_shell_command", Type: "extension", MCPServer: "m",
				Outcome: event.OutcomeFailure, Error: "denied",
			},
		},
		"a prompt": {
			"claude-code", `{"session_id":"s","hook_event_name":"UserPromptSubmit","prompt":"grüß"}`,
			HookOptions{},
			&event.Prompt{Claim: said("claude-code", "s", ""), Length: 4},
		},
		"a prompt that is wanted": {
			"claude-code", `{"session_id":"s","hook_event_name":"UserPromptSubmit","prompt":"grüß"}`,
			HookOptions{Prompts: true},
			&event.Prompt{Claim: said("claude-code", "s", ""), Length: 4, Text: "grüß"},
		},
		"a start": {
			"gemini-cli", `{"session_id":"s","hook_event_name":"SessionStart","source":"startup","permission_mode":"default"}`,
			HookOptions{},
			&event.SessionStart{Claim: said("gemini-cli", "s", ""), ApprovalMode: "default"},
		},
		"an end": {
			"claude-code", `{"session_id":"s","hook_event_name":"SessionEnd","reason":"other"}`,
			HookOptions{},
			&event.SessionEnd{Claim: said("claude-code", "s", ""), Reason: "claimed"},
		},
		"the end of a turn": {"", `{"session_id":"s","hook_event_name":"Stop"}`, HookOptions{}, &event.TurnEnd{Claim: said("", "s", "")}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := HookClaim(test.name, []byte(test.input), now, test.options)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestRecordedHooks reads what the real agents wrote to a hook in a whole session each, and compares what is made of
// it with what was made of it before.
func TestRecordedHooks(t *testing.T) {
	for _, name := range []string{"codex", "claude-code", "gemini-cli"} {
		recorded, err := os.ReadFile(filepath.Join("testdata", "hooks", name+".jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for line := range strings.Lines(string(recorded)) {
			said, err := HookClaim(name, []byte(line), time.Unix(1, 0), HookOptions{})
			if err != nil {
				t.Errorf("%s: %v", line, err)
				continue
			}
			fmt.Fprintf(&got, "%s: %s\n", said.Kind(), said.AppendBody(nil))
			for _, a := range said.AppendAttributes(nil) {
				fmt.Fprintf(&got, "  %s=%s\n", a.Key, a.Value.Text())
			}
		}
		golden := filepath.Join("testdata", "hooks", name+".txt")
		if *update {
			if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got.String()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestGeminiGroup(t *testing.T) {
	for text, want := range map[string]uint32{
		"<untrusted_context>\nOutput: hi\nProcess Group PGID: 22763\n</untrusted_context>": 22763,
		"Output: Process Group PGID: 1\nProcess Group PGID: 2":                             2,
		"Output: Process Group PGID: 1\nExit Code: 3":                                      0,
		"Process Group PGID: -1":                                                           0,
		"Process Group PGID: 4294967297":                                                   0,
		"":                                                                                 0,
	} {
		if got := geminiGroup(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func ofSubAgent(c event.Claim, id string) event.Claim {
	c.SubAgent = id
	return c
}

func TestHookClaimRefuses(t *testing.T) {
	for name, input := range map[string]string{
		"nothing":          "",
		"no object":        `["session_id"]`,
		"cut short":        codexBefore[:len(codexBefore)-3],
		"no session":       `{"hook_event_name":"Stop"}`,
		"no event":         `{"session_id":"s"}`,
		"a session of ids": `{"session_id":"a b","hook_event_name":"Stop"}`,
		"a long session":   `{"session_id":"` + strings.Repeat("s", 200) + `","hook_event_name":"Stop"}`,
		"another type":     `{"session_id":"s","hook_event_name":7}`,
		"deep":             `{"session_id":"s","hook_event_name":"Stop","x":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`,
	} {
		if said, err := HookClaim("codex", []byte(input), time.Now(), HookOptions{}); err == nil || errors.Is(err, ErrHookEvent) {
			t.Errorf("%s: %v, %v", name, said, err)
		}
	}
	_, err := HookClaim("codex", []byte(`{"session_id":"s","hook_event_name":"PreCompact"}`), time.Now(), HookOptions{})
	if !errors.Is(err, ErrHookEvent) {
		t.Errorf("an event that says nothing: %v", err)
	}
}

func TestHookClaimIsBounded(t *testing.T) {
	long := strings.Repeat("é", 1<<20)
	input := `{"session_id":"s","hook_event_name":"PostToolUse","tool_name":"` + long + `","tool_use_id":"` + long + `","cwd":"` + long +
		`","tool_input":{"command":"` + long + `"},"tool_response":"` + long + `","error":"` + long + `","duration_ms":1e300}`
	said, err := HookClaim("codex", []byte(input), time.Now(), HookOptions{Results: true})
	if err != nil {
		t.Fatal(err)
	}
	call := said.(*event.ToolCall)
	for name, text := range map[string]string{
		call.Name: "name", call.Command: "command", call.WorkingDirectory: "directory", call.Result: "result",
	} {
		if len(text) > 16<<10 || !utf8.ValidString(text) {
			t.Errorf("%s: %d bytes, valid: %v", name[:10], len(text), utf8.ValidString(text))
		}
	}
	if call.ID != "" || call.Arguments != "" || call.Duration != 0 {
		t.Errorf("id of %d bytes, arguments of %d, duration %v", len(call.ID), len(call.Arguments), call.Duration)
	}
}

func FuzzHookClaim(f *testing.F) {
	f.Add("codex", codexBefore)
	f.Add("claude-code", `{"session_id":"s","hook_event_name":"PostToolUse","tool_response":{"interrupted":true},"tool_input":{"command":["a","b"]}}`)
	f.Add("gemini-cli", `{"session_id":"s","hook_event_name":"AfterTool","tool_response":{"error":{"message":"x"}}}`)
	f.Add("", `{"session_id":"s","hook_event_name":"UserPromptSubmit","prompt":"\ud800"}`)
	f.Fuzz(func(t *testing.T, name, input string) {
		said, err := HookClaim(name, []byte(input), time.Unix(1, 0), HookOptions{Prompts: true, Results: true})
		if err != nil {
			return
		}
		if said.Said().Session == "" || len(said.Said().Session) > maxID {
			t.Errorf("session %q", said.Said().Session)
		}
		total := 0
		for _, a := range said.AppendAttributes(nil) {
			text := a.Value.Text()
			if total += len(text); !utf8.ValidString(text) {
				t.Errorf("%s is no text: %q", a.Key, text)
			}
		}
		if total > 64<<10 {
			t.Errorf("%d bytes of attributes", total)
		}
	})
}
