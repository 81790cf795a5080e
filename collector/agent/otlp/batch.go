// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
)

// request is a request's body, unpacked.
type request struct {
	signal Signal
	// json is true for OTLP/JSON, false for protobuf.
	json bool
	body []byte
}

// batch is what is in a request, of one of the signals.
type batch interface {
	// records is how many log records, spans or metrics there are.
	records() int
	// translate is what they say.
	translate(t *agent.Translator, from agent.Origin, received time.Time) ([]*agent.Statement, agent.Account)
	// stamped is the request as protobuf with attributes on each resource, in place of what was there by their names.
	stamped(attributes []event.Attribute) ([]byte, error)
}

// decoder is what the requests of the OpenTelemetry libraries have in common.
type decoder interface {
	UnmarshalProto(b []byte) error
	UnmarshalJSON(b []byte) error
}

// decode bounds the body, then decodes it.
func (q *request) decode() (batch, *refusal) {
	g := guard{}
	check := func() error { return g.protobuf(q.body, descriptor(q.signal), 0) }
	if q.json {
		check = func() error { return g.json(q.body) }
	}
	if err := check(); err != nil {
		return nil, malformed(err.Error())
	}
	switch q.signal {
	case Logs:
		logs := plogotlp.NewExportRequest()
		return logBatch{logs}, q.into(logs)
	case Traces:
		traces := ptraceotlp.NewExportRequest()
		return traceBatch{traces}, q.into(traces)
	default:
		metrics := pmetricotlp.NewExportRequest()
		return metricBatch{metrics}, q.into(metrics)
	}
}

func (q *request) into(d decoder) *refusal {
	unmarshal := d.UnmarshalProto
	if q.json {
		unmarshal = d.UnmarshalJSON
	}
	if err := unmarshal(q.body); err != nil {
		const most = 200
		text := err.Error()
		return malformed("cannot be decoded: " + strings.ToValidUTF8(text[:min(len(text), most)], "?"))
	}
	return nil
}

type logBatch struct{ plogotlp.ExportRequest }

func (b logBatch) records() int { return b.Logs().LogRecordCount() }

func (b logBatch) translate(t *agent.Translator, from agent.Origin, received time.Time) ([]*agent.Statement, agent.Account) {
	return t.Logs(b.Logs(), from, received)
}

func (b logBatch) stamped(attributes []event.Attribute) ([]byte, error) {
	for _, r := range b.Logs().ResourceLogs().All() {
		stamp(r.Resource(), attributes)
	}
	return b.MarshalProto()
}

type traceBatch struct{ ptraceotlp.ExportRequest }

func (b traceBatch) records() int { return b.Traces().SpanCount() }

func (b traceBatch) translate(t *agent.Translator, from agent.Origin, received time.Time) ([]*agent.Statement, agent.Account) {
	return t.Traces(b.Traces(), from, received)
}

func (b traceBatch) stamped(attributes []event.Attribute) ([]byte, error) {
	for _, r := range b.Traces().ResourceSpans().All() {
		stamp(r.Resource(), attributes)
	}
	return b.MarshalProto()
}

type metricBatch struct{ pmetricotlp.ExportRequest }

func (b metricBatch) records() int { return b.Metrics().MetricCount() }

func (b metricBatch) translate(t *agent.Translator, _ agent.Origin, _ time.Time) ([]*agent.Statement, agent.Account) {
	return nil, t.Metrics(b.Metrics())
}

func (b metricBatch) stamped(attributes []event.Attribute) ([]byte, error) {
	for _, r := range b.Metrics().ResourceMetrics().All() {
		stamp(r.Resource(), attributes)
	}
	return b.MarshalProto()
}

// ownPrefix begins the names that are ours to give.
const ownPrefix = "watchglass."

// stamp puts attributes on a resource. What the sender put there under these names, or under names of ours, goes.
func stamp(resource pcommon.Resource, attributes []event.Attribute) {
	names := make(map[string]struct{}, len(attributes))
	for _, a := range attributes {
		names[string(a.Key)] = struct{}{}
	}
	resource.Attributes().RemoveIf(func(key string, _ pcommon.Value) bool {
		_, ours := names[key]
		return ours || strings.HasPrefix(key, ownPrefix)
	})
	for _, a := range attributes {
		resource.Attributes().PutStr(string(a.Key), a.Value.Text())
	}
}
