// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/watchglass/watchglass/exporters/internal/sample"
)

// BenchmarkRecord is one event to one encoded log record.
func BenchmarkRecord(b *testing.B) {
	l := &Logs{settings: Settings{Resource: sample.Resource()}}
	events := sample.Events()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := proto.Marshal(l.record(events[i%len(events)])); err != nil {
			b.Fatal(err)
		}
	}
}
