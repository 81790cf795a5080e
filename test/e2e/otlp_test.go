// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"compress/gzip"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/proto"
)

// logSink takes OTLP logs and metrics over HTTP, as an OpenTelemetry Collector would.
type logSink struct {
	url string

	mu      sync.Mutex
	uids    []string
	metrics map[string]bool
}

func startLogSink(t *testing.T) *logSink {
	t.Helper()
	listener := listen(t)
	sink := &logSink{url: "http://" + listener.Addr().String(), metrics: map[string]bool{}}
	server := &http.Server{Handler: sink, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return sink
}

// ServeHTTP takes both signals; an empty answer is a success of either.
func (s *logSink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var logs collogs.ExportLogsServiceRequest
	var metrics colmetrics.ExportMetricsServiceRequest
	var request proto.Message = &logs
	if r.URL.Path == "/v1/metrics" {
		request = &metrics
	}
	z, err := gzip.NewReader(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(z)
	if err != nil || proto.Unmarshal(body, request) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range logs.GetResourceLogs() {
		for _, scope := range resource.GetScopeLogs() {
			for _, record := range scope.GetLogRecords() {
				s.uids = append(s.uids, attribute(record.GetAttributes(), "log.record.uid"))
			}
		}
	}
	for _, resource := range metrics.GetResourceMetrics() {
		for _, scope := range resource.GetScopeMetrics() {
			for _, metric := range scope.GetMetrics() {
				s.metrics[metric.GetName()] = true
			}
		}
	}
}

func attribute(list []*common.KeyValue, key string) string {
	for _, pair := range list {
		if pair.GetKey() == key {
			return pair.GetValue().GetStringValue()
		}
	}
	return ""
}

// compare holds what arrived to what was written to the file: the same events, each once.
func (s *logSink) compare(t *testing.T, written stream) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.uids)
	if want := written.uids(); len(want) == 0 || !slices.Equal(s.uids, want) {
		t.Errorf("%d events arrived by OTLP, %d are in the file", len(s.uids), len(want))
	}
	t.Logf("%d events by OTLP and as JSON lines", len(s.uids))
	for _, name := range []string{"watchglass_findings_total", "watchglass_process_lifetime_seconds", "go_goroutines"} {
		if !s.metrics[name] {
			t.Errorf("%s did not arrive by OTLP", name)
		}
	}
}
