// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
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
	return new(Decoder).Decode(e)
}

// Decoder reads one event after the other back from their durable form, and leaves little garbage. It is used from one
// goroutine.
type Decoder struct {
	recorded  exporters.Recorded
	resources lastResource
}

// Decode is Decode with a result that is good until the next call.
func (d *Decoder) Decode(e *event.Encoded) (*exporters.Recorded, error) {
	resource, err := d.resources.parse(e.Resource)
	if err != nil {
		return nil, fmt.Errorf("decode the resource of event %s-%d: %w", e.Instance, e.Seq, err)
	}
	r := &d.recorded
	*r = exporters.Recorded{Time: time.Unix(0, 0), Resource: resource, Attributes: r.Attributes[:0]}
	err = fields(newMessage(e.Record), func(number protowire.Number, value message, _ []byte, n uint64) error {
		switch number {
		case recordTime:
			r.Time = time.Unix(0, int64(n))
		case recordSeverity:
			r.Severity = event.Severity(n)
		case recordEventName:
			r.Kind = event.Kind(value.text)
		case recordTraceID:
			r.TraceID = hex.EncodeToString(value.bytes)
		case recordSpanID:
			r.SpanID = hex.EncodeToString(value.bytes)
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
	return r, nil
}

// message is the bytes of a message, once as they come and once as a string, of which the texts in it are parts: one allocation
// is made for all of them.
type message struct {
	bytes []byte
	text  string
}

func newMessage(b []byte) message { return message{b, string(b)} }

// lastResource keeps the attributes of the resource that was parsed last: those of many events in a row are the same.
type lastResource struct {
	bytes      []byte
	attributes []event.Attribute
}

// parse is the attributes of an encoded resource, which are not to be changed.
func (l *lastResource) parse(resource []byte) ([]event.Attribute, error) {
	if l.attributes == nil || !bytes.Equal(l.bytes, resource) {
		attributes, err := parseResource(resource)
		if err != nil {
			return nil, err
		}
		l.bytes, l.attributes = bytes.Clone(resource), attributes
	}
	return l.attributes, nil
}

func parseResource(resource []byte) ([]event.Attribute, error) {
	var attributes []event.Attribute
	err := fields(newMessage(resource), func(number protowire.Number, value message, _ []byte, _ uint64) error {
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
func fields(m message, f func(number protowire.Number, value message, whole []byte, n uint64) error) error {
	for len(m.bytes) > 0 {
		number, kind, tag := protowire.ConsumeTag(m.bytes)
		if tag < 0 {
			return errMalformed
		}
		contents := m.bytes[tag:]
		var value message
		var n uint64
		var size int
		switch kind {
		case protowire.BytesType:
			value.bytes, size = protowire.ConsumeBytes(contents)
		case protowire.Fixed64Type:
			n, size = protowire.ConsumeFixed64(contents)
		case protowire.VarintType:
			n, size = protowire.ConsumeVarint(contents)
		default:
			size = protowire.ConsumeFieldValue(number, kind, contents)
		}
		if size < 0 {
			return errMalformed
		}
		end := tag + size
		// The contents are what the field ends with.
		value.text = m.text[end-len(value.bytes) : end]
		whole := m.bytes[:end]
		m = message{m.bytes[end:], m.text[end:]}
		if err := f(number, value, whole, n); err != nil {
			return err
		}
	}
	return nil
}

func parseKeyValue(m message) (event.Attribute, error) {
	var a event.Attribute
	err := fields(m, func(number protowire.Number, value message, _ []byte, _ uint64) error {
		var err error
		switch number {
		case keyValueKey:
			a.Key = event.Key(value.text)
		case keyValueValue:
			a.Value, err = parseValue(value)
		default:
		}
		return err
	})
	return a, err
}

// parseValue is the value of an AnyValue of one of the forms that Encoder makes.
func parseValue(m message) (event.Value, error) {
	var v event.Value
	err := fields(m, func(number protowire.Number, value message, _ []byte, n uint64) error {
		switch number {
		case valueString:
			v = event.String(value.text)
		case valueBool:
			v = event.Bool(n != 0)
		case valueInt:
			v = event.Int(int64(n))
		case valueDouble:
			v = event.Double(math.Float64frombits(n))
		case valueArray:
			list := []string{}
			err := fields(value, func(_ protowire.Number, item message, _ []byte, _ uint64) error {
				s, err := parseValue(item)
				list = append(list, s.AsString())
				return err
			})
			v = event.Strings(list)
			return err
		case valueMap:
			counts := []event.Count{}
			err := fields(value, func(_ protowire.Number, pair message, _ []byte, _ uint64) error {
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
