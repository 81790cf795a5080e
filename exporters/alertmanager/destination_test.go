// SPDX-License-Identifier: Apache-2.0

package alertmanager

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/internal/sample"
	"github.com/watchglass/watchglass/exporters/otlp"
)

func openDestination(t *testing.T, cfg Config) *Destination {
	t.Helper()
	d, err := OpenDestination(cfg, Settings{Resource: sample.Resource(), Logger: slog.New(slog.DiscardHandler)}, otlp.Decode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, d) })
	return d
}

// stop ends a destination, once.
func stop(t *testing.T, d *Destination) {
	t.Helper()
	select {
	case <-d.stopping:
	default:
		if err := d.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// kept is findings as the journal gives them.
func kept(events ...*event.Event) []event.Encoded {
	encoder := otlp.NewEncoder(sample.Resource())
	list := make([]event.Encoded, len(events))
	for i, e := range events {
		e.Instance, e.Seq = "inst", uint64(i+1)
		encoder.Encode(&list[i], e)
	}
	return list
}

func in(state event.FindingState, e *event.Event) *event.Event {
	f, _ := e.Payload.(*event.Finding)
	f.State = state
	return e
}

// sending sends a batch in the background: the answer comes when it is settled.
func sending(t *testing.T, d *Destination, batch []event.Encoded) (<-chan []event.Rejection, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	settled := make(chan []event.Rejection, 1)
	go func() {
		if rejected, err := d.Send(ctx, batch); err == nil {
			settled <- rejected
		}
		close(settled)
	}()
	return settled, cancel
}

func unsettled(t *testing.T, settled <-chan []event.Rejection) {
	t.Helper()
	select {
	case <-settled:
		t.Error("it is settled although nobody took it")
	default:
	}
}

// TestSendWaits: a batch is settled when an Alertmanager knows all of it, whichever, and not while none does.
func TestSendWaits(t *testing.T) {
	t.Parallel()
	am, other := newFake(t), newFake(t)
	down := func([]document) int { return http.StatusInternalServerError }
	am.bid(down)
	other.bid(down)
	d := openDestination(t, config(am.URL, other.URL))
	if d.Name() != "alertmanager" || d.BatchSize() != batchSize || d.Least() != event.SeverityMedium || d.ActiveFor() != 15*time.Minute {
		t.Errorf("%s, %d, %d, %v", d.Name(), d.BatchSize(), d.Least(), d.ActiveFor())
	}
	settled, cancel := sending(t, d, kept(finding("a", event.SeverityHigh), finding("low", event.SeverityLow), finding("b", event.SeverityHigh)))
	defer cancel()
	eventually(t, "both fail", func() bool { s := d.Notifiers(); return s[0].Failed > 0 && s[1].Failed > 0 })
	unsettled(t, settled)
	other.bid(nil)
	if rejected, ok := <-settled; !ok || len(rejected) > 0 {
		t.Errorf("rejected %v", rejected)
	}
	if told := other.told(); len(told) != 2 {
		t.Errorf("told %v", told)
	}
	if d.Lost() != 0 {
		t.Errorf("%d lost", d.Lost())
	}
	am.bid(nil)
	eventually(t, "the other is told when it is back", func() bool { return len(am.told()) >= 2 })
}

// TestSendComesAgainAfterAKill: what is not settled is told by the next start, once more even where it was
// taken at the last moment.
func TestSendComesAgainAfterAKill(t *testing.T) {
	t.Parallel()
	am := newFake(t)
	am.hold = make(chan struct{}) // it takes what it is sent, and does not answer: the collector is killed meanwhile
	d := openDestination(t, config(am.URL))
	batch := kept(finding("a", event.SeverityHigh))
	settled, cancel := sending(t, d, batch)
	eventually(t, "it got it", func() bool { return len(am.told()) == 1 })
	unsettled(t, settled)
	cancel()
	if _, ok := <-settled; ok {
		t.Error("it is settled although nobody answered")
	}
	close(am.hold)
	stop(t, d)
	d = openDestination(t, config(am.URL))
	if rejected, err := d.Send(t.Context(), batch); err != nil || len(rejected) > 0 {
		t.Fatal(rejected, err)
	}
	told := am.told()
	first, again := told[0], told[len(told)-1]
	if len(told) < 2 || fmt.Sprint(first.Labels) != fmt.Sprint(again.Labels) || !first.StartsAt.Equal(again.StartsAt) {
		t.Errorf("another alert: %v and %v", first, again)
	}
}

// TestRefusedFindingIsRejected: what all that answer refuse is rejected with their reason, and holds up nothing else.
func TestRefusedFindingIsRejected(t *testing.T) {
	t.Parallel()
	am, away := newFake(t), newFake(t)
	am.bid(func(list []document) int {
		for _, d := range list {
			if d.Labels["finding"] == "bad" {
				return http.StatusBadRequest
			}
		}
		return http.StatusOK
	})
	away.Close()
	d := openDestination(t, config(am.URL, away.URL))
	batch := kept(finding("a", event.SeverityHigh), finding("bad", event.SeverityHigh), finding("b", event.SeverityHigh))
	batch = append(batch, event.Encoded{Kind: event.KindFinding, Record: []byte("\xff")})
	rejected, err := d.Send(t.Context(), batch)
	if err != nil || len(rejected) != 2 {
		t.Fatalf("rejected %v, %v", rejected, err)
	}
	reasons := map[int]string{}
	for _, r := range rejected {
		reasons[r.Index] = r.Reason
	}
	if reasons[1] == "" || reasons[3] == "" || len(am.told()) != 2 {
		t.Errorf("rejected %v, told %v", rejected, am.told())
	}
	// With a token that ran out nothing is rejected: it waits.
	am.bid(func([]document) int { return http.StatusUnauthorized })
	failed := d.Notifiers()[0].Failed
	settled, cancel := sending(t, d, kept(finding("c", event.SeverityHigh)))
	defer cancel()
	eventually(t, "it fails", func() bool { return d.Notifiers()[0].Failed > failed })
	unsettled(t, settled)
}

// TestRecall: after a restart what is active is told on without being sent again, with the same identity, until its
// time is over; what was resolved meanwhile is resolved.
func TestRecall(t *testing.T) {
	t.Parallel()
	am := newFake(t)
	cfg := config(am.URL)
	cfg.RefreshInterval = time.Second
	history := kept(finding("open", event.SeverityHigh), finding("over", event.SeverityHigh), finding("old", event.SeverityHigh),
		in(event.FindingResolved, finding("over", event.SeverityHigh)), finding("low", event.SeverityLow))
	old := *finding("old", event.SeverityHigh)
	old.Time = time.Now().Add(-cfg.ActiveFor - time.Minute)
	history[2] = kept(&old)[0]
	d := openDestination(t, cfg)
	for i := range history {
		if err := d.Recall(&history[i]); err != nil {
			t.Fatal(err)
		}
	}
	d.wake()
	last := func(id string) (n int, d document) {
		for _, told := range am.told() {
			if told.Labels["finding"] == id {
				n++
				d = told
			}
		}
		return n, d
	}
	ended := func(d document) bool { return !d.EndsAt.After(time.Now()) }
	eventually(t, "the open one is told again, and again", func() bool { n, d := last("open"); return n >= 2 && !ended(d) })
	eventually(t, "the end of the resolved one", func() bool { n, d := last("over"); return n > 0 && ended(d) })
	eventually(t, "the end of the old one", func() bool { n, d := last("old"); return n > 0 && ended(d) })
	if n, _ := last("low"); n > 0 {
		t.Error("a finding of no interest is told")
	}
	if err := d.Recall(&event.Encoded{Kind: event.KindFinding, Record: []byte("\xff")}); err == nil {
		t.Error("garbage is recalled")
	}
	// The end of one that was told before comes by Send.
	if rejected, err := d.Send(t.Context(), kept(in(event.FindingResolved, finding("open", event.SeverityHigh)))); err != nil || len(rejected) > 0 {
		t.Fatal(rejected, err)
	}
	if _, d := last("open"); !ended(d) {
		t.Error("the finding is not resolved")
	}
}

// TestRecalledButNotTold: one that is recalled, whose time is over and that nobody was told of yet is told all the same.
func TestRecalledButNotTold(t *testing.T) {
	t.Parallel()
	am := newFake(t)
	am.bid(func([]document) int { return http.StatusBadGateway })
	cfg := config(am.URL)
	cfg.ActiveFor, cfg.RefreshInterval = 2*time.Second, time.Second
	old := finding("a", event.SeverityHigh)
	old.Time = time.Now().Add(-time.Hour)
	batch := kept(old)
	d := openDestination(t, cfg)
	if err := d.Recall(&batch[0]); err != nil {
		t.Fatal(err)
	}
	settled, cancel := sending(t, d, batch)
	defer cancel()
	eventually(t, "it fails", func() bool { return d.Notifiers()[0].Failed > 1 })
	unsettled(t, settled)
	am.bid(nil)
	if rejected, ok := <-settled; !ok || len(rejected) > 0 {
		t.Fatalf("rejected %v", rejected)
	}
	if told := am.told(); !told[0].EndsAt.After(time.Now()) || !told[0].StartsAt.Before(time.Now().Add(-time.Minute)) {
		t.Errorf("told %+v", told[0])
	}
}

// TestResolvedBeforeItWasTold: of what happened and is over people are told both.
func TestResolvedBeforeItWasTold(t *testing.T) {
	t.Parallel()
	am := newFake(t)
	cfg := config(am.URL)
	cfg.RefreshInterval = time.Second
	d := openDestination(t, cfg)
	batch := kept(finding("a", event.SeverityHigh), in(event.FindingResolved, finding("a", event.SeverityHigh)))
	if rejected, err := d.Send(t.Context(), batch); err != nil || len(rejected) > 0 {
		t.Fatal(rejected, err)
	}
	if told := am.told(); len(told) == 0 || !told[0].EndsAt.After(time.Now()) {
		t.Errorf("told %v", told)
	}
	eventually(t, "its end", func() bool { told := am.told(); return !told[len(told)-1].EndsAt.After(time.Now()) })
}

// TestManyFindings: more findings than there is room for alerts are all told, and the table stays bounded.
func TestManyFindings(t *testing.T) {
	t.Parallel()
	am := newFake(t)
	cfg := config(am.URL)
	cfg.MaxAlerts = 8
	d := openDestination(t, cfg)
	const n = 200
	for i := 0; i < n; i += d.BatchSize() {
		var events []*event.Event
		for k := range d.BatchSize() {
			events = append(events, finding(fmt.Sprint(i+k), event.SeverityHigh))
		}
		if rejected, err := d.Send(t.Context(), kept(events...)); err != nil || len(rejected) > 0 {
			t.Fatal(rejected, err)
		}
		d.mu.Lock()
		if len(d.alerts) > cfg.MaxAlerts || len(d.receivers[0].known) > cfg.MaxAlerts {
			t.Errorf("%d alerts", len(d.alerts))
		}
		d.mu.Unlock()
	}
	seen := map[string]bool{}
	for _, told := range am.told() {
		seen[told.Labels["finding"]] = true
	}
	if len(seen) != n || d.Lost() != 0 {
		t.Errorf("%d of %d told, %d lost", len(seen), n, d.Lost())
	}
}
