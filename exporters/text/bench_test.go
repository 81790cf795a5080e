// SPDX-License-Identifier: Apache-2.0

package text

import (
	"io"
	"testing"

	"github.com/watchglass/watchglass/exporters/internal/sample"
)

func BenchmarkTimeline(b *testing.B) {
	cfg := DefaultConfig()
	cfg.Everything = true
	e, err := New(io.Discard, cfg)
	if err != nil {
		b.Fatal(err)
	}
	events := sample.Events()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := e.Export(b.Context(), events[i%len(events):][:1]); err != nil {
			b.Fatal(err)
		}
	}
}
