// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"math"
	"strconv"
	"time"

	"github.com/watchglass/watchglass/detectors/internal/memory"
	"github.com/watchglass/watchglass/event"
)

const ruleBurst = "burst"

// How far from what is usual is too far. Rates are compared by their logarithms: what agents do comes in bursts, and
// it is the factor that tells one from another.
const (
	// memoryOfRates is the weight of the latest window.
	memoryOfRates = 0.1
	// leastSpread is the least standard deviation that is reckoned with: a factor of 1.65.
	leastSpread = 0.5
	// slack is how many standard deviations a window may be off without consequence; alarm is how many more, in one
	// window or in several that follow each other, are a burst. At the least spread one window of 12 times the usual
	// is, or three of 3.8 times.
	slack = 1.0
	alarm = 4.0
	// mostTaught is the most that one window teaches, in standard deviations.
	mostTaught = 3.0
)

// rateClass is a kind of events whose rate is watched.
type rateClass int

const (
	rateExec rateClass = iota
	rateConnect
	rateWrite
	rateDNS
	// rateClasses is how many there are.
	rateClasses
)

func (c rateClass) name() string {
	return [...]string{"exec", "connect", "write", "dns"}[c]
}

// what is the class in the words of a finding.
func (c rateClass) what() string {
	return [...]string{"programs started", "connections", "files written, created, renamed or removed", "DNS questions"}[c]
}

// floor is how many a second are never a burst.
func (c rateClass) floor() float64 { return [...]float64{20, 10, 50, 10}[c] }

// habit is what is usual: the mean and the variance of the logarithm of a window's count, weighted by age, over the
// windows that had any.
type habit struct {
	Mean     float64 `json:"mean"`
	Variance float64 `json:"variance"`
	Windows  int     `json:"windows"`
}

func (h *habit) possible() bool {
	const most = 64 // no count has a logarithm like that
	return h.Windows >= 0 && h.Mean >= 0 && h.Mean <= most && h.Variance >= 0 && h.Variance <= most*most
}

func (h *habit) spread() float64 { return max(leastSpread, math.Sqrt(h.Variance)) }

// teach takes in the count of one window.
func (h *habit) teach(count int) {
	y := math.Log1p(float64(count))
	if h.Windows++; h.Windows == 1 {
		h.Mean = y
		return
	}
	if h.Windows > 2 {
		y = min(y, h.Mean+mostTaught*h.spread())
	}
	weight := max(memoryOfRates, 1/float64(h.Windows))
	off := y - h.Mean
	h.Mean += weight * off
	h.Variance = (1 - weight) * (h.Variance + weight*off*off)
}

// merge takes in the habit of a session.
func (h *habit) merge(o *habit) {
	if o.Windows == 0 {
		return
	}
	weight := max(memoryOfRates, float64(o.Windows)/float64(o.Windows+h.Windows))
	off := o.Mean - h.Mean
	h.Variance = (1-weight)*h.Variance + weight*o.Variance + weight*(1-weight)*off*off
	h.Mean += weight * off
	h.Windows = min(h.Windows+o.Windows, 1<<20)
}

// rate is one class of events of one session.
type rate struct {
	habit
	// window is the number of the window that goes on, count how many it has; own how many windows this session had.
	window int64
	count  int
	own    int
	// sum is what was too much in the windows before (CUSUM), in standard deviations.
	sum float64
}

// usual is what the session teaches: nothing unless it had a few windows.
func (r *rate) usual() habit {
	if r.own < 3 {
		return habit{}
	}
	return r.habit
}

// burst reports that a session suddenly, or more and more, does something much more often than it uses to.
type burst struct {
	remembering

	window   time.Duration
	warmup   int
	base     *Baselines
	findings *memory.Memory[repeats]
}

func newBurst(cfg *Config, base *Baselines) *burst {
	d := &burst{
		remembering: remembering{rule: event.Rule{
			ID: ruleBurst, UUID: "6a3c1b52-8f2c-4a1d-9b7e-2f4d1c8e5a71", Version: "1",
			Title:      "A session does far more of something than it uses to",
			Severity:   event.SeverityLow,
			Confidence: event.ConfidenceLow,
			Attack:     []string{"T1499", "T1046", "T1486"}, ASI: []string{"ASI08"},
			Kinds: []event.Kind{
				event.KindProcessExec, event.KindNetworkConnect, event.KindDNSQuery, event.KindFileOpen, event.KindFileCreate,
				event.KindFileRename, event.KindFileDelete, event.KindFileTruncate, event.KindSessionEnd, event.KindSandboxStop,
			},
			MemoryBound: "per sandbox max_entries findings, at most 256 bytes each, and 64 sessions, at most 8 KiB each; " +
				"max_sandboxes sandboxes; least recently used first; all go with their session, but 64 working directories and 64 " +
				"open findings, which go with the sandbox",
			FalsePositives: "never before twelve windows with events, or five sessions of the agent in the project; never below 20 " +
				"programs, 10 connections, 50 changes of files or 10 DNS questions a second; twelve times the usual at once, or less " +
				"for longer; low alone; learns nothing of a session with an open finding",
			Next: []string{
				"Read the process chain: a package manager, a compiler or a test suite explains itself.",
				"Look at how many different destinations or directories there are: one is an upload, thousands are a scan.",
			},
			Runbook: "docs/detectors/burst.md",
		}},
		window: cfg.Baselines.Window, warmup: cfg.Baselines.Warmup, base: base,
		findings: memory.New[repeats](cfg.MaxSandboxes, cfg.MaxEntries),
	}
	d.memories = []memories{d.findings, base.sessions, base.tops, base.open}
	return d
}

// Detect implements Detector.
func (d *burst) Detect(e *event.Event, report func(*event.Finding)) {
	if e.Sandbox == nil {
		return
	}
	d.base.see(e)
	class, ok := classOf(e.Payload)
	if !ok {
		return
	}
	r := &d.base.session(e).rates[class]
	if now := e.Time.UnixNano() / int64(d.window); now > r.window {
		d.turn(e, r, now)
	}
	r.count++
	if float64(r.count) < class.floor()*d.window.Seconds() || r.Windows < d.warmup {
		return
	}
	off := (math.Log1p(float64(r.count)) - r.Mean) / r.spread()
	if r.sum+off-slack > alarm {
		d.report(e, r, class, report)
	}
}

// turn ends a window, and those that nothing happened in.
func (d *burst) turn(e *event.Event, r *rate, now int64) {
	if r.count > 0 {
		if r.Windows >= d.warmup && float64(r.count) >= 1 {
			off := (math.Log1p(float64(r.count)) - r.Mean) / r.spread()
			r.sum = min(alarm, max(0, r.sum+off-slack))
		}
		if !d.base.frozen(e) {
			r.teach(r.count)
			r.own++
		}
		r.sum = max(0, r.sum-slack*float64(now-r.window-1))
	}
	r.window, r.count = now, 0
}

func classOf(payload event.Payload) (rateClass, bool) {
	switch p := payload.(type) {
	case *event.ProcessExec:
		return rateExec, true
	case *event.NetworkConnect:
		return rateConnect, true
	case *event.DNSQuery:
		return rateDNS, true
	case *event.FileOpen:
		return rateWrite, p.Access&event.AccessWrite != 0
	case *event.FileChange:
		return rateWrite, p.Error == 0
	}
	return 0, false
}

func (d *burst) report(e *event.Event, r *rate, class rateClass, report func(*event.Finding)) {
	session, _ := turn(e.Process)
	key := d.findings.Key(uint64(class), session)
	seen := recall(d.findings, e, key)
	// Once a window is enough: the rest of it is the same.
	if seen.id != "" && e.Time.Sub(seen.reported) < d.window || !seen.seen(&d.rule, e) {
		return
	}
	usual := max(1, int(math.Round(math.Expm1(r.Mean))))
	title := strconv.Itoa(r.count) + " " + class.what() + " within " + d.window.String() + ", where about " + strconv.Itoa(usual) + " are usual"
	report(&event.Finding{
		ID: seen.id, Rule: &d.rule, State: seen.state(), Count: seen.count, Title: title,
		Explanation: new(explanation).say("The session has ", title, ". That is compared with ", strconv.Itoa(r.Windows),
			" windows before. The last that did it was ", program(e.Process), ".").
			who(e.Process).repeated(seen.count).String(),
		Objects:  []string{class.name()},
		Evidence: []string{e.UID()},
	})
}
