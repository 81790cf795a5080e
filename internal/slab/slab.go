// SPDX-License-Identifier: Apache-2.0

// Package slab makes values that whoever gets them may keep, several by one allocation.
//
// It owns nothing but the chunk that it hands out next. It must not use a value again, so that none can change under
// somebody who kept it. The price is that one that is kept keeps its whole chunk, with all that the others point to: chunks are
// small, and what points to much does not belong here.
package slab

// chunk is how many values one allocation makes, unless a slab says otherwise.
const chunk = 16

// Of makes values of one type. The zero value is ready; one goroutine may use it at a time.
type Of[T any] struct {
	// Chunk is how many values one allocation makes; 0 means 16.
	Chunk int
	free  []T
}

// New is a new zero value.
func (s *Of[T]) New() *T {
	if len(s.free) == 0 {
		n := s.Chunk
		if n == 0 {
			n = chunk
		}
		s.free = make([]T, n)
	}
	v := &s.free[0]
	s.free = s.free[1:]
	return v
}

// lists is how many elements one allocation makes, longest the longest list that is made of it.
const lists, longest = 64, 16

// Lists makes slices of one type. The zero value is ready; one goroutine may use it at a time.
type Lists[T any] struct{ free []T }

// Make is a new slice of n zero elements, which has no room for more; nil for none.
func (s *Lists[T]) Make(n int) []T {
	if n == 0 {
		return nil
	}
	if n > longest {
		return make([]T, n)
	}
	if len(s.free) < n {
		s.free = make([]T, lists)
	}
	list := s.free[:n:n]
	s.free = s.free[n:]
	return list
}

// Of is a new slice with the elements of another one.
func (s *Lists[T]) Of(from []T) []T {
	list := s.Make(len(from))
	copy(list, from)
	return list
}
