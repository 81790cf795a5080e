// SPDX-License-Identifier: Apache-2.0

// Package bounded has tables that cannot grow without end.
//
// It owns how they forget. It must not know what is in them.
package bounded

import (
	"iter"
	"maps"
)

// Table is a table of bounded size that forgets the oldest entry first. It is not safe for several goroutines.
type Table[K comparable, V any] struct {
	limit   int
	entries map[K]V
	order   []K // a ring once it is full
	next    int
	evicted uint64
}

// New makes an empty table with room for limit entries.
func New[K comparable, V any](limit int) *Table[K, V] {
	return &Table[K, V]{limit: limit, entries: map[K]V{}}
}

// Get is the entry of a key.
func (t *Table[K, V]) Get(key K) (V, bool) {
	v, ok := t.entries[key]
	return v, ok
}

// Put sets an entry. A new one takes the place of the oldest when there is no room.
func (t *Table[K, V]) Put(key K, value V) {
	if _, ok := t.entries[key]; ok {
		t.entries[key] = value
		return
	}
	if len(t.order) < t.limit {
		t.order = append(t.order, key)
	} else {
		delete(t.entries, t.order[t.next])
		t.order[t.next] = key
		t.next = (t.next + 1) % t.limit
		t.evicted++
	}
	t.entries[key] = value
}

// All is every entry, in no order.
func (t *Table[K, V]) All() iter.Seq2[K, V] { return maps.All(t.entries) }

// Len is how many entries there are, Evicted how many gave way to newer ones.
func (t *Table[K, V]) Len() int { return len(t.entries) }

// Evicted is how many entries gave way to newer ones.
func (t *Table[K, V]) Evicted() uint64 { return t.evicted }
