// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"strings"

	"github.com/watchglass/watchglass/detectors/internal/memory"
	"github.com/watchglass/watchglass/event"
)

// canary reports every touch of what nobody has a reason to touch: files, tokens and host names that were planted for
// that. There is nothing to weigh: no work needs them.
type canary struct {
	remembering

	paths    map[string]bool
	hosts    []string
	tokens   []string
	findings *memory.Memory[repeats]
}

func newCanary(cfg *Config) *canary {
	d := &canary{
		remembering: remembering{rule: event.Rule{
			ID: "canary", UUID: "0d1e5a0f-6b2c-4f5d-8c3e-7a9b0c1d2e60", Version: "1",
			Title:    "A canary was touched",
			Severity: event.SeverityCritical,
			Attack:   []string{"T1552.001", "T1083"}, ASI: []string{"ASI01", "ASI03"},
			Kinds: []event.Kind{
				event.KindFileOpen, event.KindFileLink, event.KindFileRename, event.KindFileDelete, event.KindProcessExec,
				event.KindDNSQuery, event.KindNetworkConnect, event.KindNetworkRequest,
			},
			MemoryBound: "the canaries of the configuration; per sandbox max_entries findings, at most 256 bytes each; " +
				"max_sandboxes sandboxes; least recently used first; a finding goes with its session",
			FalsePositives: "nothing is a canary unless the configuration, or watchglass run --canary, says so; backups and " +
				"indexers that read everything touch it too: keep it out of their way",
			Next: []string{
				"Treat the session as searching for what is not its own: look at all that it opened.",
				"Look at what it sent since.",
			},
			Runbook: "docs/detectors/canary.md",
		}},
		paths:    map[string]bool{},
		findings: memory.New[repeats](cfg.MaxSandboxes, cfg.MaxEntries),
	}
	d.memories = []memories{d.findings}
	for _, c := range cfg.Canaries {
		switch kindOfCanary(c) {
		case canaryPath:
			d.paths[c] = true
		case canaryHost:
			d.hosts = append(d.hosts, strings.ToLower(c))
		case canaryToken:
			d.tokens = append(d.tokens, c)
		}
	}
	return d
}

type canaryKind uint8

const (
	canaryPath canaryKind = iota
	canaryHost
	canaryToken
)

// shortestToken is the shortest token that cannot be a part of ordinary text, in bytes.
const shortestToken = 16

// kindOfCanary is what a canary of the configuration is: a path begins with a slash, a token is long and has no dot, a
// host name has one.
func kindOfCanary(c string) canaryKind {
	switch {
	case strings.HasPrefix(c, "/"):
		return canaryPath
	case strings.Contains(c, "."):
		return canaryHost
	}
	return canaryToken
}

// Detect implements Detector.
func (d *canary) Detect(e *event.Event, report func(*event.Finding)) {
	if e.Sandbox == nil || len(d.paths)+len(d.hosts)+len(d.tokens) == 0 {
		return
	}
	what, how := d.touched(e.Payload)
	if what == "" {
		return
	}
	session, call := turn(e.Process)
	key := d.findings.Key(0, session, call, what, how)
	seen := recall(d.findings, e, key)
	if !seen.seen(&d.rule, e) {
		return
	}
	report(&event.Finding{
		ID: seen.id, Rule: &d.rule, State: seen.state(), Count: seen.count,
		Title: program(e.Process) + " " + how + " the canary " + what,
		Explanation: new(explanation).say(program(e.Process), " ", how, " ", what, ", which was planted so that nobody has a reason to.").
			who(e.Process).repeated(seen.count).String(),
		Objects:  []string{what},
		Evidence: []string{e.UID()},
	})
}

// touched is the canary that an event touches, and how; "" for none.
func (d *canary) touched(payload event.Payload) (what, how string) {
	switch p := payload.(type) {
	case *event.FileOpen:
		if d.paths[p.Path] && p.Access&event.AccessPath == 0 {
			return p.Path, "opened"
		}
		if d.paths[p.HostPath] {
			return p.HostPath, "opened"
		}
	case *event.FileChange:
		if d.paths[p.Path] {
			return p.Path, "changed the name of"
		}
		if d.paths[p.Target] {
			return p.Target, "changed the name of"
		}
	case *event.ProcessExec:
		for _, arg := range p.Args {
			if token := d.token(arg); token != "" {
				return token, "has in its arguments"
			}
		}
	case *event.DNSQuery:
		return d.host(p.Name), "asked for the address of"
	case *event.NetworkConnect:
		return d.host(p.PeerName), "connected to"
	case *event.NetworkRequest:
		return d.host(p.Name), "sent a request to"
	}
	return "", ""
}

func (d *canary) token(arg string) string {
	for _, token := range d.tokens {
		if strings.Contains(arg, token) {
			return token
		}
	}
	return ""
}

// host is the canary that a name is, or is below of.
func (d *canary) host(name string) string {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	for _, host := range d.hosts {
		if name == host || strings.HasSuffix(name, host) && name[len(name)-len(host)-1] == '.' {
			return host
		}
	}
	return ""
}
