// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/watchglass/watchglass/detectors/internal/memory"
	"github.com/watchglass/watchglass/event"
)

// Oversight stands between the detectors and who reports what they find: profiles say what of it counts, and how
// much; the baselines learn of it that a session is not to be learned from. It belongs to the goroutine of the
// detectors; only Use and Suppressed may be called from others.
type Oversight struct {
	base     *Baselines
	profiles atomic.Pointer[Profiles]
	// event and report are those of the call that goes on; pass is the method, made once.
	event      *event.Event
	report     func(*event.Finding)
	pass       func(*event.Finding)
	suppressed atomic.Uint64
	// spent is how much each rule told of a sandbox lately.
	spent *memory.Memory[spending]
}

// A sandbox can make findings without end: a million names for one secret are a million findings. Of each rule so
// many new ones and updates of a sandbox are told in a while; all others are one, which says how many they are.
const (
	mostFindings  = 256
	mostUpdates   = 1024
	findingsWhile = 10 * time.Minute
	// mostRulesSpent is for how many rules that is remembered, of each sandbox.
	mostRulesSpent = 512
)

type spending struct {
	began                time.Time
	told, updates, ended int
	// rest is the finding that stands for all others.
	rest repeats
}

// Looker is what Show needs of a detector.
type Looker interface {
	Detect(e *event.Event, report func(*event.Finding))
}

// Ticker is what Tick needs of one.
type Ticker interface {
	Tick(now time.Time, report func(cause *event.Event, f *event.Finding))
}

// NewOversight makes one, of the baselines that the detectors were made with.
func NewOversight(base *Baselines, profiles *Profiles) *Oversight {
	o := &Oversight{base: base, spent: memory.New[spending](base.maxSandboxes, mostRulesSpent)}
	o.pass = o.found
	o.profiles.Store(profiles)
	return o
}

// Use puts other profiles in force, from the next finding on.
func (o *Oversight) Use(profiles *Profiles) { o.profiles.Store(profiles) }

// Suppressed is how many findings profiles did not let pass.
func (o *Oversight) Suppressed() uint64 { return o.suppressed.Load() }

// Show shows an event to a detector; what it finds and counts is reported.
func (o *Oversight) Show(d Looker, e *event.Event, report func(*event.Finding)) {
	o.base.see(e)
	o.event, o.report = e, report
	d.Detect(e, o.pass)
	o.event, o.report = nil, nil
}

func (o *Oversight) found(f *event.Finding) {
	if o.event != nil && o.judge(o.event, f) {
		o.report(f)
	}
}

// Tick lets a detector find what time makes it find.
func (o *Oversight) Tick(d Ticker, now time.Time, report func(*event.Event, *event.Finding)) {
	d.Tick(now, func(cause *event.Event, f *event.Finding) {
		if o.judge(cause, f) {
			report(cause, f)
		}
	})
}

// judge says whether a finding counts, and gives it its severity.
func (o *Oversight) judge(e *event.Event, f *event.Finding) bool {
	if p := o.profiles.Load(); p != nil && !p.empty() {
		if !p.judge(o.base.profile(e), e, f) {
			o.suppressed.Add(1)
			return false
		}
	}
	o.base.Found(e, f)
	return o.affordable(e, f)
}

// affordable says whether a finding is told, perhaps as one that stands for many.
func (o *Oversight) affordable(e *event.Event, f *event.Finding) bool {
	if e.Sandbox == nil {
		return true
	}
	key := o.spent.Key(0, f.Rule.ID)
	s := o.spent.Get(e.Sandbox.ID, key)
	if s == nil {
		s = o.spent.Put(e.Sandbox.ID, key, spending{began: e.Time})
	}
	if e.Time.Sub(s.began) > findingsWhile {
		s.began, s.told, s.updates, s.ended = e.Time, 0, 0, 0
	}
	if f.State == event.FindingResolved {
		s.ended++ // what many new ones are one of cannot be over
		return s.ended <= mostFindings
	}
	if f.State == event.FindingUpdate {
		if s.updates++; s.updates <= mostUpdates {
			return true
		}
	} else if s.told++; s.told <= mostFindings {
		return true
	}
	if !s.rest.seen(f.Rule, e) {
		return false
	}
	f.ID, f.Count, f.State = s.rest.id, s.rest.count, s.rest.state()
	more := strconv.Itoa(s.rest.count) + " more findings of " + f.Rule.ID + " are not told one by one"
	f.Explanation = "The sandbox makes so many findings of this rule that after " + strconv.Itoa(mostFindings) + " in " + findingsWhile.String() +
		" the rest is one: " + more + ". The last is: " + f.Title + ". " + f.Explanation
	f.Title = more + ", the last: " + f.Title
	return true
}

// Forget drops what is remembered of a sandbox.
func (o *Oversight) Forget(sandboxID string) { o.spent.Forget(sandboxID) }
