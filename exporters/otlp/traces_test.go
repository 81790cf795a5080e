// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/watchglass/watchglass/event"
)

// traceServer keeps the spans that it gets.
type traceServer struct {
	coltrace.UnimplementedTraceServiceServer
	mu      sync.Mutex
	spans   []*trace.Span
	sandbox map[string]bool
	partial *coltrace.ExportTracePartialSuccess
	// script answers instead, when it is not nil. What it refuses is not kept.
	script func(*coltrace.ExportTraceServiceRequest) (*coltrace.ExportTracePartialSuccess, error)
}

func (s *traceServer) Export(_ context.Context, r *coltrace.ExportTraceServiceRequest) (*coltrace.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := s.partial
	if s.script != nil {
		var err error
		if answer, err = s.script(r); err != nil {
			return nil, err
		}
	}
	for _, rs := range r.GetResourceSpans() {
		for _, a := range rs.GetResource().GetAttributes() {
			if a.GetKey() == string(event.SandboxID) {
				s.sandbox[a.GetValue().GetStringValue()] = true
			}
		}
		for _, ss := range rs.GetScopeSpans() {
			s.spans = append(s.spans, ss.GetSpans()...)
		}
	}
	return &coltrace.ExportTraceServiceResponse{PartialSuccess: answer}, nil
}

// listenTraces is a server, and a configuration to send to it.
func listenTraces(t *testing.T) (*traceServer, Config) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &traceServer{sandbox: map[string]bool{}}
	g := grpc.NewServer()
	coltrace.RegisterTraceServiceServer(g, server)
	go g.Serve(listener)
	t.Cleanup(g.Stop)
	cfg := DefaultConfig()
	cfg.Traces.Endpoint = "http://" + listener.Addr().String()
	return server, cfg
}

// serveTraces is a server and an exporter that sends to it.
func serveTraces(t *testing.T) (*traceServer, *Traces) {
	t.Helper()
	server, cfg := listenTraces(t)
	traces, err := OpenTraces(cfg, Settings{Logger: slog.New(slog.DiscardHandler), Resource: []event.Attribute{
		{Key: event.ServiceName, Value: event.String("watchglass")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return server, traces
}

// tree is the spans as indented lines, children below their parents in the order of their beginning.
func (s *traceServer) tree(t *testing.T) []string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	children, known := map[string][]*trace.Span{}, map[string]bool{}
	id := func(trace, span []byte) string { return string(trace) + string(span) }
	for _, span := range s.spans {
		own := id(span.GetTraceId(), span.GetSpanId())
		if len(span.GetTraceId()) != 16 || len(span.GetSpanId()) != 8 || known[own] {
			t.Errorf("span %s: id %x in trace %x is wrong or not its own", span.GetName(), span.GetSpanId(), span.GetTraceId())
		}
		if span.GetEndTimeUnixNano() < span.GetStartTimeUnixNano() {
			t.Errorf("span %s ends before it starts", span.GetName())
		}
		known[own] = true
	}
	var roots []*trace.Span
	for _, span := range s.spans {
		parent := id(span.GetTraceId(), span.GetParentSpanId())
		if known[parent] {
			children[parent] = append(children[parent], span)
		} else {
			roots = append(roots, span)
		}
	}
	byStart := func(a, b *trace.Span) int {
		return int(int64(a.GetStartTimeUnixNano()) - int64(b.GetStartTimeUnixNano()))
	}
	var lines []string
	var add func(depth int, list []*trace.Span)
	add = func(depth int, list []*trace.Span) {
		slices.SortStableFunc(list, byStart)
		for _, span := range list {
			line := strings.Repeat("  ", depth) + span.GetName()
			if depth == 0 && len(span.GetParentSpanId()) > 0 {
				line += " below " + string(span.GetParentSpanId())
			}
			if m := span.GetStatus().GetMessage(); m != "" {
				line += " !" + m
			}
			for _, e := range span.GetEvents() {
				line += " [" + e.GetName() + "]"
			}
			if len(span.GetLinks()) > 0 {
				line += " linked"
			}
			lines = append(lines, line)
			add(depth+1, children[id(span.GetTraceId(), span.GetSpanId())])
		}
	}
	add(0, roots)
	return lines
}

// scene makes events, a millisecond apart.
type scene struct {
	now     time.Time
	seq     uint64
	sandbox *event.Sandbox
	events  []*event.Event
}

func newScene() *scene {
	return &scene{now: time.Unix(1_700_000_000, 0), sandbox: &event.Sandbox{ID: "s1", Name: "work"}}
}

func (s *scene) add(p *event.Process, payload event.Payload) {
	s.seq++
	s.now = s.now.Add(time.Millisecond)
	s.events = append(s.events, &event.Event{Time: s.now, Seq: s.seq, Instance: "i", Sandbox: s.sandbox, Process: p, Payload: payload})
}

func (s *scene) say(payload event.Said) {
	c := payload.Said()
	c.Agent, c.Session = "codex", "session-1"
	if c.Sender == "" {
		c.Sender = event.SenderOwner
	}
	s.add(nil, payload)
}

func tool(uid, parent, root event.ProcessID, name string) *event.Process {
	return &event.Process{
		UID: uid, ParentUID: parent, RootUID: root, PID: uint32(uid), Name: name, Executable: "/bin/" + name,
		Agent: &event.Agent{Name: "codex", Method: "env", Confidence: "exact"},
	}
}

// treeScene is two turns, with calls and their processes.
func treeScene() *scene {
	s := newScene()
	s.say(&event.Prompt{Length: 8})
	s.say(&event.ModelRequest{Model: "gpt\xff", Duration: time.Microsecond})
	s.say(&event.Approval{CallID: "call_1", State: event.ApprovalGranted, Decider: "user"})
	bash, mk, cc := tool(2, 1, 2, "bash"), tool(3, 2, 2, "make"), tool(4, 3, 2, "cc")
	s.add(bash, &event.ProcessExec{Args: []string{"bash", "-c", "make"}})
	s.add(mk, &event.ProcessExec{Args: []string{"make"}})
	s.add(mk, &event.FileOpen{Path: "/src/Makefile\xff", Access: event.AccessRead})
	s.add(cc, &event.ProcessExec{Args: []string{"cc"}})
	s.add(cc, &event.NetworkConnect{Transport: event.TransportTCP})
	s.add(cc, &event.ProcessExit{Signal: 9})
	s.add(mk, &event.ProcessExit{Code: 2})
	s.add(bash, &event.ProcessExit{Code: 2})
	s.say(&event.ToolCall{Phase: event.PhaseEnd, ID: "call_1", Name: "exec_command", Duration: 9 * time.Millisecond})
	s.say(&event.ToolCall{Phase: event.PhaseJoined, ID: "call_1", Name: "exec_command", Roots: []event.ProcessID{2}, Exited: true, ExitCode: 2})
	// The second turn has a call of which the agent has a span of its own, and one that nobody should believe.
	s.now = s.now.Add(time.Minute)
	s.say(&event.Prompt{Length: 9, Claim: event.Claim{Turn: "t2"}})
	ls := tool(5, 1, 5, "ls")
	s.add(ls, &event.ProcessExec{Args: []string{"ls"}})
	s.add(ls, &event.ProcessExit{})
	claim := event.Claim{TraceID: [16]byte([]byte("the agent's own.")), SpanID: [8]byte([]byte("toolspan"))}
	s.say(&event.ToolCall{Claim: claim, Phase: event.PhaseJoined, ID: "call_2", Name: "Bash", Roots: []event.ProcessID{5}, Exited: true})
	s.say(&event.ToolCall{Claim: event.Claim{Sender: event.SenderForeign}, Phase: event.PhaseEnd, ID: "call_3", Name: "forged"})
	s.say(&event.SessionEnd{Reason: "exit"})
	return s
}

func TestTracesTree(t *testing.T) {
	server, traces := serveTraces(t)
	for _, e := range treeScene().events { // one by one, as a quiet pipeline gives them
		if err := traces.Export(t.Context(), []*event.Event{e}); err != nil {
			t.Fatal(err)
		}
	}
	if err := traces.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"invoke_agent codex",
		"  chat gpt\\xff",
		"  execute_tool exec_command !exit code 2 [approval granted]",
		"    bash !exit 2 after 0s",
		"      make !exit 2 after 0s [watchglass.file.open]",
		"        cc !killed by SIGKILL after 0s [watchglass.network.connect]",
		"invoke_agent codex",
		"execute_tool Bash below toolspan linked",
		"  ls",
	}
	if got := server.tree(t); !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !server.sandbox["s1"] {
		t.Error("the resource does not name the sandbox")
	}
}

// TestTracesOfATurnThatGoesOn sends it when the program stops.
func TestTracesOfATurnThatGoesOn(t *testing.T) {
	server, traces := serveTraces(t)
	s := newScene()
	s.say(&event.Prompt{Length: 8})
	if err := traces.Export(t.Context(), s.events); err != nil {
		t.Fatal(err)
	}
	if got := server.tree(t); len(got) != 0 {
		t.Errorf("sent early: %v", got)
	}
	if err := traces.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := server.tree(t); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

// TestTracesOfWhatIsLeftBehind sends a call once, when its process has ended, and later what that had left behind.
func TestTracesOfWhatIsLeftBehind(t *testing.T) {
	server, traces := serveTraces(t)
	s := newScene()
	s.say(&event.Prompt{Length: 8})
	bash, sleep := tool(2, 1, 2, "bash"), tool(3, 2, 2, "sleep")
	call := event.ToolCall{Phase: event.PhaseJoined, ID: "call_1", Name: "exec_command", Roots: []event.ProcessID{2}}
	running, over, again := call, call, call
	over.Exited, again.Exited = true, true
	s.add(bash, &event.ProcessExec{Args: []string{"bash"}})
	s.say(&running)
	s.add(sleep, &event.ProcessExec{Args: []string{"sleep"}})
	s.add(bash, &event.ProcessExit{})
	s.say(&over)
	s.add(sleep, &event.ProcessExit{})
	s.say(&again)
	left := call // one that goes on until the end
	left.ID, left.Roots = "call_2", []event.ProcessID{4}
	s.add(tool(4, 1, 4, "server"), &event.ProcessExec{Args: []string{"server"}})
	s.say(&left)
	if err := traces.Export(t.Context(), s.events); err != nil {
		t.Fatal(err)
	}
	if err := traces.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"invoke_agent codex", "  execute_tool exec_command", "    bash", "      sleep", "  execute_tool exec_command"}
	if got := server.tree(t); !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTracesAreBounded(t *testing.T) {
	_, traces := serveTraces(t)
	s := newScene()
	long := strings.Repeat("x", 1<<11)
	for i := range 1500 {
		p := tool(event.ProcessID(10+i), 1, event.ProcessID(10+i), "bash")
		s.add(p, &event.ProcessExec{Args: []string{long, long}})
		for range 100 {
			s.add(p, &event.FileOpen{Path: long, Access: event.AccessRead})
		}
		claim := event.Claim{Agent: "codex", Session: fmt.Sprint("s", i), Sender: event.SenderOwner}
		s.add(nil, &event.Prompt{Claim: claim})
		for j := range 3 {
			s.add(nil, &event.Approval{Claim: claim, CallID: fmt.Sprint(j), State: event.ApprovalDenied})
		}
		for _, e := range s.events {
			traces.take(e)
		}
		s.events = s.events[:0]
	}
	if n := len(traces.roots.entries); n > maxTraceRoots || len(traces.sessions.entries) > maxTraceSessions || traces.held > maxTraceHeld {
		t.Errorf("%d roots, %d sessions, %d events", n, len(traces.sessions.entries), traces.held)
	}
	if err := traces.Export(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if want := uint64(2 * (1500 - 1024)); traces.Evicted() != want {
		t.Errorf("%d evictions counted, want %d", traces.Evicted(), want)
	}
	held := 0
	for _, r := range traces.roots.all() {
		for _, p := range r.processes {
			held += len(p.events)
		}
	}
	if held != traces.held {
		t.Errorf("%d events are held, counted %d", held, traces.held)
	}
}

func TestTracesTellWhatIsRefused(t *testing.T) {
	server, traces := serveTraces(t)
	server.partial = &coltrace.ExportTracePartialSuccess{RejectedSpans: 1, ErrorMessage: "no\x1b"}
	s := newScene()
	s.say(&event.Prompt{})
	s.say(&event.ModelRequest{Model: "m"})
	err := traces.Export(t.Context(), s.events)
	if err == nil || !strings.Contains(err.Error(), `1 of 1 spans were refused: no\x1b`) {
		t.Fatalf("%v", err)
	}
	if n := err.(interface{ Undelivered() int }).Undelivered(); n != 1 {
		t.Errorf("%d undelivered", n)
	}
}

func TestTracesNeedAnEndpointOfTheirOwn(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Endpoint = "http://127.0.0.1:1"
	if cfg.TracesEnabled() {
		t.Error("sent to a server that may take none")
	}
	cfg, err := cfg.WithEnvironment(DefaultConfig(), func(name string) (string, bool) {
		return "http://127.0.0.1:4318/v1/traces", name == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	})
	if err != nil || !cfg.TracesEnabled() {
		t.Errorf("the environment is not asked: %v", err)
	}
	cfg.Traces.Endpoint = "nonsense"
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "traces.endpoint") {
		t.Errorf("%v", err)
	}
}
