// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
)

// benchConfig is the default configuration in a folder of the benchmark's own.
func benchConfig(b *testing.B) Config {
	cfg := DefaultConfig()
	cfg.Dir = b.TempDir()
	return cfg
}

// realistic is events whose records are as large, and as alike, as those of a session: about 500 bytes, of
// which ids, times and paths differ.
func realistic(n int) []event.Encoded {
	r := rand.New(rand.NewPCG(1, 2))
	var list []event.Encoded
	for i := range n {
		e := made("a", uint64(i+1))
		e.Record = fmt.Appendf(nil, "watchglass.file.open log.record.uid 5d7c19f04a1b2c3d-%d process.pid %d process.creation.time 2026-03-14T15:09:26.%09dZ "+
			"watchglass.process.uid %016x watchglass.process.parent_uid %016x watchglass.process.root_uid 00000000000000a1 process.user.id 1000 "+
			"process.executable.name go process.executable.path /usr/local/go/bin/go gen_ai.agent.name codex session.id 0199f7c2-aaaa-7bbb "+
			"gen_ai.tool.call.id call_%d watchglass.join.method environment file.path /home/dev/src/project/internal/package%d/file%d.go "+
			"watchglass.file.access read watchglass.file.inode %d watchglass.file.device 8:1 read /home/dev/src/project/internal/package%d/file%d.go",
			i, 4000+i%17, r.IntN(1e9), r.Uint64(), r.Uint64(), i/100, i%40, r.IntN(400), r.IntN(1<<24), i%40, r.IntN(400))
		list = append(list, e)
	}
	return list
}

func rate(b *testing.B, events int) {
	b.ReportMetric(float64(events)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkAppend is groups of 1,024 events into the journal, under each policy.
func BenchmarkAppend(b *testing.B) {
	for _, policy := range []SyncPolicy{SyncNever, SyncInterval, SyncAlways} {
		b.Run(string(policy), func(b *testing.B) {
			cfg := benchConfig(b)
			cfg.Sync = policy
			j := open(b, cfg, "a")
			events := realistic(1024)
			b.ReportAllocs()
			for b.Loop() {
				j.Append(events, 0)
			}
			rate(b, len(events))
			stats := j.Stats()
			if n := stats.Lanes[Events].Next - stats.Lanes[Events].First; n > 0 {
				b.ReportMetric(float64(stats.Lanes[Events].Bytes)/float64(n), "B/event")
			}
			shut(b, j)
		})
	}
}

// filled is a journal with that many events.
func filled(b *testing.B, cfg Config, n int) {
	j := open(b, cfg, "a")
	events := realistic(1024)
	for range n / len(events) {
		j.Append(events, 0)
	}
	shut(b, j)
}

// BenchmarkRead is reading a journal of 300,000 events from its beginning.
func BenchmarkRead(b *testing.B) {
	cfg := benchConfig(b)
	cfg.Sync = SyncNever
	filled(b, cfg, 300_000)
	total := 0
	b.ReportAllocs()
	for b.Loop() {
		total = 0
		r, err := OpenReader(cfg.Dir, Query{})
		if err != nil {
			b.Fatal(err)
		}
		for {
			_, ok, err := r.Next()
			if err != nil {
				b.Fatal(err)
			}
			if !ok {
				break
			}
			total++
		}
		r.Close()
	}
	rate(b, total)
}

// BenchmarkVerify is verifying the same.
func BenchmarkVerify(b *testing.B) {
	cfg := benchConfig(b)
	cfg.Sync = SyncNever
	filled(b, cfg, 300_000)
	var size int64
	for b.Loop() {
		report, err := Verify(cfg.Dir, proofOf(b, cfg.Dir))
		if err != nil || !report.Good() {
			b.Fatal(err)
		}
		size = report.Lanes[Events].Bytes
	}
	b.SetBytes(size)
	rate(b, 300_000)
}

// BenchmarkRecovery is opening a journal whose last segment is full and torn.
func BenchmarkRecovery(b *testing.B) {
	cfg := benchConfig(b)
	cfg.Sync = SyncNever
	filled(b, cfg, 270_000)
	list, err := listSegments(cfg.Dir, Events)
	if err != nil {
		b.Fatal(err)
	}
	torn := list[len(list)-1].path
	info, err := os.Stat(torn)
	if err != nil {
		b.Fatal(err)
	}
	var took time.Duration
	n := 0
	for b.Loop() {
		b.StopTimer()
		if err := os.Truncate(torn, info.Size()-int64(n%100)); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		start := time.Now()
		j, err := Open(cfg, Settings{Instance: "b", Logger: discard()})
		if err != nil {
			b.Fatal(err)
		}
		took += time.Since(start)
		n++
		b.StopTimer()
		shut(b, j)
		b.StartTimer()
	}
	b.ReportMetric(float64(took.Milliseconds())/float64(n), "ms/open")
	b.ReportMetric(float64(info.Size())/(1<<20), "MiB")
}
