// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
)

// successorSource goes on where another ended.
type successorSource struct {
	*fakeSource
	takeover *event.Takeover
}

func (s *successorSource) TakenOver() *event.Takeover { return s.takeover }

// TestTakeover: that a collector goes on where another ended is told once, and is a warning where maps were replaced.
func TestTakeover(t *testing.T) {
	for _, test := range []struct {
		takeover *event.Takeover
		want     event.Severity
	}{
		{nil, 0},
		{&event.Takeover{How: event.PinningAdopted, Ring: event.RingContinued, Version: "0.1.0"}, event.SeverityInfo},
		{&event.Takeover{How: event.PinningReplaced, Ring: event.RingRead, Version: "0.1.0"}, event.SeverityWarn},
	} {
		source := &successorSource{newFakeSource(), test.takeover}
		p := newTestPipeline(t, Settings{Source: source, Exporters: []ExporterSettings{{Exporter: &fakeExporter{}}}})
		p.tick(time.Now())
		p.tick(time.Now())
		var batch []*event.Event
		if waiting, _ := p.outputs[0].queue.state(); waiting > 0 {
			batch, _ = p.outputs[0].queue.pull(nil, 100)
		}
		told := 0
		for _, e := range batch {
			if e.Kind() == event.KindTakeover {
				told++
				if e.Payload.Severity() != test.want {
					t.Errorf("%+v is told with severity %v", e.Payload, e.Payload.Severity())
				}
			}
		}
		if want := min(1, int(test.want)); told != want {
			t.Errorf("%+v is told %d times", test.takeover, told)
		}
	}
}
