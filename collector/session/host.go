// SPDX-License-Identifier: Apache-2.0

package session

import (
	"slices"
	"strings"
	"time"

	"github.com/watchglass/watchglass/event"
)

const (
	// endGrace is for how long an agent's last words are waited for when its process has ended: they come
	// through another door than the news of its end.
	endGrace = 2 * time.Second
	// maxHosts bounds the agents of one sandbox, maxHostSessions the live sessions of one agent.
	maxHosts, maxHostSessions = 256, 256
	// maxWaiting bounds the processes of one agent that wait for the claim of their call.
	maxWaiting = 512
	// maxOpens is how many of an agent's own opens are remembered, openAge for how long.
	maxOpens = 128
	openAge  = 90 * time.Second
)

// host is an agent at work: its own processes, of which one may have started the next (a launcher, an
// interpreter), and the sessions that they serve.
type host struct {
	place *place
	agent string
	// uid and process are the last that started: the one that starts tools and speaks.
	uid     event.ProcessID
	process *event.Process
	// alive is the processes that have not ended.
	alive  []event.ProcessID
	uids   []event.ProcessID
	since  time.Time
	exited time.Time // when the last of them had
	over   bool
	// sessions is nil until one is known.
	sessions []*session
	// waiting is the processes that it started and that belong to no call yet.
	waiting []*root
	// servers is its tool servers, by their names.
	servers map[string]*root
	// findings is those about its own processes.
	findings []finding
	opens    []opened
	// privileges is what the agent's own program may do, nil when not known.
	privileges *event.Privileges
	// outer is the process of another agent's call in which this one runs, nil for none.
	outer *root
	// own is what the agent's own processes work for, nil while that is what the process tree says.
	own *event.Agent
}

// opened is one open of the agent's own.
type opened struct {
	path  string
	at    time.Time
	write bool
}

// only is the session that everything of the host belongs to, nil when there are several or none.
func (h *host) only() *session {
	var live *session
	for _, s := range h.sessions {
		if !s.ended.IsZero() {
			continue
		}
		if live != nil {
			return nil
		}
		live = s
	}
	return live
}

// hostOf is the agent that a process is of or under, nil when none is known.
func (t *Tracker) hostOf(p *event.Process) *host {
	if p == nil {
		return nil
	}
	if h := t.hosts[p.UID]; h != nil {
		return h
	}
	if r := t.roots[p.RootUID]; r != nil {
		return r.host
	}
	for q := p.Parent; q != nil; q = q.Parent {
		if h := t.hosts[q.UID]; h != nil {
			return h
		}
	}
	return nil
}

// join makes a process an agent's own: of its parent's, where that is the same agent, else of a new one.
func (t *Tracker) join(pl *place, p *event.Process, now time.Time) *host {
	if h := t.hosts[p.UID]; h != nil {
		h.process = p
		return h
	}
	h := t.hosts[p.ParentUID]
	if h == nil || h.agent != p.Agent.Name || len(h.uids) >= maxHostSessions {
		h = t.newHost(pl, p.Agent.Name, now)
	}
	t.own(h, p)
	return h
}

func (t *Tracker) newHost(pl *place, name string, now time.Time) *host {
	if len(pl.hosts) >= maxHosts {
		t.dropHost(pl.hosts[0])
		pl.hosts = slices.Delete(pl.hosts, 0, 1)
		t.counts.roots++
	}
	h := &host{place: pl, agent: name, since: now}
	pl.hosts = append(pl.hosts, h)
	return h
}

// own makes a process one of a host's own.
func (t *Tracker) own(h *host, p *event.Process) {
	h.uid, h.process = p.UID, p
	h.alive, h.uids = append(h.alive, p.UID), append(h.uids, p.UID)
	h.exited = time.Time{}
	t.hosts[p.UID] = h
}

func (t *Tracker) dropHost(h *host) {
	for _, uid := range h.uids {
		if t.hosts[uid] == h {
			delete(t.hosts, uid)
		}
	}
	for _, s := range h.sessions {
		if s.host == h {
			s.host = nil
		}
	}
	h.waiting = nil
}

// exitedHost notes the end of one of an agent's own processes.
func (t *Tracker) exitedHost(h *host, uid event.ProcessID, at time.Time) {
	if i := slices.Index(h.alive, uid); i >= 0 {
		h.alive = slices.Delete(h.alive, i, i+1)
	}
	if len(h.alive) == 0 && h.exited.IsZero() {
		h.exited = at
	}
}

// endHost ends what an agent leaves behind when its last process has ended.
func (t *Tracker) endHost(h *host) {
	if h.over {
		return
	}
	h.over = true
	if h.sessions == nil {
		t.announce(t.factSession(h))
	}
	for _, s := range h.sessions {
		if s.host == h {
			t.end(s, h.exited, endExit)
		}
	}
}

// opened remembers an open of an agent's own process: tools that start none are known by it.
func (h *host) open(f *event.FileOpen, at time.Time) {
	if f.Error != 0 || f.Class == event.FileClassSystem || f.Class == event.FileClassProc {
		return
	}
	write := f.Access&(event.AccessWrite|event.AccessCreate|event.AccessTruncate|event.AccessAppend) != 0
	if len(h.opens) == maxOpens {
		copy(h.opens, h.opens[1:])
		h.opens = h.opens[:maxOpens-1]
	}
	// The path is the event's, which lives as long as its readers: at most maxOpens of them are held.
	h.opens = append(h.opens, opened{path: f.Path, at: at, write: write})
}

func (h *host) forgetOpens(before time.Time) {
	n := 0
	for n < len(h.opens) && h.opens[n].at.Before(before) {
		n++
	}
	h.opens = slices.Delete(h.opens, 0, n)
}

func clone(s string) string { return strings.Clone(s) }
