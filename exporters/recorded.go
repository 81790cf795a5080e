// SPDX-License-Identifier: Apache-2.0

package exporters

import (
	"time"

	"github.com/watchglass/watchglass/event"
)

// Recorded is an event as it was kept: everything that was told of it, without the payload that it was made
// from. What was not UTF-8 when it was made is rewritten as AppendRewritten says, as the attribute
// watchglass.capture.escaped tells.
type Recorded struct {
	// Time is when it happened.
	Time time.Time
	Kind event.Kind
	// Severity is its severity.
	Severity event.Severity
	// Body is the display line.
	Body string
	// TraceID and SpanID are of the agent's span, in lower-case hexadecimal; "" when not known.
	TraceID, SpanID string
	// Resource and Attributes are what was told, in the order in which it was told.
	Resource, Attributes []event.Attribute
}

// Attribute is the value of the first attribute of this name, and whether there is one.
func (r *Recorded) Attribute(key event.Key) (event.Value, bool) {
	return find(r.Attributes, key)
}

// Of is the value of the first resource attribute of this name, and whether there is one.
func (r *Recorded) Of(key event.Key) (event.Value, bool) {
	return find(r.Resource, key)
}

func find(attributes []event.Attribute, key event.Key) (event.Value, bool) {
	for i := range attributes {
		if attributes[i].Key == key {
			return attributes[i].Value, true
		}
	}
	return event.Value{}, false
}
