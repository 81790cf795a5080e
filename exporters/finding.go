// SPDX-License-Identifier: Apache-2.0

package exporters

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/watchglass/watchglass/event"
)

// Decoder reads an event back from its durable form; otlp.Decode is one. The Decode of an otlp.Decoder is one for those who are
// done with an event before they read the next.
type Decoder func(*event.Encoded) (*Recorded, error)

// MayBeCanary says whether an event in its durable form is the canary, or a finding that names it, which nobody is
// hurt to get.
func MayBeCanary(e *event.Encoded) bool {
	return e.Kind == event.KindFinding && bytes.Contains(e.Record, []byte(event.CanaryRuleID))
}

// Findings makes the function that says whether an event in its durable form is for an output of findings of that
// severity: they are, and the canary is wherever some are.
func Findings(least event.Severity) func(*event.Encoded) bool {
	return func(e *event.Encoded) bool {
		return e.Kind == event.KindFinding && (e.Severity >= least || MayBeCanary(e))
	}
}

// Finding is the event of a finding as far as outputs of findings show it; false when it is no finding. Of the rule
// it knows what the finding told, so no title.
func (r *Recorded) Finding() (*event.Event, bool) {
	id, rule := r.text(event.FindingID), r.text(event.SecurityRuleName)
	if r.Kind != event.KindFinding || id == "" || rule == "" {
		return nil, false
	}
	e := &event.Event{Time: r.Time, Sandbox: r.sandbox(), Process: r.process()}
	uid := r.text(event.LogRecordUID)
	if at := strings.LastIndexByte(uid, '-'); at >= 0 {
		e.Instance = uid[:at]
		e.Seq, _ = strconv.ParseUint(uid[at+1:], 10, 64)
	}
	e.Payload = &event.Finding{
		ID: id, Level: r.Severity, State: event.FindingState(r.text(event.FindingStatus)),
		Title: r.text(event.FindingTitle), Explanation: r.text(event.FindingExplanation),
		Objects: r.texts(event.FindingObjects), Evidence: r.texts(event.FindingEvidence), Count: int(r.number(event.FindingCount)),
		Rule: &event.Rule{
			ID: rule, UUID: r.text(event.SecurityRuleUUID), Version: r.text(event.SecurityRuleVersion), Severity: r.Severity,
			Attack: r.texts(event.FindingAttack), ASI: r.texts(event.FindingASI), Runbook: r.text(event.FindingRunbook),
			Confidence: event.FindingConfidence(r.text(event.FindingConfidenceKey)), Next: r.texts(event.FindingNext),
		},
		Chain: r.texts(event.FindingChain), Context: r.context(),
	}
	return e, true
}

func (r *Recorded) context() *event.FindingContext {
	c := &event.FindingContext{
		Prompt: r.text(event.FindingPrompt), PromptLength: int(r.number(event.PromptLength)), Command: r.text(event.ToolCommand),
		Approval: event.ApprovalState(r.text(event.ApprovalStateKey)), Decider: r.text(event.ApprovalSource),
	}
	if c.Empty() {
		return nil
	}
	return c
}

func (r *Recorded) sandbox() *event.Sandbox {
	id, ok := r.Of(event.SandboxID)
	if !ok {
		return nil
	}
	name, _ := r.Of(event.SandboxName)
	return &event.Sandbox{ID: id.AsString(), Name: name.AsString()}
}

func (r *Recorded) process() *event.Process {
	if _, ok := r.Attribute(event.ProcessPID); !ok {
		return nil
	}
	uid, _ := strconv.ParseUint(r.text(event.ProcessUID), 16, 64)
	p := &event.Process{
		UID: event.ProcessID(uid), PID: uint32(r.number(event.ProcessPID)), UserID: uint32(r.number(event.ProcessUserID)),
		Name: r.text(event.ProcessExecutableName), Executable: r.text(event.ProcessExecutablePath),
	}
	agent := event.Agent{
		Name: r.text(event.GenAIAgentName), SessionID: r.text(event.SessionID), ConversationID: r.text(event.GenAIConversationID),
		Turn: r.text(event.TurnID), CallID: r.text(event.GenAIToolCallID), Tool: r.text(event.GenAIToolName),
		Approval: r.text(event.ApprovalID),
	}
	if agent != (event.Agent{}) {
		p.Agent = &agent
	}
	return p
}

func (r *Recorded) text(key event.Key) string {
	v, _ := r.Attribute(key)
	return v.AsString()
}

func (r *Recorded) texts(key event.Key) []string {
	v, _ := r.Attribute(key)
	return v.AsStrings()
}

func (r *Recorded) number(key event.Key) int64 {
	v, _ := r.Attribute(key)
	return v.AsInt()
}
