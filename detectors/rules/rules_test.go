// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
)

var update = flag.Bool("update", false, "rewrite the errors in testdata")

func load(t testing.TB, names ...string) *Set {
	t.Helper()
	var sources []Source
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, Source{Name: filepath.Base(name), Data: data})
	}
	s, err := Load(sources...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newTestEngine(s *Set) *Engine {
	return NewEngine(s, Limits{MaxSandboxes: 4, MaxEntries: 8}, slog.New(slog.DiscardHandler))
}

func TestOperators(t *testing.T) {
	results := load(t, "testdata/operators.yaml").Test()
	if len(results) < 13 {
		t.Fatalf("%d tests ran", len(results))
	}
	for _, r := range results {
		if r.Failure != "" {
			t.Errorf("%s:%d: %s: %s: %s", r.File, r.Line, r.Rule, r.Test, r.Failure)
		}
	}
}

func TestBuiltin(t *testing.T) {
	sources, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Load(sources...)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Test() {
		if r.Failure != "" {
			t.Errorf("%s:%d: %s: %s: %s", r.File, r.Line, r.Rule, r.Test, r.Failure)
		}
	}
	for _, remark := range s.Lint() {
		t.Error(remark)
	}
	for _, r := range s.Rules() {
		if _, err := os.Stat(filepath.Join("../..", r.rule.Runbook)); err != nil {
			t.Errorf("rule %s: %v", r.rule.ID, err)
		}
		if r.Description == "" {
			t.Errorf("rule %s is not described", r.rule.ID)
		}
	}
}

// TestErrors holds what is said of bad files. A case in testdata/errors.txt is "## title", the file, and what is
// said of it, each line after "=> ". In the file RULE stands for all that a rule needs but on and condition.
func TestErrors(t *testing.T) {
	const name = "testdata/errors.txt"
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	head, cases, _ := strings.Cut(string(data), "## ")
	out := strings.Builder{}
	out.WriteString(head)
	for c := range strings.SplitSeq(cases, "\n## ") {
		var file []string
		for line := range strings.SplitSeq(strings.TrimRight(c, "\n"), "\n") {
			if !strings.HasPrefix(line, "=> ") {
				file = append(file, line)
			}
		}
		text := strings.Join(file[1:], "\n")
		rule := "id: a-rule, uuid: 00000000-0000-4000-8000-000000000001, title: t, severity: low"
		_, err := Load(Source{Name: "f.yaml", Data: []byte(strings.ReplaceAll(text, "RULE", rule))})
		if err == nil {
			t.Errorf("%s: no error", file[0])
			continue
		}
		fmt.Fprintf(&out, "## %s\n", strings.Join(file, "\n"))
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintf(&out, "=> %s\n", line)
		}
		out.WriteString("\n")
	}
	got := strings.TrimRight(out.String(), "\n") + "\n"
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != string(data) {
		t.Errorf("the errors are others: run with -update and read the difference\n%s", got)
	}
}

func TestTooMuch(t *testing.T) {
	rule := func(i int) string {
		return fmt.Sprintf("- {id: rule-%d, uuid: 00000000-0000-4000-8000-%012d, title: t, severity: low, on: [process.exec], condition: 'process.pid == 1'}\n", i, i)
	}
	many := "version: watchglass.rules/v1\nrules:\n"
	for i := range 10000 {
		many += rule(i)
	}
	var halves []Source
	for half := range 2 {
		text := "version: watchglass.rules/v1\nrules:\n"
		for i := range 1100 {
			text += rule(half*1500 + i)
		}
		halves = append(halves, Source{Name: fmt.Sprint(half), Data: []byte(text)})
	}
	var tenth []Source
	for part := range 10 {
		text := "version: watchglass.rules/v1\nrules:\n"
		for i := range 1000 {
			text += rule(part*1000 + i)
		}
		tenth = append(tenth, Source{Name: fmt.Sprint(part), Data: []byte(text)})
	}
	for name, test := range map[string]struct {
		sources []Source
		want    string
	}{
		"10 MB":                     {[]Source{{Name: "f", Data: bytes.Repeat([]byte("#\n"), 5<<20)}}, "f: the file has 10485760 bytes, the most are 1048576"},
		"10,000 rules":              {[]Source{{Name: "f", Data: []byte(many)}}, "the file has"},
		"10,000 rules in ten files": {tenth, "2: there are more than 2048 rules"},
		"10,000 rules in one line each of nothing": {
			[]Source{{Name: "f", Data: []byte("version: watchglass.rules/v1\nrules:\n" + strings.Repeat("- {}\n", 10000))}}, "f: there are more than 2048 rules",
		},
		"2,200 rules": {halves, "1: there are more than 2048 rules"},
		"not UTF-8":   {[]Source{{Name: "f", Data: []byte("version: \xff")}}, "f: the file is not UTF-8"},
		"an alias bomb": {[]Source{{Name: "f", Data: []byte("version: watchglass.rules/v1\nmacros:\n a: &a [x,x,x,x,x,x,x,x,x]\n b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n" +
			" c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n d: [*c,*c,*c,*c,*c,*c,*c,*c,*c]\nrules: []\n")}}, "a text is expected here"},
	} {
		_, err := Load(test.sources...)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// hundred is a hundred rules of the kinds that people write: about programs, paths and peers.
func hundred(t testing.TB) *Set {
	t.Helper()
	s, err := Load(hundredSource())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func hundredSource() Source {
	text := "version: watchglass.rules/v1\nrules:\n"
	for i := range 100 {
		on, condition := "process.exec", fmt.Sprintf(`process.executable.name == "tool-%d" && process.command_args.exists(a, a == "x")`, i)
		switch i % 5 {
		case 1:
			on, condition = "file.open", fmt.Sprintf(`file.path.startsWith("/etc/secret-%d/") && "write" in watchglass.file.access`, i)
		case 2:
			on, condition = "file.open", fmt.Sprintf(`watchglass.file.class == "secret" && file.path.matches("^/srv/%d/.*key$")`, i)
		case 3:
			on, condition = "network.connect", fmt.Sprintf(`network.peer.port == %d && watchglass.network.peer.scope == "public"`, 10000+i)
		}
		text += fmt.Sprintf("- {id: user-rule-%d, uuid: 00000000-0000-4000-8000-%012d, title: t, severity: low, on: [%s], condition: '%s'}\n", i, i, on, condition)
	}
	return Source{Name: "hundred", Data: []byte(text)}
}

func sampleEvents() []*event.Event {
	process := &event.Process{UID: 1, PID: 7, Name: "cc1", Executable: "/usr/lib/gcc/cc1", Args: []string{"cc1"}, Start: time.Unix(1, 0)}
	sandbox := &event.Sandbox{ID: "s", Name: "s"}
	payloads := []event.Payload{
		&event.FileOpen{Path: "/usr/include/stdio.h", Class: event.FileClassSystem, Access: event.AccessRead},
		&event.NetworkConnect{Transport: event.TransportTCP},
		&event.ProcessExec{Executable: "/usr/lib/gcc/cc1", Args: []string{"cc1", "-quiet"}, ArgsCount: 2},
	}
	var events []*event.Event
	for i, p := range payloads {
		events = append(events, &event.Event{Time: time.Unix(int64(i), 0), Sandbox: sandbox, Process: process, Payload: p})
	}
	return events
}

// TestNoMatchAllocatesNothing: nearly every event matches no rule.
func TestNoMatchAllocatesNothing(t *testing.T) {
	engine := newTestEngine(hundred(t))
	for _, e := range sampleEvents() {
		report := func(f *event.Finding) { t.Errorf("%s: a finding: %s", e.Kind(), f.Title) }
		if n := testing.AllocsPerRun(100, func() { engine.Detect(e, report) }); n != 0 {
			t.Errorf("%s: %v allocations", e.Kind(), n)
		}
	}
}

func BenchmarkNoMatch(b *testing.B) {
	for _, e := range sampleEvents() {
		b.Run(string(e.Kind()), func(b *testing.B) {
			engine := newTestEngine(hundred(b))
			b.ReportAllocs()
			for b.Loop() {
				engine.Detect(e, func(*event.Finding) {})
			}
		})
	}
}

func (s *Set) only(id string) *Set {
	for _, r := range s.rules {
		if r.rule.ID == id {
			return &Set{l: s.l, rules: []*Rule{r}}
		}
	}
	return nil
}

func exec(n int, name string, args ...string) *event.Event {
	return &event.Event{
		Time: time.Unix(int64(n), 0), Instance: "i", Seq: uint64(n), Sandbox: &event.Sandbox{ID: "s"},
		Process: &event.Process{UID: 1, PID: 7, Name: name},
		Payload: &event.ProcessExec{Executable: "/bin/" + name, Args: append([]string{name}, args...)},
	}
}

// TestSwap: a reload keeps the memory of what it does not change, and a rule that is off finds nothing.
func TestSwap(t *testing.T) {
	s := load(t, "testdata/operators.yaml").only("one-event")
	engine := newTestEngine(s)
	var states []event.FindingState
	show := func(n int) {
		engine.Detect(exec(n, "bash", "shell"), func(f *event.Finding) { states = append(states, f.State) })
	}
	show(1)
	engine.Swap(load(t, "testdata/operators.yaml").only("one-event"))
	show(2)
	engine.Disable([]string{"one-event"})
	show(3)
	engine.Disable(nil)
	show(4)
	show(5)
	if fmt.Sprint(states) != "[new update update]" {
		t.Errorf("states %v", states)
	}
	if got := engine.Stats(); got.Entries != 1 {
		t.Errorf("%+v, want one entry", got)
	}
	engine.Forget("s")
	if got := engine.Stats(); got.Entries != 0 {
		t.Errorf("%+v after the sandbox is gone", got)
	}
}

// TestMemoryIsBounded floods each operator's memory with a million different keys.
func TestMemoryIsBounded(t *testing.T) {
	engine := newTestEngine(load(t, "testdata/operators.yaml"))
	report := func(*event.Finding) {}
	for i := range 4000 {
		sandbox := &event.Sandbox{ID: fmt.Sprint("s", i%40)}
		p := &event.Process{
			UID: event.ProcessID(i + 1), RootUID: event.ProcessID(i + 1), Name: "bash", Executable: "/bin/bash",
			Agent: &event.Agent{SessionID: fmt.Sprint(i), CallID: fmt.Sprint("c", i)},
		}
		for _, payload := range []event.Payload{
			&event.FileOpen{Path: fmt.Sprint("/", i), Class: event.FileClassSecret},
			&event.FileOpen{Path: fmt.Sprint("/", i), Error: 13},
			&event.ProcessExec{Executable: "/bin/bash", Args: []string{fmt.Sprint(i), "shell"}},
			&event.ToolCall{Claim: event.Claim{Session: fmt.Sprint(i)}, ID: fmt.Sprint(i), Phase: event.PhaseStart, Name: fmt.Sprint(i)},
		} {
			engine.Detect(&event.Event{Time: time.Unix(int64(i/100), 0), Sandbox: sandbox, Process: p, Payload: payload}, report)
		}
	}
	stats := engine.Stats()
	// Five rules, each 4 sandboxes of 8 groups and 8 findings, and what one absence waits for.
	if limit := 5*4*(8+8) + mostPending; stats.Entries > limit || stats.Evicted == 0 {
		t.Errorf("%+v, want at most %d entries and some evicted", stats, limit)
	}
}

// TestCostIsLimited: a sandbox that makes a condition dear makes it fail, which is counted, and nothing worse.
func TestCostIsLimited(t *testing.T) {
	text := `{version: watchglass.rules/v1, rules: [{id: dear, uuid: 00000000-0000-4000-8000-000000000001, title: t, severity: low,
		on: [process.exec], condition: 'process.command_args.exists(a, a.matches("(y+y+)+z$"))'}]}`
	s, err := Load(Source{Name: "f", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	engine := newTestEngine(s)
	args, long := make([]string, 20000), strings.Repeat("y", 1000)
	for i := range args {
		args[i] = long
	}
	engine.Detect(exec(1, "bash", args...), func(f *event.Finding) { t.Errorf("found %s", f.Title) })
	if engine.Failures() != 1 {
		t.Errorf("%d failures, want 1", engine.Failures())
	}
}

func FuzzLoad(f *testing.F) {
	for _, name := range []string{"testdata/operators.yaml", "testdata/errors.txt"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for part := range bytes.SplitSeq(data, []byte("\n## ")) {
			f.Add(part)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Load(Source{Name: "f", Data: data})
		if err != nil {
			return
		}
		s.Test()
		s.Lint()
		for _, r := range s.Rules() {
			_ = r.Explain()
		}
	})
}

// TestSessionsAreForgotten: what is remembered of a session goes with it, and of a process tree with that; that of the
// others stays, and so does what no session is known of.
func TestSessionsAreForgotten(t *testing.T) {
	s, err := Load(Source{Name: "f", Data: []byte(`version: watchglass.rules/v1
rules:
  - {id: a-rule, uuid: 00000000-0000-4000-8000-000000000001, title: t, severity: low, on: [file.open], condition: "true", threshold: {count: 3, within: 2h}, resolved: {on: [file.delete], condition: "true"}}
  - {id: b-rule, uuid: 00000000-0000-4000-8000-000000000002, title: t, severity: low, on: [file.create], scope: process_tree, condition: "true", threshold: {count: 3, within: 2h}}
  - {id: c-rule, uuid: 00000000-0000-4000-8000-000000000003, title: t, severity: low, on: [file.rename], scope: sandbox, condition: "true", threshold: {count: 9, within: 2h}}
`)})
	if err != nil {
		t.Fatal(err)
	}
	e := NewEngine(s, Limits{MaxSandboxes: 4, MaxEntries: 1024}, slog.New(slog.DiscardHandler))
	now, found := time.Unix(1_800_000_000, 0), 0
	show := func(session string, root event.ProcessID, p event.Payload) {
		now = now.Add(time.Second)
		e.Detect(&event.Event{
			Time: now, Instance: "t", Seq: uint64(now.Unix()), Payload: p, Sandbox: &event.Sandbox{ID: "s"},
			Process: &event.Process{UID: root, RootUID: root, Agent: &event.Agent{Name: "codex", SessionID: session}},
		}, func(*event.Finding) { found++ })
	}
	entries := func() int {
		e.Tick(now, func(*event.Event, *event.Finding) {})
		return e.Stats().Entries
	}
	open, create := &event.FileOpen{Path: "/x"}, &event.FileChange{Operation: event.FileMkdir, Path: "/x"}
	rename := &event.FileChange{Operation: event.FileRenamed, Path: "/x"}
	const sessions = 100
	for i := range sessions {
		name, root := fmt.Sprint("s", i), event.ProcessID(i+1)
		for range 3 {
			show(name, root, open)   // a group, a finding, and one that is open
			show(name, root, create) // a group and a finding of the tree
		}
		show(name, root, rename) // one group and one finding of the sandbox, whose last session they are
	}
	show("", 0, open) // one group that is nobody's
	if n := entries(); n != 5*sessions+3 || found != 2*sessions+4 {
		t.Fatalf("%d entries and %d findings", n, found)
	}
	e.EndSession("another", "s0")
	e.EndTree("another", 1)
	e.EndSession("s", "s0")
	e.EndTree("s", 1)
	if n := entries(); n != 5*(sessions-1)+3 {
		t.Errorf("%d entries after the end of one session and its tree", n)
	}
	for range 2 {
		show("s1", 2, open)
	}
	found = 0
	if show("s1", 2, open); found != 1 {
		t.Errorf("another session is found %d times", found)
	}
	for i := range sessions {
		e.EndSession("s", fmt.Sprint("s", i))
	}
	if n := entries(); n != 2*(sessions-1)+1 {
		t.Errorf("%d entries after the ends of all sessions, want those of the trees and what is nobody's", n)
	}
	for i := range sessions {
		e.EndTree("s", event.ProcessID(i+1))
	}
	if n := entries(); n != 1 || e.Stats().Evicted != 0 {
		t.Errorf("%d entries after all ends, %d evicted", n, e.Stats().Evicted)
	}
	if e.Forget("s"); entries() != 0 {
		t.Errorf("%d entries are left of a sandbox that is gone", entries())
	}
}
