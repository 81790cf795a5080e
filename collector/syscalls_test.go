// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/event"
)

// keepingSource remembers which counts of system calls were told, as pins do.
type keepingSource struct {
	*fakeSource
	told map[uint64]bpf.ToldSyscalls
}

func (s *keepingSource) SyscallsTold(c *bpf.SyscallCounts, at time.Time) {
	s.told[c.Sandbox] = bpf.ToldSyscalls{Counts: c.Counts, Errors: c.Errors, Time: at}
}

func (s *keepingSource) ToldSyscalls() map[uint64]bpf.ToldSyscalls { return s.told }

// TestSyscallsOfTheOneBefore has a collector go on with the counts of another, which was killed.
func TestSyscallsOfTheOneBefore(t *testing.T) {
	source := &keepingSource{fakeSource: newFakeSource(), told: map[uint64]bpf.ToldSyscalls{}}
	count := func(reads, failed int64) {
		source.syscalls = []bpf.SyscallCounts{{
			Sandbox: 10, Counts: []event.Count{{Name: "read", N: reads}}, Errors: []event.Count{{Name: "read", N: failed}},
		}}
	}
	now := time.Now()
	begin := func() *Pipeline {
		p := newTestPipeline(t, Settings{Source: source, Exporters: []ExporterSettings{{Exporter: &fakeExporter{}}}})
		watched := made()
		watched.Time = now
		p.handle(watched)
		return p
	}
	summaries := func(p *Pipeline) []*event.SyscallSummary {
		var got []*event.SyscallSummary
		batch, _ := p.outputs[0].queue.pull(nil, 1000)
		for _, e := range batch {
			if s, ok := e.Payload.(*event.SyscallSummary); ok {
				got = append(got, s)
			}
		}
		return got
	}
	p := begin()
	count(100, 7)
	p.tick(now.Add(11 * time.Second))
	if got := summaries(p); len(got) != 1 || got[0].Counts[0].N != 100 || got[0].Errors[0].N != 7 {
		t.Fatalf("the first collector tells %+v", got)
	}
	p = begin()
	count(130, 9)
	p.tick(now.Add(30 * time.Second))
	got := summaries(p)
	if len(got) != 1 || got[0].Counts[0].N != 30 || got[0].Errors[0].N != 2 {
		t.Fatalf("the second collector tells %+v, want what came on top", got)
	}
	if window := got[0].Window; window != 19*time.Second {
		t.Errorf("of an interval of %v, want it from when the first one told last", window)
	}
	// Where the counts began anew, so does what is told.
	clear(source.told)
	p = begin()
	count(5, 0)
	p.tick(now.Add(11 * time.Second))
	if got := summaries(p); len(got) != 1 || got[0].Counts[0].N != 5 {
		t.Errorf("of new counts is told %+v", got)
	}
}

// TestSyscallLatencies has what is told of latencies be what came on top since the last summary, also of the collector before.
func TestSyscallLatencies(t *testing.T) {
	last := map[string]event.Latency{}
	of := func(name string, sum time.Duration, first, second int64) event.Latency {
		return event.Latency{Name: name, Sum: sum, Buckets: [event.LatencyBuckets]int64{first, second}}
	}
	for _, step := range []struct{ now, told []event.Latency }{
		{[]event.Latency{of("futex", 9, 1, 1), of("read", 1, 1, 0)}, []event.Latency{of("futex", 9, 1, 1), of("read", 1, 1, 0)}},
		{[]event.Latency{of("futex", 9, 1, 1), of("read", 30, 1, 5)}, []event.Latency{of("read", 29, 0, 5)}},
		{[]event.Latency{of("futex", 10, 2, 1), of("read", 33, 2, 5)}, []event.Latency{of("read", 3, 1, 0), of("futex", 1, 1, 0)}},
	} {
		if diff := cmp.Diff(step.told, longer(last, step.now)); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	}
	told := event.NewLatencies([]event.Latency{of("read", 3, 1, 2)}, 5).AppendAttributes(nil)
	if len(told) != 3 || told[2].Key != event.SyscallUntimed {
		t.Errorf("of 5 calls, 3 of which took any time, is told %v", told)
	}
	if got := event.NewLatencies(nil, 5); got != nil {
		t.Errorf("nothing is %+v", got)
	}
}
