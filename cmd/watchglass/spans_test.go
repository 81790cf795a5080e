// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	"github.com/watchglass/watchglass/collector"
	"github.com/watchglass/watchglass/event"
)

// spanServer counts the spans that it gets, by their ids.
type spanServer struct {
	coltrace.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans map[string]int
}

func (s *spanServer) Export(_ context.Context, r *coltrace.ExportTraceServiceRequest) (*coltrace.ExportTraceServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rs := range r.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, span := range ss.GetSpans() {
				s.spans[string(span.GetTraceId())+string(span.GetSpanId())]++
			}
		}
	}
	return &coltrace.ExportTraceServiceResponse{}, nil
}

func (s *spanServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.spans)
}

// startOfTraces is the part of a daemon that makes traces: its exporter, its journal, its pump.
func startOfTraces(t *testing.T, cfg *config, instance string) (*watch, collector.Exporter) {
	t.Helper()
	w := &watch{store: store{log: slog.New(slog.DiscardHandler)}}
	if err := w.store.open(&cfg.Journal, instance); err != nil {
		t.Fatal(err)
	}
	traces, spans, err := w.openTraces(&watchSettings{config: cfg, log: slog.New(slog.DiscardHandler), instance: instance})
	if err != nil || len(traces) != 1 || len(spans) != 1 {
		t.Fatalf("%v: %d exporters, %d destinations", err, len(traces), len(spans))
	}
	if _, err := w.store.exporters(spans, nil); err != nil {
		t.Fatal(err)
	}
	w.store.start(make(chan error, 1))
	return w, traces[0].Exporter
}

// TestTracesWaitInTheJournal: spans that the backend was not there to take are sent by the next start.
func TestTracesWaitInTheJournal(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil { // it is down
		t.Fatal(err)
	}
	cfg, err := defaultConfig()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Journal.Dir = filepath.Join(t.TempDir(), "journal")
	cfg.Exporters.OTLP.Traces.Endpoint = "http://" + address
	cfg.Exporters.OTLP.Retry.Initial, cfg.Exporters.OTLP.Retry.Max = time.Millisecond, 50*time.Millisecond
	box := &event.Sandbox{ID: "box-1", Name: "work"}
	const requests = 40
	made := 0
	say := func(to collector.Exporter, instance string) {
		var batch []*event.Event
		for range requests {
			made++
			batch = append(batch, &event.Event{
				Time: time.Now(), Seq: uint64(made), Instance: instance, Sandbox: box, Payload: &event.ModelRequest{
					Claim: event.Claim{Agent: "codex", Session: "session-1", Sender: event.SenderOwner}, Model: fmt.Sprint("m", made),
				},
			})
		}
		if err := to.Export(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	w, traces := startOfTraces(t, cfg, "start-1")
	say(traces, "start-1")
	if err := traces.Shutdown(t.Context()); err != nil { // makes the span of the turn
		t.Fatal(err)
	}
	if err := w.store.close(); err != nil {
		t.Fatal(err)
	}
	if listener, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	server := &spanServer{spans: map[string]int{}}
	g := grpc.NewServer()
	coltrace.RegisterTraceServiceServer(g, server)
	go g.Serve(listener)
	defer g.Stop()
	w, traces = startOfTraces(t, cfg, "start-2")
	say(traces, "start-2")
	if err := traces.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.store.drain(t.Context())
	if err := w.store.close(); err != nil {
		t.Fatal(err)
	}
	if got, want := server.count(), 2*requests+2; got != want {
		t.Errorf("%d spans arrived of %d", got, want)
	}
}
