// SPDX-License-Identifier: Apache-2.0

// Package model is a scripted language model for tests with real coding agents. It owns the wire
// formats of the model APIs that the agents speak (OpenAI Responses and chat completions, Anthropic
// Messages, Gemini, all as server-sent events) and the play of one fixed script. It must not start agents, look at what they
// did, or depend on the rest of Watchglass: what the kernel saw is asserted elsewhere, against the
// ids and commands this package handed out.
package model

import (
	"errors"
	"fmt"
)

// Script is what the model says, turn by turn. The last turn, and only the last, is text.
type Script []Turn

// Turn is one answer of the model: either tool calls, which the agent may run in parallel, or text.
type Turn struct {
	Calls []Call
	Text  string
}

// Call asks the agent to run a shell command, or to use another of its tools.
type Call struct {
	// Name labels the call in the test; the agent never sees it.
	Name string
	// Command is the shell command.
	Command string
	// Tool is another tool to use, or several of which the first that is on offer is taken, with its Arguments. "" is
	// the shell.
	Tool      []string
	Arguments map[string]any
	// Wait is how many milliseconds Codex waits for the command before it takes it for one that goes on; 0 is long.
	Wait int
	// Session names an earlier call that started a program which goes on: its number goes into the argument
	// "session_id".
	Session string
}

// Sub is the part of a sub-agent: of the conversation whose prompt has the mark in it.
type Sub struct {
	Mark   string
	Script Script
}

// Issued is a call of the script with what became of it.
type Issued struct {
	Call
	// ID is the call id under which the agent was given the call; "" while it has not been given.
	ID string
	// Answered is whether the agent has sent a result, and Output the text of the result.
	Answered bool
	Output   string
}

// Validate says whether a run through the script ends: an agent goes on for as long as it gets calls.
func (s Script) Validate() error {
	if len(s) == 0 {
		return errors.New("the script has no turns")
	}
	names := map[string]bool{}
	for i, turn := range s {
		last := i == len(s)-1
		if last != (len(turn.Calls) == 0) {
			return fmt.Errorf("turn %d of %d: calls belong in every turn but the last", i, len(s))
		}
		if (turn.Text != "") != last {
			return fmt.Errorf("turn %d of %d: text belongs in the last turn alone", i, len(s))
		}
		for _, call := range turn.Calls {
			if call.Name == "" || (call.Command == "") == (len(call.Tool) == 0) {
				return fmt.Errorf("turn %d: a call has no name, or not either a command or a tool", i)
			}
			if names[call.Name] {
				return fmt.Errorf("turn %d: a second call is named %q", i, call.Name)
			}
			names[call.Name] = true
		}
	}
	return nil
}
