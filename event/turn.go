// SPDX-License-Identifier: Apache-2.0

package event

// KindTurnEnd is the end of a turn: the agent waits for its user, or a sub-agent is done.
const KindTurnEnd Kind = "watchglass.turn.end"

// TurnEnd is the end of the turn that its claim names, or of the sub-agent.
type TurnEnd struct{ Claim }

// Kind implements Payload.
func (*TurnEnd) Kind() Kind { return KindTurnEnd }

// Severity implements Payload.
func (*TurnEnd) Severity() Severity { return SeverityInfo }

// AppendAttributes implements Payload.
func (t *TurnEnd) AppendAttributes(dst []Attribute) []Attribute { return t.appendClaim(dst) }

// AppendBody implements Payload.
func (t *TurnEnd) AppendBody(dst []byte) []byte {
	dst = t.appendWho(dst)
	if t.SubAgent != "" {
		return append(append(append(dst, " sub-agent "...), t.SubAgent...), " is done"...)
	}
	return append(dst, " turn ends"...)
}
