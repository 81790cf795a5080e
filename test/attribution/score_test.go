// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestJudge(t *testing.T) {
	truth := Truth{
		Calls: []Call{{"call_0", "make"}, {"call_1", "ls"}},
		Marks: map[string]int{"a": 0, "b": 1, "c": 1, "stranger": none},
	}
	sight := func(mark, call, confidence string) Sighting {
		return Sighting{Mark: mark, Call: call, Method: "env", Confidence: confidence}
	}
	env := func(confidence string, right, wrong int) map[Way]Cell {
		return map[Way]Cell{{"env", confidence}: {right, wrong}}
	}
	for name, test := range map[string]struct {
		seen []Sighting
		want Score
	}{
		"nothing": {nil, Score{Marks: 3, Unseen: 3, Ways: map[Way]Cell{}}},
		"all right": {
			[]Sighting{sight("a", "call_0", exact), sight("b", "call_1", exact), sight("c", "call_1", exact), sight("stranger", "", "")},
			Score{Marks: 3, Found: 3, Strangers: 1, Ways: env(exact, 3, 0)},
		},
		"one missed, one of another call": {
			[]Sighting{sight("a", "call_1", "strong"), sight("b", "", ""), sight("c", "call_1", "strong")},
			Score{Marks: 3, Found: 1, Missed: 1, Ways: env("strong", 1, 1)},
		},
		"ids with the tool's name before them": {
			[]Sighting{sight("a", "run_shell_command__call_0", exact), sight("b", "run_shell_command__call_1", exact)},
			Score{Marks: 3, Found: 2, Unseen: 1, Ways: env(exact, 2, 0)},
		},
		"a forged id": {
			[]Sighting{sight("a", "call_1", exact), sight("b", "call_forged", exact), sight("c", "call_1", exact)},
			Score{Marks: 3, Found: 1, Forged: 2, Ways: env(exact, 1, 2)},
		},
		"a stranger with a call": {
			[]Sighting{sight("stranger", "call_0", "inferred")},
			Score{Marks: 3, Unseen: 3, Strangers: 1, Stolen: 1, Ways: env("inferred", 0, 1)},
		},
		"marks that are nobody's do not count": {
			[]Sighting{sight("other", "call_0", exact)},
			Score{Marks: 3, Unseen: 3, Ways: map[Way]Cell{}},
		},
	} {
		if diff := cmp.Diff(test.want, Judge(truth, test.seen)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// An agent without ids of calls: the command says which call is meant, and of calls of the same command each stands
// for one.
func TestJudgeWithoutIDs(t *testing.T) {
	truth := Truth{
		Calls: []Call{{"", "make"}, {"", "ls"}, {"", "ls"}},
		Marks: map[string]int{"m": 0, "l1": 1, "l1b": 1, "l2": 2, "l2b": 2},
	}
	sight := func(mark, call, command string) Sighting {
		return Sighting{Mark: mark, Call: call, Command: command, Method: "command", Confidence: "strong"}
	}
	right := Judge(truth, []Sighting{
		sight("m", "x", "make"), sight("l1", "y", "ls"), sight("l1b", "y", "ls"), sight("l2", "z", "ls"), sight("l2b", "z", "ls "),
	})
	if right.Found != 5 {
		t.Errorf("all right: %+v", right)
	}
	mixed := Judge(truth, []Sighting{
		sight("m", "x", "ls"), sight("l1", "y", "ls"), sight("l1b", "y", "ls"), sight("l2", "y", "ls"), sight("l2b", "z", "ls"),
	})
	// m goes by the wrong command; l2 goes by the name of the first ls.
	if mixed.Found != 3 || mixed.Ways[Way{"command", "strong"}] != (Cell{3, 2}) {
		t.Errorf("mixed up: %+v", mixed)
	}
	swapped := Judge(truth, []Sighting{sight("l1", "y", "ls"), sight("l1b", "z", "ls")})
	if swapped.Found != 1 {
		t.Errorf("one call cannot stand for two: %+v", swapped)
	}
}

func TestScore(t *testing.T) {
	var s Score
	s.Add(Score{Marks: 4, Found: 3, Ways: map[Way]Cell{{"env", exact}: {2, 0}, {"command", "strong"}: {1, 1}}})
	s.Add(Score{Marks: 1, Found: 0, Missed: 1, Ways: map[Way]Cell{{"command", "inferred"}: {0, 3}}})
	if s.Recall() != 0.6 || s.Precision(Sure()...) != 0.75 || s.Precision("inferred") != 0 || s.Precision("none") != 1 {
		t.Errorf("recall %v, precision %v", s.Recall(), s.Precision(Sure()...))
	}
	if ways := s.SortedWays(); len(ways) != 3 || ways[0] != (Way{"command", "inferred"}) {
		t.Errorf("%v", ways)
	}
}

func TestReadSightings(t *testing.T) {
	open := func(mark, uid, more string) string {
		return `{"event":"watchglass.file.open","attributes":{"file.path":"/w/marks/` + mark + `","watchglass.file.access":["write","create"],` +
			`"watchglass.process.uid":"` + uid + `"` + more + `}}`
	}
	text := strings.Join([]string{
		`{"event":"watchglass.process.exec","attributes":{"watchglass.process.uid":"c","watchglass.process.parent_uid":"b"}}`,
		`{"event":"watchglass.process.exec","attributes":{"watchglass.process.uid":"b","watchglass.process.parent_uid":"a"}}`,
		`{"event":"watchglass.process.exec","attributes":{"watchglass.process.uid":"d","watchglass.process.parent_uid":"c"}}`,
		open("direct", "c", `,"session.id":"s1","gen_ai.tool.call.id":"call_1","watchglass.join.method":"env","watchglass.join.confidence":"exact"`),
		open("later", "c", `,"watchglass.join.method":"session","watchglass.join.confidence":"strong"`),
		open("named", "c", `,"gen_ai.tool.call.id":"watchglass:1","watchglass.join.method":"inherited","watchglass.join.confidence":"strong"`),
		open("outer", "d", `,"session.id":"s1","watchglass.join.method":"session","watchglass.join.confidence":"strong"`),
		open("inner", "d", ``),
		`{"event":"watchglass.tool.call","attributes":{"session.id":"s2","watchglass.tool.phase":"joined","gen_ai.tool.call.id":"call_7","watchglass.tool.root_uids":["d"]}}`,
		open("never", "x", `,"watchglass.join.method":"session","watchglass.join.confidence":"strong"`),
		`{"event":"watchglass.file.open","attributes":{"file.path":"/w/marks/read","watchglass.file.access":["read"],"watchglass.process.uid":"c"}}`,
		`{"event":"watchglass.file.open","attributes":{"file.path":"/w/other","watchglass.file.access":["write"],"watchglass.process.uid":"c"}}`,
		`{"event":"watchglass.tool.call","attributes":{"watchglass.tool.phase":"joined","gen_ai.tool.call.id":"call_0","watchglass.tool.root_uids":["a"]}}`,
		`{"event":"watchglass.tool.call","attributes":{"watchglass.tool.phase":"joined","session.id":"s1","gen_ai.tool.call.id":"call_1","watchglass.tool.root_uids":["a"],` +
			`"watchglass.tool.command":"make","watchglass.join.method":"command","watchglass.join.confidence":"strong"}}`,
		`{"event":"watchglass.tool.call","attributes":{"watchglass.tool.phase":"end","gen_ai.tool.call.id":"call_2","watchglass.tool.root_uids":["c"]}}`,
	}, "\n") + "\n"
	got, err := ReadSightings(strings.NewReader(text), "/w/marks")
	if err != nil {
		t.Fatal(err)
	}
	want := []Sighting{
		{"direct", "c", "s1", "call_1", "make", "env", "exact"},
		{"later", "c", "", "call_1", "make", "command", "strong"},
		{"named", "c", "", "call_1", "make", "command", "strong"},
		{"outer", "d", "s1", "call_1", "make", "command", "strong"},
		{"inner", "d", "", "call_7", "", "", ""},
		{"never", "x", "", "", "", "session", "strong"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := ReadSightings(strings.NewReader(text[:len(text)-9]), "/w/marks"); err == nil {
		t.Error("a line that is cut short is read")
	}
}

// A call that types into another call's program has what the program does from the call's start to its end.
func TestReadSightingsOfIntervals(t *testing.T) {
	open := func(second string) string {
		return `{"time":"2026-05-01T12:00:` + second + `Z","event":"watchglass.file.open","attributes":{"file.path":"/w/marks/at` + second + `","watchglass.file.access":["write"],` +
			`"watchglass.process.uid":"shell","gen_ai.tool.call.id":"call_0","watchglass.join.method":"env","watchglass.join.confidence":"exact"}}`
	}
	phase := func(second, phase string) string {
		return `{"time":"2026-05-01T12:00:` + second + `Z","event":"watchglass.tool.call","attributes":{"watchglass.tool.phase":"` + phase + `","gen_ai.tool.call.id":"call_1",` +
			`"watchglass.tool.root_uids":["shell"],"watchglass.join.method":"interval","watchglass.join.confidence":"strong"}}`
	}
	text := strings.Join([]string{open("01"), open("03"), open("05"), phase("04", "joined"), phase("04", "end"), phase("02", "start")}, "\n") + "\n"
	got, err := ReadSightings(strings.NewReader(text), "/w/marks")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0].Call != "call_0" || got[1].Call != "call_1" || got[1].Method != "interval" || got[2].Call != "call_0" {
		t.Errorf("%+v", got)
	}
}

func TestNonces(t *testing.T) {
	got := Nonces("Output: mark 0a1b\nmark  c-d \nremark\nmark\n")
	if diff := cmp.Diff([]string{"0a1b", "c-d"}, got); diff != "" {
		t.Error(diff)
	}
}

// Every script ends, and no two calls have a name in common.
func TestScenarios(t *testing.T) {
	names := map[string]bool{}
	for _, s := range Scenarios() {
		if names[s.Name] || s.About == "" {
			t.Errorf("%q twice, or without a word about it", s.Name)
		}
		names[s.Name] = true
		for _, agent := range Names() {
			if err := s.script(agent).Validate(); err != nil {
				t.Errorf("%s, %s: %v", s.Name, agent, err)
			}
		}
	}
}

func TestPage(t *testing.T) {
	scenario := Scenarios()[0]
	page := Page([]Result{
		{"codex", scenario, Score{Marks: 6, Found: 6, Ways: map[Way]Cell{{"env", exact}: {6, 0}}}},
		{"gemini", scenario, Score{Marks: 6, Found: 5, Missed: 1, Ways: map[Way]Cell{{"command", "strong"}: {5, 1}}}},
	}, "here")
	for _, want := range []string{
		"| codex | 1 | 6 | 1.0000 | 0.99 | 1.0000 of 6 | – | 0.999 | 0 | 0 of 0 |", "| gemini | command | strong | 5 | 1 | 0.8333 |",
		"| one | one call at a time | 6 of 6 | – | 5 of 6, 1 wrong | – |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %s:\n%s", want, page)
		}
	}
}
