// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"sync/atomic"
	"time"

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
	o := &Oversight{base: base}
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
	return true
}
