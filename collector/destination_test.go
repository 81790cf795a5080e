// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
)

// plainEncoder makes a record of an event's UID and body.
type plainEncoder struct{}

func (plainEncoder) Encode(to *event.Encoded, e *event.Event) {
	record := append(append(to.Record[:0], e.UID()...), ' ')
	*to = event.Encoded{
		Seq: e.Seq, Instance: e.Instance, Time: e.Time, Kind: e.Kind(), Severity: e.Payload.Severity(),
		Resource: []byte("resource"), Record: e.Payload.AppendBody(record),
	}
	if e.Sandbox != nil {
		to.Sandbox = e.Sandbox.ID
	}
}

// fakeDestination keeps what it was sent. answer, if set, decides.
type fakeDestination struct {
	name    string
	batches [][]string
	answer  func(ctx context.Context, batch []event.Encoded) ([]Rejection, error)
	closed  bool
}

func (d *fakeDestination) Name() string { return d.name }

func (d *fakeDestination) Send(ctx context.Context, batch []event.Encoded) ([]Rejection, error) {
	if d.answer != nil {
		if rejected, err := d.answer(ctx, batch); err != nil || rejected != nil {
			return rejected, err
		}
	}
	var records []string
	for _, e := range batch {
		records = append(records, string(e.Record))
	}
	d.batches = append(d.batches, records)
	return nil, nil
}

func (d *fakeDestination) Shutdown(context.Context) error {
	d.closed = true
	return nil
}

func numbered(n int) []*event.Event {
	events := make([]*event.Event, 0, n)
	for i := range n {
		events = append(events, &event.Event{
			Time: time.Unix(int64(i), 0), Seq: uint64(i + 1), Instance: "inst",
			Payload: &event.FileOpen{Path: fmt.Sprintf("/f%d", i), Access: event.AccessRead},
		})
	}
	return events
}

func TestForwardDeliversInBoundedBatches(t *testing.T) {
	d := &fakeDestination{name: "siem"}
	s := Forward(DestinationSettings{Destination: d, BatchBytes: 60}, plainEncoder{})
	events := numbered(7)
	events[3].Payload = &event.FileOpen{Path: "/" + strings.Repeat("x", 500), Access: event.AccessRead} // more than a batch alone
	if err := s.Exporter.Export(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range d.batches {
		got = append(got, b...)
	}
	for i, record := range got {
		if !strings.HasPrefix(record, fmt.Sprintf("inst-%d ", i+1)) {
			t.Errorf("record %d is %q", i, record)
		}
	}
	if len(got) != 7 || len(d.batches) < 4 {
		t.Errorf("%d records in %d batches", len(got), len(d.batches))
	}
	if err := s.Exporter.Shutdown(t.Context()); err != nil || !d.closed {
		t.Errorf("shutdown: %v, closed %v", err, d.closed)
	}
}

func TestForwardFilters(t *testing.T) {
	d := &fakeDestination{name: "siem"}
	s := Forward(DestinationSettings{
		Destination: d, Wants: func(e *event.Encoded) bool { return e.Seq%2 == 0 },
	}, plainEncoder{})
	if err := s.Exporter.Export(t.Context(), numbered(5)); err != nil {
		t.Fatal(err)
	}
	if len(d.batches) != 1 || len(d.batches[0]) != 2 {
		t.Errorf("got %q", d.batches)
	}
	if err := s.Exporter.Export(t.Context(), numbered(1)); err != nil || len(d.batches) != 1 {
		t.Errorf("nothing to send was sent: %v, %d batches", err, len(d.batches))
	}
}

func TestForwardCountsWhatWasNotDelivered(t *testing.T) {
	gone := errors.New("gone")
	for _, c := range []struct {
		name   string
		answer func(context.Context, []event.Encoded) ([]Rejection, error)
		want   int
	}{
		{"all", func(context.Context, []event.Encoded) ([]Rejection, error) { return nil, gone }, 5},
		{"some", func(context.Context, []event.Encoded) ([]Rejection, error) {
			return []Rejection{{Index: 1, Reason: "too odd"}, {Index: 2, Reason: "too even"}}, nil
		}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := Forward(DestinationSettings{Destination: &fakeDestination{name: "siem", answer: c.answer}}, plainEncoder{})
			err := s.Exporter.Export(t.Context(), numbered(5))
			if n := undelivered(err, 5); n != c.want {
				t.Errorf("%d undelivered, want %d: %v", n, c.want, err)
			}
			if c.want == 5 && !errors.Is(err, gone) {
				t.Errorf("the reason is lost: %v", err)
			}
		})
	}
}

func TestForwardAllocatesNothing(t *testing.T) {
	d := &fakeDestination{name: "siem", answer: func(context.Context, []event.Encoded) ([]Rejection, error) {
		return []Rejection{}, nil
	}}
	s := Forward(DestinationSettings{Destination: d}, quietEncoder{})
	events := numbered(100)
	export := func() {
		if err := s.Exporter.Export(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	export()
	if n := testing.AllocsPerRun(100, export); n > 0 {
		t.Errorf("%v allocations for 100 events", n)
	}
}

// quietEncoder encodes without allocating.
type quietEncoder struct{}

func (quietEncoder) Encode(to *event.Encoded, e *event.Event) {
	*to = event.Encoded{Seq: e.Seq, Instance: e.Instance, Record: append(to.Record[:0], e.Kind()...)}
}
