// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/watchglass/watchglass/detectors/internal/memory"
	"github.com/watchglass/watchglass/event"
)

// BaselinesConfig is what users write about what is usual.
type BaselinesConfig struct {
	// Path is the file that keeps what was learned, "" the one that the caller would choose. It is the caller's to read and write.
	Path string `yaml:"path"`
	// MinSessions is how many sessions of an agent in a project must have ended before anything is new to it.
	MinSessions int `yaml:"min_sessions"`
	// MaxProfiles is how many pairs of agent and project are remembered. The one used longest ago is forgotten first.
	MaxProfiles int `yaml:"max_profiles"`
	// Window is over what rates are measured, Warmup how many windows with events a session needs before a rate can
	// be unusual to it.
	Window time.Duration `yaml:"window"`
	Warmup int           `yaml:"warmup"`
}

func defaultBaselines() BaselinesConfig {
	return BaselinesConfig{MinSessions: 5, MaxProfiles: 128, Window: 10 * time.Second, Warmup: 12}
}

// The limits of the configuration of baselines.
const (
	mostMinSessions = 1000
	mostProfiles    = 1024
	mostWarmup      = 1000
	longestWindow   = 10 * time.Minute
)

func (c *BaselinesConfig) validate() error {
	switch {
	case c.MinSessions < 1 || c.MinSessions > mostMinSessions:
		return fmt.Errorf("detectors.baselines.min_sessions: %d is not between 1 and %d", c.MinSessions, mostMinSessions)
	case c.MaxProfiles < 1 || c.MaxProfiles > mostProfiles:
		return fmt.Errorf("detectors.baselines.max_profiles: %d is not between 1 and %d", c.MaxProfiles, mostProfiles)
	case c.Window < time.Second || c.Window > longestWindow:
		return fmt.Errorf("detectors.baselines.window: %s is not between 1s and %s", c.Window, longestWindow)
	case c.Warmup < 1 || c.Warmup > mostWarmup:
		return fmt.Errorf("detectors.baselines.warmup: %d is not between 1 and %d", c.Warmup, mostWarmup)
	case c.Path != "" && !filepath.IsAbs(c.Path):
		return fmt.Errorf("detectors.baselines.path: %q is not an absolute path", c.Path)
	}
	return nil
}

// The bounds of what is remembered of one sandbox, besides those of the configuration.
const (
	// mostSessions is how many of its sessions, and of its processes that nobody in it started.
	mostSessions = 64
	// mostStaged is how many binaries, and how many sites, of one session wait for its end.
	mostStaged = 256
	// mostOpen is how many findings are known to be open in it. With more, all of its sessions count as having one.
	mostOpen = 64
	// longestProject is what is kept of a path of a workspace folder, in bytes.
	longestProject = 1024
)

// Baselines is what the statistical detectors share: who works where, what is usual there, and whether there is a
// reason not to learn from a session. It belongs to the goroutine of the detectors; what it learned may be read and
// written as a file by another one.
type Baselines struct {
	cfg          BaselinesConfig
	maxSandboxes int
	// sessions is by session, in the sense of turn; tops is the working directory of the first program of each process
	// that nobody in the sandbox started, by its uid; open is what is open in a sandbox, under the key 0.
	sessions *memory.Memory[*observed]
	tops     *memory.Memory[string]
	open     *memory.Memory[*openFindings]
	// seen is the event that was looked at last: several detectors show the same.
	seen *event.Event
	// voted is the event on which a statistical detector found something last.
	voted *event.Event

	mu      sync.Mutex
	learned learned
}

// profileID says whose habits are learned: an agent's in a workspace folder. Either is "" when it is not known.
type profileID struct{ agent, project string }

// observed is what is known of one session while it lasts.
type observed struct {
	profile profileID
	// key is that of the session; named says that the agent gave it an id.
	key   uint64
	named bool
	execs int
	rates [rateClasses]rate
	// binaries and sites is what it used, by their hashes, to be learned at its end.
	binaries, sites []uint64
	// votes is what each statistical detector found last.
	votes [statistical]vote
	// news is how many findings first-seen made of it.
	news int
}

// openFindings is the findings that are open in a sandbox, by the session that they are about; 0 is about nobody's.
type openFindings struct {
	list []openFinding
	// all says that there were too many to know of which sessions.
	all bool
}

type openFinding struct {
	session, finding uint64
	// grave says that it is of high severity at least: then nothing in the sandbox is learned from, since which
	// session a process is of may be its own word.
	grave bool
}

// NewBaselines makes baselines that have learned nothing. cfg must be valid.
func NewBaselines(cfg *Config) *Baselines {
	return &Baselines{
		cfg: cfg.Baselines, maxSandboxes: cfg.MaxSandboxes,
		sessions: memory.New[*observed](cfg.MaxSandboxes, mostSessions),
		tops:     memory.New[string](cfg.MaxSandboxes, mostSessions),
		open:     memory.New[*openFindings](cfg.MaxSandboxes, 1),
		learned:  newLearned(cfg.Baselines.MaxProfiles),
	}
}

// see takes from an event what all statistical detectors need. It may be called with the same event several times.
func (b *Baselines) see(e *event.Event) {
	if e == b.seen || e.Sandbox == nil {
		return
	}
	b.seen = e
	switch p := e.Payload.(type) {
	case *event.ProcessExec:
		b.placed(e, p)
		b.session(e).execs++
	case *event.SessionEnd:
		session := p.Session
		if session == "" {
			session = p.Conversation
		}
		if key := b.sessions.Key(0, session); session != "" {
			if o := b.sessions.Get(e.Sandbox.ID, key); o != nil {
				b.learn(e, *o)
				b.sessions.Drop(e.Sandbox.ID, key)
			}
			b.close(e.Sandbox.ID, key)
		}
	case *event.SandboxStop:
		b.sessions.Each(e.Sandbox.ID, func(o **observed) { b.learn(e, *o) })
		b.forget(e.Sandbox.ID)
	}
}

// placed remembers where a process that nobody in the sandbox started runs its first program: it is the workspace
// folder, which who started the agent chose and nothing inside can choose.
func (b *Baselines) placed(e *event.Event, x *event.ProcessExec) {
	if e.Process == nil || e.Process.Parent != nil || x.WorkingDirectory == "" {
		return
	}
	key := uint64(e.Process.UID)
	if b.tops.Get(e.Sandbox.ID, key) == nil {
		b.tops.Put(e.Sandbox.ID, key, cut(x.WorkingDirectory, longestProject))
	}
}

// project is the workspace folder of a process, "" when it is not known.
func (b *Baselines) project(e *event.Event) string {
	p := e.Process
	for furthest := 256; p != nil && p.Parent != nil && furthest > 0; furthest-- {
		p = p.Parent
	}
	if p == nil {
		return ""
	}
	if dir := b.tops.Get(e.Sandbox.ID, uint64(p.UID)); dir != nil {
		return *dir
	}
	return ""
}

// profile is whose habits an event belongs to.
func (b *Baselines) profile(e *event.Event) profileID {
	if e.Sandbox == nil {
		return profileID{}
	}
	id := profileID{project: b.project(e)}
	if e.Process != nil && e.Process.Agent != nil {
		id.agent = cut(e.Process.Agent.Name, longestName)
	}
	return id
}

// session is what is known of the session of an event, which has a sandbox.
func (b *Baselines) session(e *event.Event) *observed {
	session, _ := turn(e.Process)
	key := b.sessions.Key(0, session)
	if o := b.sessions.Get(e.Sandbox.ID, key); o != nil {
		return *o
	}
	o := &observed{profile: b.profile(e), key: key, named: session != ""}
	b.start(o)
	b.sessions.Put(e.Sandbox.ID, key, o)
	b.sessions.Own(e.Sandbox.ID, key, b.sessions.Session(session))
	return o
}

// Found takes a finding that was reported: from medium severity on nothing is learned of its session while it is
// open, which is until it is resolved or the session ends. An attacker must not teach what is usual.
func (b *Baselines) Found(e *event.Event, f *event.Finding) {
	if e.Sandbox == nil {
		return
	}
	if s := statisticalOf(f.Rule); s < statistical && f.State != event.FindingResolved {
		v := vote{by: s, at: e.Time, id: f.ID, title: cut(f.Title, longestCommand), evidence: e.UID()}
		if len(f.Objects) > 0 {
			v.object = cut(f.Objects[0], longestCommand)
		}
		b.session(e).votes[s] = v
		b.voted = e
	}
	if f.Severity() < event.SeverityMedium {
		return
	}
	mine := b.session(e)
	entry := openFinding{session: mine.key, finding: b.sessions.Key(1, f.ID), grave: f.Severity() >= event.SeverityHigh}
	if !mine.named {
		entry.session = 0
	}
	var open *openFindings
	if known := b.open.Get(e.Sandbox.ID, 0); known != nil {
		open = *known
	} else {
		open = &openFindings{}
		b.open.Put(e.Sandbox.ID, 0, open)
	}
	at := slices.IndexFunc(open.list, func(o openFinding) bool { return o.session == entry.session && o.finding == entry.finding })
	switch {
	case f.State == event.FindingResolved && at >= 0:
		open.list = slices.Delete(open.list, at, at+1)
		return
	case f.State == event.FindingResolved, at >= 0:
		return
	case len(open.list) == mostOpen:
		open.all = true
	default:
		open.list = append(open.list, entry)
	}
	// What led to it may be part of it.
	b.sessions.Each(e.Sandbox.ID, func(o **observed) {
		if !mine.named || *o == mine || !(*o).named || open.all || entry.grave {
			(*o).binaries, (*o).sites = nil, nil
		}
	})
}

// frozen says that there is a reason not to learn from the session of an event.
func (b *Baselines) frozen(e *event.Event) bool {
	session, _ := turn(e.Process)
	return b.frozenKey(e.Sandbox.ID, session != "", b.sessions.Key(0, session))
}

// frozenKey is frozen for a session by its key. What cannot be given to a session could be any's: then what is open
// on one keeps it from being learned, and what is open on it keeps all others.
func (b *Baselines) frozenKey(sandbox string, named bool, key uint64) bool {
	known := b.open.Get(sandbox, 0)
	if known == nil || len((*known).list) == 0 {
		return false
	}
	if (*known).all || !named {
		return true
	}
	return slices.ContainsFunc((*known).list, func(f openFinding) bool { return f.grave || f.session == 0 || f.session == key })
}

// close ends what is open on a session that is over.
func (b *Baselines) close(sandbox string, key uint64) {
	if known := b.open.Get(sandbox, 0); known != nil && !(*known).all {
		(*known).list = slices.DeleteFunc((*known).list, func(f openFinding) bool { return f.session == key })
	}
}

// learn takes what a session that is over did into the profile of its agent and project.
func (b *Baselines) learn(e *event.Event, o *observed) {
	if o.execs == 0 || b.frozenKey(e.Sandbox.ID, o.named, o.key) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l := lesson{profile: o.profile, sandbox: e.Sandbox.ID, at: e.Time, binaries: o.binaries, sites: o.sites}
	for c := range o.rates {
		l.rates[c] = o.rates[c].usual()
	}
	b.learned.take(&l)
}

// start begins a session with what is usual where it works.
func (b *Baselines) start(o *observed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.learned.profiles[o.profile]
	if p == nil || p.sessions < b.cfg.MinSessions {
		return
	}
	for c := range o.rates {
		if p.rates[c].Windows >= b.cfg.Warmup {
			o.rates[c].habit = p.rates[c]
		}
	}
}

// endSession drops what is still remembered of a session: of what it left behind there were events, and there may have
// been findings, after its end.
func (b *Baselines) endSession(sandbox, session string) {
	if session != "" {
		b.sessions.EndSession(sandbox, session)
		b.close(sandbox, b.sessions.Key(0, session))
	}
}

// forget drops everything of a sandbox but what was learned of it.
func (b *Baselines) forget(sandbox string) {
	b.sessions.Forget(sandbox)
	b.tops.Forget(sandbox)
	b.open.Forget(sandbox)
}

// The detectors that only score.
const (
	statisticalBurst = iota
	statisticalFirstSeen
	statisticalBeaconing
	// statistical is how many there are.
	statistical
)

// statisticalOf is which of the statistical detectors a rule is; statistical for none.
func statisticalOf(r *event.Rule) int {
	switch r.ID {
	case ruleBurst:
		return statisticalBurst
	case ruleFirstSeen:
		return statisticalFirstSeen
	case ruleBeaconing:
		return statisticalBeaconing
	}
	return statistical
}

// vote is what a statistical detector found in a session.
type vote struct {
	by                  int
	at                  time.Time
	id, title, evidence string
	object              string
}

// site is what counts as one destination of a name: the domain that somebody registered, as far as that can be told
// without a list of all public suffixes. "" is for names that say nothing of a destination.
func site(name string) string {
	name = strings.TrimSuffix(name, ".")
	last := strings.LastIndexByte(name, '.')
	if last <= 0 || strings.HasSuffix(name, ".arpa") || strings.HasSuffix(name, ".local") || strings.HasSuffix(name, ".internal") {
		return ""
	}
	if sharedSite(name) {
		return name
	}
	labels := 2
	if len(name)-last-1 == 2 { // co.uk and its like: a short label before a country's
		if before := strings.LastIndexByte(name[:last], '.'); before > 0 && last-before-1 <= 3 {
			labels = 3
		}
	}
	at := len(name)
	for range labels {
		if at = strings.LastIndexByte(name[:at], '.'); at < 0 {
			return name
		}
	}
	return name[at+1:]
}

// sharedSite says that below the registered domain everybody can have a name of their own.
func sharedSite(name string) bool {
	for _, shared := range [...]string{
		".github.io", ".gitlab.io", ".amazonaws.com", ".cloudfront.net", ".azurewebsites.net", ".windows.net", ".herokuapp.com",
		".vercel.app", ".netlify.app", ".pages.dev", ".workers.dev", ".ngrok.io", ".ngrok.app", ".ngrok-free.app",
		".trycloudflare.com", ".web.app", ".firebaseapp.com", ".run.app", ".fly.dev", ".onrender.com", ".duckdns.org",
	} {
		if strings.HasSuffix(name, shared) {
			return true
		}
	}
	return false
}
