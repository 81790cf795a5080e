// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/watchglass/watchglass/event"
)

const (
	pageBegin = "<!-- The rule, written by go test ./detectors/rules -update -->\n"
	pageEnd   = "<!-- end of the rule -->\n"
)

// TestPages holds the table of each built-in rule's page to the rule.
func TestPages(t *testing.T) {
	sources, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Load(sources...)
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string]string{}
	for _, r := range s.Rules() {
		if len(r.rule.Next) == 0 {
			t.Errorf("%s does not say what to check next", r.rule.ID)
		}
		tables[r.rule.Runbook] += table(r)
	}
	for name, want := range tables {
		name = filepath.Join("../..", name)
		data, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
			continue
		}
		before, rest, ok := strings.Cut(string(data), pageBegin)
		got, after, ok2 := strings.Cut(rest, pageEnd)
		if !ok || !ok2 {
			t.Errorf("%s has lost the lines between which the rule stands", name)
			continue
		}
		for _, section := range []string{"## What it means", "## What to do", "## What it misses"} {
			if !strings.Contains(after, section) {
				t.Errorf("%s lacks %q", name, section)
			}
		}
		if got == want {
			continue
		}
		if !*update {
			t.Errorf("%s does not show the rule as it is: run go test ./detectors/rules -update", name)
			continue
		}
		if err := os.WriteFile(name, []byte(before+pageBegin+want+pageEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func table(r *Rule) string {
	var b strings.Builder
	var attack, kinds []string
	for _, id := range r.rule.Attack {
		attack = append(attack, fmt.Sprintf("[%s](https://attack.mitre.org/techniques/%s/)", id, strings.ReplaceAll(id, ".", "/")))
	}
	for _, kind := range r.rule.Kinds {
		kinds = append(kinds, "`"+string(kind)+"`")
	}
	cell := func(s string) string { return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`) }
	fmt.Fprintf(&b, "\n| | |\n|---|---|\n| rule | `%s`, in `%s` |\n", r.rule.ID, r.File)
	fmt.Fprintf(&b, "| severity | %s |\n| ATT&CK | %s |\n| OWASP agentic | %s |\n", r.rule.Severity.FindingName(),
		strings.Join(attack, ", "), strings.Join(r.rule.ASI, ", "))
	fmt.Fprintf(&b, "| reads | %s: %s |\n| keeps quiet about | %s |\n", strings.Join(kinds, ", "), r.waitsFor(), cell(r.rule.FalsePositives))
	fmt.Fprintf(&b, "| confidence | %s |\n", (&event.Finding{Rule: &r.rule}).Confidence())
	fmt.Fprintf(&b, "| memory | %s |\n| version | %s, `%s` |\n\n", r.rule.MemoryBound, r.rule.Version, r.rule.UUID)
	return b.String()
}
