// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
)

// TestWithoutSandbox: what is about the collector itself has neither sandbox nor process, and is found all the same.
func TestWithoutSandbox(t *testing.T) {
	sources, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Load(sources...)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	newTestEngine(s).Detect(&event.Event{
		Time: time.Unix(1_800_000_000, 0), Instance: "t", Seq: 1, Payload: &event.Gap{Duration: time.Minute, Expected: time.Second},
	}, func(f *event.Finding) { found = append(found, f.Rule.ID+": "+f.Title) })
	if len(found) != 1 || found[0] != "collector-paused: the collector did not run for 60 s" {
		t.Errorf("found %q", found)
	}
}
