// SPDX-License-Identifier: Apache-2.0

// Package event is the vocabulary of Watchglass: what happened, to which
// process, in which sandbox, and the attribute names under which it is told.
//
// It owns the attribute names (attr.go), the event kinds and their payloads
// (one file per family), the metadata every event carries (event.go), and the
// plain-data statistics that stages report about themselves (stats.go).
//
// It must not import anything but the standard library, do I/O, or know who
// produces or consumes events. An event enumerates its attributes once, in
// AppendAttributes; every exporter, the JSON form and the documentation read
// that enumeration, so none of them changes when an event gains a field.
package event

//go:generate go run ../internal/gendocs . ../docs/telemetry.md registry.go
