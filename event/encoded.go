// SPDX-License-Identifier: Apache-2.0

package event

import "time"

// KindSpan is what an Encoded is that is no event: its Record is an opentelemetry.proto.trace.v1.Span, which is made of
// events for who wants traces.
const KindSpan Kind = "watchglass.span"

// Encoded is an event in its durable form: what the journal stores and every destination sends. The bytes
// are protobuf messages of OTLP (opentelemetry.proto.resource.v1.Resource, …logs.v1.LogRecord); nobody but
// exporters looks into them. What else is here is what queues, filters and local history choose by.
type Encoded struct {
	// Seq is the event's number, unique and growing per Instance.
	Seq uint64
	// Instance is the start of the collector that made it.
	Instance string
	Time     time.Time
	Kind     Kind
	Severity Severity
	// Sandbox and Session are ids; "" when there is none.
	Sandbox, Session string
	// Place is the event's, by which a record that is read again after a crash is known.
	Place Place
	// Resource and Record are the encoded messages. Records of one sandbox share their Resource's bytes.
	Resource, Record []byte
}

// Rejection is an event of a batch that a destination will never take.
type Rejection struct {
	// Index is the event's place in the batch.
	Index int
	// Reason is why, in the destination's words made printable.
	Reason string
}
