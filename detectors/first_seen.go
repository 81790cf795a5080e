// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"slices"
	"strconv"
	"strings"

	"github.com/watchglass/watchglass/detectors/internal/memory"
	"github.com/watchglass/watchglass/event"
)

const ruleFirstSeen = "first-seen"

// mostNews is how many things that are new a session makes findings of; what is more is one finding together.
const mostNews = 16

// firstSeen reports a program or a destination that no session of the agent in the project used before.
type firstSeen struct {
	remembering

	minSessions int
	base        *Baselines
	findings    *memory.Memory[repeats]
	// buffer is where names are made.
	buffer []byte
}

func newFirstSeen(cfg *Config, base *Baselines) *firstSeen {
	d := &firstSeen{
		remembering: remembering{rule: event.Rule{
			ID: ruleFirstSeen, UUID: "e2b9f0a4-53c7-4d86-8a1f-7c0d9b3e6f12", Version: "1",
			Title:      "A program or a destination is new to the agent in this project",
			Severity:   event.SeverityLow,
			Confidence: event.ConfidenceLow,
			Attack:     []string{"T1204.002", "T1071"}, ASI: []string{"ASI02", "ASI10"},
			Kinds: []event.Kind{
				event.KindProcessExec, event.KindDNSQuery, event.KindNetworkConnect, event.KindSessionEnd, event.KindSandboxStop,
			},
			MemoryBound: "per sandbox max_entries findings, at most 256 bytes each; per agent and project (max_profiles of them) " +
				"two sets of 1,024 names exactly, then a filter of 8 KiB for 8,192; 256 of each that a session adds at its end; findings " +
				"go with their session, what was learned stays, in a file",
			FalsePositives: "nothing is new before five sessions of the agent in the project; names below one registered domain are one; " +
				"loopback, multicast and link-local addresses; numbers in the names of temporary programs; low alone; learns nothing of a " +
				"session with an open finding",
			Next: []string{
				"Compare the program or the destination with what the task asked for.",
				"Look at how much was sent to the destination, and what had been read before.",
			},
			Runbook: "docs/detectors/first-seen.md",
		}},
		minSessions: cfg.Baselines.MinSessions, base: base,
		findings: memory.New[repeats](cfg.MaxSandboxes, cfg.MaxEntries),
	}
	d.memories = []memories{d.findings}
	return d
}

// Forget implements Detector.
func (d *firstSeen) Forget(sandboxID string) {
	d.remembering.Forget(sandboxID)
	d.base.forget(sandboxID)
}

// EndSession implements Detector.
func (d *firstSeen) EndSession(sandboxID, session string) {
	d.remembering.EndSession(sandboxID, session)
	d.base.endSession(sandboxID, session)
}

// Stats implements Detector.
func (d *firstSeen) Stats() event.DetectorStats {
	stats := d.remembering.Stats()
	d.base.mu.Lock()
	defer d.base.mu.Unlock()
	stats.Entries += d.base.learned.names()
	stats.Evicted += d.base.learned.evicted
	stats.Most += 2 * mostFiltered * d.base.learned.most
	return stats
}

// Detect implements Detector.
func (d *firstSeen) Detect(e *event.Event, report func(*event.Finding)) {
	if e.Sandbox == nil {
		return
	}
	d.base.see(e)
	switch p := e.Payload.(type) {
	case *event.ProcessExec:
		d.met(e, newBinary, p.Executable, report)
	case *event.DNSQuery:
		if s := site(p.Name); s != "" {
			d.met(e, newSite, s, report)
		}
	case *event.NetworkConnect:
		if s := destination(p); s != "" {
			d.met(e, newSite, s, report)
		}
	}
}

// The kinds of what can be new.
const (
	newBinary byte = iota
	newSite
)

// destination is what a connection leads to: a site, or an address without a name; "" for what is near.
func destination(c *event.NetworkConnect) string {
	if !far(c) {
		return ""
	}
	if s := site(c.PeerName); s != "" {
		return s
	}
	return c.Peer.Addr().String()
}

// far says that a connection leads out of the machine, and is one that sends something.
func far(c *event.NetworkConnect) bool {
	if !c.Peer.IsValid() || c.Transport == event.TransportUDP && (c.Peer.Port() == 0 || c.Peer.Port() == 53) {
		return false
	}
	switch event.ScopeOf(c.Peer.Addr()) {
	case event.ScopePublic, event.ScopePrivate, event.ScopeMetadata:
		return true
	case event.ScopeLoopback, event.ScopeLinkLocal, event.ScopeMulticast, event.ScopeUnspecified:
	}
	return false
}

// met looks whether something is new, and remembers it for the session's end.
func (d *firstSeen) met(e *event.Event, what byte, name string, report func(*event.Finding)) {
	o := d.base.session(e)
	key := name
	if what == newBinary {
		key = ordinaryName(name)
	}
	d.base.mu.Lock()
	var hash uint64
	hash, d.buffer = d.base.learned.hash(d.buffer, what, key)
	known, sessions := true, 0
	if p := d.base.learned.profiles[o.profile]; p != nil && p.sessions >= d.minSessions {
		set := &p.binaries
		if what == newSite {
			set = &p.sites
		}
		known, sessions = set.has(hash), p.sessions
	}
	d.base.mu.Unlock()
	d.stage(e, o, what, hash)
	if !known {
		d.report(e, o, news{what: what, name: cut(name, longestPath), hash: hash, sessions: sessions}, report)
	}
}

// stage keeps what a session used until it ends, unless there is a reason not to learn from it.
func (d *firstSeen) stage(e *event.Event, o *observed, what byte, hash uint64) {
	list := &o.binaries
	if what == newSite {
		list = &o.sites
	}
	at, found := slices.BinarySearch(*list, hash)
	if found || len(*list) >= mostStaged || d.base.frozen(e) {
		return
	}
	*list = slices.Insert(*list, at, hash)
}

// ordinaryName is a path in which numbers do not count where programs come and go: what a test runner or a
// compiler puts in a temporary directory has another name each time.
func ordinaryName(path string) string {
	if !temporary(path) {
		return path
	}
	name := baseName(path)
	if strings.IndexFunc(name, digit) < 0 {
		return "/tmp/" + name
	}
	return "/tmp/" + strings.Map(func(r rune) rune {
		if digit(r) {
			return '0'
		}
		return r
	}, name)
}

func digit(r rune) bool { return r >= '0' && r <= '9' }

// news is something that is new.
type news struct {
	what     byte
	name     string
	hash     uint64
	sessions int
}

func (d *firstSeen) report(e *event.Event, o *observed, n news, report func(*event.Finding)) {
	session, _ := turn(e.Process)
	key := d.findings.Key(n.hash, session)
	seen := d.findings.Get(e.Sandbox.ID, key)
	switch {
	case seen != nil:
		return // it is new once
	case o.news < mostNews:
		o.news++
		seen = recall(d.findings, e, key)
	default:
		seen = recall(d.findings, e, d.findings.Key(0, session, "more"))
	}
	if !seen.seen(&d.rule, e) {
		return
	}
	title := program(e.Process) + " reached " + n.name
	if n.what == newBinary {
		title = "the program " + n.name + " was started"
	}
	whose := "whoever works"
	if o.profile.agent != "" {
		whose = o.profile.agent
	}
	where := "a folder that is not known"
	if o.profile.project != "" {
		where = o.profile.project
	}
	title += ", for the first time by " + whose + " in " + where
	report(&event.Finding{
		ID: seen.id, Rule: &d.rule, State: seen.state(), Count: seen.count, Title: title,
		Explanation: new(explanation).say("In this session ", title, ": none of ", strconv.Itoa(n.sessions), " sessions before had it.").
			who(e.Process).repeated(seen.count).String(),
		Objects:  []string{n.name},
		Evidence: []string{e.UID()},
	})
}
