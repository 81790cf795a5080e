// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/watchglass/watchglass/collector/journal"
	"github.com/watchglass/watchglass/event"
)

// TestKernelClockJump moves the clock forth by an hour, back by two and forth again while a sandbox works and
// its destination is away: every event is delivered once and in order, with the time that the clock showed. It
// moves the clock of the whole machine, so it runs in a machine of its own: make test-vm.
func TestKernelClockJump(t *testing.T) {
	if os.Getenv("WATCHGLASS_VM") != "1" {
		t.Skip("moves the clock of the whole machine: make test-vm runs it in one of its own")
	}
	j, err := journal.Open(journalConfig(t), journal.Settings{Instance: "inst", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var away atomic.Bool
	away.Store(true)
	d := &fakeDestination{name: "siem", answer: func(context.Context, []event.Encoded) ([]Rejection, error) {
		if away.Load() {
			return nil, errors.New("away")
		}
		return nil, nil
	}}
	pump, err := NewPump(j, DestinationSettings{Destination: d}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	pumped := make(chan error, 1)
	go func() { pumped <- pump.Run(ctx) }()
	s := startKernelSessionWith(t, 1<<20, func(settings *Settings) {
		settings.Exporters = append(settings.Exporters, Record(j, plainEncoder{}))
		settings.Produced, settings.Losses, settings.CanaryInterval = j.Produced, j.Losses, 50*time.Millisecond
		settings.Instance = "inst"
	})
	type stretch struct{ from, to time.Time }
	var stretches []stretch
	for i, jump := range []time.Duration{0, time.Hour, -2 * time.Hour, time.Hour} {
		moveClock(t, jump)
		// That the clock was set is noticed a moment later; what was told before may still be in the ring.
		time.Sleep(500 * time.Millisecond)
		from := time.Now().Round(0)
		s.run(t, fmt.Sprintf("i=0; while [ $i -lt 100 ]; do echo x > /tmp/stretch-%d-$i; i=$((i+1)); done", i))
		stretches = append(stretches, stretch{from, time.Now().Round(0)})
	}
	away.Store(false)
	s.settle(t)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); j.Stats().Cursors[0].Lag > 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	if err := errors.Join(<-pumped, j.Close()); err != nil {
		t.Fatal(err)
	}
	// Everything, once: the priority lane may overtake.
	var uids []string
	for _, record := range slices.Concat(d.batches...) {
		uid, _, _ := strings.Cut(record, " ")
		uids = append(uids, uid)
	}
	events := s.exporter.got()
	want := make([]string, 0, len(events))
	for _, e := range events {
		want = append(want, e.UID())
	}
	slices.Sort(uids)
	slices.Sort(want)
	if !slices.Equal(uids, want) || len(want) == 0 {
		t.Errorf("%d events were made, %d were delivered", len(want), len(uids))
	}
	found := 0
	for _, e := range events {
		f, ok := e.Payload.(*event.FileOpen)
		if !ok {
			continue
		}
		var i, n int
		if _, err := fmt.Sscanf(f.Path, "/tmp/stretch-%d-%d", &i, &n); err != nil {
			continue
		}
		found++
		const tolerance = 100 * time.Millisecond
		if e.Time.Before(stretches[i].from.Add(-tolerance)) || e.Time.After(stretches[i].to.Add(tolerance)) {
			t.Fatalf("%s was opened between %v and %v, and is told of %v", f.Path, stretches[i].from, stretches[i].to, e.Time)
		}
	}
	if found != 400 {
		t.Errorf("%d of 400 opens", found)
	}
	if canaries := s.exporter.kinds()[event.KindFinding]; canaries < 20 {
		t.Errorf("%d canaries: a clock that is set back must not stop them", canaries)
	}
}

func journalConfig(t *testing.T) journal.Config {
	t.Helper()
	cfg := journal.DefaultConfig()
	cfg.Dir, cfg.SegmentBytes, cfg.MaxBytes, cfg.PriorityBytes = t.TempDir(), 1<<20, 64<<20, 64<<20
	return cfg
}

func moveClock(t *testing.T, by time.Duration) {
	t.Helper()
	ts := unix.NsecToTimespec(time.Now().Add(by).UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); by != 0 && err != nil {
		t.Fatal(err)
	}
}
