// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
)

// config is a configuration with small segments.
func config(dir string) Config {
	cfg := DefaultConfig()
	cfg.Dir, cfg.SegmentBytes, cfg.MaxBytes, cfg.PriorityBytes = dir, 64<<10, 1<<20, 256<<10
	cfg.MemoryBytes, cfg.Sync = 1<<20, SyncNever
	cfg.CheckpointInterval = time.Hour
	return cfg
}

func settings(t testing.TB, instance string) Settings {
	return Settings{Instance: instance, Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
}

// testWriter shows the log of a test that fails.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Helper()
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func open(t testing.TB, cfg Config, instance string) *Journal {
	t.Helper()
	j, err := Open(cfg, settings(t, instance))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func shut(t testing.TB, j *Journal) {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// made is the event of a number: everything in it follows from that, so that what is read can be checked.
func made(instance string, seq uint64) event.Encoded {
	kinds := []event.Kind{event.KindFileOpen, event.KindProcessExec, event.KindNetworkConnect}
	kind, severity := kinds[seq%3], event.SeverityInfo
	if seq%50 == 0 {
		kind, severity = event.KindFinding, event.SeverityHigh
	}
	sandbox := fmt.Sprintf("sandbox-%d", seq%4)
	return event.Encoded{
		Seq: seq, Instance: instance, Time: time.Unix(1_700_000_000, int64(seq)*1_000_003), Kind: kind, Severity: severity,
		Sandbox: sandbox, Session: fmt.Sprintf("session-%d", seq%7),
		Resource: []byte("resource of " + sandbox + " " + strings.Repeat("r", 200)),
		Record:   fmt.Appendf(nil, "record %d of %s: %s", seq, instance, strings.Repeat(string(rune('a'+seq%26)), int(seq*37%300))),
	}
}

func makeAll(instance string, from, to uint64) []event.Encoded {
	var list []event.Encoded
	for seq := from; seq < to; seq++ {
		list = append(list, made(instance, seq))
	}
	return list
}

func same(a, b *event.Encoded) bool {
	return a.Seq == b.Seq && a.Instance == b.Instance && a.Time.Equal(b.Time) && a.Kind == b.Kind && a.Severity == b.Severity &&
		a.Sandbox == b.Sandbox && a.Session == b.Session && string(a.Resource) == string(b.Resource) && string(a.Record) == string(b.Record)
}

// add appends events in groups, as the pipeline does.
func add(j *Journal, events []event.Encoded) {
	for len(events) > 0 {
		n := min(len(events), 1+int(events[0].Seq%97))
		j.Produced(events[n-1].Seq)
		j.Append(events[:n], 0)
		events = events[n:]
	}
}

// drain reads everything that is there, commits it, and returns how often each number came.
func drain(t testing.TB, c *Cursor, limits Limits) map[string]int {
	t.Helper()
	seen := map[string]int{}
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		batch, err := c.Next(ctx, limits)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return seen
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(batch) > limits.Events {
			t.Errorf("a batch of %d", len(batch))
		}
		for i := range batch {
			want := made(batch[i].Instance, batch[i].Seq)
			if !same(&batch[i], &want) {
				t.Fatalf("record %d of %s is not what was written: %+v", batch[i].Seq, batch[i].Instance, batch[i])
			}
			seen[fmt.Sprintf("%s-%d", batch[i].Instance, batch[i].Seq)]++
		}
		if err := c.Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

var few = Limits{Events: 100, Bytes: 1 << 20}

func cursor(t testing.TB, j *Journal, name string) *Cursor {
	t.Helper()
	c, err := j.Cursor(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEverythingIsDeliveredOnce(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.MaxBytes = 16 << 20
	j := open(t, cfg, "a")
	c := cursor(t, j, "siem")
	add(j, makeAll("a", 1, 5001))
	seen := drain(t, c, few)
	if len(seen) != 5000 {
		t.Errorf("%d of 5000 came", len(seen))
	}
	add(j, makeAll("a", 5001, 5101))
	shut(t, j)
	j = open(t, cfg, "b")
	c = cursor(t, j, "siem")
	add(j, makeAll("b", 1, 101))
	again := drain(t, c, few)
	for seq := 5001; seq <= 5100; seq++ {
		if again[fmt.Sprintf("a-%d", seq)] != 1 {
			t.Errorf("a-%d came %d times after the restart", seq, again[fmt.Sprintf("a-%d", seq)])
		}
	}
	if len(again) != 200 {
		t.Errorf("%d events came after the restart, want 200", len(again))
	}
	if lost := j.Losses(); len(lost) != 0 {
		t.Errorf("losses: %v", lost)
	}
	stats := j.Stats()
	if stats.Cursors[0].Lag != 0 || stats.Lanes[Events].Segments < 3 {
		t.Errorf("stats: %+v", stats)
	}
	shut(t, j)
}

func TestSecondWriterIsRefused(t *testing.T) {
	cfg := config(t.TempDir())
	j := open(t, cfg, "a")
	defer shut(t, j)
	_, err := Open(cfg, settings(t, "b"))
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Fatalf("got %v", err)
	}
	if !strings.Contains(err.Error(), fmt.Sprintf("process %d, since ", os.Getpid())) {
		t.Errorf("it does not say who: %v", err)
	}
	if !lockHeld(cfg.Dir) {
		t.Error("lockHeld does not see it")
	}
}

func TestNewerVersionIsRefused(t *testing.T) {
	cfg := config(t.TempDir())
	j := open(t, cfg, "a")
	add(j, makeAll("a", 1, 100))
	shut(t, j)
	path := segmentPath(cfg.Dir, Events, 1)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[8] = Version + 1
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(cfg, settings(t, "b"))
	var newer *NewerVersionError
	if !errors.As(err, &newer) || newer.Version != Version+1 || !strings.Contains(err.Error(), "use a newer one") {
		t.Errorf("got %v", err)
	}
	if after, _ := os.ReadFile(path); len(after) != len(text) {
		t.Error("a newer journal was changed")
	}
}

func TestEvictionIsCounted(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.MaxBytes = 256 << 10
	j := open(t, cfg, "a")
	c := cursor(t, j, "siem")
	add(j, makeAll("a", 1, 200))
	seen := drain(t, c, few)
	total := uint64(60000)
	for seq := uint64(200); seq < total; seq += 1000 {
		add(j, makeAll("a", seq, min(seq+1000, total)))
	}
	stats := j.Stats()
	if stats.Lanes[Events].Bytes > cfg.MaxBytes || stats.Lanes[Events].Evicted == 0 {
		t.Errorf("the lane: %+v", stats.Lanes[Events])
	}
	// What is lost and what waits is all there is, at any time.
	if got := stats.Cursors[0].Lag + stats.Cursors[0].Evicted + uint64(len(seen)); got != total-1 {
		t.Errorf("lag %d and evicted %d and delivered %d make %d, not %d", stats.Cursors[0].Lag, stats.Cursors[0].Evicted, len(seen), got, total-1)
	}
	shut(t, j)
	j = open(t, cfg, "b") // the account is the same after a restart
	c = cursor(t, j, "siem")
	again := j.Stats().Cursors[0]
	if again.Lag+again.Evicted+stats.Cursors[0].Evicted+uint64(len(seen)) != total-1 {
		t.Errorf("after a restart: lag %d, evicted %d more", again.Lag, again.Evicted)
	}
	for key := range drain(t, c, few) {
		seen[key]++
	}
	if got := uint64(len(seen)) + stats.Cursors[0].Evicted + j.Stats().Cursors[0].Evicted; got != total-1 {
		t.Errorf("delivered and evicted are %d, not %d", got, total-1)
	}
	for seq := uint64(50); seq < total; seq += 50 { // findings are never evicted by the rest
		if seen[fmt.Sprintf("a-%d", seq)] == 0 && seq > total-uint64(allowanceBurst)*50 {
			t.Errorf("finding %d is gone", seq)
		}
	}
	shut(t, j)
}

func TestHugeEvents(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.MaxBytes, cfg.SegmentBytes, cfg.PriorityBytes = 64<<20, 1<<20, 4<<20
	j := open(t, cfg, "a")
	c := cursor(t, j, "siem")
	huge := made("a", 1)
	huge.Record = []byte(strings.Repeat("x0123456789abcdef", 5<<20/17))
	tooLarge := made("a", 2)
	tooLarge.Record = make([]byte, maxRecord)
	small := made("a", 3)
	j.Append([]event.Encoded{huge, tooLarge, small}, 0)
	batch, err := c.Next(t.Context(), Limits{Events: 10, Bytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if len(batch) != 1 || !same(&batch[0], &huge) {
		t.Fatalf("%d events, the first of %d bytes", len(batch), len(batch[0].Record))
	}
	if err := c.Commit(); err != nil {
		t.Fatal(err)
	}
	if batch, err = c.Next(t.Context(), few); err != nil || len(batch) != 1 || !same(&batch[0], &small) {
		t.Fatalf("%v: %d events", err, len(batch))
	}
	if lost := j.Losses(); len(lost) != 1 || lost[0].Reason != reasonTooLarge || lost[0].Count != 1 {
		t.Errorf("losses: %v", lost)
	}
	shut(t, j)
}

func TestAppendAllocatesNothing(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.SegmentBytes, cfg.MaxBytes = 16<<20, 64<<20
	cfg.PriorityBytes = 64 << 20
	j := open(t, cfg, "a")
	events := makeAll("a", 1, 101)
	for range 10 {
		j.Append(events, 0)
	}
	if n := testing.AllocsPerRun(100, func() { j.Append(events, 0) }); n > 0 {
		t.Errorf("%v allocations for an append of 100 events", n)
	}
	shut(t, j)
}

func TestTornTailIsCutOff(t *testing.T) {
	cfg := config(t.TempDir())
	j := open(t, cfg, "a")
	add(j, makeAll("a", 1, 300))
	shut(t, j)
	path := segmentPath(cfg.Dir, Events, 1)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := 1; cut < 3000; cut += 97 {
		if err := os.WriteFile(path, whole[:len(whole)-cut], 0o600); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"state", headName} {
			_ = os.Remove(filepath.Join(cfg.Dir, name))
		}
		j := open(t, cfg, "b")
		c := cursor(t, j, "siem")
		add(j, makeAll("b", 1, 51))
		if seen := drain(t, c, few); len(seen) != 50 {
			t.Errorf("cut by %d: %d of 50 new events came", cut, len(seen))
		}
		shut(t, j)
		if f := verified(t, cfg.Dir, proof(t, cfg.Dir)).Lanes[Events].Fault; f != nil {
			t.Errorf("cut by %d: %s", cut, f)
		}
	}
}

func TestCrashIsAccountedFor(t *testing.T) {
	cfg := config(t.TempDir())
	j := open(t, cfg, "a")
	add(j, makeAll("a", 1, 301))
	j.Produced(345) // made, and never seen here
	j.Append([]event.Encoded{{
		Seq: 346, Instance: "a", Kind: event.KindLoss, Resource: []byte("r"), Record: []byte("five were lost on the way"),
	}}, 5)
	j.Produced(350)
	shut(t, j)
	j = open(t, cfg, "b")
	lost := j.Losses()
	// 350 made; 300 and the loss stored, 5 told.
	if len(lost) != 1 || lost[0].Reason != reasonCrash || lost[0].Count != 350-301-5 {
		t.Errorf("losses: %+v", lost)
	}
	shut(t, j)
	// It was not told before that start ended, so the next one has it to tell, and no third one when it did.
	j = open(t, cfg, "c")
	if lost := j.Losses(); len(lost) != 1 || lost[0].Count != 350-301-5 {
		t.Errorf("losses that were not told: %+v", lost)
	}
	j.Told(Tells(&event.Loss{Stage: event.LossJournal, Lost: Name, Reason: reasonCrash, Count: 350 - 301 - 5}))
	shut(t, j)
	j = open(t, cfg, "d")
	if lost := j.Losses(); len(lost) != 0 {
		t.Errorf("told again: %+v", lost)
	}
	shut(t, j)
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
