// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/internal/sample"
	"github.com/watchglass/watchglass/exporters/profile"
)

// BenchmarkEncode is one event to one encoded log record: ours, and as a ratio how much longer the generated
// types take for the same, measured in the same run so that both saw the same machine.
func BenchmarkEncode(b *testing.B) {
	seen := map[event.Kind]bool{}
	for _, ev := range sample.Events() {
		if seen[ev.Kind()] {
			continue
		}
		seen[ev.Kind()] = true
		b.Run(strings.ReplaceAll(strings.TrimPrefix(string(ev.Kind()), "watchglass."), ".", "-"), func(b *testing.B) {
			e := NewEncoder(sample.Resource())
			var to event.Encoded
			b.ReportAllocs()
			for b.Loop() {
				e.Encode(&to, ev)
			}
			ours := float64(b.Elapsed()) / float64(b.N)
			b.StopTimer()
			generated := &reference{program: sample.Resource()}
			const rounds = 2000
			start := time.Now()
			for range rounds {
				if _, err := proto.Marshal(generated.record(ev)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(1e9/ours, "events/s")
			b.ReportMetric(float64(time.Since(start))/rounds/ours, "x-generated")
		})
	}
}

// thousand is a thousand encoded records.
func thousand() []event.Encoded {
	events := make([]*event.Event, 0, 1000)
	for i := range cap(events) {
		events = append(events, sample.Events()[i%len(sample.Events())])
	}
	return encode(events)
}

// BenchmarkDecode is a thousand encoded records read back, as a file of lines has them read.
func BenchmarkDecode(b *testing.B) {
	batch := thousand()
	var d Decoder
	b.ReportAllocs()
	for b.Loop() {
		for i := range batch {
			if _, err := d.Decode(&batch[i]); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkRequest is a thousand encoded records to one request.
func BenchmarkRequest(b *testing.B) {
	batch := thousand()
	b.Run("thousand-records", func(b *testing.B) {
		var a Assembler
		var request []byte
		b.ReportAllocs()
		for b.Loop() {
			request = a.Append(request[:0], batch)
		}
		b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "events/s")
	})
}

// BenchmarkSend is a thousand encoded records to a server on the same machine, which decodes them.
func BenchmarkSend(b *testing.B) {
	batch := thousand()
	for _, protocol := range protocols() {
		for _, compression := range []string{CompressionNone, CompressionGzip, CompressionZstd} {
			b.Run(strings.ReplaceAll(protocol, "/", "-")+"-"+compression, func(b *testing.B) {
				s := server{forget: true}
				cfg := s.start(b, protocol, nil)
				cfg.Compression = compression
				l, err := OpenLogs(cfg.LogsConfig("siem"), Settings{Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					if rejected, err := l.Send(context.Background(), batch); err != nil || len(rejected) > 0 {
						b.Fatal(rejected, err)
					}
				}
				b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "events/s")
				if err := l.Shutdown(context.Background()); err != nil {
					b.Error(err)
				}
			})
		}
	}
}

// BenchmarkProfile is a thousand encoded records in the words of another schema.
func BenchmarkProfile(b *testing.B) {
	batch := thousand()
	for _, name := range []string{profile.ECS, profile.OCSF} {
		b.Run(name, func(b *testing.B) {
			p := newProfiler(name)
			b.ReportAllocs()
			for b.Loop() {
				for i := range batch {
					if _, err := p.convert(&batch[i]); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "events/s")
		})
	}
}
