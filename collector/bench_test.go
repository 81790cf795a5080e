// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"net/netip"
	"testing"
	"time"

	"github.com/watchglass/watchglass/bpf"
	"github.com/watchglass/watchglass/event"
)

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
