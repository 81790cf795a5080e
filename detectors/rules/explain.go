// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"

	"github.com/watchglass/watchglass/event"
)

// Lint is what a reviewer would say of rules that load, one remark each: "FILE:LINE: rule ID: REMARK".
func (s *Set) Lint() []string {
	var remarks []string
	for _, r := range s.rules {
		say := func(remark string) {
			remarks = append(remarks, (&Error{File: r.File, Line: r.Line, Rule: r.rule.ID, Reason: remark}).Error())
		}
		found, quiet := false, false
		for i := range r.tests {
			found = found || len(r.tests[i].Findings) > 0
			quiet = quiet || len(r.tests[i].Findings) == 0
		}
		switch {
		case !found:
			say("no test finds anything")
		case !quiet:
			say("no test shows what looks alike and is no finding")
		}
		if len(r.rule.Attack)+len(r.rule.ASI) == 0 {
			say("neither an ATT&CK technique nor an OWASP agentic id")
		}
		if r.rule.FalsePositives == "" {
			say("it does not say how false positives are kept away")
		}
		if r.rule.Runbook == "" {
			say("there is no runbook: what does somebody do at 3 a.m.?")
		}
		if len(r.rule.Next) == 0 {
			say("it does not say what to check next")
		}
		if s.slow(r) {
			say("it evaluates CEL for each of a frequent event: begin with a comparison of an attribute with a constant")
		}
	}
	return remarks
}

// slow says that a rule asks CEL about every event of a kind that there are many of.
func (*Set) slow(r *Rule) bool {
	for _, st := range r.stages {
		for _, kind := range st.kinds {
			if kind == event.KindFileOpen && len(st.when.guards) == 0 && !st.when.native() {
				return true
			}
		}
	}
	return false
}

// Explain says what the rule waits for, what it costs and how it is bounded.
func (r *Rule) Explain() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s, version %s): %s\n", r.rule.ID, r.rule.Severity.FindingName(), r.rule.Version, r.rule.Title)
	fmt.Fprintf(&b, "  from            %s:%d\n", r.File, r.Line)
	if r.Description != "" {
		fmt.Fprintf(&b, "  about           %s\n", strings.Join(strings.Fields(r.Description), " "))
	}
	fmt.Fprintf(&b, "  ATT&CK, OWASP   %s\n", strings.Join(append(append([]string(nil), r.rule.Attack...), r.rule.ASI...), " "))
	fmt.Fprintf(&b, "  waits for       %s\n", r.waitsFor())
	for i, st := range r.stages {
		first := "evaluated for every such event"
		if len(st.when.guards) > 0 {
			first = fmt.Sprintf("%d comparisons first", len(st.when.guards))
			if st.when.guards[0].test <= guardNumber {
				first += ", found by an index"
			}
		}
		if st.when.native() {
			first += "; CEL is never asked"
		}
		fmt.Fprintf(&b, "  step %d          %v: %s; at most %d units of cost\n", i+1, st.kinds, first, st.when.estimate)
	}
	if st := r.resolved; st != nil {
		fmt.Fprintf(&b, "  is over with    %v; at most %d units of cost\n", st.kinds, st.when.estimate)
	}
	fmt.Fprintf(&b, "  grouped by      %s\n", r.scope)
	fmt.Fprintf(&b, "  remembers       %s\n", r.rule.MemoryBound)
	fmt.Fprintf(&b, "  exceptions      %d\n", len(r.exceptions))
	fmt.Fprintf(&b, "  false positives %s\n", strings.Join(strings.Fields(r.rule.FalsePositives), " "))
	for _, sentence := range r.rule.Next {
		fmt.Fprintf(&b, "  check next      %s\n", sentence)
	}
	fmt.Fprintf(&b, "  runbook         %s\n", r.rule.Runbook)
	return b.String()
}

func (r *Rule) waitsFor() string {
	switch {
	case r.sequence:
		return fmt.Sprintf("%d events that follow each other within %s", len(r.stages), r.within.Duration)
	case r.absence:
		return fmt.Sprintf("an event that no other follows within %s", r.within.Duration)
	case r.threshold != nil && r.threshold.sum != nil:
		return fmt.Sprintf("events that add up to %d within %s", r.threshold.total, r.within.Duration)
	case r.threshold != nil && r.threshold.distinct != nil:
		return fmt.Sprintf("%d different ones within %s", r.threshold.count, r.within.Duration)
	case r.threshold != nil:
		return fmt.Sprintf("%d within %s", r.threshold.count, r.within.Duration)
	}
	return "one event"
}
