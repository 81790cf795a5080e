// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"time"

	"github.com/watchglass/watchglass/collector/journal"
	"github.com/watchglass/watchglass/event"
)

const (
	// recordInterval lets events gather into frames: one for each would be dear in bytes and in time. What kills
	// the collector meanwhile takes them; a finding does not wait.
	recordInterval = 100 * time.Millisecond
	// recordBatch is how many go into the journal at once.
	recordBatch = 2048
	// recordQueue is how many wait for the journal while the disk is slow.
	recordQueue = 2 * DefaultQueueSize
)

// recorder is the exporter that writes every event into the journal.
type recorder struct {
	journal *journal.Journal
	encoder Encoder
	encoded []event.Encoded // their records' memory is used again
}

// Record makes the exporter that writes every event into the journal. The journal stays the caller's to close.
func Record(j *journal.Journal, encoder Encoder) ExporterSettings {
	return ExporterSettings{
		Exporter:  &recorder{journal: j, encoder: encoder, encoded: make([]event.Encoded, recordBatch)},
		BatchSize: recordBatch, FlushInterval: recordInterval, QueueSize: recordQueue,
	}
}

// Name implements Exporter.
func (*recorder) Name() string { return journal.Name }

// Export implements Exporter. It never fails: what the disk does not take the journal holds, or counts as lost.
func (r *recorder) Export(_ context.Context, batch []*event.Event) error {
	if len(r.encoded) < len(batch) {
		r.encoded = append(r.encoded, make([]event.Encoded, len(batch)-len(r.encoded))...)
	}
	var accounted, told uint64
	var losses []*event.Loss
	for i, e := range batch {
		r.encoder.Encode(&r.encoded[i], e)
		r.encoded[i].Place = e.Place
		if loss, ok := e.Payload.(*event.Loss); ok {
			accounted += journal.Accounts(loss)
			told += journal.Tells(loss)
			losses = append(losses, loss)
		}
	}
	r.journal.Append(r.encoded[:len(batch)], accounted)
	r.journal.Told(told)
	for _, loss := range losses {
		r.journal.ToldOfSpans(loss)
	}
	trim(r.encoded[:len(batch)])
	return nil
}

// Shutdown implements Exporter.
func (*recorder) Shutdown(context.Context) error { return nil }

// trim gives back the memory of records beyond what is usual, so that one huge event does not keep its own for ever.
func trim(encoded []event.Encoded) {
	const usual = 64 << 10
	for i := range encoded {
		if cap(encoded[i].Record) > usual {
			encoded[i].Record = nil
		}
	}
}
