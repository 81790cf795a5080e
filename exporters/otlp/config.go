// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/watchglass/watchglass/exporters/profile"
)

// The values of Destination.Protocol and Destination.Compression, as the OpenTelemetry specification names them.
const (
	ProtocolGRPC = "grpc"
	ProtocolHTTP = "http/protobuf"
	// ProtocolJSON is for logs alone: for receivers that take nothing else.
	ProtocolJSON = "http/json"

	CompressionGzip = "gzip"
	CompressionZstd = "zstd"
	CompressionNone = "none"
)

// Config says where logs and metrics go. The fields of the embedded Destination count for both; those of
// Logs and Metrics, where they are set, count for their signal alone.
type Config struct {
	Destination `yaml:",inline"`
	// Logs and Metrics override. Their Endpoint is used as it is; the common one of HTTP gets /v1/logs
	// and /v1/metrics added, as the specification says.
	Logs    Destination `yaml:"logs"`
	Metrics Destination `yaml:"metrics"`
	// Traces is where traces go, one for each turn of a session. It overrides too; but without an endpoint of its own,
	// none are sent.
	Traces Destination `yaml:"traces"`
	// Profile, Filter and Start are of events alone, as in LogsConfig.
	Profile string `yaml:"profile"`
	Filter  Filter `yaml:"filter"`
	Start   string `yaml:"start"`
	// MetricsInterval is the time between two pushes of the metrics.
	MetricsInterval time.Duration `yaml:"metrics_interval"`
	// Retry is how often and how long a request is tried again.
	Retry Retry `yaml:"retry"`
}

// Destination is one OTLP endpoint. A zero field means "not set".
type Destination struct {
	// Endpoint is a URL: http://host:port, or https:// for TLS. Nothing is sent without one.
	Endpoint string `yaml:"endpoint"`
	// Protocol is grpc (the default), http/protobuf, or for events http/json.
	Protocol string `yaml:"protocol"`
	// Headers go with every request: credentials, tenants. They are never logged.
	Headers Headers `yaml:"headers"`
	// HeadersFile is a file of more of them, "Name: value" a line, that win. It is read again when it changes.
	HeadersFile string `yaml:"headers_file"`
	// Compression is gzip (the default), zstd or none.
	Compression string `yaml:"compression"`
	// Timeout is how long one request may take.
	Timeout time.Duration `yaml:"timeout"`
	TLS     TLS           `yaml:"tls"`
}

// TLS names PEM files. They are read anew for each connection, so that renewed ones are taken up.
type TLS struct {
	// CAFile is who signs the server's certificate, instead of the system's authorities.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile are the client's own certificate, for servers that ask for one.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

// Retry is the pauses between the attempts for one request.
type Retry struct {
	// Initial is the longest first pause; it doubles, with jitter, up to Max. A server that says when to come back is obeyed.
	Initial time.Duration `yaml:"initial"`
	Max     time.Duration `yaml:"max"`
	// Elapsed is when to give metrics up, counted from the first attempt: the next ones carry the same counters,
	// grown. Events are not given up.
	Elapsed time.Duration `yaml:"elapsed"`
}

// validate says what is wrong with the pauses.
func (r Retry) validate() error {
	if r.Initial <= 0 || r.Max < r.Initial || r.Elapsed < 0 {
		return fmt.Errorf("retry: initial (%v) must be positive and at most max (%v), elapsed (%v) not negative",
			r.Initial, r.Max, r.Elapsed)
	}
	return nil
}

// DefaultConfig sends nothing, for lack of an endpoint; all else is the specification's defaults.
func DefaultConfig() Config {
	return Config{
		Destination:     Destination{Protocol: ProtocolGRPC, Compression: CompressionGzip, Timeout: 10 * time.Second},
		Profile:         profile.OTel,
		Start:           StartNow,
		MetricsInterval: time.Minute,
		Retry:           Retry{Initial: time.Second, Max: 15 * time.Second, Elapsed: time.Minute},
	}
}

// LogsEnabled and MetricsEnabled say whether the signal has an endpoint.
func (c Config) LogsEnabled() bool { return c.Endpoint != "" || c.Logs.Endpoint != "" }

// MetricsEnabled says whether metrics have an endpoint.
func (c Config) MetricsEnabled() bool { return c.Endpoint != "" || c.Metrics.Endpoint != "" }

// TracesEnabled says whether traces have an endpoint. Only their own counts: the common one may be of a server that
// takes none.
func (c Config) TracesEnabled() bool { return c.Traces.Endpoint != "" }

// Validate says everything that is wrong with the configuration, or nil.
func (c Config) Validate() error {
	var errs []error
	if c.LogsEnabled() {
		errs = append(errs, c.logs().validate("logs."), validateChoice(c.Profile, c.Filter, c.Start))
	}
	if c.MetricsEnabled() {
		errs = append(errs, c.metrics().validate("metrics."))
		if c.metrics().Protocol == ProtocolJSON {
			errs = append(errs, fmt.Errorf("metrics.protocol: must be %s or %s: %s is for events alone", ProtocolGRPC, ProtocolHTTP, ProtocolJSON))
		}
		if c.MetricsInterval < time.Second {
			errs = append(errs, fmt.Errorf("metrics_interval: must be at least 1s, not %v", c.MetricsInterval))
		}
	}
	if c.TracesEnabled() {
		errs = append(errs, c.traces().validate("traces."))
		if c.traces().Protocol == ProtocolJSON {
			errs = append(errs, fmt.Errorf("traces.protocol: must be %s or %s: %s is for events alone", ProtocolGRPC, ProtocolHTTP, ProtocolJSON))
		}
	}
	if c.LogsEnabled() || c.MetricsEnabled() || c.TracesEnabled() {
		errs = append(errs, c.Retry.validate())
	}
	return errors.Join(errs...)
}

// logs and metrics are the destinations as they apply to the signal.
func (c Config) logs() Destination { return c.merge(c.Logs, "/v1/logs") }

func (c Config) metrics() Destination { return c.merge(c.Metrics, "/v1/metrics") }

func (c Config) traces() Destination { return c.merge(c.Traces, "/v1/traces") }

func (c Config) merge(own Destination, path string) Destination {
	d := own
	if d.Protocol == "" {
		d.Protocol = c.Protocol
	}
	if d.Endpoint == "" {
		d.Endpoint = c.Endpoint
		if d.Protocol != ProtocolGRPC && d.Endpoint != "" {
			d.Endpoint = strings.TrimSuffix(d.Endpoint, "/") + path
		}
	}
	if d.Headers == nil {
		d.Headers = c.Headers
	}
	if d.HeadersFile == "" {
		d.HeadersFile = c.HeadersFile
	}
	if d.Compression == "" {
		d.Compression = c.Compression
	}
	if d.Timeout == 0 {
		d.Timeout = c.Timeout
	}
	if d.TLS == (TLS{}) {
		d.TLS = c.TLS
	}
	return d
}

func (d Destination) validate(prefix string) error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(prefix+format, args...)) }
	u, err := url.Parse(d.Endpoint)
	switch {
	case err != nil:
		add("endpoint: must be a URL such as https://collector.example:4317") // the error would show the URL, and its password
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		add("endpoint: %s must be a URL such as https://collector.example:4317", u.Redacted())
	case u.User != nil:
		add("endpoint: %s must not hold a password; use headers", u.Redacted())
	case d.Protocol == ProtocolGRPC && strings.Trim(u.Path, "/") != "":
		add("endpoint: %s: gRPC has no path; did you mean protocol %s?", u.Redacted(), ProtocolHTTP)
	}
	if !validProtocol(d.Protocol) {
		add("protocol: must be %s, not %q", allProtocols, d.Protocol)
	}
	if !validCompression(d.Compression) {
		add("compression: must be %s, not %q", compressions, d.Compression)
	}
	if d.Timeout <= 0 {
		add("timeout: must be positive, not %v", d.Timeout)
	}
	if (d.TLS.CertFile == "") != (d.TLS.KeyFile == "") {
		add("tls: cert_file and key_file belong together")
	}
	for _, name := range slices.Sorted(maps.Keys(d.Headers)) {
		if !validHeader(name, d.Headers[name]) {
			add("headers: %q or its value has characters that a header cannot have", name)
		}
	}
	return errors.Join(errs...)
}

// allProtocols is what a message says there is.
const allProtocols = ProtocolGRPC + ", " + ProtocolHTTP + " or " + ProtocolJSON

func validProtocol(name string) bool {
	return name == ProtocolGRPC || name == ProtocolHTTP || name == ProtocolJSON
}

// compressions is what a message says there is.
const compressions = CompressionGzip + ", " + CompressionZstd + " or " + CompressionNone

func validCompression(name string) bool {
	return name == CompressionGzip || name == CompressionZstd || name == CompressionNone
}

// validHeader is what HTTP allows, without the names that HTTP/2 and gRPC keep for themselves.
func validHeader(name, value string) bool {
	const token = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	if name == "" || strings.Trim(name, token) != "" || strings.HasPrefix(strings.ToLower(name), "grpc-") {
		return false
	}
	for i := 0; i < len(value); i++ {
		if c := value[i]; c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// address is host:port, with the specification's port for the protocol where the URL has none.
func (d Destination) address() (host, address string, secure bool, err error) {
	u, err := url.Parse(d.Endpoint)
	if err != nil {
		return "", "", false, errors.New("the endpoint is not a URL")
	}
	port := u.Port()
	if port == "" {
		port = "4317"
	}
	return u.Hostname(), net.JoinHostPort(u.Hostname(), port), u.Scheme == "https", nil
}

// name is the endpoint as messages may show it.
func (d Destination) name() string {
	u, err := url.Parse(d.Endpoint)
	if err != nil {
		return "the OTLP endpoint"
	}
	u.RawQuery = "" // queries hold keys at some vendors
	return u.Redacted()
}
