// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/watchglass/watchglass/detectors"
	"github.com/watchglass/watchglass/event"
)

// day is sessions of agents in one sandbox that lives long. Each does what all detectors remember something of, and other
// things than those before it.
type day struct{ *flood }

// session is the n-th session, from its first process to its last words.
func (d *day) session(n int) {
	name := "session-" + strconv.Itoa(n)
	agent := &event.Process{
		UID: event.ProcessID(1000 * (n + 1)), RootUID: event.ProcessID(1000 * (n + 1)), PID: uint32(n), Name: "codex", Executable: "/opt/codex",
		Agent: &event.Agent{Name: "codex", SessionID: name, Method: "executable"},
	}
	said := event.Claim{Agent: "codex", Session: name, Sender: event.SenderOwner}
	show := func(p *event.Process, payload event.Payload) {
		d.now = d.now.Add(time.Second)
		d.n++
		d.rules.show(&event.Event{Time: d.now, Instance: "t", Seq: uint64(d.n), Sandbox: d.sandbox, Process: p, Payload: payload}, func(*event.Finding) {})
	}
	at := n * 1000
	server := &event.Process{
		UID: agent.UID + 50, RootUID: agent.UID + 50, PID: uint32(at + 50), Name: "node", Executable: "/usr/bin/node", Parent: agent,
		Args: []string{"node", "/opt/mcp-" + name}, Agent: &event.Agent{Name: "codex", SessionID: name, Method: "inherited"},
	}
	work := func() {
		for i, kind := range []string{"secrets", "written", "removed", "programs", "domains", "peers", "flows", "claims", "calls"} {
			p := &event.Process{
				UID: agent.UID + event.ProcessID(i+1), RootUID: agent.UID + event.ProcessID(i+1), PID: uint32(at + i), Name: "bash",
				Executable: "/tmp/" + kind + strconv.Itoa(n), Parent: agent, Args: []string{kind},
				Agent: &event.Agent{Name: "codex", SessionID: name, CallID: "call", Method: "inherited"},
			}
			payload := floods()[kind](at + i)
			if call, ok := payload.(*event.ToolCall); ok {
				call.Claim = said
			}
			for range 12 { // a beacon, a loop, a burst
				show(p, payload)
			}
			show(p, &event.ProcessExit{Duration: time.Hour, Usage: &event.Usage{User: time.Hour}})
		}
		for i := range 300 {
			show(agent, &event.FileChange{Operation: event.FileUnlink, Path: fmt.Sprint("/srv/", n, "/", i)})
		}
		show(server, &event.ProcessExec{Args: server.Args, Executable: server.Executable})
		show(server, floods()["peers"](at+60))
		show(agent, floods()["peers"](at+61))
		show(agent, &event.ToolCall{Claim: said, Phase: event.PhaseEnd, Name: "x", MCPServer: name})
		show(server, &event.FileOpen{Path: "/" + name + "/.mcp.json", Class: event.FileClassConfig, Access: event.AccessWrite})
		show(server, &event.FileOpen{Path: "/" + name + "/.env", Class: event.FileClassSecret, Access: event.AccessWrite, Created: true, Inode: uint64(at + 90)})
		show(server, &event.DNSQuery{Name: "trap.example.net"})
	}
	show(agent, &event.ProcessExec{Args: []string{"codex"}, Executable: agent.Executable, WorkingDirectory: "/home/dev"})
	work()
	show(agent, &event.SessionEnd{Claim: said})
	work() // what it left behind goes on
}

// teach has sessions of the agent in the folder end without a finding, in sandboxes that are gone then.
func (x *everything) teach() {
	now := time.Unix(1_700_000_000, 0)
	for i := range 5 {
		sandbox := &event.Sandbox{ID: "teacher-" + strconv.Itoa(i)}
		agent := &event.Process{
			UID: 1, RootUID: 1, PID: 1, Name: "codex", Executable: "/opt/codex",
			Agent: &event.Agent{Name: "codex", SessionID: "t", Method: "executable"},
		}
		for _, payload := range []event.Payload{
			&event.ProcessExec{Args: []string{"codex"}, Executable: agent.Executable, WorkingDirectory: "/home/dev"},
			&event.SessionEnd{Claim: event.Claim{Agent: "codex", Session: "t"}},
		} {
			now = now.Add(time.Hour)
			x.show(&event.Event{Time: now, Instance: "t", Sandbox: sandbox, Process: agent, Payload: payload}, func(*event.Finding) {})
		}
		for _, d := range append(x.all, detectors.Detector(x.engine)) {
			d.Forget(sandbox.ID)
		}
	}
}

// TestNothingIsKeptOfWhatIsOver: sessions come and go in one sandbox that lives long. What every detector and every rule
// remembers is then back to what its declaration says outlives a session, and nothing had to be forgotten for lack of room.
func TestNothingIsKeptOfWhatIsOver(t *testing.T) {
	const sessions = 40
	x := newEverything(t, Limits{MaxSandboxes: 2, MaxEntries: 1 << 12})
	d := &day{flood: &flood{sandbox: &event.Sandbox{ID: "long"}, rules: x, now: time.Unix(1_800_000_000, 0)}}
	x.teach()
	for n := range sessions {
		d.session(n)
	}
	full := x.stats()
	for n := range sessions {
		for _, detector := range append(x.all, detectors.Detector(x.engine)) {
			detector.EndSession("long", "session-"+strconv.Itoa(n))
			for root := range 100 {
				detector.EndTree("long", event.ProcessID(1000*(n+1)+root))
			}
		}
	}
	// What each has besides, of all sessions, so that there is something to go.
	most := map[string]int{"weak-sandbox": 0, "resource-hijack": 1}
	for id := range full {
		if _, known := most[id]; !known {
			most[id] = sessions
		}
	}
	x.engine.Tick(d.now.Add(24*time.Hour), func(*event.Event, *event.Finding) {})
	outlives := map[string]int{
		"secret-read":      2 * sessions,       // the secrets that they wrote, and those that they opened
		"unbacked-exec":    sessions + 1,       // the files that they wrote, and that node is what it says
		"mass-destruction": 2 * sessions,       // the names that they made
		"resource-hijack":  1 + 1,              // what bash usually needs, and how busy the sandbox is
		"mcp-drift":        2*sessions + 1 + 1, // servers' names, destinations of agents, the last list, the last use
		"first-seen":       1,                  // what is usual to the agent
		"burst":            sessions + 1,       // working directories, and what is open
	}
	for id, s := range x.stats() {
		if s.Entries != outlives[id] {
			t.Errorf("%s remembers %d entries of sessions that are over, want %d", id, s.Entries, outlives[id])
		}
		if s.Evicted != 0 && id != "rules" { // of which each follows only so many beginnings of a sequence
			t.Errorf("%s had to forget %d", id, s.Evicted)
		}
		if full[id].Entries < outlives[id]+most[id] {
			t.Errorf("%s remembered only %d entries: it was not tried", id, full[id].Entries)
		}
	}
}
