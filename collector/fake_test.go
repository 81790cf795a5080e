// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/event"
)

// fakeSource delivers records as a tracer does: one at a time, and what is left when its context ends.
type fakeSource struct {
	mu        sync.Mutex
	waiting   []*bpf.Record
	counts    map[uint64]map[string][2]uint64 // by sandbox and probe: seen, dropped
	syscalls  []bpf.SyscallCounts
	undecoded uint64
	refused   uint64
	failure   error // of Run
	broken    error // of Counts and SyscallCounts
	more      chan struct{}
}

func newFakeSource() *fakeSource {
	return &fakeSource{counts: map[uint64]map[string][2]uint64{}, more: make(chan struct{}, 1)}
}

func (s *fakeSource) send(records ...*bpf.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, records...)
	select {
	case s.more <- struct{}{}:
	default:
	}
}

func (s *fakeSource) take() *bpf.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		return nil
	}
	r := s.waiting[0]
	s.waiting = s.waiting[1:]
	return r
}

func (s *fakeSource) Run(ctx context.Context, handle func(*bpf.Record)) error {
	if s.failure != nil {
		return s.failure
	}
	for {
		for r := s.take(); r != nil; r = s.take() {
			handle(r)
		}
		select {
		case <-s.more:
		case <-ctx.Done():
			for r := s.take(); r != nil; r = s.take() {
				handle(r)
			}
			return nil
		}
	}
}

func (s *fakeSource) count(sandbox uint64, probe string, seen, dropped uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts[sandbox] == nil {
		s.counts[sandbox] = map[string][2]uint64{}
	}
	n := s.counts[sandbox][probe]
	s.counts[sandbox][probe] = [2]uint64{n[0] + seen, n[1] + dropped}
}

func (s *fakeSource) Counts() ([]bpf.SandboxCounts, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []bpf.SandboxCounts
	for sandbox, probes := range s.counts {
		for probe, n := range probes {
			list = append(list, bpf.SandboxCounts{Sandbox: sandbox, Probe: probe, Kind: probe, Seen: n[0], Dropped: n[1]})
		}
	}
	slices.SortFunc(list, func(a, b bpf.SandboxCounts) int {
		return cmp.Or(cmp.Compare(a.Sandbox, b.Sandbox), cmp.Compare(a.Probe, b.Probe))
	})
	return list, s.broken
}

func (s *fakeSource) SyscallCounts(sandbox uint64) ([]bpf.SyscallCounts, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var counts []bpf.SyscallCounts
	for i, c := range s.syscalls {
		if sandbox == 0 || c.Sandbox == sandbox {
			counts = append(counts, c)
			s.syscalls[i].Processes = nil // told once
		}
	}
	return counts, s.broken
}

func (s *fakeSource) Probes() []event.ProbeStats {
	return []event.ProbeStats{{Name: "process", Attached: true}}
}

func (*fakeSource) RingStats() (size, used uint64) { return 4096, 0 }

func (s *fakeSource) Refused() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

func (s *fakeSource) Undecoded() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.undecoded
}

// fakeSandboxes watches every cgroup whose path begins with /s, one level deep.
type fakeSandboxes struct {
	mu      sync.Mutex
	watched map[uint64]*event.Sandbox
}

func (f *fakeSandboxes) Lookup(id uint64) *event.Sandbox {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.watched[id]
}

func (f *fakeSandboxes) Sandboxes() []*event.Sandbox {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(maps.Values(f.watched), func(a, b *event.Sandbox) int { return cmp.Compare(a.ID, b.ID) })
}

func (f *fakeSandboxes) Made(id uint64, path string) *event.Sandbox {
	if len(path) != len("/s1") || path[:2] != "/s" {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watched == nil {
		f.watched = map[uint64]*event.Sandbox{}
	}
	s := &event.Sandbox{ID: path[1:], Name: path[1:], Runtime: "cgroup", Cgroup: path, CgroupID: id}
	f.watched[id] = s
	return s
}

func (f *fakeSandboxes) Gone(id uint64) *event.Sandbox {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.watched[id]
	delete(f.watched, id)
	return s
}

func (*fakeSandboxes) Refused() uint64 { return 3 }

// fakeExporter keeps what it is given. It can stand still until it is let go, fail, or ignore its context.
type fakeExporter struct {
	name    string
	failure error
	hold    chan struct{} // Export waits until it is closed; nil for not at all
	deaf    bool          // to the context, when it waits

	mu     sync.Mutex
	events []*event.Event
	batch  int // the longest
	closed int
}

func (f *fakeExporter) Name() string { return cmp.Or(f.name, "fake") }

func (f *fakeExporter) Export(ctx context.Context, batch []*event.Event) error {
	if f.hold != nil {
		heard := ctx.Done()
		if f.deaf {
			heard = nil
		}
		select {
		case <-f.hold:
		case <-heard:
			return ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed > 0 {
		return errors.New("export after shutdown")
	}
	f.batch = max(f.batch, len(batch))
	if f.failure == nil {
		f.events = append(f.events, batch...)
	}
	return f.failure
}

func (f *fakeExporter) Shutdown(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed++
	return nil
}

// got is the events so far.
func (f *fakeExporter) got() []*event.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.events)
}

func (f *fakeExporter) kinds() map[event.Kind]int {
	n := map[event.Kind]int{}
	for _, e := range f.got() {
		n[e.Kind()]++
	}
	return n
}

// fakeDetector finds something in every event that it is shown, if find says so.
type fakeDetector struct {
	rule    event.Rule
	find    func(e *event.Event) *event.Finding
	shown   int
	forgot  []string
	forgets func()
}

func (d *fakeDetector) Rule() *event.Rule { return &d.rule }

func (d *fakeDetector) Detect(e *event.Event, report func(*event.Finding)) {
	d.shown++
	if f := d.find(e); f != nil {
		report(f)
	}
}

func (d *fakeDetector) Forget(id string) {
	d.forgot = append(d.forgot, id)
	if d.forgets != nil {
		d.forgets()
	}
}

func (d *fakeDetector) Stats() event.DetectorStats {
	return event.DetectorStats{Name: d.rule.ID, Entries: d.shown}
}

// newTestPipeline fills in what the settings lack.
func newTestPipeline(t testing.TB, s Settings) *Pipeline {
	t.Helper()
	if s.Source == nil {
		s.Source = newFakeSource()
	}
	if s.Sandboxes == nil {
		s.Sandboxes = &fakeSandboxes{}
	}
	s.Logger, s.BootID = slog.New(slog.DiscardHandler), "boot-1"
	p, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
