// SPDX-License-Identifier: Apache-2.0

// Package otlp receives what agents tell by OTLP: logs, traces and metrics, over HTTP and gRPC, on TCP and on a
// unix socket.
//
// It owns the listeners, the limits, and the protocol's answers. It must not look into what is said (package agent
// does), nor take anybody's word for who says it (package peer asks the kernel). All that comes in is hostile: it
// is bounded before it is decoded, and one sandbox's flood must not delay another's.
package otlp

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/collector/agent/peer"
	"github.com/watchglass/watchglass/collector/unixsocket"
	"github.com/watchglass/watchglass/event"
)

// Config is where agents are heard, and how much of them.
type Config struct {
	// HTTP and GRPC are addresses, "host:port"; "" for none.
	HTTP string `yaml:"http"`
	GRPC string `yaml:"grpc"`
	// Socket is the path of a unix socket that speaks both; "" for none. Mode is its permissions in octal.
	Socket string `yaml:"socket"`
	Mode   string `yaml:"mode"`
	// MaxBodyBytes bounds one request, as it comes and unpacked.
	MaxBodyBytes int `yaml:"max_body_bytes"`
	// MaxAttributes is how many attributes a record may have. One with more is refused, its request's others are not.
	MaxAttributes int `yaml:"max_attributes"`
	// BytesPerSecond is how much each sandbox may send, BurstBytes how much at once. Records and
	// statements count for more than their bytes.
	BytesPerSecond int `yaml:"bytes_per_second"`
	BurstBytes     int `yaml:"burst_bytes"`
	// SandboxRequests and SandboxConnections are how many of each sandbox are served at once, Requests and
	// Connections how many in all.
	SandboxRequests    int `yaml:"sandbox_requests"`
	SandboxConnections int `yaml:"sandbox_connections"`
	Requests           int `yaml:"requests"`
	Connections        int `yaml:"connections"`
	// Content says which contents are told on.
	Content agent.Content `yaml:"content"`
}

// Validate says what is wrong with the settings; each error begins with the setting's name.
func (c *Config) Validate() error {
	var errs []error
	for _, a := range []struct{ name, address string }{{"http", c.HTTP}, {"grpc", c.GRPC}} {
		if a.address == "" {
			continue
		}
		if _, port, err := net.SplitHostPort(a.address); err != nil {
			errs = append(errs, fmt.Errorf("%s: %q is no address such as 127.0.0.1:4318", a.name, a.address))
		} else if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			errs = append(errs, fmt.Errorf("%s: %q is no port", a.name, port))
		}
	}
	if c.Socket != "" {
		if err := unixsocket.Check(c.Socket); err != nil {
			errs = append(errs, fmt.Errorf("socket: %w", err))
		}
	}
	if _, err := c.mode(); err != nil {
		errs = append(errs, err)
	}
	for _, n := range []struct {
		name        string
		value       int
		least, most int
	}{
		{"max_body_bytes", c.MaxBodyBytes, 64 << 10, 256 << 20},
		{"max_attributes", c.MaxAttributes, 16, 1 << 20},
		{"bytes_per_second", c.BytesPerSecond, 1 << 10, 1 << 30},
		{"burst_bytes", c.BurstBytes, 1 << 10, 1 << 30},
		{"sandbox_requests", c.SandboxRequests, 1, 1 << 10},
		{"sandbox_connections", c.SandboxConnections, 1, 1 << 14},
		{"requests", c.Requests, c.SandboxRequests, 1 << 14},
		{"connections", c.Connections, c.SandboxConnections, 1 << 16},
	} {
		if n.value < n.least || n.value > n.most {
			errs = append(errs, fmt.Errorf("%s: %d is not between %d and %d", n.name, n.value, n.least, n.most))
		}
	}
	return errors.Join(errs...)
}

// DefaultConfig is what an empty configuration file means.
func DefaultConfig() Config {
	return Config{
		HTTP: "127.0.0.1:4318", GRPC: "127.0.0.1:4317", Socket: "/run/watchglass/agent/otlp.sock", Mode: "0666",
		MaxBodyBytes: 8 << 20, MaxAttributes: 1024, BytesPerSecond: 4 << 20, BurstBytes: 32 << 20,
		SandboxRequests: 4, SandboxConnections: 64, Requests: 64, Connections: 1024,
	}
}

func (c *Config) mode() (os.FileMode, error) {
	mode, err := strconv.ParseUint(c.Mode, 8, 9)
	if err != nil {
		return 0, fmt.Errorf("mode: %q is no permissions in octal, such as 0666", c.Mode)
	}
	return os.FileMode(mode), nil
}

// Signal is what a request is about.
type Signal string

// The signals.
const (
	Logs    Signal = "logs"
	Traces  Signal = "traces"
	Metrics Signal = "metrics"
)

// Relay sends agents' telemetry on. It is called from several goroutines and must not block.
type Relay interface {
	// Relay takes a request of a sandbox, 0 for an unknown one, as protobuf. It may keep body.
	Relay(signal Signal, sandbox uint64, body []byte)
}

// Settings is what a Receiver is given besides its Config. All but Relay and Stamp must be set.
type Settings struct {
	Peers *peer.Finder
	// Claim takes the statements. It is called from several goroutines and must not block for long.
	Claim  func(*agent.Statement)
	Logger *slog.Logger
	// Relay gets all requests, with Stamp's attributes on each resource; nil for no relay.
	Relay Relay
	// Stamp is the resource attributes that say where a request is from: of a sandbox, by its cgroup's id, 0 when it
	// is not known.
	Stamp func(sandbox uint64) []event.Attribute
}

func (s *Settings) validate() error {
	if s.Peers == nil || s.Claim == nil || s.Logger == nil {
		return errors.New("otlp receiver: no peers, claim or logger")
	}
	return nil
}

// What is fixed: how deep a request may be nested, how many elements of all kinds it may have, and how long its
// parts may take.
const (
	// maxDepth is of messages in messages. A record is nine deep; the rest is for values in values.
	maxDepth    = 64
	maxElements = 1 << 19
	// maxRecords is of log records, spans or metrics in a request: ten times what agents send.
	maxRecords = 1 << 14
	// recordCost is what a record counts for beside its bytes.
	recordCost = 256
	// statementCost is what a statement does: it becomes an event that everybody sees.
	statementCost = 4 << 10
	// requestCost is what a request does.
	requestCost = 512

	headerTimeout = 10 * time.Second
	readTimeout   = 30 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 5 * time.Minute
	stopTimeout   = 2 * time.Second
	bindRetry     = 10 * time.Second
	maxHeader     = 16 << 10
)
