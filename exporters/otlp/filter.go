// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/exporters"
)

// Filter says which events a destination gets. A zero one lets all through.
type Filter struct {
	// Kinds is names of events, in which * stands for any run of characters: "watchglass.finding",
	// "watchglass.process.*". Empty means all.
	Kinds []string `yaml:"kinds"`
	// MinSeverity is the least severity: debug, info, low, medium, warn, high, error or critical. Empty means all.
	MinSeverity string `yaml:"min_severity"`
}

func severities() map[string]event.Severity {
	return map[string]event.Severity{
		"": 0, "debug": event.SeverityDebug, "info": event.SeverityInfo, "low": event.SeverityLow,
		"medium": event.SeverityMedium, "warn": event.SeverityWarn, "high": event.SeverityHigh,
		"error": event.SeverityError, "critical": event.SeverityCritical,
	}
}

func (f Filter) validate() error {
	var errs []error
	for i, pattern := range f.Kinds {
		matched := slices.ContainsFunc(event.Kinds(), func(k event.KindInfo) bool { return matches(pattern, k.Kind) })
		if !matched {
			errs = append(errs, fmt.Errorf("filter.kinds[%d]: %q is no event; docs/telemetry.md lists them", i, pattern))
		}
	}
	if _, ok := severities()[f.MinSeverity]; !ok {
		errs = append(errs, fmt.Errorf("filter.min_severity: %q is none of debug, info, low, medium, warn, high, error and critical", f.MinSeverity))
	}
	return errors.Join(errs...)
}

func matches(pattern string, kind event.Kind) bool {
	// Kinds hold no slash, so that * is any run of characters; the other special characters are in no kind.
	ok, err := path.Match(strings.TrimSpace(pattern), string(kind))
	return ok && err == nil
}

// Least is the least severity that passes.
func (f Filter) Least() event.Severity { return severities()[f.MinSeverity] }

// Wants makes the function that says whether an event passes; nil when all do. A report of a loss always
// passes: who gets a part of the events must know when some of it is missing. A canary passes wherever findings
// of some severity do: it proves that these would arrive.
func (f Filter) Wants() func(*event.Encoded) bool {
	least := f.Least()
	if len(f.Kinds) == 0 && least == 0 {
		return nil
	}
	wanted := map[event.Kind]bool{}
	for _, k := range event.Kinds() {
		wanted[k.Kind] = len(f.Kinds) == 0 ||
			slices.ContainsFunc(f.Kinds, func(pattern string) bool { return matches(pattern, k.Kind) })
	}
	return func(e *event.Encoded) bool {
		return e.Kind == event.KindLoss || wanted[e.Kind] && (e.Severity >= least || exporters.MayBeCanary(e))
	}
}
