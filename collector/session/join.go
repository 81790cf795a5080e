// SPDX-License-Identifier: Apache-2.0

package session

import (
	"slices"
	"strings"
	"time"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
)

// attach joins a process to a call.
func (t *Tracker) attach(c *call, r *root, l link) {
	if r.call != nil || len(c.roots) >= maxCallRoots {
		return
	}
	if (r.doubt || c.doubt) && l.confidence == agent.ConfidenceStrong && l.method != agent.MethodGroup {
		l.confidence = agent.ConfidenceInferred // what is left over from a guess is a guess
	}
	if c.idDoubt && l.method != agent.MethodEnv { // an environment names the id itself
		l.confidence = agent.ConfidenceInferred
	}
	r.call, r.method, r.confidence = c, l.method, l.confidence
	if r.session == nil || r.session.made {
		r.session = c.session
	}
	c.roots = append(c.roots, r)
	if c.method == "" || rank(l.confidence) > rank(c.confidence) {
		c.method, c.confidence = l.method, l.confidence
	}
	c.dirty = true
	r.tool = true
	if r.host != nil {
		r.host.waiting = slices.DeleteFunc(r.host.waiting, func(o *root) bool { return o == r })
	}
	r.appoint()
}

func rank(confidence string) int {
	return slices.Index([]string{agent.ConfidenceInferred, agent.ConfidenceStrong, agent.ConfidenceExact}, confidence)
}

// expected joins a new process to a call that the agent announced before: a hook, or a decision.
func (t *Tracker) expected(r *root) {
	var fits []*call
	for _, s := range r.host.sessions {
		if r.session != nil && s != r.session {
			continue
		}
		for _, c := range slices.Backward(s.calls) {
			if r.began.Sub(c.opened) > maxBatch {
				break
			}
			if c.announced && c.method == "" && !c.finished && c.denied.IsZero() && c.runs(r) &&
				!r.began.Before(c.start.Add(-slackStart)) {
				fits = append(fits, c)
			}
		}
	}
	// Of several calls with the same command the agent may still tell which is which, when they end.
	if len(fits) != 1 {
		return
	}
	c := fits[0]
	l := link{agent.MethodCommand, agent.ConfidenceStrong}
	if c.hook {
		l.method = agent.MethodHook
	}
	if !r.tool {
		l.confidence, c.doubt = agent.ConfidenceInferred, true
	}
	t.attach(c, r, l)
}

// runs says whether a process was given the command line that the agent claims.
func (c *call) runs(r *root) bool {
	return slices.ContainsFunc(r.commands, func(given command) bool { return given.same(c.command) })
}

// guess joins a call that was announced, and of whose end nothing is heard, to the first process that fits: of several
// calls with the same command, the one that was announced first is the likeliest to have started it.
func (t *Tracker) guess(c *call) {
	h := c.session.host
	if h == nil || !c.announced || c.finished || !c.denied.IsZero() || c.command.text == "" {
		return
	}
	var fits []*root
	for _, r := range h.waiting {
		if t.eligible(c, r) && c.runs(r) && !r.began.Before(c.start.Add(-slackStart)) {
			fits = append(fits, r)
		}
	}
	if len(fits) == 0 {
		return
	}
	l := link{agent.MethodCommand, agent.ConfidenceStrong}
	if c.hook {
		l.method = agent.MethodHook
	}
	if rivals := t.rivals(c, fits[0]); len(fits) > 1 || len(rivals) > 0 || !fits[0].tool {
		l.guess(fits, rivals)
	}
	t.attach(c, fits[0], l)
}

// find looks for the process of a call among those that wait. Early, when the claim has just come, only what leaves
// no choice is taken: the news of other processes' ends, and the claims of other calls of a batch, may be on their way.
func (t *Tracker) find(c *call, early bool) {
	if c.interactive {
		return
	}
	if c.mcp != "" {
		t.findServer(c, early)
		return
	}
	if !c.finished {
		return
	}
	h := c.session.host
	if h == nil {
		return
	}
	if c.group != 0 && t.findByGroup(c, h) {
		return
	}
	switch {
	case c.command.text != "":
		t.findByCommand(c, h, early)
	case t.runsCommands(c) && !early:
		t.findAlone(c, h)
	case t.runsCommands(c):
	case len(c.paths) > 0:
		t.findByPath(c, h)
	}
}

// findByGroup looks for the process that leads the group in which the agent says that it ran the command.
func (t *Tracker) findByGroup(c *call, h *host) bool {
	for _, r := range slices.Backward(h.waiting) {
		if (r.process.VPID == c.group || r.process.PID == c.group) && t.eligible(c, r) && c.covers(r, maxBatch) {
			t.attach(c, r, link{agent.MethodGroup, agent.ConfidenceStrong})
			return true
		}
	}
	return false
}

// findByCommand looks for a process that was given the claimed command.
func (t *Tracker) findByCommand(c *call, h *host, early bool) {
	var fits []*root
	for _, r := range h.waiting {
		if t.eligible(c, r) && c.runs(r) && c.covers(r, maxBatch) {
			fits = append(fits, r)
		}
	}
	if len(fits) == 0 || early && len(fits) > 1 {
		return
	}
	best, sure := nearest(c, fits)
	rivals := t.rivals(c, best)
	if early && len(rivals) > 0 {
		return
	}
	l := link{agent.MethodCommand, agent.ConfidenceStrong}
	if len(rivals) > 0 || !sure {
		l.guess(fits, rivals)
	}
	t.attach(c, best, l)
}

// eligible says whether a process can be of a call at all.
func (t *Tracker) eligible(c *call, r *root) bool {
	return r.session == nil || r.session == c.session || r.session.made
}

// covers says whether a process lived in the claimed time of a call, allowing for a clock that is read late by as
// much as lateness.
func (c *call) covers(r *root, lateness time.Duration) bool {
	if r.began.After(c.end.Add(slackEnd)) || r.began.Before(c.start.Add(-slackStart-lateness)) {
		return false
	}
	// A process that goes on is not of a call that is over, unless the agent does not say that it left it running.
	return c.running || c.patient || !r.exited.IsZero() && !r.exited.After(c.end.Add(slackEnd))
}

// nearest is the process whose life is nearest to the claimed time. It is sure when there is no other, or when the
// others are clearly not of that time.
func nearest(c *call, fits []*root) (best *root, sure bool) {
	if len(fits) == 1 {
		return fits[0], true
	}
	var in []*root
	for _, r := range fits {
		if c.covers(r, 0) {
			in = append(in, r)
		}
	}
	if len(in) == 1 {
		return in[0], true
	}
	if len(in) == 0 {
		in = fits
	}
	distance := func(r *root) time.Duration {
		d := r.began.Sub(c.start).Abs()
		if !r.exited.IsZero() && !c.running {
			d += r.exited.Sub(c.end).Abs()
		}
		return d
	}
	return slices.MinFunc(in, func(a, b *root) int { return int(distance(a) - distance(b)) }), false
}

// rivals is the other calls that wait for their process and whose the process could be too.
func (t *Tracker) rivals(c *call, r *root) []*call {
	var rivals []*call
	for _, other := range slices.Backward(c.session.calls) {
		if c.opened.Sub(other.opened) > maxBatch {
			break
		}
		if other == c || other.method != "" || !t.runsCommands(other) {
			continue
		}
		if other.command.text != "" && c.command.text != "" && !other.command.same(c.command) {
			continue
		}
		if other.finished && !other.covers(r, 0) || !other.finished && other.start.After(r.began.Add(slackStart)) {
			continue
		}
		rivals = append(rivals, other)
	}
	return rivals
}

// guess lowers a link that is the likeliest of several, and puts all that it was chosen from in doubt.
func (l *link) guess(fits []*root, rivals []*call) {
	l.confidence = agent.ConfidenceInferred
	for _, r := range fits {
		r.doubt = true
	}
	for _, c := range rivals {
		c.doubt = true
	}
}

// findAlone looks for the only process of the claimed time that a tool call can have started: the claim has no
// command line.
func (t *Tracker) findAlone(c *call, h *host) {
	var fits []*root
	for _, r := range h.waiting {
		if r.tool && t.eligible(c, r) && c.covers(r, 0) {
			fits = append(fits, r)
		}
	}
	if len(fits) == 0 {
		return
	}
	best, sure := nearest(c, fits)
	l := link{agent.MethodCandidate, agent.ConfidenceStrong}
	if rivals := t.rivals(c, best); len(rivals) > 0 || !sure {
		l.guess(fits, rivals)
	}
	t.attach(c, best, l)
}

// findByPath looks for what a tool that starts no process did to the files that it names.
func (t *Tracker) findByPath(c *call, h *host) {
	for _, o := range h.opens {
		if o.at.Before(c.start.Add(-slackStart)) || o.at.After(c.end.Add(slackEnd)) || len(c.files) >= maxCommands {
			continue
		}
		for _, path := range c.paths {
			if o.path != path && !strings.HasSuffix(o.path, "/"+strings.TrimPrefix(path, "./")) {
				continue
			}
			kind := fileRead
			if o.write {
				kind = fileWritten
			}
			c.touch(object{objectKey: objectKey{kind: kind, name: clone(o.path)}, first: o.at, last: o.at, n: 1})
			c.method, c.confidence = agent.MethodPath, agent.ConfidenceStrong
			if strings.HasPrefix(path, "/") && o.path != path {
				c.confidence = agent.ConfidenceInferred
			}
		}
	}
}

// touch adds a file to those of a call.
func (c *call) touch(o object) {
	for i := range c.files {
		if c.files[i].objectKey == o.objectKey {
			c.files[i].n++
			c.files[i].last = o.last
			return
		}
	}
	c.files = append(c.files, o)
}

// connectedFrom is the process whose connection has the local end that a proxy saw as its client's.
func (t *Tracker) connectedFrom(s *session, said *event.PolicyDecision, at time.Time) *root {
	if !said.Client.IsValid() {
		return nil
	}
	for _, e := range slices.Backward(s.place.ends) {
		if e.local == said.Client && within(e.at, at, maxKeptAlive) {
			return t.roots[e.root]
		}
	}
	return nil
}

// maxKeptAlive is how long after its connect a connection may still be the one that a proxy decides on.
const maxKeptAlive = 2 * time.Minute
