// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"net/netip"

	"github.com/watchglass/watchglass/detectors/internal/memory"
	"github.com/watchglass/watchglass/event"
)

// offPolicyConnect reports attempts to reach a destination outside the allow-list, also refused
// ones: what was tried tells as much as what succeeded, and a firewall's refusal proves the policy,
// not the intent.
type offPolicyConnect struct {
	remembering

	allowed  func(event.Transport, netip.AddrPort) bool
	findings *memory.Memory[repeats]
}

func newOffPolicyConnect(cfg *Config) *offPolicyConnect {
	d := &offPolicyConnect{
		remembering: remembering{rule: event.Rule{
			ID: "off-policy-connect", UUID: "8f370cd4-439d-4507-b3ee-c5b82c120c19", Version: "1",
			Title:    "A destination outside the allow-list was tried",
			Severity: event.SeverityMedium,
			Attack:   []string{"T1071", "T1090"}, ASI: []string{"ASI02"},
			Kinds: []event.Kind{event.KindNetworkConnect},
			MemoryBound: "per sandbox max_entries findings, at most 256 bytes each; max_sandboxes sandboxes; " +
				"least recently used first; a finding goes with the session that made it last",
			FalsePositives: "no finding without an allow-list (observe first); DNS to the configured resolvers; " +
				"UDP to port 0, by which programs ask for a route and send nothing; one finding per sandbox and destination",
			Next: []string{
				"Find out who owns the destination, and how many bytes went there: the flow of the connection.",
				"Add it to policy.network.allow if the work needs it.",
			},
			Runbook: "docs/detectors/off-policy-connect.md",
		}},
		allowed:  cfg.Policy.Allowed,
		findings: memory.New[repeats](cfg.MaxSandboxes, cfg.MaxEntries),
	}
	d.memories = []memories{d.findings}
	return d
}

// Detect implements Detector.
func (d *offPolicyConnect) Detect(e *event.Event, report func(*event.Finding)) {
	n, ok := e.Payload.(*event.NetworkConnect)
	if !ok || e.Sandbox == nil || !n.Peer.IsValid() || d.allowed(n.Transport, n.Peer) ||
		n.Transport == event.TransportUDP && n.Peer.Port() == 0 {
		return
	}
	key := d.key(n)
	if seen := recall(d.findings, e, key); seen.seen(&d.rule, e) {
		report(d.finding(e, n, seen))
	}
}

// key is the destination. It does not hold the turn: the tenth tool call that polls the same forgotten
// package mirror is the same finding.
func (d *offPolicyConnect) key(n *event.NetworkConnect) uint64 {
	addr := n.Peer.Addr().Unmap().As16()
	return d.findings.Key(uint64(n.Peer.Port()), string(n.Transport), string(addr[:]))
}

func (d *offPolicyConnect) finding(e *event.Event, n *event.NetworkConnect, seen *repeats) *event.Finding {
	destination := string(n.Transport) + " " + n.Peer.String()
	if n.PeerName != "" {
		destination += " (" + cut(n.PeerName, longestCommand) + ")"
	}
	scope := event.ScopeOf(n.Peer.Addr())
	title, result := program(e.Process)+" connected to "+destination, "and the connection was made."
	switch {
	case n.Error != 0:
		title, result = program(e.Process)+" tried to connect to "+destination, "and got "+n.Error.Name()+"."
	case n.Abandoned:
		title, result = program(e.Process)+" tried to connect to "+destination, "and gave up before there was a result."
	case n.Transport == event.TransportUDP:
		result = "and may send to it."
	}
	why := new(explanation).
		say(program(e.Process), " tried to reach ", destination, ", scope ", string(scope),
			", which policy.network.allow does not list, ", result)
	if scope == event.ScopeMetadata {
		why.say("This address hands out the credentials of the machine.")
	}
	why.who(e.Process).repeated(seen.count)
	return &event.Finding{
		ID: seen.id, Rule: &d.rule, State: seen.state(), Level: destinationLevel(scope), Count: seen.count,
		Title:       title + ", outside the allow-list",
		Explanation: why.String(),
		Objects:     []string{destination},
		Evidence:    []string{e.UID()},
	}
}

// destinationLevel raises what hands out credentials; the rest has the rule's severity.
func destinationLevel(scope event.Scope) event.Severity {
	if scope == event.ScopeMetadata {
		return event.SeverityHigh
	}
	return 0
}
