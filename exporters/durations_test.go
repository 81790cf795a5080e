// SPDX-License-Identifier: Apache-2.0

package exporters

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/watchglass/watchglass/event"
)

// TestDurations: what was counted by buckets is a histogram of both kinds, and adds up.
func TestDurations(t *testing.T) {
	m := NewMetrics(func() event.Stats { return event.Stats{} })
	told := func(sum time.Duration, buckets [event.LatencyBuckets]int64) *event.Event {
		latencies := []event.Latency{{Name: "futex", Sum: sum, Buckets: buckets}}
		return &event.Event{Payload: &event.SyscallSummary{Latencies: event.NewLatencies(latencies, 0)}}
	}
	batch := []*event.Event{
		told(time.Second, [event.LatencyBuckets]int64{0: 3, 2: 2}),
		told(40*time.Second, [event.LatencyBuckets]int64{2: 1, 26: 1, 27: 1}),
		told(-time.Second, [event.LatencyBuckets]int64{5: -1}), // from a journal that somebody wrote
	}
	if err := m.Export(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "watchglass_syscall_duration_seconds" {
			continue
		}
		h := family.GetMetric()[0].GetHistogram()
		if h.GetSampleCount() != 8 || h.GetSampleSum() != 41 {
			t.Errorf("%d calls took %v s, want 8 and 41", h.GetSampleCount(), h.GetSampleSum())
		}
		got := map[float64]uint64{}
		for _, b := range h.GetBucket() {
			got[b.GetUpperBound()] = b.GetCumulativeCount()
		}
		want := map[float64]uint64{1. / (1 << 20): 6, 1. / (1 << 16): 6, 1. / (1 << 12): 6, 1. / 256: 6, 1. / 16: 6, 1: 6, 16: 7}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("classic buckets (-want +got):\n%s", diff)
		}
		native, at, n := map[int32]int64{}, int32(0), int64(0)
		deltas := h.GetPositiveDelta()
		for _, span := range h.GetPositiveSpan() {
			at += span.GetOffset()
			for range span.GetLength() {
				n, deltas = n+deltas[0], deltas[1:]
				if n > 0 {
					native[at] = n
				}
				at++
			}
		}
		if diff := cmp.Diff(map[int32]int64{-22: 3, -20: 3, 4: 1, 5: 1}, native); diff != "" || h.GetSchema() != 0 {
			t.Errorf("native buckets of schema %d (-want +got):\n%s", h.GetSchema(), diff)
		}
		return
	}
	t.Error("there is no histogram")
}
