// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
)

// TestPostureIsLookedAtAgain: what a sandbox shows is told at first and when it is another, of the process that was looked
// at before while that lives.
func TestPostureIsLookedAtAgain(t *testing.T) {
	shown, pids := &event.SandboxPosture{Seccomp: "disabled"}, []uint32(nil)
	var failure error
	p := newTestPipeline(t, Settings{
		Exporters: []ExporterSettings{{Exporter: &fakeExporter{}}},
		Examine: func(pid uint32, _ *event.Sandbox) (*event.SandboxPosture, error) {
			pids = append(pids, pid)
			now := *shown
			return &now, failure
		},
	})
	now := record(100, nil).Time
	p.handle(made())
	p.handle(of(now, 100, 0, &event.ProcessExec{Executable: "/bin/sh", Args: []string{"sh"}}))
	look := func(pass time.Duration) (told []string) {
		now = now.Add(pass)
		p.tick(now)
		p.background.Wait()
		if p.Stats().Exporters[0].Queued == 0 {
			return nil // to pull would wait
		}
		batch, _ := p.outputs[0].queue.pull(nil, 1000)
		for _, e := range batch {
			if posture, ok := e.Payload.(*event.SandboxPosture); ok {
				told = append(told, posture.Seccomp)
			}
		}
		return told
	}
	want := func(got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	want(look(examineDelay+time.Second), "disabled")
	p.handle(of(now, 101, 100, &event.ProcessExec{Executable: "/bin/sleep", Args: []string{"sleep"}})) // younger
	want(look(time.Minute))
	want(look(examineAgain))
	shown.Seccomp = "filter"
	want(look(examineAgain), "filter")
	failure = errors.New("gone")
	want(look(examineAgain))
	failure, shown.Seccomp = nil, "disabled"
	want(look(time.Minute))
	want(look(examineAgain), "disabled")
	p.handle(of(now, 100, 0, &event.ProcessExit{}))
	want(look(examineAgain))
	if !slices.Equal(pids, []uint32{100, 100, 100, 100, 100}) {
		t.Errorf("looked at %d", pids)
	}
}
