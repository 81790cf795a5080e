// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"nothing":      {func(*Config) {}, ""},
		"good":         {func(c *Config) { c.Endpoint = "https://collector.example:4317" }, ""},
		"zstd":         {func(c *Config) { c.Endpoint, c.Compression = "https://collector", "zstd" }, ""},
		"no scheme":    {func(c *Config) { c.Endpoint = "collector:4317" }, "must be a URL"},
		"no host":      {func(c *Config) { c.Endpoint = "https://" }, "must be a URL"},
		"not a URL":    {func(c *Config) { c.Endpoint = "http://u:s3cret@[::1" }, "must be a URL"},
		"password":     {func(c *Config) { c.Endpoint = "https://user:s3cret@collector" }, "must not hold a password"},
		"grpc path":    {func(c *Config) { c.Endpoint = "https://collector/v1/logs" }, "gRPC has no path"},
		"protocol":     {func(c *Config) { c.Endpoint, c.Protocol = "https://collector", "http/xml" }, "protocol: must be"},
		"json":         {func(c *Config) { c.Logs.Endpoint, c.Logs.Protocol = "https://collector", "http/json" }, ""},
		"json metrics": {func(c *Config) { c.Endpoint, c.Protocol = "https://collector", "http/json" }, "metrics.protocol: must be"},
		"compression":  {func(c *Config) { c.Endpoint, c.Compression = "https://collector", "zip" }, "compression: must be"},
		"timeout":      {func(c *Config) { c.Endpoint, c.Timeout = "https://collector", -1 }, "timeout: must be positive"},
		"half a pair":  {func(c *Config) { c.Endpoint, c.TLS.KeyFile = "https://collector", "k" }, "belong together"},
		"header":       {func(c *Config) { c.Endpoint, c.Headers = "https://collector", Headers{"a": "s3cret\r\n"} }, `headers: "a"`},
		"header name":  {func(c *Config) { c.Endpoint, c.Headers = "https://collector", Headers{"a b": "s3cret"} }, `headers: "a b"`},
		"interval":     {func(c *Config) { c.Metrics.Endpoint, c.MetricsInterval = "https://collector", 1 }, "metrics_interval"},
		"retry":        {func(c *Config) { c.Endpoint, c.Retry.Initial = "https://collector", 0 }, "retry"},
		"profile":      {func(c *Config) { c.Endpoint, c.Profile = "https://collector", "leef" }, `profile: "leef" is none of`},
		"start":        {func(c *Config) { c.Endpoint, c.Start = "https://collector", "then" }, `start: "then" is neither now nor oldest`},
		"filter":       {func(c *Config) { c.Endpoint, c.Filter.Kinds = "https://collector", []string{"x"} }, `filter.kinds[0]: "x" is no event`},
		"severity":     {func(c *Config) { c.Endpoint, c.Filter.MinSeverity = "https://collector", "x" }, `filter.min_severity: "x"`},
		"signal alone": {func(c *Config) { c.Logs = Destination{Endpoint: "ftp://x"} }, "logs.endpoint: ftp://x must be a URL"},
	} {
		cfg := DefaultConfig()
		test.change(&cfg)
		err := cfg.Validate()
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got %v, want an error with %q", name, err, test.want)
		case err != nil && strings.Contains(err.Error(), "s3cret"):
			t.Errorf("%s: the error shows a secret: %v", name, err)
		}
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	base := DefaultConfig()
	with := func(change func(*Config)) Config {
		cfg := DefaultConfig()
		change(&cfg)
		return cfg
	}
	for name, test := range map[string]struct {
		cfg  Config
		env  map[string]string
		want Config
	}{
		"empty": {base, nil, base},
		"all": {base, map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/otlp/", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
			"OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20b, x=y=z,", "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
			"OTEL_EXPORTER_OTLP_TIMEOUT": "2500", "OTEL_EXPORTER_OTLP_CERTIFICATE": "ca",
			"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "cert", "OTEL_EXPORTER_OTLP_CLIENT_KEY": "key",
			"OTEL_METRIC_EXPORT_INTERVAL": "15000", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://l:1/x",
			"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc",
		}, with(func(c *Config) {
			c.Destination = Destination{
				Endpoint: "http://c:4318/otlp/", Protocol: ProtocolHTTP, Headers: Headers{"api-key": "a b", "x": "y=z"},
				Compression: CompressionNone, Timeout: 2500 * time.Millisecond,
				TLS: TLS{CAFile: "ca", CertFile: "cert", KeyFile: "key"},
			}
			c.MetricsInterval, c.Logs.Endpoint, c.Metrics.Protocol = 15*time.Second, "http://l:1/x", ProtocolGRPC
		})},
		"the file wins": {with(func(c *Config) { c.Endpoint, c.Timeout = "http://file:1", time.Second }), map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": "http://env:1", "OTEL_EXPORTER_OTLP_TIMEOUT": "9",
		}, with(func(c *Config) { c.Endpoint, c.Timeout = "http://file:1", time.Second })},
		"no scheme":       {base, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "c:4317"}, with(func(c *Config) { c.Endpoint = "https://c:4317" })},
		"insecure":        {base, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "c:4317", "OTEL_EXPORTER_OTLP_INSECURE": "TRUE"}, with(func(c *Config) { c.Endpoint = "http://c:4317" })},
		"empty is absent": {base, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, base},
	} {
		got, err := test.cfg.WithEnvironment(base, func(name string) (string, bool) { v, ok := test.env[name]; return v, ok })
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	for variable, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_PROTOCOL": "http/xml", "OTEL_EXPORTER_OTLP_TIMEOUT": "10s",
		"OTEL_EXPORTER_OTLP_HEADERS": "s3cret", "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "a=%zzs3cret",
		"OTEL_EXPORTER_OTLP_COMPRESSION": "zip",
	} {
		_, err := base.WithEnvironment(base, func(name string) (string, bool) { return value, name == variable })
		if err == nil || !strings.Contains(err.Error(), variable) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s=%s: got %v, want an error that names the variable and no secret", variable, value, err)
		}
	}
}

func TestSignalEndpoints(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Endpoint, cfg.Protocol = "http://c:4318/otlp/", ProtocolHTTP
	cfg.Metrics.Endpoint = "http://m:1/own"
	if got := cfg.logs().Endpoint; got != "http://c:4318/otlp/v1/logs" {
		t.Errorf("logs go to %s", got)
	}
	if got := cfg.metrics().Endpoint; got != "http://m:1/own" {
		t.Errorf("metrics go to %s", got)
	}
	cfg.Logs.Protocol = ProtocolGRPC
	if got := cfg.logs().Endpoint; got != cfg.Endpoint {
		t.Errorf("logs over gRPC go to %s", got)
	}
}

// TestSecrets: however a configuration is printed, header values do not show.
func TestSecrets(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Headers = Headers{"authorization": "s3cret"}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "headers", cfg.Headers, "config", cfg)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "headers", cfg.Headers, "config", cfg)
	text, err := yaml.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	all := log.String() + string(text) + fmt.Sprintf("%v %+v %#v %s", cfg, cfg, cfg, cfg.Headers)
	if strings.Contains(all, "s3cret") {
		t.Errorf("a secret shows: %s", all)
	}
	var back Config
	if err := yaml.Unmarshal([]byte("endpoint: https://c\nheaders: {authorization: s3cret}\nlogs: {timeout: 3s}\n"), &back); err != nil {
		t.Fatal(err)
	}
	if back.Headers["authorization"] != "s3cret" || back.Endpoint != "https://c" || back.Logs.Timeout != 3*time.Second {
		t.Errorf("read back %+v", back)
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("1")
	f.Add("Fri, 31 Dec 1999 23:59:59 GMT")
	f.Add("-9223372036854775808")
	f.Fuzz(func(t *testing.T, value string) {
		if got := retryAfter(value, time.Unix(0, 0)); got < 0 || got > maxRetryAfter {
			t.Errorf("%q: %v", value, got)
		}
	})
}
