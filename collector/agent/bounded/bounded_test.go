// SPDX-License-Identifier: Apache-2.0

package bounded

import (
	"maps"
	"slices"
	"testing"
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
