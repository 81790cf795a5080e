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
	name, source string
	expires      time.Time
}

// add notes an answer. The oldest entries go when there are too many.
func (c *nameCache) add(answers *bpf.NameAnswers, now time.Time) {
	for _, a := range answers.Answers {
		c.put(a.Addr, nameEntry{answers.Name, "dns", now.Add(max(a.TTL, leastNameTTL))})
	}
}

// said notes the name under which a program spoke to an address. One that a name server told goes before: a
// program can say what it likes.
func (c *nameCache) said(addr netip.Addr, name, source string, now time.Time) {
	if _, known := c.nameOf(addr, now); known == "dns" {
		return
	}
	c.put(addr, nameEntry{name, source, now.Add(leastNameTTL)})
}

func (c *nameCache) put(addr netip.Addr, entry nameEntry) {
	if c.names == nil {
		c.names = map[netip.Addr]nameEntry{}
	}
	addr = addr.Unmap()
	if _, known := c.names[addr]; !known {
		if len(c.order) >= maxNames {
			delete(c.names, c.order[0])
			c.order = append(c.order[:0], c.order[1:]...)
		}
		c.order = append(c.order, addr)
	}
	c.names[addr] = entry
}

// nameOf is the name under which an address was found and where it is from; "" when it was not.
func (c *nameCache) nameOf(addr netip.Addr, now time.Time) (name, source string) {
	entry, ok := c.names[addr.Unmap()]
	if !ok || now.After(entry.expires) {
		return "", ""
	}
	return entry.name, entry.source
}
