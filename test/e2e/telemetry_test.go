// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// span is one of the agent's own spans: its claim, against which the kernel's facts are held.
type span struct {
	TraceID    string `json:"traceId"`
	SpanID     string `json:"spanId"`
	Name       string `json:"name"`
	Attributes []struct {
		Key   string `json:"key"`
		Value struct {
			String string `json:"stringValue"`
		} `json:"value"`
	} `json:"attributes"`
}

func (s span) attribute(key string) string {
	for _, attribute := range s.Attributes {
		if attribute.Key == key {
			return attribute.Value.String
		}
	}
	return ""
}

// spanSink receives OTLP traces as JSON.
type spanSink struct {
	url string

	mu    sync.Mutex
	spans []span
}

// startSpanSink serves until the end of the test, in the network namespace of the calling thread.
func startSpanSink(t *testing.T) *spanSink {
	t.Helper()
	listener := listen(t)
	sink := &spanSink{url: "http://" + listener.Addr().String()}
	server := &http.Server{Handler: sink, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return sink
}

// ServeHTTP takes traces in and drops every other signal.
func (s *spanSink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	defer func() { _, _ = io.WriteString(w, "{}") }()
	if !strings.HasSuffix(r.URL.Path, "/v1/traces") {
		return
	}
	var export struct {
		ResourceSpans []struct {
			ScopeSpans []struct {
				Spans []span `json:"spans"`
			} `json:"scopeSpans"`
		} `json:"resourceSpans"`
	}
	if err := json.NewDecoder(r.Body).Decode(&export); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range export.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			s.spans = append(s.spans, scope.Spans...)
		}
	}
}

// find returns the spans of a name that have an attribute.
func (s *spanSink) find(name, key, value string) []span {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []span
	for _, span := range s.spans {
		if span.Name == name && span.attribute(key) == value {
			found = append(found, span)
		}
	}
	return found
}
