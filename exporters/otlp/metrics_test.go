// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
	"github.com/watchglass/watchglass/exporters/internal/sample"
)

// TestPushIsPull: what is pushed is, sample for sample, what a scrape shows: every family, series, value,
// bucket and exemplar. The scrape's side is read back from its text, as Prometheus would.
func TestPushIsPull(t *testing.T) {
	t.Parallel()
	source := exporters.NewMetrics(func() event.Stats {
		return event.Stats{
			Sandboxes: 3, Records: 9, Exporters: []event.ExporterStats{{Name: "json", Exported: 6, Failed: 1}},
			Lost: []event.LossCounter{{Stage: event.LossRing, Lost: "file", Reason: "ring_full", Count: 3}},
		}
	})
	source.Declare(sample.Rule())
	source.Exported("json", sample.Events())
	if err := source.Export(t.Context(), sample.Events()); err != nil {
		t.Fatal(err)
	}
	var s server
	m, err := OpenMetrics(s.start(t, ProtocolHTTP, nil), source, Settings{Resource: sample.Resource()})
	if err != nil {
		t.Fatal(err)
	}
	families, err := source.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Push(context.Background()); err != nil {
		t.Fatal(err)
	}
	pulled, pushed := pulledSamples(t, families), pushedSamples(t, s.metrics[0].GetResourceMetrics()[0].GetScopeMetrics()[0].GetMetrics())
	maps.DeleteFunc(pulled, func(name, _ string) bool { return !strings.HasPrefix(name, "watchglass_") }) // the Go runtime goes on
	maps.DeleteFunc(pushed, func(name, _ string) bool { return !strings.HasPrefix(name, "watchglass_") })
	if diff := cmp.Diff(pulled, pushed); diff != "" {
		t.Errorf("pulled (-) and pushed (+):\n%s", diff)
	}
	if len(pulled) < 150 {
		t.Errorf("only %d samples", len(pulled))
	}
}

// pulledSamples is what a scrape's text says, by series: its value, and its exemplar.
func pulledSamples(t *testing.T, families []*dto.MetricFamily) map[string]string {
	t.Helper()
	var text bytes.Buffer
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&text, family); err != nil {
			t.Fatal(err)
		}
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	read, err := parser.TextToMetricFamilies(&text)
	if err != nil {
		t.Fatal(err)
	}
	samples := map[string]string{}
	for name, family := range read {
		for _, s := range family.GetMetric() {
			labels := map[string]string{}
			for _, pair := range s.GetLabel() {
				labels[pair.GetName()] = pair.GetValue()
			}
			switch family.GetType() {
			case dto.MetricType_HISTOGRAM:
				add(samples, name+"_count", labels, float64(s.GetHistogram().GetSampleCount()))
				add(samples, name+"_sum", labels, s.GetHistogram().GetSampleSum())
				for _, b := range s.GetHistogram().GetBucket() {
					labels["le"] = fmt.Sprint(b.GetUpperBound())
					add(samples, name+"_bucket", labels, float64(b.GetCumulativeCount()))
				}
			case dto.MetricType_COUNTER:
				add(samples, name, labels, s.GetCounter().GetValue())
			default:
				add(samples, name, labels, s.GetGauge().GetValue())
			}
		}
	}
	// The text format has no exemplars: those are the registry's own.
	for _, family := range families {
		for _, s := range family.GetMetric() {
			addExemplar(samples, family.GetName(), s.GetCounter().GetExemplar())
			for _, b := range s.GetHistogram().GetBucket() {
				addExemplar(samples, family.GetName(), b.GetExemplar())
			}
		}
	}
	return samples
}

func add(samples map[string]string, name string, labels map[string]string, value float64) {
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, key+"="+labels[key])
	}
	samples[name+"{"+strings.Join(pairs, ",")+"}"] = fmt.Sprint(value)
}

func addExemplar(samples map[string]string, name string, e *dto.Exemplar) {
	if e == nil {
		return
	}
	labels := map[string]string{}
	for _, pair := range e.GetLabel() {
		labels[pair.GetName()] = pair.GetValue()
	}
	add(samples, name+" exemplar at "+e.GetTimestamp().AsTime().String(), labels, e.GetValue())
}

// pushedSamples is the same of an OTLP request.
func pushedSamples(t *testing.T, list []*metrics.Metric) map[string]string {
	t.Helper()
	samples := map[string]string{}
	plainLabels := func(pairs []*common.KeyValue) map[string]string {
		labels := map[string]string{}
		for key, value := range plainMap(pairs) {
			labels[key] = fmt.Sprint(value)
		}
		return labels
	}
	exemplars := func(name string, list []*metrics.Exemplar) {
		for _, e := range list {
			labels := plainLabels(e.GetFilteredAttributes())
			if len(e.GetTraceId()) > 0 {
				labels["trace_id"] = fmt.Sprintf("%x", e.GetTraceId())
			}
			at := time.Unix(0, int64(e.GetTimeUnixNano())).UTC()
			add(samples, name+" exemplar at "+at.String(), labels, e.GetAsDouble())
		}
	}
	for _, m := range list {
		for _, p := range append(m.GetSum().GetDataPoints(), m.GetGauge().GetDataPoints()...) {
			add(samples, m.GetName(), plainLabels(p.GetAttributes()), p.GetAsDouble())
			exemplars(m.GetName(), p.GetExemplars())
		}
		for _, p := range m.GetHistogram().GetDataPoints() {
			labels := plainLabels(p.GetAttributes())
			add(samples, m.GetName()+"_count", labels, float64(p.GetCount()))
			add(samples, m.GetName()+"_sum", labels, p.GetSum())
			below := uint64(0)
			for i, n := range p.GetBucketCounts() {
				below += n
				bound := math.Inf(1)
				if i < len(p.GetExplicitBounds()) {
					bound = p.GetExplicitBounds()[i]
				}
				labels["le"] = fmt.Sprint(bound)
				add(samples, m.GetName()+"_bucket", labels, float64(below))
			}
			exemplars(m.GetName(), p.GetExemplars())
		}
	}
	return samples
}
