// SPDX-License-Identifier: Apache-2.0

package otlp

import "iter"

// table is a map of bounded size. A new entry takes the place of the one that was put first.
type table[K comparable, V any] struct {
	limit   int
	entries map[K]V
	order   []K // a ring once it is full
	next    int
	evicted uint64
}

func newTable[K comparable, V any](limit int) *table[K, V] {
	return &table[K, V]{limit: limit, entries: map[K]V{}}
}

// get is the entry of a key, the zero value when there is none.
func (t *table[K, V]) get(key K) V { return t.entries[key] }

// put makes an entry. The result is the one that had to go for it, if one had.
func (t *table[K, V]) put(key K, value V) (gone V, ok bool) {
	if _, known := t.entries[key]; !known {
		if len(t.order) < t.limit {
			t.order = append(t.order, key)
		} else {
			oldest := t.order[t.next]
			gone, ok = t.entries[oldest]
			delete(t.entries, oldest)
			t.order[t.next] = key
			t.next = (t.next + 1) % t.limit
			t.evicted++
		}
	}
	t.entries[key] = value
	return gone, ok
}

// all is every entry, in the order in which they were put.
func (t *table[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for i := range t.order {
			key := t.order[(t.next+i)%len(t.order)]
			if !yield(key, t.entries[key]) {
				return
			}
		}
	}
}
