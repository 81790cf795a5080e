// SPDX-License-Identifier: Apache-2.0

package event

import (
	"cmp"
	"strconv"
	"strings"
)

// KindFinding is what a detector found.
const KindFinding Kind = "watchglass.finding"

// Rule is what a detector declares of itself. It is constant.
type Rule struct {
	// ID is the short name ("secret-read"), UUID the stable unique id, Version grows with its meaning.
	ID, UUID, Version string
	// Title is what it finds, in a few words.
	Title string
	// Severity is the severity of its findings, unless one says otherwise.
	Severity Severity
	// Attack is MITRE ATT&CK technique ids, ASI OWASP agentic threat ids.
	Attack, ASI []string
	// Kinds is the events it wants to see; it is given no others.
	Kinds []Kind
	// MemoryBound says how its state is bounded; FalsePositives how it keeps quiet.
	MemoryBound, FalsePositives string
	// Confidence is how seldom it is wrong; "" means high.
	Confidence FindingConfidence
	// Next is what to check next, one imperative sentence each, the first thing first.
	Next []string
	// Runbook is the path of its page below docs/.
	Runbook string
}

// FindingConfidence is how seldom a detector is wrong.
type FindingConfidence string

// The confidences.
const (
	// ConfidenceHigh is of what the kernel vouches for: a file was opened, a system call was made.
	ConfidenceHigh FindingConfidence = "high"
	// ConfidenceMedium is of what several facts, or a fact and the agent's word, make likely.
	ConfidenceMedium FindingConfidence = "medium"
	// ConfidenceLow is of what is merely unusual.
	ConfidenceLow FindingConfidence = "low"
)

// FindingState is where a finding is in its life.
type FindingState string

// The states.
const (
	FindingNew      FindingState = "new"
	FindingUpdate   FindingState = "update"
	FindingResolved FindingState = "resolved"
)

// Finding is something a person should know of.
type Finding struct {
	// ID identifies the finding over its updates.
	ID string
	// Rule is the detector's declaration. Never nil.
	Rule *Rule
	// Level is the severity of this finding; 0 means the rule's.
	Level Severity
	// State is new unless this updates an earlier one.
	State FindingState
	// Title is one line with names; Explanation sentences with names and numbers. Both hold the sandbox's bytes.
	Title, Explanation string
	// Objects is the paths or destinations touched.
	Objects []string
	// Evidence is the UIDs of the events that decided it.
	Evidence []string
	// Count is how often the same was seen so far, at least 1.
	Count int
	// Chain is the names of the processes, the oldest known ancestor first and the one that did it last.
	Chain []string
	// Context is what the agent says of the work; nil while nothing is known. A later update may bring it.
	Context *FindingContext
}

// FindingContext is what an agent says of the work in which something was found. Texts are bounded, and the agent's word.
type FindingContext struct {
	// Prompt is the beginning of what was asked for; "" unless the operator has prompts told. PromptLength is in
	// characters, 0 when not known.
	Prompt       string
	PromptLength int
	// Command is the command line of the tool call.
	Command string
	// Approval is the last decision on the call; "" when none is known. Decider is who or what made it.
	Approval ApprovalState
	Decider  string
}

// Empty says whether nothing is known.
func (c *FindingContext) Empty() bool { return c == nil || *c == FindingContext{} }

func (c *FindingContext) appendContext(dst []Attribute) []Attribute {
	dst = appendString(dst, FindingPrompt, c.Prompt)
	dst = appendInt(dst, PromptLength, int64(c.PromptLength))
	dst = appendString(dst, ToolCommand, c.Command)
	dst = appendString(dst, ApprovalStateKey, string(c.Approval))
	return appendString(dst, ApprovalSource, c.Decider)
}

// Sentences is what is known of the work as a person would say it; "" when nothing is.
func (c *FindingContext) Sentences() string {
	if c.Empty() {
		return ""
	}
	var b strings.Builder
	say := func(parts ...string) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		for _, part := range parts {
			b.WriteString(part)
		}
	}
	if c.Command != "" {
		say("The agent says that the call was: ", c.Command, ".")
	}
	switch {
	case c.Approval == "":
	case c.Decider != "":
		say("Approval: ", string(c.Approval), " by ", c.Decider, ".")
	default:
		say("Approval: ", string(c.Approval), ".")
	}
	switch {
	case c.Prompt != "":
		say("The prompt was: ", c.Prompt)
	case c.PromptLength > 0:
		say("The prompt had ", strconv.Itoa(c.PromptLength), " characters.")
	}
	return b.String()
}

// Kind implements Payload.
func (*Finding) Kind() Kind { return KindFinding }

// Severity implements Payload.
func (f *Finding) Severity() Severity {
	if f.Level != 0 {
		return f.Level
	}
	return f.Rule.Severity
}

// AppendAttributes implements Payload.
func (f *Finding) AppendAttributes(dst []Attribute) []Attribute {
	dst = append(dst,
		Attribute{FindingID, String(f.ID)},
		Attribute{FindingTitle, String(f.Title)},
		Attribute{FindingSeverity, String(f.Severity().FindingName())},
		Attribute{FindingStatus, String(string(f.State))},
		Attribute{SecurityRuleName, String(f.Rule.ID)},
		Attribute{SecurityRuleUUID, String(f.Rule.UUID)},
		Attribute{SecurityRuleVersion, String(f.Rule.Version)},
		Attribute{SecurityRuleRulesetName, String("watchglass")},
		Attribute{FindingCount, Int(int64(f.Count))})
	dst = appendString(dst, FindingExplanation, f.Explanation)
	dst = appendStrings(dst, FindingObjects, f.Objects)
	dst = appendStrings(dst, FindingEvidence, f.Evidence)
	dst = appendStrings(dst, FindingAttack, f.Rule.Attack)
	dst = appendStrings(dst, FindingASI, f.Rule.ASI)
	dst = append(dst, Attribute{FindingConfidenceKey, String(string(f.Confidence()))})
	dst = appendStrings(dst, FindingChain, f.Chain)
	if f.Context != nil {
		dst = f.Context.appendContext(dst)
	}
	dst = appendStrings(dst, FindingNext, f.Rule.Next)
	return appendString(dst, FindingRunbook, f.Rule.Runbook)
}

// Confidence is how sure the detector is.
func (f *Finding) Confidence() FindingConfidence {
	return cmp.Or(f.Rule.Confidence, ConfidenceHigh)
}

// AppendBody implements Payload.
func (f *Finding) AppendBody(dst []byte) []byte {
	dst = append(dst, f.Severity().FindingName()...)
	dst = append(dst, ' ')
	dst = append(dst, f.Rule.ID...)
	dst = append(dst, ": "...)
	return append(dst, f.Title...)
}

func appendStrings(dst []Attribute, key Key, values []string) []Attribute {
	if len(values) == 0 {
		return dst
	}
	return append(dst, Attribute{key, Strings(values)})
}
