// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/collector/agent/peer"
	"github.com/watchglass/watchglass/event"
)

// FuzzRequest sends requests of any bytes, as any signal, in both encodings, packed or not. The answer is one of the
// protocol's, and nothing is kept of who was served.
func FuzzRequest(f *testing.F) {
	asJSON, err := promptsRequest(2).MarshalJSON()
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range []string{"/v1/logs", "/v1/traces", "/v1/metrics"} {
		f.Add(path, protobufType, "", prompts(2))
		f.Add(path, protobufType, "gzip", packed(prompts(2)))
		f.Add(path, jsonType, "", asJSON)
		f.Add(path, jsonType, "gzip", packed(asJSON))
	}
	f.Add("/v1/logs", protobufType, "", nested(40))
	f.Add("/v1/logs", protobufType, "", bytes.Repeat([]byte{0x13}, 64))
	f.Add("/v1/traces", jsonType, "", []byte(strings.Repeat(`{"resourceSpans":[`, 50)))
	peers, err := peer.New(peer.Settings{Logger: slog.New(slog.DiscardHandler), Sandbox: func(uint32) uint64 { return 0 }})
	if err != nil {
		f.Fatal(err)
	}
	cfg := settings()
	cfg.HTTP, cfg.GRPC, cfg.MaxBodyBytes, cfg.BytesPerSecond, cfg.BurstBytes = "", "", 1<<20, 1<<30, 1<<30
	r, err := Open(cfg, Settings{
		Peers: peers, Logger: slog.New(slog.DiscardHandler), Claim: func(s *agent.Statement) { s.Claim.AppendAttributes(nil) },
		Relay: &relayed{bodies: map[Signal][][]byte{}}, Stamp: func(uint64) []event.Attribute {
			return []event.Attribute{{Key: event.HostName, Value: event.String("n")}}
		},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path, media, encoding string, body []byte) {
		q := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body))
		q.URL.Path = path
		q.Header.Set("Content-Type", media)
		q.Header.Set("Content-Encoding", encoding)
		w := httptest.NewRecorder()
		r.ServeHTTP(w, q)
		switch w.Code {
		case 200, 400, 404, 413, 415, 429:
		default:
			t.Fatalf("answered %d", w.Code)
		}
		if _, requests := r.admission.numbers(); requests != 0 || r.requestsInternal() != 0 {
			t.Fatalf("%d requests are still served, %d failed inside", requests, r.requestsInternal())
		}
		r.settings.Relay = &relayed{bodies: map[Signal][][]byte{}}
	})
}

func (r *Receiver) requestsInternal() (n uint64) {
	for _, q := range r.Stats().Requests {
		if q.Result == reasonInternal {
			n += q.Count
		}
	}
	return n
}

// FuzzGuard checks that what the guard lets through can be decoded within bounds, and that it never fails itself.
func FuzzGuard(f *testing.F) {
	f.Add(prompts(3))
	f.Add(nested(20))
	f.Add([]byte(`{"resourceLogs":[{"a":"\"]}{"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, signal := range []Signal{Logs, Traces, Metrics} {
			g := guard{}
			if g.protobuf(body, descriptor(signal), 0) == nil {
				q := request{signal: signal, body: body}
				if b, failed := q.decode(); failed == nil && b.records() > g.elements {
					t.Fatalf("%d records of %d elements", b.records(), g.elements)
				}
			}
		}
		_ = (&guard{}).json(body)
	})
}
