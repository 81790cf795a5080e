// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/testenv"
)

// counter is an exporter that only counts.
type counter struct{ n int }

func (*counter) Name() string { return "counter" }

func (c *counter) Export(_ context.Context, batch []*event.Event) error {
	c.n += len(batch)
	return nil
}

func (*counter) Shutdown(context.Context) error { return nil }

// BenchmarkPipeline takes decoded records through attribution to publication, on one core: no detector
// and no exporter, whose costs are their own. The payload's allocation belongs to the decoder.
func BenchmarkPipeline(b *testing.B) {
	peer := netip.MustParseAddrPort("192.0.2.1:443")
	for name, payload := range map[string]any{
		"file-open":       &event.FileOpen{Path: "/srv/work/main.go", Access: event.AccessRead, Inode: 7},
		"network-connect": &event.NetworkConnect{Transport: event.TransportTCP, Peer: peer},
		"process-exec":    &event.ProcessExec{Executable: "/usr/bin/make", Args: []string{"make", "all"}, ArgsCount: 2},
	} {
		b.Run(name, func(b *testing.B) {
			p := newTestPipeline(b, Settings{})
			now := time.Now()
			p.handle(&bpf.Record{Time: now, Payload: &bpf.CgroupMade{ID: 1, Path: "/s1"}})
			r := bpf.Record{
				Time: now, Sandbox: 1, Cgroup: 1, Payload: payload,
				Task: bpf.Task{PID: 100, TID: 100, ParentPID: 50, Start: 1000, ParentStart: 500, StartTime: now},
			}
			b.ReportAllocs()
			for b.Loop() {
				p.handle(&r)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// buildRecords is what a compiler run looks like: of every 20 records a fork, an exec, an exit, a connect
// and 16 opens, by ever new processes. Payloads are made anew each time, as decoding does.
func buildRecords(i uint32) *bpf.Record {
	const perProcess = 20
	pid, step := 1000+i/perProcess, i%perProcess
	r := record(pid, nil)
	r.Task.ParentPID = 100
	r.Task.ParentStart = 100 * 1e6
	switch step {
	case 0:
		r.Payload = &bpf.Fork{}
	case 1:
		r.Payload = &event.ProcessExec{
			Executable: "/usr/bin/cc", Filename: "/usr/bin/cc", Args: []string{"cc", "-O2", "-c", "main.c"}, ArgsCount: 4,
			WorkingDirectory: "/src", Env: []event.EnvVar{{Name: "CODEX_TOOL_CALL_ID", Value: "call_1"}, {Name: "CODEX_THREAD_ID", Value: "t1"}},
		}
	case perProcess - 2:
		r.Payload = &event.NetworkConnect{Transport: event.TransportTCP, Peer: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 80)}
	case perProcess - 1:
		r.Payload = &event.ProcessExit{}
	default:
		r.Payload = &event.FileOpen{Path: "/usr/include/stdio.h", Access: event.AccessRead}
	}
	return r
}

// BenchmarkBuild is one record of a build through attribution, three detectors that look and find nothing, and
// the queues. Making the record is part of it: see BenchmarkRecords for how much.
func BenchmarkBuild(b *testing.B) {
	for _, exporters := range []int{0, 1, 3} {
		b.Run(fmt.Sprintf("exporters=%d", exporters), func(b *testing.B) {
			s := Settings{Classify: func(string) event.FileClass { return event.FileClassSystem }}
			for range exporters {
				s.Exporters = append(s.Exporters, ExporterSettings{Exporter: &counter{}, WhenFull: Block})
			}
			for i := range 3 {
				s.Detectors = append(s.Detectors, &fakeDetector{
					rule: event.Rule{ID: fmt.Sprint(i), Kinds: []event.Kind{event.KindFileOpen, event.KindProcessExec, event.KindNetworkConnect}},
					find: func(*event.Event) *event.Finding { return nil },
				})
			}
			p := newTestPipeline(b, s)
			p.handle(made())
			for _, o := range p.outputs {
				go o.run(b.Context())
			}
			b.ReportAllocs()
			used := cpuTime(b)
			for i := uint32(0); b.Loop(); i++ {
				p.handle(buildRecords(i))
			}
			// Of processor time, the garbage collector's and the exporters' included: what a core of its own would do.
			b.ReportMetric(float64(b.N)/(cpuTime(b)-used).Seconds(), "events/cpu-s")
			for _, o := range p.outputs {
				o.queue.close()
			}
		})
	}
}

// cpuTime is the processor time that the test has used so far.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkRecords is the making of BenchmarkBuild's records alone.
func BenchmarkRecords(b *testing.B) {
	b.ReportAllocs()
	for i := uint32(0); b.Loop(); i++ {
		_ = buildRecords(i)
	}
}

// TestAllocations holds attribution to its budget: nothing but a chunk of memory for every 16 events, and one for every 8
// births and execs, in which processes are. Everything that is needed for the first time only is there by then.
func TestAllocations(t *testing.T) {
	const chunk = 16
	peer := netip.MustParseAddrPort("192.0.2.1:443")
	dns := bpf.DNSMessage{
		Ends: bpf.Ends{Peer: netip.MustParseAddrPort("192.0.2.53:53"), LocalPort: 4000}, Transport: event.TransportUDP, Type: "A",
		NameAnswers: bpf.NameAnswers{Name: "example.com", Answers: []bpf.NameAnswer{{Addr: peer.Addr(), TTL: time.Hour}}},
	}
	asked, answered := dns, dns
	asked.Sent, answered.Answer = true, true
	for name, c := range map[string]struct {
		payloads []any
		// born is whether each time another process does it; most is how many allocations chunk of them may take.
		born bool
		most float64
	}{
		"open":    {payloads: []any{&event.FileOpen{Path: "/srv/work/main.go", Access: event.AccessRead, Inode: 7}}, most: 1},
		"change":  {payloads: []any{&event.FileChange{Operation: event.FileUnlink, Path: "/srv/work/main.o"}}, most: 1},
		"io":      {payloads: []any{&event.FileIO{Path: "/srv/work/main.o", Written: 5, Writes: 1}}, most: 1},
		"connect": {payloads: []any{&event.NetworkConnect{Transport: event.TransportTCP, Peer: peer}}, most: 1},
		"flow":    {payloads: []any{&event.NetworkFlow{Transport: event.TransportTCP, Peer: peer, Sent: 5}}, most: 1},
		"socket":  {payloads: []any{&event.NetworkSocket{Operation: event.SocketCreate, Family: "inet"}}, most: 1},
		// Of the answer the event and what it tells; its addresses are a quarter of a chunk.
		"dns":     {payloads: []any{&asked, &answered}, most: 2},
		"notable": {payloads: []any{&event.SyscallNotable{Name: "ptrace", Error: 1}}, most: 1},
		"exec":    {payloads: []any{&event.ProcessExec{Executable: "/usr/bin/make", Args: []string{"make", "all"}, ArgsCount: 2}}, most: 3},
		"life":    {payloads: []any{&bpf.Fork{}, &event.ProcessExec{Executable: "/usr/bin/make"}, &event.ProcessExit{}}, born: true, most: 6},
	} {
		p := newTestPipeline(t, Settings{
			Exporters: []ExporterSettings{{Exporter: &counter{}, QueueSize: 1}}, MaxProcesses: 64,
			Classify: func(string) event.FileClass { return event.FileClassSystem },
		})
		p.handle(made())
		start := record(100, &bpf.Fork{})
		p.handle(start)
		var r bpf.Record
		i := uint64(0)
		got := testing.AllocsPerRun(200, func() {
			for range chunk {
				for _, payload := range c.payloads {
					r = *start
					r.Payload = payload
					if c.born {
						r.Task.ParentPID, r.Task.ParentStart = start.Task.PID, start.Task.Start
						r.Task.PID, r.Task.Start = 1000+uint32(i%4096), start.Task.Start+1+i
					}
					p.handle(&r)
				}
				i++
			}
		})
		if got > c.most || got == 0 {
			t.Errorf("%v allocations for %d times %s, want %v", got, chunk, name, c.most)
		}
	}
}

// TestSummaryAllocations pins what a summary of system calls takes, once an interval for each sandbox: its lists, which are
// its own, and what each process that it names takes.
func TestSummaryAllocations(t *testing.T) {
	const chunk = 16
	for processes, most := range map[int]float64{0: 4, 1: 8} {
		p := newTestPipeline(t, Settings{Exporters: []ExporterSettings{{Exporter: &counter{}, QueueSize: 1}}})
		p.handle(made())
		state := p.sandboxes[10]
		counts := bpf.SyscallCounts{Sandbox: 10}
		for i := range 20 {
			counts.Counts = append(counts.Counts, event.Count{Name: fmt.Sprint("call", i)})
		}
		for i := range processes {
			r := record(uint32(100+i), &bpf.Fork{})
			p.handle(r)
			counts.Processes = append(counts.Processes, bpf.ProcessSyscalls{Task: r.Task, Calls: 1, Counts: []event.Count{{Name: "call1", N: 1}}})
		}
		now := time.Now()
		got := testing.AllocsPerRun(50, func() {
			for range chunk {
				for i := range counts.Counts {
					counts.Counts[i].N++
				}
				now = now.Add(time.Second)
				p.publishSyscalls(state, counts, now)
			}
		}) / chunk
		if testenv.RaceDetector {
			most += float64(processes) // what each is looked for by escapes
		}
		if got != most {
			t.Errorf("%v allocations for a summary with %d processes, want %v", got, processes, most)
		}
	}
}
