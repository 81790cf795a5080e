// SPDX-License-Identifier: Apache-2.0

package main

import (
	"path/filepath"

	receiver "github.com/watchglass/watchglass/collector/agent/otlp"
	"github.com/watchglass/watchglass/collector/agent/peer"
	"github.com/watchglass/watchglass/event"
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
}

// forSession is the receiver of one session of `watchglass run`: at free ports, unless others than the default ones
// are asked for, and with a socket of its own, so that sessions at the same time do not meet.
func (c telemetryConfig) forSession() telemetryConfig {
	const free = "127.0.0.1:0"
	base := receiver.DefaultConfig()
	if c.HTTP == base.HTTP {
		c.HTTP = free
	}
	if c.GRPC == base.GRPC {
		c.GRPC = free
	}
	if c.Socket != "" {
		c.Socket = filepath.Join(sessionDirectory(), filepath.Base(c.Socket))
	}
	return c
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
	var err error
	w.receiver, err = receiver.Open(cfg.Config, receiver.Settings{Peers: w.peers, Claim: w.pipeline.Claim, Logger: w.log})
	return err
}

// receiverStats is the account of what agents sent by OTLP.
func (w *watch) receiverStats() event.ReceiverStats {
	if w.receiver == nil {
		return event.ReceiverStats{}
	}
	return w.receiver.Stats()
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
