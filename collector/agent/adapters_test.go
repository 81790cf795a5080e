// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/watchglass/watchglass/event"
)

var now = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// word is an attribute of a made-up record.
type word struct {
	key   string
	value any
}

func put(attrs pcommon.Map, words []word) {
	for _, w := range words {
		switch v := w.value.(type) {
		case string:
			attrs.PutStr(w.key, v)
		case int:
			attrs.PutInt(w.key, int64(v))
		case float64:
			attrs.PutDouble(w.key, v)
		case bool:
			attrs.PutBool(w.key, v)
		}
	}
}

// logOf is a request with one log record a second, each of the given scope.
func logsOf(scope string, records ...[]word) plog.Logs {
	logs := plog.NewLogs()
	sl := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty()
	sl.Scope().SetName(scope)
	for i, words := range records {
		lr := sl.LogRecords().AppendEmpty()
		lr.SetTimestamp(pcommon.NewTimestampFromTime(now.Add(time.Duration(i) * time.Millisecond)))
		put(lr.Attributes(), words)
	}
	return logs
}

// heard is what a translator makes of logs: one line for each statement.
func heard(tr *Translator, logs plog.Logs, received time.Time) []string {
	said, _ := tr.Logs(logs, Origin{Sandbox: 7, PID: 100, Start: 1}, received)
	return lines(said)
}

func lines(said []*Statement) []string {
	var out []string
	for _, s := range said {
		out = append(out, strings.TrimPrefix(string(s.Claim.Kind()), "watchglass.")+": "+string(s.Claim.AppendBody(nil)))
	}
	return out
}

func codexCall(tool, call, arguments, output string, success bool) []word {
	return []word{
		{"event.name", "codex.tool_result"},
		{"conversation.id", "c1"},
		{"tool_name", tool},
		{"call_id", call},
		{"arguments", arguments},
		{"output", output},
		{"success", strconv.FormatBool(success)},
		{"duration_ms", "12"},
	}
}

func TestCodexRefusals(t *testing.T) {
	started := []word{{"event.name", "codex.conversation_starts"}, {"conversation.id", "c1"}, {"approval_policy", "never"}}
	decided := []word{
		{"event.name", "codex.tool_decision"},
		{"conversation.id", "c1"},
		{"tool_name", "echo"},
		{"call_id", "m1"},
		{"tool_namespace", "mcp__x"},
		{"decision", "denied"},
		{"source", "User"},
	}
	for _, c := range []struct {
		name    string
		records [][]word
		want    []string
	}{
		{
			"nobody was asked",
			[][]word{codexCall("exec_command", "a", `{"cmd":"rm x"}`, `exec_command failed: CreateProcess { message: "Rejected(\"rm is blocked by policy\")" }`, false)},
			[]string{"approval: denied by config: exec_command rm x", "tool.call: exec_command end: rm x, failed rm is blocked by policy"},
		},
		{
			"escalation under never",
			[][]word{codexCall("exec_command", "a", `{"cmd":"id"}`, "approval policy is Never; reject command — you cannot ask for escalated permissions", false)},
			[]string{
				"approval: denied by config: exec_command id",
				"tool.call: exec_command end: id, failed approval policy is Never; reject command — you cannot ask for escalated permissions",
			},
		},
		{
			"said once",
			[][]word{started, decided, codexCall("echo", "m1", `{}`, "Wall time: 0.1 seconds\nOutput:\nMCP tool call requires approval, but approval policy is never", false)},
			[]string{
				"session.start: codex session c1 starts, approvals never", "approval: denied by config: echo",
				"tool.call: echo end, failed MCP tool call requires approval, but approval policy is never",
			},
		},
		{
			"the user without never", [][]word{decided}, []string{"approval: denied by user: echo"},
		},
		{
			"output that looks like a refusal",
			[][]word{codexCall("exec_command", "a", `{"cmd":"x"}`, "Process exited with code 0\nOutput:\nblocked by policy", true)},
			[]string{"tool.call: exec_command end: x, exit 0"},
		},
		{
			"output that looks like an exit",
			[][]word{codexCall("exec_command", "a", `{"cmd":"x"}`, "Process exited with code 3\nOutput:\nProcess exited with code 0\n", true)},
			[]string{"tool.call: exec_command end: x, exit 3"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, heard(NewTranslator(TranslatorConfig{}), logsOf("codex_otel.log_only", c.records...), now)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestCodexBackground follows a command that goes on after its result, until a later call sees it end.
func TestCodexBackground(t *testing.T) {
	tr := NewTranslator(TranslatorConfig{})
	said, _ := tr.Logs(logsOf("codex_otel.log_only",
		codexCall("exec_command", "a", `{"cmd":"sleep 9"}`, "Chunk ID: x\nProcess running with session ID 33295\nOutput:\n", true)), Origin{Sandbox: 7}, now)
	if call, ok := said[0].Claim.(*event.ToolCall); !ok || !call.Running || call.HasExit {
		t.Errorf("not running: %+v", said[0].Claim)
	}
	for _, c := range []struct{ arguments, output string }{
		{`{"session_id":33295,"chars":""}`, "Process running with session ID 33295\nOutput:\n"},
		{`{"session_id":1}`, "Process exited with code 9\nOutput:\n"}, // another's
	} {
		said, _ = tr.Logs(logsOf("codex_otel.log_only", codexCall("write_stdin", "b", c.arguments, c.output, true)), Origin{Sandbox: 7}, now)
		if len(said) != 1 {
			t.Errorf("%s: %q", c.arguments, lines(said))
		}
	}
	said, _ = tr.Logs(logsOf("codex_otel.log_only",
		codexCall("write_stdin", "c", `{"session_id":33295}`, "Process exited with code 4\nOutput:\n", true)), Origin{Sandbox: 7}, now)
	want := []string{"tool.call: write_stdin end, exit 4", "tool.call: exec_command end: sleep 9, exit 4"}
	if diff := cmp.Diff(want, lines(said)); diff != "" {
		t.Fatal(diff)
	}
	if call, ok := said[1].Claim.(*event.ToolCall); !ok || call.ID != "a" || call.Running {
		t.Errorf("the end of another: %+v", said[1].Claim)
	}
	// Another sandbox's conversation of the same name knows nothing of it.
	other, _ := NewTranslator(TranslatorConfig{}).Logs(logsOf("codex_otel.log_only",
		codexCall("write_stdin", "c", `{"session_id":33295}`, "Process exited with code 4\nOutput:\n", true)), Origin{Sandbox: 8}, now)
	if len(other) != 1 {
		t.Errorf("%q", lines(other))
	}
}

// TestAgain sends requests more than once: a record is told once, two that say the same are two.
func TestAgain(t *testing.T) {
	tr := NewTranslator(TranslatorConfig{})
	same := []word{{"event.name", "gemini_cli.tool_call"}, {"session.id", "s"}, {"function_name", "run_shell_command"}, {"success", true}}
	logs := func() plog.Logs {
		logs := logsOf("gemini-cli", same, same)
		lr := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords()
		lr.At(1).SetTimestamp(lr.At(0).Timestamp())
		return logs
	}
	if got := heard(tr, logs(), now); len(got) != 2 {
		t.Errorf("two alike in one request: %q", got)
	}
	said, account := tr.Logs(logs(), Origin{Sandbox: 7}, now.Add(time.Second))
	if len(said) != 0 || account["gemini-cli"][Duplicate] != 2 {
		t.Errorf("told again: %q, %v", lines(said), account)
	}
	if said, _ := tr.Logs(logs(), Origin{Sandbox: 8}, now); len(said) != 2 {
		t.Errorf("another sandbox's were taken for a duplicate: %q", lines(said))
	}
	for i := range maxSeen {
		heard(tr, logsOf("gemini-cli", []word{{"event.name", "gemini_cli.user_prompt"}, {"prompt_length", i}}), now)
	}
	if got := heard(tr, logs(), now); len(got) != 2 {
		t.Errorf("still remembered after %d others: the table has no bound", maxSeen)
	}
}

func TestTimes(t *testing.T) {
	prompt := []word{{"event.name", "codex.user_prompt"}, {"event.timestamp", "2026-05-01T11:59:59.5Z"}}
	for _, c := range []struct {
		name           string
		time, observed time.Duration // from now; 1 for none
		want           time.Duration
		source         event.TimeSource
	}{
		{"the record's", -time.Second, -time.Minute, -time.Second, event.TimeRecord},
		{"observed", 1, -time.Minute, -time.Minute, event.TimeObserved},
		{"attribute", 1, 1, -time.Second / 2, event.TimeRecord},
		{"an hour ahead", time.Hour, time.Hour, -time.Second / 2, event.TimeRecord},
		{"an hour behind", -time.Hour, -time.Hour, -time.Second / 2, event.TimeRecord},
	} {
		t.Run(c.name, func(t *testing.T) {
			logs := logsOf("codex_otel.log_only", prompt)
			lr := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
			lr.SetTimestamp(0)
			if c.time != 1 {
				lr.SetTimestamp(pcommon.NewTimestampFromTime(now.Add(c.time)))
			}
			if c.observed != 1 {
				lr.SetObservedTimestamp(pcommon.NewTimestampFromTime(now.Add(c.observed)))
			}
			said, _ := NewTranslator(TranslatorConfig{}).Logs(logs, Origin{}, now)
			if got := said[0].Time.Sub(now); got != c.want || said[0].Claim.Said().TimeSource != c.source {
				t.Errorf("%v by %s, want %v by %s", got, said[0].Claim.Said().TimeSource, c.want, c.source)
			}
		})
	}
	logs := logsOf("codex_otel.log_only", []word{{"event.name", "codex.user_prompt"}, {"event.timestamp", "yesterday"}})
	logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).SetTimestamp(pcommon.NewTimestampFromTime(now.Add(time.Hour)))
	said, _ := NewTranslator(TranslatorConfig{}).Logs(logs, Origin{}, now)
	if c := said[0].Claim.Said(); !said[0].Time.Equal(now) || c.TimeSource != event.TimeReceived || c.Sender != event.SenderUnattributed {
		t.Errorf("no time to believe: %v by %s, %s", said[0].Time, c.TimeSource, c.Sender)
	}
}

// TestContentIsAskedFor sends secrets where contents are and looks for them.
func TestContentIsAskedFor(t *testing.T) {
	const secret = "hunter2"
	for _, name := range []string{"codex", "claude", "gemini", "opencode"} {
		for _, file := range []string{name + "-samples", name + "-run"} {
			tr := NewTranslator(TranslatorConfig{})
			for _, r := range recordings(t, file) {
				body := strings.NewReplacer("run the scripted task", secret, `total 16\\n`, secret, "mock scripted call", secret).Replace(string(r.Body))
				r.Body = []byte(body)
				said, _ := translate(t, tr, &r, Origin{Sandbox: 7})
				for _, s := range said {
					for _, a := range s.Claim.AppendAttributes(nil) {
						if strings.Contains(a.Value.Text(), secret) {
							t.Errorf("%s tells contents that nobody asked for in %s: %s", file, s.Claim.Kind(), a.Key)
						}
					}
				}
			}
		}
	}
}

// TestSpeakers gives records of each agent another service's name, as OTEL_SERVICE_NAME does.
func TestSpeakers(t *testing.T) {
	for _, name := range []string{"codex", "claude", "gemini", "opencode"} {
		want := map[string]string{"claude": "claude-code", "gemini": "gemini-cli"}[name]
		if want == "" {
			want = name
		}
		for _, r := range recordings(t, name+"-samples") {
			for _, service := range []string{"codex_exec", "claude-code", "gemini-cli", "opencode", "my-service"} {
				body := strings.NewReplacer(`"key":"service.name","value":{"stringValue":"`, `"key":"service.name","value":{"stringValue":"`+service+`"}},{"key":"was","value":{"stringValue":"`).Replace(string(r.Body))
				changed := r
				changed.Body = []byte(body)
				_, account := translate(t, NewTranslator(TranslatorConfig{}), &changed, Origin{})
				if len(account) != 1 || account[want] == nil {
					t.Errorf("%s's %s of %s under the name %s are taken for %v", name, r.Signal, r.Run, service, account)
				}
			}
		}
	}
}

func spanOf(traces ptrace.Traces, name string, id, parent byte, words []word) ptrace.Span {
	if traces.ResourceSpans().Len() == 0 {
		traces.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty()
	}
	sp := traces.ResourceSpans().At(0).ScopeSpans().At(0).Spans().AppendEmpty()
	sp.SetName(name)
	sp.SetTraceID([16]byte{1})
	sp.SetSpanID([8]byte{id})
	sp.SetParentSpanID([8]byte{parent})
	sp.SetStartTimestamp(pcommon.NewTimestampFromTime(now.Add(-time.Second)))
	sp.SetEndTimestamp(pcommon.NewTimestampFromTime(now))
	put(sp.Attributes(), words)
	return sp
}

// TestOpenCodePermissions joins what a rule asked, and how the question ended, to the call around it.
func TestOpenCodePermissions(t *testing.T) {
	tr := NewTranslator(TranslatorConfig{})
	logs := logsOf("opencode", nil)
	lr := logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
	lr.SetTraceID([16]byte{1})
	lr.SetSpanID([8]byte{3})
	line := lr.Body().SetEmptySlice()
	line.AppendEmpty().SetStr("evaluated")
	line.AppendEmpty().SetStr(`{"permission":"bash","pattern":"rm x","action":{"permission":"bash","pattern":"rm*","action":"ask"},"x":undefined}`)
	if diff := cmp.Diff([]string{"approval: requested by user: bash rm x"}, heard(tr, logs, now)); diff != "" {
		t.Error(diff)
	}
	traces := ptrace.NewTraces()
	spanOf(traces, "Tool.execute", 1, 0, []word{{"tool.name", "bash"}, {"tool.call_id", "c1"}, {"session.id", "ses_1"}})
	spanOf(traces, "ShellTool.ask", 2, 1, nil)
	ask := spanOf(traces, "Permission.ask", 3, 2, nil)
	ask.Status().SetCode(ptrace.StatusCodeError)
	ask.Status().SetMessage("The user rejected permission to use this tool")
	// Two that are each other's parent.
	spanOf(traces, "Permission.ask", 8, 9, nil).Status().SetCode(ptrace.StatusCodeError)
	spanOf(traces, "circle", 9, 8, nil)
	traces.ResourceSpans().At(0).ScopeSpans().At(0).Scope().SetName("opencode")
	said, _ := tr.Traces(traces, Origin{Sandbox: 7}, now)
	var denied []event.Approval
	for _, s := range said {
		if a, ok := s.Claim.(*event.Approval); ok {
			denied = append(denied, event.Approval{CallID: a.CallID, Tool: a.Tool, State: a.State, Decider: a.Decider, Latency: a.Latency, Reason: a.Reason, Claim: event.Claim{Session: a.Session}})
		}
	}
	want := []event.Approval{
		{
			CallID: "c1", Tool: "bash", State: event.ApprovalDenied, Decider: "user", Latency: time.Second,
			Reason: "The user rejected permission to use this tool", Claim: event.Claim{Session: "ses_1"},
		},
		{State: event.ApprovalDenied, Decider: "unknown", Claim: event.Claim{Session: "ses_1"}},
	}
	if diff := cmp.Diff(want, denied); diff != "" {
		t.Error(diff)
	}
}

// TestGeneric reads spans as the OpenTelemetry conventions for generative AI have them.
func TestGeneric(t *testing.T) {
	traces := ptrace.NewTraces()
	agent := []word{{"gen_ai.agent.name", "mender"}, {"gen_ai.conversation.id", "conv"}}
	spanOf(traces, "invoke_agent mender", 1, 0, append([]word{{"gen_ai.operation.name", "invoke_agent"}, {"gen_ai.provider.name", "openai"}}, agent...))
	spanOf(traces, "invoke_agent mender", 2, 0, append([]word{{"gen_ai.operation.name", "invoke_agent"}}, agent...))
	spanOf(traces, "chat gpt", 3, 1, append([]word{
		{"gen_ai.operation.name", "chat"},
		{"gen_ai.request.model", "gpt"},
		{"gen_ai.usage.input_tokens", "12"},
		{"gen_ai.usage.output_tokens", 3},
		{"gen_ai.response.time_to_first_chunk", 0.5},
	}, agent...))
	spanOf(traces, "execute_tool shell", 4, 1, append([]word{
		{"gen_ai.operation.name", "execute_tool"},
		{"gen_ai.tool.name", "shell"},
		{"gen_ai.tool.call.id", "t1"},
		{"gen_ai.tool.call.arguments", `{"command":["bash","-lc","make test"]}`},
		{"error.type", "timeout"},
	}, agent...))
	spanOf(traces, "embeddings", 5, 1, []word{{"gen_ai.operation.name", "embeddings"}})
	spanOf(traces, "GET /", 6, 0, []word{{"http.request.method", "GET"}})
	said, account := NewTranslator(TranslatorConfig{}).Traces(traces, Origin{Sandbox: 7}, now)
	want := []string{
		"session.start: mender session conv starts", "model.request: mender asked gpt, tokens in 12 out 3",
		"tool.call: shell start: make test", "tool.call: shell end: make test, failed timeout",
	}
	if diff := cmp.Diff(want, lines(said)); diff != "" {
		t.Error(diff)
	}
	if counts := account["generic"]; counts[Told] != 3 || counts[Silent] != 2 || counts[Unknown] != 1 {
		t.Errorf("counted %v", *counts)
	}
	if request, ok := said[1].Claim.(*event.ModelRequest); !ok || request.FirstChunk != 500*time.Millisecond {
		t.Errorf("%+v", said[1].Claim)
	}
}

// TestManySessions starts ten thousand sessions in one sandbox and drops them: what is remembered has a bound, and
// another sandbox's sessions are not forgotten for it.
func TestManySessions(t *testing.T) {
	tr := NewTranslator(TranslatorConfig{})
	start := func(sandbox uint64, session string) {
		tr.Logs(logsOf("codex_otel.log_only", []word{
			{"event.name", "codex.conversation_starts"}, {"conversation.id", session}, {"approval_policy", "never"},
		}), Origin{Sandbox: sandbox}, now)
	}
	start(8, "c1")
	for i := range 10_000 {
		start(7, "s"+strconv.Itoa(i))
	}
	if m := tr.memoryOf(7, now); m.conversations.Len() != maxConversations || tr.Evicted() != 10_000-maxConversations {
		t.Errorf("%d conversations are remembered, %d evicted", m.conversations.Len(), tr.Evicted())
	}
	said, _ := tr.Logs(logsOf("codex_otel.log_only", []word{
		{"event.name", "codex.tool_decision"}, {"conversation.id", "c1"}, {"decision", "denied"}, {"source", "User"}, {"tool_name", "echo"},
	}), Origin{Sandbox: 8}, now)
	if diff := cmp.Diff([]string{"approval: denied by config: echo"}, lines(said)); diff != "" {
		t.Error(diff)
	}
	for sandbox := range uint64(2 * maxSenders) {
		start(100+sandbox, "s")
	}
	if tr.senders.Len() != maxSenders {
		t.Errorf("%d sandboxes are remembered", tr.senders.Len())
	}
}

// TestHostileRecords is of records that no agent sends.
func TestHostileRecords(t *testing.T) {
	long := strings.Repeat("é", maxCommand)
	tr := NewTranslator(everything())
	said, account := tr.Logs(logsOf("codex_otel.log_only",
		codexCall(long, "call\x00", `{"cmd":"`+long+`"}`, long, false),
		codexCall("t", strings.Repeat("x", maxID+1), `{"cmd":["bash","-c","a\nb"],"workdir":7}`, "", true),
		[]word{{"event.name", "codex.api_request"}, {"http.response.status_code", "-5"}, {"attempt", 1e300}, {"error.message", "x\xff"}},
		[]word{{"event.name", "codex.network_proxy.policy_decision"}, {"server.port", 70000}, {"client.address", "[::1%eth0]:5"}},
		[]word{{"event.name", 7}},
	), Origin{Sandbox: 7}, now)
	for _, s := range said {
		for _, a := range s.Claim.AppendAttributes(nil) {
			if len(a.Value.Text()) > maxContent {
				t.Errorf("%s is %d bytes", a.Key, len(a.Value.Text()))
			}
		}
	}
	if call, ok := said[1].Claim.(*event.ToolCall); !ok || call.ID != "" || call.Command != "a\nb" || call.WorkingDirectory != "" {
		t.Errorf("%+v", said[1].Claim)
	}
	if account["codex"][Told] != 4 || account["generic"] != nil && account["generic"][Unknown] != 0 || account["codex"][Unknown] != 1 {
		t.Errorf("counted %v", account["codex"])
	}
	many := logsOf("codex_otel.log_only", []word{{"event.name", "codex.user_prompt"}}, []word{{"event.name", "codex.user_prompt"}})
	attrs := many.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Attributes()
	for i := range 2000 {
		attrs.PutStr("k"+strconv.Itoa(i), "v")
	}
	said, account = tr.Logs(many, Origin{Sandbox: 7}, now)
	if len(said) != 1 || account.Refused() != 1 {
		t.Errorf("said %d, refused %d: one has too many attributes", len(said), account.Refused())
	}
}
