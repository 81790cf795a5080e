// SPDX-License-Identifier: Apache-2.0

package session

import (
	"time"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
)

// Config is the bounds of a Tracker; a zero field means its default.
type Config struct {
	// MaxSessions is how many sessions are remembered in all, the ended ones among them. At the limit one goes of
	// the sandbox that has most.
	MaxSessions int
	// MaxTurns and MaxCalls are how many turns and calls are remembered of one session. The oldest goes first.
	MaxTurns, MaxCalls int
	// MaxRoots is how many processes that agents started are remembered in all, with what they and their
	// descendants did. The oldest of the sandbox that has most goes first.
	MaxRoots int
	// MaxObjects is how many processes, files and connections are remembered of each of them. What comes after
	// is in their totals only.
	MaxObjects int
	// MaxBytes is how much memory the texts of one sandbox may take. Beyond it, no text is kept.
	MaxBytes int
	// Watermark is for how long a claim is waited for before its absence means something.
	Watermark time.Duration
}

// The defaults of Config.
const (
	defaultSessions  = 1024
	defaultTurns     = 256
	defaultCalls     = 1024
	defaultRoots     = 8192
	defaultObjects   = 128
	defaultBytes     = 4 << 20
	defaultWatermark = 15 * time.Second
)

func (c *Config) setDefaults() {
	for _, f := range []struct {
		value *int
		usual int
	}{
		{&c.MaxSessions, defaultSessions},
		{&c.MaxTurns, defaultTurns},
		{&c.MaxCalls, defaultCalls},
		{&c.MaxRoots, defaultRoots},
		{&c.MaxObjects, defaultObjects},
		{&c.MaxBytes, defaultBytes},
	} {
		if *f.value == 0 {
			*f.value = f.usual
		}
	}
	if c.Watermark == 0 {
		c.Watermark = defaultWatermark
	}
}

// Tracker knows all sessions. Its methods must be called by one goroutine at a time.
type Tracker struct {
	cfg      Config
	adapters map[string]agent.Adapter
	joiner   *agent.Joiner
	places   map[*event.Sandbox]*place
	hosts    map[event.ProcessID]*host
	roots    map[event.ProcessID]*root
	// all is every session that is remembered, the first that began first.
	all []*session
	// owners is which session an id belongs to, over all sandboxes.
	owners map[string]*session
	out    []*event.Event
	counts counts
}

// counts is the account of the Tracker.
type counts struct{ sessions, turns, calls, roots, objects, ignored uint64 }

// place is one sandbox.
type place struct {
	sandbox *event.Sandbox
	// byID is its sessions by each of their ids.
	byID  map[string]*session
	hosts []*host
	roots []*root // the first that began first
	bytes int
	// ends is the local ends of the last connections, to find who a proxy speaks of.
	ends []localEnd
	// asked is what processes asked proxies for lately.
	asked []asked
	live  int // sessions
	told  map[string]bool
}

// New makes a Tracker that knows nothing yet.
func New(cfg Config) *Tracker {
	cfg.setDefaults()
	t := &Tracker{
		cfg: cfg, adapters: map[string]agent.Adapter{}, joiner: agent.NewJoiner(), places: map[*event.Sandbox]*place{},
		hosts: map[event.ProcessID]*host{}, roots: map[event.ProcessID]*root{}, owners: map[string]*session{},
	}
	for _, a := range agent.Adapters() {
		t.adapters[a.Name] = a
	}
	return t
}

// Take is the events that followed from what was told since the last call. They are the caller's to publish.
func (t *Tracker) Take() []*event.Event {
	if len(t.out) == 0 {
		return nil
	}
	out := t.out
	t.out = nil
	return out
}

// Stats is what is remembered now and what had to be forgotten.
func (t *Tracker) Stats() event.SessionStats {
	live := 0
	for _, p := range t.places {
		live += p.live
	}
	return event.SessionStats{
		Live: live, Remembered: len(t.all), Roots: len(t.roots), ClaimsIgnored: t.counts.ignored,
		SessionsEvicted: t.counts.sessions, TurnsEvicted: t.counts.turns, CallsEvicted: t.counts.calls,
		ProcessesEvicted: t.counts.roots, ObjectsOmitted: t.counts.objects,
	}
}

func (t *Tracker) place(s *event.Sandbox) *place {
	p := t.places[s]
	if p == nil {
		p = &place{sandbox: s, byID: map[string]*session{}, told: map[string]bool{}}
		t.places[s] = p
	}
	return p
}

func (t *Tracker) emit(e *event.Event) { t.out = append(t.out, e) }

// keep is a copy of a text that may stay, "" where the sandbox has no room left.
func (t *Tracker) keep(p *place, text string, limit int) string {
	if text == "" {
		return ""
	}
	if len(text) > limit {
		text = text[:limit]
	}
	if p.bytes+len(text) > t.cfg.MaxBytes {
		t.counts.objects++
		return ""
	}
	p.bytes += len(text)
	return clone(text)
}

// Tick does what time asks for: what was waited for and did not come, ends, forgetting.
func (t *Tracker) Tick(now time.Time) {
	for _, s := range t.all {
		if s.ended.IsZero() || now.Sub(s.ended) < 2*t.cfg.Watermark {
			t.settle(s, now, false)
		}
	}
	for _, p := range t.places {
		t.tickPlace(p, now)
	}
}

func (t *Tracker) tickPlace(p *place, now time.Time) {
	for _, h := range p.hosts {
		if h.sessions == nil && now.Sub(h.since) >= t.cfg.Watermark {
			t.factSession(h)
		}
		for _, s := range h.sessions {
			if now.Sub(s.started) >= t.cfg.Watermark {
				t.announce(s)
			}
		}
		if !h.exited.IsZero() && now.Sub(h.exited) >= endGrace {
			t.endHost(h)
		}
		h.forgetOpens(now.Add(-openAge))
	}
	kept := p.hosts[:0]
	for _, h := range p.hosts {
		if h.over && now.Sub(h.exited) >= t.cfg.Watermark {
			t.dropHost(h)
			continue
		}
		kept = append(kept, h)
	}
	clear(p.hosts[len(kept):])
	p.hosts = kept
	t.ageRoots(p, now)
}

// Forget ends the sessions of a sandbox that is gone, and drops its processes. The sessions can still be looked at.
func (t *Tracker) Forget(s *event.Sandbox, now time.Time) {
	p := t.places[s]
	if p == nil {
		return
	}
	for _, h := range p.hosts {
		if h.sessions == nil {
			t.announce(t.factSession(h))
		}
	}
	for _, s := range t.all {
		if s.place == p {
			t.settle(s, now, true)
			t.end(s, now, endSandboxGone)
			s.host = nil
		}
	}
	for _, h := range p.hosts {
		t.dropHost(h)
	}
	for _, r := range p.roots {
		delete(t.roots, r.uid)
	}
	p.hosts, p.roots = nil, nil
	delete(t.places, s)
}

// Finish settles everything, since nothing more will come.
func (t *Tracker) Finish(now time.Time) {
	for _, p := range t.places {
		for _, h := range p.hosts {
			if h.sessions == nil {
				t.announce(t.factSession(h))
			}
		}
	}
	for _, s := range t.all {
		t.settle(s, now, true)
		if s.host != nil && !s.host.exited.IsZero() {
			t.end(s, s.host.exited, endExit)
		}
	}
}
