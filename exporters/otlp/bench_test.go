// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/internal/sample"
)

// BenchmarkRecord is one event to one encoded log record: ours, and as a ratio how much longer the generated
// types take for the same, measured in the same run so that both saw the same machine.
func BenchmarkRecord(b *testing.B) {
	e, events := NewEncoder(sample.Resource()), sample.Events()
	var to event.Encoded
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		e.Encode(&to, events[i%len(events)])
	}
	ours := float64(b.Elapsed()) / float64(b.N)
	b.StopTimer()
	l := &reference{program: sample.Resource()}
	const rounds = 200
	start := time.Now()
	for range rounds {
		for _, ev := range events {
			if _, err := proto.Marshal(l.record(ev)); err != nil {
				b.Fatal(err)
			}
		}
	}
	theirs := float64(time.Since(start)) / float64(rounds*len(events))
	b.ReportMetric(1e9/ours, "records/s")
	b.ReportMetric(theirs/ours, "times-faster")
}

// BenchmarkRequest is a thousand encoded records to one request.
func BenchmarkRequest(b *testing.B) {
	e, events := NewEncoder(sample.Resource()), sample.Events()
	var request []byte
	var batch []event.Encoded
	for i := range 1000 {
		var encoded event.Encoded
		e.Encode(&encoded, events[i%len(events)])
		batch = append(batch, encoded)
	}
	var a Assembler
	b.ReportAllocs()
	for b.Loop() {
		request = a.Append(request[:0], batch)
	}
	b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "records/s")
}
