// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Truth is what a session really was, as its script and the agent's answers tell: which call each mark belongs to.
type Truth struct {
	// Calls is the calls that were made: the agent's id of each, and the command that it was.
	Calls []Call
	// Marks is the marks that calls left, by name, and the index in Calls of the call that left each; none for a mark
	// that no call left.
	Marks map[string]int
}

// none is the call of what belongs to none.
const none = -1

// Call is one call of the truth.
type Call struct{ ID, Command string }

// Sighting is one mark as the program under test told of it.
type Sighting struct {
	// Mark is its name, Process who made it, Session whose the event says that is; "" for nobody's.
	Mark, Process, Session string
	// Call is the id of the call that the event itself names, Command the call's command where that is told; "" for
	// none. Method and Confidence say how that is known.
	Call, Command, Method, Confidence string
}

// Cell counts what was attributed in one way.
type Cell struct {
	// Right and Wrong are marks that were given to the call that left them, and to another or to any when no call did.
	Right, Wrong int
}

// Way is how an attribution is known.
type Way struct{ Method, Confidence string }

// Score is how the attribution of marks compares with the truth.
type Score struct {
	// Marks is how many marks calls left, Found those of them that were attributed right, Missed those that were
	// attributed to no call, and Unseen those that no event tells of.
	Marks, Found, Missed, Unseen int
	// Strangers is marks that no call left, Stolen those of them that a call was given.
	Strangers, Stolen int
	// Forged is attributions that are wrong and called exact.
	Forged int
	Ways   map[Way]Cell
}

// exact is the confidence that forged ids must never get.
const exact = "exact"

// Judge compares sightings with the truth. Of several sightings of one mark each counts.
func Judge(truth Truth, sightings []Sighting) Score {
	score := Score{Ways: map[Way]Cell{}}
	names := match(truth, sightings)
	seen := map[string]bool{}
	for _, s := range sightings {
		call, known := truth.Marks[s.Mark]
		if !known {
			continue
		}
		seen[s.Mark] = true
		if call == none {
			score.Strangers++
		} else {
			score.Marks++
		}
		if s.Call == "" {
			if call != none {
				score.Missed++
			}
			continue
		}
		way := Way{s.Method, s.Confidence}
		cell := score.Ways[way]
		if call != none && names[s.Call] == call {
			cell.Right++
			score.Found++
		} else {
			cell.Wrong++
			if call == none {
				score.Stolen++
			}
			if s.Confidence == exact {
				score.Forged++
			}
		}
		score.Ways[way] = cell
	}
	for mark, call := range truth.Marks {
		if call != none && !seen[mark] {
			score.Marks++
			score.Unseen++
		}
	}
	return score
}

// match says which call of the truth each name of a call stands for. An id of the agent's stands for its call. Some
// agents give no ids: then a name stands for the call with its command, and of calls with the same command for the one
// that left most of the marks that go by it, each call once.
func match(truth Truth, sightings []Sighting) map[string]int {
	ids := map[string]int{}
	for i, c := range truth.Calls {
		if c.ID != "" {
			ids[c.ID] = i
		}
	}
	names := map[string]int{}
	votes := map[string]map[int]int{}
	for _, s := range sightings {
		if s.Call == "" {
			continue
		}
		if i, ok := ids[bare(s.Call)]; ok {
			names[s.Call] = i
			continue
		}
		if votes[s.Call] == nil {
			votes[s.Call] = map[int]int{}
		}
		if i, ok := truth.Marks[s.Mark]; ok && i != none && s.Command != "" && strings.TrimSpace(truth.Calls[i].Command) == strings.TrimSpace(s.Command) {
			votes[s.Call][i]++
		}
	}
	taken := map[int]bool{}
	for _, i := range names {
		taken[i] = true
	}
	type vote struct {
		name       string
		call, many int
	}
	var all []vote
	for name, calls := range votes {
		names[name] = none - 1 // a name that stands for nothing is right for nothing
		for call, many := range calls {
			all = append(all, vote{name, call, many})
		}
	}
	slices.SortFunc(all, func(a, b vote) int {
		return cmp.Or(cmp.Compare(b.many, a.many), cmp.Compare(a.name, b.name), cmp.Compare(a.call, b.call))
	})
	for _, v := range all {
		if names[v.name] < none && !taken[v.call] {
			names[v.name], taken[v.call] = v.call, true
		}
	}
	return names
}

// bare is the id of a call as the model gave it. Gemini CLI puts the tool's name before it: "run_shell_command__call_1".
func bare(id string) string {
	if at := strings.LastIndex(id, "__"); at >= 0 {
		return id[at+len("__"):]
	}
	return id
}

// Add adds another score to this one.
func (s *Score) Add(o Score) {
	s.Marks += o.Marks
	s.Found += o.Found
	s.Missed += o.Missed
	s.Unseen += o.Unseen
	s.Strangers += o.Strangers
	s.Stolen += o.Stolen
	s.Forged += o.Forged
	if s.Ways == nil {
		s.Ways = map[Way]Cell{}
	}
	for way, cell := range o.Ways {
		sum := s.Ways[way]
		sum.Right += cell.Right
		sum.Wrong += cell.Wrong
		s.Ways[way] = sum
	}
}

// Recall is the part of the marks of calls that was attributed right; 1 when there are none.
func (s *Score) Recall() float64 { return part(s.Found, s.Marks) }

// Precision is the part of the attributions with one of the confidences that is right; 1 when there are none.
func (s *Score) Precision(confidences ...string) float64 {
	right, all := 0, 0
	for way, cell := range s.Ways {
		if slices.Contains(confidences, way.Confidence) {
			right += cell.Right
			all += cell.Right + cell.Wrong
		}
	}
	return part(right, all)
}

func part(n, of int) float64 {
	if of == 0 {
		return 1
	}
	return float64(n) / float64(of)
}

// SortedWays is the ways in the order in which a page shows them.
func (s *Score) SortedWays() []Way {
	return slices.SortedFunc(maps.Keys(s.Ways), func(a, b Way) int {
		return cmp.Or(cmp.Compare(a.Method, b.Method), cmp.Compare(a.Confidence, b.Confidence))
	})
}
