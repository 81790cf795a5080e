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
	// oversight is asked whether what it finds counts.
	oversight *detectors.Oversight
}

// Detect implements collector.Detector.
func (t *toggle) Detect(e *event.Event, report func(*event.Finding)) {
	if !t.off.Load() {
		t.oversight.Show(t.Detector, e, report)
	}
}

// Forget implements collector.Detector.
func (t *toggle) Forget(sandboxID string) {
	t.oversight.Forget(sandboxID)
	t.Detector.Forget(sandboxID)
}

// EndSession implements collector.Ender.
func (t *toggle) EndSession(sandboxID, session string) {
	if ender, ok := t.Detector.(collector.Ender); ok {
		ender.EndSession(sandboxID, session)
	}
}

// EndTree implements collector.Ender.
func (t *toggle) EndTree(sandboxID string, root event.ProcessID) {
	if ender, ok := t.Detector.(collector.Ender); ok {
		ender.EndTree(sandboxID, root)
	}
}

// ticking is a toggle around a detector that time can make find something.
type ticking struct{ *toggle }

// Tick implements collector.Ticker.
func (t ticking) Tick(now time.Time, report func(cause *event.Event, f *event.Finding)) {
	if ticker, ok := t.Detector.(collector.Ticker); ok && !t.off.Load() {
		t.oversight.Tick(ticker, now, report)
	}
}

// toggles is all detectors there are.
type toggles struct {
	built []*toggle
	// engine runs the rules.
	engine *rules.Engine
	loaded *rules.Set
	// usual is what was learned.
	usual     *detectors.Baselines
	oversight *detectors.Oversight
	// titles is what the rules find, by their ids.
	titles atomic.Pointer[map[string]string]
}

// newToggles makes the detectors, which ask the policy in force, and loads the rules.
func newToggles(cfg *detectorsConfig, live *policy.Live, log *slog.Logger) (*toggles, error) {
	own := cfg.Config
	own.Policy = detectors.Policy{SecretAllowed: live.SecretAllowed, Allowed: live.Allowed, Observing: live.Observing}
	own.Usual = detectors.NewBaselines(&own)
	made, err := detectors.New(&own)
	if err != nil {
		return nil, err
	}
	set, err := cfg.loadRules()
	if err != nil {
		return nil, err
	}
	profiles, err := cfg.profiles(set)
	if err != nil {
		return nil, err
	}
	ts := &toggles{
		loaded: set, usual: own.Usual, oversight: detectors.NewOversight(own.Usual, profiles),
		engine: rules.NewEngine(set, rules.Limits{MaxSandboxes: cfg.MaxSandboxes, MaxEntries: cfg.MaxEntries}, log),
	}
	for _, d := range made {
		ts.built = append(ts.built, &toggle{Detector: d, oversight: ts.oversight})
	}
	ts.set(cfg.Disabled)
	ts.setTitles(set)
	return ts, nil
}

// swap puts other rules and profiles in force.
func (ts *toggles) swap(set *rules.Set, profiles *detectors.Profiles) {
	ts.engine.Swap(set)
	ts.setTitles(set)
	ts.oversight.Use(profiles)
}

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
	return append(list, ticking{&toggle{Detector: ts.engine, oversight: ts.oversight}})
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

// profiles is the profiles of the section, which may name the rules of set and the built-in detectors.
func (c *detectorsConfig) profiles(set *rules.Set) (*detectors.Profiles, error) {
	ids, err := detectorIDs()
	if err != nil {
		return nil, err
	}
	for _, r := range set.Rules() {
		ids = append(ids, r.Declaration().ID)
	}
	return detectors.NewProfiles(c.Profiles, func(id string) bool { return slices.Contains(ids, id) })
}

// title is what the rule of that id finds; "" when there is none. It may be called from any goroutine.
func (ts *toggles) title(id string) string { return (*ts.titles.Load())[id] }

func (ts *toggles) setTitles(set *rules.Set) {
	canary := event.CanaryRule()
	titles := map[string]string{canary.ID: canary.Title}
	for _, t := range ts.built {
		titles[t.Rule().ID] = t.Rule().Title
	}
	for _, r := range set.Rules() {
		titles[r.Declaration().ID] = r.Declaration().Title
	}
	ts.titles.Store(&titles)
}

// detectorIDs is the ids of the built-in detectors that are no rules.
func detectorIDs() ([]string, error) {
	cfg := detectors.DefaultConfig()
	cfg.Policy = detectors.Policy{SecretAllowed: allowSecret, Allowed: allowPeer, Observing: func() bool { return true }}
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

func allowSecret(_, _ string) bool                   { return true }
func allowPeer(event.Transport, netip.AddrPort) bool { return true }
