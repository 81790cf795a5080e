// SPDX-License-Identifier: Apache-2.0

package exporters

import (
	"context"
	"runtime"
	"runtime/debug"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/watchglass/watchglass/event"
)

// Other is the label value that stands for all values beyond a label's bound.
const Other = "_other"

// Bounds of the labels whose values are not a closed list of ours.
const (
	maxKinds    = 64
	maxRules    = 256
	maxAgents   = 16
	maxSyscalls = 512
	maxErrors   = 64
)

// Instrument describes one metric.
type Instrument struct {
	// Name is the metric's name as Prometheus shows it; Type is counter, gauge or histogram.
	Name, Type string
	// Help says what it measures.
	Help string
	// Labels is the names of its labels.
	Labels []string
}

// Metrics is all instruments, each written once: both pull and push read its registry. Those that count
// events are fed through Export, since Metrics is an exporter itself; those that show the collector's
// own state ask for it when they are read. Session, pid, path and domain are never labels: they
// would grow without a bound. Counters of notable events carry the latest one's identity as an exemplar.
type Metrics struct {
	registry    *prometheus.Registry
	instruments []Instrument
	// now is the clock, which tests replace.
	now func() time.Time

	events      *prometheus.CounterVec
	execs       *prometheus.CounterVec
	exits       *prometheus.CounterVec
	lifetimes   prometheus.Histogram
	opens       *prometheus.CounterVec
	connects    *prometheus.CounterVec
	latencies   *prometheus.HistogramVec
	bytes       *prometheus.CounterVec
	syscalls    *prometheus.CounterVec
	failures    *prometheus.CounterVec
	callTimes   *durations
	findings    *prometheus.CounterVec
	starts      prometheus.Counter
	build       *prometheus.GaugeVec
	revision    string
	times       latencies
	kindLabel   bounded
	ruleLabel   bounded
	agentLabel  bounded
	callLabel   bounded
	originLabel bounded
	errorLabel  bounded
}

// NewMetrics makes the instruments. stats is asked for the collector's state at each scrape, from any goroutine.
func NewMetrics(stats func() event.Stats) *Metrics {
	m := &Metrics{
		registry:    prometheus.NewRegistry(),
		now:         time.Now,
		kindLabel:   newBounded(maxKinds),
		ruleLabel:   newBounded(maxRules),
		agentLabel:  newBounded(maxAgents),
		callLabel:   newBounded(maxSyscalls),
		originLabel: newBounded(maxAgents),
		errorLabel:  newBounded(maxErrors),
	}
	m.addEventInstruments()
	m.addLatencyInstruments()
	m.addOverflow()
	m.addStatsInstruments(stats)
	m.addBuildInfo()
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *Metrics) addEventInstruments() {
	m.events = m.counter("watchglass_events_total",
		"Events seen by the metrics exporter, by kind and severity.", "kind", "severity")
	m.execs = m.counter("watchglass_process_execs_total",
		"Programs started in sandboxes, by agent and by where the executable came from.", "agent", "origin")
	m.exits = m.counter("watchglass_process_exits_total",
		"Processes that ended in sandboxes, by result: success, failure or signal.", "result")
	m.lifetimes = m.histogram("watchglass_process_lifetime_seconds",
		"Time from fork to exit of the processes in sandboxes.",
		[]float64{.001, .005, .025, .1, .5, 2.5, 10, 60, 300, 1800})
	m.opens = m.counter("watchglass_file_opens_total",
		"Opens of files in sandboxes, by class of file, by access (read or write) and by result: success, denied, missing or error.",
		"class", "access", "result")
	m.connects = m.counter("watchglass_network_connects_total",
		"Attempts to connect from sandboxes, by transport, by scope of the peer and by result: success, or the name of the error.",
		"transport", "scope", "result")
	m.latencies = m.histogramVec("watchglass_network_connect_duration_seconds",
		"Time from a connect to its result, by scope of the peer.",
		[]float64{.0001, .001, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30}, "scope")
	m.bytes = m.counter("watchglass_network_flow_bytes_total",
		"Payload bytes of finished TCP connections of sandboxes, by scope of the peer and by direction: sent or received.",
		"scope", "direction")
	m.syscalls = m.counter("watchglass_syscalls_total",
		"System calls made in sandboxes, by name, as far as they were summarised.", "syscall")
	m.failures = m.counter("watchglass_syscall_errors_total",
		"System calls of sandboxes that returned an error, by name, as far as they were summarised.", "syscall")
	m.callTimes = m.durations("watchglass_syscall_duration_seconds",
		"Time that system calls of sandboxes took, by name, waiting included; none where kernel.syscall_latency is off.", "syscall")
	m.findings = m.counter("watchglass_findings_total",
		"Findings, by rule and severity. Updates of a finding do not count again.", "rule", "severity")
	m.starts = m.counter("watchglass_sandbox_starts_total", "Sandboxes that began to be watched.").WithLabelValues()
}

// Declare makes the series of the rules exist before their first finding: a rate over a counter that
// appears with its first increment does not see that increment.
func (m *Metrics) Declare(rules ...*event.Rule) {
	for _, rule := range rules {
		for _, severity := range []event.Severity{
			event.SeverityInfo, event.SeverityLow, event.SeverityMedium, event.SeverityHigh, event.SeverityCritical,
		} {
			m.findings.WithLabelValues(m.ruleLabel.value(rule.ID), severity.FindingName())
		}
	}
}

// Registry is where the instruments are registered.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Instruments lists every instrument of Watchglass's own, in the order in which they are made. Those of
// the Go runtime and of the process (go_, process_) come from client_golang and are documented there.
func (m *Metrics) Instruments() []Instrument { return append([]Instrument(nil), m.instruments...) }

// Name implements collector.Exporter.
func (*Metrics) Name() string { return "metrics" }

// Export counts the events of the batch. It never fails.
func (m *Metrics) Export(_ context.Context, batch []*event.Event) error {
	for _, ev := range batch {
		m.observe(ev)
	}
	if len(batch) > 0 && !batch[0].Observed.IsZero() {
		observe(m.times.read, batch[0].Observed.Sub(batch[0].Time), identity(batch[0]))
	}
	return nil
}

// Shutdown implements collector.Exporter; the instruments can still be read afterwards.
func (*Metrics) Shutdown(context.Context) error { return nil }

func (m *Metrics) observe(ev *event.Event) {
	m.events.WithLabelValues(m.kindLabel.value(string(ev.Kind())), ev.Payload.Severity().Text()).Inc()
	switch p := ev.Payload.(type) {
	case *event.ProcessExec:
		agent := "none"
		if ev.Process != nil && ev.Process.Agent != nil {
			agent = m.agentLabel.value(ev.Process.Agent.Name)
		}
		count(m.execs.WithLabelValues(agent, m.originLabel.value(string(p.Origin))), ev)
	case *event.ProcessExit:
		m.exits.WithLabelValues(exitResult(p)).Inc()
		m.lifetimes.Observe(p.Duration.Seconds())
	case *event.FileOpen:
		counter := m.opens.WithLabelValues(class(p.Class), access(p.Access), openResult(p.Error))
		if ev.Payload.Severity() > event.SeverityDebug {
			countTimes(counter, ev, p.Times())
		} else {
			counter.Add(float64(p.Times()))
		}
	case *event.NetworkConnect:
		scope := string(event.ScopeOf(p.Peer.Addr()))
		count(m.connects.WithLabelValues(string(p.Transport), scope, m.connectResult(p.Error)), ev)
		if p.Latency > 0 {
			m.latencies.WithLabelValues(scope).Observe(p.Latency.Seconds())
		}
	case *event.NetworkFlow:
		scope := string(event.ScopeOf(p.Peer.Addr()))
		m.bytes.WithLabelValues(scope, "sent").Add(float64(p.Sent - p.ToldSent))
		m.bytes.WithLabelValues(scope, "received").Add(float64(p.Received - p.ToldReceived))
	case *event.SyscallSummary:
		for _, c := range p.Counts {
			m.syscalls.WithLabelValues(m.callLabel.value(c.Name)).Add(max(0, float64(c.N)))
		}
		for _, c := range p.Errors {
			m.failures.WithLabelValues(m.callLabel.value(c.Name)).Add(max(0, float64(c.N)))
		}
		if p.Latencies != nil {
			m.observeLatencies(p.Latencies)
		}
	case *event.Finding:
		if p.State == event.FindingNew || p.State == "" {
			count(m.findings.WithLabelValues(m.ruleLabel.value(p.Rule.ID), p.Severity().FindingName()), ev)
		}
	case *event.SandboxStart:
		m.starts.Inc()
	}
}

func (m *Metrics) observeLatencies(latencies *event.Latencies) {
	for i := range latencies.ByName {
		of := &latencies.ByName[i]
		m.callTimes.add(m.callLabel.value(of.Name), of, m.now())
	}
}

func exitResult(p *event.ProcessExit) string {
	switch {
	case p.Signal != 0:
		return "signal"
	case p.Code != 0:
		return "failure"
	}
	return "success"
}

func class(c event.FileClass) string {
	if c == "" {
		return string(event.FileClassOther)
	}
	return string(c)
}

func access(a event.Access) string {
	if a&(event.AccessWrite|event.AccessCreate|event.AccessTruncate|event.AccessAppend) != 0 {
		return "write"
	}
	return "read"
}

func openResult(e event.Errno) string {
	switch e.Name() {
	case "":
		return "success"
	case "EPERM", "EACCES", "EROFS":
		return "denied"
	case "ENOENT", "ENOTDIR":
		return "missing"
	}
	return "error"
}

func (m *Metrics) connectResult(e event.Errno) string {
	if e == 0 {
		return "success"
	}
	return m.errorLabel.value(e.Name())
}

// count adds one with the event's identity as exemplar.
func count(counter prometheus.Counter, ev *event.Event) {
	countTimes(counter, ev, 1)
}

// countTimes is count of an event that tells of so many.
func countTimes(counter prometheus.Counter, ev *event.Event, times uint64) {
	if adder, ok := counter.(prometheus.ExemplarAdder); ok {
		adder.AddWithExemplar(float64(times), identity(ev))
		return
	}
	counter.Add(float64(times))
}

func (m *Metrics) addBuildInfo() {
	version, revision := "unknown", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" {
			version = info.Main.Version
		}
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				revision = setting.Value
			}
		}
	}
	m.build = m.gauge("watchglass_build_info",
		"Always 1; the labels say which version runs.", "version", "revision", "goversion")
	m.build.WithLabelValues(version, revision, runtime.Version()).Set(1)
	m.revision = revision
}

// Version replaces the version that the Go tool chain knows by the one that the build was given.
func (m *Metrics) Version(version string) {
	m.build.Reset()
	m.build.WithLabelValues(version, m.revision, runtime.Version()).Set(1)
}

// The constructors below are the only way to an instrument, so that Instruments is complete.

func (m *Metrics) note(kind, name, help string, labels []string) {
	m.instruments = append(m.instruments, Instrument{Name: name, Type: kind, Help: help, Labels: labels})
}

func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	m.note("counter", name, help, labels)
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(vec)
	return vec
}

func (m *Metrics) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	m.note("gauge", name, help, labels)
	vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(vec)
	return vec
}

func (m *Metrics) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h, ok := m.histogramVec(name, help, buckets).WithLabelValues().(prometheus.Histogram)
	if !ok {
		panic("a histogram is not a histogram")
	}
	return h
}

// histogramVec makes a histogram with both classic and native buckets.
func (m *Metrics) histogramVec(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	m.note("histogram", name, help, labels)
	const growth, maxBuckets = 1.1, 100
	vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: growth, NativeHistogramMaxBucketNumber: maxBuckets,
	}, labels)
	m.registry.MustRegister(vec)
	return vec
}

// addOverflow counts, by label, the values for which there is no room.
func (m *Metrics) addOverflow() {
	overflow := m.counter("watchglass_metric_label_overflow_total",
		"Times that a value of a label showed as _other, because the label has as many values as it may have.", "label")
	for name, label := range map[string]*bounded{
		"kind": &m.kindLabel, "rule": &m.ruleLabel, "agent": &m.agentLabel, "syscall": &m.callLabel,
		"origin": &m.originLabel, "error": &m.errorLabel,
	} {
		label.overflow = overflow.WithLabelValues(name)
	}
}

// bounded lets the first values of a label through and calls all later ones Other. It is used from one
// goroutine, since Export is, and Declare comes before.
type bounded struct {
	limit int
	seen  map[string]struct{}
	// overflow counts what was called Other; nil where nobody counts.
	overflow prometheus.Counter
}

func newBounded(limit int) bounded { return bounded{limit: limit, seen: make(map[string]struct{})} }

func (b *bounded) value(s string) string {
	if s == "" {
		return "unknown"
	}
	if _, ok := b.seen[s]; ok {
		return s
	}
	if len(b.seen) >= b.limit || !utf8.ValidString(s) {
		if b.overflow != nil {
			b.overflow.Inc()
		}
		return Other
	}
	b.seen[s] = struct{}{}
	return s
}
