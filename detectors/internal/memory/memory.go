// SPDX-License-Identifier: Apache-2.0

// Package memory is what detectors remember: per sandbox, bounded, the least recently used forgotten first.
//
// It owns the bounds and their account. It must not know what is remembered.
package memory

import (
	"hash/maphash"
	"sync/atomic"

	"github.com/watchglass/watchglass/event"
)

// Memory is what a detector remembers per sandbox: a bounded number of sandboxes, each with a
// bounded number of entries, so that a noisy sandbox makes only itself forgotten. The least recently
// used goes first. Keys are hashes with a seed of their own: their size does not depend on the
// sandbox's names, and a sandbox cannot make two of them meet.
type Memory[V any] struct {
	seed      maphash.Seed
	sandboxes lru[string, *lru[uint64, V]]
	most      int
	// held and evicted are read by whoever asks for statistics, from any goroutine.
	held    atomic.Int64
	evicted atomic.Uint64
}

// New makes an empty memory of at most so many sandboxes and so many entries of each.
func New[V any](sandboxes, entries int) *Memory[V] {
	return &Memory[V]{
		seed:      maphash.MakeSeed(),
		sandboxes: lru[string, *lru[uint64, V]]{most: sandboxes},
		most:      entries,
	}
}

// Key hashes what identifies an entry. Parts are separated, so that "ab","c" is not "a","bc".
func (m *Memory[V]) Key(number uint64, parts ...string) uint64 {
	var h maphash.Hash
	h.SetSeed(m.seed)
	for shift := 0; shift < 64; shift += 8 {
		_ = h.WriteByte(byte(number >> shift))
	}
	for _, part := range parts {
		_, _ = h.WriteString(part)
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

// File is the key of a file: its inode on its device.
func (m *Memory[V]) File(inode uint64, device uint32) uint64 {
	return m.Key(inode) ^ uint64(device)<<32
}

// Get is the entry, nil when there is none. It stays valid until the next put.
func (m *Memory[V]) Get(sandbox string, key uint64) *V {
	s := m.sandboxes.get(sandbox)
	if s == nil {
		return nil
	}
	return (*s).get(key)
}

// Put adds or replaces an entry.
func (m *Memory[V]) Put(sandbox string, key uint64, value V) *V {
	s := m.sandboxes.get(sandbox)
	if s == nil {
		if gone, evicted := m.sandboxes.put(sandbox, &lru[uint64, V]{most: m.most}); evicted {
			m.held.Add(-int64(len(gone.index)))
			m.evicted.Add(uint64(len(gone.index)))
		}
		s = m.sandboxes.get(sandbox)
	}
	before := len((*s).index)
	if _, evicted := (*s).put(key, value); evicted {
		m.evicted.Add(1)
	}
	m.held.Add(int64(len((*s).index) - before))
	return (*s).get(key)
}

// Each calls f for every entry of a sandbox, in no order. f must not put or forget.
func (m *Memory[V]) Each(sandbox string, f func(v *V)) {
	s := m.sandboxes.get(sandbox)
	if s == nil {
		return
	}
	for _, i := range (*s).index {
		f(&(*s).nodes[i].value)
	}
}

// Drop removes one entry.
func (m *Memory[V]) Drop(sandbox string, key uint64) {
	s := m.sandboxes.get(sandbox)
	if s == nil {
		return
	}
	before := len((*s).index)
	(*s).remove(key)
	m.held.Add(int64(len((*s).index) - before))
}

// Session is the owner that a session is, for Own; 0, which is nobody, where no session is known.
func (m *Memory[V]) Session(session string) uint64 {
	if session == "" {
		return 0
	}
	return m.Key(ownerSession, session)
}

// Tree is the owner that a process tree is, by its root, for Own; 0 where none is known.
func (m *Memory[V]) Tree(root uint64) uint64 {
	if root == 0 {
		return 0
	}
	return m.Key(root, ownerTree)
}

// What makes owners of different kinds differ.
const (
	ownerSession = 2
	ownerTree    = "tree"
)

// Own says whose an entry is, so that it goes with its owner: the one who owned it last. 0 is nobody, and changes
// nothing. Without the entry nothing happens.
func (m *Memory[V]) Own(sandbox string, key, owner uint64) {
	if owner == 0 {
		return
	}
	if s := m.sandboxes.get(sandbox); s != nil {
		(*s).own(key, owner)
	}
}

// EndSession drops all that a session owns in a sandbox.
func (m *Memory[V]) EndSession(sandbox, session string) { m.end(sandbox, m.Session(session)) }

// EndTree drops all that a process tree owns in a sandbox.
func (m *Memory[V]) EndTree(sandbox string, root uint64) { m.end(sandbox, m.Tree(root)) }

func (m *Memory[V]) end(sandbox string, owner uint64) {
	s := m.sandboxes.peek(sandbox)
	if s == nil || owner == 0 {
		return
	}
	before := len((*s).index)
	(*s).removeOwned(owner)
	m.held.Add(int64(len((*s).index) - before))
}

// Forget drops everything of a sandbox.
func (m *Memory[V]) Forget(sandbox string) {
	if s := m.sandboxes.get(sandbox); s != nil {
		m.held.Add(-int64(len((*s).index)))
	}
	m.sandboxes.remove(sandbox)
}

// Len is how many entries there are, of all sandboxes. It may be called from any goroutine.
func (m *Memory[V]) Len() int { return int(m.held.Load()) }

// Count adds the memory to a detector's statistics.
func (m *Memory[V]) Count(stats *event.DetectorStats) {
	stats.Entries += int(m.held.Load())
	stats.Evicted += m.evicted.Load()
	stats.Most += m.sandboxes.most * m.most
}

// lru is a map of at most most entries that forgets the least recently used. Its links are indices
// into one slice, so that a full one allocates nothing more. The zero value but for most is empty.
type lru[K comparable, V any] struct {
	most  int
	index map[K]int32
	// nodes is a ring in order of use. Node 0 holds no entry: the most recently used is older than
	// it, the least recently used newer.
	nodes []lruNode[K, V]
	free  []int32
	// owned is the first of what each owner has; the nodes of one are a list.
	owned map[uint64]int32
}

type lruNode[K comparable, V any] struct {
	key          K
	value        V
	newer, older int32
	// before and after are the owner's other nodes, 0 for none.
	before, after int32
	owner         uint64
}

// peek is the value, nil when there is none; it does not count as use.
func (l *lru[K, V]) peek(key K) *V {
	i, ok := l.index[key]
	if !ok {
		return nil
	}
	return &l.nodes[i].value
}

// get is the value, nil when there is none. It stays valid until the next put.
func (l *lru[K, V]) get(key K) *V {
	i, ok := l.index[key]
	if !ok {
		return nil
	}
	l.unlink(i)
	l.link(i)
	return &l.nodes[i].value
}

// put adds or replaces; when that made it forget an entry, it returns the entry's value and true.
func (l *lru[K, V]) put(key K, value V) (gone V, evicted bool) {
	if have := l.get(key); have != nil {
		*have = value
		return gone, false
	}
	if l.index == nil {
		l.index = map[K]int32{}
		l.nodes = make([]lruNode[K, V], 1)
	}
	var i int32
	switch {
	case len(l.index) >= l.most:
		i = l.nodes[0].newer
		gone, evicted = l.nodes[i].value, true
		delete(l.index, l.nodes[i].key)
		l.disown(i)
		l.unlink(i)
	case len(l.free) > 0:
		i = l.free[len(l.free)-1]
		l.free = l.free[:len(l.free)-1]
	default:
		i = int32(len(l.nodes)) //nolint:gosec // most is at most 1<<16
		l.nodes = append(l.nodes, lruNode[K, V]{})
	}
	l.nodes[i].key, l.nodes[i].value = key, value
	l.link(i)
	l.index[key] = i
	return gone, evicted
}

func (l *lru[K, V]) remove(key K) {
	i, ok := l.index[key]
	if !ok {
		return
	}
	l.disown(i)
	l.unlink(i)
	delete(l.index, key)
	l.nodes[i] = lruNode[K, V]{}
	l.free = append(l.free, i)
}

// own puts an entry first in the list of its owner.
func (l *lru[K, V]) own(key K, owner uint64) {
	i, ok := l.index[key]
	if !ok || l.nodes[i].owner == owner {
		return
	}
	l.disown(i)
	if l.owned == nil {
		l.owned = map[uint64]int32{}
	}
	n, first := &l.nodes[i], l.owned[owner]
	n.owner, n.before, n.after = owner, 0, first
	if first != 0 {
		l.nodes[first].before = i
	}
	l.owned[owner] = i
}

// disown takes a node out of the list of its owner.
func (l *lru[K, V]) disown(i int32) {
	n := &l.nodes[i]
	switch {
	case n.owner == 0:
		return
	case n.before != 0:
		l.nodes[n.before].after = n.after
	case n.after != 0:
		l.owned[n.owner] = n.after
	default:
		delete(l.owned, n.owner)
	}
	if n.after != 0 {
		l.nodes[n.after].before = n.before
	}
	n.owner, n.before, n.after = 0, 0, 0
}

// removeOwned removes all that an owner has.
func (l *lru[K, V]) removeOwned(owner uint64) {
	for i := l.owned[owner]; i != 0; i = l.owned[owner] {
		l.remove(l.nodes[i].key)
	}
}

func (l *lru[K, V]) unlink(i int32) {
	n := &l.nodes[i]
	l.nodes[n.newer].older = n.older
	l.nodes[n.older].newer = n.newer
}

// link makes i the most recently used.
func (l *lru[K, V]) link(i int32) {
	first := l.nodes[0].older
	l.nodes[i].newer, l.nodes[i].older = 0, first
	l.nodes[first].newer = i
	l.nodes[0].older = i
}
