// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"strings"
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
)

func TestPattern(t *testing.T) {
	for _, test := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "anything", true},
		{"/work", "/work", true},
		{"/work", "/work/a", false},
		{"/home/*/work", "/home/a/work", true},
		{"/home/*/work", "/home/a/b/work", false},
		{"/home/**/work", "/home/a/b/work", true},
		{"*", "codex", true},
		{"*", "a/b", false},
		{"**", "a/b", true},
		{"claude*", "claude-code", true},
		{"/a/*.txt", "/a/.txt", true},
		{"/a/*b*c", "/a/xbxbxc", true},
		{"/a/*b*c", "/a/xbx/c", false},
		{"/a/*b**c", "/a/xbx/c", true},
		{"/aa*aa", "/aaa", false},
		{strings.Repeat("*a", 100) + "b", strings.Repeat("a", 4000), false}, // in no time
	} {
		p, err := newPattern(test.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.matches(test.text); got != test.want {
			t.Errorf("%q matches %q: %t", test.pattern, test.text, got)
		}
	}
}

// TestProfiles: who works where decides what counts, and how much.
func TestProfiles(t *testing.T) {
	configs := []ProfileConfig{
		{Name: "everybody", Severity: map[string]string{"x": "low"}},
		{
			Name: "frontend", Agent: "claude*", Project: "/home/*/frontend", Disabled: []string{"y"},
			Severity: map[string]string{"x": "critical"},
			Exceptions: []ExceptionConfig{
				{Detector: "z", Object: "/home/*/frontend/.env"},
				{Detector: "x", Executable: "/usr/bin/vite"},
			},
		},
	}
	profiles, err := NewProfiles(configs, func(id string) bool { return strings.Contains("xyz", id) })
	if err != nil {
		t.Fatal(err)
	}
	base := newUsual(8)
	o := NewOversight(base, profiles)
	sandbox := &event.Sandbox{ID: "s"}
	rules := map[string]*event.Rule{}
	for _, id := range []string{"x", "y", "z"} {
		rules[id] = &event.Rule{ID: id, Severity: event.SeverityMedium}
	}
	for i, test := range []struct {
		agent, project, rule, executable string
		objects                          []string
		want                             string
	}{
		{"codex", "/home/a/frontend", "x", "/bin/cat", nil, "low"},
		{"codex", "/home/a/frontend", "y", "/bin/cat", nil, "medium"},
		{"claude-code", "/home/a/frontend", "x", "/bin/cat", nil, "critical"},
		{"claude-code", "/home/a/frontend", "x", "/usr/bin/vite", nil, ""},
		{"claude-code", "/home/a/backend", "x", "/usr/bin/vite", nil, "low"},
		{"claude-code", "/home/a/frontend", "y", "/bin/cat", nil, ""},
		{"claude-code", "/home/a/frontend", "z", "/bin/cat", []string{"/home/a/frontend/.env"}, ""},
		{"claude-code", "/home/a/frontend", "z", "/bin/cat", []string{"/home/a/frontend/.env", "/etc/shadow"}, "medium"},
		{"claude-code", "/home/a/frontend", "z", "/bin/cat", nil, "medium"},
	} {
		top := &event.Process{UID: event.ProcessID(100 + i), Agent: &event.Agent{Name: test.agent}}
		base.see(&event.Event{Sandbox: sandbox, Process: top, Payload: &event.ProcessExec{WorkingDirectory: test.project}})
		child := &event.Process{UID: 7, Parent: top, Executable: test.executable, Agent: top.Agent}
		got := ""
		o.Show(finder{rules[test.rule], test.objects}, &event.Event{Sandbox: sandbox, Process: child, Payload: &event.ProcessExit{}},
			func(f *event.Finding) { got = f.Severity().FindingName() })
		if got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
	}
	if o.Suppressed() != 3 {
		t.Errorf("%d suppressed, want 3", o.Suppressed())
	}
	o.Use(&Profiles{})
	found := 0
	o.Show(finder{rules["y"], nil}, &event.Event{Sandbox: sandbox, Payload: &event.ProcessExit{}}, func(*event.Finding) { found++ })
	if found != 1 {
		t.Error("without profiles nothing was found")
	}
}

// finder finds something in every event.
type finder struct {
	rule    *event.Rule
	objects []string
}

func (f finder) Detect(_ *event.Event, report func(*event.Finding)) {
	report(&event.Finding{ID: "f", Rule: f.rule, State: event.FindingNew, Objects: f.objects})
}

func TestBadProfiles(t *testing.T) {
	for want, c := range map[string]ProfileConfig{
		`detectors.profiles[0].disabled[0]: "nobody" is no detector`:                   {Disabled: []string{"nobody"}},
		`detectors.profiles[0].severity: "nobody" is no detector`:                      {Severity: map[string]string{"nobody": "low"}},
		`detectors.profiles[0].severity.x: "worst" is none of`:                         {Severity: map[string]string{"x": "worst"}},
		`detectors.profiles[0].project: "work" is not an absolute path`:                {Project: "work"},
		`detectors.profiles[0].exceptions[0].detector: "" is no detector`:              {Exceptions: []ExceptionConfig{{}}},
		`detectors.profiles[0].exceptions[0].object: neither it nor executable is set`: {Exceptions: []ExceptionConfig{{Detector: "x"}}},
		`detectors.profiles[0].agent: it has 5000 bytes`:                               {Agent: strings.Repeat("a", 5000)},
		`detectors.profiles[0].exceptions: there are 300`:                              {Exceptions: make([]ExceptionConfig, 300)},
	} {
		_, err := NewProfiles([]ProfileConfig{c}, func(id string) bool { return id == "x" })
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := NewProfiles(make([]ProfileConfig, 300), nil); err == nil {
		t.Error("300 profiles were taken")
	}
}

// TestTooManyFindings: a sandbox that makes findings without end makes so many, and then one for all the rest, which
// is told at its doublings. Another sandbox, and another rule, have their own.
func TestTooManyFindings(t *testing.T) {
	o := NewOversight(newUsual(8), &Profiles{})
	rule, other := &event.Rule{ID: "x", Severity: event.SeverityHigh}, &event.Rule{ID: "y"}
	reports := map[string]int{}
	var last *event.Finding
	show := func(sandbox string, r *event.Rule, n int) {
		e := &event.Event{Time: time.Unix(1000, 0), Instance: "t", Seq: uint64(n), Sandbox: &event.Sandbox{ID: sandbox}, Payload: &event.ProcessExit{}}
		o.Show(finder{r, []string{"object"}}, e, func(f *event.Finding) {
			reports[sandbox+r.ID]++
			last = f
		})
	}
	for n := range mostFindings + 1024 {
		show("s", rule, n)
	}
	if got := reports["sx"]; got != mostFindings+11 { // 1, 2, 4, … 1,024
		t.Errorf("%d reports", got)
	}
	if !strings.HasPrefix(last.Title, "1024 more findings of x are not told one by one") || last.State != event.FindingUpdate ||
		last.Count != 1024 || last.Severity() != event.SeverityHigh {
		t.Errorf("the last is %+v", last)
	}
	show("s", other, 1)
	show("s2", rule, 1)
	if reports["sy"] != 1 || reports["s2x"] != 1 {
		t.Errorf("others pay for it: %v", reports)
	}
	o.Forget("s")
	show("s", rule, 1)
	if got := reports["sx"]; got != mostFindings+12 {
		t.Error("a sandbox that is gone is remembered")
	}
}
