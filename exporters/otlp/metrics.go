// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	colmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// Metrics pushes the instruments, which are the same that a scrape shows, at an interval.
type Metrics struct {
	sender   *sender
	source   *exporters.Metrics
	settings Settings
	interval time.Duration
	started  time.Time
}

// OpenMetrics prepares to push source. It does not connect.
func OpenMetrics(cfg Config, source *exporters.Metrics, s Settings) (*Metrics, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("otlp exporter: %w", err)
	}
	sender, err := newSender(metricsSignal(), cfg.metrics(), &cfg, &s)
	if err != nil {
		return nil, err
	}
	return &Metrics{sender: sender, source: source, settings: s, interval: cfg.MetricsInterval, started: time.Now()}, nil
}

func metricsSignal() signal {
	return signal{name: "metrics", method: colmetrics.MetricsService_Export_FullMethodName}
}

// finalTimeout bounds the last push, when the program stops.
const finalTimeout = 5 * time.Second

// Run pushes at the interval until ctx ends, then once more, and closes the connection. A push that fails
// is logged: the next one carries the same counters, grown.
func (m *Metrics) Run(ctx context.Context) error {
	ticker := time.NewTicker(m.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			// Cut short by the end, it is made up for by the last one below.
			if err := m.Push(ctx); ctx.Err() == nil {
				m.logged(err)
			}
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), finalTimeout)
			defer cancel()
			m.logged(m.Push(last))
			if err := m.sender.transport.close(); err != nil {
				return fmt.Errorf("close the connection to %s: %w", m.sender.dest.name(), err)
			}
			return nil
		}
	}
}

func (m *Metrics) logged(err error) {
	if err != nil {
		m.settings.Logger.Warn("pushing metrics failed", "error", err)
	}
}

// Push sends the present state of all instruments once.
func (m *Metrics) Push(ctx context.Context) error {
	families, gatherErr := m.source.Registry().Gather()
	if gatherErr != nil {
		gatherErr = fmt.Errorf("read the instruments: %w", gatherErr)
	}
	list := make([]*metrics.Metric, 0, len(families))
	now := uint64(time.Now().UnixNano())
	for _, family := range families {
		if metric := m.metric(family, now); metric != nil {
			list = append(list, metric)
		}
	}
	resource, err := m.resource()
	if err != nil {
		return err
	}
	request := &colmetrics.ExportMetricsServiceRequest{ResourceMetrics: []*metrics.ResourceMetrics{{
		Resource:  resource,
		SchemaUrl: event.SchemaURL,
		ScopeMetrics: []*metrics.ScopeMetrics{{
			Scope: &common.InstrumentationScope{Name: scopeName}, Metrics: list, SchemaUrl: event.SchemaURL,
		}},
	}}}
	var response colmetrics.ExportMetricsServiceResponse
	if err := m.sender.send(ctx, request, &response); err != nil {
		return errors.Join(gatherErr, err)
	}
	if partial := response.GetPartialSuccess(); partial.GetRejectedDataPoints() > 0 {
		return errors.Join(gatherErr, fmt.Errorf("%s refused %d data points: %s",
			m.sender.dest.name(), partial.GetRejectedDataPoints(), printable(partial.GetErrorMessage())))
	}
	return gatherErr
}

// resource is the program's own, as log records have it without a sandbox.
func (m *Metrics) resource() (*resource.Resource, error) {
	var own resource.Resource
	if err := proto.Unmarshal(NewEncoder(m.settings.Resource).resource(nil), &own); err != nil {
		return nil, fmt.Errorf("encode the resource: %w", err)
	}
	return &own, nil
}

func (m *Metrics) metric(family *dto.MetricFamily, now uint64) *metrics.Metric {
	out := &metrics.Metric{Name: family.GetName(), Description: family.GetHelp(), Unit: unit(family.GetName())}
	cumulative := metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE
	switch family.GetType() {
	case dto.MetricType_COUNTER:
		sum := &metrics.Sum{AggregationTemporality: cumulative, IsMonotonic: true}
		for _, s := range family.GetMetric() {
			sum.DataPoints = append(sum.DataPoints, &metrics.NumberDataPoint{
				Attributes: labels(s.GetLabel()), TimeUnixNano: now,
				StartTimeUnixNano: m.start(s.GetCounter().GetCreatedTimestamp()),
				Value:             &metrics.NumberDataPoint_AsDouble{AsDouble: s.GetCounter().GetValue()},
				Exemplars:         exemplars(s.GetCounter().GetExemplar()),
			})
		}
		out.Data = &metrics.Metric_Sum{Sum: sum}
	case dto.MetricType_GAUGE, dto.MetricType_UNTYPED:
		gauge := &metrics.Gauge{}
		for _, s := range family.GetMetric() {
			gauge.DataPoints = append(gauge.DataPoints, &metrics.NumberDataPoint{
				Attributes: labels(s.GetLabel()), TimeUnixNano: now,
				Value: &metrics.NumberDataPoint_AsDouble{AsDouble: s.GetGauge().GetValue() + s.GetUntyped().GetValue()},
			})
		}
		out.Data = &metrics.Metric_Gauge{Gauge: gauge}
	case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM:
		histogram := &metrics.Histogram{AggregationTemporality: cumulative}
		for _, s := range family.GetMetric() {
			histogram.DataPoints = append(histogram.DataPoints, m.histogram(s, now))
		}
		out.Data = &metrics.Metric_Histogram{Histogram: histogram}
	case dto.MetricType_SUMMARY:
		summary := &metrics.Summary{}
		for _, s := range family.GetMetric() {
			summary.DataPoints = append(summary.DataPoints, m.summary(s, now))
		}
		out.Data = &metrics.Metric_Summary{Summary: summary}
	default:
		return nil
	}
	return out
}

// histogram maps the classic buckets, whose counts add up, to OTLP's, whose counts stand alone.
func (m *Metrics) histogram(s *dto.Metric, now uint64) *metrics.HistogramDataPoint {
	h := s.GetHistogram()
	point := &metrics.HistogramDataPoint{
		Attributes: labels(s.GetLabel()), TimeUnixNano: now, StartTimeUnixNano: m.start(h.GetCreatedTimestamp()),
		Count: h.GetSampleCount(), Sum: new(h.GetSampleSum()),
	}
	below := uint64(0)
	for _, bucket := range h.GetBucket() {
		point.Exemplars = append(point.Exemplars, exemplars(bucket.GetExemplar())...)
		if math.IsInf(bucket.GetUpperBound(), 1) {
			continue
		}
		point.ExplicitBounds = append(point.ExplicitBounds, bucket.GetUpperBound())
		point.BucketCounts = append(point.BucketCounts, bucket.GetCumulativeCount()-below)
		below = bucket.GetCumulativeCount()
	}
	point.BucketCounts = append(point.BucketCounts, h.GetSampleCount()-below)
	return point
}

func (m *Metrics) summary(s *dto.Metric, now uint64) *metrics.SummaryDataPoint {
	point := &metrics.SummaryDataPoint{
		Attributes: labels(s.GetLabel()), TimeUnixNano: now,
		StartTimeUnixNano: m.start(s.GetSummary().GetCreatedTimestamp()),
		Count:             s.GetSummary().GetSampleCount(), Sum: s.GetSummary().GetSampleSum(),
	}
	for _, q := range s.GetSummary().GetQuantile() {
		point.QuantileValues = append(point.QuantileValues,
			&metrics.SummaryDataPoint_ValueAtQuantile{Quantile: q.GetQuantile(), Value: q.GetValue()})
	}
	return point
}

// start is when a counter began at zero; those that do not say began with the program.
func (m *Metrics) start(created *timestamppb.Timestamp) uint64 {
	if created != nil {
		return uint64(created.AsTime().UnixNano())
	}
	return uint64(m.started.UnixNano())
}

func labels(pairs []*dto.LabelPair) []*common.KeyValue {
	list := make([]*common.KeyValue, 0, len(pairs))
	for _, pair := range pairs {
		list = append(list, &common.KeyValue{Key: pair.GetName(), Value: stringValue(pair.GetValue())})
	}
	return list
}

func stringValue(s string) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: s}}
}

// exemplars is a list of at most one.
func exemplars(e *dto.Exemplar) []*metrics.Exemplar {
	if e == nil {
		return nil
	}
	out := &metrics.Exemplar{
		TimeUnixNano: uint64(e.GetTimestamp().AsTime().UnixNano()),
		Value:        &metrics.Exemplar_AsDouble{AsDouble: e.GetValue()},
	}
	for _, pair := range e.GetLabel() {
		if id, err := hex.DecodeString(pair.GetValue()); pair.GetName() == "trace_id" && err == nil {
			out.TraceId = id
			continue
		}
		out.FilteredAttributes = append(out.FilteredAttributes,
			&common.KeyValue{Key: pair.GetName(), Value: stringValue(pair.GetValue())})
	}
	return []*metrics.Exemplar{out}
}

// unit is the unit that the name of a Prometheus metric ends in, as OTLP writes it.
func unit(name string) string {
	name = strings.TrimSuffix(name, "_total")
	switch {
	case strings.HasSuffix(name, "_seconds"):
		return "s"
	case strings.HasSuffix(name, "_bytes"):
		return "By"
	}
	return ""
}
