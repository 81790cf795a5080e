// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"hash/maphash"
	"net/netip"
	"strings"

	"github.com/watchglass/watchglass/event"
	"github.com/watchglass/watchglass/internal/slab"
)

// smallRecord is up to how many bytes a record has to share its memory with others: one that is kept keeps all of them.
const smallRecord = 2048

// memory is what decoded records are made in: of texts and lists that come again and again the ones that were made lately,
// of everything else chunks. What is made belongs to whoever gets it. The zero value is ready; one goroutine may use it.
type memory struct {
	// large is true while a record is decoded that is not small.
	large bool
	// comms is the names of tasks and terminals, paths those of files, names and addresses.
	comms, paths texts
	arguments    lists[string]
	environments lists[event.EnvVar]
	// namespaces is the names of the namespaces of a mask, made once.
	namespaces map[uint32][]string

	forks      slab.Of[Fork]
	made       slab.Of[CgroupMade]
	gone       slab.Of[CgroupGone]
	uses       slab.Of[FileUse]
	messages   slab.Of[DNSMessage]
	opens      slab.Of[event.FileOpen]
	changes    slab.Of[event.FileChange]
	maps       slab.Of[event.FileMap]
	connects   slab.Of[event.NetworkConnect]
	flows      slab.Of[event.NetworkFlow]
	sockets    slab.Of[event.NetworkSocket]
	execs      slab.Of[ran]
	exits      slab.Of[exited]
	calls      slab.Of[called]
	signals    slab.Of[signalled]
	addresses  slab.Lists[NameAnswer]
	dnsRecords slab.Lists[event.DNSRecord]

	// address is where the text of an address is put together, answers and answered where a message is, before their
	// number is known.
	address  []byte
	answers  []NameAnswer
	answered []event.DNSRecord
}

// ran is an exec with what belongs to it alone.
type ran struct {
	exec       event.ProcessExec
	privileges event.Privileges
}

// exited is an end of a process with what belongs to it alone.
type exited struct {
	exit  event.ProcessExit
	usage event.Usage
}

// called and signalled are notable calls with what belongs to them alone.
type called struct {
	call        event.SyscallNotable
	credentials event.Credentials
	namespaces  event.Namespaces
}

type signalled struct {
	call      event.SyscallNotable
	target    event.Target
	arguments [1]event.SyscallArgument
}

// keep makes room for v: in a chunk of the slab, or alone where the record is large.
func keep[T any](m *memory, s *slab.Of[T], v T) *T {
	var kept *T
	if m.large {
		kept = new(T)
	} else {
		kept = s.New()
	}
	*kept = v
	return kept
}

// addr is the text of an address.
func (m *memory) addr(addr netip.Addr) string {
	m.address = addr.AppendTo(m.address[:0])
	return m.paths.of(m.address)
}

// text is the string of some bytes that may come again.
func (m *memory) text(b []byte) string {
	return m.paths.of(b)
}

// namespacesOf is the names of the namespaces of which mask has the bit. Shared: nobody changes them.
func (m *memory) namespacesOf(mask uint32) []string {
	if mask == 0 {
		return nil
	}
	mask &= 0xff // as many as there are kinds
	names, known := m.namespaces[mask]
	if !known {
		if m.namespaces == nil {
			m.namespaces = map[uint32][]string{}
		}
		names = namespacesOf(mask)
		m.namespaces[mask] = names
	}
	return names
}

const (
	// listsKept is how many lists of each kind are kept; a power of two.
	listsKept = 1024
	// listBytes bounds the text of one: longer ones are made each time.
	listBytes = 1024
)

// lists makes lists of texts that each end in a NUL, such as arguments: of those that come again, without an allocation. It
// is bounded as texts is. The lists are shared: nobody changes them. The zero value is ready.
type lists[T any] struct {
	seed maphash.Seed
	kept []keptList[T]
}

type keptList[T any] struct {
	text string
	list []T
}

// of is the list of some text, as split makes it.
func (l *lists[T]) of(b []byte, split func(string) []T) []T {
	if len(b) == 0 || len(b) > listBytes {
		return split(string(b))
	}
	if l.kept == nil {
		l.seed, l.kept = maphash.MakeSeed(), make([]keptList[T], listsKept)
	}
	at := &l.kept[maphash.Bytes(l.seed, b)&(listsKept-1)]
	if at.text != string(b) { // compares, does not allocate
		at.text = string(b)
		at.list = split(at.text)
	}
	return at.list
}

// path is the clean text of a path: see cleanPath.
func (m *memory) path(b []byte) string {
	text := m.text(b)
	clean := cleanPath(text)
	if len(clean) == len(text) {
		return text
	}
	m.address = append(m.address[:0], clean...)
	return m.text(m.address)
}

// prefixed is a text with another one before it.
func (m *memory) prefixed(prefix string, b []byte) string {
	m.address = append(append(m.address[:0], prefix...), b...)
	return m.text(m.address)
}

// lower is a name in lower case, without its final dot.
func (m *memory) lower(name []byte) string {
	if n := len(name); n > 0 && name[n-1] == '.' {
		name = name[:n-1]
	}
	var small [255]byte
	if len(name) > len(small) {
		return strings.ToLower(string(name))
	}
	for i, b := range name {
		if b >= 0x80 {
			return strings.ToLower(string(name))
		}
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		small[i] = b
	}
	return m.text(small[:len(name)])
}
