// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
)

// TestGap: two beats that were missed are a gap, a late one is none.
func TestGap(t *testing.T) {
	source, exporter := newFakeSource(), &fakeExporter{}
	p := newTestPipeline(t, Settings{Source: source, Exporters: []ExporterSettings{{Exporter: exporter}}})
	began := time.Now()
	for _, passed := range []time.Duration{beatInterval, 3*beatInterval - time.Millisecond, -time.Hour, 3 * beatInterval, 90 * time.Second} {
		p.beat(began, began.Add(passed))
	}
	if err := start(t, p)(); err != nil {
		t.Fatal(err)
	}
	var gaps []time.Duration
	for _, e := range exporter.events {
		if g, ok := e.Payload.(*event.Gap); ok {
			gaps = append(gaps, g.Duration)
			if g.Expected != beatInterval || !e.Time.Equal(began.Add(g.Duration)) {
				t.Errorf("%+v at %s", g, e.Time)
			}
		}
	}
	if len(gaps) != 2 || gaps[0] != 3*beatInterval || gaps[1] != 90*time.Second {
		t.Errorf("gaps of %v", gaps)
	}
}
