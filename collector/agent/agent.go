// SPDX-License-Identifier: Apache-2.0

// Package agent knows the coding agents: by which executables and environment variables the kernel
// side recognises them, and what those say of sessions and tool calls.
//
// It owns one adapter per agent, one file each, and the rules by which a process is joined to a tool
// call from its environment. It must not keep state: the process tree holds what a process inherits.
package agent

import (
	"encoding/hex"
	"path"
	"slices"
	"strings"

	"github.com/watchglass/watchglass/event"
)

// How a join is known and how sure it is: the values of watchglass.join.method and .confidence.
const (
	// MethodEnv is ids in the process's own environment at exec.
	MethodEnv = "env"
	// MethodInherited is the parent's join.
	MethodInherited = "inherited"
	// MethodExecutable is the agent's own process, known by what it runs.
	MethodExecutable = "executable"

	// ConfidenceExact is an id that only this call has.
	ConfidenceExact = "exact"
	// ConfidenceStrong leaves no other candidate.
	ConfidenceStrong = "strong"
	// ConfidenceInferred is the likeliest of several, or a join that something contradicts.
	ConfidenceInferred = "inferred"
)

// maxID bounds an id from an environment, which is hostile input: longer ones are not ids.
const maxID = 128

// Adapter is what is known of one agent's processes.
type Adapter struct {
	// Name is the agent's name in events.
	Name string
	// Executables is the names under which the agent's own program runs, as a binary or as the script
	// of an interpreter.
	Executables []string
	// Marks is variables that the agent sets, to anything, for the processes it starts.
	Marks []string
	// Call, Session and Conversation are the variables that hold the ids; "" where there is none.
	Call, Session, Conversation string
	// Traceparent is true when TRACEPARENT is the span of the tool call that runs the process, and not
	// just what the agent itself was started with.
	Traceparent bool
}

// Adapters is every agent that is known. The first that fits wins.
func Adapters() []Adapter {
	return []Adapter{codex(), claudeCode(), geminiCLI(), openCode()}
}

// traceparent is the variable of W3C Trace Context.
const traceparent = "TRACEPARENT"

// Environment is the names of all variables that the adapters read, sorted: what the kernel side must tell.
func Environment() []string {
	names := []string{traceparent}
	for _, a := range Adapters() {
		names = append(names, a.Marks...)
		for _, name := range []string{a.Call, a.Session, a.Conversation} {
			if name != "" {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Joiner joins processes to agents. It holds only the table of adapters.
type Joiner struct{ adapters []Adapter }

// NewJoiner makes a Joiner for all known agents.
func NewJoiner() *Joiner { return &Joiner{adapters: Adapters()} }

// Join says what a process that execs works for, given what it worked for before (its own earlier join,
// or its parent's at the fork; nil for nothing).
//
// Ids in the environment count as exact, unless the process already belongs to a call: whoever runs
// inside a call can copy another call's id into a child's environment. The outermost call is kept, and
// the contradiction lowers the confidence.
func (j *Joiner) Join(before *event.Agent, exec *event.ProcessExec) *event.Agent {
	claimed := j.fromEnvironment(exec.Env)
	inCall := before != nil && (before.CallID != "" || before.HasTrace())
	switch {
	case claimed == nil && inCall:
		return inherited(before)
	case claimed == nil:
		if own := j.fromExecutable(exec); own != nil {
			return own
		}
		return inherited(before)
	case inCall && !sameCall(before, claimed):
		kept := *before
		kept.Method, kept.Confidence = MethodInherited, ConfidenceInferred
		return &kept
	case claimed.CallID == "" && !claimed.HasTrace():
		return j.withoutCall(claimed, exec)
	}
	return claimed
}

// withoutCall completes a join by an environment that names no call: that of an agent without call ids,
// or of an agent's own process. An agent that was started from another agent's environment is itself.
func (j *Joiner) withoutCall(claimed *event.Agent, exec *event.ProcessExec) *event.Agent {
	own := j.fromExecutable(exec)
	switch {
	case own == nil:
		return claimed
	case own.Name != claimed.Name:
		return own
	}
	claimed.Method, claimed.Confidence = own.Method, own.Confidence
	return claimed
}

// Inherit is what a new process works for: whatever its parent does.
func Inherit(parent *event.Agent) *event.Agent { return inherited(parent) }

// IsAgent says whether a join marks the agent's own process, whose direct children are its tools.
func IsAgent(a *event.Agent) bool { return a != nil && a.Method == MethodExecutable }

func inherited(a *event.Agent) *event.Agent {
	if a == nil || a.Method == MethodInherited {
		return a
	}
	child := *a
	child.Method = MethodInherited
	return &child
}

func sameCall(a, b *event.Agent) bool {
	return a.CallID == b.CallID && (a.TraceID == b.TraceID && a.SpanID == b.SpanID || !b.HasTrace())
}

// fromEnvironment reads the ids of the first agent that marked the environment, nil when none did.
func (j *Joiner) fromEnvironment(env []event.EnvVar) *event.Agent {
	for i := range j.adapters {
		a := &j.adapters[i]
		if !slices.ContainsFunc(a.Marks, func(name string) bool { return lookup(env, name) != "" }) {
			continue
		}
		joined := &event.Agent{
			Name: a.Name, Method: MethodEnv, Confidence: ConfidenceExact,
			CallID: id(lookup(env, a.Call)), SessionID: id(lookup(env, a.Session)),
			ConversationID: id(lookup(env, a.Conversation)),
		}
		if a.Traceparent {
			joined.TraceID, joined.SpanID = parseTraceparent(lookup(env, traceparent))
		}
		return joined
	}
	return nil
}

// fromExecutable recognises the agent's own process, nil when it is none.
func (j *Joiner) fromExecutable(exec *event.ProcessExec) *event.Agent {
	names := []string{path.Base(exec.Executable), path.Base(exec.Filename)}
	if len(exec.Args) > 1 && isInterpreter(names[0]) {
		for _, arg := range exec.Args[1:] {
			if !strings.HasPrefix(arg, "-") {
				names = append(names, strings.TrimSuffix(path.Base(arg), ".js"))
				break
			}
		}
	}
	for _, a := range j.adapters {
		if slices.ContainsFunc(a.Executables, func(name string) bool { return slices.Contains(names, name) }) {
			return &event.Agent{Name: a.Name, Method: MethodExecutable, Confidence: ConfidenceStrong}
		}
	}
	return nil
}

func isInterpreter(name string) bool {
	return slices.Contains([]string{"node", "nodejs", "bun", "deno"}, name)
}

// lookup is the first value of a variable, as getenv reads it.
func lookup(env []event.EnvVar, name string) string {
	if name == "" {
		return ""
	}
	for _, v := range env {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

// id is s if it can be an id: short and of the characters that the agents' ids are made of, else "".
func id(s string) string {
	if len(s) > maxID {
		return ""
	}
	for _, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '-' && c != '_' && c != '.' && c != ':' && c != '#' {
			return ""
		}
	}
	return s
}

// parseTraceparent reads the header form of W3C Trace Context, version 00; all zero when it is not one.
func parseTraceparent(s string) (trace [16]byte, span [8]byte) {
	const version, traceEnd, spanEnd, size = "00-", 35, 52, 55
	if len(s) != size || s[:3] != version || s[traceEnd] != '-' || s[spanEnd] != '-' || s != strings.ToLower(s) {
		return trace, span
	}
	if _, err := hex.Decode(trace[:], []byte(s[3:traceEnd])); err != nil {
		return [16]byte{}, [8]byte{}
	}
	if _, err := hex.Decode(span[:], []byte(s[traceEnd+1:spanEnd])); err != nil {
		return [16]byte{}, [8]byte{}
	}
	if trace == [16]byte{} || span == [8]byte{} {
		return [16]byte{}, [8]byte{}
	}
	return trace, span
}
