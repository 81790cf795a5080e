// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// The bounds of a selector. Linux allows paths of 4,095 bytes and names of 255.
const (
	maxSelectorBytes = 4096
	maxSelectors     = 1024
)

var (
	errSelectorRoot  = errors.New(`begins with "/": it is a path below the cgroup2 mount, like "/kubepods/*/pod*/*"`)
	errSelectorEmpty = errors.New(`has an empty, "." or ".." element`)
	errSelectorAll   = errors.New(`would make the whole machine one sandbox`)
	errSelectorLong  = fmt.Errorf("is longer than %d bytes", maxSelectorBytes)
	errSelectorStars = errors.New(`has "**" joined to something else: it stands alone between slashes`)
)

// Selectors is the patterns of the paths of cgroups that are sandboxes. The zero value selects nothing.
type Selectors struct{ patterns [][]string }

// ParseSelectors compiles patterns. In a pattern, * is any run of characters but "/", ? one of them,
// [a-z] one of a set, [^a-z] one of the others, \x is x itself, and ** between slashes is any number
// of elements, also none. The error names the first bad one by its place.
func ParseSelectors(patterns []string) (Selectors, error) {
	var s Selectors
	if len(patterns) > maxSelectors {
		return s, fmt.Errorf("%d selectors are more than %d", len(patterns), maxSelectors)
	}
	for i, p := range patterns {
		elements, err := parseSelector(p)
		if err != nil {
			return Selectors{}, &SelectorError{Index: i, Pattern: p, Err: err}
		}
		s.patterns = append(s.patterns, elements)
	}
	return s, nil
}

// SelectorError says which selector is wrong.
type SelectorError struct {
	Index   int
	Pattern string
	Err     error
}

func (e *SelectorError) Error() string {
	return fmt.Sprintf("selector %d, %q: %v", e.Index+1, e.Pattern, e.Err)
}

// Unwrap is what is wrong with it.
func (e *SelectorError) Unwrap() error { return e.Err }

func parseSelector(p string) ([]string, error) {
	rest, ok := strings.CutPrefix(p, "/")
	switch {
	case len(p) > maxSelectorBytes:
		return nil, errSelectorLong
	case !ok:
		return nil, errSelectorRoot
	case rest == "":
		return nil, errSelectorAll
	}
	elements := strings.Split(rest, "/")
	onlyStars := true
	for _, e := range elements {
		switch {
		case e == "" || e == "." || e == "..":
			return nil, errSelectorEmpty
		case e == "**":
			continue
		case strings.Contains(e, "**"):
			return nil, errSelectorStars
		}
		onlyStars = false
		if _, err := path.Match(e, ""); err != nil {
			return nil, fmt.Errorf("element %q: %w", e, err)
		}
	}
	if onlyStars {
		return nil, errSelectorAll
	}
	return elements, nil
}

// Root is the sandbox that a cgroup belongs to: the shortest prefix of its path, by elements, that
// a selector matches.
func (s Selectors) Root(cgroup string) (root string, ok bool) {
	if len(s.patterns) == 0 || !strings.HasPrefix(cgroup, "/") || cgroup == "/" {
		return "", false
	}
	elements := strings.Split(cgroup[1:], "/")
	end := 0
	for n, e := range elements {
		if e == "" {
			return "", false // no cgroup has such a name: it would be the hierarchy's root that matches
		}
		end += 1 + len(e)
		for _, p := range s.patterns {
			if matchElements(p, elements[:n+1]) {
				return cgroup[:end], true
			}
		}
	}
	return "", false
}

// matchElements says whether the whole name matches. It goes back to the last ** only, which is
// enough, so the work is bounded by the product of the lengths.
func matchElements(pattern, name []string) bool {
	p, n, star, mark := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == "**":
			star, mark = p, n
			p++
		case p < len(pattern) && matchElement(pattern[p], name[n]):
			p++
			n++
		case star >= 0:
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == "**" {
		p++
	}
	return p == len(pattern)
}

func matchElement(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}
