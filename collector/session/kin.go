// SPDX-License-Identifier: Apache-2.0

package session

import "github.com/watchglass/watchglass/event"

const (
	// maxSubs bounds the sub-agents that a session is remembered to have told of.
	maxSubs = 64
	// maxDepth is how deep sub-agents are looked through before one becomes another's.
	maxDepth = 16
)

// kin learns which session is a sub-agent's of another. Codex's sub-agents have sessions of their own in its
// telemetry; its hooks tell their ids with the session that they work for. Either may come first. Both have to be of
// one agent.
func (s *session) kin(said *event.Claim) {
	if s.host == nil {
		return
	}
	// Shorter names are a role's, or meet by chance.
	if sub := cutID(said.SubAgent); len(sub) >= minOwned && sub != s.id && !s.subs[sub] && len(s.subs) < maxSubs {
		if s.subs == nil {
			s.subs = map[string]bool{}
		}
		s.subs[clone(sub)] = true
		if o := s.place.byID[sub]; o != nil && o.host == s.host {
			o.childOf(s)
		}
	}
	if s.parent != "" || s.made {
		return
	}
	for _, o := range s.host.sessions {
		if o.subs[s.id] {
			s.childOf(o)
		}
	}
}

// childOf makes a session another's sub-agent, unless it has a parent, or is the other's own.
func (s *session) childOf(o *session) {
	if s == o || s.parent != "" {
		return
	}
	above := o
	for range maxDepth {
		if above.parent == "" {
			s.parent = o.id
			return
		}
		if above.parent == s.id {
			return
		}
		if above = s.place.byID[above.parent]; above == nil {
			s.parent = o.id
			return
		}
	}
}
