// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/collector/unixsocket"
)

// Receiver hears agents: Open, then Run, once, then Close.
type Receiver struct {
	cfg        Config
	settings   Settings
	translator *agent.Translator
	admission  *admission
	stats      stats
	endpoints  []*endpoint
	http       *http.Server
	grpc       *grpc.Server
}

// endpoint is one address at which agents are heard.
type endpoint struct {
	name, network, address string
	mode                   os.FileMode
	// listener is nil while there is none.
	listener atomic.Pointer[net.Listener]
}

// Open makes the listeners. An address that cannot be had is logged, and tried again while Run runs: a process in
// a sandbox could take it first, and must not keep anything else from being watched by that.
func Open(cfg Config, s Settings) (*Receiver, error) {
	if err := errors.Join(cfg.Validate(), s.validate()); err != nil {
		return nil, err
	}
	r := &Receiver{
		cfg: cfg, settings: s, admission: newAdmission(&cfg, max(2, runtime.GOMAXPROCS(0))),
		translator: agent.NewTranslator(agent.TranslatorConfig{Content: cfg.Content, MaxAttributes: cfg.MaxAttributes}),
	}
	r.http, r.grpc = r.newHTTP(), r.newGRPC()
	mode, err := cfg.mode()
	if err != nil {
		return nil, err
	}
	for _, e := range []*endpoint{
		{name: "http", network: "tcp", address: cfg.HTTP},
		{name: "grpc", network: "tcp", address: cfg.GRPC},
		{name: "socket", network: "unix", address: cfg.Socket, mode: mode},
	} {
		if e.address == "" {
			continue
		}
		r.endpoints = append(r.endpoints, e)
		if err := e.listen(); err != nil {
			s.Logger.Error("agents are not heard at this address; it is tried again", "address", e.address, "error", err)
		}
	}
	r.watchPorts()
	return r, nil
}

// listen takes the address.
func (e *endpoint) listen() error {
	var l net.Listener
	var err error
	if e.network == "unix" {
		l, err = unixsocket.Listen(e.address, e.mode)
	} else if l, err = net.Listen(e.network, e.address); err != nil {
		err = fmt.Errorf("listen: %w", err)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: another program, maybe an OpenTelemetry Collector, listens there: "+
			"stop it or set another address in claims.otlp.%s", err, e.name)
	}
	if err != nil {
		return err
	}
	e.listener.Store(&l)
	return nil
}

// watchPorts says which connects the finder of peers is to remember.
func (r *Receiver) watchPorts() {
	var ports []uint16
	for _, e := range r.endpoints {
		if l := e.listener.Load(); l != nil {
			if a, err := netip.ParseAddrPort((*l).Addr().String()); err == nil {
				ports = append(ports, a.Port())
			}
		}
	}
	r.settings.Peers.Watch(ports...)
}

// Address is where "http", "grpc" or "socket" is heard: with the port that was found when 0 was asked for; "" for
// nowhere.
func (r *Receiver) Address(name string) string {
	for _, e := range r.endpoints {
		if l := e.listener.Load(); e.name == name && l != nil {
			return (*l).Addr().String()
		}
	}
	return ""
}

// Run serves until ctx ends; what is being served then is given a moment.
func (r *Receiver) Run(ctx context.Context) error {
	var serving sync.WaitGroup
	for _, e := range r.endpoints {
		serving.Go(func() { r.serve(ctx, e) })
	}
	<-ctx.Done()
	r.stop()
	serving.Wait()
	return nil
}

// serve serves one endpoint, once its address can be had.
func (r *Receiver) serve(ctx context.Context, e *endpoint) {
	for e.listener.Load() == nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(bindRetry):
		}
		if e.listen() == nil {
			r.watchPorts()
			r.settings.Logger.Info("agents are heard at this address now", "address", e.address)
		}
	}
	l := *e.listener.Load()
	r.settings.Logger.Info("hearing agents", "protocol", e.name, "address", l.Addr().String())
	heard := &listener{Listener: l, receiver: r}
	var err error
	switch e.name {
	case "http":
		err = r.http.Serve(heard)
	case "grpc":
		err = r.grpc.Serve(heard)
	default:
		err = r.serveBoth(heard)
	}
	if err != nil && ctx.Err() == nil {
		r.settings.Logger.Error("agents are no longer heard at this address", "address", e.address, "error", err)
	}
}

// stop ends the servers, and gives what they are at a moment.
func (r *Receiver) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		r.grpc.GracefulStop()
		close(stopped)
	}()
	if r.http.Shutdown(ctx) != nil {
		_ = r.http.Close()
	}
	select {
	case <-stopped:
	case <-ctx.Done():
		r.grpc.Stop()
		<-stopped
	}
	_ = r.Close() // a listener that no server has taken yet
}

// Close gives the addresses back. Run does so itself.
func (r *Receiver) Close() error {
	for _, e := range r.endpoints {
		if l := e.listener.Load(); l != nil {
			_ = (*l).Close()
		}
	}
	return nil
}

// take takes one request: how many of its records were refused, or why it was as a whole.
func (r *Receiver) take(ctx context.Context, from agent.Origin, q request) (refused uint64, failed *refusal) {
	r.admission.charge(from.Sandbox, len(q.body), time.Now())
	if err := r.admission.slot(ctx, from.Sandbox); err != nil {
		return 0, cancelled()
	}
	defer r.admission.release()
	defer func() {
		if cause := recover(); cause != nil {
			r.settings.Logger.Error("the receiver failed on a request", "cause", cause, "stack", string(debug.Stack()))
			failed = internal()
		}
	}()
	batch, err := q.decode()
	if err != nil {
		return 0, err
	}
	records := batch.records()
	r.admission.charge(from.Sandbox, records*recordCost, time.Now())
	if records > maxRecords {
		return 0, tooLarge("more than " + strconv.Itoa(maxRecords) + " records")
	}
	said, account := batch.translate(r.translator, from, time.Now())
	r.admission.charge(from.Sandbox, len(said)*statementCost, time.Now())
	for _, s := range said {
		r.settings.Claim(s)
	}
	r.stats.heard(q.signal, account, from)
	r.relay(q.signal, batch, from)
	return account.Refused(), nil
}

// relay sends a request on, stamped with where it is from.
func (r *Receiver) relay(signal Signal, b batch, from agent.Origin) {
	if r.settings.Relay == nil {
		return
	}
	body, err := b.stamped(r.settings.Stamp(from.Sandbox))
	if err != nil {
		r.settings.Logger.Warn("a request cannot be relayed", "signal", string(signal), "error", err)
		return
	}
	r.settings.Relay.Relay(signal, from.Sandbox, body)
}

// logRefusal says on the log that somebody is refused, when asked to say everything.
func (r *Receiver) logRefusal(signal Signal, from agent.Origin, why *refusal) {
	r.settings.Logger.Debug("a request of an agent is refused", "signal", string(signal), "reason", why.reason,
		"message", why.message, "cgroup", from.Sandbox, "pid", from.PID)
}
