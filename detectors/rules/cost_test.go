// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/testenv"
)

// work is the events of an agent's work in the proportions in which they come: of a build mostly opens, some programs,
// names and changes of files, a few connections, and now and then a claim.
func work() []*event.Event {
	sandbox := &event.Sandbox{ID: "s", Name: "s"}
	top := &event.Process{UID: 1, RootUID: 1, PID: 1, Name: "codex", Executable: "/usr/bin/codex", Args: []string{"codex"}, Agent: &event.Agent{Name: "codex"}}
	agent := &event.Agent{Name: "codex", SessionID: "s", CallID: "c1", Tool: "shell", Method: "env", Confidence: "exact"}
	shell := &event.Process{UID: 2, RootUID: 2, PID: 2, Name: "bash", Executable: "/bin/bash", Args: []string{"bash", "-c", "make -j8"}, Agent: agent, Parent: top}
	maker := &event.Process{UID: 3, RootUID: 2, PID: 3, Name: "make", Executable: "/usr/bin/make", Args: []string{"make", "-j8"}, Agent: agent, Parent: shell}
	compiler := &event.Process{
		UID: 4, RootUID: 2, PID: 4, Name: "cc1", Executable: "/usr/lib/gcc/x86_64-linux-gnu/14/cc1",
		Args: []string{"cc1", "-quiet", "-O2", "main.c", "-o", "/tmp/ccX.s"}, Agent: agent, Parent: maker,
	}
	registry := netip.MustParseAddrPort("127.0.0.1:4873")
	var payloads []event.Payload
	for i := range 60 {
		payloads = append(payloads,
			&event.FileOpen{Path: fmt.Sprintf("/usr/include/x86_64-linux-gnu/bits/types%d.h", i), Access: event.AccessRead, Class: event.FileClassSystem, Inode: uint64(100 + i), Mode: 0o100644})
		if i%3 == 0 {
			payloads = append(payloads, &event.FileOpen{Path: fmt.Sprintf("/home/dev/work/src/file%d.c", i), Access: event.AccessRead, Class: event.FileClassOther, Inode: uint64(300 + i), Mode: 0o100644})
		}
		if i%6 == 0 {
			payloads = append(payloads, &event.FileOpen{Path: fmt.Sprintf("/home/dev/work/build/file%d.o", i), Access: event.AccessWrite, Class: event.FileClassOther, Inode: uint64(500 + i), Mode: 0o100644})
		}
		switch i % 20 {
		case 0:
			payloads = append(payloads, &event.ProcessExec{
				Executable: compiler.Executable, Args: compiler.Args, ArgsCount: len(compiler.Args), WorkingDirectory: "/home/dev/work", Origin: event.OriginFile, Inode: 11,
			})
		case 5:
			payloads = append(payloads, &event.ProcessExit{})
		case 10:
			payloads = append(payloads, &event.FileChange{Operation: event.FileRenamed, Path: "/home/dev/work/build/a.tmp", Target: "/home/dev/work/build/a.o"})
		case 15:
			payloads = append(payloads, &event.FileChange{Operation: event.FileUnlink, Path: "/home/dev/work/build/a.d"})
		}
	}
	payloads = append(payloads,
		&event.DNSQuery{Name: "registry.example.com", Type: "A", Code: "NOERROR"},
		&event.NetworkConnect{Transport: event.TransportTCP, Peer: registry, PeerName: "localhost"},
		&event.NetworkFlow{Transport: event.TransportTCP, Peer: registry, Sent: 300, Received: 9000, Duration: time.Second},
		&event.ToolCall{Claim: event.Claim{Agent: "codex", Session: "s"}, ID: "c1", Phase: event.PhaseStart, Name: "shell", Command: "make -j8"},
	)
	for _, p := range []*event.Process{top, shell, maker, compiler} {
		p.Start = time.Unix(1_800_000_000, 0)
	}
	events := make([]*event.Event, len(payloads))
	for i, payload := range payloads {
		events[i] = &event.Event{Time: time.Unix(1_800_000_000+int64(i/50), 0), Instance: "t", Seq: uint64(i), Sandbox: sandbox, Process: compiler, Payload: payload}
	}
	return events
}

// TestWorkAllocatesNothing: with everything on, an event that matches nothing costs no memory.
func TestWorkAllocatesNothing(t *testing.T) {
	x := newEverything(t, Limits{MaxSandboxes: 256, MaxEntries: 1024})
	report := func(f *event.Finding) { t.Errorf("a finding: %s", f.Title) }
	for range 2 { // the first makes room
		for _, e := range work() {
			x.show(e, report)
		}
	}
	limit := 0.0
	if testenv.RaceDetector {
		limit = 4 // it makes the pools of regular expressions forget, at random
	}
	for _, e := range work() {
		if n := testing.AllocsPerRun(20, func() { x.show(e, report) }); n > limit {
			t.Errorf("%s: %v allocations: %v", e.Kind(), n, e.Payload)
		}
	}
	if x.engine.Failures() != 0 {
		t.Errorf("%d evaluations failed", x.engine.Failures())
	}
}

// BenchmarkWork is what the built-in detectors and rules and a hundred of users cost for an event of ordinary work:
// the median over the events, the mean, and the dearest.
func BenchmarkWork(b *testing.B) {
	const batch = 32
	x := newEverything(b, Limits{MaxSandboxes: 256, MaxEntries: 1024})
	report := func(f *event.Finding) { b.Errorf("a finding: %s", f.Title) }
	events := work()
	for _, e := range events {
		x.show(e, report)
	}
	best := make([]time.Duration, len(events))
	b.ReportAllocs()
	rounds := 0
	for b.Loop() {
		for i, e := range events {
			began := time.Now()
			for range batch {
				x.show(e, report)
			}
			// The least of all rounds: what else the machine does is not the detectors'.
			if took := time.Since(began) / batch; best[i] == 0 || took < best[i] {
				best[i] = took
			}
		}
		rounds++
	}
	slices.Sort(best)
	var sum time.Duration
	for _, d := range best {
		sum += d
	}
	b.ReportMetric(0, "ns/op") // of a round, which is nothing
	b.ReportMetric(float64(best[len(best)/2].Nanoseconds()), "median-ns/event")
	b.ReportMetric(float64(sum.Nanoseconds())/float64(len(best)), "mean-ns/event")
	b.ReportMetric(float64(best[len(best)-1].Nanoseconds()), "max-ns/event")
	b.ReportMetric(float64(rounds*batch*len(events))/b.Elapsed().Seconds(), "events/s")
}
