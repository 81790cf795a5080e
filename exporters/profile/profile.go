// SPDX-License-Identifier: Apache-2.0

// Package profile says events in the words of other schemas: the Open Cybersecurity Schema Framework (ocsf) and
// the Elastic Common Schema (ecs). Both come from one table (table.go), by the names of the attributes.
//
// It owns that table, and what a kind of event is called in each schema. It must not know any encoding, nor
// leave anything out: what a schema has no field for is kept under its own name, in OCSF's unmapped or below
// watchglass in ECS.
package profile

import (
	"path"
	"strings"
	"time"

	"github.com/watchglass/watchglass/event"
)

// The profiles.
const (
	// OTel is the events as they are.
	OTel = "otel"
	ECS  = "ecs"
	OCSF = "ocsf"
)

// The versions of the schemas, as events say them.
const (
	ECSVersion  = "9.4.0"
	OCSFVersion = "1.8.0"
)

// Names is the profiles there are.
func Names() []string { return []string{OTel, ECS, OCSF} }

// Record is an event as a destination finds it: decoded, with its resource's attributes. One that is used for one event after the
// other (Reset) keeps its memory. It is for use by one goroutine.
type Record struct {
	// Time is when it happened and Observed when the collector read it, in nanoseconds since 1970; 0 when not known.
	Time, Observed int64
	Kind           event.Kind
	Severity       event.Severity
	// Body is the display line.
	Body                 string
	Attributes, Resource []event.Attribute

	// values is the attributes by name, empty where nobody has asked for one yet; mapped those that the schema has a field
	// for; fields is room for those of ECS.
	values map[event.Key]event.Value
	mapped map[event.Key]bool
	fields []Field
}

// Reset empties it for another event.
func (r *Record) Reset() {
	clear(r.values)
	clear(r.fields)
	*r = Record{Attributes: r.Attributes[:0], values: r.values, mapped: r.mapped, fields: r.fields[:0]}
}

// hasField notes that the schema has a field for an attribute.
func (r *Record) hasField(key event.Key) {
	if r.mapped == nil {
		r.mapped = make(map[event.Key]bool, len(r.Attributes)+len(r.Resource))
	}
	r.mapped[key] = true
}

// Mapper says events in the words of other schemas. It is for use by any number of goroutines.
type Mapper struct{ table []mapping }

// NewMapper makes a mapper.
func NewMapper() *Mapper { return &Mapper{table()} }

// Object is an ordered set of named values, each a string, an int64, a float64, a bool, a []string, an
// *Object or an []*Object.
type Object struct {
	Fields []Field
}

// usualFields is how many fields most objects have room for from the start.
const usualFields = 12

// Field is one value of an Object.
type Field struct {
	Name  string
	Value any
}

// Get is the value of that name, nil when there is none.
func (o *Object) Get(name string) any {
	for i := range o.Fields {
		if o.Fields[i].Name == name {
			return o.Fields[i].Value
		}
	}
	return nil
}

// put sets the value at a path like "actor.process.pid", in which "evidences[]" is the first element of a
// list, and says whether it did: a value that is there already stays, so that the table's order says who is first.
func (o *Object) put(where string, value any) bool {
	name, rest, nested := strings.Cut(where, ".")
	if !nested {
		if o.Get(name) != nil {
			return false
		}
		o.Fields = append(o.Fields, Field{name, value})
		return true
	}
	list := strings.HasSuffix(name, "[]")
	name = strings.TrimSuffix(name, "[]")
	switch inner := o.Get(name).(type) {
	case *Object:
		return inner.put(rest, value)
	case []*Object:
		return inner[0].put(rest, value)
	}
	inner := &Object{Fields: make([]Field, 0, usualFields)}
	if list {
		o.Fields = append(o.Fields, Field{name, []*Object{inner}})
	} else {
		o.Fields = append(o.Fields, Field{name, inner})
	}
	return inner.put(rest, value)
}

// plain is an attribute's value as an Object has it.
func plain(v event.Value) any {
	switch v.Kind() {
	case event.ValueString:
		return v.AsString()
	case event.ValueInt:
		return v.AsInt()
	case event.ValueDouble:
		return v.AsDouble()
	case event.ValueBool:
		return v.AsBool()
	case event.ValueStrings:
		return v.AsStrings()
	case event.ValueMap:
		counts := &Object{}
		for _, c := range v.AsCounts() {
			counts.Fields = append(counts.Fields, Field{c.Name, c.N})
		}
		return counts
	case event.ValueInvalid:
	}
	return nil
}

// form is how a schema wants a value.
type form uint8

const (
	asIs form = iota
	// asText makes a number a string.
	asText
	// asMillis makes a time (RFC 3339) milliseconds since 1970.
	asMillis
	// asMillisOf and asNanosOf make seconds milliseconds, and nanoseconds.
	asMillisOf
	asNanosOf
	// asCommand makes arguments a command line that a shell would read as them.
	asCommand
	// asBase and asDirectory take a path's last element, and what is before it.
	asBase
	asDirectory
	// asVersion makes ipv4 and ipv6 their numbers.
	asVersion
)

// in makes the value what the form wants; nil when it cannot.
func (f form) in(v event.Value) any {
	switch f {
	case asIs:
		return plain(v)
	case asText:
		return v.Text()
	case asMillis:
		t, err := time.Parse(time.RFC3339Nano, v.AsString())
		if err != nil {
			return nil
		}
		return t.UnixMilli()
	case asMillisOf:
		return int64(v.AsDouble() * 1e3)
	case asNanosOf:
		return int64(v.AsDouble() * 1e9)
	case asCommand:
		return string((&event.ProcessExec{Args: v.AsStrings()}).AppendBody(nil))
	case asBase:
		return path.Base(v.AsString())
	case asDirectory:
		return path.Dir(v.AsString())
	case asVersion:
		switch v.AsString() {
		case "ipv4":
			return int64(4)
		case "ipv6":
			return int64(6)
		}
	}
	return nil
}

// find is the attribute of that name, an invalid value when there is none. The record's own win.
func (r *Record) find(key event.Key) event.Value {
	if len(r.values) == 0 {
		if r.values == nil {
			r.values = make(map[event.Key]event.Value, len(r.Attributes)+len(r.Resource))
		}
		for _, list := range [][]event.Attribute{r.Resource, r.Attributes} {
			for i := range list {
				r.values[list[i].Key] = list[i].Value
			}
		}
	}
	return r.values[key]
}

// failed says whether the event tells of a failure, ok whether it tells at all.
func (r *Record) failed() (failed, ok bool) {
	switch {
	case r.find(event.ErrorType).Kind() != event.ValueInvalid, r.find(event.ErrorMessage).Kind() != event.ValueInvalid:
		return true, true
	case r.find(event.ToolSuccess).Kind() != event.ValueInvalid:
		return !r.find(event.ToolSuccess).AsBool(), true
	}
	switch r.Kind {
	case event.KindApproval:
		state := event.ApprovalState(r.find(event.ApprovalStateKey).AsString())
		return state == event.ApprovalDenied || state == event.ApprovalExpired, state != event.ApprovalRequested
	case event.KindPolicyDecision:
		decision := event.Decision(r.find(event.PolicyDecisionKey).AsString())
		return decision == event.DecisionDeny, decision != event.DecisionAsk
	case event.KindProcessExec:
		return false, true
	default:
	}
	if strings.HasPrefix(string(r.Kind), "watchglass.file.") || strings.HasPrefix(string(r.Kind), "watchglass.network.") {
		return false, !r.find(event.NetworkAbandoned).AsBool() && !r.find(event.Unfinished).AsBool()
	}
	return false, false
}

// inbound says whether the peer turned to the sandbox, and not the sandbox to the peer.
func (r *Record) inbound() bool {
	switch r.Kind {
	case event.KindNetworkAccept, event.KindNetworkListen, event.KindNetworkBind:
		return true
	default:
		return r.find(event.NetworkInbound).AsBool()
	}
}

// turned is a path of the table, which is written for what the sandbox begins, for what the peer began.
func turned(where string) string {
	for _, pair := range [][2]string{
		{"source.", "destination."},
		{"src_endpoint.", "dst_endpoint."},
		{"traffic.bytes_out", "traffic.bytes_in"},
		{"traffic.packets_out", "traffic.packets_in"},
	} {
		if rest, ok := strings.CutPrefix(where, pair[0]); ok {
			return pair[1] + rest
		}
		if rest, ok := strings.CutPrefix(where, pair[1]); ok {
			return pair[0] + rest
		}
	}
	return where
}

// action is a kind without the prefix that all have.
func action(kind event.Kind) string { return strings.TrimPrefix(string(kind), "watchglass.") }
