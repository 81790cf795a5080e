// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/watchglass/watchglass/collector"
	"github.com/watchglass/watchglass/detectors"
	"github.com/watchglass/watchglass/detectors/rules"
	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/policy"
)

// toggle is a detector that can be switched off and on while it is in the pipeline.
type toggle struct {
	collector.Detector
	off atomic.Bool
}

// Detect implements collector.Detector.
func (t *toggle) Detect(e *event.Event, report func(*event.Finding)) {
	if !t.off.Load() {
		t.Detector.Detect(e, report)
	}
}

// ticking is a toggle around a detector that time can make find something.
type ticking struct{ *toggle }

// Tick implements collector.Ticker.
func (t ticking) Tick(now time.Time, report func(cause *event.Event, f *event.Finding)) {
	if ticker, ok := t.Detector.(collector.Ticker); ok && !t.off.Load() {
		ticker.Tick(now, report)
	}
}

// toggles is all detectors there are.
type toggles struct {
	built []*toggle
	// engine runs the rules.
	engine *rules.Engine
	loaded *rules.Set
}

// newToggles makes the detectors, which ask the policy in force, and loads the rules.
func newToggles(cfg *detectorsConfig, live *policy.Live, log *slog.Logger) (*toggles, error) {
	own := cfg.Config
	own.Policy = detectors.Policy{SecretAllowed: live.SecretAllowed, Allowed: live.Allowed}
	made, err := detectors.New(&own)
	if err != nil {
		return nil, err
	}
	set, err := cfg.loadRules()
	if err != nil {
		return nil, err
	}
	ts := &toggles{
		loaded: set,
		engine: rules.NewEngine(set, rules.Limits{MaxSandboxes: cfg.MaxSandboxes, MaxEntries: cfg.MaxEntries}, log),
	}
	for _, d := range made {
		ts.built = append(ts.built, &toggle{Detector: d})
	}
	ts.set(cfg.Disabled)
	return ts, nil
}

// swap puts other rules in force.
func (ts *toggles) swap(set *rules.Set) { ts.engine.Swap(set) }

// set switches off the detectors with these ids, and all others on.
func (ts *toggles) set(disabled []string) {
	for _, t := range ts.built {
		t.off.Store(slices.Contains(disabled, t.Rule().ID))
	}
	ts.engine.Disable(disabled)
}

// list is the detectors as the pipeline takes them.
func (ts *toggles) list() []collector.Detector {
	var list []collector.Detector
	for _, t := range ts.built {
		if _, ok := t.Detector.(collector.Ticker); ok {
			list = append(list, ticking{t})
			continue
		}
		list = append(list, t)
	}
	return append(list, ts.engine)
}

// rules is what the detectors declare.
func (ts *toggles) rules() []*event.Rule {
	var declared []*event.Rule
	for _, t := range ts.built {
		declared = append(declared, t.Rule())
	}
	for _, r := range ts.loaded.Rules() {
		declared = append(declared, r.Declaration())
	}
	return declared
}

// detectorIDs is the ids of the built-in detectors that are no rules.
func detectorIDs() ([]string, error) {
	cfg := detectors.DefaultConfig()
	cfg.Policy = detectors.Policy{
		SecretAllowed: func(_, _ string) bool { return true },
		Allowed:       func(event.Transport, netip.AddrPort) bool { return true },
	}
	made, err := detectors.New(&cfg)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, d := range made {
		ids = append(ids, d.Rule().ID)
	}
	return ids, nil
}
