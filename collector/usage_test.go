// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
)

// TestUsageIsToldAndKept: measurements become events of their sandbox, its account shows the latest and
// what was counted besides, and none of it outlives the sandbox.
func TestUsageIsToldAndKept(t *testing.T) {
	source, out := newFakeSource(), &fakeExporter{name: "out"}
	var reads atomic.Int64
	p := newTestPipeline(t, Settings{
		Source: source, Exporters: []ExporterSettings{{Exporter: out}},
		Usage: Usage{Interval: time.Millisecond, Read: func(*event.Sandbox) (*event.ResourceUsage, error) {
			n := reads.Add(1)
			if n%2 == 0 {
				return nil, errors.New("it is just going")
			}
			return &event.ResourceUsage{CPU: &event.CPUUsage{Total: time.Duration(n)}}, nil
		}},
	})
	source.send(made(), opened(100))
	source.count(10, "file", 9, 4)
	stop := start(t, p)
	var got []event.SandboxStats
	for len(got) == 0 || got[0].Usage == nil || got[0].Usage.CPU.Total < 5 {
		time.Sleep(time.Millisecond)
		got = p.SandboxStats()
	}
	s := got[0]
	if s.Sandbox.ID != "s1" || s.Events < 4 || s.Lost != 4 || s.Processes != 1 || s.Findings != 0 {
		t.Errorf("%+v", s)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, e := range out.got() {
		if _, ok := e.Payload.(*event.ResourceUsage); ok && e.Sandbox.ID == "s1" && e.Process == nil {
			told++
		}
	}
	if n := int(reads.Load()+1) / 2; told < n-1 || told > n {
		t.Errorf("%d measurements, %d told", n, told)
	}
	if left := p.SandboxStats(); len(left) != 0 {
		t.Errorf("after the stop: %+v", left)
	}
	told = len(out.got())
	p.Measure()
	if len(out.got()) != told {
		t.Error("measured after the end")
	}
}
