// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"os"
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
		p.beaten(beat{began, map[string]time.Duration{"a": time.Second}},
			beat{began.Add(passed), map[string]time.Duration{"a": 3 * time.Second, "b": time.Second}})
	}
	if err := start(t, p)(); err != nil {
		t.Fatal(err)
	}
	var gaps []time.Duration
	for _, e := range exporter.events {
		if g, ok := e.Payload.(*event.Gap); ok {
			gaps = append(gaps, g.Duration)
			if g.Expected != beatInterval || g.Waited != 2*time.Second || !e.Time.Equal(began.Add(g.Duration)) {
				t.Errorf("%+v at %s", g, e.Time)
			}
		}
	}
	if len(gaps) != 2 || gaps[0] != 3*beatInterval || gaps[1] != 90*time.Second {
		t.Errorf("gaps of %v", gaps)
	}
}

// TestThreadsWaited reads what the kernel tells of this process's own threads.
func TestThreadsWaited(t *testing.T) {
	_, err := os.Stat("/proc/self/schedstat") // a kernel may be built without
	if all := threadsWaited(); (len(all) > 0) != (err == nil) {
		t.Errorf("known is for how long %d threads waited: %v", len(all), err)
	}
}
