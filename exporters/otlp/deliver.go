// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	collogs "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/watchglass/watchglass/event"
)

const (
	// maxRequestBytes keeps requests below the 4 MiB that gRPC servers take by default.
	maxRequestBytes = 2 << 20
	// leastRequestBytes is what every server takes: one that calls less too large means something else.
	leastRequestBytes = 16 << 10
	// maxProbes bounds how many records of a Send are sent again to find out which ones a partial success refused.
	maxProbes = 2048
	// samples is how many single records are tried to find out whether a destination takes anything at all.
	samples = 4
	// controlInterval is for how long a control record is good; maxControlBytes bounds it.
	controlInterval = time.Minute
	maxControlBytes = 64 << 10
)

// parcel is some records of a batch, and their places in it.
type parcel struct {
	records []event.Encoded
	places  []int
}

func whole(batch []event.Encoded) parcel {
	places := make([]int, len(batch))
	for i := range places {
		places[i] = i
	}
	return parcel{batch, places}
}

func (p parcel) part(from, to int) parcel { return parcel{p.records[from:to], p.places[from:to]} }

// halves is the parcel in two, the first of which is not empty.
func (p parcel) halves() (parcel, parcel) {
	middle := (len(p.records) + 1) / 2
	return p.part(0, middle), p.part(middle, len(p.records))
}

// without is the parcel without the record at that index.
func (p parcel) without(at int) parcel {
	return parcel{
		slices.Concat(p.records[:at], p.records[at+1:]), slices.Concat(p.places[:at], p.places[at+1:]),
	}
}

// delivery is one Send: it takes a batch apart until each record is delivered or rejected.
//
// A record is rejected only on evidence: the destination blames it when it is sent alone, and takes others.
// A destination that refuses everything has another problem, and the records wait for its end.
type delivery struct {
	*Logs
	rejected []event.Rejection
	// last is the last failure of which the destination, and not the end of ctx, was the cause.
	last *attemptError
	// probes is how many records may still be sent again after a partial success.
	probes int
}

// profiled is the batch in the destination's profile. What is no record is rejected.
func (d *delivery) profiled(batch []event.Encoded) parcel {
	if d.profiler == nil {
		return whole(batch)
	}
	var p parcel
	for i := range batch {
		converted, err := d.profiler.convert(&batch[i])
		if err != nil {
			d.rejected = append(d.rejected, event.Rejection{Index: i, Reason: err.Error()})
			continue
		}
		p.records, p.places = append(p.records, converted), append(p.places, i)
	}
	return p
}

// deliver delivers or rejects every record of p, in requests within the limit. Its error says that ctx ended.
func (d *delivery) deliver(ctx context.Context, p parcel) error {
	for len(p.records) > 0 {
		n := d.fits(p.records)
		if err := d.request(ctx, p.part(0, n)); err != nil {
			return err
		}
		p = p.part(n, len(p.records))
	}
	return nil
}

// fits is how many of the records one request holds, at least one.
func (d *delivery) fits(records []event.Encoded) int {
	const overhead = 16 // tags and lengths
	size := 0
	var resource []byte
	for i := range records {
		r := &records[i]
		size += len(r.Record) + overhead
		if !bytes.Equal(resource, r.Resource) {
			resource = r.Resource
			size += len(resource) + overhead
		}
		if i > 0 && size > d.limit {
			return i
		}
	}
	return len(records)
}

func (d *delivery) request(ctx context.Context, p parcel) error {
	partial, failed, err := d.persist(ctx, p)
	if err != nil {
		return err
	}
	if failed == nil {
		return d.partial(ctx, p, partial)
	}
	return d.dispute(ctx, p, failed)
}

// dispute finds out what a destination that refused p for good means by it.
func (d *delivery) dispute(ctx context.Context, p parcel, failed *attemptError) error {
	if size := d.size(p); failed.verdict == tooLarge && size > leastRequestBytes {
		if len(p.records) == 1 {
			d.reject(p, fmt.Sprintf("too large for the destination: a request of %d bytes: %s: let the server take larger ones", size, failed))
			return nil
		}
		d.limit = max(leastRequestBytes, min(d.limit, size/2))
		first, second := p.halves()
		if err := d.deliver(ctx, first); err != nil {
			return err
		}
		return d.deliver(ctx, second)
	}
	if len(p.records) == 1 {
		if works, err := d.works(ctx); err != nil {
			return err
		} else if works {
			d.reject(p, failed.Error())
			return nil
		}
		return d.sample(ctx, p, failed)
	}
	if d.control.Record == nil {
		return d.sample(ctx, p, failed)
	}
	first, second := p.halves()
	if err := d.request(ctx, first); err != nil {
		return err
	}
	return d.request(ctx, second)
}

// works sends the control record again, if there is one: the destination took it once, so that its answer
// tells of the destination and not of the record.
func (d *delivery) works(ctx context.Context) (bool, error) {
	if d.control.Record == nil {
		return false, nil
	}
	partial, failed, err := d.persist(ctx, whole([]event.Encoded{d.control}))
	return err == nil && failed == nil && partial.GetRejectedLogRecords() <= 0, err
}

// sample looks for a record of p that the destination takes, and goes on from there. While it takes none, p
// waits: what refuses everything is misconfigured, or broken, and not the records' fault.
func (d *delivery) sample(ctx context.Context, p parcel, failed *attemptError) error {
	waits := pauses{retry: d.cfg.Retry}
	for {
		if n := len(p.records); n > 1 {
			for range samples {
				at := rand.IntN(n) //nolint:gosec // so that no choice of poison can always be met
				partial, refusal, err := d.persist(ctx, p.part(at, at+1))
				if err != nil {
					return err
				}
				if refusal != nil {
					continue
				}
				if err := d.partial(ctx, p.part(at, at+1), partial); err != nil {
					return err
				}
				return d.deliver(ctx, p.without(at))
			}
		}
		d.trouble.failed(failed, &d.cfg.Destination)
		if !pause(ctx, waits.next(failed)) {
			return d.ended(ctx)
		}
		partial, again, err := d.persist(ctx, p)
		if err != nil {
			return err
		}
		if again == nil {
			return d.partial(ctx, p, partial)
		}
		failed = again
	}
}

// persist sends p until the destination takes it, or refuses it in a way that waiting does not change. Its
// error says that ctx ended before.
func (d *delivery) persist(ctx context.Context, p parcel) (*collogs.ExportLogsPartialSuccess, *attemptError, error) {
	waits := pauses{retry: d.cfg.Retry}
	for {
		partial, failed := d.attempt(ctx, p)
		if failed == nil {
			d.trouble.over()
			d.taken(p, partial)
			return partial, nil, nil
		}
		if ctx.Err() == nil {
			d.last = failed
		}
		if failed.verdict != later && failed.verdict != blocked {
			return nil, failed, nil
		}
		if ctx.Err() == nil {
			d.trouble.failed(failed, &d.cfg.Destination)
		}
		if !pause(ctx, waits.next(failed)) {
			return nil, nil, d.ended(ctx)
		}
	}
}

// ended is the error of a delivery that ctx cut short: why it had not succeeded until then.
func (d *delivery) ended(ctx context.Context) error {
	if d.last == nil {
		return fmt.Errorf("stopped before the destination answered: %w", ctx.Err())
	}
	return fmt.Errorf("%w%s", d.last, remedy(d.last, d.cfg.Destination))
}

func (d *delivery) attempt(ctx context.Context, p parcel) (*collogs.ExportLogsPartialSuccess, *attemptError) {
	d.body = d.assembler.Append(d.body[:0], p.records)
	reply, failed := attempt(ctx, d.transport, &d.cfg.Destination, d.body)
	if d.cfg.Compression == CompressionNone && d.cfg.Protocol == ProtocolGRPC {
		d.body = nil // it was handed over as it is, and may be read still
	}
	if failed != nil {
		return nil, failed
	}
	var response collogs.ExportLogsServiceResponse
	if err := proto.Unmarshal(reply, &response); err != nil {
		return nil, &attemptError{verdict: blocked, err: fmt.Errorf("the answer is not OTLP: %w", err)}
	}
	return response.GetPartialSuccess(), nil
}

// taken keeps a record that the destination took, as the control: see works.
func (d *delivery) taken(p parcel, partial *collogs.ExportLogsPartialSuccess) {
	now := time.Now()
	if partial.GetRejectedLogRecords() > 0 || d.control.Record != nil && now.Sub(d.controlAt) < controlInterval {
		return
	}
	for i := range p.records {
		if r := &p.records[i]; len(r.Record) <= maxControlBytes {
			d.control = event.Encoded{Resource: r.Resource, Record: bytes.Clone(r.Record)}
			d.controlAt = now
			return
		}
	}
}

// partial finds the records that a partial success refused, which tells only how many they are: it sends
// halves again and sees how many of each are refused. What was taken is there twice then; log.record.uid
// tells. Beyond the bound on that it rejects as many as were refused, without knowing which.
func (d *delivery) partial(ctx context.Context, p parcel, partial *collogs.ExportLogsPartialSuccess) error {
	refused := partial.GetRejectedLogRecords()
	if refused <= 0 {
		return nil // a warning at most: the records are taken
	}
	reason := printable(partial.GetErrorMessage())
	n := int64(len(p.records))
	if refused >= n {
		d.reject(p, reason)
		return nil
	}
	first, second := p.halves()
	if d.probes < len(first.records) {
		d.reject(p.part(0, int(refused)), fmt.Sprintf("this or another one of %d records that were sent together: %s", n, reason))
		return nil
	}
	d.probes -= len(first.records)
	again, failed, err := d.persist(ctx, first)
	if err != nil {
		return err
	}
	if failed != nil {
		return d.dispute(ctx, first, failed)
	}
	if err := d.partial(ctx, first, again); err != nil {
		return err
	}
	rest := refused - max(0, again.GetRejectedLogRecords())
	return d.partial(ctx, second, &collogs.ExportLogsPartialSuccess{
		RejectedLogRecords: rest, ErrorMessage: partial.GetErrorMessage(),
	})
}

func (d *delivery) reject(p parcel, reason string) {
	for _, place := range p.places {
		d.rejected = append(d.rejected, event.Rejection{Index: place, Reason: reason})
	}
}

// size is the size of a request with the records.
func (d *delivery) size(p parcel) int {
	d.body = d.assembler.Append(d.body[:0], p.records)
	return len(d.body)
}
