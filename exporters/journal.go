// SPDX-License-Identifier: Apache-2.0

package exporters

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/watchglass/watchglass/event"
)

// journalInstruments is those of the journal and of the destinations that are fed from it.
type journalInstruments struct {
	bytes, limit, segments, written, evicted                       *prometheus.Desc
	syncErrors, checkpoints, quarantined                           *prometheus.Desc
	lag, lagBytes, lagSeconds                                      *prometheus.Desc
	delivered, rejected, filtered, unsentEvicted, unsentUnreadable *prometheus.Desc
}

func newJournalInstruments(desc func(kind, name, help string, labels ...string) *prometheus.Desc) journalInstruments {
	const counter, gauge = "counter", "gauge"
	return journalInstruments{
		bytes: desc(gauge, "watchglass_journal_size_bytes", "What a lane of the journal takes on the disk.", "lane"),
		limit: desc(gauge, "watchglass_journal_limit_bytes",
			"What a lane of the journal may take on the disk: beyond it the oldest events are removed.", "lane"),
		segments: desc(gauge, "watchglass_journal_segments", "Files of a lane of the journal.", "lane"),
		written: desc(counter, "watchglass_journal_events_total",
			"Events that a lane of the journal ever took, starts before this one included.", "lane"),
		evicted: desc(counter, "watchglass_journal_events_evicted_total",
			"Events that were removed from a lane of the journal to make room, delivered or not.", "lane"),
		syncErrors: desc(counter, "watchglass_journal_sync_errors_total",
			"Times that what was written to the journal could not be forced to the disk."),
		checkpoints: desc(counter, "watchglass_journal_checkpoints_total", "Times that the journal was signed."),
		quarantined: desc(counter, "watchglass_journal_events_quarantined_total",
			"Events that a destination will never take and that were put aside."),
		lag: desc(gauge, "watchglass_destination_lag_events",
			"Events in the journal that the destination did not get yet.", "destination"),
		lagBytes: desc(gauge, "watchglass_destination_lag_bytes",
			"About how many bytes of the journal the destination did not get yet.", "destination"),
		lagSeconds: desc(gauge, "watchglass_destination_lag_seconds",
			"For how long the oldest event that is being delivered has been in the journal.", "destination"),
		delivered: desc(counter, "watchglass_destination_events_delivered_total",
			"Events that the destination took.", "destination"),
		rejected: desc(counter, "watchglass_destination_events_rejected_total",
			"Events that the destination refused for good.", "destination"),
		filtered: desc(counter, "watchglass_destination_events_filtered_total",
			"Events that are not for the destination, as its filter says.", "destination"),
		unsentEvicted: desc(counter, "watchglass_destination_events_evicted_total",
			"Events that were removed from the journal before the destination got them.", "destination"),
		unsentUnreadable: desc(counter, "watchglass_destination_events_damaged_total",
			"Events that the destination did not get because the journal's file was damaged.", "destination"),
	}
}

// collect shows them. Destinations are as many as are configured, so that their names need no bound.
func (c *journalInstruments) collect(stats *event.Stats, ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	for _, d := range stats.Destinations {
		counter(c.delivered, d.Delivered, d.Name)
		counter(c.rejected, d.Rejected, d.Name)
		counter(c.filtered, d.Filtered, d.Name)
	}
	j := &stats.Journal
	if j.Dir == "" {
		return
	}
	counter(c.syncErrors, j.SyncErrors)
	counter(c.checkpoints, j.Checkpoints)
	counter(c.quarantined, j.Quarantined)
	for _, l := range j.Lanes {
		gauge(c.bytes, float64(l.Bytes), l.Name)
		gauge(c.limit, float64(l.MaxBytes), l.Name)
		gauge(c.segments, float64(l.Segments), l.Name)
		counter(c.written, max(l.Next, 1)-1, l.Name)
		counter(c.evicted, l.Evicted, l.Name)
	}
	for _, cursor := range j.Cursors {
		gauge(c.lag, float64(cursor.Lag), cursor.Name)
		gauge(c.lagBytes, float64(cursor.LagBytes), cursor.Name)
		gauge(c.lagSeconds, cursor.LagAge.Seconds(), cursor.Name)
		counter(c.unsentEvicted, cursor.Evicted, cursor.Name)
		counter(c.unsentUnreadable, cursor.Damaged, cursor.Name)
	}
}
