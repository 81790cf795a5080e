// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
	"github.com/watchglass/watchglass/exporters/internal/sample"
)

// protocols is both transports.
func protocols() []string { return []string{ProtocolGRPC, ProtocolHTTP} }

func (s *server) start(t *testing.T, protocol string, cfg *tls.Config) Config {
	t.Helper()
	if protocol == ProtocolGRPC {
		s.startGRPC(t, cfg)
	} else {
		s.startHTTP(t, cfg)
	}
	return testConfig(protocol, s.endpoint)
}

func testConfig(protocol, endpoint string) Config {
	cfg := DefaultConfig()
	cfg.Protocol, cfg.Endpoint = protocol, endpoint
	cfg.Timeout = 5 * time.Second
	cfg.Retry = Retry{Initial: time.Millisecond, Max: 10 * time.Millisecond, Elapsed: 10 * time.Second}
	return cfg
}

// export sends events and shuts down.
func export(t *testing.T, cfg Config, events []*event.Event) error {
	t.Helper()
	l, err := OpenLogs(cfg, Settings{Resource: sample.Resource()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	return l.Export(t.Context(), events)
}

// plain is an attribute's value as Go has it.
func plain(v *common.AnyValue) any {
	switch x := v.GetValue().(type) {
	case *common.AnyValue_StringValue:
		return x.StringValue
	case *common.AnyValue_IntValue:
		return x.IntValue
	case *common.AnyValue_DoubleValue:
		return x.DoubleValue
	case *common.AnyValue_BoolValue:
		return x.BoolValue
	case *common.AnyValue_ArrayValue:
		var list []any
		for _, item := range x.ArrayValue.GetValues() {
			list = append(list, plain(item))
		}
		return list
	case *common.AnyValue_KvlistValue:
		return plainMap(x.KvlistValue.GetValues())
	}
	return nil
}

func plainMap(pairs []*common.KeyValue) map[string]any {
	m := map[string]any{}
	for _, pair := range pairs {
		m[pair.GetKey()] = plain(pair.GetValue())
	}
	return m
}

func TestLogs(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols() {
		for _, compression := range []string{CompressionGzip, CompressionNone} {
			t.Run(protocol+" "+compression, func(t *testing.T) {
				t.Parallel()
				var s server
				cfg := s.start(t, protocol, nil)
				cfg.Compression = compression
				cfg.Headers = Headers{"Authorization": "Bearer s3cret", "x-tenant": "blue"}
				if err := export(t, cfg, sample.Events()); err != nil {
					t.Fatal(err)
				}
				checkLogs(t, &s)
				if got := s.headers["authorization"]; len(got) != 1 || got[0] != "Bearer s3cret" {
					t.Errorf("header authorization: %q", got)
				}
				// grpc-go takes the header away from the handler, so only HTTP shows the encoding.
				if want := strings.TrimSuffix(compression, CompressionNone); protocol == ProtocolHTTP && s.encoding != want {
					t.Errorf("encoding %q, want %q", s.encoding, want)
				}
			})
		}
	}
}

func checkLogs(t *testing.T, s *server) {
	t.Helper()
	events := sample.Events()
	if len(s.logs) != 1 || len(s.logs[0].GetResourceLogs()) != 2 {
		t.Fatalf("%d requests, want 1 with two resources: the sandbox, and the collector itself", len(s.logs))
	}
	first := s.logs[0].GetResourceLogs()[0]
	if first.GetSchemaUrl() != event.SchemaURL {
		t.Errorf("schema %q", first.GetSchemaUrl())
	}
	want := map[string]any{
		"service.name": "watchglass", "service.version": "0.1.0", "host.name": "build-7",
		"watchglass.sandbox.id": "5a5d0b17c0de0001", "watchglass.sandbox.name": "fix-the-parser",
		"watchglass.sandbox.runtime": "watchglass", "watchglass.sandbox.cgroup": "/watchglass/fix-the-parser",
	}
	if diff := cmp.Diff(want, plainMap(first.GetResource().GetAttributes())); diff != "" {
		t.Errorf("resource:\n%s", diff)
	}
	records := s.records()
	if len(records) != len(events) {
		t.Fatalf("%d records, want %d", len(records), len(events))
	}
	exec, wantExec := records[1], events[1]
	if exec.GetEventName() != "watchglass.process.exec" || exec.GetSeverityText() != "INFO" || exec.GetSeverityNumber() != 9 ||
		exec.GetTimeUnixNano() != uint64(wantExec.Time.UnixNano()) || exec.GetObservedTimeUnixNano() != uint64(wantExec.Observed.UnixNano()) {
		t.Errorf("exec: %v", exec)
	}
	if got := fmt.Sprintf("%x %x", exec.GetTraceId(), exec.GetSpanId()); got != "4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7" {
		t.Errorf("trace and span %s", got)
	}
	attributes := plainMap(exec.GetAttributes())
	if diff := cmp.Diff([]any{"bash", "-lc", `make test && echo "it's done"`}, attributes["process.command_args"]); diff != "" {
		t.Errorf("arguments:\n%s", diff)
	}
	if attributes["process.pid"] != int64(4242) || attributes["log.record.uid"] != "inst-2" {
		t.Errorf("attributes: %v", attributes)
	}
	hostile := plainMap(records[2].GetAttributes())
	wantArgs := []any{"./x", "new\nline", "\x1b[2J\x1b[31mred\u009b0m", `\xff\xfe\\n`, "\u202eoverride\u200b", ""}
	if diff := cmp.Diff(wantArgs, hostile["process.command_args"]); diff != "" {
		t.Errorf("hostile arguments:\n%s", diff)
	}
	if diff := cmp.Diff([]any{"body", "process.command_args"}, hostile["watchglass.capture.escaped"]); diff != "" {
		t.Errorf("escaped:\n%s", diff)
	}
	calls := plainMap(records[11].GetAttributes())
	if diff := cmp.Diff(map[string]any{"openat": int64(40), "read": int64(3)}, calls["watchglass.syscall.counts"]); diff != "" {
		t.Errorf("system calls:\n%s", diff)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ours, others := newAuthority(t), newAuthority(t)
	valid := time.Now().Add(time.Hour)
	for _, protocol := range protocols() {
		for name, test := range map[string]struct {
			server *tls.Config
			client TLS
			scheme string
			// want is in the error; "" means success.
			want string
		}{
			"own authority":         {ours.config(t, valid, false), TLS{CAFile: ours.caFile}, "https", ""},
			"mutual":                {ours.config(t, valid, true), TLS{CAFile: ours.caFile, CertFile: ours.certFile, KeyFile: ours.keyFile}, "https", ""},
			"unknown authority":     {ours.config(t, valid, false), TLS{}, "https", "set tls.ca_file (OTEL_EXPORTER_OTLP_CERTIFICATE)"},
			"wrong authority":       {ours.config(t, valid, false), TLS{CAFile: others.caFile}, "https", "set tls.ca_file"},
			"expired":               {ours.config(t, time.Now().Add(-time.Minute), false), TLS{CAFile: ours.caFile}, "https", "needs a valid certificate"},
			"no client certificate": {ours.config(t, valid, true), TLS{CAFile: ours.caFile}, "https", "set tls.cert_file and tls.key_file"},
			"wrong client certificate": {
				ours.config(t, valid, true),
				TLS{CAFile: ours.caFile, CertFile: others.certFile, KeyFile: others.keyFile},
				"https", "set tls.cert_file and tls.key_file",
			},
			"server without TLS": {nil, TLS{}, "https", "use http:// in the endpoint"},
		} {
			t.Run(protocol+" "+name, func(t *testing.T) {
				t.Parallel()
				var s server
				cfg := s.start(t, protocol, test.server)
				cfg.Endpoint = test.scheme + "://" + strings.SplitN(s.endpoint, "://", 2)[1]
				cfg.TLS = test.client
				cfg.Retry.Elapsed = 100 * time.Millisecond
				err := export(t, cfg, sample.Events()[:1])
				switch {
				case test.want == "" && err != nil:
					t.Error(err)
				case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), cfg.Endpoint)):
					t.Errorf("got %v, want an error with %q and the endpoint", err, test.want)
				}
			})
		}
	}
}

func TestTLSFiles(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	for want, files := range map[string]TLS{
		"read tls.ca_file":                   {CAFile: a.dir + "/missing"},
		"holds no certificate":               {CAFile: a.keyFile},
		"read tls.cert_file and tls.key_fil": {CertFile: a.certFile, KeyFile: a.certFile},
	} {
		for _, protocol := range protocols() {
			cfg := testConfig(protocol, "https://127.0.0.1:1")
			cfg.TLS = files
			if _, err := OpenLogs(cfg, Settings{}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want an error with %q", protocol, err, want)
			}
		}
	}
}

// TestRetry: what the specification calls retryable is tried again, and all else is not.
func TestRetry(t *testing.T) {
	t.Parallel()
	exhausted, err := status.New(codes.ResourceExhausted, "slow down").
		WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(50 * time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	once := func(err error) func(int) error {
		return func(n int) error {
			if n == 1 {
				return err
			}
			return nil
		}
	}
	answer := func(code int, header, value string) func(int, http.ResponseWriter) bool {
		return func(n int, w http.ResponseWriter) bool {
			if n > 1 {
				return false
			}
			if header != "" {
				w.Header().Set(header, value)
			}
			w.WriteHeader(code)
			return true
		}
	}
	later := func(n int, w http.ResponseWriter) bool {
		return answer(503, "Retry-After", time.Now().Add(2*time.Second).UTC().Format(http.TimeFormat))(n, w)
	}
	for name, test := range map[string]struct {
		script   any
		protocol string
		requests int
		least    time.Duration
		want     string
	}{
		"unavailable":               {once(status.Error(codes.Unavailable, "later")), ProtocolGRPC, 2, 0, ""},
		"exhausted with a time":     {once(exhausted.Err()), ProtocolGRPC, 2, 50 * time.Millisecond, ""},
		"exhausted without":         {once(status.Error(codes.ResourceExhausted, "full")), ProtocolGRPC, 1, 0, "full"},
		"invalid":                   {once(status.Error(codes.InvalidArgument, "bad\x1b[2Jthing")), ProtocolGRPC, 1, 0, `bad\x1b[2Jthing`},
		"unauthenticated":           {once(status.Error(codes.Unauthenticated, "who?")), ProtocolGRPC, 1, 0, "check the credentials"},
		"unimplemented":             {once(status.Error(codes.Unimplemented, "no logs")), ProtocolGRPC, 1, 0, "does not take this signal"},
		"429":                       {answer(429, "Retry-After", "1"), ProtocolHTTP, 2, time.Second, ""},
		"503 with a date":           {later, ProtocolHTTP, 2, 500 * time.Millisecond, ""},
		"502":                       {answer(502, "", ""), ProtocolHTTP, 2, 0, ""},
		"504":                       {answer(504, "", ""), ProtocolHTTP, 2, 0, ""},
		"503 with a senseless time": {answer(503, "Retry-After", "soon"), ProtocolHTTP, 2, 0, ""},
		"400":                       {answer(400, "", ""), ProtocolHTTP, 1, 0, "HTTP 400"},
		"401":                       {answer(401, "", ""), ProtocolHTTP, 1, 0, "check the credentials"},
		"404":                       {answer(404, "", ""), ProtocolHTTP, 1, 0, "check its path"},
		"500":                       {answer(500, "", ""), ProtocolHTTP, 1, 0, "HTTP 500"},
		"redirect":                  {answer(307, "Location", "http://127.0.0.1:1/"), ProtocolHTTP, 1, 0, "HTTP 307"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s server
			s.grpcScript, _ = test.script.(func(int) error)
			s.httpScript, _ = test.script.(func(int, http.ResponseWriter) bool)
			cfg := s.start(t, test.protocol, nil)
			cfg.Headers = Headers{"authorization": "s3cret"}
			start := time.Now()
			err := export(t, cfg, sample.Events()[:1])
			if took := time.Since(start); took < test.least {
				t.Errorf("tried again after %v, the server asked for %v", took, test.least)
			}
			if got := s.seen(); got != test.requests {
				t.Errorf("%d requests, want %d", got, test.requests)
			}
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want an error with %q", err, test.want)
			case err != nil && strings.Contains(err.Error(), "s3cret"):
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestPartialSuccess(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols() {
		s := server{partial: &collogs.ExportLogsPartialSuccess{RejectedLogRecords: 3, ErrorMessage: "too old"}}
		err := export(t, s.start(t, protocol, nil), sample.Events())
		var undelivered *exporters.UndeliveredError
		if !errors.As(err, &undelivered) || undelivered.Undelivered() != 3 || !strings.Contains(err.Error(), "too old") {
			t.Errorf("%s: got %v, want 3 undelivered events and the reason", protocol, err)
		}
		if s.seen() != 1 {
			t.Errorf("%s: a partial success was sent again", protocol)
		}
	}
}

// TestWarning: a partial success that rejected nothing is a success.
func TestWarning(t *testing.T) {
	t.Parallel()
	s := server{partial: &collogs.ExportLogsPartialSuccess{ErrorMessage: "deprecated"}}
	if err := export(t, s.start(t, ProtocolGRPC, nil), sample.Events()[:1]); err != nil {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	for _, protocol := range protocols() {
		cfg := testConfig(protocol, "http://"+address)
		cfg.Retry = Retry{Initial: time.Millisecond, Max: 100 * time.Millisecond, Elapsed: time.Second}
		err := export(t, cfg, sample.Events()[:2])
		var undelivered *exporters.UndeliveredError
		if !errors.As(err, &undelivered) || undelivered.Undelivered() != 2 {
			t.Errorf("%s: got %v, want 2 undelivered events", protocol, err)
		}
		for _, want := range []string{address, "attempts", "is the OpenTelemetry Collector running"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want an error with %q", protocol, err, want)
			}
		}
	}
}

// TestGarbage: whoever else listens there may say anything.
func TestGarbage(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]string{
		"silence":       "",
		"noise":         "\x00\xff\x1b[2J garbage\r\n\r\n",
		"another HTTP":  "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>",
		"endless words": strings.Repeat("a", 1<<20),
	} {
		for _, protocol := range protocols() {
			t.Run(name+" "+protocol, func(t *testing.T) {
				t.Parallel()
				cfg := testConfig(protocol, "http://"+talker(t, reply))
				cfg.Timeout, cfg.Retry.Elapsed = 300*time.Millisecond, 200*time.Millisecond
				err := export(t, cfg, sample.Events()[:1])
				if err == nil {
					t.Fatal("garbage was taken for success")
				}
				if len(err.Error()) > 1500 || strings.ContainsAny(err.Error(), "\x1b\x00") {
					t.Errorf("the error is not fit for a log: %q", err)
				}
			})
		}
	}
}

// talker says the same to whoever connects.
func talker(t *testing.T, reply string) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				_ = conn.SetDeadline(time.Now().Add(time.Second))
				_, _ = io.ReadAtLeast(conn, make([]byte, 4096), 16)
				_, _ = io.WriteString(conn, reply)
				if reply == "" {
					_, _ = io.Copy(io.Discard, conn)
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// TestSplit: a batch beyond what servers take is sent in several requests, and nothing is lost.
func TestSplit(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols() {
		var s server
		cfg := s.start(t, protocol, nil)
		cfg.Timeout = time.Minute // a request that is only slow is sent again, and its records are there twice
		var batch []*event.Event
		for range 40 {
			ev := *sample.Events()[1]
			ev.Payload = &event.ProcessExec{Args: []string{strings.Repeat("x", 128<<10)}, ArgsCount: 1}
			batch = append(batch, &ev)
		}
		if err := export(t, cfg, batch); err != nil {
			t.Fatal(err)
		}
		if n := len(s.records()); n != 40 || s.seen() < 3 {
			t.Errorf("%s: %d records in %d requests, want 40 in at least 3", protocol, n, s.seen())
		}
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols() {
		cfg := testConfig(protocol, "http://"+talker(t, ""))
		cfg.Timeout, cfg.Retry.Elapsed = time.Minute, time.Hour
		l, err := OpenLogs(cfg, Settings{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		start := time.Now()
		if err := l.Export(ctx, sample.Events()[:1]); err == nil {
			t.Errorf("%s: silence was taken for success", protocol)
		}
		cancel()
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: gave up %v after the context ended", protocol, took)
		}
		if err := l.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	source := exporters.NewMetrics(func() event.Stats { return event.Stats{Sandboxes: 3} })
	source.Declare(sample.Rule())
	if err := source.Export(t.Context(), sample.Events()); err != nil {
		t.Fatal(err)
	}
	for _, protocol := range protocols() {
		var s server
		cfg := s.start(t, protocol, nil)
		m, err := OpenMetrics(cfg, source, Settings{Resource: sample.Resource()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := m.Run(ctx); err != nil { // the last push
			t.Fatal(err)
		}
		if len(s.metrics) != 1 {
			t.Fatalf("%s: %d pushes, want 1", protocol, len(s.metrics))
		}
		checkMetrics(t, s.metrics[0].GetResourceMetrics()[0])
	}
}

func checkMetrics(t *testing.T, r *metrics.ResourceMetrics) {
	t.Helper()
	if got := plainMap(r.GetResource().GetAttributes())["service.name"]; got != "watchglass" {
		t.Errorf("service.name %v", got)
	}
	by := map[string]*metrics.Metric{}
	for _, m := range r.GetScopeMetrics()[0].GetMetrics() {
		by[m.GetName()] = m
	}
	if got := by["watchglass_sandboxes"].GetGauge().GetDataPoints(); len(got) != 1 || got[0].GetAsDouble() != 3 {
		t.Errorf("watchglass_sandboxes: %v", got)
	}
	findings := by["watchglass_findings_total"].GetSum()
	if !findings.GetIsMonotonic() || findings.GetAggregationTemporality() != metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE {
		t.Errorf("watchglass_findings_total is no cumulative counter: %v", findings)
	}
	found := false
	for _, p := range findings.GetDataPoints() {
		if attributes := plainMap(p.GetAttributes()); attributes["severity"] == "high" {
			found = p.GetAsDouble() == 1 && attributes["rule"] == "secret-read" && p.GetStartTimeUnixNano() > 0 &&
				len(p.GetExemplars()) == 1 && fmt.Sprintf("%x", p.GetExemplars()[0].GetTraceId()) == "4bf92f3577b34da6a3ce929d0e0e4736"
		}
	}
	if !found {
		t.Errorf("no finding with an exemplar in %v", findings)
	}
	lifetimes := by["watchglass_process_lifetime_seconds"]
	point := lifetimes.GetHistogram().GetDataPoints()[0]
	sum := uint64(0)
	for _, n := range point.GetBucketCounts() {
		sum += n
	}
	if lifetimes.GetUnit() != "s" || point.GetCount() != 2 || sum != 2 || point.GetSum() != 3 ||
		len(point.GetBucketCounts()) != len(point.GetExplicitBounds())+1 {
		t.Errorf("watchglass_process_lifetime_seconds: %v", lifetimes)
	}
	if by["go_gc_duration_seconds"].GetSummary() == nil {
		t.Error("no go_gc_duration_seconds")
	}
}
