// SPDX-License-Identifier: Apache-2.0

package event

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
	// Runbook is the path of its page below docs/.
	Runbook string
}

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
	return appendString(dst, FindingRunbook, f.Rule.Runbook)
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
