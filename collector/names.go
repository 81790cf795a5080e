// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"net/netip"
	"time"

	"github.com/watchglass/watchglass/bpf"
)

const (
	// maxNames bounds the addresses whose names are kept for one sandbox.
	maxNames = 4096
	// leastNameTTL is for how long a name is kept at least: programs use an answer after its time is over.
	leastNameTTL = 5 * time.Minute
)

// nameCache is the names that a sandbox looked up, by address: what a later connect is likely meant for.
type nameCache struct {
	names map[netip.Addr]nameEntry
	order []netip.Addr // oldest first; may hold addresses that were renewed or dropped
}

type nameEntry struct {
	name    string
	expires time.Time
}

// add notes an answer. The oldest entries go when there are too many.
func (c *nameCache) add(answers *bpf.NameAnswers, now time.Time) {
	if c.names == nil {
		c.names = map[netip.Addr]nameEntry{}
	}
	for _, a := range answers.Answers {
		addr := a.Addr.Unmap()
		if _, known := c.names[addr]; !known {
			if len(c.order) >= maxNames {
				delete(c.names, c.order[0])
				c.order = append(c.order[:0], c.order[1:]...)
			}
			c.order = append(c.order, addr)
		}
		c.names[addr] = nameEntry{answers.Name, now.Add(max(a.TTL, leastNameTTL))}
	}
}

// nameOf is the name under which an address was found and where it is from; "" when it was not.
func (c *nameCache) nameOf(addr netip.Addr, now time.Time) (name, source string) {
	entry, ok := c.names[addr.Unmap()]
	if !ok || now.After(entry.expires) {
		return "", ""
	}
	return entry.name, "dns"
}
