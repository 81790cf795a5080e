// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"testing"
	"time"

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
