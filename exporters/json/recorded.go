// SPDX-License-Identifier: Apache-2.0

package json

import (
	"github.com/watchglass/watchglass/exporters"
)

// Lines writes events that were kept, in the form in which Exporter writes them when they happen. It is for
// use by one goroutine.
type Lines struct{ encoder encoder }

// Append appends the event as one line with its newline.
func (l *Lines) Append(dst []byte, r *exporters.Recorded) []byte {
	e := &l.encoder
	e.escaped = e.escaped[:0]
	dst = append(dst, `{"time":"`...)
	dst = r.Time.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000000000Z07:00")
	dst = append(dst, `","event":`...)
	dst = e.appendString(dst, "event", string(r.Kind))
	dst = append(dst, `,"severity":"`...)
	dst = append(dst, r.Severity.Text()...)
	dst = append(dst, `","body":`...)
	dst = e.appendString(dst, "body", r.Body)
	if r.TraceID != "" {
		dst = append(dst, `,"trace_id":`...)
		dst = e.appendString(dst, "trace_id", r.TraceID)
	}
	if r.SpanID != "" {
		dst = append(dst, `,"span_id":`...)
		dst = e.appendString(dst, "span_id", r.SpanID)
	}
	dst = append(dst, `,"resource":`...)
	e.attributes = append(e.attributes[:0], r.Resource...)
	dst = e.appendObject(dst)
	dst = append(dst, `,"attributes":`...)
	e.attributes = append(e.attributes[:0], r.Attributes...)
	dst = e.appendObject(dst)
	clear(e.attributes)
	return append(dst, '}', '\n')
}

// Begins says whether text can be the first bytes of a line that Append made.
func (*Lines) Begins(text []byte) bool {
	const begin = `{"time":"`
	n := min(len(text), len(begin))
	return string(text[:n]) == begin[:n]
}
