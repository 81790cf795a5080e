// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/watchglass/watchglass/event"
)

// session gives payloads to a summarizer as events of the sandbox with cgroup 10, a second apart.
func oneSession(t *testing.T, payloads ...event.Payload) *Summarizer {
	t.Helper()
	s := NewSummarizer(10)
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, payload := range payloads {
		e := &event.Event{Time: now, Sandbox: &event.Sandbox{Name: "s1", CgroupID: 10}, Process: &event.Process{Name: "sh"}, Payload: payload}
		if err := s.Export(t.Context(), []*event.Event{e}); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Second)
	}
	return s
}

func TestSummary(t *testing.T) {
	high := &event.Finding{ID: "f1", Rule: &event.Rule{ID: "r", Severity: event.SeverityLow}, Title: "old"}
	updated := &event.Finding{ID: "f1", Rule: high.Rule, Title: "new", State: event.FindingUpdate}
	critical := &event.Finding{ID: "f2", Rule: &event.Rule{ID: "a", Severity: event.SeverityCritical}}
	web, dns := netip.MustParseAddrPort("192.0.2.1:443"), netip.MustParseAddrPort("127.0.0.1:53")
	s := oneSession(
		t, &event.SandboxStart{}, &event.ProcessExec{}, &event.ProcessExec{},
		&event.FileOpen{Path: "/home/.ssh/id", Class: event.FileClassSecret},
		&event.FileOpen{Path: "/home/.ssh/id", Class: event.FileClassSecret},
		&event.FileOpen{Path: "/home/.aws/x", Class: event.FileClassSecret, Error: 13},
		&event.FileOpen{Path: "/src/a.c", Class: event.FileClassSource, Access: event.AccessWrite},
		&event.FileOpen{Path: "/etc/passwd", Class: event.FileClassSystem},
		&event.NetworkConnect{Transport: event.TransportUDP, Peer: dns},
		&event.NetworkConnect{Transport: event.TransportTCP, Peer: web, PeerName: "example.org"},
		&event.NetworkConnect{Transport: event.TransportTCP, Peer: web, Error: 111},
		&event.NetworkFlow{Transport: event.TransportTCP, Peer: web, Sent: 5, Received: 7},
		high, critical, updated,
		&event.ProcessExit{Code: 1}, &event.ProcessExit{Signal: 9}, &event.ProcessExit{},
		&event.SandboxStop{Processes: 3},
	)
	other := &event.Event{Sandbox: &event.Sandbox{CgroupID: 11}, Payload: &event.ProcessExec{}}
	if err := s.Export(t.Context(), []*event.Event{other, {Payload: &event.Loss{Count: 1}}}); err != nil {
		t.Fatal(err)
	}
	want := event.Summary{
		Sandbox: "s1", Started: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC), Duration: 18 * time.Second,
		Processes: 3, Execs: 2, Failed: 2, Commands: []event.Count{{Name: "sh", N: 2}},
		Files: []event.FileSummary{
			{Class: event.FileClassSecret, Opens: 2, Failed: 1, Paths: []string{"/home/.ssh/id"}},
			{Class: event.FileClassSource, Opens: 1, Written: 1},
			{Class: event.FileClassSystem, Opens: 1},
		},
		Destinations: []event.Destination{
			{Transport: event.TransportTCP, Peer: "192.0.2.1:443", Name: "example.org", Scope: event.ScopePublic, Connects: 2, Failed: 1, Error: "ECONNREFUSED", Sent: 5, Received: 7},
			{Transport: event.TransportUDP, Peer: "127.0.0.1:53", Scope: event.ScopeLoopback, Connects: 1},
		},
		Findings: []*event.Finding{critical, updated},
	}
	if diff := cmp.Diff(want, s.Summary()); diff != "" {
		t.Error(diff)
	}
}

// TestSummaryIsBounded lets a sandbox do everything under ever new names.
func TestSummaryIsBounded(t *testing.T) {
	const n = 5000
	s := oneSession(t, &event.SandboxStart{})
	for i := range n {
		peer := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 80)
		for _, payload := range []event.Payload{
			&event.ProcessExec{}, &event.FileOpen{Path: fmt.Sprint("/", i), Class: event.FileClassSecret},
			&event.NetworkConnect{Transport: event.TransportTCP, Peer: peer},
			&event.Finding{ID: fmt.Sprint(i), Rule: &event.Rule{}},
		} {
			e := &event.Event{Sandbox: &event.Sandbox{CgroupID: 10}, Process: &event.Process{Name: fmt.Sprint(i)}, Payload: payload}
			if err := s.Export(t.Context(), []*event.Event{e}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(s.commands) != maxSummaryCommands || len(s.destinations) != maxSummaryDestinations || len(s.findings) != maxSummaryFindings {
		t.Errorf("holds %d commands, %d destinations, %d findings", len(s.commands), len(s.destinations), len(s.findings))
	}
	sum := s.Summary()
	for name, got := range map[string]int{
		"commands":     len(sum.Commands) + sum.CommandsOmitted,
		"destinations": len(sum.Destinations) + sum.DestinationsOmitted,
		"findings":     len(sum.Findings) + sum.FindingsOmitted,
		"paths":        len(sum.Files[0].Paths) + sum.Files[0].PathsOmitted,
	} {
		if got != n {
			t.Errorf("%s: %d listed or omitted, of %d", name, got, n)
		}
	}
	if sum.Execs != n || sum.Files[0].Opens != n {
		t.Errorf("%+v", sum)
	}
}

// TestSummaryIsACopy holds what was handed out apart from what comes later.
func TestSummaryIsACopy(t *testing.T) {
	s := oneSession(t, &event.SandboxStart{}, &event.FileOpen{Path: "/a", Class: event.FileClassSecret})
	before := s.Summary()
	kept := before.Files[0].Paths[0]
	e := &event.Event{Sandbox: &event.Sandbox{CgroupID: 10}, Payload: &event.FileOpen{Path: "/b", Class: event.FileClassSecret}}
	if err := s.Export(t.Context(), []*event.Event{e}); err != nil {
		t.Fatal(err)
	}
	if len(before.Files[0].Paths) != 1 || before.Files[0].Paths[0] != kept || len(s.Summary().Files[0].Paths) != 2 {
		t.Errorf("%v, then %v", before.Files[0].Paths, s.Summary().Files[0].Paths)
	}
}

func TestSummaryOfSessions(t *testing.T) {
	claim := event.Claim{Agent: "codex", Session: "a", Sender: event.SenderOwner}
	foreign := event.Claim{Agent: "codex", Session: "b", Sender: event.SenderForeign}
	payloads := []event.Payload{
		&event.SandboxStart{},
		&event.ToolCall{Claim: claim, Phase: event.PhaseStart, ID: "1"},
		&event.ToolCall{Claim: claim, Phase: event.PhaseEnd, ID: "1"},
		&event.ToolCall{Claim: claim, Phase: event.PhaseJoined, ID: "1"},
		&event.ToolCall{Claim: claim, Phase: event.PhaseJoined, ID: "1"},
		&event.ToolCall{Claim: claim, Phase: event.PhaseEnd, ID: "2"},
		&event.ToolCall{Claim: foreign, Phase: event.PhaseEnd, ID: "3"},
		&event.Approval{Claim: claim, State: event.ApprovalRequested},
		&event.Approval{Claim: claim, State: event.ApprovalGranted},
		&event.Approval{Claim: claim, State: event.ApprovalDenied},
		&event.ClaimMismatch{Claim: claim},
		&event.SessionEnd{Claim: claim, ToolCalls: 3},
	}
	for i := range 20 {
		payloads = append(payloads, &event.SessionEnd{Claim: event.Claim{Session: strconv.Itoa(i), Sender: event.SenderOwner}})
	}
	sum := oneSession(t, payloads...).Summary()
	want := event.SessionSummary{ID: "a", Agent: "codex", Calls: 3, Joined: 1, Granted: 1, Denied: 1, Mismatches: 1}
	if len(sum.Sessions) != maxSummarySessions || sum.Sessions[0] != want || sum.SessionsOmitted != 5 {
		t.Errorf("%+v, %d more", sum.Sessions, sum.SessionsOmitted)
	}
}
