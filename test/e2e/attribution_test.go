// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/watchglass/watchglass/test/attribution"
	"github.com/watchglass/watchglass/test/e2e/agents"
)

// channels is how each agent speaks when `agents setup` set it up.
func channels() map[string][]string {
	return map[string][]string{
		"codex": {"hook", "log", "span"}, "claude": {"hook", "log", "span"}, "gemini": {"hook", "log", "span"}, "opencode": {"hook", "log", "span"},
	}
}

// TestAttribution plays a part of make bench-join: agents as `agents setup` set them up are heard, and what processes do
// is given to the calls that did it, as sure as the project promises.
func TestAttribution(t *testing.T) {
	require(t)
	watchglass, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cache, err := agents.UserCache()
	if err != nil {
		t.Fatal(err)
	}
	scenarios := map[string][]string{
		"codex":    {"four", "escaped", "persistent", "forged"},
		"claude":   {"four", "escaped", "sub-agent", "forged"},
		"gemini":   {"four"},
		"opencode": {"identical", "lingering", "forged"},
	}
	for _, agent := range attribution.Names() {
		t.Run(agent, func(t *testing.T) {
			runner := attribution.Runner{Watchglass: watchglass, Cache: cache, Keep: t.ArtifactDir()}
			var total attribution.Score
			for _, scenario := range attribution.Scenarios() {
				if !slices.Contains(scenarios[agent], scenario.Name) {
					continue
				}
				score, err := runner.Run(t.Context(), agent, scenario)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%s: %+v", scenario.Name, score)
				total.Add(score)
				if scenario.Name == "four" || scenario.Name == "lingering" {
					checkHeard(t, filepath.Join(runner.Keep, agent+"-"+scenario.Name, "events.jsonl"), channels()[agent])
				}
			}
			target := attribution.TargetsOf(agent)
			if got := total.Recall(); got < target.Recall {
				t.Errorf("recall %.4f, want %.2f: %+v", got, target.Recall, total)
			}
			if got := total.Precision(attribution.Sure()...); got < target.Precision {
				t.Errorf("precision %.4f, want %.3f: %+v", got, target.Precision, total)
			}
			if total.Forged != 0 {
				t.Errorf("%d attributions are wrong and called exact: %+v", total.Forged, total)
			}
		})
	}
}

// checkHeard checks what an agent said of a session with four calls or more: it came by each of its channels, as its own
// sandbox's and of one session, and each call was joined to a process.
func checkHeard(t *testing.T, path string, want []string) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	events, err := readStream(file)
	if err != nil {
		t.Fatal(err)
	}
	var heard []string
	sessions, joined := map[string]bool{}, map[string]bool{}
	for _, rec := range events.records {
		channel := rec.text("watchglass.claim.channel")
		if channel == "" {
			continue
		}
		if !slices.Contains(heard, channel) && channel != "facts" {
			heard = append(heard, channel)
		}
		if id := rec.text("session.id"); id != "" {
			sessions[id] = true
		}
		if got := rec.text("watchglass.claim.sender"); got != "owner" {
			t.Errorf("%s by %s: the sender is %q, want owner", rec.Event, channel, got)
		}
		if rec.Event == "watchglass.tool.call" && rec.text("watchglass.tool.phase") == "joined" {
			for _, root := range rec.list("watchglass.tool.root_uids") {
				joined[root] = true
			}
		}
	}
	if slices.Sort(heard); !slices.Equal(heard, want) {
		t.Errorf("heard by %v, want %v", heard, want)
	}
	if len(sessions) != 1 {
		t.Errorf("%d sessions, want 1: %v", len(sessions), sessions)
	}
	if len(joined) < 4 {
		t.Errorf("%d processes were joined to calls, want at least 4", len(joined))
	}
	for _, kind := range []string{"watchglass.session.start", "watchglass.model.request"} {
		if len(events.all(kind, func(record) bool { return true })) == 0 {
			t.Errorf("no %s", kind)
		}
	}
}
