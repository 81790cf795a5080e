// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/watchglass/watchglass/event"
)

// detector is a Detector that is no longer asked once it has panicked: a fault in one must not stop
// the events, nor repeat itself with each of them.
type detector struct {
	Detector
	broken bool
}

// Ticker is a Detector that time alone can make find something: that what it expected did not come.
type Ticker interface {
	// Tick is called about once a second. Findings are about the event that cause is.
	Tick(now time.Time, report func(cause *event.Event, f *event.Finding))
}

// tickDetectors lets the detectors find what time makes them find, and publishes it.
func (p *Pipeline) tickDetectors(now time.Time) {
	for _, d := range p.detectors {
		ticker, ok := d.Detector.(Ticker)
		if !ok || d.broken {
			continue
		}
		func() {
			defer p.rescue(d)
			p.asked = d
			ticker.Tick(now, func(cause *event.Event, f *event.Finding) {
				p.cause = cause
				p.found(f)
			})
		}()
		p.cause = nil
	}
	p.publishFindings()
}

// detect shows an event to the detectors of its kind. What they find waits in p.findings.
func (p *Pipeline) detect(e *event.Event) {
	p.cause = e
	for _, d := range p.byKind[e.Kind()] {
		if !d.broken {
			p.ask(d, e)
		}
	}
	p.cause = nil
}

func (p *Pipeline) ask(d *detector, e *event.Event) {
	defer p.rescue(d)
	p.asked = d
	d.Detect(e, p.report)
}

func (p *Pipeline) rescue(d *detector) {
	if reason := recover(); reason != nil {
		d.broken = true
		p.s.Logger.Error("a detector failed and is off until the collector starts again",
			"detector", d.Rule().ID, "reason", fmt.Sprint(reason), "stack", string(debug.Stack()))
	}
}

// found takes a finding about the event that is being looked at. Outside of Detect there is none.
func (p *Pipeline) found(f *event.Finding) {
	e := p.cause
	if e == nil {
		return
	}
	if f.Rule == nil {
		f.Rule = p.asked.Rule()
	}
	if f.Count == 0 {
		f.Count = 1
	}
	if f.State == "" {
		f.State = event.FindingNew
	}
	if len(f.Evidence) == 0 {
		f.Evidence = []string{e.UID()}
	}
	if f.ID == "" {
		f.ID = findingID(f, e)
	}
	f.Chain = chain(e.Process)
	found := &event.Event{Time: e.Time, Sandbox: e.Sandbox, Process: e.Process, Payload: f}
	p.sessions.Explain(e, found)
	p.findings = append(p.findings, found)
}

// longestChain is how many processes a finding names, longestName how many bytes of each.
const longestChain, longestName = 16, 256

// chain is the names of a process and its ancestors, the oldest known first. One that begins with "…" had more.
func chain(p *event.Process) []string {
	if p == nil {
		return nil
	}
	names := []string{named(p.Name)}
	for q := p.Parent; q != nil; q = q.Parent {
		if len(names) == longestChain {
			names = append(names, "…")
			break
		}
		names = append(names, named(q.Name))
	}
	slices.Reverse(names)
	return names
}

func named(name string) string {
	if len(name) > longestName {
		name = strings.ToValidUTF8(name[:longestName], "") + "…"
	}
	return cmp.Or(name, "?")
}

// findingID is the same for the same rule, sandbox and title.
func findingID(f *event.Finding, e *event.Event) string {
	sandbox := ""
	if e.Sandbox != nil {
		sandbox = e.Sandbox.ID
	}
	sum := sha256.Sum256([]byte(f.Rule.UUID + "\x00" + sandbox + "\x00" + f.Title))
	return hex.EncodeToString(sum[:8])
}

// forget drops the detectors' state of a sandbox.
func (p *Pipeline) forget(sandboxID string) {
	for _, d := range p.detectors {
		func() {
			defer p.rescue(d)
			d.Forget(sandboxID)
		}()
	}
}
