// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"encoding/hex"
	"fmt"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// Decode reads an event back from its durable form. It is for showing what was kept, not for speed.
func Decode(e *event.Encoded) (*exporters.Recorded, error) {
	var record logs.LogRecord
	if err := proto.Unmarshal(e.Record, &record); err != nil {
		return nil, fmt.Errorf("decode the log record of event %s-%d: %w", e.Instance, e.Seq, err)
	}
	var res resource.Resource
	if err := proto.Unmarshal(e.Resource, &res); err != nil {
		return nil, fmt.Errorf("decode the resource of event %s-%d: %w", e.Instance, e.Seq, err)
	}
	return &exporters.Recorded{
		Time: time.Unix(0, int64(record.GetTimeUnixNano())), Kind: event.Kind(record.GetEventName()),
		Severity: event.Severity(record.GetSeverityNumber()), Body: record.GetBody().GetStringValue(),
		TraceID: hex.EncodeToString(record.GetTraceId()), SpanID: hex.EncodeToString(record.GetSpanId()),
		Resource: attributes(res.GetAttributes()), Attributes: attributes(record.GetAttributes()),
	}, nil
}

func attributes(list []*common.KeyValue) []event.Attribute {
	decoded := make([]event.Attribute, 0, len(list))
	for _, kv := range list {
		if value := decodeValue(kv.GetValue()); value.Kind() != event.ValueInvalid {
			decoded = append(decoded, event.Attribute{Key: event.Key(kv.GetKey()), Value: value})
		}
	}
	return decoded
}

// decodeValue is the value in the forms that events have; what has another is invalid.
func decodeValue(v *common.AnyValue) event.Value {
	switch v := v.GetValue().(type) {
	case *common.AnyValue_StringValue:
		return event.String(v.StringValue)
	case *common.AnyValue_IntValue:
		return event.Int(v.IntValue)
	case *common.AnyValue_DoubleValue:
		return event.Double(v.DoubleValue)
	case *common.AnyValue_BoolValue:
		return event.Bool(v.BoolValue)
	case *common.AnyValue_ArrayValue:
		list := make([]string, 0, len(v.ArrayValue.GetValues()))
		for _, item := range v.ArrayValue.GetValues() {
			list = append(list, item.GetStringValue())
		}
		return event.Strings(list)
	case *common.AnyValue_KvlistValue:
		counts := make([]event.Count, 0, len(v.KvlistValue.GetValues()))
		for _, kv := range v.KvlistValue.GetValues() {
			counts = append(counts, event.Count{Name: kv.GetKey(), N: kv.GetValue().GetIntValue()})
		}
		return event.Counts(counts)
	default:
		return event.Value{}
	}
}
