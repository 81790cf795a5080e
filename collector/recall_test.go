// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters/otlp"
	"github.com/watchglass/watchglass/exporters/recall"
)

// TestRecalledSessions: what is put together from kept events is what the daemon has in memory, for recorded
// runs of real agents. What the daemon finds out of words that name no call, it alone knows: opencode approves
// the parts of a command line one by one, which the daemon shows as calls of their own.
func TestRecalledSessions(t *testing.T) {
	for _, name := range []string{"codex", "claude", "gemini", "opencode"} {
		t.Run(name, func(t *testing.T) {
			r := loadRun(t, name, func(*agent.Statement) bool { return true })
			p, events := r.replay(t)
			var live []event.SessionView
			for _, v := range p.Sessions() {
				if found := p.Session(v.ID); len(found) > 0 {
					live = append(live, found[0])
				}
			}
			kept := recalled(t, events)
			if len(live) == 0 {
				t.Fatal("the run has no session")
			}
			if diff := gocmp.Diff(essence(live, name != "opencode"), essence(kept, name != "opencode")); diff != "" {
				t.Errorf("in memory (-) and from what was kept (+):\n%s", diff)
			}
		})
	}
}

// recalled encodes events, decodes them and puts the sessions together, in two passes as the command does.
func recalled(t *testing.T, events []*event.Event) []event.SessionView {
	t.Helper()
	encoder := otlp.NewEncoder(nil)
	gathered := recall.New()
	for _, kinds := range [][]event.Kind{recall.Claims(), recall.Facts()} {
		for _, e := range events {
			if !slices.Contains(kinds, e.Kind()) {
				continue
			}
			var encoded event.Encoded
			encoder.Encode(&encoded, e)
			r, err := otlp.Decode(&encoded)
			if err != nil {
				t.Fatal(err)
			}
			gathered.Add(r)
		}
	}
	if gathered.Omitted != 0 {
		t.Errorf("%d are omitted", gathered.Omitted)
	}
	return gathered.Views()
}

// essence is what of sessions must be the same, in lines.
func essence(views []event.SessionView, approvals bool) []string {
	var lines []string
	for i := range views {
		v := &views[i]
		if !approvals {
			v.CallCount = 0
		}
		lines = append(lines, fmt.Sprintf("session %s of %s %s in %s, model %s, ended %v %s, turns %d calls %d processes %d", v.ID, v.Agent, v.Version,
			v.SandboxName, v.Model, !v.Ended.IsZero(), v.EndReason, v.TurnCount, v.CallCount, v.ProcessCount))
		for _, u := range v.Turns {
			lines = append(lines, fmt.Sprintf("  turn %s %q %d requests %d/%d", u.ID, u.Prompt, u.Requests, u.InputTokens, u.OutputTokens))
			for _, c := range u.Calls {
				if !approvals {
					c.Approvals = nil
					if strings.HasPrefix(c.ID, "watchglass:") {
						continue
					}
				}
				exit := "-"
				if c.ExitCode != nil {
					exit = fmt.Sprint(*c.ExitCode)
				}
				lines = append(lines, fmt.Sprintf("    call %s %s %q %s %s/%s exit %s, %d processes", c.ID, c.Tool, c.Command, c.Outcome, c.Method,
					c.Confidence, exit, c.Totals.Processes))
				for _, a := range c.Approvals {
					lines = append(lines, fmt.Sprintf("      %s by %s", a.State, a.Decider))
				}
				slices.SortFunc(c.Processes, func(a, b event.ProgramView) int { return cmp.Compare(a.PID, b.PID) })
				for _, p := range c.Processes {
					lines = append(lines, fmt.Sprintf("      process %d %s exit %d %s", p.PID, strings.Fields(p.Command)[0], p.ExitCode, p.Signal))
				}
				for _, o := range append(c.Files, c.Peers...) {
					lines = append(lines, fmt.Sprintf("      %s %v %d", o.Name, o.Write, o.Count))
				}
			}
		}
	}
	return lines
}
