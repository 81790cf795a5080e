// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/watchglass/watchglass/event"
)

// TestHostileToolServers has one sandbox start, name and use tool servers without end, and compute, all with the longest
// names that there are. What is remembered stays below its bound, findings are short, and another sandbox's are found.
func TestHostileToolServers(t *testing.T) {
	const rounds, entries = 2000, 16
	cfg := DefaultConfig()
	cfg.MaxEntries, cfg.SaturationFloor = entries, time.Second
	var built []Detector
	for _, d := range mustNew(t, cfg) {
		if id := d.Rule().ID; id == "mcp-drift" || id == "resource-hijack" {
			built = append(built, d)
		}
	}
	now, seq, quiet := time.Unix(1e9, 0), uint64(0), true
	found := map[string]int{}
	show := func(sandbox string, p *event.Process, payload event.Payload) {
		seq++
		now = now.Add(time.Second)
		e := &event.Event{Time: now, Seq: seq, Instance: "t", Sandbox: &event.Sandbox{ID: sandbox, Name: sandbox}, Process: p, Payload: payload}
		for _, d := range built {
			d.Detect(e, func(f *event.Finding) {
				if n := len(f.Title) + len(f.Explanation) + len(strings.Join(f.Objects, "")); n > 32<<10 {
					t.Fatalf("%s: a finding of %d bytes", f.Rule.ID, n)
				}
				if !quiet {
					found[f.Rule.ID]++
				}
			})
		}
	}
	session := func(sandbox, name string, i int) {
		agent := &event.Process{UID: 1, PID: 1, Name: "codex", Executable: "/opt/codex", Agent: &event.Agent{Name: "codex", Method: "executable"}}
		id := event.ProcessID(i + 10)
		server := &event.Process{
			UID: id, RootUID: id, PID: uint32(i + 10), Name: "node", Executable: "/usr/bin/node", Parent: agent,
			Args: []string{"node", "/opt/mcp-" + name}, Agent: &event.Agent{Name: "codex", Method: "inherited"},
		}
		tool := &event.Process{UID: 2, PID: 2, Name: "sh", Executable: "/bin/sh", Agent: &event.Agent{Name: "codex", CallID: "c", Method: "env"}}
		said := event.Claim{Agent: "codex", Session: name, Sender: event.SenderOwner}
		show(sandbox, agent, &event.ToolCall{Claim: said, Phase: event.PhaseEnd, Name: "x", MCPServer: "first"})
		show(sandbox, tool, &event.FileOpen{Path: "/" + name + "/.mcp.json", Class: event.FileClassConfig, Access: event.AccessWrite})
		show(sandbox, server, &event.ProcessExec{Args: server.Args, Executable: server.Executable})
		show(sandbox, server, &event.NetworkConnect{Peer: netip.AddrPortFrom(netip.AddrFrom4([4]byte{9, 9, byte(i >> 8), byte(i)}), 443), PeerName: name})
		show(sandbox, agent, &event.ToolCall{Claim: said, Phase: event.PhaseEnd, Name: "x", MCPServer: name})
		spin := &event.Process{UID: id + 1e6, PID: 7, Name: name, Executable: "/tmp/" + name, Args: []string{name}}
		show(sandbox, spin, &event.ProcessExec{Args: spin.Args, Executable: spin.Executable})
		show(sandbox, spin, &event.ProcessExit{Exited: now, Duration: time.Hour, Usage: &event.Usage{User: time.Hour}})
		show(sandbox, nil, &event.ResourceUsage{CPU: &event.CPUUsage{Total: time.Duration(i) * time.Hour}})
	}
	for i := range rounds {
		session("hostile", fmt.Sprintf("%d-%s", i, strings.Repeat("m\x1b\xff", 1300)), i)
	}
	// mcp-drift has six tables of at most entries, resource-hijack two of as many, and 64 classes.
	bounds := map[string]int{"mcp-drift": 6 * entries, "resource-hijack": 2*entries + classesKept}
	for _, d := range built {
		if s := d.Stats(); s.Entries > bounds[s.Name] || s.Evicted == 0 {
			t.Errorf("%s remembers %d entries and forgot %d: at most %d", s.Name, s.Entries, s.Evicted, bounds[s.Name])
		}
	}
	quiet = false
	session("honest", "evil", 1)
	if found["mcp-drift"] < 2 || found["resource-hijack"] < 1 {
		t.Errorf("in the other sandbox was found: %v", found)
	}
	for _, d := range built {
		d.Forget("hostile")
		d.Forget("honest")
		if s := d.Stats(); s.Entries != 0 {
			t.Errorf("%s remembers %d entries of sandboxes that are gone", s.Name, s.Entries)
		}
	}
}
