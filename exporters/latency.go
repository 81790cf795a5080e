// SPDX-License-Identifier: Apache-2.0

package exporters

import (
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/watchglass/watchglass/event"
)

// latencies is how long events take. A batch is measured by its oldest event, which waited longest; findings
// are measured one by one.
type latencies struct {
	read              prometheus.Histogram
	batches           *prometheus.HistogramVec
	exports, findings *prometheus.HistogramVec
}

func (m *Metrics) addLatencyInstruments() {
	seconds := []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800}
	m.times.read = m.histogram("watchglass_event_read_latency_seconds",
		"Time from an event in the kernel to its being read, of one event in each batch that is counted.", seconds)
	m.times.exports = m.histogramVec("watchglass_export_latency_seconds",
		"Time from the oldest event of a batch to its delivery; of the journal, to its being written.", seconds, "exporter")
	m.times.findings = m.histogramVec("watchglass_finding_latency_seconds",
		"Time from the event that a finding is about to the finding's delivery; of the journal, to its being written.", seconds, "exporter")
	m.times.batches = m.histogramVec("watchglass_export_batch_events",
		"Events of a batch that was delivered.", []float64{1, 4, 16, 64, 256, 1024, 2048, 4096}, "exporter")
}

// Exported measures a batch that an exporter has taken. It may be called from any goroutine.
func (m *Metrics) Exported(exporter string, batch []*event.Event) {
	if len(batch) == 0 {
		return
	}
	now := m.now()
	m.times.batches.WithLabelValues(exporter).Observe(float64(len(batch)))
	observe(m.times.exports.WithLabelValues(exporter), now.Sub(batch[0].Time), identity(batch[0]))
	for _, ev := range batch {
		if f, ok := ev.Payload.(*event.Finding); ok && !f.Canary() {
			observe(m.times.findings.WithLabelValues(exporter), now.Sub(ev.Time), identity(ev))
		}
	}
}

// Delivered measures a batch that a destination has taken. It may be called from any goroutine.
func (m *Metrics) Delivered(destination string, batch []event.Encoded) {
	if len(batch) == 0 {
		return
	}
	now, oldest := m.now(), &batch[0]
	for i := range batch {
		e := &batch[i]
		if e.Time.Before(oldest.Time) {
			oldest = e
		}
		if e.Kind == event.KindFinding && e.Sandbox != "" { // a canary has no sandbox
			observe(m.times.findings.WithLabelValues(destination), now.Sub(e.Time), encodedIdentity(e))
		}
	}
	m.times.batches.WithLabelValues(destination).Observe(float64(len(batch)))
	observe(m.times.exports.WithLabelValues(destination), now.Sub(oldest.Time), encodedIdentity(oldest))
}

// observe takes a time, which a clock that was set back makes 0, with whose it is.
func observe(o prometheus.Observer, d time.Duration, who prometheus.Labels) {
	seconds := max(0, d.Seconds())
	if e, ok := o.(prometheus.ExemplarObserver); ok {
		e.ObserveWithExemplar(seconds, who)
		return
	}
	o.Observe(seconds)
}

// exemplar gathers labels as far as they fit into the 128 characters that OpenMetrics gives an exemplar.
type exemplar struct {
	labels prometheus.Labels
	left   int
}

func newExemplar() exemplar {
	return exemplar{labels: make(prometheus.Labels, 4), left: prometheus.ExemplarMaxRunes}
}

func (e *exemplar) add(name, value string) {
	n := utf8.RuneCountInString(name) + utf8.RuneCountInString(value)
	if value == "" || n > e.left || !utf8.ValidString(value) {
		return
	}
	e.left -= n
	e.labels[name] = value
}

// identity is whose an event is: the trace when it is known, the event's uid, the session, the process.
func identity(ev *event.Event) prometheus.Labels {
	e := newExemplar()
	p := ev.Process
	if p != nil && p.Agent.HasTrace() {
		e.add("trace_id", p.Agent.TraceIDHex())
	}
	e.add("event_uid", ev.UID())
	if p != nil && p.Agent != nil {
		e.add("session_id", p.Agent.SessionID)
	}
	if p != nil {
		e.add("process_uid", p.UID.String())
	}
	return e.labels
}

func encodedIdentity(ev *event.Encoded) prometheus.Labels {
	e := newExemplar()
	e.add("event_uid", (&event.Event{Instance: ev.Instance, Seq: ev.Seq}).UID())
	e.add("session_id", ev.Session)
	return e.labels
}
