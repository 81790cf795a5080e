// SPDX-License-Identifier: Apache-2.0

package corpus

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// score is the account of one detector.
type score struct {
	found, missed, falsePositives int
	// unasked is findings in attacks that another rule is expected to find: true, but not counted for it.
	unasked int
	after   []time.Duration
}

// Page is docs/detection.md: the account of all results.
func Page(results []Result, days []Day, machine string) string {
	scores := map[string]*score{}
	of := func(rule string) *score {
		if scores[rule] == nil {
			scores[rule] = &score{}
		}
		return scores[rule]
	}
	var benign time.Duration
	var attacks, quiet, foundAttacks int
	var b strings.Builder
	for _, r := range results {
		if r.Lacks != "" {
			continue
		}
		if !r.Session.Attack {
			quiet++
			benign += r.Took
			for _, f := range r.Findings {
				of(f.Rule).falsePositives++
			}
			continue
		}
		attacks++
		missed := r.Session.Missed(r.Findings)
		if len(missed) == 0 {
			foundAttacks++
		}
		for _, rule := range missed {
			of(rule).missed++
		}
		counted := map[string]bool{}
		for _, f := range r.Findings {
			switch {
			case counted[f.Rule]:
			case slices.Contains(r.Session.Finds, f.Rule):
				of(f.Rule).found++
				of(f.Rule).after = append(of(f.Rule).after, f.After)
			default:
				of(f.Rule).unasked++
			}
			counted[f.Rule] = true
		}
	}
	short, sum := benign, sumOf(days)
	benign += sum.time
	for i := range days {
		for _, f := range days[i].Findings {
			of(f.Rule).falsePositives++
		}
	}
	fmt.Fprintf(&b, `# What is found

<!-- Written by make corpus. Do not edit. -->

Labelled sessions, executed for real in a network namespace of their own, on %s. %d attacks, of which all expected
detectors found %d; %d benign sessions of %s in all. *After* is the time from the start of the session to the event
that decided, the median. *Unasked* is findings in attacks whose label names another detector. *A session-hour* is what was found in benign
work, the long form included, by its time. A weak-sandbox finding
of low severity is true of every session here that takes long enough to be looked at: they run in no sandbox.

%s
| detector | found | missed | unasked | in benign sessions | a session-hour | after |
|---|---:|---:|---:|---:|---:|---:|
`, machine, attacks, foundAttacks, quiet, short.Round(time.Second),
		longForm(days, sum))
	for _, rule := range slices.Sorted(maps.Keys(scores)) {
		s := scores[rule]
		after := "–"
		if len(s.after) > 0 {
			slices.Sort(s.after)
			after = s.after[len(s.after)/2].Round(time.Millisecond).String()
		}
		hourly := "0"
		if s.falsePositives > 0 {
			hourly = fmt.Sprintf("%.1f", float64(s.falsePositives)/benign.Hours())
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %s | %s |\n", rule, s.found, s.missed, s.unasked, s.falsePositives, hourly, after)
	}
	writeSessions(&b, results)
	return b.String()
}

func writeSessions(b *strings.Builder, results []Result) {
	b.WriteString("\n## Sessions\n\n| session | what it does | expected | found |\n|---|---|---|---|\n")
	for _, r := range slices.SortedStableFunc(slices.Values(results), func(x, y Result) int {
		return cmp.Compare(order(x), order(y))
	}) {
		var found []string
		for _, f := range r.Findings {
			if name := f.Rule + " (" + f.Severity + ")"; !slices.Contains(found, name) {
				found = append(found, name)
			}
		}
		if r.Lacks != "" {
			found = []string{"not run: this machine lacks " + r.Lacks}
		}
		label := "benign: "
		if r.Session.Attack {
			label = "attack: "
		}
		fmt.Fprintf(b, "| %s%s | %s | %s | %s |\n", label, r.Session.Name, strings.ReplaceAll(r.Session.About, "|", `\|`),
			strings.Join(r.Session.Finds, ", "), strings.Join(found, ", "))
	}
}

func order(r Result) int {
	if r.Session.Attack {
		return 0
	}
	return 1
}

// total is what days were, in all.
type total struct {
	time                  time.Duration
	pieces, execs, events int
}

func sumOf(days []Day) total {
	var sum total
	for i := range days {
		d := &days[i]
		sum = total{sum.time + d.Took, sum.pieces + d.Pieces, sum.execs + d.Execs, sum.events + d.Events}
	}
	return sum
}

// longForm says what the days of benign work were.
func longForm(days []Day, sum total) string {
	if len(days) == 0 {
		return "Without the long form: minutes of benign work say little of false positives.\n"
	}
	severities := map[string]int{}
	for i := range days {
		for _, f := range days[i].Findings {
			severities[f.Severity]++
		}
	}
	hours := sum.time.Hours()
	return fmt.Sprintf(`The long form: %d sandboxes did benign work beside each other, %.1f session-hours in all, each its own time. The work is
the benign sessions below that need no settings of their own, one after the other without a pause, each in a home of its own, in an
order of its own, over and over: %d of them, %d programs executed, %d events; that is %.0f pieces of work and %.0f programs a session-hour.
Agents wait for their models for most of an hour; here the sandboxes wait for each other's processor instead.
Found were %d of severity critical, %d high, %d medium, %d low and %d info.
`, len(days), hours, sum.pieces, sum.execs, sum.events, float64(sum.pieces)/hours, float64(sum.execs)/hours,
		severities["critical"], severities["high"], severities["medium"], severities["low"], severities["info"])
}
