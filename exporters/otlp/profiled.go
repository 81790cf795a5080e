// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"errors"
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
	name   string
	mapper *profile.Mapper
	// resource and attributes are the last resource and what it holds: records of a sandbox come together.
	resource   []byte
	attributes []event.Attribute
}

func newProfiler(name string) *profiler {
	if name == "" || name == profile.OTel {
		return nil
	}
	return &profiler{name: name, mapper: profile.NewMapper()}
}

var errMalformed = errors.New("the record is not an OTLP log record")

// convert is the record in the profile. Its error says that the record is none.
func (p *profiler) convert(e *event.Encoded) (event.Encoded, error) {
	record, rest, err := p.decode(e)
	if err != nil {
		return event.Encoded{}, fmt.Errorf("profile %s: %w", p.name, err)
	}
	converted := *e
	if p.name == profile.OCSF {
		dst, body := begin(rest, recordBody)
		dst = end(appendObject(dst, p.mapper.OCSF(record)), body)
		for _, key := range []event.Key{event.OtelEventName, event.LogRecordUID} {
			for _, a := range record.Attributes {
				if a.Key == key {
					dst = appendField(dst, recordAttributes, profile.Field{Name: string(key), Value: a.Value.AsString()})
				}
			}
		}
		converted.Record = dst
		return converted, nil
	}
	dst, body := begin(rest, recordBody)
	dst = end(appendText(dst, valueString, record.Body), body)
	for _, f := range p.mapper.ECS(record) {
		dst = appendField(dst, recordAttributes, f)
	}
	converted.Record = dst
	return converted, nil
}

// decode is the record as the mapper takes it, and a new slice with the fields that stay as they are.
func (p *profiler) decode(e *event.Encoded) (*profile.Record, []byte, error) {
	if p.attributes == nil || !bytes.Equal(p.resource, e.Resource) {
		var attributes []event.Attribute
		err := fields(e.Resource, func(number protowire.Number, value, _ []byte, _ uint64) error {
			if number != resourceAttributes {
				return nil
			}
			a, err := parseKeyValue(value)
			attributes = append(attributes, a)
			return err
		})
		if err != nil {
			return nil, nil, err
		}
		p.resource, p.attributes = bytes.Clone(e.Resource), attributes
	}
	record := &profile.Record{Time: e.Time.UnixNano(), Kind: e.Kind, Severity: e.Severity, Resource: p.attributes}
	rest := make([]byte, 0, 2*len(e.Record))
	err := fields(e.Record, func(number protowire.Number, value, whole []byte, n uint64) error {
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
		}
		rest = append(rest, whole...)
		return nil
	})
	return record, rest, err
}

// fields calls f for each field of a message: with its contents where it has a length, else with its number,
// and with all of its bytes.
func fields(message []byte, f func(number protowire.Number, value, whole []byte, n uint64) error) error {
	for len(message) > 0 {
		number, kind, tag := protowire.ConsumeTag(message)
		if tag < 0 {
			return errMalformed
		}
		size := protowire.ConsumeFieldValue(number, kind, message[tag:])
		if size < 0 {
			return errMalformed
		}
		whole, contents := message[:tag+size], message[tag:tag+size]
		message = message[tag+size:]
		var value []byte
		var n uint64
		switch kind {
		case protowire.BytesType:
			value, _ = protowire.ConsumeBytes(contents)
		case protowire.Fixed64Type:
			n, _ = protowire.ConsumeFixed64(contents)
		case protowire.VarintType:
			n, _ = protowire.ConsumeVarint(contents)
		default:
		}
		if err := f(number, value, whole, n); err != nil {
			return err
		}
	}
	return nil
}

func parseKeyValue(message []byte) (event.Attribute, error) {
	var a event.Attribute
	err := fields(message, func(number protowire.Number, value, _ []byte, _ uint64) error {
		var err error
		switch number {
		case keyValueKey:
			a.Key = event.Key(value)
		case keyValueValue:
			a.Value, err = parseValue(value)
		}
		return err
	})
	return a, err
}

// parseValue is the value of an AnyValue of one of the forms that Encoder makes.
func parseValue(message []byte) (event.Value, error) {
	var v event.Value
	err := fields(message, func(number protowire.Number, value, _ []byte, n uint64) error {
		switch number {
		case valueString:
			v = event.String(string(value))
		case valueBool:
			v = event.Bool(n != 0)
		case valueInt:
			v = event.Int(int64(n))
		case valueDouble:
			v = event.Double(math.Float64frombits(n))
		case valueArray:
			list := []string{}
			err := fields(value, func(_ protowire.Number, item, _ []byte, _ uint64) error {
				s, err := parseValue(item)
				list = append(list, s.AsString())
				return err
			})
			v = event.Strings(list)
			return err
		case valueMap:
			counts := []event.Count{}
			err := fields(value, func(_ protowire.Number, pair, _ []byte, _ uint64) error {
				a, err := parseKeyValue(pair)
				counts = append(counts, event.Count{Name: string(a.Key), N: a.Value.AsInt()})
				return err
			})
			v = event.Counts(counts)
			return err
		}
		return nil
	})
	return v, err
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
