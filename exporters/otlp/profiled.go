// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/profile"
)

// profiler says records in the words of another schema. It is not for use by more than one goroutine.
//
// In the profile ecs the record's attributes are the ECS fields under their dotted names, and its body is the
// line for display, as before. In the profile ocsf the body is the OCSF event, a map of maps, and the attributes
// are what dedupes and routes: otel.event.name and log.record.uid. Resource, times, severity, trace and event
// name stay as they are.
type profiler struct {
	name      string
	mapper    *profile.Mapper
	resources lastResource
	// record is the one that is converted, and converted what it becomes: memory that is used again.
	record    profile.Record
	converted []byte
}

// keptBytes is how large a record may be for its memory to be used for the next one.
const keptBytes = 256 << 10

func newProfiler(name string) *profiler {
	if name == "" || name == profile.OTel {
		return nil
	}
	return &profiler{name: name, mapper: profile.NewMapper()}
}

// convert is the record in the profile. Its error says that the record is none.
func (p *profiler) convert(e *event.Encoded) (event.Encoded, error) {
	dst, err := p.decode(e)
	if err != nil {
		return event.Encoded{}, fmt.Errorf("profile %s: %w", p.name, err)
	}
	dst, body := begin(dst, recordBody)
	if p.name == profile.OCSF {
		dst = end(appendObject(dst, p.mapper.OCSF(&p.record)), body)
		for _, key := range []event.Key{event.OtelEventName, event.LogRecordUID} {
			for _, a := range p.record.Attributes {
				if a.Key == key {
					dst = appendField(dst, recordAttributes, profile.Field{Name: string(key), Value: a.Value.AsString()})
				}
			}
		}
	} else {
		dst = end(appendText(dst, valueString, p.record.Body), body)
		for _, f := range p.mapper.ECS(&p.record) {
			dst = appendField(dst, recordAttributes, f)
		}
	}
	converted := *e
	converted.Record = bytes.Clone(dst)
	if p.converted = dst; cap(dst) > keptBytes {
		p.converted = nil // one huge event must not keep its memory for ever
	}
	return converted, nil
}

// decode makes p.record the record as the mapper takes it, and is the fields that stay as they are.
func (p *profiler) decode(e *event.Encoded) ([]byte, error) {
	resource, err := p.resources.parse(e.Resource)
	if err != nil {
		return nil, err
	}
	record, rest := &p.record, p.converted[:0]
	record.Reset()
	record.Time, record.Kind, record.Severity, record.Resource = e.Time.UnixNano(), e.Kind, e.Severity, resource
	err = fields(newMessage(e.Record), func(number protowire.Number, value message, whole []byte, n uint64) error {
		switch number {
		case recordAttributes:
			a, err := parseKeyValue(value)
			record.Attributes = append(record.Attributes, a)
			return err
		case recordBody:
			v, err := parseValue(value)
			record.Body = v.AsString()
			return err
		case recordObserved:
			record.Observed = int64(n)
		default:
		}
		rest = append(rest, whole...)
		return nil
	})
	return rest, err
}

// appendField appends a KeyValue.
func appendField(dst []byte, number protowire.Number, f profile.Field) []byte {
	dst, pair := begin(dst, number)
	dst = appendText(dst, keyValueKey, f.Name)
	dst, value := begin(dst, keyValueValue)
	return end(end(appendAny(dst, f.Value), value), pair)
}

// appendAny appends the contents of an AnyValue.
func appendAny(dst []byte, value any) []byte {
	switch v := value.(type) {
	case string:
		return appendText(dst, valueString, v)
	case int64:
		return appendInt(dst, v)
	case float64:
		return protowire.AppendFixed64(protowire.AppendTag(dst, valueDouble, protowire.Fixed64Type), math.Float64bits(v))
	case bool:
		return protowire.AppendVarint(protowire.AppendTag(dst, valueBool, protowire.VarintType), protowire.EncodeBool(v))
	case []string:
		dst, array := begin(dst, valueArray)
		for _, s := range v {
			var item int
			dst, item = begin(dst, listValues)
			dst = end(appendText(dst, valueString, s), item)
		}
		return end(dst, array)
	case []*profile.Object:
		dst, array := begin(dst, valueArray)
		for _, o := range v {
			var item int
			dst, item = begin(dst, listValues)
			dst = end(appendObject(dst, o), item)
		}
		return end(dst, array)
	case *profile.Object:
		return appendObject(dst, v)
	}
	return dst
}

// appendObject appends the contents of an AnyValue that is a map.
func appendObject(dst []byte, o *profile.Object) []byte {
	dst, list := begin(dst, valueMap)
	for _, f := range o.Fields {
		dst = appendField(dst, listValues, f)
	}
	return end(dst, list)
}
