// SPDX-License-Identifier: Apache-2.0

package slab

import (
	"testing"
)

func TestOf(t *testing.T) {
	for _, size := range []int{0, 1, 8} {
		s := Of[int]{Chunk: size}
		var made []*int
		for i := range 100 {
			v := s.New()
			if *v != 0 {
				t.Fatalf("chunks of %d: value %d is %d, not zero", size, i, *v)
			}
			*v = i
			made = append(made, v)
		}
		for i, v := range made {
			if *v != i {
				t.Errorf("chunks of %d: value %d became %d", size, i, *v)
			}
		}
	}
}

func TestLists(t *testing.T) {
	var s Lists[int]
	var made [][]int
	for i := range 100 {
		list := s.Make(i % 20)
		if len(list) != i%20 || cap(list) != i%20 {
			t.Fatalf("a list of %d has %d elements and room for %d", i%20, len(list), cap(list))
		}
		for j := range list {
			if list[j] != 0 {
				t.Fatalf("a new list has %v", list)
			}
			list[j] = i
		}
		_ = append(list, -1) // must not reach the next one
		made = append(made, list)
	}
	for i, list := range made {
		for _, v := range list {
			if v != i {
				t.Errorf("list %d became %v", i, list)
			}
		}
	}
	if got := s.Of([]int{1, 2}); len(got) != 2 || got[1] != 2 || s.Make(0) != nil {
		t.Errorf("got %v", got)
	}
}

func TestAllocations(t *testing.T) {
	var s Of[[4]int]
	var l Lists[string]
	if n := testing.AllocsPerRun(1000, func() {
		for range chunk {
			s.New()
		}
		for range lists / 4 {
			l.Make(4)
		}
	}); n != 2 {
		t.Errorf("%v allocations for a chunk of values and one of lists, want 2", n)
	}
}
