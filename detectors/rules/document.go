// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// The limits of what is read. They are far above what people write, and far below what hurts.
const (
	// maxFile is the largest file, in bytes.
	maxFile = 1 << 20
	// maxRules is the most rules in force, over all files.
	maxRules = 2048
	// maxExpression is the longest condition after its macros, in bytes.
	maxExpression = 16 << 10
	// maxSteps is the most steps of a sequence.
	maxSteps = 8
	// maxCount is the highest threshold, maxWithin the longest time that anything is remembered for.
	maxCount = 4096
	// maxTotal is the highest sum of a threshold.
	maxTotal = 1 << 40
	// maxTimes is how often an event of a test happens.
	maxTimes  = 10_000
	maxWithin = 24 * time.Hour
	// maxNext is the most things to check next, maxSentence the longest of them in bytes.
	maxNext, maxSentence = 8, 512
	// maxList bounds lists in the envelope: techniques, kinds, exceptions, objects, tests.
	maxList = 256
)

// format is the version of the file's format.
const format = "watchglass.rules/v1"

// Error says what is wrong with a rule, and where.
type Error struct {
	File string
	// Line is from 1; 0 where there is none to name.
	Line int
	// Rule is the rule's id; "" where it has none yet.
	Rule   string
	Reason string
}

// Error is "FILE:LINE: rule ID: REASON".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	b.WriteString(": ")
	if e.Rule != "" {
		fmt.Fprintf(&b, "rule %s: ", e.Rule)
	}
	return b.String() + e.Reason
}

// document is one file.
type document struct {
	Version text            `yaml:"version"`
	Macros  map[string]text `yaml:"macros"`
	Rules   []declaration   `yaml:"rules"`
}

// text is a scalar and the line it stands in.
type text struct {
	string
	line int
}

// String is the text alone.
func (t text) String() string { return t.string }

// UnmarshalYAML implements yaml.Unmarshaler.
func (t *text) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: a text is expected here", n.Line)}}
	}
	t.string, t.line = n.Value, n.Line
	return nil
}

// span is a duration with its line.
type span struct {
	time.Duration
	line int
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (s *span) UnmarshalYAML(n *yaml.Node) error {
	d, err := time.ParseDuration(n.Value)
	if err != nil || n.Kind != yaml.ScalarNode {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %q is no duration such as 30s", n.Line, n.Value)}}
	}
	s.Duration, s.line = d, n.Line
	return nil
}

// declaration is a rule as it is written.
type declaration struct {
	ID             text        `yaml:"id"`
	UUID           text        `yaml:"uuid"`
	Version        text        `yaml:"version"`
	Title          text        `yaml:"title"`
	Description    string      `yaml:"description"`
	Severity       text        `yaml:"severity"`
	Attack         []text      `yaml:"attack"`
	ASI            []text      `yaml:"owasp_agentic"`
	FalsePositives string      `yaml:"false_positives"`
	Confidence     text        `yaml:"confidence"`
	Next           []text      `yaml:"next"`
	Runbook        string      `yaml:"runbook"`
	On             []text      `yaml:"on"`
	Scope          text        `yaml:"scope"`
	Condition      text        `yaml:"condition"`
	Exceptions     []exception `yaml:"exceptions"`
	Sequence       *sequence   `yaml:"sequence"`
	Threshold      *threshold  `yaml:"threshold"`
	Absence        *absence    `yaml:"absence"`
	// Resolved is the event that ends what the rule found in the same scope.
	Resolved *resolved `yaml:"resolved"`
	// Message is the finding's title with {attribute} for values; Objects the attributes that name what was touched.
	Message text   `yaml:"message"`
	Objects []text `yaml:"objects"`
	// Dedup says in CEL what is the same finding, besides rule, sandbox and scope. Default: the message.
	Dedup text `yaml:"dedup"`
	// Group says in CEL what else is kept apart inside the scope: what is counted, or follows each other, must agree in it.
	Group text   `yaml:"group"`
	Tests []test `yaml:"tests"`
}

// exception is what the condition holds for and is no finding.
type exception struct {
	Name      text `yaml:"name"`
	Condition text `yaml:"condition"`
}

// sequence is steps that follow each other.
type sequence struct {
	Within span   `yaml:"within"`
	Steps  []step `yaml:"steps"`
}

type step struct {
	On        []text          `yaml:"on"`
	Condition text            `yaml:"condition"`
	Capture   map[string]text `yaml:"capture"`
}

// threshold is so many of the same, or so much of something.
type threshold struct {
	Count    int  `yaml:"count"`
	Within   span `yaml:"within"`
	Distinct text `yaml:"distinct"`
	// Sum says in CEL, in place of a count, what of each event is added up; Total how much is too much.
	Sum   text  `yaml:"sum"`
	Total int64 `yaml:"total"`
}

// resolved is the event after which what was found is over.
type resolved struct {
	On        []text `yaml:"on"`
	Condition text   `yaml:"condition"`
}

// absence is what must follow and does not.
type absence struct {
	On        []text `yaml:"on"`
	Condition text   `yaml:"condition"`
	Within    span   `yaml:"within"`
}

// test is events that the rule sees and the titles of what it must find in them.
type test struct {
	Name     text        `yaml:"name"`
	Events   []testEvent `yaml:"events"`
	Findings []string    `yaml:"findings"`
}

type testEvent struct {
	On      text   `yaml:"on"`
	At      span   `yaml:"at"`
	Sandbox string `yaml:"sandbox"`
	// Times is how often it happens, each time later by Every than before; 0 is once.
	Times int  `yaml:"times"`
	Every span `yaml:"every"`
	// Ancestors is the commands of the ancestors, from the parent upwards.
	Ancestors  [][]string           `yaml:"ancestors"`
	Attributes map[string]yaml.Node `yaml:"attributes"`
}

// parse reads a file. It looks at the envelope only; conditions are compiled later.
func parse(file string, data []byte) (*document, error) {
	switch {
	case len(data) > maxFile:
		return nil, &Error{File: file, Reason: fmt.Sprintf("the file has %d bytes, the most are %d", len(data), maxFile)}
	case !utf8.Valid(data):
		return nil, &Error{File: file, Reason: "the file is not UTF-8"}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	var d document
	if err := decoder.Decode(&d); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, &Error{File: file, Reason: "the file is empty"}
		}
		return nil, yamlErrors(file, err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, &Error{File: file, Reason: "the file holds more than one document"}
	}
	if d.Version.string != format {
		return nil, &Error{
			File: file, Line: max(d.Version.line, 1),
			Reason: fmt.Sprintf("version is %q, this program reads %q", d.Version.string, format),
		}
	}
	return &d, nil
}

// yamlErrors gives every complaint of the YAML library its file and line, and speaks of no types.
func yamlErrors(file string, err error) error {
	complaint := regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)$`)
	unknown := regexp.MustCompile(`^field (\S+) not found in type \S+$`)
	lines := []string{err.Error()}
	if types, ok := errors.AsType[*yaml.TypeError](err); ok {
		lines = types.Errors
	}
	var all []error
	for _, line := range lines {
		e := &Error{File: file, Reason: line}
		if m := complaint.FindStringSubmatch(line); m != nil {
			_, _ = fmt.Sscan(m[1], &e.Line)
			e.Reason = m[2]
		}
		if m := unknown.FindStringSubmatch(e.Reason); m != nil {
			e.Reason = fmt.Sprintf("there is no field %q here", m[1])
		}
		e.Reason = strings.ReplaceAll(e.Reason, "rules.", "")
		all = append(all, e)
	}
	return errors.Join(all...)
}
