// SPDX-License-Identifier: Apache-2.0

package session

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/watchglass/watchglass/collector/agent"
	"github.com/watchglass/watchglass/event"
)

const (
	// skewProxy is how far a proxy's clock, and the way of its news, may be off for a connection to be of a verdict.
	skewProxy = 2 * time.Second
	// maxVerdicts bounds the verdicts of one session that connections are compared with, maxAsked the requests to
	// proxies of one sandbox.
	maxVerdicts, maxAsked = 64, 64
	// maxReached bounds the connections of one session that verdicts are compared with.
	maxReached = 64
	// maxProxies bounds the proxies of one session.
	maxProxies = 8
	portDNS    = 53
)

// verdict is what an agent's proxy said of one destination.
type verdict struct {
	server string // a name in lower case, or an address
	port   uint16
	denied bool
	at     time.Time
}

// asked is what a process asked a proxy for, by the first bytes of its connection.
type asked struct {
	local netip.AddrPort
	name  string
	root  event.ProcessID
	at    time.Time
}

// reached is a connection that a tool's process made.
type reached struct {
	root event.ProcessID
	peer netip.AddrPort
	name string // "" when not known
	udp  bool
	at   time.Time // of its last connect
}

func (v *verdict) covers(c *reached) bool {
	if v.port != 0 && v.port != c.peer.Port() {
		return false
	}
	return c.name != "" && strings.EqualFold(strings.TrimSuffix(c.name, "."), v.server) ||
		v.server == c.peer.Addr().Unmap().String()
}

// ruled takes a verdict, and compares it with what was connected to before: its news comes later than the kernel's.
func (t *Tracker) ruled(s *session, said *event.PolicyDecision, at time.Time) {
	if said.Enforcement != enforcedByProxy || said.Server == "" || said.Decision == event.DecisionAsk {
		return
	}
	v := verdict{
		server: strings.ToLower(strings.TrimSuffix(t.keep(s.place, said.Server, maxName), ".")),
		port:   said.ServerPort, denied: said.Decision == event.DecisionDeny, at: at,
	}
	if v.server == "" {
		return // no room for it
	}
	if len(s.verdicts) >= maxVerdicts {
		s.place.bytes -= len(s.verdicts[0].server)
		s.verdicts = slices.Delete(s.verdicts, 0, 1)
		t.counts.objects++
	}
	s.verdicts = append(s.verdicts, v)
	if s.proxied.IsZero() {
		s.proxied = at
	}
	s.meet(said, at)
	t.otherServer(s, said, at)
	for i := range s.reached {
		if r := t.roots[s.reached[i].root]; r != nil {
			t.checkProxy(r, &s.reached[i])
		}
	}
}

// reach takes a connection of a root's process: to compare it with what the proxy said, and will say.
func (t *Tracker) reach(r *root, c reached) {
	s := r.session
	if s == nil || !r.tool || !proxied(&c) {
		return
	}
	c.root, c.name = r.uid, clone(cutID(c.name))
	i := slices.IndexFunc(s.reached, func(old reached) bool { return old.root == c.root && old.peer == c.peer && old.udp == c.udp })
	switch {
	case i >= 0:
		c.name = cmp.Or(c.name, s.reached[i].name)
		s.reached[i] = c
	case len(s.reached) >= maxReached:
		s.reached = append(slices.Delete(s.reached, 0, 1), c)
	default:
		s.reached = append(s.reached, c)
	}
	t.checkProxy(r, &c)
}

// proxied says whether a connection is of the kind that goes through a proxy where there is one.
func proxied(c *reached) bool {
	switch event.ScopeOf(c.peer.Addr()) {
	case event.ScopeLoopback, event.ScopeUnspecified, event.ScopeMulticast:
		return false
	case event.ScopePublic, event.ScopePrivate, event.ScopeLinkLocal, event.ScopeMetadata:
	}
	return c.peer.Port() != portDNS && c.peer.Port() != 0
}

// meet learns where a session's proxy is: at the other end of the connection that it speaks of.
func (s *session) meet(said *event.PolicyDecision, at time.Time) {
	for _, e := range slices.Backward(s.place.ends) {
		if e.local == said.Client && within(e.at, at, maxKeptAlive) {
			if !slices.Contains(s.proxies, e.peer) && len(s.proxies) < maxProxies {
				s.proxies = append(s.proxies, e.peer)
			}
			return
		}
	}
}

// enforcedByProxy is what the adapters say of a proxy's decisions.
const enforcedByProxy = "proxy"

// otherServer finds a verdict on another server than the one that the connection asks for. A connection that is kept
// alive may ask for one after the other: only CONNECT holds for all of it.
func (t *Tracker) otherServer(s *session, said *event.PolicyDecision, at time.Time) {
	if !said.Client.IsValid() {
		return
	}
	for _, a := range slices.Backward(s.place.asked) {
		if a.local != said.Client || !within(a.at, at, maxKeptAlive) {
			continue
		}
		if r := t.roots[a.root]; r != nil && !strings.EqualFold(a.name, said.Server) {
			t.disagreeProxy(r, &disagreement{
				kind: event.MismatchProxyElsewhere, destination: a.name,
				claimed: string(said.Decision) + " " + said.Server, fact: "it asked the proxy for " + a.name,
			})
		}
		return
	}
}

// request remembers what a process asks a proxy for, and learns the names of its connections.
func (t *Tracker) request(r *root, n *event.NetworkRequest, at time.Time) {
	if n.Name != "" && n.Source != "proxy" {
		t.reach(r, reached{peer: n.Peer, name: n.Name, udp: n.Transport == event.TransportUDP, at: at})
	}
	local := n.Local
	for _, e := range slices.Backward(r.place.ends) {
		if !local.IsValid() && e.root == r.uid && e.peer == n.Peer {
			local = e.local // the first bytes of a connection do not tell it
		}
	}
	if n.Source != "proxy" || n.Method != "CONNECT" || !local.IsValid() {
		return
	}
	name := t.keep(r.place, n.Name, maxName)
	if name == "" {
		return
	}
	p := r.place
	if len(p.asked) >= maxAsked {
		p.bytes -= len(p.asked[0].name)
		p.asked = slices.Delete(p.asked, 0, 1)
	}
	p.asked = append(p.asked, asked{local: local, name: name, root: r.uid, at: at})
}

// checkProxy compares a connection of a tool's process with what the session's proxy said.
func (t *Tracker) checkProxy(r *root, c *reached) {
	s := r.session
	if s == nil || len(s.verdicts) == 0 || r.excused() || slices.Contains(s.proxies, c.peer) {
		return
	}
	where := c.peer.String()
	if c.name != "" {
		where += " (" + cutText(c.name) + ")"
	}
	fact := cutText(r.process.Name) + "'s process connected to " + where
	var last *verdict
	for i := range s.verdicts {
		v := &s.verdicts[i]
		if !v.covers(c) || v.at.After(c.at.Add(skewProxy)) {
			continue
		}
		if !v.denied && within(v.at, c.at, skewProxy) {
			return // allowed about then, whatever else was said
		}
		last = v
	}
	switch {
	case last != nil && !last.denied: // it may go there, and a busy machine is slow: the proxy would say the same again
	case last != nil:
		t.disagreeProxy(r, &disagreement{
			kind: event.MismatchProxyDenied, destination: c.peer.String(),
			claimed: "deny " + last.server + ":" + strconv.Itoa(int(cmp.Or(last.port, c.peer.Port()))), fact: fact,
		})
	case !c.at.Before(s.proxied):
		t.disagreeProxy(r, &disagreement{
			kind: event.MismatchProxyBypassed, destination: c.peer.String(),
			claimed: "all connections go through the proxy", fact: fact,
		})
	}
}

// excused says whether a process may go around the proxy: somebody let it, or the agent tells that it left the sandbox.
func (r *root) excused() bool {
	if r.confidence != agent.ConfidenceExact && r.confidence != agent.ConfidenceStrong {
		return true
	}
	c := r.call
	return c != nil && (c.sandbox != "" || slices.ContainsFunc(c.approvals, func(a event.ApprovalView) bool {
		return a.State == event.ApprovalGranted && a.Decider != "config"
	}))
}

// disagreement is a proxy's word and the kernel's, of one destination: an address and port, or a name.
type disagreement struct {
	kind                       event.Mismatch
	claimed, fact, destination string
}

// disagreeProxy publishes, once for each session, word and destination, that a proxy's word and the kernel's differ.
// That the name of the destination is learned later is no other disagreement.
func (t *Tracker) disagreeProxy(r *root, d *disagreement) {
	s := r.session
	if s == nil {
		return
	}
	key := string(d.kind) + ":" + d.claimed + ":" + d.destination
	if s.told[key] || len(s.told) >= maxTold {
		return
	}
	s.told[key] = true
	m := t.mismatch(s, d.kind)
	m.Claimed, m.Fact, m.Method, m.Confidence = d.claimed, d.fact, r.method, r.confidence
	m.Roots = []event.ProcessID{r.uid}
	if c := r.call; c != nil {
		m.CallID, m.Tool = c.id, c.tool
		if c.turn != nil {
			m.Turn = c.turn.id
		}
	}
	t.emit(&event.Event{Time: r.latestOf(), Sandbox: r.place.sandbox, Process: r.now(), Payload: m})
}

// latestOf is when a root's processes were last heard of.
func (r *root) latestOf() time.Time {
	last := r.began
	if r.latest.After(last) {
		last = r.latest
	}
	for i := range r.objects {
		if r.objects[i].last.After(last) {
			last = r.objects[i].last
		}
	}
	return last
}
