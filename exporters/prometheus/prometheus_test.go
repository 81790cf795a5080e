// SPDX-License-Identifier: Apache-2.0

package prometheus

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
	"github.com/watchglass/watchglass/exporters/internal/sample"
)

func open(t *testing.T, cfg Config, s Settings) *Server {
	t.Helper()
	if s.Metrics == nil {
		s.Metrics = exporters.NewMetrics(func() event.Stats { return event.Stats{Sandboxes: 2} })
	}
	s.Logger = slog.New(slog.DiscardHandler)
	server, err := Open(cfg, s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return server
}

func get(t *testing.T, server *Server, path, accept string) (int, string, http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+server.Address()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", accept)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body), answer.Header
}

func loopback() Config { return Config{Address: "127.0.0.1:0"} }

func TestMetrics(t *testing.T) {
	t.Parallel()
	metrics := exporters.NewMetrics(func() event.Stats { return event.Stats{Sandboxes: 2} })
	if err := metrics.Export(t.Context(), sample.Events()); err != nil {
		t.Fatal(err)
	}
	server := open(t, loopback(), Settings{Metrics: metrics})
	code, body, _ := get(t, server, "/metrics", "text/plain")
	if code != http.StatusOK || !strings.Contains(body, "\nwatchglass_sandboxes 2\n") || strings.Contains(body, "trace_id") {
		t.Errorf("text format: %d\n%s", code, body)
	}
	code, body, header := get(t, server, "/metrics", "application/openmetrics-text; version=1.0.0")
	if code != http.StatusOK || !strings.HasPrefix(header.Get("Content-Type"), "application/openmetrics-text") ||
		!strings.Contains(body, `event_uid="inst-11"`) || !strings.HasSuffix(body, "# EOF\n") {
		t.Errorf("OpenMetrics: %d %v\n%s", code, header, body)
	}
	if code, _, _ := get(t, server, "/", ""); code != http.StatusNotFound {
		t.Errorf("/: %d", code)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	ready := errors.New("the first scan for sandboxes is not done")
	server := open(t, loopback(), Settings{Healthy: func() error { return nil }, Ready: func() error { return ready }})
	if code, body, _ := get(t, server, "/healthz", ""); code != http.StatusOK || body != "ok\n" {
		t.Errorf("/healthz: %d %q", code, body)
	}
	if code, body, _ := get(t, server, "/readyz", ""); code != http.StatusServiceUnavailable || body != ready.Error()+"\n" {
		t.Errorf("/readyz before: %d %q", code, body)
	}
	ready = nil
	if code, _, _ := get(t, server, "/readyz", ""); code != http.StatusOK {
		t.Errorf("/readyz after: %d", code)
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	first := open(t, loopback(), Settings{})
	_, err := Open(Config{Address: first.Address()}, Settings{})
	if err == nil || !strings.Contains(err.Error(), first.Address()) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v, want an error that names the address", err)
	}
}

func TestCloseWithoutRun(t *testing.T) {
	t.Parallel()
	settings := Settings{Metrics: exporters.NewMetrics(func() event.Stats { return event.Stats{} }), Logger: slog.New(slog.DiscardHandler)}
	server, err := Open(loopback(), settings)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	again, err := Open(Config{Address: server.Address()}, settings)
	if err != nil {
		t.Fatalf("the port was not given back: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	for _, address := range []string{"", "9464", "a:b:c"} {
		if err := (Config{Address: address}).Validate(); err == nil {
			t.Errorf("%q is an address", address)
		}
	}
}

// TestSandboxes: single sandboxes have a page of their own, and none of them is on that of the collector.
func TestSandboxes(t *testing.T) {
	t.Parallel()
	sandboxes := exporters.NewSandboxMetrics(func() []event.SandboxStats {
		return []event.SandboxStats{{Sandbox: sample.Sandbox(), Usage: sample.Usage()}}
	}, 0)
	server := open(t, loopback(), Settings{Sandboxes: sandboxes})
	const series = `watchglass_sandbox_cpu_seconds_total{sandbox="5a5d0b17c0de0001"} 1.5`
	if code, body, _ := get(t, server, "/metrics/sandboxes", "text/plain"); code != http.StatusOK || !strings.Contains(body, series) {
		t.Errorf("%d\n%s", code, body)
	}
	if _, body, _ := get(t, server, "/metrics", "text/plain"); strings.Contains(body, "5a5d0b17c0de0001") {
		t.Errorf("/metrics shows a sandbox:\n%s", body)
	}
	if code, _, _ := get(t, open(t, loopback(), Settings{}), "/metrics/sandboxes", ""); code != http.StatusNotFound {
		t.Errorf("without sandboxes: %d", code)
	}
}
