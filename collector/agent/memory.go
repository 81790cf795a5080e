// SPDX-License-Identifier: Apache-2.0

package agent

// recent is a table of bounded size that forgets the oldest entry first.
type recent[K comparable, V any] struct {
	limit   int
	entries map[K]V
	order   []K // a ring once it is full
	next    int
	evicted uint64
}

func newRecent[K comparable, V any](limit int) *recent[K, V] {
	return &recent[K, V]{limit: limit, entries: map[K]V{}}
}

func (r *recent[K, V]) get(key K) (V, bool) {
	v, ok := r.entries[key]
	return v, ok
}

// put sets an entry. A new one takes the place of the oldest when there is no room.
func (r *recent[K, V]) put(key K, value V) {
	if _, ok := r.entries[key]; ok {
		r.entries[key] = value
		return
	}
	if len(r.order) < r.limit {
		r.order = append(r.order, key)
	} else {
		delete(r.entries, r.order[r.next])
		r.order[r.next] = key
		r.next = (r.next + 1) % r.limit
		r.evicted++
	}
	r.entries[key] = value
}
