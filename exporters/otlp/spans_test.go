// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/watchglass/watchglass/event"
)

// recorded is spans as the journal keeps them.
type recorded struct {
	spans      []event.Encoded
	unfinished []int
}

func (r *recorded) append(spans []event.Encoded) {
	for _, s := range spans {
		s.Resource, s.Record = bytes.Clone(s.Resource), bytes.Clone(s.Record)
		r.spans = append(r.spans, s)
	}
}

func recordTraces() (*recorded, *Traces) {
	r := &recorded{}
	return r, RecordTraces(SpanRecorder{
		Instance: "start-1", Append: r.append, Unfinished: func(n int) { r.unfinished = append(r.unfinished, n) },
	}, Settings{Logger: slog.New(slog.DiscardHandler), Resource: []event.Attribute{{Key: event.ServiceName, Value: event.String("watchglass")}}})
}

func openSpans(t *testing.T, cfg Config) *Logs {
	t.Helper()
	cfg.Retry = Retry{Initial: time.Millisecond, Max: 20 * time.Millisecond, Elapsed: time.Minute}
	d, err := OpenSpans(cfg, Settings{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestRecordedSpans: what is recorded and sent from there is what would be sent at once, span for span.
func TestRecordedSpans(t *testing.T) {
	t.Parallel()
	events := treeScene().events
	direct, traces := serveTraces(t)
	kept, recording := recordTraces()
	for _, e := range events {
		for _, x := range []*Traces{traces, recording} {
			if err := x.Export(t.Context(), []*event.Event{e}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, x := range []*Traces{traces, recording} {
		if err := x.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range kept.spans {
		if s.Seq != uint64(i+1) || s.Instance != "start-1" || s.Kind != event.KindSpan || s.Sandbox != "s1" || s.Time.IsZero() {
			t.Errorf("span %d: %+v", i, s)
		}
	}
	if n := len(kept.unfinished); n == 0 || kept.unfinished[n-1] != 0 {
		t.Errorf("at the end these are unfinished: %v", kept.unfinished)
	}
	server, cfg := listenTraces(t)
	d := openSpans(t, cfg)
	if rejected, err := d.Send(t.Context(), kept.spans); err != nil || len(rejected) > 0 || d.Name() != TracesName {
		t.Fatalf("%v: %v", err, rejected)
	}
	if got, want := server.tree(t), direct.tree(t); !slices.Equal(got, want) || len(got) == 0 || !server.sandbox["s1"] {
		t.Errorf("from the record:\n%s\nat once:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for i := range direct.spans {
		if !proto.Equal(direct.spans[i], server.spans[i]) {
			t.Errorf("span %d is\n%v, at once\n%v", i, server.spans[i], direct.spans[i])
		}
	}
}

// TestUnfinishedSpans counts the turns and calls that a kill would take.
func TestUnfinishedSpans(t *testing.T) {
	t.Parallel()
	_, traces := recordTraces()
	s := newScene()
	for _, step := range []struct {
		payload event.Said
		want    int
	}{
		{&event.Prompt{Length: 1}, 1},
		{&event.ModelRequest{Model: "m"}, 1},
		{&event.ToolCall{Phase: event.PhaseStart, ID: "call_1"}, 2},
		{&event.ToolCall{Phase: event.PhaseJoined, ID: "call_1", Exited: true}, 1},
		{&event.SessionEnd{}, 0},
	} {
		s.say(step.payload)
		if err := traces.Export(t.Context(), s.events); err != nil {
			t.Fatal(err)
		}
		s.events = s.events[:0]
		if got := traces.unfinished(); got != step.want {
			t.Errorf("after %T %d are unfinished, want %d", step.payload, got, step.want)
		}
	}
}

// numberedSpans is n spans, of which those at bad are called so.
func numberedSpans(t *testing.T, n int, bad ...int) []event.Encoded {
	t.Helper()
	var list []event.Encoded
	for i := range n {
		name := "span"
		if slices.Contains(bad, i) {
			name = "bad"
		}
		record, err := proto.Marshal(&trace.Span{TraceId: fmt.Appendf(nil, "%016d", i), SpanId: fmt.Appendf(nil, "%08d", i), Name: name})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, event.Encoded{Seq: uint64(i + 1), Instance: "a", Kind: event.KindSpan, Record: record})
	}
	return list
}

// refuse is how many of the request's spans are bad.
func refuse(r *coltrace.ExportTraceServiceRequest) (bad int64) {
	for _, rs := range r.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, span := range ss.GetSpans() {
				if span.GetName() == "bad" {
					bad++
				}
			}
		}
	}
	return bad
}

// TestSpansThatAreRefused: of spans that a backend refuses, by failing or by a partial success, exactly those are
// rejected, and the others arrive.
func TestSpansThatAreRefused(t *testing.T) {
	t.Parallel()
	bad := []int{0, 7, 8, 63}
	for name, script := range map[string]func(*coltrace.ExportTraceServiceRequest) (*coltrace.ExportTracePartialSuccess, error){
		"poison": func(r *coltrace.ExportTraceServiceRequest) (*coltrace.ExportTracePartialSuccess, error) {
			if refuse(r) > 0 {
				return nil, status.Error(codes.InvalidArgument, "a bad span")
			}
			return nil, nil
		},
		"partial success": func(r *coltrace.ExportTraceServiceRequest) (*coltrace.ExportTracePartialSuccess, error) {
			return &coltrace.ExportTracePartialSuccess{RejectedSpans: refuse(r), ErrorMessage: "a bad span"}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, cfg := listenTraces(t)
			server.script = script
			rejected, err := openSpans(t, cfg).Send(t.Context(), numberedSpans(t, 64, bad...))
			if err != nil {
				t.Fatal(err)
			}
			var got []int
			for _, r := range rejected {
				got = append(got, r.Index)
				if !strings.Contains(r.Reason, "a bad span") {
					t.Errorf("the reason: %s", r.Reason)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, bad) {
				t.Errorf("rejected: %v, want %v", got, bad)
			}
			arrived := map[string]bool{}
			for _, span := range server.spans {
				if span.GetName() != "bad" {
					arrived[string(span.GetSpanId())] = true
				}
			}
			if len(arrived) != 64-len(bad) {
				t.Errorf("%d arrived", len(arrived))
			}
		})
	}
}

// TestSpansWaitAsTold: over HTTP, a Retry-After holds for spans too, and what is refused for now arrives.
func TestSpansWaitAsTold(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var at []time.Time
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request coltrace.ExportTraceServiceRequest
		if err != nil || proto.Unmarshal(body, &request) != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		mu.Lock()
		defer mu.Unlock()
		if at = append(at, time.Now()); len(at) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", contentType)
	}))
	defer server.Close()
	cfg := DefaultConfig()
	cfg.Protocol, cfg.Compression, cfg.Traces.Endpoint = ProtocolHTTP, CompressionNone, server.URL+"/v1/traces"
	if rejected, err := openSpans(t, cfg).Send(t.Context(), numberedSpans(t, 3)); err != nil || len(rejected) > 0 {
		t.Fatalf("%v: %v", err, rejected)
	}
	if len(at) != 2 || at[1].Sub(at[0]) < time.Second {
		t.Errorf("requests at %v", at)
	}
}

// TestSpansAreNotJSON: that form is for events alone, which a configuration for traces is told.
func TestSpansAreNotJSON(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Traces.Endpoint, cfg.Traces.Protocol = "http://127.0.0.1:1/v1/traces", ProtocolJSON
	if _, err := OpenSpans(cfg, Settings{}); err == nil || !strings.Contains(err.Error(), "traces.protocol: must be grpc or http/protobuf") {
		t.Errorf("%v", err)
	}
}
