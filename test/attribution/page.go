// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"fmt"
	"strings"
)

// Result is one session's score.
type Result struct {
	Agent    string
	Scenario Scenario
	Score    Score
}

// Targets are what the project promises of each agent: the least recall, and the least precision of what is said to be
// better than inferred. No forged id is ever called exact.
type Targets struct{ Recall, Precision float64 }

// TargetsOf is the targets of an agent.
func TargetsOf(agent string) Targets {
	if agent == "gemini" || agent == "opencode" {
		return Targets{0.95, 0.999}
	}
	return Targets{0.99, 0.999}
}

// Sure is the confidences above inferred.
func Sure() []string { return []string{exact, "strong"} }

// AsSetUp says whether the agent tells all that `agents setup` has it tell: the targets are about these scenarios.
func (s *Scenario) AsSetUp() bool { return len(s.Setup) == 0 && !s.Silent }

// Page is docs/attribution.md.
func Page(results []Result, machine string) string {
	var b strings.Builder
	b.WriteString(`<!-- SPDX-License-Identifier: Apache-2.0 -->

# How well calls are attributed

<!-- Written by make bench-join. -->

Real agents, driven by a scripted model, run scripts of tool calls under ` + "`watchglass run`" + `, set up by
` + "`watchglass agents setup`" + `. Every process of interest leaves a mark: a file whose name the script, or the command's
own output, ties to one call. So the truth is in the files, and comes from nothing that is measured here. What the events
say of who made each mark is compared with it: the call that the event itself names, else the call that a later event
gives to the process or to its nearest ancestor that was given any.

* **recall**: the part of the marks of calls that was attributed to the right call.
* **precision**: the part of the attributions that is right, by how sure they say they are.
* **strangers** are marks of processes that work for no call; stolen are those of them that a call was given.
* **forged** is attributions that are wrong and say that they are exact.

`)
	fmt.Fprintf(&b, "Measured %s. `make bench-join` measures again.\n\n", machine)
	writeAgents(&b, results)
	writeWays(&b, results)
	writeScenarios(&b, results)
	b.WriteString(missed)
	return b.String()
}

// missed is what is known of why.
const missed = `
## What is missed, and why

* **opencode** without its plugin (redacted, late) loses the spans that it has not sent when it ends, some or all of a
  short session's: those calls are never told. In a session that goes on they are (lingering).
* **Calls of the same command at the same time** of an agent whose processes name no call are told apart by the process
  groups that Gemini CLI tells when they end; where it tells none (redacted), what they are given is inferred.
* **Silent** agents are known by their processes alone. Those of Codex name their call. The others start a shell for each
  call, and for nothing else: what such a shell and its descendants do is one call, which has a name of ours (shell). It
  counts as right here when it has the command and the marks of one call, and of no other.
* A process that is no call's and uses a call's ids is given that call, and says that it is inferred.
`

// sum adds the scores of an agent's sessions that a condition chooses.
func sum(results []Result, agent string, choose func(*Scenario) bool) (total Score, sessions int) {
	for _, r := range results {
		if r.Agent == agent && choose(&r.Scenario) {
			total.Add(r.Score)
			sessions++
		}
	}
	return total, sessions
}

func every(*Scenario) bool { return true }

func writeAgents(b *strings.Builder, results []Result) {
	b.WriteString("## As agents setup sets them up\n\nThe scenarios below but those that say what the agent does not tell.\n\n| agent | sessions | marks | recall | target | precision, exact | precision, strong | target | forged | stolen |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, agent := range Names() {
		total, sessions := sum(results, agent, (*Scenario).AsSetUp)
		if sessions == 0 {
			continue
		}
		target := TargetsOf(agent)
		fmt.Fprintf(b, "| %s | %d | %d | %.4f | %.2f | %s | %s | %.3f | %d | %d of %d |\n", agent, sessions, total.Marks, total.Recall(), target.Recall,
			precision(&total, exact), precision(&total, "strong"), target.Precision, total.Forged, total.Stolen, total.Strangers)
	}
	b.WriteByte('\n')
}

// precision is the precision of a confidence, with how many attributions it is of.
func precision(s *Score, confidence string) string {
	n := 0
	for way, cell := range s.Ways {
		if way.Confidence == confidence {
			n += cell.Right + cell.Wrong
		}
	}
	if n == 0 {
		return "–"
	}
	return fmt.Sprintf("%.4f of %d", s.Precision(confidence), n)
}

func writeWays(b *strings.Builder, results []Result) {
	b.WriteString("## By method, all sessions\n\n| agent | method | confidence | right | wrong | precision |\n|---|---|---|---|---|---|\n")
	for _, agent := range Names() {
		total, _ := sum(results, agent, every)
		for _, way := range total.SortedWays() {
			cell := total.Ways[way]
			fmt.Fprintf(b, "| %s | %s | %s | %d | %d | %.4f |\n", agent, way.Method, way.Confidence, cell.Right, cell.Wrong, part(cell.Right, cell.Right+cell.Wrong))
		}
	}
	b.WriteByte('\n')
}

func writeScenarios(b *strings.Builder, results []Result) {
	b.WriteString("## By scenario\n\n| scenario | |" + strings.Join(Names(), " | ") + " |\n|---|---|" + strings.Repeat("---|", len(Names())) + "\n")
	for _, scenario := range Scenarios() {
		fmt.Fprintf(b, "| %s | %s |", scenario.Name, scenario.About)
		for _, agent := range Names() {
			total, sessions := sum(results, agent, func(s *Scenario) bool { return s.Name == scenario.Name })
			if sessions == 0 {
				b.WriteString(" – |")
				continue
			}
			wrong := 0
			for _, cell := range total.Ways {
				wrong += cell.Wrong
			}
			fmt.Fprintf(b, " %d of %d", total.Found, total.Marks)
			if wrong > 0 {
				fmt.Fprintf(b, ", %d wrong", wrong)
			}
			b.WriteString(" |")
		}
		b.WriteByte('\n')
	}
}
