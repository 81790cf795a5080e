// SPDX-License-Identifier: Apache-2.0

package agent

// codex is OpenAI's Codex CLI. It gives every process of a tool call, from the outermost sandbox
// helper down, the ids of the call, the thread and the session. Seen with codex-cli 0.169.0.
func codex() Adapter {
	return Adapter{
		Name:         "codex",
		Executables:  []string{"codex"},
		Marks:        []string{"CODEX_TOOL_CALL_ID", "CODEX_THREAD_ID"},
		Call:         "CODEX_TOOL_CALL_ID",
		Session:      "CODEX_SESSION_ID",
		Conversation: "CODEX_THREAD_ID",
	}
}
