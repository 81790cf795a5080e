// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
)

func findings(e *event.Encoded) bool { return e.Kind == event.KindFinding }

func openCursor(t *testing.T, j *Journal, s CursorSettings) *Cursor {
	t.Helper()
	c, err := j.OpenCursor(s)
	must(t, err)
	return c
}

// TestCursorWants: what is wanted comes once, from both lanes, and the rest is counted, over restarts.
func TestCursorWants(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.MaxBytes, cfg.PriorityBytes = 64<<20, 8<<20
	wanted := CursorSettings{Name: "chat", Wants: findings, Least: event.SeverityMedium}
	const n = 80_000 // of which a finding is each 50th: more than the priority lane has room for at once
	j := open(t, cfg, "a")
	c := openCursor(t, j, wanted)
	var found []string
	take := func(limit int) {
		for len(found) < limit {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			batch, err := c.Next(ctx, Limits{Events: 7, Bytes: 1 << 20})
			cancel()
			must(t, err)
			for i := range batch {
				if !findings(&batch[i]) {
					t.Fatalf("event %d is not wanted", batch[i].Seq)
				}
				found = append(found, fmt.Sprintf("%s-%d", batch[i].Instance, batch[i].Seq))
			}
			must(t, c.Commit())
		}
	}
	events := makeAll("a", 1, n+1)
	for i := range events {
		events[i].Sandbox = "flood"
	}
	add(j, events)
	if in := j.Stats().Lanes[Events].Next; in <= n-n/50+1 {
		t.Fatalf("all findings are in the priority lane: %d events are in the other", in)
	}
	take(n / 100)
	before := c.Passed()
	shut(t, j)
	j = open(t, cfg, "b")
	c = openCursor(t, j, wanted)
	take(n / 50)
	seen := map[string]bool{}
	for _, uid := range found {
		if seen[uid] {
			t.Errorf("%s came twice", uid)
		}
		seen[uid] = true
	}
	// Until the last has passed: behind the last finding are none.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if batch, err := c.Next(ctx, Limits{Events: 7, Bytes: 1 << 20}); err == nil {
		t.Errorf("%d more events", len(batch))
	}
	if passed := before + c.Passed(); passed != n-n/50 {
		t.Errorf("%d events passed, want %d", passed, n-n/50)
	}
	if s := j.Stats().Cursors[0]; s.Lag != 0 {
		t.Errorf("%d events wait", s.Lag)
	}
	shut(t, j)
}

// TestSkim: while a destination takes nothing, what is not for it neither waits nor is lost to it, and what is for it
// comes when it takes again.
func TestSkim(t *testing.T) {
	cfg := config(t.TempDir())
	j := open(t, cfg, "a")
	c := openCursor(t, j, CursorSettings{Name: "chat", Wants: findings, Least: event.SeverityMedium})
	first := made("a", 50)
	j.Append([]event.Encoded{first}, 0)
	batch, err := c.Next(t.Context(), Limits{Events: 4, Bytes: 1 << 20})
	must(t, err)
	if len(batch) != 1 || batch[0].Seq != 50 {
		t.Fatalf("%d events", len(batch))
	}
	bulk := func(from, to uint64) {
		for seq := from; seq < to; seq++ {
			e := made("a", seq)
			if findings(&e) {
				continue
			}
			j.Append([]event.Encoded{e}, 0)
			if seq%499 == 0 {
				must(t, c.Skim())
			}
		}
		must(t, c.Skim())
	}
	bulk(51, 20_000)
	s := j.Stats()
	if s.Lanes[Events].Evicted == 0 {
		t.Fatal("nothing was evicted: the test tests nothing")
	}
	if s.Cursors[0].Evicted != 0 || s.Cursors[0].Lag != 1 {
		t.Errorf("%d events are lost to it, %d wait", s.Cursors[0].Evicted, s.Cursors[0].Lag)
	}
	// One in the lane of the others is met, and waits.
	late := made("a", 20_000)
	late.Kind, late.Severity = event.KindFinding, event.SeverityHigh
	j.allowance = allowance{late.Sandbox: {last: time.Now().Add(time.Hour)}}
	j.Append([]event.Encoded{late}, 0)
	bulk(20_001, 20_100)
	if s := j.Stats().Cursors[0]; s.Lag < 2 || s.Lag > 200 {
		t.Errorf("%d events wait", s.Lag)
	}
	if !same(&batch[0], &first) {
		t.Error("the batch changed while it was lent")
	}
	must(t, c.Commit())
	batch, err = c.Next(t.Context(), Limits{Events: 4, Bytes: 1 << 20})
	must(t, err)
	if len(batch) != 1 || !same(&batch[0], &late) {
		t.Fatalf("%d events, the first %d", len(batch), batch[0].Seq)
	}
	// Not committed: it comes again.
	shut(t, j)
	j = open(t, cfg, "b")
	c = openCursor(t, j, CursorSettings{Name: "chat", Wants: findings, Least: event.SeverityMedium})
	batch, err = c.Next(t.Context(), Limits{Events: 4, Bytes: 1 << 20})
	must(t, err)
	if len(batch) != 1 || batch[0].Seq != 20_000 {
		t.Fatalf("%d events, the first %d", len(batch), batch[0].Seq)
	}
	must(t, c.Commit())
	shut(t, j)
}

// TestOldest: a destination that wants its history gets it, once.
func TestOldest(t *testing.T) {
	cfg := config(t.TempDir())
	j := open(t, cfg, "a")
	add(j, makeAll("a", 1, 201))
	limits := Limits{Events: 50, Bytes: 1 << 20}
	now, all := openCursor(t, j, CursorSettings{Name: "now"}), openCursor(t, j, CursorSettings{Name: "all", Oldest: true})
	if n := len(drain(t, now, limits)); n != 0 {
		t.Errorf("%d events of before it was there", n)
	}
	if n := len(drain(t, all, limits)); n != 200 {
		t.Errorf("%d events of history", n)
	}
	shut(t, j)
	j = open(t, cfg, "b")
	if n := len(drain(t, openCursor(t, j, CursorSettings{Name: "all", Oldest: true}), limits)); n != 0 {
		t.Errorf("%d events came again", n)
	}
	shut(t, j)
}

// TestCanaryHasAPlaceOfItsOwn: claims of nobody known, however many, do not push a canary out of the priority lane.
func TestCanaryHasAPlaceOfItsOwn(t *testing.T) {
	j := open(t, config(t.TempDir()), "a")
	var claims []event.Encoded
	for seq := range uint64(allowanceBurst + 100) {
		claims = append(claims, event.Encoded{Seq: seq + 1, Instance: "a", Time: time.Now(), Kind: event.KindApproval, Record: []byte("x")})
	}
	j.Append(claims, 0)
	before := j.Stats().Lanes[Priority].Next
	j.Append([]event.Encoded{{Seq: 9999, Instance: "a", Time: time.Now(), Kind: event.KindFinding, Record: []byte("canary")}}, 0)
	if after := j.Stats().Lanes[Priority].Next; after != before+1 {
		t.Errorf("the lane went from %d to %d", before, after)
	}
	shut(t, j)
}
