// SPDX-License-Identifier: Apache-2.0

package json

import (
	"encoding/hex"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// encoder appends events to a buffer. It keeps its scratch space, so that it allocates nothing once warm.
type encoder struct {
	resource   []event.Attribute
	attributes []event.Attribute
	body       []byte
	value      []byte
	text       []byte
	// rewrite is true while the strings of a list are written of which one is not UTF-8: then all are
	// rewritten, so that the list can be read back in one way only.
	rewrite bool
	// escaped is the names of what was not UTF-8 in the event being written.
	escaped []string
}

func newEncoder(resource []event.Attribute) encoder {
	return encoder{resource: append([]event.Attribute(nil), resource...)}
}

// append appends the event as one line with its newline.
func (e *encoder) append(dst []byte, ev *event.Event) []byte {
	e.escaped = e.escaped[:0]
	dst = append(dst, `{"time":"`...)
	dst = ev.Time.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000000000Z07:00")
	dst = append(dst, `","event":`...)
	dst = e.appendString(dst, "event", string(ev.Kind()))
	dst = append(dst, `,"severity":"`...)
	dst = append(dst, ev.Payload.Severity().Text()...)
	dst = append(dst, `","body":`...)
	e.body = ev.Payload.AppendBody(e.body[:0])
	dst = e.appendBytes(dst, "body", e.body)
	dst = appendTrace(dst, ev)
	dst = append(dst, `,"resource":`...)
	e.attributes = append(e.attributes[:0], e.resource...)
	if ev.Sandbox != nil {
		e.attributes = ev.Sandbox.AppendAttributes(e.attributes)
	}
	dst = e.appendObject(dst)
	dst = append(dst, `,"attributes":`...)
	e.attributes = ev.AppendAttributes(e.attributes[:0])
	dst = e.appendObject(dst)
	if len(e.escaped) > 0 {
		dst = dst[:len(dst)-1] // the event's own attributes come first, so there is always one before
		dst = append(dst, ',')
		dst = e.appendAttribute(dst, event.Attribute{Key: event.CaptureEscaped, Value: event.Strings(e.escaped)})
		dst = append(dst, '}')
	}
	clear(e.attributes)
	return append(dst, '}', '\n')
}

func appendTrace(dst []byte, ev *event.Event) []byte {
	trace, span := ev.Trace()
	if trace == [16]byte{} {
		return dst
	}
	dst = append(dst, `,"trace_id":"`...)
	dst = hex.AppendEncode(dst, trace[:])
	dst = append(dst, '"')
	if span == [8]byte{} {
		return dst
	}
	dst = append(dst, `,"span_id":"`...)
	dst = hex.AppendEncode(dst, span[:])
	return append(dst, '"')
}

// appendObject appends e.attributes.
func (e *encoder) appendObject(dst []byte) []byte {
	dst = append(dst, '{')
	first := true
	for _, a := range e.attributes {
		if a.Value.Kind() == event.ValueInvalid {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = e.appendAttribute(dst, a)
	}
	return append(dst, '}')
}

func (e *encoder) appendAttribute(dst []byte, a event.Attribute) []byte {
	name := string(a.Key)
	dst = e.appendString(dst, name, name)
	dst = append(dst, ':')
	switch a.Value.Kind() {
	case event.ValueString:
		e.value = a.Value.AppendString(e.value[:0])
		return e.appendBytes(dst, name, e.value)
	case event.ValueInt:
		return strconv.AppendInt(dst, a.Value.AsInt(), 10)
	case event.ValueDouble:
		return appendDouble(dst, a.Value.AsDouble())
	case event.ValueBool:
		return strconv.AppendBool(dst, a.Value.AsBool())
	case event.ValueStrings:
		e.rewrite = slices.ContainsFunc(a.Value.AsStrings(), invalid)
		dst = append(dst, '[')
		for i, s := range a.Value.AsStrings() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = e.appendString(dst, name, s)
		}
		e.rewrite = false
		return append(dst, ']')
	case event.ValueMap:
		e.rewrite = slices.ContainsFunc(a.Value.AsCounts(), func(c event.Count) bool { return invalid(c.Name) })
		dst = append(dst, '{')
		for i, c := range a.Value.AsCounts() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = e.appendString(dst, name, c.Name)
			dst = append(dst, ':')
			dst = strconv.AppendInt(dst, c.N, 10)
		}
		e.rewrite = false
		return append(dst, '}')
	case event.ValueInvalid:
	}
	return append(dst, "null"...)
}

// appendDouble appends a number; what JSON has no number for becomes a string.
func appendDouble(dst []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(dst, `"-Infinity"`...)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

// appendString appends s quoted, and notes name where s had to be rewritten.
func (e *encoder) appendString(dst []byte, name, s string) []byte {
	if plain(s) { // without a backslash, so it is the same rewritten
		return appendQuoted(dst, s)
	}
	e.value = append(e.value[:0], s...)
	return e.appendBytes(dst, name, e.value)
}

// appendQuoted appends what needs no escape.
func appendQuoted[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

func (e *encoder) appendBytes(dst []byte, name string, s []byte) []byte {
	if plain(s) {
		return appendQuoted(dst, s)
	}
	if e.rewrite || !utf8.Valid(s) {
		e.note(name)
		e.text = exporters.AppendRewritten(e.text[:0], s)
		s = e.text
	}
	dst = append(dst, '"')
	dst = appendEscaped(dst, s)
	return append(dst, '"')
}

func (e *encoder) note(name string) {
	if !slices.Contains(e.escaped, name) {
		e.escaped = append(e.escaped, name)
	}
}

func invalid(s string) bool { return !utf8.ValidString(s) }

// Of a word of eight bytes: each byte 1, and each byte's highest bit.
const ones, highs = 0x0101010101010101, 0x8080808080808080

// zeros says, by what is not 0, whether a byte of a word is 0. See Hacker's Delight, "Find First 0-Byte".
func zeros(word uint64) uint64 { return (word - ones) &^ word & highs }

// plain says whether s needs no escape at all, as nearly all strings do not.
func plain[T string | []byte](s T) bool {
	for ; len(s) >= 8; s = s[8:] {
		word := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		control := (word - 0x20*ones) &^ word & highs
		if word&highs|control|zeros(word^'"'*ones)|zeros(word^'\\'*ones)|zeros(word^0x7f*ones) != 0 {
			return false
		}
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// appendEscaped appends valid UTF-8 with JSON's escapes.
func appendEscaped(dst, s []byte) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < 0x7f {
			if c == '"' || c == '\\' {
				dst = append(dst, '\\')
			}
			dst = append(dst, c)
			i++
			continue
		}
		r, size := utf8.DecodeRune(s[i:])
		switch {
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case !exporters.Visible(r):
			dst = appendUnicode(dst, r)
		default:
			dst = append(dst, s[i:i+size]...)
		}
		i += size
	}
	return dst
}

// appendUnicode appends \uNNNN, twice for characters beyond the basic plane.
func appendUnicode(dst []byte, r rune) []byte {
	if r >= 0x10000 {
		r -= 0x10000
		dst = appendUnicode(dst, 0xd800+r>>10)
		r = 0xdc00 + r&0x3ff
	}
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', digits[r>>12&0xf], digits[r>>8&0xf], digits[r>>4&0xf], digits[r&0xf])
}
