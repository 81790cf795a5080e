// SPDX-License-Identifier: Apache-2.0

// Package collector is the pipeline: kernel records in, attributed events, findings and losses out.
//
// It owns the order of the stages (decode, attribute, detect, export), the queues between them and
// their accounting: every event is either exported or counted as lost. It must not know any single
// event kind's fields beyond what attribution needs, any concrete exporter, nor read flags or
// environment variables.
package collector

import (
	"context"

	"github.com/watchglass/watchglass/event"
)

// Detector reads events and reports findings. Its methods are called from one goroutine.
type Detector interface {
	// Rule is the detector's constant declaration; only events of Rule().Kinds are given to Detect.
	Rule() *event.Rule
	// Detect looks at one event. It must not keep e's payload slices beyond its declared memory bound,
	// and must be quick: it runs on the pipeline's goroutine. It reports through report, which fills in
	// the finding's ID, Rule and Evidence where they are empty.
	Detect(e *event.Event, report func(*event.Finding))
	// Forget drops all state of a sandbox that is gone.
	Forget(sandboxID string)
	// Stats is how much the detector remembers. It may be called from any goroutine.
	Stats() event.DetectorStats
}

// Exporter takes every published event, in order, from one goroutine of its own.
type Exporter interface {
	// Name is the exporter's name in metrics and logs, for example "otlp" or "json".
	Name() string
	// Export takes a batch of at least one event. The events are shared and immutable; the slice is
	// only lent. An error means that the whole batch was not delivered, and is counted, unless it has a
	// method Undelivered() int that says how many events were not. An exporter that keeps anything has a method
	// Evicted() uint64, which may be called at any time: how much of it had to go for lack of room.
	Export(ctx context.Context, batch []*event.Event) error
	// An exporter that delivers later, by itself, says what became of events in two more methods:
	// Lost() uint64 is how many it took and gave up since, Notifiers() []event.NotifierStats who was told of them.

	// Shutdown delivers what is buffered and releases everything. It is called once, after the last Export.
	Shutdown(ctx context.Context) error
}
