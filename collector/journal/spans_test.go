// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/watchglass/watchglass/event"
)

// spans are as made by their numbers as events are.
func spans(instance string, from, to uint64) []event.Encoded {
	list := makeAll(instance, from, to)
	for i := range list {
		list[i].Kind = event.KindSpan
	}
	return list
}

// spansOf is every span that the cursor gets, by its number, each of them as it was made.
func spansOf(t *testing.T, c *Cursor) map[string]int {
	t.Helper()
	seen := map[string]int{}
	for {
		batch, err := c.Next(expired(t), few)
		if err != nil {
			return seen
		}
		for i := range batch {
			want := spans(batch[i].Instance, batch[i].Seq, batch[i].Seq+1)[0]
			if !same(&batch[i], &want) {
				t.Fatalf("span %d is not what was written: %+v", batch[i].Seq, batch[i])
			}
			seen[fmt.Sprintf("%s-%d", batch[i].Instance, batch[i].Seq)]++
		}
		must(t, c.Commit())
	}
}

// TestSpansAreNoEvents: who wants spans gets spans alone, and nobody else sees one.
func TestSpansAreNoEvents(t *testing.T) {
	cfg := config(t.TempDir())
	j := open(t, cfg, "a")
	traces := openCursor(t, j, CursorSettings{Name: "otlp-traces", Spans: true})
	siem := cursor(t, j, "siem")
	add(j, makeAll("a", 1, 101))
	j.AppendSpans(spans("a", 1, 31))
	add(j, makeAll("a", 101, 151))
	j.AppendSpans(nil)
	if got := drain(t, siem, few); len(got) != 150 {
		t.Errorf("a destination of events got %d", len(got))
	}
	if got := spansOf(t, traces); len(got) != 30 {
		t.Errorf("the destination of spans got %d", len(got))
	}
	j.AppendSpans(spans("a", 31, 41))
	for _, c := range j.Stats().Cursors {
		if want := map[string]uint64{"otlp-traces": 10, "siem": 0}[c.Name]; c.Lag != want || c.Evicted != 0 {
			t.Errorf("%s: %+v", c.Name, c)
		}
	}
	shut(t, j)
	if got := len(readAll(t, cfg.Dir)); got != 150 {
		t.Errorf("history has %d events", got)
	}
	report := verified(t, cfg.Dir, proof(t, cfg.Dir))
	if !report.Good() || len(report.Lanes) != lanes || report.Lanes[Spans].Next != 41 || report.Lanes[Spans].Checkpoints == 0 {
		t.Errorf("the report: %+v", report)
	}
	// The cursor goes on in the next start.
	j = open(t, cfg, "b")
	j.AppendSpans(spans("b", 1, 6))
	if got := spansOf(t, openCursor(t, j, CursorSettings{Name: "otlp-traces", Spans: true})); len(got) != 15 || got["a-31"] != 1 || got["b-5"] != 1 {
		t.Errorf("after a restart it got %v", got)
	}
	if l := j.Losses(); len(l) > 0 {
		t.Errorf("losses: %+v", l)
	}
	shut(t, j)
	// A change of a span is found as that of an event is.
	path := filepath.Join(cfg.Dir, "spans", "00000000000000000001.wgj")
	change(t, path, func(text []byte) []byte { text[len(text)/2] ^= 1; return text })
	if report := verified(t, cfg.Dir, proof(t, cfg.Dir)); report.Good() || report.Lanes[Spans].Fault == nil || report.Lanes[Spans].Fault.Segment != path {
		t.Errorf("the report: %+v", report.Lanes)
	}
	must(t, os.Remove(path))
	if report := verified(t, cfg.Dir, proof(t, cfg.Dir)); report.Good() {
		t.Error("the lane is gone, and nobody says so")
	}
}

// TestSpansAreEvictedByThemselves: spans beyond their room cost spans, counted to their destination, and no events.
func TestSpansAreEvictedByThemselves(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.SpansBytes = 256 << 10
	j := open(t, cfg, "a")
	traces := openCursor(t, j, CursorSettings{Name: "otlp-traces", Spans: true})
	siem := cursor(t, j, "siem")
	add(j, makeAll("a", 1, 101))
	const made = 40000
	for from := uint64(1); from <= made; from += 1000 {
		j.AppendSpans(spans("a", from, from+1000))
	}
	if got := drain(t, siem, few); len(got) != 100 {
		t.Errorf("a destination of events got %d of 100", len(got))
	}
	got := spansOf(t, traces)
	var evicted uint64
	for _, l := range j.Losses() {
		if l.Lost != "otlp-traces" || l.Reason != reasonEvicted {
			t.Errorf("a loss: %+v", l)
		}
		evicted += l.Count
	}
	if evicted == 0 || uint64(len(got))+evicted != made {
		t.Errorf("%d spans came and %d were evicted of %d", len(got), evicted, made)
	}
	shut(t, j)
	if report := verified(t, cfg.Dir, proof(t, cfg.Dir)); !report.Good() {
		t.Errorf("it does not verify: %v", report.Lanes[Spans].Fault)
	}
}

// TestSpansOnAFullDisk: spans make room for events, and never the other way.
func TestSpansOnAFullDisk(t *testing.T) {
	disk := smallDisk(t, 2<<20)
	cfg := config(filepath.Join(disk, "journal"))
	j := open(t, cfg, "a")
	traces := openCursor(t, j, CursorSettings{Name: "otlp-traces", Spans: true})
	siem := cursor(t, j, "siem")
	j.AppendSpans(spans("a", 1, 6001))
	if got := spansOf(t, traces); len(got) != 6000 {
		t.Fatalf("%d spans", len(got))
	}
	ballast(t, disk)
	add(j, makeAll("a", 1, 1001)) // room is made for them
	before := j.Stats().Lanes[Events]
	const more = 20000
	for from := uint64(6001); from < 6001+more; from += 1000 {
		j.AppendSpans(spans("a", from, from+1000))
	}
	if after := j.Stats().Lanes[Events]; after.Evicted != before.Evicted || after.First != before.First {
		t.Errorf("spans pushed out events: %+v, before %+v", after, before)
	}
	if got := drain(t, siem, few); len(got) != 1000 {
		t.Errorf("%d events of 1000 came: %v", len(got), j.Losses())
	}
	must(t, os.Remove(filepath.Join(disk, "ballast")))
	j.AppendSpans(spans("a", 6001+more, 6002+more))
	got, lost := spansOf(t, traces), uint64(0)
	for _, l := range j.Losses() {
		if l.Lost == SpansName || l.Lost == "otlp-traces" {
			lost += l.Count
		} else {
			t.Errorf("a loss: %+v", l)
		}
	}
	if lost == 0 || uint64(len(got))+lost != more+1 {
		t.Errorf("%d spans came and %d are lost of %d: %+v", len(got), lost, more+1, j.Losses())
	}
	shut(t, j)
}

// TestSpansThatACrashTook: the next start tells of spans that were made and not written, and of those that were being
// made; what it is killed before it told, the next one tells.
func TestSpansThatACrashTook(t *testing.T) {
	cfg := config(t.TempDir())
	j := open(t, cfg, "a")
	add(j, makeAll("a", 1, 51))
	j.AppendSpans(spans("a", 1, 11))
	large := spans("a", 11, 12)
	large[0].Record = []byte(strings.Repeat("x", maxRecord+1))
	j.AppendSpans(large)
	j.ToldOfSpans(&event.Loss{Stage: event.LossJournal, Lost: SpansName, Reason: reasonTooLarge, Count: 1})
	j.Unfinished(3)
	j.setState(stateSpansProduced, 15) // and then it was killed
	kill(t, j)
	for _, start := range []string{"b", "c"} {
		j = open(t, cfg, start)
		lost := map[string]uint64{}
		for _, l := range j.Losses() {
			if l.Lost != SpansName {
				t.Errorf("%s: a loss: %+v", start, l)
			}
			lost[l.Reason] = l.Count
		}
		if sum := lost[reasonCrash] + lost[reasonUnfinished]; sum != 4+3 || start == "b" && lost[reasonUnfinished] != 3 {
			t.Errorf("%s: lost: %v", start, lost)
		}
		if start == "b" {
			kill(t, j)
			continue
		}
		for reason, n := range lost {
			l := &event.Loss{Stage: event.LossJournal, Lost: SpansName, Reason: reason, Count: n}
			if Accounts(l) != 0 || Tells(l) != 0 {
				t.Error("spans are taken for events")
			}
			j.ToldOfSpans(l)
		}
		shut(t, j)
	}
	j = open(t, cfg, "d")
	if l := j.Losses(); len(l) > 0 {
		t.Errorf("it is told twice: %+v", l)
	}
	// An orderly end leaves nothing unfinished.
	j.Unfinished(5)
	shut(t, j)
	j = open(t, cfg, "e")
	if l := j.Losses(); len(l) > 0 {
		t.Errorf("after an orderly end: %+v", l)
	}
	shut(t, j)
}

// kill lets go of a journal as a kill does: what is in the operating system's memory stays.
func kill(t *testing.T, j *Journal) {
	t.Helper()
	close(j.stop)
	j.housekeeping.Wait()
	j.cursors = nil
	must(t, j.release())
}

// expired is a context that has ended: Next gives what is there, and does not wait.
func expired(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
