// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
	"github.com/watchglass/watchglass/exporters/internal/sample"
)

// protocols is both transports.
func protocols() []string { return []string{ProtocolGRPC, ProtocolHTTP} }

func (s *server) start(t testing.TB, protocol string, cfg *tls.Config) Config {
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

// encode is the events in their durable form.
func encode(events []*event.Event) []event.Encoded {
	e := NewEncoder(sample.Resource())
	batch := make([]event.Encoded, len(events))
	for i, ev := range events {
		e.Encode(&batch[i], ev)
	}
	return batch
}

// open opens a destination that is shut down after the test.
func open(t *testing.T, cfg Config) *Logs {
	t.Helper()
	l, err := OpenLogs(cfg.LogsConfig("siem"), Settings{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

// send sends events to a destination of their own.
func send(t *testing.T, cfg Config, events []*event.Event) ([]event.Rejection, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return open(t, cfg).Send(ctx, encode(events))
}

// taken sends events and wants all of them taken.
func taken(t *testing.T, cfg Config, events []*event.Event) {
	t.Helper()
	if rejected, err := send(t, cfg, events); err != nil || len(rejected) > 0 {
		t.Fatalf("rejected %v, error %v", rejected, err)
	}
}

// waits sends an event to a destination that takes nothing, until a person is told, and gives the error.
func waits(t *testing.T, cfg Config) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	told := slog.New(noticing{slog.DiscardHandler, func() { time.AfterFunc(100*time.Millisecond, cancel) }})
	l, err := OpenLogs(cfg.LogsConfig("siem"), Settings{Logger: told})
	if err != nil {
		t.Fatal(err)
	}
	rejected, err := l.Send(ctx, encode(sample.Events()[:1]))
	if err == nil || len(rejected) > 0 {
		t.Fatalf("rejected %v, error %v: want an error and none rejected", rejected, err)
	}
	if err := l.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	return err
}

// noticing calls a function for each message.
type noticing struct {
	slog.Handler
	notice func()
}

func (n noticing) Enabled(context.Context, slog.Level) bool { return true }

func (n noticing) WithAttrs([]slog.Attr) slog.Handler { return n }

func (n noticing) Handle(context.Context, slog.Record) error {
	n.notice()
	return nil
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
	for _, protocol := range append(protocols(), ProtocolJSON) {
		for _, compression := range []string{CompressionGzip, CompressionZstd, CompressionNone} {
			t.Run(protocol+" "+compression, func(t *testing.T) {
				t.Parallel()
				var s server
				cfg := s.start(t, protocol, nil)
				cfg.Compression = compression
				cfg.Headers = Headers{"Authorization": "Bearer s3cret", "x-tenant": "blue"}
				taken(t, cfg, sample.Events())
				checkLogs(t, &s)
				if got := s.headers["authorization"]; len(got) != 1 || got[0] != "Bearer s3cret" {
					t.Errorf("header authorization: %q", got)
				}
				// grpc-go takes the header away from the handler, so only HTTP shows the encoding.
				if want := strings.TrimSuffix(compression, CompressionNone); protocol != ProtocolGRPC && s.encoding != want {
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
				if test.want == "" {
					taken(t, cfg, sample.Events()[:1])
					return
				}
				if err := waits(t, cfg); !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), cfg.Endpoint) {
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
			if _, err := OpenLogs(cfg.LogsConfig("siem"), Settings{Logger: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want an error with %q", protocol, err, want)
			}
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
