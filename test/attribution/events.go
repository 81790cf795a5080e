// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// record is one line of the program's JSON output, as far as it is looked at.
type record struct {
	Time       time.Time      `json:"time"`
	Event      string         `json:"event"`
	Attributes map[string]any `json:"attributes"`
}

func (r *record) text(key string) string {
	text, _ := r.Attributes[key].(string)
	return text
}

func (r *record) list(key string) []string {
	values, _ := r.Attributes[key].([]any)
	var list []string
	for _, value := range values {
		if text, ok := value.(string); ok {
			list = append(list, text)
		}
	}
	return list
}

// Names of events and attributes, spelled out here: a rename that breaks those who read them has to break this too.
const (
	eventOpen     = "watchglass.file.open"
	eventToolCall = "watchglass.tool.call"

	attrUID        = "watchglass.process.uid"
	attrParentUID  = "watchglass.process.parent_uid"
	attrSession    = "session.id"
	attrCallID     = "gen_ai.tool.call.id"
	attrMethod     = "watchglass.join.method"
	attrConfidence = "watchglass.join.confidence"
	attrPhase      = "watchglass.tool.phase"
	attrRoots      = "watchglass.tool.root_uids"
	attrCommand    = "watchglass.tool.command"
	attrAccess     = "watchglass.file.access"
	attrPath       = "file.path"
)

// joined is what a later event says of a root process: it works for this call.
type joined struct{ session, call, command, method, confidence string }

// methodInterval is that of a call which types into a program that an earlier call started: what the program does
// between the call's start and its end is the call's.
const methodInterval = "interval"

// told is what the events of a session tell of calls.
type told struct {
	parents map[string]string
	roots   map[string]joined
	// typed is the calls that typed into a root, starts and ends when calls were, as far as the agent says.
	typed        map[string][]joined
	starts, ends map[string]time.Time
}

// read takes one event.
func (t *told) read(rec *record, number int) {
	if uid, parent := rec.text(attrUID), rec.text(attrParentUID); uid != "" && parent != "" {
		t.parents[uid] = parent
	}
	if rec.Event != eventToolCall {
		return
	}
	id := rec.text(attrCallID)
	switch rec.text(attrPhase) {
	case "start":
		if at, ok := t.starts[id]; !ok || rec.Time.Before(at) {
			t.starts[id] = rec.Time
		}
	case "end":
		if t.ends[id].Before(rec.Time) {
			t.ends[id] = rec.Time
		}
	case "joined":
		j := joined{rec.text(attrSession), id, rec.text(attrCommand), rec.text(attrMethod), rec.text(attrConfidence)}
		if j.call == "" { // the agent has no ids: the event itself is one
			j.call = fmt.Sprintf("line %d", number)
		}
		for _, root := range rec.list(attrRoots) {
			if j.method == methodInterval {
				t.typed[root] = append(t.typed[root], j)
			} else {
				t.roots[root] = j
			}
		}
	}
}

// ReadSightings reads a session's events and returns what they tell of the marks in a directory: of each open of a
// mark for writing, the call that its event names, or, where it names none, the call that a later event gives to the
// process or to its nearest ancestor that any was given to.
func ReadSightings(r io.Reader, marks string) ([]Sighting, error) {
	t := told{map[string]string{}, map[string]joined{}, map[string][]joined{}, map[string]time.Time{}, map[string]time.Time{}}
	var sightings []Sighting
	var times []time.Time
	lines := bufio.NewReader(r)
	for number := 1; ; number++ {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			break
		}
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("read line %d: %w", number, err)
		}
		var rec record
		if err := json.Unmarshal(line, &rec); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		t.read(&rec, number)
		if rec.Event == eventOpen && filepath.Dir(rec.text(attrPath)) == marks && slices.Contains(rec.list(attrAccess), "write") {
			times = append(times, rec.Time)
			sightings = append(sightings, Sighting{
				Mark: filepath.Base(rec.text(attrPath)), Process: rec.text(attrUID), Session: rec.text(attrSession),
				Call: rec.text(attrCallID), Method: rec.text(attrMethod), Confidence: rec.text(attrConfidence),
			})
		}
	}
	for i := range sightings {
		t.complete(&sightings[i], times[i])
	}
	return sightings, nil
}

// provisional begins the names that the program gives calls for which the agent has told no id yet.
const provisional = "watchglass:"

// complete gives a sighting the call that later events tell, where its own event told none, or told it by a name that
// later got an id. Where an agent runs in a call, the call that counts is that of the session which the event names.
func (t *told) complete(s *Sighting, at time.Time) {
	seen := map[string]bool{}
	for uid := s.Process; uid != "" && !seen[uid]; uid = t.parents[uid] {
		seen[uid] = true
		for _, j := range t.typed[uid] {
			if start := t.starts[j.call]; !at.Before(start) && !at.After(t.ends[j.call]) && !start.IsZero() {
				s.Call, s.Command, s.Method, s.Confidence = j.call, j.command, j.method, j.confidence
				return
			}
		}
		j, ok := t.roots[uid]
		switch {
		case !ok, s.Session != "" && j.session != s.Session:
			continue
		case s.Call == "", strings.HasPrefix(s.Call, provisional):
			s.Call, s.Command, s.Method, s.Confidence = j.call, j.command, j.method, j.confidence
		case s.Call == j.call:
			s.Command = j.command
		}
		return
	}
}

// Nonces is what a command's output says of marks that it named itself: lines "mark NAME".
func Nonces(output string) []string {
	var names []string
	for line := range strings.Lines(output) {
		// Codex, Gemini CLI and others put the output into text of their own.
		if _, name, ok := strings.Cut(strings.TrimSpace(line), "mark "); ok {
			if fields := strings.Fields(name); len(fields) > 0 {
				names = append(names, fields[0])
			}
		}
	}
	return names
}
