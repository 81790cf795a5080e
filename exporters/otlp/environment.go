// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// WithEnvironment fills in what c leaves open from the OTEL_EXPORTER_OTLP_ variables of the OpenTelemetry
// specification, the ones for LOGS and METRICS among them. base is the defaults: a field of c that equals
// base's counts as open. What the configuration says wins, so that a file means the same everywhere.
func (c Config) WithEnvironment(base Config, lookup func(string) (string, bool)) (Config, error) {
	e := environment{lookup: lookup}
	e.destination(&c.Destination, base.Destination, "OTEL_EXPORTER_OTLP_")
	e.destination(&c.Logs, base.Logs, "OTEL_EXPORTER_OTLP_LOGS_")
	e.destination(&c.Metrics, base.Metrics, "OTEL_EXPORTER_OTLP_METRICS_")
	// Only this one switches traces on: see Config.Traces.
	e.destination(&c.Traces, base.Traces, "OTEL_EXPORTER_OTLP_TRACES_")
	if interval, ok := e.milliseconds("OTEL_METRIC_EXPORT_INTERVAL"); ok && c.MetricsInterval == base.MetricsInterval {
		c.MetricsInterval = interval
	}
	return c, errors.Join(e.errs...)
}

type environment struct {
	lookup func(string) (string, bool)
	errs   []error
}

// value treats an empty variable as absent, as the specification demands.
func (e *environment) value(name string) (string, bool) {
	value, ok := e.lookup(name)
	value = strings.TrimSpace(value)
	return value, ok && value != ""
}

func (e *environment) fail(name, want string) {
	e.errs = append(e.errs, fmt.Errorf("environment variable %s: must be %s", name, want))
}

func (e *environment) milliseconds(name string) (time.Duration, bool) {
	text, ok := e.value(name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n == 0 {
		e.fail(name, "a positive number of milliseconds")
		return 0, false
	}
	return time.Duration(n) * time.Millisecond, true
}

func (e *environment) destination(d *Destination, base Destination, prefix string) {
	if protocol, ok := e.value(prefix + "PROTOCOL"); ok && d.Protocol == base.Protocol {
		d.Protocol = protocol
		if !validProtocol(protocol) {
			e.fail(prefix+"PROTOCOL", allProtocols)
		}
	}
	if endpoint, ok := e.value(prefix + "ENDPOINT"); ok && d.Endpoint == "" {
		d.Endpoint = e.endpoint(prefix, endpoint)
	}
	if headers, ok := e.value(prefix + "HEADERS"); ok && d.Headers == nil {
		d.Headers = e.headers(prefix+"HEADERS", headers)
	}
	if compression, ok := e.value(prefix + "COMPRESSION"); ok && d.Compression == base.Compression {
		d.Compression = compression
		if !validCompression(compression) {
			e.fail(prefix+"COMPRESSION", compressions)
		}
	}
	if timeout, ok := e.milliseconds(prefix + "TIMEOUT"); ok && d.Timeout == base.Timeout {
		d.Timeout = timeout
	}
	for _, file := range []struct {
		name  string
		field *string
	}{
		{"CERTIFICATE", &d.TLS.CAFile}, {"CLIENT_CERTIFICATE", &d.TLS.CertFile}, {"CLIENT_KEY", &d.TLS.KeyFile},
	} {
		if path, ok := e.value(prefix + file.name); ok && *file.field == "" {
			*file.field = path
		}
	}
}

// endpoint adds the scheme that gRPC's host:port form leaves out, by OTEL_EXPORTER_OTLP_INSECURE.
func (e *environment) endpoint(prefix, endpoint string) string {
	if strings.Contains(endpoint, "://") {
		return endpoint
	}
	insecure, ok := e.value(prefix + "INSECURE")
	if !ok {
		insecure, _ = e.value("OTEL_EXPORTER_OTLP_INSECURE")
	}
	if strings.EqualFold(insecure, "true") {
		return "http://" + endpoint
	}
	return "https://" + endpoint
}

// headers parses name=value,name=value with percent-encoded values. Messages never show a value.
func (e *environment) headers(variable, text string) Headers {
	headers := Headers{}
	for pair := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		decoded, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !ok || err != nil || name == "" {
			e.fail(variable, "name=value pairs, separated by commas, with percent-encoded values")
			continue
		}
		headers[name] = decoded
	}
	return headers
}
