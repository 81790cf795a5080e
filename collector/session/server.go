// SPDX-License-Identifier: Apache-2.0

package session

import (
	"slices"
	"strings"

	"github.com/watchglass/watchglass/collector/agent"
)

// maxServers bounds the tool servers that are known of one agent, and the calls that one serves at a time.
const maxServers = 64

// findServer joins a call of a tool server (Model Context Protocol) to the server's process, which the agent started
// long before and which serves other calls too. Nothing names it: it is the only process of the agent's, besides
// tools, that lived through the call and has the server's name in its command line, or else the protocol's. It can be
// wrong, as when the server is at another host, and is never more than inferred.
func (t *Tracker) findServer(c *call, early bool) {
	h := c.session.host
	if h == nil || !c.denied.IsZero() {
		return
	}
	r := h.servers[c.mcp]
	if r == nil || !c.servedBy(r) {
		if r = nil; !early && c.finished {
			r = h.serverFor(c)
		}
	}
	if r == nil {
		return
	}
	if h.servers == nil {
		h.servers = map[string]*root{}
	}
	if h.servers[c.mcp] == nil && len(h.servers) >= maxServers {
		return
	}
	h.servers[c.mcp] = r
	r.server = c.mcp
	c.roots, c.interactive = append(c.roots, r), true
	c.method, c.confidence = agent.MethodInterval, agent.ConfidenceInferred
	c.dirty = true
	if !c.finished && len(r.serving) < maxServers {
		r.serving = append(r.serving, c)
	}
	r.appoint()
}

// serverFor is the process that can be the server of a call, nil when there is none or more than one.
func (h *host) serverFor(c *call) *root {
	var called, named []*root
	for _, r := range h.waiting {
		if r.tool || r.server != "" && r.server != c.mcp || !c.servedBy(r) {
			continue
		}
		switch {
		case r.mentions(c.mcp):
			named = append(named, r)
		case r.server == "" && (r.mentions("mcp") || r.mentions("modelcontextprotocol")):
			called = append(called, r)
		}
	}
	switch {
	case len(named) == 1:
		return named[0]
	case len(named) == 0 && len(called) == 1:
		return called[0]
	}
	return nil
}

// mentions says whether a word is in one of the command lines that a process was given.
func (r *root) mentions(word string) bool {
	return slices.ContainsFunc(r.commands, func(given command) bool {
		return strings.Contains(strings.ToLower(given.text), strings.ToLower(word))
	})
}

// servedBy says whether a process lived from before a call to after it.
func (c *call) servedBy(r *root) bool {
	return r.began.Before(c.start) && (r.exited.IsZero() || c.finished && r.exited.After(c.end))
}

// served ends what a server does for a call.
func (c *call) served() {
	for _, r := range c.roots {
		if n := len(r.serving); n > 0 {
			r.serving = slices.DeleteFunc(r.serving, func(o *call) bool { return o == c })
			if len(r.serving) != n {
				r.appoint()
			}
		}
	}
}
