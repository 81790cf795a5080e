// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/watchglass/watchglass/internal/testenv"
	"github.com/watchglass/watchglass/test/e2e/backend"
)

// agentAtWork is what a program named codex does, as Codex would: it tells a prompt and a call to its hooks and runs the
// call's command. A hook gives up where the machine is too busy to take it in time.
const agentAtWork = `tell() { for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
echo "$1" | "$WATCHGLASS" hook --agent codex --debug 2>&1 | grep -q taken && break; done; }
tell '{"session_id":"thread-jaeger-000001","hook_event_name":"UserPromptSubmit","prompt":"look"}'
tell '{"session_id":"thread-jaeger-000001","hook_event_name":"PreToolUse","tool_name":"Bash","tool_use_id":"call_1","tool_input":{"command":"cat $HOME/notes; exit 3"}}'
CODEX_TOOL_CALL_ID=call_1 CODEX_THREAD_ID=thread-jaeger-000001 bash -c 'cat $HOME/notes; exit 3'
tell '{"session_id":"thread-jaeger-000001","hook_event_name":"PostToolUse","tool_name":"Bash","tool_use_id":"call_1","tool_input":{"command":"cat $HOME/notes; exit 3"},"tool_response":"x"}'
true
`

// traceSpan is what an OpenTelemetry Collector wrote of a span, as far as it is looked at.
type traceSpan struct {
	Name       string           `json:"name"`
	TraceID    string           `json:"traceId"`
	SpanID     string           `json:"spanId"`
	Parent     string           `json:"parentSpanId"`
	Attributes []traceAttribute `json:"attributes"`
	Events     []struct {
		Name       string           `json:"name"`
		Attributes []traceAttribute `json:"attributes"`
	} `json:"events"`
}

type traceAttribute struct {
	Key   string `json:"key"`
	Value struct {
		Text string `json:"stringValue"`
		Int  string `json:"intValue"`
	} `json:"value"`
}

func valueOf(attributes []traceAttribute, key string) string {
	for _, a := range attributes {
		if a.Key == key {
			return a.Value.Text + a.Value.Int
		}
	}
	return ""
}

// TestTraces sends a session's trace through a real OpenTelemetry Collector, and looks at the tree of what that wrote:
// the turn, below it the call, below that the command's processes with their exit codes and what they opened.
func TestTraces(t *testing.T) {
	testenv.E2E(t)
	testenv.RequireEBPF(t)
	watchglass, err := program()
	if err != nil {
		t.Fatal(err)
	}
	otelcol, err := backend.Build(root)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address, written := listener.Addr().String(), filepath.Join(dir, "traces.json")
	_ = listener.Close()
	shell, err := os.ReadFile("/bin/bash")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"codex": string(shell), "notes": "notes\n",
		"config.yaml": "exporters:\n  otlp:\n    traces: {endpoint: \"http://" + address + "\", protocol: grpc}\n",
		"otelcol.yaml": fmt.Sprintf("receivers:\n  otlp: {protocols: {grpc: {endpoint: %q}}}\nexporters:\n  file: {path: %q}\n"+
			"service:\n  telemetry: {metrics: {level: none}}\n  pipelines:\n    traces: {receivers: [otlp], exporters: [file]}\n", address, written),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	collector, err := backend.Start(otelcol, address, filepath.Join(dir, "otelcol.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), watchglass, "run", "--quiet", "--config", filepath.Join(dir, "config.yaml"), "--",
		filepath.Join(dir, "codex"), "-c", agentAtWork)
	command.Env, command.Dir = append(os.Environ(), "HOME="+dir, "WATCHGLASS="+watchglass), dir
	output, err := command.CombinedOutput()
	collector.Stop()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	spans := readSpans(t, written)
	t.Logf("%d spans", len(spans))
	below := func(parent *traceSpan, name string) *traceSpan {
		t.Helper()
		i := slices.IndexFunc(spans, func(s traceSpan) bool {
			if parent == nil {
				return s.Parent == "" && s.Name == name
			}
			return s.TraceID == parent.TraceID && s.Parent == parent.SpanID && s.Name == name
		})
		if i < 0 {
			t.Fatalf("no span %q below %+v in %+v", name, parent, spans)
		}
		return &spans[i]
	}
	turn := below(nil, "invoke_agent codex")
	call := below(turn, "execute_tool Bash")
	if got := valueOf(call.Attributes, "gen_ai.tool.call.id"); got != "call_1" {
		t.Errorf("the call is %q", got)
	}
	shellSpan := below(call, "bash")
	if got := valueOf(shellSpan.Attributes, "process.exit.code"); got != "3" {
		t.Errorf("the command ended with %q, want 3", got)
	}
	cat, opened := below(shellSpan, "cat"), false
	for _, e := range cat.Events {
		opened = opened || e.Name == "watchglass.file.open" && valueOf(e.Attributes, "watchglass.trace.detail") == "read "+filepath.Join(dir, "notes")
	}
	if !opened {
		t.Errorf("what cat opened is not told: %+v", cat)
	}
}

// readSpans reads what the Collector's file exporter wrote: one request a line.
func readSpans(t *testing.T, path string) []traceSpan {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var spans []traceSpan
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var request struct {
			ResourceSpans []struct {
				ScopeSpans []struct {
					Spans []traceSpan `json:"spans"`
				} `json:"scopeSpans"`
			} `json:"resourceSpans"`
		}
		if err := json.Unmarshal(lines.Bytes(), &request); err != nil {
			t.Fatal(err)
		}
		for _, resource := range request.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				spans = append(spans, scope.Spans...)
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return spans
}
