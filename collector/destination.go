// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/watchglass/watchglass/event"
)

// Destination is where events go in their durable form. Its methods are called one after the other.
type Destination interface {
	// Name is the destination's name in cursors, metrics and logs: lower-case letters, digits, "-", "_" and ".".
	Name() string
	// Send delivers the batch of at least one event, and returns when every event of it is delivered or
	// rejected for good: what may still succeed is tried until ctx ends. An error means that nothing can be
	// said of the batch, and it will be sent again. The batch and its bytes are only lent.
	Send(ctx context.Context, batch []event.Encoded) ([]Rejection, error)
	// Shutdown releases everything. It is called once, after the last Send.
	Shutdown(ctx context.Context) error
}

// Rejection is an event that a destination will never take.
type Rejection = event.Rejection

// Encoder makes the durable form of events; *otlp.Encoder is one. It is used from one goroutine.
type Encoder interface {
	// Encode sets every field of to. The record is appended to to.Record[:0], whose memory is used again;
	// the resource's bytes are shared between events and must not be changed.
	Encode(to *event.Encoded, e *event.Event)
}

// DestinationSettings is one destination and what it is fed.
type DestinationSettings struct {
	Destination Destination
	// Wants says whether an event is for this destination; nil means all are.
	Wants func(e *event.Encoded) bool
	// Least is the least severity of what Wants chooses, losses and canaries excepted; it saves reading the rest.
	Least event.Severity
	// Oldest has a destination that is new begin with the oldest event of the journal, and not with what comes from
	// now on.
	Oldest bool
	// Spans has it fed with spans, and with no events.
	Spans bool
	// BatchSize is the most events of one Send, 0 means DefaultBatchSize; BatchBytes the most bytes of their
	// records and resources, unless one alone has more, 0 means DefaultBatchBytes.
	BatchSize, BatchBytes int
	// FlushInterval is for how long a batch that is not full may be held back.
	FlushInterval time.Duration
	// Delivered is told of every batch that the destination has taken or refused; nil for nobody.
	Delivered func(destination string, batch []event.Encoded)
}

// DefaultBatchBytes keeps a request well below the 4 MiB that gRPC servers take.
const DefaultBatchBytes = 2 << 20

func (s *DestinationSettings) setDefaults() {
	if s.BatchSize == 0 {
		s.BatchSize = DefaultBatchSize
	}
	if s.BatchBytes == 0 {
		s.BatchBytes = DefaultBatchBytes
	}
}

// deliveries is the account of one destination.
type deliveries struct{ delivered, rejected, filtered atomic.Uint64 }

// forwarder is a destination fed from memory: the pump of a collector without a journal. What its queue has
// no room for while the destination is away is lost, and counted by the queue.
type forwarder struct {
	settings DestinationSettings
	encoder  Encoder

	deliveries
	encoded []event.Encoded // their records' memory is used again
	batch   []event.Encoded
}

// Forward makes the exporter that feeds a destination without a journal between them.
func Forward(s DestinationSettings, encoder Encoder) ExporterSettings {
	s.setDefaults()
	return ExporterSettings{
		Exporter:  &forwarder{settings: s, encoder: encoder},
		BatchSize: s.BatchSize, FlushInterval: s.FlushInterval,
	}
}

// Name implements Exporter.
func (f *forwarder) Name() string { return f.settings.Destination.Name() }

// Export implements Exporter. Its error says how many events were rejected, or that ctx ended.
func (f *forwarder) Export(ctx context.Context, batch []*event.Event) error {
	if len(f.encoded) < len(batch) {
		f.encoded = append(f.encoded, make([]event.Encoded, len(batch)-len(f.encoded))...)
	}
	var failed *shortfall
	f.batch = f.batch[:0]
	size := 0
	for i, e := range batch {
		to := &f.encoded[i]
		f.encoder.Encode(to, e)
		if f.settings.Wants != nil && !f.settings.Wants(to) {
			f.filtered.Add(1)
			continue
		}
		n := len(to.Record) + len(to.Resource)
		if len(f.batch) > 0 && size+n > f.settings.BatchBytes {
			failed = failed.add(f.send(ctx))
			size = 0
		}
		f.batch = append(f.batch, *to)
		size += n
	}
	failed = failed.add(f.send(ctx))
	trim(f.encoded)
	clear(f.batch[:cap(f.batch)])
	if failed == nil {
		return nil
	}
	return failed
}

// send delivers what was gathered and says how much of it was not.
func (f *forwarder) send(ctx context.Context) (int, error) {
	n := len(f.batch)
	if n == 0 {
		return 0, nil
	}
	defer func() { f.batch = f.batch[:0] }()
	rejected, err := f.settings.Destination.Send(ctx, f.batch)
	if err != nil {
		return n, fmt.Errorf("send to %s: %w", f.Name(), err)
	}
	f.delivered.Add(uint64(n - len(rejected)))
	f.rejected.Add(uint64(len(rejected)))
	if len(rejected) == 0 {
		return 0, nil
	}
	return len(rejected), fmt.Errorf("%s rejected %d of %d events: %s", f.Name(), len(rejected), n, rejected[0].Reason)
}

// Shutdown implements Exporter.
func (f *forwarder) Shutdown(ctx context.Context) error {
	if err := f.settings.Destination.Shutdown(ctx); err != nil {
		return fmt.Errorf("shut %s down: %w", f.Name(), err)
	}
	return nil
}

// shortfall is the error of a batch that was delivered in part.
type shortfall struct {
	events int
	errs   []error
}

// add adds what one send did not deliver. A shortfall of nil is none.
func (s *shortfall) add(events int, err error) *shortfall {
	if err == nil {
		return s
	}
	if s == nil {
		s = &shortfall{}
	}
	s.events += events
	s.errs = append(s.errs, err)
	return s
}

// Error implements error.
func (s *shortfall) Error() string { return errors.Join(s.errs...).Error() }

// Unwrap gives the reasons.
func (s *shortfall) Unwrap() []error { return s.errs }

// Undelivered is how many events of the batch did not arrive.
func (s *shortfall) Undelivered() int { return s.events }
