// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	receiver "github.com/watchglass/watchglass/collector/agent/otlp"
	"github.com/watchglass/watchglass/collector/agent/peer"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/otlp"
)

// The variables by which a session's processes learn where agents are heard: a URL for OTLP over HTTP, one for gRPC,
// and the path of the unix socket that speaks both.
const (
	otlpEndpointVariable     = "WATCHGLASS_OTLP_ENDPOINT"
	otlpGRPCEndpointVariable = "WATCHGLASS_OTLP_GRPC_ENDPOINT"
	otlpSocketVariable       = "WATCHGLASS_OTLP_SOCKET"
)

// telemetryConfig is where agents send their own telemetry.
type telemetryConfig struct {
	Enabled         bool `yaml:"enabled"`
	receiver.Config `yaml:",inline"`
	Relay           otlp.RelayConfig `yaml:"relay"`
}

// Validate says what is wrong with the section.
func (c *telemetryConfig) Validate() error {
	return errors.Join(c.Config.Validate(), prefixed("relay.", c.Relay.Validate()))
}

// forSession is the receiver of one session of `watchglass run`: at the default ports, which is where agents are set up
// to speak to, or at free ones where another session or a daemon has those; at others than the default ones if they are
// asked for; and with a socket of its own, so that sessions at the same time do not meet.
func (c telemetryConfig) forSession() telemetryConfig {
	base := receiver.DefaultConfig()
	c.HTTP, c.GRPC = unlessTaken(c.HTTP, base.HTTP), unlessTaken(c.GRPC, base.GRPC)
	if c.Socket != "" {
		c.Socket = filepath.Join(sessionDirectory(), filepath.Base(c.Socket))
	}
	return c
}

// unlessTaken is the address, or one with a free port when it is the default one and somebody has it.
func unlessTaken(address, standard string) string {
	if address == "" || address != standard {
		return address
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "127.0.0.1:0"
	}
	_ = listener.Close()
	return address
}

// url is where agents on this machine reach the receiver over HTTP; "" for nowhere.
func (c *telemetryConfig) url() string {
	host, port, err := net.SplitHostPort(c.HTTP)
	if !c.Enabled || err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// openPeers makes what finds out who agents' connections are of.
func (w *watch) openPeers() error {
	var err error
	w.peers, err = peer.New(peer.Settings{Sandbox: w.sandboxOf, Logger: w.log})
	return err
}

// sandboxOf is the cgroup id of the watched sandbox that a process is in, 0 for none.
func (w *watch) sandboxOf(pid uint32) uint64 {
	if s := w.registry.Of(pid); s != nil {
		return s.CgroupID
	}
	return 0
}

// openReceiver makes what hears the agents' telemetry, where it is wanted.
func (w *watch) openReceiver(cfg telemetryConfig) error {
	if !cfg.Enabled {
		return nil
	}
	settings := receiver.Settings{Peers: w.peers, Claim: w.pipeline.Claim, Logger: w.log, Stamp: w.stamp(programResource(""))}
	var err error
	if cfg.Relay.Enabled() {
		w.relay, err = otlp.OpenRelay(cfg.Relay, otlp.Settings{Logger: w.log, Environment: os.LookupEnv})
		if err != nil {
			return fmt.Errorf("claims.otlp.relay: %w", err)
		}
		settings.Relay = relay{w.relay}
	}
	w.receiver, err = receiver.Open(cfg.Config, settings)
	return err
}

// relay is the sending on as the receiver knows it.
type relay struct{ to *otlp.Relay }

// Relay implements receiver.Relay.
func (r relay) Relay(signal receiver.Signal, sandbox uint64, body []byte) {
	r.to.Send(otlp.Relayed{Signal: string(signal), Sandbox: sandbox, Body: body})
}

// stamp is what says where an agent's telemetry is from, on all that is sent on: this machine, and the sandbox.
func (w *watch) stamp(program []event.Attribute) func(sandbox uint64) []event.Attribute {
	var host []event.Attribute
	for _, a := range program {
		if a.Key == event.HostName || a.Key == event.HostID {
			host = append(host, a)
		}
	}
	return func(sandbox uint64) []event.Attribute {
		if s := w.registry.Lookup(sandbox); s != nil {
			return s.AppendAttributes(slices.Clip(host))
		}
		return append(slices.Clip(host), event.Attribute{Key: event.ClaimSender, Value: event.String(string(event.SenderUnattributed))})
	}
}

// receiverStats is the account of what agents sent by OTLP.
func (w *watch) receiverStats() event.ReceiverStats {
	if w.receiver == nil {
		return event.ReceiverStats{}
	}
	stats := w.receiver.Stats()
	if w.relay != nil {
		stats.Relays = w.relay.Stats()
	}
	return stats
}

// withReceiver is an environment that says where agents are heard.
func (w *watch) withReceiver(env []string) []string {
	if w.receiver == nil {
		return env
	}
	for _, at := range []struct{ variable, prefix, endpoint string }{
		{otlpEndpointVariable, "http://", "http"}, {otlpGRPCEndpointVariable, "http://", "grpc"}, {otlpSocketVariable, "", "socket"},
	} {
		if address := w.receiver.Address(at.endpoint); address != "" {
			env = withVariable(env, at.variable, at.prefix+address)
		}
	}
	return env
}
