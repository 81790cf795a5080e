// SPDX-License-Identifier: Apache-2.0

package agent

// claudeCode is Anthropic's Claude Code. Its tools' processes know the session; the call only by
// TRACEPARENT, whose span is the tool's execution, and only where tracing is on and propagated.
// Seen with Claude Code 2.1.197.
func claudeCode() Adapter {
	return Adapter{
		Name:        "claude-code",
		Executables: []string{"claude", "claude.exe"},
		Marks:       []string{"CLAUDECODE"},
		Session:     "CLAUDE_CODE_SESSION_ID",
		Traceparent: true,
	}
}
