// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	coltraces "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/watchglass/watchglass/event"
)

// RelayConfig says where the telemetry of agents is sent on.
type RelayConfig struct {
	// The Endpoint of HTTP gets /v1/logs, /v1/traces and /v1/metrics added.
	Destination `yaml:",inline"`
	Retry       Retry `yaml:"retry"`
	// QueueBytes is how much of each signal may wait.
	QueueBytes int `yaml:"queue_bytes"`
}

// Enabled says whether anything is sent on.
func (c RelayConfig) Enabled() bool { return c.Endpoint != "" }

// Validate says everything that is wrong with the configuration, or nil.
func (c RelayConfig) Validate() error {
	if !c.Enabled() {
		return nil
	}
	errs := []error{c.validate(""), c.Retry.validate()}
	const least, most = 1 << 20, 1 << 32
	if c.QueueBytes < least || c.QueueBytes > most {
		errs = append(errs, fmt.Errorf("queue_bytes: %d is not between %d and %d", c.QueueBytes, least, most))
	}
	return errors.Join(errs...)
}

// Relayed is one request of an agent, to be sent on.
type Relayed struct {
	// Signal is logs, traces or metrics.
	Signal string
	// Sandbox is whose it is, 0 when nobody knows. Each has a part of the queue of its own.
	Sandbox uint64
	// Body is the request as protobuf.
	Body []byte
}

// Relay sends the telemetry of agents on as it is: Open, then Run, once. What does not fit into its queue, or
// cannot be delivered in time, is counted.
type Relay struct {
	lanes    []*lane
	settings Settings
}

// relayTimeout bounds what is tried for what still waits at the end.
const relayTimeout = 5 * time.Second

// relaySignal is what differs between the signals.
type relaySignal struct {
	signal
	path string
	// refused is how many items a response refuses, and why.
	refused func(response []byte) (int64, string)
}

func relaySignals() []relaySignal {
	return []relaySignal{
		{signal{"logs", collogs.LogsService_Export_FullMethodName}, "/v1/logs", func(b []byte) (int64, string) {
			var r collogs.ExportLogsServiceResponse
			_ = proto.Unmarshal(b, &r) // the transport found it to be OTLP, or it says nothing
			return r.GetPartialSuccess().GetRejectedLogRecords(), r.GetPartialSuccess().GetErrorMessage()
		}},
		{signal{"traces", coltraces.TraceService_Export_FullMethodName}, "/v1/traces", func(b []byte) (int64, string) {
			var r coltraces.ExportTraceServiceResponse
			_ = proto.Unmarshal(b, &r)
			return r.GetPartialSuccess().GetRejectedSpans(), r.GetPartialSuccess().GetErrorMessage()
		}},
		{signal{"metrics", colmetrics.MetricsService_Export_FullMethodName}, "/v1/metrics", func(b []byte) (int64, string) {
			var r colmetrics.ExportMetricsServiceResponse
			_ = proto.Unmarshal(b, &r)
			return r.GetPartialSuccess().GetRejectedDataPoints(), r.GetPartialSuccess().GetErrorMessage()
		}},
	}
}

// OpenRelay prepares to send. It does not connect.
func OpenRelay(cfg RelayConfig, s Settings) (*Relay, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Relay{settings: s}
	for _, signal := range relaySignals() {
		dest := Config{Destination: cfg.Destination}.merge(Destination{}, signal.path)
		sender, err := newSender(signal.signal, dest, &Config{Retry: cfg.Retry}, &s)
		if err != nil {
			return nil, errors.Join(err, r.close())
		}
		r.lanes = append(r.lanes, &lane{
			relaySignal: signal, sender: sender, limit: cfg.QueueBytes, by: map[uint64]*waiting{}, more: make(chan struct{}, 1),
		})
	}
	return r, nil
}

// Send takes a request. It returns at once, and may be called from any goroutine.
func (r *Relay) Send(q Relayed) {
	for _, l := range r.lanes {
		if l.name == q.Signal {
			l.put(q)
		}
	}
}

// Run delivers until ctx ends, and then what waits still, for a moment.
func (r *Relay) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, l := range r.lanes {
		running.Go(func() { r.run(ctx, l) })
	}
	running.Wait()
	return r.close()
}

func (r *Relay) run(ctx context.Context, l *lane) {
	// What is being sent at the end is given the same moment as what waits.
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(relayTimeout, cancel) })()
	for {
		select {
		case <-l.more:
			r.deliver(sending, l)
		case <-ctx.Done():
			r.deliver(sending, l)
			l.abandon()
			return
		}
	}
}

// deliver sends what waits.
func (r *Relay) deliver(ctx context.Context, l *lane) {
	for ctx.Err() == nil {
		body, ok := l.take()
		if !ok {
			return
		}
		response, err := l.sender.exchange(ctx, body)
		l.done(err == nil)
		switch refused, why := l.refused(response); {
		case err != nil:
			r.complain(l, "an agent's telemetry cannot be sent on", err)
		case refused > 0:
			r.complain(l, "an agent's telemetry is refused in part", fmt.Errorf("%d items: %s", refused, printable(why)))
		}
	}
}

// complainInterval is how often the log says that something is wrong with a signal. The metrics count it all.
const complainInterval = time.Minute

func (r *Relay) complain(l *lane, what string, err error) {
	if now := time.Now(); now.Sub(l.complained) >= complainInterval {
		l.complained = now
		r.settings.Logger.Warn("relaying is in trouble", "what", what, "signal", l.name, "error", err)
	}
}

// Stats is the account since the start.
func (r *Relay) Stats() []event.RelayStats {
	list := make([]event.RelayStats, 0, len(r.lanes))
	for _, l := range r.lanes {
		list = append(list, l.stats())
	}
	return list
}

func (r *Relay) close() error {
	var errs []error
	for _, l := range r.lanes {
		errs = append(errs, l.sender.transport.close())
	}
	return errors.Join(errs...)
}

// lane is the queue of one signal: a part for each sandbox, which take turns. When it is full, the sandbox that
// has most in it loses its oldest: a flood costs nobody else anything.
type lane struct {
	relaySignal
	sender     *sender
	limit      int
	more       chan struct{}
	complained time.Time // by the one goroutine that delivers

	mu      sync.Mutex
	bytes   int
	by      map[uint64]*waiting
	turns   []*waiting // those with something in it, the next first
	account event.RelayStats
}

// waiting is what waits of one sandbox.
type waiting struct {
	sandbox uint64
	bytes   int
	bodies  [][]byte
}

func (l *lane) put(q Relayed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.by[q.Sandbox]
	if w == nil {
		w = &waiting{sandbox: q.Sandbox}
		l.by[q.Sandbox] = w
		l.turns = append(l.turns, w)
	}
	w.bodies = append(w.bodies, q.Body)
	w.bytes += len(q.Body)
	l.bytes += len(q.Body)
	for l.bytes > l.limit {
		largest := slices.MaxFunc(l.turns, func(a, b *waiting) int { return a.bytes - b.bytes })
		l.remove(largest)
		l.account.Dropped++
	}
	select {
	case l.more <- struct{}{}:
	default: // it is told already
	}
}

// remove takes the oldest of a sandbox out. mu must be held.
func (l *lane) remove(w *waiting) []byte {
	body := w.bodies[0]
	w.bodies[0] = nil
	w.bodies = w.bodies[1:]
	w.bytes -= len(body)
	l.bytes -= len(body)
	if len(w.bodies) == 0 {
		delete(l.by, w.sandbox)
		l.turns = slices.DeleteFunc(l.turns, func(other *waiting) bool { return other == w })
	}
	return body
}

// take is the next request, by turns.
func (l *lane) take() ([]byte, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.turns) == 0 {
		return nil, false
	}
	w := l.turns[0]
	body := l.remove(w)
	if len(w.bodies) > 0 {
		l.turns = append(l.turns[1:], w)
	}
	return body, true
}

func (l *lane) done(sent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if sent {
		l.account.Sent++
	} else {
		l.account.Failed++
	}
}

// abandon gives up what waits still.
func (l *lane) abandon() {
	for {
		if _, ok := l.take(); !ok {
			return
		}
		l.done(false)
	}
}

func (l *lane) stats() event.RelayStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.account
	s.Signal, s.QueuedBytes, s.CapacityBytes = l.name, l.bytes, l.limit
	return s
}
