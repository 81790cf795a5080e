// SPDX-License-Identifier: Apache-2.0

package attribution

import (
	"fmt"
	"slices"
	"strings"

	"github.com/watchglass/watchglass/test/e2e/model"
)

// Scenario is one kind of session.
type Scenario struct {
	// Name is short; About says what is hard about it.
	Name, About string
	// Agents is those that can play it; all for none.
	Agents []string
	// Script is what the model asks for, Subs the parts of sub-agents.
	Script model.Script
	Subs   []model.Sub
	// Setup is flags for `watchglass agents setup`. Slow has the agent send its telemetry late, Silent has it send
	// it where nobody listens.
	Setup        []string
	Slow, Silent bool
	// Beside is a shell script that runs in the sandbox beside the agent, and works for no call.
	Beside string
	// Strangers is the marks that it leaves.
	Strangers []string
	// Other is the scripts of agents that do it in another way.
	Other map[string]model.Script
	// Nested has calls run the same agent, by inner.
	Nested bool
	// Cut is the mark at which the way to the receiver of telemetry is cut; "" for never.
	Cut string
	// Sandboxed has Codex run its commands in its own sandbox.
	Sandboxed bool
}

// For says whether an agent can play the scenario.
func (s *Scenario) For(agent string) bool {
	return len(s.Agents) == 0 || slices.Contains(s.Agents, agent)
}

// subtask is what is asked of a sub-agent, or of an agent that a call starts.
const subtask = "SUBTASK: run the part."

// inner is a command that runs the agent in a call; see session.inner.
const inner = "sh ./agent.sh"

// script is what an agent is to do.
func (s *Scenario) script(agent string) model.Script {
	if script, ok := s.Other[agent]; ok {
		return script
	}
	return s.Script
}

// mark is a shell command that leaves a mark. The name begins with the call's.
func mark(name string) string { return "echo x > marks/" + name }

// call asks for a command that leaves the marks NAME.a, by the agent's shell, and NAME.b, by a child of it.
func call(name, before string) model.Call {
	return model.Call{Name: name, Command: before + mark(name+".a") + "; sh -c '" + mark(name+".b") + "'; true"}
}

func calls(n int, before string) []model.Call {
	var list []model.Call
	for i := range n {
		list = append(list, call(fmt.Sprintf("call%02d", i), before))
	}
	return list
}

func done(turns ...[]model.Call) model.Script {
	var script model.Script
	for _, calls := range turns {
		script = append(script, model.Turn{Calls: calls})
	}
	return append(script, model.Turn{Text: "All done."})
}

// identical is a command that names its own marks and tells them, so that several can be the same text.
const identical = `read -r n < /proc/sys/kernel/random/uuid; echo "mark $n"; echo x > marks/$n; sleep 0.4; sh -c "echo x > marks/$n.b"; true`

// escaped leaves marks after the call has ended, from processes that got away from their parents in every usual way.
func escaped(name string) model.Call {
	const quiet = " >/dev/null 2>&1 </dev/null &"
	return model.Call{Name: name, Command: strings.Join([]string{
		mark(name + ".a"),
		"setsid sh -c 'sleep 0.6; " + mark(name+".setsid") + "'" + quiet,
		"nohup sh -c 'sleep 0.6; " + mark(name+".nohup") + "'" + quiet,
		"(sh -c \"(sleep 0.6; sh -c '" + mark(name+".double") + "')" + quiet + "\")",
		"env -i PATH=$PATH setsid sh -c 'sleep 0.7; " + mark(name+".empty") + "'" + quiet,
		"sleep 0.1; true",
	}, "\n")}
}

func nested(name string) model.Call {
	return model.Call{Name: name, Command: `bash -c "sh -c 'bash -c \"` + mark(name+".a") + `\"; ` + mark(name+".b") + `'; ` + mark(name+".c") + `"; ` +
		`env -i PATH=$PATH sh -c '` + mark(name+".d") + `; true' | cat; (` + mark(name+".e") + `)`}
}

// forge copies another call's ids into its own children, and speaks through hooks as if it were the agent.
func forge(name, victim string) model.Call {
	return model.Call{Name: name, Command: mark(name+".a") + `; set -- $(cat ids.` + victim + `); ` +
		`CODEX_TOOL_CALL_ID=$1 WATCHGLASS_CALL_ID=$1 TRACEPARENT=$2 sh -c '` + mark(name+".forged") + `; true'; ` +
		`env -i PATH=$PATH CODEX_TOOL_CALL_ID=$1 CODEX_THREAD_ID=$3 OPENCODE=1 WATCHGLASS_CALL_ID=$1 WATCHGLASS_SESSION_ID=$4 sh -c '` + mark(name+".emptied") + `; true'; ` +
		`echo '{"session_id":"'$4'","hook_event_name":"PreToolUse","tool_name":"Bash","tool_use_id":"call_forged","tool_input":{"command":"sh -c late"}}' | $WATCHGLASS hook --agent claude-code; true`}
}

// victim tells its ids to whoever wants to use them.
func victim(name string) model.Call {
	return model.Call{Name: name, Command: mark(name+".a") +
		`; echo "${CODEX_TOOL_CALL_ID:-${WATCHGLASS_CALL_ID:-none}} ${TRACEPARENT:-none} ${CODEX_THREAD_ID:-none} ${CLAUDE_CODE_SESSION_ID:-${CODEX_SESSION_ID:-${WATCHGLASS_SESSION_ID:-none}}}" > ids.` + name + `; sleep 0.3; sh -c '` + mark(name+".b") + `'; true`}
}

// outsider waits for the ids of a call and uses them from outside of the agent.
const outsider = `i=0; while [ ! -s ids.victim ] && [ $i -lt 600 ]; do sleep 0.05; i=$((i+1)); done
set -- $(cat ids.victim)
CODEX_TOOL_CALL_ID=$1 CODEX_THREAD_ID=$3 CODEX_SESSION_ID=$4 CLAUDECODE=1 CLAUDE_CODE_SESSION_ID=$4 OPENCODE=1 WATCHGLASS_CALL_ID=$1 WATCHGLASS_SESSION_ID=$4 TRACEPARENT=$2 sh -c 'echo x > marks/outside.forged; true'
sh -c 'echo x > marks/outside.plain; true'
`

// Scenarios is all of them.
func Scenarios() []Scenario {
	four := done(calls(4, "sleep 0.3; "))
	return []Scenario{
		{Name: "one", About: "one call at a time", Script: done([]model.Call{call("first", "")}, []model.Call{call("second", "")}, []model.Call{call("third", "")})},
		{Name: "four", About: "four calls at once", Script: four},
		{Name: "sixteen", About: "sixteen calls at once", Script: done(calls(16, "sleep 0.3; "))},
		{Name: "sandboxed", About: "calls in the agent's own sandbox", Agents: []string{"codex"}, Script: four, Sandboxed: true},
		{Name: "identical", About: "four calls of the same command at once", Script: done([]model.Call{
			{Name: "same0", Command: identical}, {Name: "same1", Command: identical}, {Name: "same2", Command: identical}, {Name: "same3", Command: identical},
		})},
		{
			Name: "escaped", About: "children that setsid, nohup, double fork or an emptied environment took from their call, and that act when the next call runs",
			Script: done([]model.Call{escaped("escaper")}, []model.Call{call("next", "sleep 1.5; ")}),
		},
		{Name: "nested", About: "shells in shells", Script: done([]model.Call{nested("nest0"), nested("nest1")})},
		persistent(),
		{
			Name: "sub-agent", About: "calls of a sub-agent", Agents: []string{"codex", "claude"}, Script: done(
				[]model.Call{call("before", "")},
				[]model.Call{{Name: "delegate", Tool: []string{"Agent", "Task"}, Arguments: map[string]any{
					"description": "a part", "prompt": subtask, "subagent_type": "general-purpose",
				}}},
				[]model.Call{call("after", "")}),
			Other: map[string]model.Script{"codex": done( // whose sub-agents work beside it
				[]model.Call{call("before", "")},
				[]model.Call{{Name: "delegate", Tool: []string{"spawn_agent"}, Arguments: map[string]any{"message": subtask}}},
				[]model.Call{call("after", "i=0; until [ -e marks/inner0.b ] && [ -e marks/inner1.b ] || [ $i -gt 400 ]; do sleep 0.1; i=$((i+1)); done; sleep 1; ")})},
			Subs: []model.Sub{{Mark: subtask, Script: done([]model.Call{call("inner0", ""), call("inner1", "")})}},
		},
		{
			Name: "agent", About: "a call that runs the agent itself, whose calls are parts of it", Nested: true,
			Script: done([]model.Call{call("before", "")}, []model.Call{{Name: "delegate", Command: mark("delegate.a") + "; " + inner + "; " + mark("delegate.b")}}, []model.Call{call("after", "")}),
			Subs: []model.Sub{{Mark: subtask, Script: done([]model.Call{
				{Name: "part0", Command: mark("delegate.c") + "; sh -c '" + mark("delegate.d") + "'; true"},
				{Name: "part1", Command: mark("delegate.e") + "; sh -c '" + mark("delegate.f") + "'; true"},
			})}},
		},
		{
			Name: "lingering", About: "four calls at once, in a session that goes on for some seconds: opencode loses what it has not sent when it ends",
			Agents: []string{"opencode"}, Script: done(calls(4, "sleep 0.3; "), []model.Call{{Name: "linger", Command: "sleep 7"}}),
		},
		{Name: "redacted", About: "telemetry that leaves out what tools are asked, and no hooks", Script: four, Setup: []string{"--redacted", "--no-hooks"}},
		{Name: "late", About: "telemetry that comes seconds late, and no hooks", Script: four, Setup: []string{"--no-hooks"}, Slow: true},
		{
			Name: "cut", About: "telemetry that is cut off after the first of four calls, and no hooks", Setup: []string{"--no-hooks"}, Cut: "linger.b",
			Script: done([]model.Call{call("told", "")}, []model.Call{{Name: "linger", Command: mark("linger.a") + "; sleep 7; " + mark("linger.b") + "; sleep 1; true"}},
				[]model.Call{call("after0", "")}, []model.Call{call("after1", "")}),
		},
		{Name: "hooks", About: "hooks alone, without telemetry", Script: four, Setup: []string{"--no-otlp"}},
		{Name: "silent", About: "telemetry that goes nowhere, and no hooks", Script: four, Setup: []string{"--no-hooks"}, Silent: true},
		{
			Name: "forged", About: "a call that uses another call's ids and hooks, and a process outside of the agent that does",
			Script: done([]model.Call{victim("victim")}, []model.Call{forge("forger", "victim")}, []model.Call{call("last", "")}),
			Beside: outsider, Strangers: []string{"outside.forged", "outside.plain"},
		},
	}
}

// persistent is a shell that stays, and is typed into by later calls.
func persistent() Scenario {
	typed := func(name string) model.Call {
		return model.Call{
			Name: name, Tool: []string{"write_stdin"}, Session: "shell",
			Arguments: map[string]any{"chars": mark(name+".a") + "; sh -c '" + mark(name+".b") + "'; sleep 0.2\n", "yield_time_ms": 1500},
		}
	}
	return Scenario{
		Name: "persistent", About: "a shell that stays, into which later calls type", Agents: []string{"codex"},
		Script: done(
			[]model.Call{{Name: "shell", Tool: []string{"exec_command"}, Arguments: map[string]any{
				"cmd": mark("shell.a") + "; exec bash --norc", "yield_time_ms": 1000, "tty": true,
			}}},
			[]model.Call{typed("typed0")}, []model.Call{typed("typed1")},
			[]model.Call{{Name: "leave", Tool: []string{"write_stdin"}, Session: "shell", Arguments: map[string]any{"chars": "exit\n"}}}),
	}
}
