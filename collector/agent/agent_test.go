// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/watchglass/watchglass/event"
)

const (
	call       = "CODEX_TOOL_CALL_ID=call_s0c0xkrg"
	otherCall  = "CODEX_TOOL_CALL_ID=call_s3c0xkgf"
	thread     = "CODEX_THREAD_ID=01a207c8-89be-70d1-9bb6-5cce789550a2"
	session    = "CODEX_SESSION_ID=01a207c8-89be-70d1-9bb6-5cce789550a2"
	otherTh    = "CODEX_THREAD_ID=01a207ca-4b27-77c3-b6cf-70098b7b86b9"
	claudeSess = "CLAUDE_CODE_SESSION_ID=fa48d6c6-289d-4942-a1e9-1a7cf63809ec"
	claudeSpan = "TRACEPARENT=00-0123456789abcdef0123456789abcdef-4db3e1a64544db48-01"
	otherSpan  = "TRACEPARENT=00-0123456789abcdef0123456789abcdef-00f067aa0ba902b7-01"
)

// step is one exec: of a child of the process of the step before, or of that process again.
type step struct {
	again bool
	exec  string // executable, then arguments
	as    string // what exec was asked for, "" when that is the executable
	env   []string
	// want is "agent method confidence" and then ids as call=, session=, conversation=, span=.
	want string
}

// The environments, arguments and executables are those of real sessions (see each adapter's versions).
func TestJoin(t *testing.T) {
	codexNode := step{exec: "/usr/bin/node node /usr/lib/node_modules/.bin/codex exec", as: "/usr/lib/node_modules/.bin/codex", want: "codex executable strong"}
	codexNative := step{exec: "/usr/lib/node_modules/@openai/codex/bin/codex /usr/lib/node_modules/@openai/codex/bin/codex exec", want: "codex executable strong"}
	inCall := step{exec: "/bin/bash bash -c ls", env: []string{"CODEX_THREAD_ID=t1", call}, want: "codex env exact call=call_s0c0xkrg conversation=t1"}
	tests := map[string][]step{
		"codex with full access": {
			{exec: "/usr/bin/env /usr/bin/env node /usr/bin/codex", as: "/usr/bin/codex", want: ""},
			{again: true, exec: "/usr/bin/node node /usr/bin/codex exec", want: "codex executable strong"},
			codexNative,
			{exec: "/bin/bash /bin/bash -c ls", env: []string{session, thread, call}, want: "codex env exact call=call_s0c0xkrg session=01a207c8-89be-70d1-9bb6-5cce789550a2 conversation=01a207c8-89be-70d1-9bb6-5cce789550a2"},
			{exec: "/bin/ls ls", env: []string{session, thread, call}, want: "codex env exact call=call_s0c0xkrg session=01a207c8-89be-70d1-9bb6-5cce789550a2 conversation=01a207c8-89be-70d1-9bb6-5cce789550a2"},
		},
		"codex with its sandbox": {
			codexNode, codexNative,
			{exec: "/opt/codex/bin/codex /proc/self/exe --codex-run-as-process-setup 60", as: "/proc/self/exe", env: []string{call, thread}, want: "codex env exact call=call_s0c0xkrg conversation=01a207c8-89be-70d1-9bb6-5cce789550a2"},
			{again: true, exec: "/opt/codex/bin/codex codex-linux-sandbox --sandbox-policy-cwd /", as: "/tmp/codex-linux-sandbox", env: []string{call, thread}, want: "codex env exact call=call_s0c0xkrg conversation=01a207c8-89be-70d1-9bb6-5cce789550a2"},
			{exec: "/usr/bin/bwrap bwrap --as-pid-1 true", want: "codex inherited exact call=call_s0c0xkrg conversation=01a207c8-89be-70d1-9bb6-5cce789550a2"},
		},
		"codex's own helpers are no tools": {
			codexNode, codexNative,
			{exec: "/usr/bin/git git ls-remote", want: "codex inherited strong"},
			{exec: "/usr/lib/git-core/git-remote-https git-remote-https", want: "codex inherited strong"},
		},
		"codex under another name is no agent": {
			codexNative,
			{exec: "/opt/codex/bin/codex codex-linux-sandbox /bin/true", as: "/tmp/arg0/codex-linux-sandbox", want: "codex inherited strong"},
		},
		"an emptied environment inherits": {
			inCall,
			{exec: "/usr/bin/env env -i sh -c id", want: "codex inherited exact call=call_s0c0xkrg conversation=t1"},
			{exec: "/bin/sh sh -c id", env: []string{"CODEX_THREAD_ID=t1"}, want: "codex inherited exact call=call_s0c0xkrg conversation=t1"},
		},
		"the call id alone inherits the rest": {
			inCall,
			{exec: "/bin/sh sh", env: []string{call}, want: "codex env exact call=call_s0c0xkrg conversation=t1"},
		},
		"a copied call id steals nothing": {
			inCall,
			{exec: "/bin/sh sh -c evil", env: []string{otherCall, "CODEX_THREAD_ID=t1"}, want: "codex inherited inferred call=call_s0c0xkrg conversation=t1"},
			{exec: "/bin/cat cat", want: "codex inherited inferred call=call_s0c0xkrg conversation=t1"},
		},
		"nor does an exec of the same process": {
			inCall,
			{again: true, exec: "/bin/sh sh -c evil", env: []string{otherCall}, want: "codex inherited inferred call=call_s0c0xkrg conversation=t1"},
		},
		"nor another conversation": {
			inCall,
			{exec: "/bin/sh sh", env: []string{otherTh}, want: "codex inherited inferred call=call_s0c0xkrg conversation=t1"},
		},
		"nor another agent's call": {
			inCall,
			{exec: "/bin/sh sh", env: []string{"CLAUDECODE=1", claudeSess, claudeSpan}, want: "codex inherited inferred call=call_s0c0xkrg conversation=t1"},
		},
		"the first of two values counts, as getenv reads it": {
			{exec: "/bin/sh sh", env: []string{call, otherCall}, want: "codex env exact call=call_s0c0xkrg"},
		},
		"an agent in another's call works for the call": {
			inCall,
			{exec: "/root/.local/share/claude/versions/2.1.197 claude -p x", as: "/root/.local/bin/claude", want: "codex inherited exact call=call_s0c0xkrg conversation=t1"},
			{exec: "/bin/bash bash -c ls", env: []string{"CLAUDECODE=1", claudeSess}, want: "codex inherited exact call=call_s0c0xkrg conversation=t1"},
		},
		"claude without spans": {
			{exec: "/usr/lib/node_modules/@anthropic-ai/claude-code/bin/claude.exe /usr/lib/node_modules/.bin/claude -p x", as: "/usr/lib/node_modules/.bin/claude", want: "claude-code executable strong"},
			{exec: "/bin/bash /bin/bash -c ls", env: []string{"CLAUDECODE=1", claudeSess}, want: "claude-code env exact session=fa48d6c6-289d-4942-a1e9-1a7cf63809ec"},
			{exec: "/bin/ls ls", want: "claude-code inherited exact session=fa48d6c6-289d-4942-a1e9-1a7cf63809ec"},
			{exec: "/bin/sh sh", env: []string{"CLAUDECODE=1"}, want: "claude-code inherited exact session=fa48d6c6-289d-4942-a1e9-1a7cf63809ec"},
			{exec: "/bin/sh sh", env: []string{"CLAUDECODE=1", "CLAUDE_CODE_SESSION_ID=other"}, want: "claude-code env exact session=other"},
		},
		"claude as rg is a tool": {
			{exec: "/usr/bin/claude.exe claude", want: "claude-code executable strong"},
			{exec: "/usr/bin/claude.exe rg --version", want: "claude-code inherited strong"},
		},
		"claude installed by version": {
			{exec: "/root/.local/share/claude/versions/2.1.197 claude -p x", as: "/root/.local/bin/claude", want: "claude-code executable strong"},
		},
		"claude with spans": {
			{exec: "/usr/bin/claude claude", env: []string{otherSpan}, want: "claude-code executable strong"},
			{exec: "/bin/bash bash -c ls", env: []string{claudeSess, "CLAUDECODE=1", claudeSpan}, want: "claude-code env exact session=fa48d6c6-289d-4942-a1e9-1a7cf63809ec span=4db3e1a64544db48"},
			{exec: "/bin/sh sh", env: []string{claudeSess, "CLAUDECODE=1", otherSpan}, want: "claude-code inherited inferred session=fa48d6c6-289d-4942-a1e9-1a7cf63809ec span=4db3e1a64544db48"},
		},
		"gemini": {
			{exec: "/usr/bin/node node /usr/lib/node_modules/.bin/gemini -p x", want: "gemini-cli executable strong"},
			{exec: "/usr/bin/node /usr/bin/node --max-old-space-size=12052 /usr/lib/node_modules/@google/gemini-cli/bundle/gemini.js -p x", want: "gemini-cli executable strong"},
			{exec: "/usr/bin/bash bash -c ls", env: []string{"GEMINI_CLI=1", "TRACEPARENT=00-0123456789abcdef0123456789abcdef-00f067aa0ba902b7-01"}, want: "gemini-cli inherited strong"},
			{exec: "/bin/sh sh hook", env: []string{"GEMINI_CLI=1", "GEMINI_SESSION_ID=s1"}, want: "gemini-cli env exact session=s1"},
		},
		"opencode, as npm has it": {
			{exec: "/usr/lib/node_modules/opencode-ai/bin/opencode.exe /usr/lib/node_modules/.bin/opencode run x", want: "opencode executable strong"},
		},
		"opencode": {
			{exec: "/usr/lib/opencode /usr/lib/node_modules/.bin/opencode run x", as: "/usr/lib/node_modules/.bin/opencode", env: []string{"OPENCODE=1"}, want: "opencode executable strong"},
			{exec: "/bin/bash bash -c ls", env: []string{"OPENCODE=1"}, want: "opencode inherited strong"},
		},
		"opencode with its plugin": {
			{exec: "/usr/lib/opencode /usr/lib/node_modules/.bin/opencode run x", as: "/usr/lib/node_modules/.bin/opencode", env: []string{"OPENCODE=1"}, want: "opencode executable strong"},
			{exec: "/bin/bash bash -c ls", env: []string{"OPENCODE=1", "WATCHGLASS_CALL_ID=call_1", "WATCHGLASS_SESSION_ID=ses_1"}, want: "opencode env exact call=call_1 session=ses_1"},
			{exec: "/bin/sh sh -c ls", env: []string{"OPENCODE=1", "WATCHGLASS_CALL_ID=call_2", "WATCHGLASS_SESSION_ID=ses_1"}, want: "opencode inherited inferred call=call_1 session=ses_1"},
		},
		"opencode's variables without its mark": {
			{exec: "/bin/sh sh -c ls", env: []string{"WATCHGLASS_CALL_ID=call_1"}, want: ""},
		},
		"a mark alone": {
			{exec: "/bin/bash bash", env: []string{"GEMINI_CLI=1"}, want: "gemini-cli env strong"},
			{exec: "/bin/bash bash", env: []string{"OPENCODE=1"}, want: "opencode env strong"},
		},
		"an agent started from another's tool environment is itself": {
			{exec: "/usr/bin/claude claude", env: []string{"OPENCODE=1"}, want: "claude-code executable strong"},
		},
		"no agent": {
			{exec: "/bin/bash bash", env: []string{claudeSpan}, want: ""},
			{exec: "/usr/bin/node node server.js", want: ""},
		},
		"what is no id is none": {
			{exec: "/bin/sh sh", env: []string{"CODEX_THREAD_ID=t1", "CODEX_TOOL_CALL_ID=" + strings.Repeat("a", 129)}, want: "codex env exact conversation=t1"},
			{exec: "/bin/sh sh", env: []string{"CODEX_TOOL_CALL_ID="}, want: "codex inherited exact conversation=t1"},
		},
		"nor are control characters": {
			{exec: "/bin/sh sh", env: []string{"CODEX_THREAD_ID=\x1b]0;x\a", "CODEX_SESSION_ID=a\nb", "CODEX_TOOL_CALL_ID=a b"}, want: "codex env strong"},
		},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) { runSteps(t, steps) })
	}
}

func runSteps(t *testing.T, steps []step) {
	t.Helper()
	var own *event.Agent
	for i, s := range steps {
		before := own
		if !s.again {
			before = Inherit(own)
		}
		words := strings.Fields(s.exec)
		exec := &event.ProcessExec{Executable: words[0], Filename: words[0], Args: words[1:]}
		if s.as != "" {
			exec.Filename = s.as
		}
		for _, v := range s.env {
			name, value, _ := strings.Cut(v, "=")
			exec.Env = append(exec.Env, event.EnvVar{Name: name, Value: value})
		}
		own = NewJoiner().Join(before, exec)
		if got := show(own); got != s.want {
			t.Fatalf("step %d, %s:\n got %q\nwant %q", i, s.exec, got, s.want)
		}
	}
}

func show(a *event.Agent) string {
	if a == nil {
		return ""
	}
	words := []string{a.Name, a.Method, a.Confidence}
	for _, id := range [][2]string{{"call", a.CallID}, {"session", a.SessionID}, {"conversation", a.ConversationID}} {
		if id[1] != "" {
			words = append(words, id[0]+"="+id[1])
		}
	}
	if a.HasTrace() {
		words = append(words, "span="+a.SpanIDHex())
	}
	return strings.Join(words, " ")
}

func TestJoinChangesNothingItWasGiven(t *testing.T) {
	before := &event.Agent{Name: "codex", CallID: "c1", ConversationID: "t1", Method: MethodEnv, Confidence: ConfidenceExact}
	kept := *before
	for _, env := range [][]event.EnvVar{
		nil, {{Name: "CODEX_TOOL_CALL_ID", Value: "c1"}}, {{Name: "CODEX_TOOL_CALL_ID", Value: "c2"}}, {{Name: "GEMINI_CLI", Value: "1"}},
	} {
		NewJoiner().Join(before, &event.ProcessExec{Executable: "/bin/sh", Env: env})
	}
	if diff := cmp.Diff(kept, *before); diff != "" {
		t.Error(diff)
	}
}

func TestEnvironment(t *testing.T) {
	want := []string{
		"CLAUDECODE", "CLAUDE_CODE_SESSION_ID", "CODEX_SESSION_ID", "CODEX_THREAD_ID", "CODEX_TOOL_CALL_ID",
		"GEMINI_CLI", "GEMINI_SESSION_ID", "OPENCODE", "TRACEPARENT", "WATCHGLASS_CALL_ID",
		"WATCHGLASS_SESSION_ID",
	}
	if diff := cmp.Diff(want, Environment()); diff != "" {
		t.Error(diff)
	}
}

func TestTraceparent(t *testing.T) {
	const good = "00-0123456789abcdef0123456789abcdef-00f067aa0ba902b7-01"
	trace, span := parseTraceparent(good)
	if a := (&event.Agent{TraceID: trace, SpanID: span}); a.TraceIDHex() != good[3:35] || a.SpanIDHex() != good[36:52] {
		t.Errorf("%s read as %s, %s", good, a.TraceIDHex(), a.SpanIDHex())
	}
	for _, bad := range []string{
		"", "00", good + "-00", good[:54], strings.ToUpper(good), "01" + good[2:], "ff" + good[2:],
		strings.Replace(good, "0123456789abcdef0123456789abcdef", strings.Repeat("0", 32), 1),
		strings.Replace(good, "00f067aa0ba902b7", strings.Repeat("0", 16), 1),
		strings.Replace(good, "-00f", "_00f", 1), strings.Replace(good, "abc", "xyz", 1),
		good[:53] + "0g",
	} {
		if trace, span := parseTraceparent(bad); trace != [16]byte{} || span != [8]byte{} {
			t.Errorf("%q was taken for a span", bad)
		}
	}
}

// FuzzJoin feeds environments of any bytes: whatever is kept must be short and printable.
func FuzzJoin(f *testing.F) {
	f.Add("CODEX_TOOL_CALL_ID", "call_1", "TRACEPARENT", "00-0123456789abcdef0123456789abcdef-00f067aa0ba902b7-01", "/usr/bin/codex")
	f.Add("CLAUDECODE", "\x00\xff", "CLAUDE_CODE_SESSION_ID", strings.Repeat("x", 4096), "")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2, executable string) {
		env := []event.EnvVar{{Name: name1, Value: value1}, {Name: name2, Value: value2}}
		before := &event.Agent{Name: "codex", CallID: "c1", Method: MethodEnv, Confidence: ConfidenceExact}
		for _, b := range []*event.Agent{nil, before} {
			a := NewJoiner().Join(b, &event.ProcessExec{Executable: executable, Filename: value1, Args: []string{value2}, Env: env})
			if b != nil && (a == nil || a.CallID != "c1") {
				t.Fatalf("left its call: %s", show(a))
			}
			if a == nil {
				continue
			}
			for _, id := range []string{a.CallID, a.SessionID, a.ConversationID} {
				if len(id) > maxID || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
					t.Fatalf("kept %q", id)
				}
			}
		}
	})
}

func TestAdaptersAreTold(t *testing.T) {
	var names []string
	for _, a := range Adapters() {
		if a.Name == "" || len(a.Executables) == 0 || len(a.Marks) == 0 {
			t.Errorf("incomplete adapter: %+v", a)
		}
		names = append(names, a.Name)
	}
	if !slices.Contains(names, "codex") || len(slices.Compact(slices.Sorted(slices.Values(names)))) != len(names) {
		t.Errorf("adapters: %v", names)
	}
}
