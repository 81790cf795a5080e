// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"math"
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// The fields of OTLP's messages that are written here, by message (opentelemetry-proto v1.11). The numbers
// are part of a stable protocol; the tests hold them to the generated types.
const (
	recordTime, recordObserved, recordEventName                         protowire.Number = 1, 11, 12
	recordSeverity, recordSeverityText, recordBody, recordAttributes    protowire.Number = 2, 3, 5, 6
	recordTraceID, recordSpanID                                         protowire.Number = 9, 10
	resourceAttributes                                                  protowire.Number = 1
	keyValueKey, keyValueValue                                          protowire.Number = 1, 2
	valueString, valueBool, valueInt, valueDouble, valueArray, valueMap protowire.Number = 1, 2, 3, 4, 5, 6
	listValues                                                          protowire.Number = 1
)

// Encoder turns events into their durable form: OTLP's messages, appended field by field. Making them of the
// generated types costs some seven times as much, for the one thing that is done to every event whatever
// becomes of it. Once warm it allocates nothing. It is not for use by more than one goroutine.
type Encoder struct {
	program    []event.Attribute
	attributes []event.Attribute
	// raw is a string that is being rewritten; escaped is the names of what was, as the items of an array.
	raw, escaped []byte
	resources    resources
}

// NewEncoder makes an encoder. The attributes are the program's own, part of every resource: service.*, host.*.
func NewEncoder(program []event.Attribute) *Encoder {
	return &Encoder{program: slices.Clone(program)}
}

// Encode sets every field of to. The record is appended to to.Record[:0], whose memory is used again; the
// resource's bytes are shared by the records of a sandbox and never change.
func (e *Encoder) Encode(to *event.Encoded, ev *event.Event) {
	severity := ev.Payload.Severity()
	*to = event.Encoded{
		Seq: ev.Seq, Instance: ev.Instance, Time: ev.Time, Kind: ev.Kind(), Severity: severity, Session: ev.Session(),
		Resource: e.resource(ev.Sandbox), Record: e.appendRecord(to.Record[:0], ev, severity),
	}
	if ev.Sandbox != nil {
		to.Sandbox = ev.Sandbox.ID
	}
}

func (e *Encoder) appendRecord(dst []byte, ev *event.Event, severity event.Severity) []byte {
	e.escaped = e.escaped[:0]
	dst = appendTime(dst, recordTime, ev.Time.UnixNano())
	dst = protowire.AppendVarint(protowire.AppendTag(dst, recordSeverity, protowire.VarintType), uint64(severity))
	dst = appendText(dst, recordSeverityText, severity.Text())
	dst = e.appendBody(dst, ev.Payload)
	e.attributes = ev.AppendAttributes(e.attributes[:0])
	for i := range e.attributes {
		dst = e.appendAttribute(dst, recordAttributes, &e.attributes[i])
	}
	clear(e.attributes) // it must not keep the event's strings alive
	if len(e.escaped) > 0 {
		dst = appendEscapedNames(dst, e.escaped)
	}
	if trace, span := ev.Trace(); trace != [16]byte{} {
		dst = append(protowire.AppendTag(dst, recordTraceID, protowire.BytesType), byte(len(trace)))
		dst = append(dst, trace[:]...)
		if span != [8]byte{} {
			dst = append(protowire.AppendTag(dst, recordSpanID, protowire.BytesType), byte(len(span)))
			dst = append(dst, span[:]...)
		}
	}
	dst = appendTime(dst, recordObserved, ev.Observed.UnixNano())
	return appendText(dst, recordEventName, string(ev.Kind()))
}

func (e *Encoder) appendBody(dst []byte, payload event.Payload) []byte {
	dst, body := begin(dst, recordBody)
	dst, line := begin(dst, valueString)
	dst, rewritten := e.valid(payload.AppendBody(dst), line, false)
	if rewritten {
		e.note([]byte("body"))
	}
	return end(end(dst, line), body)
}

// appendAttribute appends a KeyValue as the field of that number. An attribute without a value is left out.
func (e *Encoder) appendAttribute(dst []byte, number protowire.Number, a *event.Attribute) []byte {
	if a.Value.Kind() == event.ValueInvalid {
		return dst
	}
	dst, pair := begin(dst, number)
	dst, name := begin(dst, keyValueKey)
	dst, rewrittenName := e.valid(append(dst, a.Key...), name, false)
	nameEnd := len(dst)
	dst = end(dst, name)
	name += len(dst) - nameEnd // a long name was moved to make room for its length
	nameEnd = len(dst)
	dst, value := begin(dst, keyValueValue)
	dst, rewritten := e.appendValue(dst, &a.Value)
	dst = end(dst, value)
	if rewritten || rewrittenName {
		e.note(dst[name:nameEnd])
	}
	return end(dst, pair)
}

// appendValue appends the contents of an AnyValue, and says whether strings of it had to be rewritten.
func (e *Encoder) appendValue(dst []byte, v *event.Value) ([]byte, bool) {
	switch v.Kind() {
	case event.ValueString:
		dst, s := begin(dst, valueString)
		dst, rewritten := e.valid(v.AppendString(dst), s, false)
		return end(dst, s), rewritten
	case event.ValueInt:
		return appendInt(dst, v.AsInt()), false
	case event.ValueDouble:
		dst = protowire.AppendTag(dst, valueDouble, protowire.Fixed64Type)
		return protowire.AppendFixed64(dst, math.Float64bits(v.AsDouble())), false
	case event.ValueBool:
		dst = protowire.AppendTag(dst, valueBool, protowire.VarintType)
		return protowire.AppendVarint(dst, protowire.EncodeBool(v.AsBool())), false
	case event.ValueStrings:
		return e.appendStrings(dst, v)
	case event.ValueMap:
		return e.appendCounts(dst, v)
	case event.ValueInvalid:
	}
	return dst, false
}

// appendStrings appends a list. When one of its strings is not UTF-8 then all are rewritten, so that the list
// can be read back in one way only.
func (e *Encoder) appendStrings(dst []byte, v *event.Value) ([]byte, bool) {
	rewrite := e.rewrite(v)
	dst, array := begin(dst, valueArray)
	for i := range v.Len() {
		var item, text int
		dst, item = begin(dst, listValues)
		dst, text = begin(dst, valueString)
		dst, _ = e.valid(v.AppendItem(dst, i), text, rewrite)
		dst = end(end(dst, text), item)
	}
	return end(dst, array), rewrite
}

func (e *Encoder) appendCounts(dst []byte, v *event.Value) ([]byte, bool) {
	rewrite := e.rewrite(v)
	dst, list := begin(dst, valueMap)
	for i := range v.Len() {
		var pair, name, value int
		dst, pair = begin(dst, listValues)
		dst, name = begin(dst, keyValueKey)
		dst, _ = e.valid(v.AppendItem(dst, i), name, rewrite)
		dst = end(dst, name)
		dst, value = begin(dst, keyValueValue)
		dst = end(appendInt(dst, v.Number(i)), value)
		dst = end(dst, pair)
	}
	return end(dst, list), rewrite
}

// rewrite says whether one of the strings of a list or map is not UTF-8.
func (e *Encoder) rewrite(v *event.Value) bool {
	for i := range v.Len() {
		e.raw = v.AppendItem(e.raw[:0], i)
		if !utf8.Valid(e.raw) {
			return true
		}
	}
	return false
}

// valid makes what was appended to dst since at a string that protobuf takes: one that is not UTF-8 makes a
// receiver refuse the whole request, and with it other sandboxes' events. It says whether it rewrote, which
// it also does when it is told to.
func (e *Encoder) valid(dst []byte, at int, rewrite bool) ([]byte, bool) {
	if !rewrite && utf8.Valid(dst[at:]) {
		return dst, false
	}
	e.raw = append(e.raw[:0], dst[at:]...)
	return exporters.AppendRewritten(dst[:at], e.raw), true
}

// note keeps the name of what was rewritten, as an item of the array that tells them.
func (e *Encoder) note(name []byte) {
	dst, item := begin(e.escaped, listValues)
	dst = protowire.AppendBytes(protowire.AppendTag(dst, valueString, protowire.BytesType), name)
	e.escaped = end(dst, item)
}

// appendEscapedNames appends the attribute event.CaptureEscaped.
func appendEscapedNames(dst, items []byte) []byte {
	dst, pair := begin(dst, recordAttributes)
	dst = appendText(dst, keyValueKey, string(event.CaptureEscaped))
	dst, value := begin(dst, keyValueValue)
	dst, array := begin(dst, valueArray)
	dst = append(dst, items...)
	return end(end(end(dst, array), value), pair)
}

// appendInt appends the contents of an AnyValue.
func appendInt(dst []byte, n int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, valueInt, protowire.VarintType), uint64(n))
}

// appendTime appends nanoseconds since 1970; what is before is not known.
func appendTime(dst []byte, number protowire.Number, nanoseconds int64) []byte {
	if nanoseconds <= 0 {
		return dst
	}
	return protowire.AppendFixed64(protowire.AppendTag(dst, number, protowire.Fixed64Type), uint64(nanoseconds))
}

// appendText appends a string that is valid as it is.
func appendText(dst []byte, number protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(dst, number, protowire.BytesType), s)
}

// begin starts a field whose length is not known yet: it leaves one byte for it, which is enough for nearly
// all. The contents start at the index that it returns, and end with end.
func begin(dst []byte, number protowire.Number) ([]byte, int) {
	dst = append(protowire.AppendTag(dst, number, protowire.BytesType), 0)
	return dst, len(dst)
}

// end writes the length of the field that began before at, and moves the contents where it needs more room.
func end(dst []byte, at int) []byte {
	n := len(dst) - at
	if n < 0x80 {
		dst[at-1] = byte(n)
		return dst
	}
	var room [9]byte
	more := protowire.SizeVarint(uint64(n)) - 1
	dst = append(dst, room[:more]...)
	copy(dst[at+more:], dst[at:at+n])
	protowire.AppendVarint(dst[:at-1], uint64(n)) // into the room just made
	return dst
}

// maxResources is how many resources a generation of the cache holds.
const maxResources = 2048

// resources is the encoded resources of the sandboxes in use. When the new generation is full it becomes the
// old one, whose entries are forgotten unless they are used again: to forget one costs no more than to encode
// it anew. Sandboxes are immutable, so their address is their identity.
type resources struct {
	recent, old map[*event.Sandbox][]byte
}

func (e *Encoder) resource(sandbox *event.Sandbox) []byte {
	r := &e.resources
	if encoded, ok := r.recent[sandbox]; ok {
		return encoded
	}
	encoded, ok := r.old[sandbox]
	if !ok {
		encoded = e.encodeResource(sandbox)
	}
	if r.recent == nil || len(r.recent) >= maxResources {
		r.recent, r.old = make(map[*event.Sandbox][]byte), r.recent
	}
	r.recent[sandbox] = encoded
	return encoded
}

func (e *Encoder) encodeResource(sandbox *event.Sandbox) []byte {
	attributes := slices.Clone(e.program)
	if sandbox != nil {
		attributes = sandbox.AppendAttributes(attributes)
	}
	e.escaped = e.escaped[:0] // a resource has no place to tell them
	var dst []byte
	for i := range attributes {
		dst = e.appendAttribute(dst, resourceAttributes, &attributes[i])
	}
	return slices.Clip(dst)
}
