// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/watchglass/watchglass/event"
)

// recorded is the payload of an event that a test describes by its attributes.
type recorded struct {
	kind       event.Kind
	attributes []event.Attribute
}

// Kind implements event.Payload.
func (r *recorded) Kind() event.Kind { return r.kind }

// Severity implements event.Payload.
func (*recorded) Severity() event.Severity { return event.SeverityInfo }

// AppendAttributes implements event.Payload.
func (r *recorded) AppendAttributes(dst []event.Attribute) []event.Attribute {
	return append(dst, r.attributes...)
}

// AppendBody implements event.Payload.
func (r *recorded) AppendBody(dst []byte) []byte { return append(dst, r.kind...) }

// checkTest looks at the events of a test before any is run.
func (c *compiler) checkTest(t *test) error {
	if t.Name.string == "" || len(t.Events) == 0 {
		return c.fail(t.Name.line, "a test needs a name and events")
	}
	if len(t.Events) > maxCount {
		return c.fail(t.Name.line, "test %q has more than %d events", t.Name.string, maxCount)
	}
	total := 0
	for i := range t.Events {
		if total += max(1, t.Events[i].Times); t.Events[i].Times < 0 || total > maxTimes {
			return c.fail(t.Events[i].On.line, "test %q: times is 1 to %d, over all events", t.Name.string, maxTimes)
		}
		if _, err := c.l.event(&t.Events[i], time.Time{}); err != nil {
			return c.fail(t.Events[i].On.line, "test %q: %v", t.Name.string, err)
		}
	}
	return nil
}

// event makes the event that a test describes.
func (l *language) event(t *testEvent, start time.Time) (*event.Event, error) {
	kind, known := l.kinds[t.On.string]
	if !known {
		return nil, fmt.Errorf("there is no event %q", t.On.string)
	}
	payload := &recorded{kind: kind}
	p := &event.Process{UID: 1, RootUID: 1, PID: 1, Agent: &event.Agent{}}
	for _, name := range slices.Sorted(maps.Keys(t.Attributes)) {
		slot, known := l.slots[event.Key(name)]
		if !known {
			return nil, fmt.Errorf("there is no attribute %q", name)
		}
		node := t.Attributes[name]
		value, err := testValue(&node, l.forms[slot])
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", name, err)
		}
		payload.attributes = append(payload.attributes, event.Attribute{Key: event.Key(name), Value: value})
		describe(p, event.Key(name), value)
	}
	last := &p.Parent
	for _, args := range t.Ancestors[:min(len(t.Ancestors), mostAncestors)] {
		if len(args) == 0 {
			return nil, errors.New("an ancestor has no command")
		}
		*last = &event.Process{UID: 2, Name: path.Base(args[0]), Executable: args[0], Args: args}
		last = &(*last).Parent
	}
	sandbox := t.Sandbox
	if sandbox == "" {
		sandbox = "test"
	}
	return &event.Event{
		Time: start.Add(t.At.Duration), Instance: "test", Process: p, Payload: payload,
		Sandbox: &event.Sandbox{ID: sandbox, Name: sandbox},
	}, nil
}

// describe puts into the process what the attributes say of it: rules group by that.
func describe(p *event.Process, key event.Key, value event.Value) {
	switch key {
	case event.ProcessPID:
		p.PID = uint32(value.AsInt())
		if p.UID == 1 {
			p.UID, p.RootUID = event.ProcessID(p.PID), event.ProcessID(p.PID)
		}
	case event.ProcessExecutablePath:
		p.Executable, p.Name = value.AsString(), path.Base(value.AsString())
	case event.ProcessCommandArgs:
		p.Args = value.AsStrings()
	case event.SessionID:
		p.Agent.SessionID = value.AsString()
	case event.GenAIToolCallID:
		p.Agent.CallID = value.AsString()
	case event.GenAIAgentName:
		p.Agent.Name = value.AsString()
	case event.ProcessRootUID:
		var id uint64
		if _, err := fmt.Sscanf(value.AsString(), "%x", &id); err == nil {
			p.RootUID = event.ProcessID(id)
		}
	default: // a rule reads it from the attributes
	}
}

func testValue(n *yaml.Node, form event.ValueKind) (event.Value, error) {
	var err error
	decode := func(v any) { err = n.Decode(v) }
	switch form {
	case event.ValueInt:
		var v int64
		decode(&v)
		return event.Int(v), err
	case event.ValueDouble:
		var v float64
		decode(&v)
		return event.Double(v), err
	case event.ValueBool:
		var v bool
		decode(&v)
		return event.Bool(v), err
	case event.ValueStrings:
		var v []string
		decode(&v)
		return event.Strings(v), err
	case event.ValueMap:
		var v map[string]int64
		decode(&v)
		var counts []event.Count
		for _, name := range slices.Sorted(maps.Keys(v)) {
			counts = append(counts, event.Count{Name: name, N: v[name]})
		}
		return event.Counts(counts), err
	case event.ValueString, event.ValueInvalid:
	}
	var v string
	decode(&v)
	return event.String(v), err
}

// Result is how a test of a rule ended.
type Result struct {
	Rule, Test string
	// Failure is what differs; "" when the test passed.
	Failure string
	File    string
	Line    int
}

// Test runs the tests that stand in the rules' files. Each runs in an engine of its own that has only its rule.
func (s *Set) Test() []Result {
	var results []Result
	for _, r := range s.rules {
		for i := range r.tests {
			t := &r.tests[i]
			results = append(results, Result{
				Rule: r.rule.ID, Test: t.Name.string, Failure: s.run(r, t), File: r.File, Line: t.Name.line,
			})
		}
	}
	return results
}

// run is how the findings of a test differ from those it wants, "" when they do not.
func (s *Set) run(r *Rule, t *test) string {
	only := &Set{l: s.l, rules: []*Rule{r}}
	engine := NewEngine(only, Limits{MaxSandboxes: 16, MaxEntries: 1024}, slog.New(slog.DiscardHandler))
	got := []string{}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	last := start
	tick := func(now time.Time) {
		engine.Tick(now, func(_ *event.Event, f *event.Finding) { got = append(got, f.Title) })
	}
	seq := uint64(0)
	for i := range t.Events {
		for n := range max(1, t.Events[i].Times) {
			e, err := s.l.event(&t.Events[i], start.Add(time.Duration(n)*t.Events[i].Every.Duration))
			if err != nil {
				return err.Error()
			}
			tick(e.Time)
			seq++
			e.Seq, last = seq, e.Time
			engine.Detect(e, func(f *event.Finding) { got = append(got, resolution(f)+f.Title) })
		}
	}
	tick(last.Add(maxWithin))
	if failures := engine.Failures(); failures > 0 {
		return fmt.Sprintf("%d evaluations failed", failures)
	}
	if want := t.Findings; !slices.Equal(got, want) && len(got)+len(want) > 0 {
		return fmt.Sprintf("found [%s], want [%s]", strings.Join(got, "; "), strings.Join(want, "; "))
	}
	return ""
}

// resolution is what tests write before the title of a finding that is over.
func resolution(f *event.Finding) string {
	if f.State == event.FindingResolved {
		return "resolved: "
	}
	return ""
}
