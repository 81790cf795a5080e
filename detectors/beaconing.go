// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"math"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/watchglass/watchglass/detectors/internal/memory"
	"github.com/watchglass/watchglass/event"
)

const ruleBeaconing = "beaconing"

// What a beacon is.
const (
	// beaconIntervals is how many intervals are compared, fewestIntervals how many are needed.
	beaconIntervals = 16
	fewestIntervals = 10
	// mostVariation is the most by which they may differ: standard deviation by mean. 0.2 has room for a beacon that
	// draws each pause from a third more or less.
	mostVariation = 0.2
	// shortestBeacon and longestBeacon bound the interval; connections nearer to each other than together are one:
	// an address of each family, or a browser's six.
	shortestBeacon = 800 * time.Millisecond
	longestBeacon  = 2 * time.Hour
	together       = 250 * time.Millisecond
)

// beaconing reports connections to one destination far away at equal intervals.
type beaconing struct {
	remembering

	allowed func(event.Transport, netip.AddrPort) bool
	// observing says that there is no allow-list: that everything is allowed then says nothing.
	observing func() bool
	base      *Baselines
	findings  *memory.Memory[repeats]
	pulses    *memory.Memory[pulse]
	// open is the beacons that were reported and go on, the first reported first.
	open []openBeacon
}

// openBeacon is a beacon that was reported. pulse and finding are its places in the memories, cause the event that it was
// reported about, without its payload.
type openBeacon struct {
	pulse, finding uint64
	every          time.Duration
	cause          event.Event
	title, object  string
}

const (
	// mostOpenBeacons is how many of a sandbox are waited for to end; the first is forgotten first.
	mostOpenBeacons = 16
	// missedBeats is how many intervals without a connection end a beacon.
	missedBeats = 5
)

// pulse is when one destination was reached.
type pulse struct {
	last time.Time
	// intervals is a ring, in seconds; count how many there were.
	intervals [beaconIntervals]float32
	count     int
}

func newBeaconing(cfg *Config, base *Baselines) *beaconing {
	d := &beaconing{
		remembering: remembering{rule: event.Rule{
			ID: ruleBeaconing, UUID: "0b7d5c1e-9e64-4f0a-b3d2-51a8c6e4f907", Version: "1",
			Title:      "A destination is reached at equal intervals",
			Severity:   event.SeverityLow,
			Confidence: event.ConfidenceLow,
			Attack:     []string{"T1071", "T1029"}, ASI: []string{"ASI10"},
			Kinds: []event.Kind{event.KindNetworkConnect},
			MemoryBound: "per sandbox max_entries findings and destinations, at most 256 bytes each, and 16 that go on; max_sandboxes sandboxes; " +
				"least recently used first; a finding goes with its session, a destination with the one that reached it last",
			FalsePositives: "loopback, link-local and multicast addresses: a dev server's poll is as regular; what the allow-list names, " +
				"where there is one; the agent's own program outside of tool calls; ten intervals of at least 0.8 s; low alone",
			Next: []string{
				"Read the command: a loop that waits for a build or a deployment explains itself.",
				"Look at the sizes of the answers on the flows to it: always few bytes, and once many, is an order.",
				"Stop the process if it outlives the tool call that started it.",
			},
			Runbook: "docs/detectors/beaconing.md",
		}},
		allowed: cfg.Policy.Allowed, observing: cfg.Policy.Observing, base: base,
		findings: memory.New[repeats](cfg.MaxSandboxes, cfg.MaxEntries),
		pulses:   memory.New[pulse](cfg.MaxSandboxes, cfg.MaxEntries),
	}
	d.memories = []memories{d.findings, d.pulses}
	return d
}

// Detect implements Detector.
func (d *beaconing) Detect(e *event.Event, report func(*event.Finding)) {
	c, ok := e.Payload.(*event.NetworkConnect)
	if !ok || e.Sandbox == nil || !far(c) || agentItself(e.Process) || d.allowed(c.Transport, c.Peer) && !d.observing() {
		return
	}
	to := destination(c)
	key := d.pulses.Key(uint64(c.Peer.Port()), string(c.Transport), to)
	p := d.pulses.Get(e.Sandbox.ID, key)
	if p == nil {
		d.pulses.Put(e.Sandbox.ID, key, pulse{last: e.Time})
		give(d.pulses, e, key)
		return
	}
	give(d.pulses, e, key)
	if !p.beat(e.Time) {
		return
	}
	mean, variation := p.regularity()
	if p.count >= fewestIntervals && variation <= mostVariation && mean >= shortestBeacon.Seconds() {
		d.report(e, c, beat{to: to, key: key, pulse: p, mean: mean, variation: variation}, report)
	}
}

// beat notes one more connection and says whether it is one of its own.
func (p *pulse) beat(now time.Time) bool {
	interval := now.Sub(p.last)
	if interval < together {
		return false
	}
	p.last = now
	if interval > longestBeacon {
		p.count = 0
		return false
	}
	p.intervals[p.count%beaconIntervals] = float32(interval.Seconds())
	p.count++
	return true
}

// regularity is the mean of the latest intervals, in seconds, and their standard deviation by it.
func (p *pulse) regularity() (mean, variation float64) {
	n := min(p.count, beaconIntervals)
	for _, x := range p.intervals[:n] {
		mean += float64(x)
	}
	mean /= float64(n)
	for _, x := range p.intervals[:n] {
		variation += (float64(x) - mean) * (float64(x) - mean)
	}
	return mean, math.Sqrt(variation/float64(n)) / mean
}

// beat is a regular pulse, for words.
type beat struct {
	to              string
	key             uint64
	pulse           *pulse
	mean, variation float64
}

func (d *beaconing) report(e *event.Event, c *event.NetworkConnect, b beat, report func(*event.Finding)) {
	session, _ := turn(e.Process)
	key := d.findings.Key(uint64(c.Peer.Port()), session, string(c.Transport), b.to)
	seen := recall(d.findings, e, key)
	if !seen.seen(&d.rule, e) {
		return
	}
	object := string(c.Transport) + " " + c.Peer.String()
	if c.PeerName != "" {
		object += " (" + cut(c.PeerName, longestCommand) + ")"
	}
	every := time.Duration(b.mean * float64(time.Second)).Round(10 * time.Millisecond).String()
	title := program(e.Process) + " reaches " + object + " every " + every
	d.goesOn(e, openBeacon{pulse: b.key, finding: key, every: time.Duration(b.mean * float64(time.Second)), title: title, object: object})
	report(&event.Finding{
		ID: seen.id, Rule: &d.rule, State: seen.state(), Count: seen.count, Title: title,
		Explanation: new(explanation).say(title, ": the last ", strconv.Itoa(min(b.pulse.count, beaconIntervals)),
			" intervals differ by ", strconv.Itoa(int(math.Round(100*b.variation))), " % of their mean. People and builds are not like that.").
			who(e.Process).repeated(seen.count).String(),
		Objects:  []string{object},
		Evidence: []string{e.UID()},
	})
}

// agentItself says that the process is an agent's own program outside of any tool call: what it sends home, and that
// it does so by the clock, is its maker's business.
func agentItself(p *event.Process) bool {
	if p == nil || p.Agent != nil && p.Agent.CallID != "" || temporary(p.Executable) {
		return false
	}
	for _, a := range agentFiles() {
		if a.isProgram(p) {
			return !a.startedByItsShell(p)
		}
	}
	return false
}

// goesOn remembers a beacon that was reported, to say when it is over.
func (d *beaconing) goesOn(e *event.Event, o openBeacon) {
	o.cause = *e
	o.cause.Payload = nil
	d.open = slices.DeleteFunc(d.open, func(old openBeacon) bool {
		return old.finding == o.finding && old.cause.Sandbox.ID == e.Sandbox.ID
	})
	mine, first := 0, -1
	for i := range d.open {
		if d.open[i].cause.Sandbox.ID == e.Sandbox.ID {
			if mine++; first < 0 {
				first = i
			}
		}
	}
	if mine >= mostOpenBeacons {
		d.open = slices.Delete(d.open, first, first+1)
	}
	d.open = append(d.open, o)
}

// Tick implements collector.Ticker: it says of beacons that they are over.
func (d *beaconing) Tick(now time.Time, report func(cause *event.Event, f *event.Finding)) {
	d.open = slices.DeleteFunc(d.open, func(o openBeacon) bool {
		p, seen := d.pulses.Get(o.cause.Sandbox.ID, o.pulse), d.findings.Get(o.cause.Sandbox.ID, o.finding)
		if p == nil || seen == nil {
			return true // forgotten
		}
		quiet := now.Sub(p.last)
		if quiet < missedBeats*o.every+together {
			return false
		}
		f := &event.Finding{
			ID: seen.id, Rule: &d.rule, State: event.FindingResolved, Count: seen.count, Title: o.title,
			Explanation: "It is over: " + o.title + ". There was no connection for " + quiet.Round(time.Second).String() + ".",
			Objects:     []string{o.object}, Evidence: []string{o.cause.UID()},
		}
		d.findings.Drop(o.cause.Sandbox.ID, o.finding)
		p.count = 0 // a beacon must prove itself anew
		report(&o.cause, f)
		return true
	})
}

// Forget implements Detector.
func (d *beaconing) Forget(sandboxID string) {
	d.remembering.Forget(sandboxID)
	d.open = slices.DeleteFunc(d.open, func(o openBeacon) bool { return o.cause.Sandbox.ID == sandboxID })
}
