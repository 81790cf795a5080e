// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/watchglass/watchglass/event"
)

// ExporterSettings is one exporter and how it is fed.
type ExporterSettings struct {
	Exporter Exporter
	// Accepts says which events are for it; the others do not get into its queue. Nil accepts all.
	Accepts func(*event.Event) bool
	// QueueSize is how many events may wait for it; 0 means DefaultQueueSize.
	QueueSize int
	// WhenFull says what happens beyond that.
	WhenFull WhenFull
	// BatchSize is the most events of one Export; 0 means DefaultBatchSize.
	BatchSize int
	// FlushInterval is for how long a batch that is not full may be held back; 0 hands events on at once.
	FlushInterval time.Duration
}

// The sizes of an exporter's queue and batches where the settings do not say.
const (
	DefaultQueueSize = 65536
	DefaultBatchSize = 1024
)

// complaintInterval is how often the failures of one exporter are logged.
const complaintInterval = 30 * time.Second

// output is an exporter with its queue and its account.
type output struct {
	settings ExporterSettings
	queue    *queue
	log      *slog.Logger

	exported, failed atomic.Uint64
	// lost is failed without reports of losses: they must not feed on themselves.
	lost     atomic.Uint64
	complain time.Time
	// measure is told of every batch that was exported; nil for nobody.
	measure func(exporter string, batch []*event.Event)
	// canary is when the exporter last took a canary, in seconds since 1970.
	canary atomic.Int64

	done chan struct{} // closed when the exporter is shut down
	err  error         // of that; read it after done
}

func newOutput(s ExporterSettings, log *slog.Logger) *output {
	if s.QueueSize == 0 {
		s.QueueSize = DefaultQueueSize
	}
	if s.BatchSize == 0 {
		s.BatchSize = DefaultBatchSize
	}
	return &output{settings: s, queue: newQueue(s.QueueSize, s.WhenFull), log: log, done: make(chan struct{})}
}

// run exports until the queue is closed and empty, or ctx ends, then shuts the exporter down.
// What ctx leaves behind is counted as failed.
func (o *output) run(ctx context.Context) error {
	batch := make([]*event.Event, 0, o.settings.BatchSize)
	for {
		var open bool
		batch, open = o.queue.pull(batch[:0], o.settings.BatchSize)
		if !open {
			break
		}
		o.export(ctx, batch)
		clear(batch)
		o.pause(ctx, len(batch))
	}
	if err := o.settings.Exporter.Shutdown(ctx); err != nil {
		return fmt.Errorf("shutting exporter %s down: %w", o.settings.Exporter.Name(), err)
	}
	return nil
}

// pause lets a batch gather, unless the last one was full: then more is waiting. A finding waits for nobody: as
// long as it is in memory alone, a crash takes it.
func (o *output) pause(ctx context.Context, last int) {
	if o.settings.FlushInterval == 0 || last == o.settings.BatchSize {
		return
	}
	timer := time.NewTimer(o.settings.FlushInterval)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-o.queue.urgent:
	case <-o.queue.ending:
	case <-ctx.Done():
	}
}

func (o *output) export(ctx context.Context, batch []*event.Event) {
	err := o.settings.Exporter.Export(ctx, batch)
	if err == nil {
		o.exported.Add(uint64(len(batch)))
		o.noteCanary(batch)
		if o.measure != nil {
			o.measure(o.settings.Exporter.Name(), batch)
		}
		return
	}
	failed := undelivered(err, len(batch))
	o.exported.Add(uint64(len(batch) - failed))
	o.failed.Add(uint64(failed))
	lost := 0
	for _, e := range batch {
		if e.Kind() != event.KindLoss {
			lost++
		}
	}
	o.lost.Add(uint64(min(lost, failed)))
	if now := time.Now(); now.Sub(o.complain) >= complaintInterval && !errors.Is(err, context.Canceled) {
		o.complain = now
		o.log.Error("events could not be exported", "exporter", o.settings.Exporter.Name(),
			"events", failed, "failed_in_total", o.failed.Load(), "error", err)
	}
}

// undelivered is how many of n events an error of Export is about: all, unless it says how many.
func undelivered(err error, n int) int {
	if part, ok := errors.AsType[interface {
		error
		Undelivered() int
	}](err); ok {
		return min(max(part.Undelivered(), 0), n)
	}
	return n
}

func (o *output) stats() event.ExporterStats {
	waiting, dropped := o.queue.state()
	var evicted uint64
	if e, ok := o.settings.Exporter.(interface{ Evicted() uint64 }); ok {
		evicted = e.Evicted()
	}
	return event.ExporterStats{
		Evicted: evicted,
		Name:    o.settings.Exporter.Name(), Exported: o.exported.Load(), Failed: o.failed.Load(),
		Dropped: dropped, Queued: waiting, Capacity: o.settings.QueueSize,
	}
}
