// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"fmt"
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
)

// TestClockJumps: order is by number, whatever the clock did, and a query by time still finds what it should.
func TestClockJumps(t *testing.T) {
	cfg := config(t.TempDir())
	times := []time.Time{
		time.Unix(1_700_000_000, 0), time.Unix(1, 0), time.Unix(4_000_000_000, 0), time.Unix(1_700_000_001, 0), time.Unix(0, 0),
	}
	seq := uint64(0)
	for start := range 3 {
		j := open(t, cfg, fmt.Sprint("start", start))
		for range 40 {
			seq++
			e := made(fmt.Sprint("start", start), seq)
			e.Time = times[seq%uint64(len(times))]
			j.Append([]event.Encoded{e}, 0)
		}
		shut(t, j)
	}
	for _, q := range []struct {
		query Query
		want  int
	}{
		{Query{}, 120},
		{Query{Since: time.Unix(3_000_000_000, 0)}, 24},
		{Query{Until: time.Unix(100, 0)}, 48},
		{Query{Since: time.Unix(1_600_000_000, 0), Until: time.Unix(1_800_000_000, 0)}, 48},
	} {
		r, err := OpenReader(cfg.Dir, q.query)
		must(t, err)
		last, n := uint64(0), 0
		for {
			e, ok, err := r.Next()
			must(t, err)
			if !ok {
				break
			}
			if e.Seq <= last {
				t.Errorf("%d comes after %d", e.Seq, last)
			}
			last = e.Seq
			n++
		}
		r.Close()
		if n != q.want {
			t.Errorf("%+v finds %d events, not %d", q.query, n, q.want)
		}
	}
}

// TestAge: what is too old goes although there is room, and a clock that jumps makes nothing old.
func TestAge(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.MaxAge, cfg.MaxBytes = time.Hour, 8<<20
	j := open(t, cfg, "a")
	add(j, makeAll("a", 1, 8001))
	j.tidy()
	if j.Stats().Lanes[Events].Evicted != 0 {
		t.Fatal("young events are removed")
	}
	j.write.Lock()
	segments := j.lanes[Events].segments
	for i := range segments[:2] {
		segments[i].born = segments[i].born.Add(-2 * time.Hour)
	}
	end := segments[2].base
	j.write.Unlock()
	j.tidy()
	if s := j.Stats().Lanes[Events]; s.First != end || s.Evicted != end-1 {
		t.Errorf("%+v, not from %d", s, end)
	}
	// The segment being written is ended when it gets old, so that it can go too.
	j.write.Lock()
	j.lanes[Events].begun = time.Now().Add(-time.Hour)
	j.write.Unlock()
	before := j.Stats().Lanes[Events].Segments
	j.tidy()
	if s := j.Stats().Lanes[Events]; s.Segments != before+1 {
		t.Errorf("%d segments, not %d", s.Segments, before+1)
	}
	shut(t, j)
	if report := verified(t, cfg.Dir, proof(t, cfg.Dir)); !report.Good() {
		t.Errorf("%v", report.Lanes[Events].Fault)
	}
}

// TestResize: a smaller bound holds from the next write on.
func TestResize(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.MaxBytes = 8 << 20
	j := open(t, cfg, "a")
	add(j, makeAll("a", 1, 20001))
	if j.Stats().Lanes[Events].Bytes < 400<<10 {
		t.Fatalf("%+v", j.Stats().Lanes[Events])
	}
	cfg.MaxBytes = 256 << 10
	must(t, cfg.Validate())
	j.Resize(&cfg)
	add(j, makeAll("a", 20001, 20101))
	if s := j.Stats().Lanes[Events]; s.Bytes > cfg.MaxBytes || s.MaxBytes != cfg.MaxBytes {
		t.Errorf("%+v", s)
	}
	shut(t, j)
}

// TestPriorityGoesFirst, and neither lane starves the other.
func TestPriorityGoesFirst(t *testing.T) {
	j := open(t, config(t.TempDir()), "a")
	c := cursor(t, j, "siem")
	var events []event.Encoded
	for seq := uint64(1); seq <= 400; seq++ {
		e := made("a", seq)
		e.Kind = event.KindFileOpen
		if seq > 200 {
			e.Kind = event.KindFinding
		}
		events = append(events, e)
	}
	j.Append(events, 0)
	batch, err := c.Next(t.Context(), Limits{Events: 100, Bytes: 1 << 20})
	must(t, err)
	findings := 0
	for i := range batch {
		if batch[i].Kind == event.KindFinding {
			findings++
		}
	}
	if len(batch) != 100 || findings != 75 || batch[0].Kind != event.KindFinding {
		t.Errorf("%d of %d in the first batch are findings", findings, len(batch))
	}
	must(t, c.Commit())
	shut(t, j)
}

// TestAllowance: one sandbox cannot fill the priority lane, and takes nothing from another.
func TestAllowance(t *testing.T) {
	var a allowance
	now := time.Unix(1000, 0)
	taken := func(sandbox string, n int) (got int) {
		for range n {
			if a.take(sandbox, now) {
				got++
			}
		}
		return got
	}
	if n := taken("loud", 5000); n != allowanceBurst {
		t.Errorf("%d at once", n)
	}
	if n := taken("quiet", 10); n != 10 {
		t.Errorf("the quiet one gets %d of 10", n)
	}
	now = now.Add(2 * time.Second)
	if n := taken("loud", 5000); n != 2*allowanceRate {
		t.Errorf("%d after two seconds", n)
	}
	now = now.Add(-time.Hour) // a clock that jumps back takes nothing away for long
	_ = taken("loud", 1)
	now = now.Add(time.Hour)
	if n := taken("loud", 5000); n == 0 {
		t.Error("a jump of the clock locks it out")
	}
	for i := range 3 * allowanceSandboxes {
		a.take(fmt.Sprint(i), now)
	}
	if len(a) > allowanceSandboxes {
		t.Errorf("%d sandboxes are remembered", len(a))
	}
	if InPriority(event.KindFileOpen) || !InPriority(event.KindFinding) || !InPriority(event.KindApproval) || !InPriority(event.KindLoss) {
		t.Error("the wrong kinds are in the lane")
	}
}

func TestConfigValidation(t *testing.T) {
	good := DefaultConfig()
	must(t, good.Validate())
	for name, f := range map[string]func(c *Config){
		"dir":                 func(c *Config) { c.Dir = "" },
		"segment_bytes":       func(c *Config) { c.SegmentBytes = 1 },
		"max_bytes":           func(c *Config) { c.MaxBytes = c.SegmentBytes },
		"priority_bytes":      func(c *Config) { c.PriorityBytes = 0 },
		"max_age":             func(c *Config) { c.MaxAge = time.Second },
		"memory_bytes":        func(c *Config) { c.MemoryBytes = 0 },
		"sync:":               func(c *Config) { c.Sync = "sometimes" },
		"sync_interval":       func(c *Config) { c.SyncInterval = 0 },
		"checkpoint_interval": func(c *Config) { c.CheckpointInterval = 0 },
		"quarantine_bytes":    func(c *Config) { c.QuarantineBytes = 1 },
	} {
		c := DefaultConfig()
		f(&c)
		if err := c.Validate(); err == nil || err.Error()[:min(len(name), len(err.Error()))] != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, valid := range map[string]bool{"siem": true, "a.b-c_1": true, "": false, ".x": false, "a/b": false, "A": false, "..": false} {
		if CursorName(name) != valid {
			t.Errorf("%q as the name of a cursor: %v", name, !valid)
		}
	}
}
