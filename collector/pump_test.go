// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchglass/watchglass/collector/journal"
	"github.com/watchglass/watchglass/event"
)

// openJournal opens a small journal.
func openJournal(t *testing.T, dir, instance string) *journal.Journal {
	t.Helper()
	cfg := journal.DefaultConfig()
	cfg.Dir, cfg.Sync = dir, journal.SyncNever
	j, err := journal.Open(cfg, journal.Settings{Instance: instance, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// siem is a destination that remembers which events it took.
type siem struct {
	mu     sync.Mutex
	taken  map[string]int
	answer func(batch []event.Encoded) ([]Rejection, error)
	closed atomic.Bool
}

func (*siem) Name() string { return "siem" }

func (s *siem) Send(_ context.Context, batch []event.Encoded) ([]Rejection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rejected []Rejection
	if s.answer != nil {
		var err error
		if rejected, err = s.answer(batch); err != nil {
			return nil, err
		}
	}
	refused := map[int]bool{}
	for _, r := range rejected {
		refused[r.Index] = true
	}
	for i := range batch {
		if !refused[i] {
			s.taken[fmt.Sprintf("%s-%d", batch[i].Instance, batch[i].Seq)]++
		}
	}
	return rejected, nil
}

func (s *siem) Shutdown(context.Context) error {
	s.closed.Store(true)
	return nil
}

func (s *siem) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.taken)
}

// pumping runs a pump over a journal until stop.
func pumping(t *testing.T, j *journal.Journal, s DestinationSettings) (*Pump, func()) {
	t.Helper()
	p, err := NewPump(j, s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	return p, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came that %s", what)
		}
	}
}

// keep puts events into the journal as the pipeline does.
func keep(t *testing.T, j *journal.Journal, events []*event.Event) {
	t.Helper()
	exporter := Record(j, plainEncoder{}).Exporter
	if err := exporter.Export(t.Context(), events); err != nil {
		t.Fatal(err)
	}
}

func TestPumpDelivers(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, "inst")
	s := &siem{taken: map[string]int{}}
	p, stop := pumping(t, j, DestinationSettings{Destination: s, BatchSize: 7})
	keep(t, j, numbered(100))
	until(t, "all is delivered", func() bool { return s.count() == 100 })
	stop()
	if got := p.Stats(); got.Delivered != 100 || got.Rejected != 0 || got.Filtered != 0 {
		t.Errorf("%+v", got)
	}
	if !s.closed.Load() {
		t.Error("the destination is not shut down")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	// What was delivered does not come again after an orderly end.
	j = openJournal(t, dir, "next")
	_, stop = pumping(t, j, DestinationSettings{Destination: s})
	events := numbered(3)
	for _, e := range events {
		e.Instance = "next"
	}
	keep(t, j, events)
	until(t, "what is new is delivered", func() bool { return s.count() == 103 })
	stop()
	for uid, n := range s.taken {
		if n != 1 {
			t.Errorf("%s came %d times", uid, n)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestPumpSendsAgain(t *testing.T) {
	j := openJournal(t, t.TempDir(), "inst")
	failures := 1
	s := &siem{taken: map[string]int{}}
	s.answer = func([]event.Encoded) ([]Rejection, error) {
		if failures > 0 {
			failures--
			return nil, errors.New("gone")
		}
		return nil, nil
	}
	_, stop := pumping(t, j, DestinationSettings{Destination: s})
	keep(t, j, numbered(5))
	until(t, "all is delivered", func() bool { return s.count() == 5 })
	stop()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPumpSurvivesADestinationThatIsAway: nothing is lost while it is, and all of it comes after a restart.
func TestPumpSurvivesADestinationThatIsAway(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, "inst")
	away := &siem{taken: map[string]int{}, answer: func([]event.Encoded) ([]Rejection, error) { return nil, errors.New("refused") }}
	_, stop := pumping(t, j, DestinationSettings{Destination: away})
	keep(t, j, numbered(500))
	until(t, "it lags", func() bool { return j.Stats().Cursors[0].Lag == 500 && j.Stats().Cursors[0].LagAge > 0 })
	stop()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = openJournal(t, dir, "next")
	back := &siem{taken: map[string]int{}}
	_, stop = pumping(t, j, DestinationSettings{Destination: back})
	until(t, "all is delivered", func() bool { return back.count() == 500 })
	until(t, "nothing lags", func() bool { return j.Stats().Cursors[0].Lag == 0 })
	stop()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestPumpQuarantinesWhatIsRejected(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, "inst")
	s := &siem{taken: map[string]int{}}
	s.answer = func(batch []event.Encoded) ([]Rejection, error) {
		var rejected []Rejection
		for i := range batch {
			if batch[i].Seq%10 == 0 {
				rejected = append(rejected, Rejection{Index: i, Reason: "it ends with a zero"})
			}
		}
		return append(rejected, Rejection{Index: len(batch) + 5}), nil // a destination may be mad
	}
	p, stop := pumping(t, j, DestinationSettings{
		Destination: s, Wants: func(e *event.Encoded) bool { return e.Seq <= 60 },
	})
	events := numbered(100)
	events[49].Payload = &event.Loss{Stage: event.LossRing, Lost: "file", Count: 1, Reason: "ring_full"} // number 50
	keep(t, j, events)
	until(t, "all is settled", func() bool { return p.Stats().Filtered == 40 && p.Stats().Rejected == 6 })
	stop()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got := p.Stats(); got.Delivered+got.Rejected != 60 {
		t.Errorf("%+v", got)
	}
	// A rejected report of a loss is not lost again, or it would go on for ever.
	if l := p.Losses(); len(l) != 1 || l[0].Count != 5 || l[0].Lost != "siem" || l[0].Reason != "rejected" {
		t.Errorf("losses: %+v", l)
	}
	text, err := os.ReadFile(filepath.Join(dir, "quarantine.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 6 {
		t.Fatalf("%d lines in quarantine", len(lines))
	}
	for _, line := range lines {
		var q journal.Quarantine
		if err := json.Unmarshal([]byte(line), &q); err != nil {
			t.Fatal(err)
		}
		if q.Destination != "siem" || q.Reason != "it ends with a zero" || q.Seq%10 != 0 || len(q.Record) == 0 {
			t.Errorf("%+v", q)
		}
	}
}

func TestRecorderAllocatesNothing(t *testing.T) {
	j := openJournal(t, t.TempDir(), "inst")
	exporter := Record(j, quietEncoder{}).Exporter
	events := numbered(100)
	export := func() {
		if err := exporter.Export(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		export()
	}
	if n := testing.AllocsPerRun(100, export); n > 0 {
		t.Errorf("%v allocations for 100 events", n)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPipelineReportsWhatTheJournalLost: the account of a start that crashed becomes an event of the next.
func TestPipelineReportsWhatTheJournalLost(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir, "inst")
	keep(t, j, numbered(10))
	j.Produced(17)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = openJournal(t, dir, "next")
	out := &fakeExporter{}
	p := newTestPipeline(t, Settings{
		Source: newFakeSource(), Sandboxes: &fakeSandboxes{}, Losses: j.Losses, Produced: j.Produced,
		Exporters: []ExporterSettings{{Exporter: out}},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	until(t, "the loss is told", func() bool {
		for _, e := range out.got() {
			if loss, ok := e.Payload.(*event.Loss); ok && loss.Stage == event.LossJournal {
				return loss.Lost == journal.Name && loss.Reason == "crash" && loss.Count == 7
			}
		}
		return false
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPumpDoesNotWaitForMoreWhenThereIs: a batch that its bytes end is full, and the next is sent at once, however few
// events it has; only when nothing more is there does the pump let events gather.
func TestPumpDoesNotWaitForMoreWhenThereIs(t *testing.T) {
	const n = 500
	j := openJournal(t, t.TempDir(), "inst")
	batch := make([]event.Encoded, n)
	for i := range batch {
		batch[i] = event.Encoded{Seq: uint64(i + 1), Instance: "inst", Time: time.Now(), Kind: event.KindFileOpen, Record: make([]byte, 100)}
		j.Produced(uint64(i + 1))
	}
	d := &siem{taken: map[string]int{}}
	pump, err := NewPump(j, DestinationSettings{
		Destination: d, BatchSize: 4096, BatchBytes: 1000, FlushInterval: time.Hour,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	j.Append(batch, 0) // a new cursor begins at the end
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- pump.Run(ctx) }()
	for deadline := time.Now().Add(20 * time.Second); pump.Stats().Delivered < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%d of %d events are delivered, and the pump waits", pump.Stats().Delivered, n)
			break
		}
	}
	cancel()
	if err := errors.Join(<-done, j.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestPumpLetsPassWhatIsNotWanted: while a destination takes nothing, what is not for it does not wait.
func TestPumpLetsPassWhatIsNotWanted(t *testing.T) {
	j := openJournal(t, t.TempDir(), "inst")
	away := make(chan struct{})
	d := &siem{taken: map[string]int{}, answer: func([]event.Encoded) ([]Rejection, error) {
		<-away
		return nil, nil
	}}
	p, stop := pumping(t, j, DestinationSettings{Destination: d, Wants: func(e *event.Encoded) bool { return e.Kind == event.KindFinding }})
	finding := numbered(1)
	finding[0].Payload = &event.Finding{ID: "f", Rule: &event.Rule{ID: "r", Severity: event.SeverityHigh}}
	keep(t, j, finding)
	until(t, "it is being sent", func() bool { return j.Stats().Cursors[0].LagAge > 0 })
	keep(t, j, numbered(1000)[1:])
	until(t, "the rest passes", func() bool { return p.Stats().Filtered == 999 && j.Stats().Cursors[0].Lag == 1 })
	if p.Stats().Delivered != 0 {
		t.Error("it took something")
	}
	close(away)
	until(t, "the finding is delivered", func() bool { return p.Stats().Delivered == 1 && j.Stats().Cursors[0].Lag == 0 })
	stop()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}
