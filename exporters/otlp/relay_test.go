// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/watchglass/watchglass/event"
)

func relayConfig(endpoint, protocol string) RelayConfig {
	return RelayConfig{
		Destination: Destination{
			Endpoint: endpoint, Protocol: protocol, Compression: CompressionGzip, Timeout: 5 * time.Second,
			Headers: Headers{"authorization": "Bearer secret"},
		},
		Retry:      Retry{Initial: time.Millisecond, Max: 5 * time.Millisecond, Elapsed: 5 * time.Second},
		QueueBytes: 1 << 20,
	}
}

func openRelay(t *testing.T, cfg RelayConfig) *Relay {
	t.Helper()
	r, err := OpenRelay(cfg, Settings{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// run runs a relay until the test says stop.
func runRelay(t *testing.T, r *Relay) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func (r *Relay) of(signal string) event.RelayStats {
	for _, s := range r.Stats() {
		if s.Signal == signal {
			return s
		}
	}
	return event.RelayStats{}
}

// backend is an HTTP server that keeps what comes.
type backend struct {
	*httptest.Server
	mu     sync.Mutex
	bodies map[string][]string
	answer func(n int) int
	n      int
}

func newBackend(t *testing.T, answer func(n int) int) *backend {
	t.Helper()
	b := &backend{bodies: map[string][]string{}, answer: answer}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		z, err := gzip.NewReader(r.Body)
		if err != nil || r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		body, _ := io.ReadAll(z)
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.n++; b.answer != nil {
			if status := b.answer(b.n); status != http.StatusOK {
				w.WriteHeader(status)
				return
			}
		}
		b.bodies[r.URL.Path] = append(b.bodies[r.URL.Path], string(body))
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(b.Close)
	return b
}

// TestRelayHTTP sends bytes of all signals, which come out as they went in, also after refusals that pass.
func TestRelayHTTP(t *testing.T) {
	b := newBackend(t, func(n int) int {
		if n <= 2 {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	r := openRelay(t, relayConfig(b.URL, ProtocolHTTP))
	stop := runRelay(t, r)
	for _, signal := range []string{"logs", "traces", "metrics"} {
		r.Send(Relayed{Signal: signal, Sandbox: 7, Body: []byte("\x0a\x00 " + signal)})
	}
	r.Send(Relayed{Signal: "profiles", Body: []byte("x")})
	stop()
	for _, signal := range []string{"logs", "traces", "metrics"} {
		if got := b.bodies["/v1/"+signal]; len(got) != 1 || got[0] != "\x0a\x00 "+signal {
			t.Errorf("%s: %q", signal, got)
		}
		if s := r.of(signal); s.Sent != 1 || s.Failed+s.Dropped != 0 || s.QueuedBytes != 0 {
			t.Errorf("%+v", s)
		}
	}
}

func TestRelayGRPC(t *testing.T) {
	s := &server{}
	s.startGRPC(t, nil)
	r := openRelay(t, relayConfig(s.endpoint, ProtocolGRPC))
	stop := runRelay(t, r)
	var body []byte
	body, _ = proto.Marshal(&collogs.ExportLogsServiceRequest{})
	// A field that this version of OTLP does not know comes out too.
	body = append(body, 0xa2, 0x06, 1, 'x')
	r.Send(Relayed{Signal: "logs", Body: body})
	stop()
	if s.seen() != 1 || r.of("logs").Sent != 1 {
		t.Fatalf("seen %d, %+v", s.seen(), r.of("logs"))
	}
	if got := s.logs[0].ProtoReflect().GetUnknown(); !bytes.Equal(got, []byte{0xa2, 0x06, 1, 'x'}) {
		t.Errorf("%x", got)
	}
	if s.headers["authorization"][0] != "Bearer secret" {
		t.Error("without the headers")
	}
}

// TestRelayGivesUp counts what cannot be delivered: refused for good, and what waits when there is no time left.
func TestRelayGivesUp(t *testing.T) {
	b := newBackend(t, func(int) int { return http.StatusBadRequest })
	r := openRelay(t, relayConfig(b.URL, ProtocolHTTP))
	stop := runRelay(t, r)
	r.Send(Relayed{Signal: "logs", Body: []byte("x")})
	stop()
	if s := r.of("logs"); s.Failed != 1 || s.Sent != 0 {
		t.Errorf("%+v", s)
	}
	cfg := relayConfig("http://127.0.0.1:1", ProtocolHTTP)
	cfg.Retry.Elapsed = 20 * time.Millisecond
	r = openRelay(t, cfg)
	stop = runRelay(t, r)
	r.Send(Relayed{Signal: "traces", Body: []byte("x")})
	r.Send(Relayed{Signal: "traces", Body: []byte("y")})
	stop()
	if s := r.of("traces"); s.Failed != 2 || s.QueuedBytes != 0 {
		t.Errorf("%+v", s)
	}
}

// TestRelayQueue floods a queue that nobody empties: who floods loses, by turns the others are served.
func TestRelayQueue(t *testing.T) {
	cfg := relayConfig("http://127.0.0.1:1", ProtocolHTTP)
	r := openRelay(t, cfg)
	big := strings.Repeat("x", 64<<10)
	r.Send(Relayed{Signal: "logs", Sandbox: 1, Body: []byte("one")})
	for range 100 {
		r.Send(Relayed{Signal: "logs", Sandbox: 2, Body: []byte(big)})
	}
	r.Send(Relayed{Signal: "logs", Sandbox: 1, Body: []byte("two")})
	s := r.of("logs")
	if s.QueuedBytes > cfg.QueueBytes || s.Dropped < 80 || s.Dropped > 90 {
		t.Errorf("%+v", s)
	}
	var got []string
	for {
		body, ok := r.lanes[0].take()
		if !ok {
			break
		}
		got = append(got, string(body[:min(3, len(body))]))
	}
	if len(got) < 4 || strings.Join(got[:4], " ") != "one xxx two xxx" {
		t.Errorf("%q", got[:min(4, len(got))])
	}
	r.Send(Relayed{Signal: "logs", Body: make([]byte, cfg.QueueBytes+1)})
	if s := r.of("logs"); s.QueuedBytes != 0 || len(r.lanes[0].turns)+len(r.lanes[0].by) != 0 {
		t.Errorf("one that is larger than the queue: %+v", s)
	}
}

func TestRelayConfig(t *testing.T) {
	if err := (RelayConfig{}).Validate(); err != nil {
		t.Error(err)
	}
	cfg := relayConfig("http://127.0.0.1:1", ProtocolHTTP)
	cfg.QueueBytes = 1
	if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), "queue_bytes: ") {
		t.Error(err)
	}
	cfg = relayConfig("collector:4317", ProtocolGRPC)
	if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), "endpoint: ") {
		t.Error(err)
	}
}
