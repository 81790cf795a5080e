// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"fmt"
	"testing"
	"time"

	logs "go.opentelemetry.io/proto/otlp/logs/v1"

	"github.com/watchglass/watchglass/test/e2e/backend"
)

// TestSeveralDestinations: of three destinations at once one is down for a time, over a restart of the collector, and
// one gets findings alone, in the words of another schema. Neither delays the one that takes everything, each goes on
// after the restart where it was, and one that is new then begins with the history that the journal has.
func TestSeveralDestinations(t *testing.T) {
	const away, soc, late = "away", "soc", "late"
	s := newStage(t)
	sinks := map[string]*sink{}
	for _, name := range []string{away, soc, late} {
		sinks[name] = newSink(t, s, name)
	}
	destination := func(name, more string) string {
		return fmt.Sprintf("    - {name: %s, endpoint: http://%s, retry: {initial: 200ms, max: 1s}%s}\n", name, sinks[name].address, more)
	}
	both := "  destinations:\n" + destination(away, "") +
		destination(soc, ", profile: ocsf, filter: {kinds: [watchglass.finding], min_severity: medium}")
	p := newSceneOn(t, s, nodeSettings{exporters: both})
	p.sink.start(t)
	sinks[soc].start(t)
	p.begin(t)
	lag := func(name string) float64 {
		v, ok := p.node.metric("watchglass_destination_lag_events", `destination="`+name+`"`)
		if !ok {
			t.Errorf("%s has no lag", name)
		}
		return v
	}
	// It waits for the one that is down, and no longer for the others than a batch takes.
	until(t, "much waits for the one that is down", func() bool { return lag(away) > 100_000 })
	until(t, "little waits for the others", func() bool { return lag("otlp") < lag(away)/2 && lag(soc) < lag(away)/2 })
	p.rest(t)
	until(t, "the others have everything", func() bool { return lag("otlp") < 50 && lag(soc) < 50 })
	waiting := lag(away)
	if filtered, _ := p.node.metric("watchglass_destination_events_filtered_total", `destination="`+soc+`"`); filtered < waiting/2 {
		t.Errorf("%v events passed %s, while %v wait for %s", filtered, soc, waiting, away)
	}
	p.node.stop(t)
	sinks[away].start(t)
	sinks[late].start(t)
	p.node.configure(t, nodeSettings{otlp: sendTo(p.sink.address), exporters: both + destination(late, ", start: oldest")})
	p.node.start(t)
	if first := lag("otlp"); first > waiting/2 {
		t.Errorf("after the restart %v events wait for the one that had everything", first)
	}
	p.drain = p.node.drained(t, patience)
	p.node.stop(t)
	for _, k := range sinks {
		k.collector.Stop()
	}
	r := p.settle(t, "Three destinations at once: one takes everything, one is down until the collector is started again, one gets findings "+
		"alone as OCSF; a fourth is new at the second start and begins with the oldest event.")
	if r.lost != 0 || r.repeated != 0 {
		t.Errorf("%d events were lost to the one that takes everything, and %d came again: %v", r.lost, r.repeated, r.losses)
	}
	arrived := read(t, p.sink.file)
	for _, name := range []string{away, late} {
		a := readOf(t, name, sinks[name].file)
		for instance, produced := range p.node.produced {
			if missing := a.missing(instance, produced, 8); len(missing) > 0 {
				t.Errorf("of start %s %s did not get %v", instance, name, missing)
			}
		}
		if a.repeated != 0 {
			t.Errorf("%d events came again to %s", a.repeated, name)
		}
	}
	findings := map[string]int{}
	err := backend.Records(sinks[soc].file, func(_ map[string]string, record *logs.LogRecord) {
		if record.GetEventName() == "watchglass.finding" && record.GetBody().GetKvlistValue() == nil {
			t.Errorf("a finding is no OCSF event: %v", record)
		}
		findings[backend.Attributes(record.GetAttributes())["log.record.uid"]]++
	})
	if err != nil {
		t.Fatal(err)
	}
	for uid, id := range arrived.found {
		if findings[uid] != 1 && arrived.severe[uid] {
			t.Errorf("%s got %d times event %s of finding %s", soc, findings[uid], uid, id)
		}
	}
	if len(arrived.found) == 0 {
		t.Error("nothing was found: the scenario tests nothing")
	}
}

// until waits for a condition, as long as a busy machine may take.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came that %s", what)
		}
	}
}
