// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/event"
)

// record is a record of process pid, a child of process 1, in sandbox 10.
func record(pid uint32, payload any) *bpf.Record {
	now := time.Now()
	return &bpf.Record{
		Time: now, Sandbox: 10, Cgroup: 10, Payload: payload,
		Task: bpf.Task{PID: pid, TID: pid, VPID: pid, ParentPID: 1, Start: uint64(pid) * 1e6, ParentStart: 1e6, StartTime: now, Comm: "comm"},
	}
}

func made() *bpf.Record { return &bpf.Record{Payload: &bpf.CgroupMade{ID: 10, Path: "/s1"}} }

func opened(pid uint32) *bpf.Record {
	return record(pid, &event.FileOpen{Path: "/etc/hosts", Access: event.AccessRead})
}

// start runs a pipeline until stop, which returns Run's error.
func start(t *testing.T, p *Pipeline) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- p.Run(ctx) }()
	return func() error {
		cancel()
		select {
		case err := <-result:
			return err
		case <-time.After(20 * time.Second):
			t.Fatal("the pipeline does not end")
			return nil
		}
	}
}

func lost(stats event.Stats, stage event.LossWhere) (n uint64) {
	for _, c := range stats.Lost {
		if c.Stage == stage {
			n += c.Count
		}
	}
	return n
}

// TestCleanStopLosesNothing stops with records in the source and events in the queues: all of them must
// arrive, in order and numbered without a gap, at a quick exporter and at a slow one.
func TestCleanStopLosesNothing(t *testing.T) {
	const n = 20000
	source, quick, slow := newFakeSource(), &fakeExporter{name: "quick"}, &fakeExporter{name: "slow", hold: make(chan struct{})}
	p := newTestPipeline(t, Settings{Source: source, Exporters: []ExporterSettings{
		{Exporter: quick, QueueSize: 16, WhenFull: Block, BatchSize: 7},
		{Exporter: slow, QueueSize: 2 * n, FlushInterval: time.Hour},
	}})
	source.send(made())
	for i := range uint32(n) {
		source.send(opened(100 + i%50))
	}
	stop := start(t, p)
	go func() {
		time.Sleep(50 * time.Millisecond)
		close(slow.hold)
	}()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, e := range []*fakeExporter{quick, slow} {
		events := e.got()
		if got := e.kinds()[event.KindFileOpen]; got != n {
			t.Errorf("%s got %d of %d", e.name, got, n)
		}
		for i, ev := range events {
			if ev.Seq != uint64(i+1) || ev.Instance != p.Instance() || ev.Observed.IsZero() {
				t.Fatalf("%s: event %d is number %d of %s", e.name, i, ev.Seq, ev.Instance)
			}
		}
		if first, last := events[0].Kind(), events[len(events)-1].Kind(); first != event.KindSandboxStart || last != event.KindSandboxStop {
			t.Errorf("%s: from %s to %s", e.name, first, last)
		}
		if e.closed != 1 {
			t.Errorf("%s was shut down %d times", e.name, e.closed)
		}
	}
	if quick.batch > 7 {
		t.Errorf("a batch of %d", quick.batch)
	}
	if stats := p.Stats(); len(stats.Lost) != 0 || stats.Exporters[0].Exported != n+2 || stats.Exporters[0].Queued != 0 {
		t.Errorf("%+v", stats)
	}
}

// TestFullQueueDrops checks that what a full queue has no room for is counted and told: published is
// exported and dropped.
func TestFullQueueDrops(t *testing.T) {
	const n = 1000
	source, stuck, other := newFakeSource(), &fakeExporter{name: "stuck", hold: make(chan struct{})}, &fakeExporter{name: "other"}
	p := newTestPipeline(t, Settings{Source: source, Exporters: []ExporterSettings{
		{Exporter: stuck, QueueSize: 100, BatchSize: 10}, {Exporter: other},
	}})
	source.send(made())
	for range n {
		source.send(opened(100))
	}
	// A child's exit must find room where opens did not.
	source.send(record(100, &event.ProcessExit{}))
	stop := start(t, p)
	for p.Stats().Exporters[1].Exported < n+2 {
		time.Sleep(time.Millisecond)
	}
	close(stuck.hold)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	stats := p.Stats()
	var published uint64
	for _, c := range stats.Events {
		published += uint64(c.N)
	}
	for _, e := range stats.Exporters {
		if e.Exported+e.Failed+e.Dropped != published || e.Queued != 0 {
			t.Errorf("%s: %d published, %+v", e.Name, published, e)
		}
	}
	if dropped := stats.Exporters[0].Dropped; dropped < n-120 || lost(stats, event.LossQueue) != dropped {
		t.Errorf("%d dropped, %d counted as lost", dropped, lost(stats, event.LossQueue))
	}
	var told uint64
	for _, e := range stuck.got() {
		if l, ok := e.Payload.(*event.Loss); ok && l.Stage == event.LossQueue && l.Lost == "stuck" && e.Sandbox.ID == "s1" {
			told += l.Count
		}
	}
	if told != stats.Exporters[0].Dropped {
		t.Errorf("%d told of %d dropped", told, stats.Exporters[0].Dropped)
	}
	if stuck.kinds()[event.KindProcessExit] != 1 || stuck.kinds()[event.KindSandboxStop] != 1 {
		t.Errorf("what matters more than opens had no room: %v", stuck.kinds())
	}
}

func TestFailingExporter(t *testing.T) {
	source, bad, good := newFakeSource(), &fakeExporter{name: "bad", failure: errors.New("refused")}, &fakeExporter{name: "good"}
	p := newTestPipeline(t, Settings{Source: source, Exporters: []ExporterSettings{{Exporter: bad}, {Exporter: good}}})
	source.send(made(), opened(100), opened(100))
	stop := start(t, p)
	for p.Stats().Exporters[0].Failed < 3 {
		time.Sleep(time.Millisecond)
	}
	p.tick(time.Now())
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	stats := p.Stats()
	if stats.Exporters[0].Exported != 0 || stats.Exporters[1].Failed != 0 || lost(stats, event.LossExport) < 3 {
		t.Errorf("%+v", stats)
	}
	if good.kinds()[event.KindLoss] == 0 {
		t.Error("the loss was not told")
	}
	// The report of a loss is lost there too; counting it would never end.
	if n := lost(stats, event.LossExport); n != 4 {
		t.Errorf("%d counted as lost, of 2 opens, a start and a stop", n)
	}
}

// TestEndsThoughAnExporterDoesNot has an exporter that waits for ever with a full queue that blocks.
func TestEndsThoughAnExporterDoesNot(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		t.Run(fmt.Sprintf("deaf=%t", deaf), func(t *testing.T) {
			source, stuck := newFakeSource(), &fakeExporter{name: "stuck", hold: make(chan struct{}), deaf: deaf}
			defer close(stuck.hold)
			other := &fakeExporter{name: "other"}
			p := newTestPipeline(t, Settings{
				Source: source, ShutdownTimeout: 100 * time.Millisecond, Exporters: []ExporterSettings{
					{Exporter: stuck, QueueSize: 8, WhenFull: Block}, {Exporter: other},
				},
			})
			source.send(made())
			for range 100 {
				source.send(opened(100))
			}
			stop := start(t, p)
			time.Sleep(20 * time.Millisecond)
			// Others are not held up by it.
			if stats := p.Stats(); stats.Exporters[0].Queued < 8 || len(p.Alive(10)) != 1 {
				t.Errorf("%+v", stats.Exporters)
			}
			p.tick(time.Now())
			err := stop()
			if deaf != (err != nil && strings.Contains(err.Error(), "stuck")) {
				t.Error(err)
			}
			if got := other.kinds()[event.KindFileOpen]; got != 100 {
				t.Errorf("the other got %d", got)
			}
			if e := p.Stats().Exporters[0]; e.Dropped+e.Failed == 0 || e.Exported != 0 {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestSourceThatFails(t *testing.T) {
	failure := errors.New("ring is gone")
	source, exporter := newFakeSource(), &fakeExporter{}
	source.failure = failure
	p := newTestPipeline(t, Settings{Source: source, Exporters: []ExporterSettings{{Exporter: exporter}}})
	if err := p.Run(t.Context()); !errors.Is(err, failure) {
		t.Error(err)
	}
	if exporter.closed != 1 || p.Running() {
		t.Error("not shut down")
	}
}

// TestBrokenCounters goes on without the counters of the kernel.
func TestBrokenCounters(t *testing.T) {
	source, exporter := newFakeSource(), &fakeExporter{}
	source.broken = errors.New("no map")
	p := newTestPipeline(t, Settings{Source: source, Exporters: []ExporterSettings{{Exporter: exporter}}})
	source.send(made(), opened(100))
	if err := start(t, p)(); err != nil || exporter.kinds()[event.KindFileOpen] != 1 {
		t.Error(err, exporter.kinds())
	}
}

func TestDetectors(t *testing.T) {
	opens := []event.Kind{event.KindFileOpen}
	panics := &fakeDetector{
		rule: event.Rule{ID: "panics", UUID: "1", Kinds: opens},
		find: func(*event.Event) *event.Finding { panic("oh") },
	}
	finds := &fakeDetector{
		rule: event.Rule{ID: "finds", UUID: "2", Severity: event.SeverityHigh, Kinds: opens},
		find: func(e *event.Event) *event.Finding { return &event.Finding{Title: "found"} },
	}
	own := &fakeDetector{
		rule: event.Rule{ID: "own", UUID: "3", Kinds: []event.Kind{event.KindProcessExit}},
		find: func(e *event.Event) *event.Finding {
			return &event.Finding{ID: "mine", Title: "x", Evidence: []string{"e1"}, State: event.FindingUpdate, Count: 7}
		},
		forgets: func() { panic("forgets") },
	}
	source, exporter := newFakeSource(), &fakeExporter{}
	p := newTestPipeline(t, Settings{
		Source: source, Detectors: []Detector{panics, finds, own}, Exporters: []ExporterSettings{{Exporter: exporter}},
	})
	source.send(made(), opened(100), opened(101), record(100, &event.ProcessExit{}))
	if err := start(t, p)(); err != nil {
		t.Fatal(err)
	}
	if panics.shown != 1 || finds.shown != 2 || own.shown != 1 {
		t.Errorf("shown %d, %d, %d events", panics.shown, finds.shown, own.shown)
	}
	var found []*event.Event
	for _, e := range exporter.got() {
		if e.Kind() == event.KindFinding {
			found = append(found, e)
		}
	}
	if len(found) != 3 {
		t.Fatalf("%d findings", len(found))
	}
	first, second, third := finding(t, found[0]), finding(t, found[1]), finding(t, found[2])
	if first.Rule != &finds.rule || first.ID == "" || first.ID != second.ID || first.State != event.FindingNew || first.Count != 1 {
		t.Errorf("%+v, %+v", first, second)
	}
	if want := []string{fmt.Sprintf("%s-%d", p.Instance(), found[0].Seq-1)}; cmp.Diff(want, first.Evidence) != "" {
		t.Errorf("evidence %v, want %v", first.Evidence, want)
	}
	if found[0].Process == nil || found[0].Process.PID != 100 || found[0].Sandbox.ID != "s1" {
		t.Errorf("%+v", found[0])
	}
	if third.ID != "mine" || third.State != event.FindingUpdate || third.Count != 7 || third.Evidence[0] != "e1" {
		t.Errorf("%+v", third)
	}
	stats := p.Stats().Detectors
	if len(stats) != 3 || !stats[0].Failed || stats[1].Failed || stats[1].Entries != 2 {
		t.Errorf("%+v", stats)
	}
	p.forget("s1")
	if len(finds.forgot) != 1 || !p.Stats().Detectors[2].Failed {
		t.Error("a panic in Forget was not taken note of, or ended the forgetting")
	}
}

func finding(t *testing.T, e *event.Event) *event.Finding {
	t.Helper()
	f, ok := e.Payload.(*event.Finding)
	if !ok {
		t.Fatalf("%T", e.Payload)
	}
	return f
}

// TestBurst sends 10,000 short processes through the whole pipeline.
func TestBurst(t *testing.T) {
	const n = 10000
	source, exporter := newFakeSource(), &fakeExporter{}
	p := newTestPipeline(t, Settings{
		Source: source, MaxProcesses: 1024, Exporters: []ExporterSettings{{Exporter: exporter, WhenFull: Block}},
	})
	source.send(made())
	for i := range uint32(n) {
		pid := 100 + i
		source.send(record(pid, &bpf.Fork{}), record(pid, &event.ProcessExec{Executable: "/bin/true", Args: []string{"true"}}),
			record(pid, &event.ProcessExit{}))
	}
	if err := start(t, p)(); err != nil {
		t.Fatal(err)
	}
	kinds := exporter.kinds()
	if kinds[event.KindProcessExec] != n || kinds[event.KindProcessExit] != n {
		t.Errorf("%v", kinds)
	}
	names := map[string]int{}
	for _, e := range exporter.got() {
		if e.Kind() == event.KindProcessExit {
			names[e.Process.Name]++
		}
	}
	if names["true"] != n {
		t.Errorf("processes at their exits: %v", names)
	}
	if stats := p.Stats(); stats.Processes > 1024 || stats.ProcessesEvicted == 0 || len(stats.Lost) != 0 {
		t.Errorf("%+v", stats)
	}
}

// TestStatsWhileRunning is for the race detector: everything that others may call, while records come.
func TestStatsWhileRunning(t *testing.T) {
	source, summary := newFakeSource(), NewSummarizer(10)
	p := newTestPipeline(t, Settings{Source: source, Exporters: []ExporterSettings{{Exporter: summary}, {Exporter: &fakeExporter{}, QueueSize: 10}}})
	source.send(made())
	stop := start(t, p)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for range 50 {
				_ = p.Stats()
				_ = p.Alive(10)
				_ = summary.Summary()
				_ = p.Running()
				p.tick(time.Now())
			}
		})
	}
	for i := range uint32(5000) {
		source.send(opened(100 + i%10))
	}
	readers.Wait()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if stats := p.Stats(); stats.Sandboxes != 1 || stats.SandboxesRefused != 3 || stats.RingBytes != 4096 || stats.Processes != 10 || len(stats.Probes) != 1 {
		t.Errorf("%+v", stats)
	}
}

// TestHostileRecords hands over what no kernel side sends; nothing of it may end the pipeline.
func TestHostileRecords(t *testing.T) {
	source, exporter := newFakeSource(), &fakeExporter{}
	p := newTestPipeline(t, Settings{Source: source, Exporters: []ExporterSettings{{Exporter: exporter}}})
	zero := record(0, &event.FileOpen{})
	zero.Task = bpf.Task{}
	source.send(made(), record(100, nil), record(100, "text"), zero,
		record(100, &event.NetworkConnect{}), record(100, &event.NetworkFlow{}), record(100, &event.ProcessExec{}),
		record(100, &bpf.Existing{}), record(100, &bpf.NameAnswers{Answers: []bpf.NameAnswer{{}}}),
		record(100, &event.ProcessExit{}), record(100, &event.ProcessExit{}), record(100, &event.ProcessExec{}))
	if err := start(t, p)(); err != nil {
		t.Fatal(err)
	}
	if n := lost(p.Stats(), event.LossDecode); n != 2 {
		t.Errorf("%d of 2 records of unknown types counted", n)
	}
	for _, e := range exporter.got() {
		_ = e.AppendAttributes(nil)
		_ = e.Payload.AppendBody(nil)
	}
}

func TestSettingsThatLack(t *testing.T) {
	if _, err := New(Settings{}); err == nil {
		t.Error("a pipeline of nothing")
	}
}

func TestNamesAreBounded(t *testing.T) {
	var c nameCache
	now := time.Now()
	for i := range 3 * maxNames {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		c.add(&bpf.NameAnswers{Name: "n", Answers: []bpf.NameAnswer{{Addr: addr, TTL: time.Hour}, {Addr: addr, TTL: time.Hour}}}, now)
	}
	if len(c.names) != maxNames || len(c.order) != maxNames {
		t.Errorf("%d names, %d in order", len(c.names), len(c.order))
	}
	if name, _ := c.nameOf(netip.AddrFrom4([4]byte{10, 0, 0, 0}), now); name != "" {
		t.Error("the oldest is still there")
	}
}

func TestCgroupsAreBounded(t *testing.T) {
	var c cgroupPaths
	for i := range uint64(2 * maxCgroups) {
		c.add(i, "/x")
	}
	if len(c.paths) != maxCgroups {
		t.Errorf("%d paths", len(c.paths))
	}
}
