// SPDX-License-Identifier: Apache-2.0

package exporters

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/watchglass/watchglass/event"
)

// statsCollector turns the collector's own state into metrics when it is read.
type statsCollector struct {
	stats   func() event.Stats
	started time.Time

	records, published, lost                      *prometheus.Desc
	claims, claimsUnattributed, claimsIgnored     *prometheus.Desc
	sessions, sessionRoots, sessionsForgotten     *prometheus.Desc
	attached, seen, dropped, plan, missed, atRoot *prometheus.Desc
	exported, failed, refused, queued, capacity   *prometheus.Desc
	working, remembered, forgotten                *prometheus.Desc
	bound, suppressed, evicted                    *prometheus.Desc
	sandboxes, sandboxesRefused                   *prometheus.Desc
	processes, processesEvicted                   *prometheus.Desc
	ringSize, ringUsed, pinning                   *prometheus.Desc
	notified, failing, givenUp, held, pending     *prometheus.Desc
	canary, canaryInterval                        *prometheus.Desc
	journal                                       journalInstruments
	receiver                                      receiverDescs
	hooks                                         *prometheus.Desc
	all                                           []*prometheus.Desc
}

func (m *Metrics) addStatsInstruments(stats func() event.Stats) {
	c := &statsCollector{stats: stats, started: time.Now()}
	desc := func(kind, name, help string, labels ...string) *prometheus.Desc {
		m.note(kind, name, help, labels)
		d := prometheus.NewDesc(name, help, labels, nil)
		c.all = append(c.all, d)
		return d
	}
	const counter, gauge = "counter", "gauge"
	c.records = desc(counter, "watchglass_records_read_total",
		"Records of the kernel side that were read: what the probes saw and did not drop, but for what waits in the ring or could not be decoded.")
	c.claims = desc(counter, "watchglass_claims_total",
		"Statements of agents about themselves that came in.")
	c.claimsUnattributed = desc(counter, "watchglass_claims_unattributed_total",
		"Statements of agents whose sender is in no sandbox that is known. They are kept, and believed in nothing.")
	c.claimsIgnored = desc(counter, "watchglass_claims_ignored_total",
		"Statements of agents that are kept and believed in nothing: of an unknown sender, of one that the session is not of, or of no session.")
	c.sessions = desc(gauge, "watchglass_sessions",
		"Sessions of agents: live, and remembered with those that ended.", "state")
	c.sessionRoots = desc(gauge, "watchglass_session_roots", "Processes started by agents that are remembered with what they did.")
	c.sessionsForgotten = desc(counter, "watchglass_session_entries_evicted_total",
		"What had to be forgotten of sessions for lack of room: sessions, turns, calls, processes, and objects that were not kept.", "kind")
	c.receiver = newReceiverDescs(desc)
	c.hooks = desc(counter, "watchglass_hooks_total",
		"What agents told their hooks, by result: taken, ignored (it says nothing of a session), malformed, late, refused (too much of one sandbox), unattributed (taken, and its sender not found).", "result")
	c.published = desc(counter, "watchglass_events_published_total",
		"Events that the pipeline gave to the exporters, by kind.", "kind")
	c.lost = desc(counter, "watchglass_events_lost_total",
		"Events that were lost: at which stage, of which kind (or probe, or exporter), and why.", "stage", "lost", "reason")
	c.addProbeInstruments(desc)
	c.exported = desc(counter, "watchglass_exporter_events_exported_total",
		"Events that the exporter delivered.", "exporter")
	c.failed = desc(counter, "watchglass_exporter_events_failed_total",
		"Events that the exporter could not deliver.", "exporter")
	c.refused = desc(counter, "watchglass_exporter_events_dropped_total",
		"Events that found the exporter's queue full.", "exporter")
	c.evicted = desc(counter, "watchglass_exporter_entries_evicted_total",
		"What the exporter had to forget for lack of room: sessions, calls and processes of traces, of which spans may be missing.", "exporter")
	c.queued = desc(gauge, "watchglass_exporter_queue_events",
		"Events that wait in the exporter's queue.", "exporter")
	c.capacity = desc(gauge, "watchglass_exporter_queue_capacity_events",
		"Events that the exporter's queue has room for.", "exporter")
	c.working = desc(gauge, "watchglass_detector_up",
		"1 while the detector works, 0 when it failed: it is then off until the collector starts again.", "rule")
	c.remembered = desc(gauge, "watchglass_detector_entries", "What the detector remembers now, in entries of its tables.", "rule")
	c.forgotten = desc(counter, "watchglass_detector_entries_evicted_total",
		"Entries that the detector had to forget for lack of room: a finding may then be missed, or told anew.", "rule")
	c.bound = desc(gauge, "watchglass_detector_entries_limit",
		"The most entries that the detector can come to remember, with all sandboxes that it has room for.", "rule")
	c.suppressed = desc(counter, "watchglass_findings_suppressed_total",
		"Findings that detectors.profiles did not let count.")
	c.sandboxes = desc(gauge, "watchglass_sandboxes", "Sandboxes that are watched now.")
	c.sandboxesRefused = desc(counter, "watchglass_sandboxes_refused_total",
		"Sandboxes that are not watched because there was no room for them.")
	c.processes = desc(gauge, "watchglass_processes", "Processes in the process tree.")
	c.processesEvicted = desc(counter, "watchglass_processes_evicted_total",
		"Processes that the process tree had to forget while they were still needed.")
	c.ringSize = desc(gauge, "watchglass_ring_buffer_size_bytes", "Size of the ring buffer between kernel and collector.")
	c.ringUsed = desc(gauge, "watchglass_ring_buffer_used_bytes", "Bytes of the ring buffer that wait to be read, or are held until they are in the journal.")
	c.pinning = desc(gauge, "watchglass_pins",
		"1 for how the collector came by its programs and maps: off (nothing outlives it), started (all new), adopted, updated or replaced (taken over from the collector before).", "state")
	c.notified = desc(counter, "watchglass_notifications_delivered_total",
		"Notifications of findings that the output took.", "output")
	c.failing = desc(counter, "watchglass_notifications_failed_total",
		"Attempts to tell the output of findings that failed: most are made again.", "output")
	c.givenUp = desc(counter, "watchglass_notifications_lost_total",
		"Findings of which the output was not told, and will not be.", "output")
	c.held = desc(counter, "watchglass_notifications_suppressed_total",
		"Findings that were held back because the output was told of too many of that severity.", "output")
	c.pending = desc(gauge, "watchglass_notifications_pending", "Findings of which the output has still to be told.", "output")
	c.canary = desc(gauge, "watchglass_canary_delivered_timestamp_seconds",
		"When the output last took a canary, in seconds since 1970; as long as it took none, when the collector started.", "output")
	c.canaryInterval = desc(gauge, "watchglass_canary_interval_seconds", "How often a canary is made; 0 for never.")
	c.journal = newJournalInstruments(desc)
	m.registry.MustRegister(c)
}

// Describe implements prometheus.Collector.
func (c *statsCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.all {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *statsCollector) Collect(ch chan<- prometheus.Metric) {
	stats := c.stats()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	counter(c.records, stats.Records)
	for _, state := range event.Pinnings() {
		gauge(c.pinning, oneIf(state == stats.Pinning), string(state))
	}
	counter(c.claims, stats.Claims)
	counter(c.claimsUnattributed, stats.ClaimsUnattributed)
	counter(c.claimsIgnored, stats.Sessions.ClaimsIgnored)
	gauge(c.sessions, float64(stats.Sessions.Live), "live")
	gauge(c.sessions, float64(stats.Sessions.Remembered), "remembered")
	gauge(c.sessionRoots, float64(stats.Sessions.Roots))
	for _, forgotten := range []struct {
		kind string
		n    uint64
	}{
		{"session", stats.Sessions.SessionsEvicted},
		{"turn", stats.Sessions.TurnsEvicted},
		{"call", stats.Sessions.CallsEvicted},
		{"process", stats.Sessions.ProcessesEvicted},
		{"object", stats.Sessions.ObjectsOmitted},
	} {
		counter(c.sessionsForgotten, forgotten.n, forgotten.kind)
	}
	c.receiver.collect(&stats.Receiver, counter, gauge)
	for _, h := range stats.Hooks {
		counter(c.hooks, uint64(max(0, h.N)), h.Name)
	}
	kinds := newBounded(maxKinds)
	sums := map[string]uint64{}
	for _, e := range stats.Events {
		sums[kinds.value(e.Name)] += uint64(max(0, e.N))
	}
	for kind, n := range sums {
		counter(c.published, n, kind)
	}
	for key, n := range losses(stats) {
		counter(c.lost, n, key.stage, key.lost, key.reason)
	}
	c.collectProbes(stats.Probes, counter, gauge)
	for _, e := range stats.Exporters {
		counter(c.exported, e.Exported, e.Name)
		counter(c.failed, e.Failed, e.Name)
		counter(c.refused, e.Dropped, e.Name)
		counter(c.evicted, e.Evicted, e.Name)
		gauge(c.queued, float64(e.Queued), e.Name)
		gauge(c.capacity, float64(e.Capacity), e.Name)
	}
	for _, d := range stats.Detectors {
		up := 1.0
		if d.Failed {
			up = 0
		}
		gauge(c.working, up, d.Name)
		gauge(c.remembered, float64(d.Entries), d.Name)
		counter(c.forgotten, d.Evicted, d.Name)
		gauge(c.bound, float64(d.Most), d.Name)
	}
	counter(c.suppressed, stats.FindingsSuppressed)
	c.collectNotifiers(stats, counter, gauge)
	gauge(c.sandboxes, float64(stats.Sandboxes))
	counter(c.sandboxesRefused, stats.SandboxesRefused)
	gauge(c.processes, float64(stats.Processes))
	counter(c.processesEvicted, stats.ProcessesEvicted)
	gauge(c.ringSize, float64(stats.RingBytes))
	gauge(c.ringUsed, float64(stats.RingUsed))
	c.journal.collect(&stats, ch)
}

// addProbeInstruments makes those of the kernel side.
func (c *statsCollector) addProbeInstruments(desc func(kind, name, help string, labels ...string) *prometheus.Desc) {
	c.attached = desc("gauge", "watchglass_probe_attached",
		"1 when all programs of the probe are attached, 0 when it is degraded.", "probe")
	c.seen = desc("counter", "watchglass_probe_events_seen_total",
		"Events that the probe's programs met in sandboxes.", "probe")
	c.dropped = desc("counter", "watchglass_probe_events_dropped_total",
		"Events that the probe's programs found no room for in the ring buffer.", "probe")
	c.plan = desc("gauge", "watchglass_probe_plan",
		"Always 1: by which hook plan the probe sees system calls, and whether it fell back to that one from the collector's.", "probe", "plan", "fallback")
	c.missed = desc("counter", "watchglass_probe_missed_total",
		"How often the kernel had no room to run one of the probe's programs, for whichever process: an event may be missing.", "probe")
	c.atRoot = desc("gauge", "watchglass_probe_at_root",
		"1 while programs of the probe hang at the root cgroup, where packets of every process of the node run them.", "probe")
}

// oneIf is the value of a gauge that says whether something is so.
func oneIf(so bool) float64 {
	if so {
		return 1
	}
	return 0
}

// collectProbes shows how the probes are.
func (c *statsCollector) collectProbes(probes []event.ProbeStats, counter func(*prometheus.Desc, uint64, ...string), gauge func(*prometheus.Desc, float64, ...string)) {
	for _, p := range probes {
		gauge(c.attached, oneIf(p.Attached), p.Name)
		if p.Plan != "" {
			gauge(c.plan, 1, p.Name, p.Plan, strconv.FormatBool(p.Fallback != ""))
		}
		gauge(c.atRoot, oneIf(p.AtRoot), p.Name)
		counter(c.missed, p.Missed, p.Name)
		counter(c.seen, p.Seen, p.Name)
		counter(c.dropped, p.Dropped, p.Name)
	}
}

// collectNotifiers shows who was told of findings. An exporter that tells nobody has a canary at most.
func (c *statsCollector) collectNotifiers(stats event.Stats, counter func(*prometheus.Desc, uint64, ...string), gauge func(*prometheus.Desc, float64, ...string)) {
	gauge(c.canaryInterval, stats.CanaryInterval.Seconds())
	for _, n := range stats.Notifiers {
		if stats.CanaryInterval > 0 {
			at := float64(n.Canary)
			if n.Canary == 0 {
				at = float64(c.started.Unix())
			}
			gauge(c.canary, at, n.Output)
		}
		if !n.Tells {
			continue
		}
		counter(c.notified, n.Delivered, n.Output)
		counter(c.failing, n.Failed, n.Output)
		counter(c.givenUp, n.Lost, n.Output)
		counter(c.held, n.Suppressed, n.Output)
		gauge(c.pending, float64(n.Pending), n.Output)
	}
}

type lossKey struct{ stage, lost, reason string }

// losses sums the losses over the sandboxes, which are no label: they come and go without a bound.
func losses(stats event.Stats) map[lossKey]uint64 {
	sums := map[lossKey]uint64{}
	lost, reasons := newBounded(maxKinds), newBounded(maxKinds)
	for _, l := range stats.Lost {
		sums[lossKey{string(l.Stage), lost.value(l.Lost), reasons.value(l.Reason)}] += l.Count
	}
	return sums
}
