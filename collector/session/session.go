// SPDX-License-Identifier: Apache-2.0

package session

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
)

// The reasons for which sessions end.
const (
	endExit        = "exit"
	endClaimed     = "claimed"
	endSandboxGone = "sandbox_gone"
	endEvicted     = "evicted"
)

// The most that is kept of a text.
const (
	maxID     = 128
	maxName   = 256
	maxPrompt = 1 << 10
	maxPath   = 512
)

// madeID begins the id of a session that its agent does not name: what follows is the identity of its process.
const madeID = "process:"

// minOwned is from which length on an id can belong to one sandbox alone: shorter ones meet by chance.
const minOwned = 16

// session is one conversation of an agent.
type session struct {
	place *place
	host  *host // nil when it is not known, or over
	// agent and version are the adapter's name and the agent's version; id and conversation its own ids, id made
	// up where it says none.
	agent, version, id, conversation, parent string
	made                                     bool // id is made up
	borrowed                                 bool // id is the conversation's
	provider, model, approvalMode, sandbox   string
	// proven is true when the kernel has seen the id at the agent, claimed when the agent has said something.
	proven, claimed, announced, hooks bool

	started, last, ended time.Time
	reason               string
	turns                []*turn
	calls                []*call // the first that began first
	byCall               map[string]*call
	bySpan               map[[8]byte]*call
	decisions            []event.DecisionView
	verdicts             []verdict // of its network proxy, the oldest first
	proxied              time.Time // when the first of them was
	proxies              []netip.AddrPort
	reached              []reached // of its tools, the oldest first
	errors               int
	turnCount, callCount int
	processes            int
	unclaimed            int // processes that came after the last claim
	told                 map[string]bool
	subs                 map[string]bool // the ids of its sub-agents; nil until it tells of one
}

// turn is what follows one prompt.
type turn struct {
	id            string
	started       time.Time
	ended         time.Time // as the agent says
	prompt        string
	length        int
	requests      int
	input, output int64
	cost          float64
}

// factSession is the session of an agent that says nothing.
func (t *Tracker) factSession(h *host) *session {
	return t.open(h.place, opening{agent: h.agent, host: h, at: h.since})
}

// opening is what a session begins with.
type opening struct {
	agent, id, conversation string
	host                    *host
	at                      time.Time
}

// open makes a session. One that nobody named gets an id of its own, from the agent's process.
func (t *Tracker) open(p *place, o opening) *session {
	s := &session{
		place: p, host: o.host, agent: o.agent, started: o.at, last: o.at,
		byCall: map[string]*call{}, bySpan: map[[8]byte]*call{}, told: map[string]bool{},
	}
	if o.id == "" && o.conversation == "" {
		s.made = true
		if o.host != nil {
			o.id = madeID + o.host.uid.String()
		}
	}
	if o.host != nil && o.host.outer != nil && o.host.outer.session != nil {
		s.parent = o.host.outer.session.id
	}
	t.makeRoom()
	t.all = append(t.all, s)
	p.live++
	t.name(s, o.id, o.conversation)
	if o.host != nil {
		t.serve(o.host, s)
	}
	return s
}

// name adds ids to a session.
func (t *Tracker) name(s *session, id, conversation string) {
	if id != "" && (s.id == "" || s.made || s.borrowed) {
		if s.made {
			delete(s.place.byID, s.id)
			s.made = strings.HasPrefix(id, madeID)
		}
		s.id, s.borrowed = clone(cutID(id)), false
	}
	if conversation != "" && (s.id == "" || s.made) {
		if s.made {
			delete(s.place.byID, s.id)
			s.made = false
		}
		s.id, s.borrowed = clone(cutID(conversation)), true
	}
	if conversation != "" && s.conversation == "" {
		s.conversation = clone(cutID(conversation))
	}
	for _, known := range []string{s.id, s.conversation} {
		if known == "" {
			continue
		}
		if s.place.byID[known] == nil {
			s.place.byID[known] = s
		}
		if o := t.owners[known]; len(known) >= minOwned && (o == nil || !o.ended.IsZero() || s.proven && !o.proven) {
			t.owners[known] = s
		}
	}
}

func cutID(id string) string {
	if len(id) > maxID {
		return id[:maxID]
	}
	return id
}

// serve makes a host serve a session.
func (t *Tracker) serve(h *host, s *session) {
	s.host = h
	if slices.Contains(h.sessions, s) {
		return
	}
	if len(h.sessions) >= maxHostSessions {
		h.sessions = slices.DeleteFunc(h.sessions, func(s *session) bool { return !s.ended.IsZero() })
		if len(h.sessions) >= maxHostSessions {
			h.sessions = slices.Delete(h.sessions, 0, 1)
		}
	}
	h.sessions = append(h.sessions, s)
	t.reappoint(h)
}

// reappoint tells the agent's processes what they work for after its sessions changed.
func (t *Tracker) reappoint(h *host) {
	only := h.only()
	h.own = nil
	if only != nil && !only.made {
		h.own = &event.Agent{
			Name: h.agent, SessionID: only.id, ConversationID: only.conversation,
			Method: agent.MethodExecutable, Confidence: agent.ConfidenceStrong,
		}
	}
	for _, r := range h.waiting {
		if r.session == nil || r.session.made {
			r.session = only
			r.appoint()
		}
	}
}

// makeRoom forgets a session where there are too many: of the sandbox that has most, an ended one first.
func (t *Tracker) makeRoom() {
	for len(t.all) >= t.cfg.MaxSessions {
		many := map[*place]int{}
		var most *place
		for _, s := range t.all {
			many[s.place]++
			if most == nil || many[s.place] > many[most] {
				most = s.place
			}
		}
		victim := -1
		for i, s := range t.all {
			if s.place != most {
				continue
			}
			if victim < 0 {
				victim = i
			}
			if !s.ended.IsZero() {
				victim = i
				break
			}
		}
		s := t.all[victim]
		t.end(s, s.last, endEvicted)
		t.drop(s)
		t.all = slices.Delete(t.all, victim, victim+1)
		t.counts.sessions++
	}
}

// drop lets go of everything that points at a session.
func (t *Tracker) drop(s *session) {
	for _, id := range []string{s.id, s.conversation} {
		if s.place.byID[id] == s {
			delete(s.place.byID, id)
		}
		if t.owners[id] == s {
			delete(t.owners, id)
		}
	}
	if s.host != nil {
		s.host.sessions = slices.DeleteFunc(s.host.sessions, func(o *session) bool { return o == s })
	}
	for _, r := range s.place.roots {
		if r.session == s {
			r.session, r.call = nil, nil
		}
	}
}

// announce publishes the start of a session of which the kernel alone tells.
func (t *Tracker) announce(s *session) {
	if s.announced || s.claimed {
		return
	}
	s.announced = true
	t.emit(&event.Event{
		Time: s.started, Sandbox: s.place.sandbox, Process: s.process(),
		Payload: &event.SessionStart{Claim: s.facts()},
	})
}

// end publishes the end of a session, once.
func (t *Tracker) end(s *session, at time.Time, reason string) {
	if !s.ended.IsZero() {
		return
	}
	t.settle(s, at, true)
	t.announce(s)
	if at.Before(s.started) {
		at = s.started
	}
	s.ended, s.reason = at, reason
	s.place.live--
	t.emit(&event.Event{
		Time: at, Sandbox: s.place.sandbox, Process: s.process(),
		Payload: &event.SessionEnd{
			Claim: s.facts(), Reason: reason, Duration: at.Sub(s.started),
			Turns: s.turnCount, ToolCalls: s.callCount, Processes: s.processes,
		},
	})
}

func (s *session) process() *event.Process {
	if s.host == nil {
		return nil
	}
	return s.host.process
}

// facts is a claim that nobody made: what the kernel tells of the session.
func (s *session) facts() event.Claim {
	return event.Claim{
		Agent: s.agent, Version: s.version, Session: s.id, Conversation: s.conversation, ParentSession: s.parent,
		Channel: event.ChannelFacts, TimeSource: event.TimeKernel, Sender: event.SenderOwner,
	}
}

// turn is the turn with an id; "" means the present one. A turn that nobody announced begins with what names it.
func (t *Tracker) turn(s *session, id string, at time.Time) *turn {
	if n := len(s.turns); n > 0 && id == "" {
		return s.turns[n-1]
	}
	for _, u := range slices.Backward(s.turns) {
		if u.id == id {
			return u
		}
		// Logs have no id where hooks have one.
		if u.id == "" && within(u.started, at, sameTurn) {
			u.id = clone(cutID(id))
			return u
		}
	}
	return t.begin(s, id, at)
}

// sameTurn is how far two accounts of the beginning of one turn may be apart.
const sameTurn = 3 * time.Second

func within(a, b time.Time, d time.Duration) bool { return b.Sub(a) <= d && a.Sub(b) <= d }

func (t *Tracker) begin(s *session, id string, at time.Time) *turn {
	if len(s.turns) >= t.cfg.MaxTurns {
		s.turns = slices.Delete(s.turns, 0, 1)
		t.counts.turns++
	}
	u := &turn{id: clone(cutID(id)), started: at}
	s.turns = append(s.turns, u)
	s.turnCount++
	return u
}

// prompted takes a prompt, which begins a turn. Two channels may tell of one.
func (t *Tracker) prompted(s *session, p *event.Prompt, at time.Time) {
	var u *turn
	if n := len(s.turns); n > 0 {
		last := s.turns[n-1]
		same := p.Turn != "" && last.id == p.Turn
		if same || (p.Turn == "" || last.id == "") && within(last.started, at, sameTurn) &&
			(last.length == 0 || last.length == p.Length) {
			u = last
		}
	}
	if u == nil {
		u = t.begin(s, p.Turn, at)
	}
	if u.id == "" {
		u.id = clone(cutID(p.Turn))
	}
	u.length = max(u.length, p.Length)
	if u.prompt == "" {
		u.prompt = t.keep(s.place, p.Text, maxPrompt)
	}
	for _, c := range s.calls {
		c.stale = c.stale || c.turn == u && c.method != ""
	}
}

func (t *Tracker) requested(s *session, m *event.ModelRequest, at time.Time) {
	u := t.turn(s, m.Turn, at)
	u.requests++
	u.input += m.Input
	u.output += m.Output
	u.cost += m.CostUSD
	if s.model == "" {
		s.model, s.provider = t.keep(s.place, m.Model, maxName), t.keep(s.place, m.Provider, maxName)
	}
}

func (t *Tracker) startClaimed(s *session, c *event.SessionStart) {
	for _, f := range []struct {
		field *string
		said  string
	}{
		{&s.provider, c.Provider}, {&s.model, c.Model}, {&s.approvalMode, c.ApprovalMode}, {&s.sandbox, c.Sandbox},
	} {
		if f.said != "" {
			*f.field = t.keep(s.place, f.said, maxName)
		}
	}
}
