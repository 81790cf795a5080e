// SPDX-License-Identifier: Apache-2.0

package exporters

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/watchglass/watchglass/event"
)

// durations is a histogram of what was counted by buckets before it came here. Its buckets are powers of two of a
// second: all of them where it is read as a native histogram, every fourth elsewhere.
type durations struct {
	desc *prometheus.Desc

	mu sync.Mutex
	of map[string]*duration
}

// duration is one series.
type duration struct {
	sum     time.Duration
	buckets [event.LatencyBuckets]uint64
	since   time.Time
}

// classicStep is of how many buckets one is shown where native histograms are not.
const classicStep = 4

func (m *Metrics) durations(name, help, label string) *durations {
	m.note("histogram", name, help, []string{label})
	d := &durations{desc: prometheus.NewDesc(name, help, []string{label}, nil), of: map[string]*duration{}}
	m.registry.MustRegister(d)
	return d
}

// add adds what was counted to the series of a label's value. Counts less than none, which nobody makes, are none.
func (d *durations) add(value string, l *event.Latency, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	of := d.of[value]
	if of == nil {
		of = &duration{since: now}
		d.of[value] = of
	}
	of.sum += max(0, l.Sum)
	for i, n := range l.Buckets {
		of.buckets[i] += uint64(max(0, n))
	}
}

// Describe implements prometheus.Collector.
func (d *durations) Describe(to chan<- *prometheus.Desc) { to <- d.desc }

// Collect implements prometheus.Collector.
func (d *durations) Collect(to chan<- prometheus.Metric) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for value, of := range d.of {
		classic, native, count := of.split()
		sum := of.sum.Seconds()
		both := &bothHistograms{
			Metric: prometheus.MustNewConstHistogramWithCreatedTimestamp(d.desc, count, sum, classic, of.since, value),
			native: prometheus.MustNewConstNativeHistogram(d.desc, count, sum, native, nil, 0, 0, zeroThreshold, of.since, value),
		}
		to <- both
	}
}

// zeroThreshold is below all durations that there are.
const zeroThreshold = 1e-9

// split is the counts up to the bounds that are shown, those of the buckets of a native histogram of schema 0, and
// of all.
func (of *duration) split() (classic map[float64]uint64, native map[int]int64, count uint64) {
	classic, native = map[float64]uint64{}, map[int]int64{}
	for i, n := range of.buckets {
		count += n
		if n > 0 {
			native[i+event.LatencyScale] = int64(n)
		}
		if exponent := i + event.LatencyScale; exponent%classicStep == 0 && i < event.LatencyBuckets-1 {
			classic[event.LatencyBound(i)] = count
		}
	}
	return classic, native, count
}

// bothHistograms is a metric that has classic buckets, and those of another one that is native.
type bothHistograms struct {
	prometheus.Metric
	native prometheus.Metric
}

// Write implements prometheus.Metric.
func (b *bothHistograms) Write(to *dto.Metric) error {
	if err := b.native.Write(to); err != nil {
		return err
	}
	native := to.GetHistogram()
	if err := b.Metric.Write(to); err != nil {
		return err
	}
	h := to.GetHistogram()
	h.Schema, h.ZeroThreshold, h.ZeroCount = native.Schema, native.ZeroThreshold, native.ZeroCount
	h.PositiveSpan, h.PositiveDelta = native.GetPositiveSpan(), native.GetPositiveDelta()
	return nil
}
