// SPDX-License-Identifier: Apache-2.0

package detectors_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An agent is known by the name of its program: a copy of a shell will do, which can start tools as Codex does and
// speak as Codex does, by its own connection.
const (
	agentScript = "exec ./codex -c "
	callIDs     = "CODEX_TOOL_CALL_ID=call_1 CODEX_THREAD_ID=thread-0000000000000001 "
	// says tells the session's sandbox in OTLP, over the receiver of `watchglass run`.
	says = `address=${WATCHGLASS_OTLP_ENDPOINT#http://}
exec 3<>/dev/tcp/${address%:*}/${address#*:}
body='{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"codex_exec"}}]},"scopeLogs":[{"scope":{"name":"codex_otel.log_only"},"logRecords":['"$record"']}]}]}'
printf 'POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s' ${#body} "$body" >&3
cat <&3 >/dev/null
exec 3>&-
`
)

// otlpRecord is a log record as Codex sends it, with the time of now put in by the shell.
func otlpRecord(name string, attributes ...string) string {
	text := `{"observedTimeUnixNano":"'$(date +%s%N)'","attributes":[{"key":"event.name","value":{"stringValue":"` + name + `"}},` +
		`{"key":"conversation.id","value":{"stringValue":"thread-0000000000000001"}}`
	for i := 0; i+1 < len(attributes); i += 2 {
		text += `,{"key":"` + attributes[i] + `","value":{"stringValue":"` + attributes[i+1] + `"}}`
	}
	return "record='" + text + "]}'\n" + says
}

// agentRuns is a script in which an agent runs another one.
func agentRuns(script string) string {
	return agentScript + "'" + strings.ReplaceAll(script, "'", `'\''`) + "\ntrue'"
}

func TestKernelClaimsAgainstFacts(t *testing.T) {
	binary, err := watchglass()
	if err != nil {
		t.Fatal(err)
	}
	// A hook gives up where the machine is too busy to take it in time; what was taken is told once.
	hook := `for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
echo "{\"session_id\":\"thread-0000000000000001\",\"hook_event_name\":\"PreToolUse\",\"tool_name\":\"Bash\",\"tool_use_id\":\"call_9\",\"tool_input\":{\"command\":\"ls\"}}" |
	` + binary + ` hook --agent codex --debug 2>&1 | grep -q taken && break; done`
	start := otlpRecord("codex.conversation_starts", "approval_policy", "never", "sandbox_policy", "workspace-write")
	end := otlpRecord("codex.tool_result", "tool_name", "exec_command", "call_id", "call_1", "arguments", `{\"cmd\":\"cat project/go.mod\"}`,
		"duration_ms", "500", "success", "true", "output", "x")
	for _, c := range []struct {
		name, script string
		want         []expectation
	}{
		{
			name:   "a process takes the id of another call",
			script: agentRuns(callIDs + `bash -c "CODEX_TOOL_CALL_ID=call_2 /bin/true; true"`),
			want:   []expectation{{"call-conflict", "medium", "", 1}},
		},
		{
			name:   "the processes of one call name it alone, or nothing",
			script: agentRuns(callIDs + `bash -c "/bin/true; env -i /bin/true; ` + strings.TrimSpace(callIDs) + ` /bin/true; true"`),
		},
		{
			name:   "a tool speaks for the agent",
			script: agentRuns(callIDs + `bash -c '` + hook + `; true'`),
			want:   []expectation{{"foreign-session", "high", "", 1}},
		},
		{
			name:   "the agent speaks for itself",
			script: agentRuns(hook + "; " + callIDs + `bash -c "/bin/true; true"`),
		},
		{
			name:   "a command that is said to be confined and is not",
			script: agentRuns(start + callIDs + `bash -c "cat project/go.mod" >/dev/null; ` + end),
			want:   []expectation{{"posture-drift", "high", "", 1}},
		},
		{
			name:   "a command that is confined",
			script: agentRuns(start + callIDs + `setpriv --no-new-privs bash -c "cat project/go.mod" >/dev/null; ` + end),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			need(t, "setpriv")
			h := home(t, "")
			shell, err := os.ReadFile("/bin/bash")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(h, "codex"), shell, 0o700); err != nil {
				t.Fatal(err)
			}
			expect(t, run(t, session{script: c.script, home: h}), c.want...)
		})
	}
}
