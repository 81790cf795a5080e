// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/watchglass/watchglass/event"
)

func FuzzCodexTelemetry(f *testing.F)      { fuzzAdapter(f, codex(), "codex") }
func FuzzClaudeCodeTelemetry(f *testing.F) { fuzzAdapter(f, claudeCode(), "claude") }
func FuzzGeminiTelemetry(f *testing.F)     { fuzzAdapter(f, geminiCLI(), "gemini") }
func FuzzOpenCodeTelemetry(f *testing.F)   { fuzzAdapter(f, openCode(), "opencode") }
func FuzzGenericTelemetry(f *testing.F) {
	fuzzAdapter(f, generic(), "codex", "claude", "gemini", "opencode")
}

const maxSeed = 2 << 10

// fuzzAdapter gives an adapter requests of any bytes, beginning with what real agents sent. Whatever it says must be
// within the bounds of what is kept, and every record counted once.
func fuzzAdapter(f *testing.F, a Adapter, recorded ...string) {
	for _, name := range recorded {
		for _, r := range recordings(f, name+"-samples") {
			// Large ones are minimised for a minute each time one of them is found to be interesting.
			if body := protobufOf(f, &r); r.Signal != "metrics" && len(body) < maxSeed {
				f.Add(r.Signal, body)
			}
		}
	}
	a.speaks = func(*record) bool { return true }
	f.Fuzz(func(t *testing.T, signal string, body []byte) {
		tr := NewTranslator(everything())
		tr.adapters = []Adapter{a}
		received := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
		for again := range 2 {
			var said []*Statement
			var account Account
			records := 0
			switch signal {
			case "logs":
				request := plogotlp.NewExportRequest()
				if request.UnmarshalProto(body) != nil {
					return
				}
				records = request.Logs().LogRecordCount()
				said, account = tr.Logs(request.Logs(), Origin{Sandbox: 7}, received)
			case "traces":
				request := ptraceotlp.NewExportRequest()
				if request.UnmarshalProto(body) != nil {
					return
				}
				records = request.Traces().SpanCount()
				said, account = tr.Traces(request.Traces(), Origin{Sandbox: 7}, received)
			default:
				request := pmetricotlp.NewExportRequest()
				if request.UnmarshalProto(body) != nil {
					return
				}
				records = request.Metrics().MetricCount()
				account = tr.Metrics(request.Metrics())
			}
			counted := 0
			for _, counts := range account {
				for _, n := range counts {
					counted += int(n)
				}
			}
			if counted != records || len(said) > 3*records {
				t.Fatalf("%d records, counted %d, %d statements", records, counted, len(said))
			}
			if again > 0 && len(said) > 0 && records < maxSeen {
				t.Fatalf("told again: %q", lines(said))
			}
			for _, s := range said {
				checkStatement(t, s, received)
			}
		}
	})
}

func protobufOf(f *testing.F, r *recorded) []byte {
	type request interface {
		UnmarshalJSON(b []byte) error
		MarshalProto() ([]byte, error)
	}
	var q request
	switch r.Signal {
	case "logs":
		q = plogotlp.NewExportRequest()
	case "traces":
		q = ptraceotlp.NewExportRequest()
	default:
		q = pmetricotlp.NewExportRequest()
	}
	if err := q.UnmarshalJSON(r.Body); err != nil {
		f.Fatal(err)
	}
	body, err := q.MarshalProto()
	if err != nil {
		f.Fatal(err)
	}
	return body
}

func checkStatement(t *testing.T, s *Statement, received time.Time) {
	t.Helper()
	if s.Time.After(received.Add(maxFuture)) || s.Time.Before(received.Add(-maxSpan-maxPast)) {
		t.Fatalf("at %v, received at %v", s.Time, received)
	}
	said := s.Claim.Said()
	for _, id := range []string{said.Session, said.Conversation, said.Turn, said.ParentSession} {
		if len(id) > maxID || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Fatalf("kept the id %q", id)
		}
	}
	for _, a := range s.Claim.AppendAttributes(nil) {
		if text := a.Value.Text(); len(text) > maxContent+utf8.UTFMax {
			t.Fatalf("%s is %d bytes", a.Key, len(text))
		}
	}
	switch c := s.Claim.(type) {
	case *event.ToolCall:
		if c.Duration < 0 || len(c.ID) > maxID {
			t.Fatalf("%+v", c)
		}
	case *event.ModelRequest:
		if min(c.Input, c.Output, c.CacheRead) < 0 || c.CostUSD < 0 || c.Duration < 0 || c.FirstChunk < 0 {
			t.Fatalf("%+v", c)
		}
	}
	s.Claim.AppendBody(nil)
}
