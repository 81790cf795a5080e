// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

var errMalformed = errors.New("not an OTLP message")

// Decode reads an event back from its durable form, for showing what was kept.
func Decode(e *event.Encoded) (*exporters.Recorded, error) {
	r := &exporters.Recorded{Time: time.Unix(0, 0)}
	err := fields(e.Record, func(number protowire.Number, value, _ []byte, n uint64) error {
		switch number {
		case recordTime:
			r.Time = time.Unix(0, int64(n))
		case recordSeverity:
			r.Severity = event.Severity(n)
		case recordEventName:
			r.Kind = event.Kind(value)
		case recordTraceID:
			r.TraceID = hex.EncodeToString(value)
		case recordSpanID:
			r.SpanID = hex.EncodeToString(value)
		case recordBody:
			v, err := parseValue(value)
			r.Body = v.AsString()
			return err
		case recordAttributes:
			a, err := parseKeyValue(value)
			if a.Value.Kind() != event.ValueInvalid { // one that no event has
				r.Attributes = append(r.Attributes, a)
			}
			return err
		default:
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("decode the log record of event %s-%d: %w", e.Instance, e.Seq, err)
	}
	if r.Resource, err = parseResource(e.Resource); err != nil {
		return nil, fmt.Errorf("decode the resource of event %s-%d: %w", e.Instance, e.Seq, err)
	}
	return r, nil
}

func parseResource(message []byte) ([]event.Attribute, error) {
	var attributes []event.Attribute
	err := fields(message, func(number protowire.Number, value, _ []byte, _ uint64) error {
		if number != resourceAttributes {
			return nil
		}
		a, err := parseKeyValue(value)
		attributes = append(attributes, a)
		return err
	})
	return attributes, err
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
		default:
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
		default:
		}
		return nil
	})
	return v, err
}
