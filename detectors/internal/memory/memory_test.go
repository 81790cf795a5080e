// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/watchglass/watchglass/event"
)

// TestLRUAgainstModel holds the linked slice against a plain list that does the same.
func TestLRUAgainstModel(t *testing.T) {
	const most = 7
	l := lru[int, int]{most: most}
	var model [][2]int         // the most recently used first
	owners := map[int]uint64{} // of what is in it
	find := func(key int) int {
		return slices.IndexFunc(model, func(e [2]int) bool { return e[0] == key })
	}
	random := rand.New(rand.NewPCG(1, 2))
	for step := range 20000 {
		key := random.IntN(20)
		switch random.IntN(7) {
		case 5:
			owner := uint64(1 + random.IntN(3))
			l.own(key, owner)
			if find(key) >= 0 {
				owners[key] = owner
			}
		case 6:
			owner := uint64(1 + random.IntN(3))
			l.removeOwned(owner)
			model = slices.DeleteFunc(model, func(e [2]int) bool { return owners[e[0]] == owner })
		case 0:
			l.remove(key)
			if i := find(key); i >= 0 {
				model = slices.Delete(model, i, i+1)
			}
		case 1, 2:
			gone, evicted := l.put(key, step)
			wantGone, wantEvicted := 0, false
			if i := find(key); i >= 0 {
				model = slices.Delete(model, i, i+1)
			} else if len(model) == most {
				wantGone, wantEvicted = model[most-1][1], true
				model = model[:most-1]
			}
			model = slices.Insert(model, 0, [2]int{key, step})
			if gone != wantGone || evicted != wantEvicted {
				t.Fatalf("step %d: put forgot %d, %t; want %d, %t", step, gone, evicted, wantGone, wantEvicted)
			}
		default:
			got, i := l.get(key), find(key)
			if (got == nil) != (i < 0) || got != nil && *got != model[i][1] {
				t.Fatalf("step %d: get(%d) = %v, want place %d of %v", step, key, got, i, model)
			}
			if i >= 0 {
				e := model[i]
				model = slices.Insert(slices.Delete(model, i, i+1), 0, e)
			}
		}
		maps.DeleteFunc(owners, func(key int, _ uint64) bool { return find(key) < 0 })
		owned := 0
		for owner, i := range l.owned {
			for ; i != 0; i = l.nodes[i].after {
				if owned++; owners[l.nodes[i].key] != owner {
					t.Fatalf("step %d: %d has the entry of %d", step, owner, owners[l.nodes[i].key])
				}
			}
		}
		if owned != len(owners) {
			t.Fatalf("step %d: %d entries are owned, want %d", step, owned, len(owners))
		}
		if len(l.index) != len(model) || len(l.nodes) > most+1 {
			t.Fatalf("step %d: %d entries in %d nodes, want %d", step, len(l.index), len(l.nodes), len(model))
		}
	}
}

// TestMemoryIsFair shows that a noisy sandbox makes only itself forgotten, and that all bounds hold and are counted.
func TestMemoryIsFair(t *testing.T) {
	m := New[int](3, 10)
	quiet := m.Key(1, "quiet")
	m.Put("quiet", quiet, 42)
	for i := range 1000 {
		m.Put("noisy", m.Key(uint64(i)), i)
	}
	if v := m.Get("quiet", quiet); v == nil || *v != 42 {
		t.Error("a noisy sandbox made another one's memory go")
	}
	var stats event.DetectorStats
	if m.Count(&stats); stats.Evicted != 990 || stats.Entries != 11 {
		t.Errorf("%+v, want 11 entries and 990 evicted", stats)
	}
	for i := range 5 {
		name := fmt.Sprint("s", i)
		m.Put(name, m.Key(0), i)
	}
	if n := len(m.sandboxes.index); n != 3 {
		t.Errorf("%d sandboxes are remembered, want 3", n)
	}
	stats = event.DetectorStats{}
	if m.Count(&stats); stats.Evicted != 990+10+1+2 || stats.Entries != 3 {
		t.Errorf("%+v, want 3 entries and %d evicted", stats, 990+10+1+2)
	}
	for i := range 5 {
		m.Forget(fmt.Sprint("s", i))
	}
	stats = event.DetectorStats{}
	if m.Count(&stats); stats.Entries != 0 {
		t.Errorf("%d entries of forgotten sandboxes", stats.Entries)
	}
	if m.Key(0, "ab", "c") == m.Key(0, "a", "bc") {
		t.Error("the parts of a key run into each other")
	}
}

// TestMemoryGoesWithItsOwner: what a session or a tree owned last goes with it, and nothing else.
func TestMemoryGoesWithItsOwner(t *testing.T) {
	m := New[int](4, 10)
	for i := range 4 {
		m.Put("s", uint64(i), i)
	}
	m.Put("other", 1, 1)
	m.Own("s", 0, m.Session("a"))
	m.Own("s", 1, m.Session("a"))
	m.Own("s", 1, m.Session("b")) // it used it last
	m.Own("s", 1, m.Session(""))
	m.Own("s", 2, m.Tree(7))
	m.Own("other", 1, m.Session("a"))
	m.EndSession("s", "")
	m.EndTree("s", 0)
	m.EndTree("s", 8)
	for i, want := range []int{3, 3, 2, 2, 1, 1} {
		switch i {
		case 0:
			m.EndSession("s", "a")
		case 2:
			m.EndSession("s", "b")
		case 4:
			m.EndTree("s", 7)
		}
		if got := m.Len() - 1; got != want { // the other sandbox's stays
			t.Errorf("step %d: %d entries, want %d", i, got, want)
		}
	}
	if m.Get("s", 3) == nil || m.Get("other", 1) == nil {
		t.Error("what is nobody's, or another sandbox's, went too")
	}
}
