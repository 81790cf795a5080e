// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"

	"github.com/watchglass/watchglass/event"
)

// scope is what a rule's memory is kept by.
type scope string

const (
	scopeSession scope = "session"
	scopeCall    scope = "call"
	scopeTree    scope = "process_tree"
	scopeProcess scope = "process"
	scopeSandbox scope = "sandbox"
)

// Rule is a rule that is ready to run. It is immutable but for what it remembers.
type Rule struct {
	rule event.Rule
	// File and Line are where it is written, Description what its author says of it.
	File        string
	Line        int
	Description string

	scope      scope
	stages     []stage
	exceptions []*expression
	sequence   bool
	threshold  *limit
	absence    bool
	resolved   *stage
	within     span
	message    template
	objects    []int
	dedup      *expression
	group      *expression
	tests      []test
	// digest is of all that it is written from: a rule that a reload did not change keeps its memory.
	digest string
}

// stage is one event that a rule waits for: the only one, or a step of a sequence, or what an absence expects.
type stage struct {
	kinds   []event.Kind
	when    *expression
	capture map[string]*expression
}

// limit is a threshold.
type limit struct {
	count    int
	distinct *expression
	// sum is what of each event is added up, nil where events are counted; total how much is too much.
	sum   *expression
	total int64
}

// resolving is the stage of a candidate that ends what its rule found.
const resolving = -1

// Declaration is the rule's metadata.
func (r *Rule) Declaration() *event.Rule { return &r.rule }

// compiler makes the rules of one file.
type compiler struct {
	l        *language
	patterns patterns
	file     string
	macros   macros
	// rule and line are where it is, for errors.
	rule string
	line int
}

func (c *compiler) fail(line int, reason string, args ...any) error {
	if line == 0 {
		line = c.line
	}
	return &Error{File: c.file, Line: line, Rule: c.rule, Reason: fmt.Sprintf(reason, args...)}
}

// patterns is the forms of ids.
type patterns struct{ id, uuid, technique, asi, name *regexp.Regexp }

func newPatterns() patterns {
	return patterns{
		id:        regexp.MustCompile(`^[a-z][a-z0-9-]{2,63}$`),
		uuid:      regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`),
		technique: regexp.MustCompile(`^T[0-9]{4}(\.[0-9]{3})?$`),
		asi:       regexp.MustCompile(`^ASI[0-9]{2}$`),
		name:      regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`),
	}
}

// compile makes the rule of a declaration.
func (c *compiler) compile(d *declaration) (*Rule, error) {
	c.rule, c.line = d.ID.string, d.ID.line
	r := &Rule{File: c.file, Line: d.ID.line, Description: d.Description, tests: d.Tests}
	if err := c.metadata(r, d); err != nil {
		return nil, err
	}
	if err := c.stages(r, d); err != nil {
		return nil, err
	}
	if err := c.finding(r, d); err != nil {
		return nil, err
	}
	if err := c.resolution(r, d.Resolved); err != nil {
		return nil, err
	}
	r.rule.MemoryBound = r.memoryBound()
	for i := range d.Tests {
		if err := c.checkTest(&d.Tests[i]); err != nil {
			return nil, err
		}
	}
	sum := sha256.Sum256([]byte(d.written() + fmt.Sprint(c.macros)))
	r.digest = hex.EncodeToString(sum[:])
	return r, nil
}

// written is all that decides what the rule does: without its tests and its place in the file.
func (d *declaration) written() string {
	c := *d
	c.Tests, c.Sequence, c.Threshold, c.Absence, c.Resolved = nil, nil, nil, nil, nil
	parts := fmt.Sprintf("%v", c)
	if d.Sequence != nil {
		parts += fmt.Sprintf(" sequence %v", *d.Sequence)
	}
	if d.Threshold != nil {
		parts += fmt.Sprintf(" threshold %v", *d.Threshold)
	}
	if d.Absence != nil {
		parts += fmt.Sprintf(" absence %v", *d.Absence)
	}
	if d.Resolved != nil {
		parts += fmt.Sprintf(" resolved %v", *d.Resolved)
	}
	return parts
}

func (c *compiler) metadata(r *Rule, d *declaration) error {
	severities := map[string]event.Severity{
		"info": event.SeverityInfo, "low": event.SeverityLow, "medium": event.SeverityMedium,
		"high": event.SeverityHigh, "critical": event.SeverityCritical,
	}
	severity, known := severities[d.Severity.string]
	switch {
	case !c.patterns.id.MatchString(d.ID.string):
		return c.fail(d.ID.line, "id %q: three to 64 of a-z, 0-9 and -, a letter first", d.ID.string)
	case !c.patterns.uuid.MatchString(d.UUID.string):
		return c.fail(d.UUID.line, "uuid %q is none: write a new one and never change it", d.UUID.string)
	case d.Title.string == "":
		return c.fail(0, "there is no title")
	case !known:
		return c.fail(d.Severity.line, "severity %q: info, low, medium, high or critical", d.Severity.string)
	case len(d.Attack) > maxList || len(d.ASI) > maxList || len(d.Exceptions) > maxList || len(d.Objects) > maxList || len(d.Tests) > maxList:
		return c.fail(0, "a list has more than %d entries", maxList)
	}
	r.rule = event.Rule{
		ID: d.ID.string, UUID: d.UUID.string, Version: d.Version.string, Title: d.Title.string, Severity: severity,
		FalsePositives: d.FalsePositives, Runbook: d.Runbook,
	}
	if r.rule.Version == "" {
		r.rule.Version = "1"
	}
	if err := c.advice(r, d); err != nil {
		return err
	}
	for _, id := range d.Attack {
		if !c.patterns.technique.MatchString(id.string) {
			return c.fail(id.line, "%q is no ATT&CK technique such as T1059.004", id.string)
		}
		r.rule.Attack = append(r.rule.Attack, id.string)
	}
	for _, id := range d.ASI {
		if !c.patterns.asi.MatchString(id.string) {
			return c.fail(id.line, "%q is no OWASP agentic id such as ASI05", id.string)
		}
		r.rule.ASI = append(r.rule.ASI, id.string)
	}
	return nil
}

// advice takes how sure the rule is, and what to check next.
func (c *compiler) advice(r *Rule, d *declaration) error {
	switch r.rule.Confidence = event.FindingConfidence(d.Confidence.string); r.rule.Confidence {
	case "", event.ConfidenceHigh, event.ConfidenceMedium, event.ConfidenceLow:
	default:
		return c.fail(d.Confidence.line, "confidence %q: high, medium or low", d.Confidence.string)
	}
	if len(d.Next) > maxNext {
		return c.fail(d.Next[maxNext].line, "next has more than %d entries", maxNext)
	}
	for _, sentence := range d.Next {
		if sentence.string == "" || len(sentence.string) > maxSentence {
			return c.fail(sentence.line, "an entry of next has %d bytes: 1 to %d", len(sentence.string), maxSentence)
		}
		r.rule.Next = append(r.rule.Next, sentence.string)
	}
	return nil
}

// stages compiles what the rule waits for.
func (c *compiler) stages(r *Rule, d *declaration) error {
	r.scope = scope(d.Scope.string)
	switch r.scope {
	case "":
		r.scope = scopeSession
	case scopeSession, scopeCall, scopeTree, scopeProcess, scopeSandbox:
	default:
		return c.fail(d.Scope.line, "scope %q: session, call, process_tree, process or sandbox", d.Scope.string)
	}
	operators := 0
	for _, used := range []bool{d.Sequence != nil, d.Threshold != nil, d.Absence != nil} {
		if used {
			operators++
		}
	}
	if operators > 1 {
		return c.fail(0, "only one of sequence, threshold and absence")
	}
	if d.Sequence != nil {
		if len(d.On) > 0 || d.Condition.string != "" {
			return c.fail(0, "a sequence has on and condition in its steps, not beside them")
		}
		return c.sequence(r, d.Sequence)
	}
	first, err := c.stage(d.On, d.Condition, nil)
	if err != nil {
		return err
	}
	r.stages = []stage{first}
	switch {
	case d.Threshold != nil:
		return c.threshold(r, d.Threshold)
	case d.Absence != nil:
		return c.absence(r, d.Absence)
	}
	return nil
}

func (c *compiler) stage(on []text, condition text, capture map[string]text) (stage, error) {
	var s stage
	if len(on) == 0 || len(on) > maxList {
		return s, c.fail(condition.line, "on: the kinds of events are missing, for example [process.exec]")
	}
	for _, name := range on {
		kind, known := c.l.kinds[name.string]
		if !known {
			return s, c.fail(name.line, "on: there is no event %q", name.string)
		}
		if kind == event.KindFinding || kind == event.KindLoss {
			return s, c.fail(name.line, "on: rules do not see %q", name.string)
		}
		s.kinds = append(s.kinds, kind)
	}
	var err error
	if s.when, err = c.expression(condition, cel.BoolType, s.kinds); err != nil {
		return s, err
	}
	for _, name := range slices.Sorted(maps.Keys(capture)) {
		if !c.patterns.name.MatchString(name) {
			return s, c.fail(capture[name].line, "capture: %q is no name", name)
		}
		x, err := c.expression(capture[name], cel.StringType, s.kinds)
		if err != nil {
			return s, err
		}
		if s.capture == nil {
			s.capture = map[string]*expression{}
		}
		s.capture[name] = x
	}
	return s, nil
}

func (c *compiler) expression(source text, want *cel.Type, kinds []event.Kind) (*expression, error) {
	if strings.TrimSpace(source.string) == "" {
		return nil, c.fail(source.line, "a condition is missing")
	}
	expanded, err := c.macros.expand(source.string)
	if err != nil {
		return nil, c.fail(source.line, "%v", err)
	}
	x, err := c.l.compile(expanded, want, kinds)
	if err != nil {
		return nil, c.fail(source.line, "%v", err)
	}
	return x, nil
}

func (c *compiler) checkSpan(name string, s span) error {
	if s.Duration <= 0 || s.Duration > maxWithin {
		return c.fail(s.line, "%s is %s: more than 0 and at most %s", name, s.Duration, maxWithin)
	}
	return nil
}

func (c *compiler) sequence(r *Rule, s *sequence) error {
	if len(s.Steps) < 2 || len(s.Steps) > maxSteps {
		return c.fail(s.Within.line, "a sequence has 2 to %d steps", maxSteps)
	}
	if err := c.checkSpan("sequence.within", s.Within); err != nil {
		return err
	}
	for i := range s.Steps {
		st, err := c.stage(s.Steps[i].On, s.Steps[i].Condition, s.Steps[i].Capture)
		if err != nil {
			return err
		}
		r.stages = append(r.stages, st)
	}
	r.sequence, r.within = true, s.Within
	return nil
}

func (c *compiler) threshold(r *Rule, t *threshold) error {
	if err := c.checkSpan("threshold.within", t.Within); err != nil {
		return err
	}
	r.threshold, r.within = &limit{count: t.Count, total: t.Total}, t.Within
	if t.Sum.string != "" {
		return c.sum(r, t)
	}
	switch {
	case t.Total != 0:
		return c.fail(t.Within.line, "threshold.total says nothing without threshold.sum")
	case t.Count < 2 || t.Count > maxCount:
		return c.fail(t.Within.line, "threshold.count is %d: 2 to %d", t.Count, maxCount)
	}
	if t.Distinct.string == "" {
		return nil
	}
	var err error
	r.threshold.distinct, err = c.expression(t.Distinct, cel.StringType, r.stages[0].kinds)
	return err
}

// sum compiles a threshold that adds up.
func (c *compiler) sum(r *Rule, t *threshold) error {
	switch {
	case t.Count != 0 || t.Distinct.string != "":
		return c.fail(t.Sum.line, "threshold.sum has a total, and neither count nor distinct")
	case t.Total < 1 || t.Total > maxTotal:
		return c.fail(t.Sum.line, "threshold.total is %d: 1 to %d", t.Total, int64(maxTotal))
	}
	var err error
	r.threshold.sum, err = c.expression(t.Sum, cel.IntType, r.stages[0].kinds)
	return err
}

// resolution compiles what ends the rule's findings.
func (c *compiler) resolution(r *Rule, d *resolved) error {
	if d == nil {
		return nil
	}
	st, err := c.stage(d.On, d.Condition, nil)
	if err != nil {
		return err
	}
	r.resolved = &st
	return nil
}

// memoryBound says how much the rule remembers, and with what that goes.
func (r *Rule) memoryBound() string {
	groups, owner := "groups", "session that made it last"
	if r.resolved != nil {
		groups = "groups with 16 open findings each,"
	}
	if r.scope == scopeTree || r.scope == scopeProcess {
		owner = "process tree"
	}
	return "per sandbox max_entries " + groups + " and as many findings; max_sandboxes sandboxes; least recently used first; all goes with the " + owner
}

func (c *compiler) absence(r *Rule, a *absence) error {
	if err := c.checkSpan("absence.within", a.Within); err != nil {
		return err
	}
	expected, err := c.stage(a.On, a.Condition, nil)
	if err != nil {
		return err
	}
	r.stages, r.absence, r.within = append(r.stages, expected), true, a.Within
	return nil
}

// finding compiles what the rule says when it finds something.
func (c *compiler) finding(r *Rule, d *declaration) error {
	captures := map[string]bool{}
	for _, s := range r.stages {
		for name := range s.capture {
			captures[name] = true
		}
		for _, kind := range s.kinds {
			if !slices.Contains(r.rule.Kinds, kind) {
				r.rule.Kinds = append(r.rule.Kinds, kind)
			}
		}
	}
	message := d.Message
	if message.string == "" {
		message = d.Title
	}
	var err error
	if r.message, err = c.l.template(message.string, captures); err != nil {
		return c.fail(message.line, "message: %v", err)
	}
	for _, name := range d.Objects {
		slot, known := c.l.slots[event.Key(name.string)]
		if !known {
			return c.fail(name.line, "objects: there is no attribute %q", name.string)
		}
		r.objects = append(r.objects, slot)
	}
	if d.Dedup.string != "" {
		if r.dedup, err = c.expression(d.Dedup, cel.StringType, r.stages[len(r.stages)-1].kinds); err != nil {
			return err
		}
	}
	if d.Group.string != "" {
		if r.group, err = c.expression(d.Group, cel.StringType, r.rule.Kinds); err != nil {
			return err
		}
	}
	for _, x := range d.Exceptions {
		if x.Name.string == "" {
			return c.fail(x.Condition.line, "an exception has no name")
		}
		compiled, err := c.expression(x.Condition, cel.BoolType, r.rule.Kinds)
		if err != nil {
			return err
		}
		r.exceptions = append(r.exceptions, compiled)
	}
	return nil
}
