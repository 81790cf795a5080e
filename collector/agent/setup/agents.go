// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"fmt"
	"path/filepath"
	"strconv"
)

// codex is Codex CLI: a table of its config.toml, and hooks.json beside it. Seen with codex-cli 0.169.0.
func codex() Agent {
	hooks := hookFile{
		adapter: "codex", matcher: true, more: map[string]any{"timeout": 5},
		events: []string{
			"SessionStart", "SessionEnd", "UserPromptSubmit", "PreToolUse", "PermissionRequest", "PostToolUse",
			"SubagentStop", "Stop",
		},
	}
	const table = "otel"
	keys := []string{"log_user_prompt", "exporter", "trace_exporter", "metrics_exporter"}
	return Agent{
		Name: "codex", Adapter: "codex", Program: "codex",
		files: func(at Places) []file {
			dir := first(at.Codex, filepath.Join(at.Home, ".codex"))
			return []file{
				{
					path: filepath.Join(dir, "config.toml"),
					apply: func(old []byte, s *Settings) ([]byte, error) {
						if s.Endpoint == "" {
							return removeTOML(old)
						}
						lines := []string{"log_user_prompt = " + strconv.FormatBool(s.Prompts)}
						for i, signal := range []string{"logs", "traces", "metrics"} {
							lines = append(lines, fmt.Sprintf(`%s = { otlp-http = { endpoint = %q, protocol = "binary" } }`, keys[i+1], s.url(signal)))
						}
						return applyTOML(old, table, keys, lines)
					},
					remove: removeTOML,
				},
				editJSON(filepath.Join(dir, "hooks.json"), hooks.apply, hooks.remove),
			}
		},
		Notes: func(s Settings) []string {
			var notes []string
			if s.Hook != "" {
				notes = append(notes, "Codex asks once whether these hooks are trusted: answer in its /hooks, or start it with --dangerously-bypass-hook-trust. Until then it does not call them.")
			}
			if s.Redacted && s.Endpoint != "" {
				notes = append(notes, "Codex cannot leave commands and arguments out of its telemetry.")
			}
			return notes
		},
	}
}

// claudeCode is Claude Code: variables and hooks in its settings.json. Seen with Claude Code 2.1.197.
func claudeCode() Agent {
	hooks := hookFile{
		adapter: "claude-code", matcher: true, more: map[string]any{"timeout": 5},
		events: []string{
			"SessionStart", "SessionEnd", "UserPromptSubmit", "PreToolUse", "PermissionRequest", "PostToolUse",
			"PostToolUseFailure", "SubagentStop", "Stop",
		},
	}
	variables := func(s *Settings) [][2]string {
		return [][2]string{
			{"CLAUDE_CODE_ENABLE_TELEMETRY", "1"},
			// Spans, which name the call of each command; and their ids in the commands' environment, which the vendor's
			// own model alone would have otherwise.
			{"CLAUDE_CODE_ENHANCED_TELEMETRY_BETA", "1"},
			{"CLAUDE_CODE_PROPAGATE_TRACEPARENT", "1"},
			{"OTEL_LOGS_EXPORTER", "otlp"},
			{"OTEL_METRICS_EXPORTER", "otlp"},
			{"OTEL_TRACES_EXPORTER", "otlp"},
			{"OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"},
			{"OTEL_EXPORTER_OTLP_ENDPOINT", s.Endpoint},
			// In milliseconds; what waits when the agent is killed is lost.
			{"OTEL_LOGS_EXPORT_INTERVAL", "1000"},
			{"OTEL_TRACES_EXPORT_INTERVAL", "1000"},
			{"OTEL_LOG_TOOL_DETAILS", flag(!s.Redacted)},
			{"OTEL_LOG_USER_PROMPTS", flag(s.Prompts)},
		}
	}
	remove := func(d *document) {
		for _, v := range variables(&Settings{}) {
			d.remove("env", v[0])
		}
	}
	apply := func(d *document, s *Settings) error {
		if s.Endpoint == "" {
			remove(d)
			return nil
		}
		for _, v := range variables(s) {
			if v[1] == "" {
				d.remove("env", v[0])
			} else if err := d.set(v[1], "env", v[0]); err != nil {
				return err
			}
		}
		return nil
	}
	return Agent{
		Name: "claude", Adapter: "claude-code", Program: "claude",
		files: func(at Places) []file {
			return []file{editJSON(
				filepath.Join(first(at.Claude, filepath.Join(at.Home, ".claude")), "settings.json"),
				both(apply, hooks.apply), bothRemovals(remove, hooks.remove))}
		},
		Notes: func(Settings) []string { return nil },
	}
}

// flag is a variable that is 1 or not set.
func flag(on bool) string {
	if on {
		return "1"
	}
	return ""
}

// geminiCLI is Gemini CLI: telemetry and hooks in its settings.json. Seen with gemini-cli 0.61.0.
func geminiCLI() Agent {
	hooks := hookFile{
		adapter: "gemini-cli", more: map[string]any{"name": "watchglass", "timeout": 5000},
		events: []string{"SessionStart", "SessionEnd", "BeforeAgent", "AfterAgent", "BeforeTool", "AfterTool"},
	}
	keys := []string{"enabled", "target", "otlpEndpoint", "otlpProtocol", "logPrompts", "traces"}
	remove := func(d *document) {
		for _, key := range keys {
			d.remove("telemetry", key)
		}
	}
	apply := func(d *document, s *Settings) error {
		if s.Endpoint == "" {
			remove(d)
			return nil
		}
		// logPrompts is one switch for prompts and for what tools are asked, in logs and in spans.
		for i, value := range []any{true, "local", s.Endpoint, "http", s.Prompts || !s.Redacted, !s.Redacted} {
			if err := d.set(value, "telemetry", keys[i]); err != nil {
				return err
			}
		}
		return nil
	}
	return Agent{
		Name: "gemini", Adapter: "gemini-cli", Program: "gemini",
		files: func(at Places) []file {
			return []file{editJSON(filepath.Join(at.Home, ".gemini", "settings.json"),
				both(apply, hooks.apply), bothRemovals(remove, hooks.remove))}
		},
		Notes: func(s Settings) []string {
			switch {
			case s.Endpoint == "":
				return nil
			case s.Redacted && s.Prompts:
				return []string{"Gemini CLI has one switch for prompts and for what its tools are asked: it tells the commands in its logs too."}
			case !s.Redacted && !s.Prompts:
				return []string{"Gemini CLI has one switch for prompts and for what its tools are asked: it tells the text of prompts too. The collector does not tell it on unless claims.otlp.content says so; claims.otlp.relay does."}
			}
			return nil
		},
	}
}

// openCode is opencode: a switch in its opencode.json; where to send it takes from its environment alone. It has no
// hooks that call a command, but plugins, of which one does. Seen with opencode 1.18.33.
func openCode() Agent {
	remove := func(d *document) error {
		d.remove("experimental", "openTelemetry")
		return nil
	}
	return Agent{
		Name: "opencode", Adapter: "opencode", Program: "opencode",
		files: func(at Places) []file {
			dir := filepath.Join(first(at.XDG, filepath.Join(at.Home, ".config")), "opencode")
			return []file{plugin(filepath.Join(dir, "plugin", "watchglass.js"), "opencode"), npm(filepath.Join(dir, ".npmrc")), editJSON(
				filepath.Join(dir, "opencode.json"),
				func(d *document, s *Settings) error {
					// With it the spans hold commands and results; without it they name the calls.
					if s.Endpoint == "" || s.Redacted {
						return remove(d)
					}
					return d.set(true, "experimental", "openTelemetry")
				}, remove)}
		},
		Notes: func(s Settings) []string {
			if s.Endpoint == "" {
				return nil
			}
			return []string{"opencode takes the address from its environment alone: start it with OTEL_EXPORTER_OTLP_ENDPOINT=" + s.Endpoint}
		},
	}
}

func both(a, b func(*document, *Settings) error) func(*document, *Settings) error {
	return func(d *document, s *Settings) error {
		if err := a(d, s); err != nil {
			return err
		}
		return b(d, s)
	}
}

func bothRemovals(a func(*document), b func(*document) error) func(*document) error {
	return func(d *document) error {
		a(d)
		return b(d)
	}
}
