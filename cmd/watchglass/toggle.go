// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/watchglass/watchglass/collector"
	"github.com/watchglass/watchglass/detectors"
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

// toggles is all detectors there are.
type toggles []*toggle

// newToggles makes the detectors, which ask the policy in force.
func newToggles(cfg *detectorsConfig, live *policy.Live) (toggles, error) {
	own := cfg.Config
	own.Policy = detectors.Policy{SecretAllowed: live.SecretAllowed, Allowed: live.Allowed}
	made, err := detectors.New(&own)
	if err != nil {
		return nil, err
	}
	var ts toggles
	for _, d := range made {
		ts = append(ts, &toggle{Detector: d})
	}
	ts.set(cfg.Disabled)
	return ts, nil
}

// set switches off the detectors with these ids, and all others on.
func (ts toggles) set(disabled []string) {
	for _, t := range ts {
		t.off.Store(slices.Contains(disabled, t.Rule().ID))
	}
}

// list is the detectors as the pipeline takes them.
func (ts toggles) list() []collector.Detector {
	var list []collector.Detector
	for _, t := range ts {
		list = append(list, t)
	}
	return list
}

// rules is what the detectors declare.
func (ts toggles) rules() []*event.Rule {
	var rules []*event.Rule
	for _, t := range ts {
		rules = append(rules, t.Rule())
	}
	return rules
}

// detectorIDs is the ids of all detectors.
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
