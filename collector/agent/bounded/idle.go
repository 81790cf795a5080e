// SPDX-License-Identifier: Apache-2.0

package bounded

import (
	"iter"
	"time"
)

// Idle is a table of bounded size that forgets what nobody used for a time, and what was used longest ago when there
// is no room. It is not safe for several goroutines.
type Idle[K comparable, V any] struct {
	limit   int
	after   time.Duration
	entries map[K]*used[V]
	evicted uint64
}

type used[V any] struct {
	value V
	last  time.Time
}

// NewIdle makes an empty table with room for limit entries, each of which may be forgotten when it was not used for
// the time.
func NewIdle[K comparable, V any](limit int, after time.Duration) *Idle[K, V] {
	return &Idle[K, V]{limit: limit, after: after, entries: map[K]*used[V]{}}
}

// Use is the entry of a key, made when it is missing.
func (t *Idle[K, V]) Use(key K, now time.Time, create func() V) V {
	entry := t.entries[key]
	if entry == nil {
		t.makeRoom(now)
		entry = &used[V]{value: create()}
		t.entries[key] = entry
	}
	entry.last = now
	return entry.value
}

func (t *Idle[K, V]) makeRoom(now time.Time) {
	var oldest K
	var last time.Time
	for key, entry := range t.entries {
		if now.Sub(entry.last) > t.after {
			delete(t.entries, key)
			continue
		}
		if last.IsZero() || entry.last.Before(last) {
			oldest, last = key, entry.last
		}
	}
	if len(t.entries) >= t.limit {
		delete(t.entries, oldest)
		t.evicted++
	}
}

// All is every value, in no order.
func (t *Idle[K, V]) All() iter.Seq[V] {
	return func(yield func(V) bool) {
		for _, entry := range t.entries {
			if !yield(entry.value) {
				return
			}
		}
	}
}

// Len is how many entries there are.
func (t *Idle[K, V]) Len() int { return len(t.entries) }

// Evicted is how many entries had to make room although they were in use.
func (t *Idle[K, V]) Evicted() uint64 { return t.evicted }
