// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"errors"
	"fmt"
	"slices"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// Logs sends every event as a log record. Its methods are called from one goroutine.
type Logs struct {
	sender   *sender
	settings Settings
	scratch  []event.Attribute
	body     []byte
}

func logsSignal() signal {
	return signal{
		name: "logs", method: collogs.LogsService_Export_FullMethodName,
		response: func() proto.Message { return &collogs.ExportLogsServiceResponse{} },
		rejected: func(m proto.Message) (int64, string) {
			response, _ := m.(*collogs.ExportLogsServiceResponse)
			partial := response.GetPartialSuccess()
			return partial.GetRejectedLogRecords(), partial.GetErrorMessage()
		},
	}
}

// OpenLogs prepares to send. It does not connect: a destination that is down at the start may come up later.
func OpenLogs(cfg Config, s Settings) (*Logs, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("otlp exporter: %w", err)
	}
	sender, err := newSender(logsSignal(), cfg.logs(), cfg.Retry)
	if err != nil {
		return nil, err
	}
	return &Logs{sender: sender, settings: s}, nil
}

// Name implements collector.Exporter.
func (*Logs) Name() string { return "otlp" }

// Export sends the batch in one or more requests and returns when each was taken or given up. Its error
// is an *exporters.UndeliveredError.
func (l *Logs) Export(ctx context.Context, batch []*event.Event) error {
	var errs []error
	lost, size := 0, 0
	request := newRequest()
	send := func() {
		if err := l.sender.send(ctx, request.message()); err != nil {
			if rejected, ok := errors.AsType[*RejectedError](err); ok {
				lost += int(min(rejected.Items, int64(request.records)))
			} else {
				lost += request.records
			}
			errs = append(errs, err)
		}
		request, size = newRequest(), 0
	}
	for _, ev := range batch {
		record := l.record(ev)
		n := proto.Size(record)
		if size > 0 && size+n > maxRequestBytes {
			send()
		}
		request.add(l.resource(ev.Sandbox), ev.Sandbox, record)
		size += n
	}
	send()
	if len(errs) == 0 {
		return nil
	}
	return &exporters.UndeliveredError{Events: lost, Err: errors.Join(errs...)}
}

// Shutdown implements collector.Exporter; everything is sent already.
func (l *Logs) Shutdown(context.Context) error {
	if err := l.sender.transport.close(); err != nil {
		return fmt.Errorf("close the connection to %s: %w", l.sender.dest.name(), err)
	}
	return nil
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
func (l *Logs) resource(sandbox *event.Sandbox) func() *resource.Resource {
	return func() *resource.Resource {
		attributes := slices.Clone(l.settings.Resource)
		if sandbox != nil {
			attributes = sandbox.AppendAttributes(attributes)
		}
		return &resource.Resource{Attributes: keyValues(attributes, nil)}
	}
}

func (l *Logs) record(ev *event.Event) *logs.LogRecord {
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

func stringValue(s string) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: s}}
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
