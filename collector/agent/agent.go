// SPDX-License-Identifier: Apache-2.0

// Package agent knows the coding agents: by which executables and environment variables the kernel
// side recognises them, what those say of sessions and tool calls, and what the agents themselves say in
// their telemetry.
//
// It owns one adapter per agent, one file each, the rules by which a process is joined to a tool call from
// its environment, and the Translator, which turns OTLP into statements. It must not keep what a process
// inherits, which the process tree holds, nor believe what is said: sessions compare it to the facts.
package agent

import (
	"cmp"
	"encoding/hex"
	"errors"
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
	// MethodHook is a call that the agent announced before it started the process.
	MethodHook = "hook"
	// MethodCommand is the command line that the agent claims, and the process was given in the claimed time.
	MethodCommand = "command"
	// MethodGroup is the process group that the agent claims, which the process leads.
	MethodGroup = "group"
	// MethodCandidate is the only process, or the likeliest, of the claimed time where the claim has no command line.
	MethodCandidate = "candidate"
	// MethodProxy is the local end of a connection, which the agent's proxy saw as its client.
	MethodProxy = "proxy"
	// MethodPath is a file that the claim names and the agent's own process opened in the claimed time.
	MethodPath = "path"
	// MethodInterval is a shell that outlives its call, and another call that wrote to it.
	MethodInterval = "interval"
	// MethodShell is a shell that the agent starts for its tools alone, and of which it tells nothing.
	MethodShell = "shell"
	// MethodSession is the only session of the agent that started the process.
	MethodSession = "session"

	// ConfidenceExact is an id that only this call, or this session, has.
	ConfidenceExact = "exact"
	// ConfidenceStrong leaves no other candidate.
	ConfidenceStrong = "strong"
	// ConfidenceInferred is the likeliest of several, or a join that something contradicts.
	ConfidenceInferred = "inferred"
)

// maxID bounds an id from an environment, which is hostile input: longer ones are not ids.
const maxID = 128

// Adapter is what is known of one agent: of its processes, and of its telemetry.
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
	// PlainShell is true when the agent gives its tools' commands to a shell without anything around them. What
	// it starts for itself is then no shell's.
	PlainShell bool
	// ShellTools is the names of the tools that run commands.
	ShellTools []string
	// Confining is the sandboxes that the agent can say it applies, and by which it then confines each command: by
	// namespaces, a seccomp filter or no_new_privs. What an agent says without doing it is not among them.
	Confining []string
	// Traceparent is true when TRACEPARENT is the span of the tool call that runs the process, and not
	// just what the agent itself was started with.
	Traceparent bool

	// speaks says whether a record is this agent's, by what OTEL_SERVICE_NAME cannot change; hear turns it into
	// statements.
	speaks func(*record) bool
	hear   func(*hearing, *record) Verdict
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
// the contradiction lowers the confidence. To name no call is no contradiction: an agent that a call
// started works for that call, and so does a child whose environment was emptied.
func (j *Joiner) Join(before *event.Agent, exec *event.ProcessExec) *event.Agent {
	claimed := j.fromEnvironment(exec.Env)
	switch {
	case !inCall(before) && inCall(claimed):
		return claimed
	case !inCall(before):
		return j.withoutCall(before, claimed, exec)
	case contradicts(claimed, before):
		kept := *before
		kept.Method, kept.Confidence = MethodInherited, ConfidenceInferred
		return &kept
	case inCall(claimed):
		return completed(claimed, before)
	}
	return inherited(before)
}

func inCall(a *event.Agent) bool { return a != nil && (a.CallID != "" || a.HasTrace()) }

// contradicts says whether a claim names another call than the one that the process belongs to, or
// another session or conversation of the same agent.
func contradicts(claimed, before *event.Agent) bool {
	switch {
	case claimed == nil:
		return false
	case claimed.CallID != "" && claimed.CallID != before.CallID, claimed.HasTrace() && !sameSpan(claimed, before):
		return true
	case claimed.Name != before.Name:
		return false
	}
	return differ(claimed.SessionID, before.SessionID) || differ(claimed.ConversationID, before.ConversationID)
}

func sameSpan(a, b *event.Agent) bool { return a.TraceID == b.TraceID && a.SpanID == b.SpanID }

// differ says that both ids are known and not the same.
func differ(a, b string) bool { return a != "" && b != "" && a != b }

// completed adds to a claim of the same call what its environment no longer says.
func completed(claimed, before *event.Agent) *event.Agent {
	claimed.SessionID = cmp.Or(claimed.SessionID, before.SessionID)
	claimed.ConversationID = cmp.Or(claimed.ConversationID, before.ConversationID)
	return claimed
}

// withoutCall joins a process of no call whose environment names none either: an agent's own process, by
// what it runs, or a process of an agent without ids of calls. An agent that was started from another
// agent's environment is itself. claimed may be nil.
func (j *Joiner) withoutCall(before, claimed *event.Agent, exec *event.ProcessExec) *event.Agent {
	own := j.fromExecutable(exec)
	switch {
	case own == nil && claimed == nil:
		return inherited(before)
	case own == nil:
		return ofSession(before, claimed)
	case claimed == nil || own.Name != claimed.Name:
		return own
	}
	claimed.Method, claimed.Confidence = own.Method, own.Confidence
	return claimed
}

// ofSession adds to a claim what is known of the same session, as when a tool runs a program with a part of
// its environment.
func ofSession(before, claimed *event.Agent) *event.Agent {
	switch {
	case before == nil || before.Name != claimed.Name, contradicts(claimed, before):
		return claimed
	case claimed.SessionID == "" && claimed.ConversationID == "":
		return inherited(before)
	}
	return completed(claimed, before)
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

// fromEnvironment reads the ids of the first agent that marked the environment, nil when none did.
func (j *Joiner) fromEnvironment(env []event.EnvVar) *event.Agent {
	for i := range j.adapters {
		a := &j.adapters[i]
		if !slices.ContainsFunc(a.Marks, func(name string) bool { return lookup(env, name) != "" }) {
			continue
		}
		joined := &event.Agent{
			Name: a.Name, Method: MethodEnv, Confidence: ConfidenceStrong,
			CallID: id(lookup(env, a.Call)), SessionID: id(lookup(env, a.Session)),
			ConversationID: id(lookup(env, a.Conversation)),
		}
		if a.Traceparent {
			joined.TraceID, joined.SpanID = parseTraceparent(lookup(env, traceparent))
		}
		if inCall(joined) || joined.SessionID != "" || joined.ConversationID != "" {
			joined.Confidence = ConfidenceExact
		}
		return joined
	}
	return nil
}

// Recognise is the name of the agent whose own program an exec starts; "" for none.
func (j *Joiner) Recognise(exec *event.ProcessExec) string {
	for i := range j.adapters {
		if j.adapters[i].runs(exec) {
			return j.adapters[i].Name
		}
	}
	return ""
}

// fromExecutable recognises the agent's own process, nil when it is none.
func (j *Joiner) fromExecutable(exec *event.ProcessExec) *event.Agent {
	if name := j.Recognise(exec); name != "" {
		return &event.Agent{Name: name, Method: MethodExecutable, Confidence: ConfidenceStrong}
	}
	return nil
}

// runs says whether an exec started the agent's own program. The command's own name must agree, where it
// is known: agents run themselves under other names, Claude Code as rg and Codex as codex-linux-sandbox,
// and are tools then.
func (a *Adapter) runs(exec *event.ProcessExec) bool {
	named := func(file string) bool { return slices.Contains(a.Executables, path.Base(file)) }
	if slices.Contains([]string{"node", "nodejs", "bun", "deno"}, path.Base(exec.Executable)) {
		return named(script(exec.Args))
	}
	return (named(exec.Executable) || named(exec.Filename)) && (len(exec.Args) == 0 || named(exec.Args[0]))
}

// script is the script that an interpreter's arguments name, without its suffix; "" when they name none.
func script(args []string) string {
	for _, arg := range args[min(1, len(args)):] {
		if !strings.HasPrefix(arg, "-") {
			return strings.TrimSuffix(arg, ".js")
		}
	}
	return ""
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
	return strings.Clone(s) // not to keep the whole environment
}

// parseTraceparent reads the header form of W3C Trace Context, version 00; all zero when it is not one.
func parseTraceparent(s string) (trace [16]byte, span [8]byte) {
	const version, traceEnd, spanEnd, size = "00-", 35, 52, 55
	if len(s) != size || s[:3] != version || s[traceEnd] != '-' || s[spanEnd] != '-' || s != strings.ToLower(s) {
		return trace, span
	}
	var flags [1]byte
	_, traceErr := hex.Decode(trace[:], []byte(s[len(version):traceEnd]))
	_, spanErr := hex.Decode(span[:], []byte(s[traceEnd+1:spanEnd]))
	_, flagsErr := hex.Decode(flags[:], []byte(s[spanEnd+1:]))
	if errors.Join(traceErr, spanErr, flagsErr) != nil || trace == [16]byte{} || span == [8]byte{} {
		return [16]byte{}, [8]byte{}
	}
	return trace, span
}
