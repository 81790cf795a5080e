// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"slices"
	"unicode/utf8"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// reference makes records of the generated types: what the encoder is held to, and measured against.
type reference struct {
	program []event.Attribute
	scratch []event.Attribute
	body    []byte
}

// request gathers records under their sandboxes.
type request struct {
	records int
	order   []*logs.ResourceLogs
	by      map[string]*logs.ResourceLogs
}

func newRequest() *request { return &request{by: map[string]*logs.ResourceLogs{}} }

func (r *request) add(res func() *resource.Resource, sandbox *event.Sandbox, record *logs.LogRecord) {
	r.records++
	id := ""
	if sandbox != nil {
		id = sandbox.ID
	}
	group := r.by[id]
	if group == nil {
		group = &logs.ResourceLogs{
			Resource: res(), SchemaUrl: event.SchemaURL,
			ScopeLogs: []*logs.ScopeLogs{{
				Scope: &common.InstrumentationScope{Name: scopeName}, SchemaUrl: event.SchemaURL,
			}},
		}
		r.by[id] = group
		r.order = append(r.order, group)
	}
	group.ScopeLogs[0].LogRecords = append(group.ScopeLogs[0].LogRecords, record)
}

func (r *request) message() *collogs.ExportLogsServiceRequest {
	return &collogs.ExportLogsServiceRequest{ResourceLogs: r.order}
}

// resource makes a sandbox's resource when it is needed.
func (l *reference) resource(sandbox *event.Sandbox) func() *resource.Resource {
	return func() *resource.Resource {
		attributes := slices.Clone(l.program)
		if sandbox != nil {
			attributes = sandbox.AppendAttributes(attributes)
		}
		return &resource.Resource{Attributes: keyValues(attributes, nil)}
	}
}

func (l *reference) record(ev *event.Event) *logs.LogRecord {
	severity := ev.Payload.Severity()
	var escaped []string
	l.body = ev.Payload.AppendBody(l.body[:0])
	body, rewritten := text(string(l.body))
	if rewritten {
		escaped = append(escaped, "body")
	}
	l.scratch = ev.AppendAttributes(l.scratch[:0])
	record := &logs.LogRecord{
		TimeUnixNano:         uint64(max(0, ev.Time.UnixNano())),
		ObservedTimeUnixNano: uint64(max(0, ev.Observed.UnixNano())),
		SeverityNumber:       logs.SeverityNumber(severity),
		SeverityText:         severity.Text(),
		EventName:            string(ev.Kind()),
		Body:                 stringValue(body),
		Attributes:           keyValues(l.scratch, &escaped),
	}
	if len(escaped) > 0 {
		record.Attributes = append(record.Attributes,
			&common.KeyValue{Key: string(event.CaptureEscaped), Value: listValue(escaped)})
	}
	if trace, span := ev.Trace(); trace != [16]byte{} {
		record.TraceId = slices.Clone(trace[:])
		if span != [8]byte{} {
			record.SpanId = slices.Clone(span[:])
		}
	}
	clear(l.scratch)
	return record
}

// keyValues maps attributes to OTLP, and notes in escaped the names of those that had to be rewritten.
func keyValues(attributes []event.Attribute, escaped *[]string) []*common.KeyValue {
	list := make([]*common.KeyValue, 0, len(attributes)+1)
	for _, a := range attributes {
		if a.Value.Kind() == event.ValueInvalid {
			continue
		}
		value, rewritten := anyValue(a.Value)
		key, keyRewritten := text(string(a.Key))
		if escaped != nil && (rewritten || keyRewritten) {
			*escaped = append(*escaped, key)
		}
		list = append(list, &common.KeyValue{Key: key, Value: value})
	}
	return list
}

func anyValue(v event.Value) (*common.AnyValue, bool) {
	switch v.Kind() {
	case event.ValueString:
		s, rewritten := text(v.AsString())
		return stringValue(s), rewritten
	case event.ValueInt:
		return intValue(v.AsInt()), false
	case event.ValueDouble:
		return &common.AnyValue{Value: &common.AnyValue_DoubleValue{DoubleValue: v.AsDouble()}}, false
	case event.ValueBool:
		return &common.AnyValue{Value: &common.AnyValue_BoolValue{BoolValue: v.AsBool()}}, false
	case event.ValueStrings:
		list, rewritten := texts(v.AsStrings())
		return listValue(list), rewritten
	case event.ValueMap:
		counts := v.AsCounts()
		names := make([]string, len(counts))
		for i, c := range counts {
			names[i] = c.Name
		}
		names, rewritten := texts(names)
		values := make([]*common.KeyValue, len(counts))
		for i, c := range counts {
			values[i] = &common.KeyValue{Key: names[i], Value: intValue(c.N)}
		}
		return &common.AnyValue{Value: &common.AnyValue_KvlistValue{KvlistValue: &common.KeyValueList{Values: values}}}, rewritten
	case event.ValueInvalid:
	}
	return &common.AnyValue{}, false
}

func intValue(n int64) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: n}}
}

func listValue(list []string) *common.AnyValue {
	values := make([]*common.AnyValue, len(list))
	for i, s := range list {
		values[i] = stringValue(s)
	}
	return &common.AnyValue{Value: &common.AnyValue_ArrayValue{ArrayValue: &common.ArrayValue{Values: values}}}
}

// text is a string that protobuf accepts, and whether it had to be rewritten.
func text(s string) (string, bool) {
	if utf8.ValidString(s) {
		return s, false
	}
	return string(exporters.AppendRewritten(nil, []byte(s))), true
}

// texts is a list that protobuf accepts. When one of its strings is not UTF-8 then all are rewritten, so
// that the list can be read back in one way only.
func texts(list []string) ([]string, bool) {
	if !slices.ContainsFunc(list, func(s string) bool { return !utf8.ValidString(s) }) {
		return list, false
	}
	rewritten := make([]string, len(list))
	for i, s := range list {
		rewritten[i] = string(exporters.AppendRewritten(nil, []byte(s)))
	}
	return rewritten, true
}
