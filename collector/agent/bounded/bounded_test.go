// SPDX-License-Identifier: Apache-2.0

package bounded

import (
	"maps"
	"slices"
	"testing"
	"time"
)

func TestTable(t *testing.T) {
	table := New[int, string](3)
	for i, value := range []string{"a", "b", "c", "d"} {
		table.Put(i, value)
	}
	table.Put(2, "C") // no new one
	table.Put(5, "e")
	got := slices.Sorted(maps.Values(maps.Collect(table.All())))
	if !slices.Equal(got, []string{"C", "d", "e"}) || table.Len() != 3 || table.Evicted() != 2 {
		t.Errorf("%v, %d entries, %d evicted", got, table.Len(), table.Evicted())
	}
	if _, ok := table.Get(1); ok {
		t.Error("the oldest is still there")
	}
	if value, ok := table.Get(2); !ok || value != "C" {
		t.Errorf("%q, %v", value, ok)
	}
}

func TestIdle(t *testing.T) {
	table := NewIdle[int, string](3, time.Minute)
	now := time.Unix(1000, 0)
	use := func(key int, value string) string { return table.Use(key, now, func() string { return value }) }
	use(1, "a")
	now = now.Add(time.Second)
	use(2, "b")
	use(3, "c")
	now = now.Add(time.Second)
	if got := use(1, "new"); got != "a" {
		t.Errorf("made anew: %q", got)
	}
	now = now.Add(time.Second)
	use(4, "d") // in the place of 2 or 3
	if table.Len() != 3 || table.Evicted() != 1 || use(1, "new") != "a" {
		t.Errorf("%d entries, %d evicted", table.Len(), table.Evicted())
	}
	now = now.Add(2 * time.Minute)
	use(5, "e")
	if got := slices.Collect(table.All()); !slices.Equal(got, []string{"e"}) || table.Evicted() != 1 {
		t.Errorf("%v are not idle, %d evicted", got, table.Evicted())
	}
}
