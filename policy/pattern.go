// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"strings"
)

// The limits of one pattern: a user's file is trusted, its typing errors are not.
const (
	maxPattern     = 4096
	maxSegments    = 64
	maxDoubleStars = 2
)

// pattern is a compiled path pattern. The language:
//
//	/etc/shadow          this path
//	/etc/kubernetes/**   everything below this directory; "/etc/kubernetes/" is the same
//	.aws/credentials     these last elements of a path, in any directory
//	.env.*               a last element by wildcard: * is any run of bytes but "/"
//	secrets/**/token     ** is any number of elements, none included
//	~/.netrc             the same as .netrc: a sandbox's homes are not known
//
// There is no escape and no other special byte: names that hold a star are matched by it.
type pattern struct {
	absolute bool
	segments []string
}

var (
	errEmptyPattern = errors.New("a pattern must not be empty")
	errLongPattern  = errors.New("a pattern has at most 4096 bytes and 64 elements")
	errDoubleStars  = errors.New("a pattern has at most two **, each a whole element")
	errEverything   = errors.New("a pattern must name at least one element")
	errDots         = errors.New("a pattern must not hold the elements . or ..: the paths it meets are resolved")
)

// compile parses one pattern.
func compile(text string) (pattern, error) {
	if text == "" {
		return pattern{}, errEmptyPattern
	}
	rest := strings.TrimPrefix(text, "~/")
	p := pattern{absolute: strings.HasPrefix(rest, "/")}
	rest = strings.TrimPrefix(rest, "/")
	if strings.HasSuffix(rest, "/") {
		rest += "**"
	}
	p.segments = strings.Split(rest, "/")
	if len(text) > maxPattern || len(p.segments) > maxSegments {
		return pattern{}, errLongPattern
	}
	stars, named := 0, false
	for _, s := range p.segments {
		switch {
		case s == "**":
			stars++
		case strings.Contains(s, "**"):
			return pattern{}, errDoubleStars
		case s == "":
			return pattern{}, errEmptyPattern
		case s == "." || s == "..":
			return pattern{}, errDots
		default:
			named = named || s != "*"
		}
	}
	if stars > maxDoubleStars {
		return pattern{}, errDoubleStars
	}
	if !named {
		return pattern{}, errEverything
	}
	return p, nil
}

// last is the pattern's last element.
func (p *pattern) last() string { return p.segments[len(p.segments)-1] }

// match says whether the whole of path, or for a floating pattern its end, has the pattern's form.
// It walks backwards, since floating patterns are anchored at the end.
func (p *pattern) match(path string) bool {
	return matchBackwards(p.segments, path, p.absolute)
}

func matchBackwards(segments []string, path string, absolute bool) bool {
	for len(segments) > 0 {
		want := segments[len(segments)-1]
		segments = segments[:len(segments)-1]
		if want == "**" {
			return matchAnyDepth(segments, path, absolute)
		}
		rest, element, ok := cutLast(path)
		if !ok || !matchElement(want, element) {
			return false
		}
		path = rest
	}
	return !absolute || path == ""
}

// matchAnyDepth tries the segments before a ** at every depth of path. At most two ** a pattern
// make it quadratic in the number of elements, at worst.
func matchAnyDepth(segments []string, path string, absolute bool) bool {
	if len(segments) == 0 {
		return true
	}
	for {
		if matchBackwards(segments, path, absolute) {
			return true
		}
		rest, _, ok := cutLast(path)
		if !ok {
			return false
		}
		path = rest
	}
}

// cutLast splits "/a/b" into "/a" and "b". A relative path, the caller's own word of a failed open,
// ends with an element that has no slash before it.
func cutLast(path string) (rest, element string, ok bool) {
	if path == "" {
		return "", "", false
	}
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path, true
	}
	return path[:i], path[i+1:], true
}

// matchElement matches one element against a wildcard, in time proportional to the product of the lengths at worst.
func matchElement(want, have string) bool {
	w, h, star, mark := 0, 0, -1, 0
	for h < len(have) {
		switch {
		case w < len(want) && want[w] == '*':
			star, mark = w, h
			w++
		case w < len(want) && want[w] == have[h]:
			w++
			h++
		case star >= 0:
			w = star + 1
			mark++
			h = mark
		default:
			return false
		}
	}
	for w < len(want) && want[w] == '*' {
		w++
	}
	return w == len(want)
}

// set is patterns of one meaning, indexed by what their last element says of a path, so that a path
// meets only the few patterns that could match it.
type set struct {
	byName map[string][]pattern
	byExt  map[string][]pattern
	byRoot map[string][]pattern // absolute trees, by their first element
	others []pattern
}

// newSet compiles patterns. The error names the pattern.
func newSet(texts ...string) (*set, error) {
	s := &set{byName: map[string][]pattern{}, byExt: map[string][]pattern{}, byRoot: map[string][]pattern{}}
	for _, text := range texts {
		p, err := compile(text)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", text, err)
		}
		s.add(p)
	}
	return s, nil
}

func (s *set) add(p pattern) {
	last, first := p.last(), p.segments[0]
	ext := strings.TrimPrefix(last, "*")
	switch {
	case !strings.Contains(last, "*"):
		s.byName[last] = append(s.byName[last], p)
	case len(ext) == len(last)-1 && ext != "" && extension(ext) == ext:
		s.byExt[ext] = append(s.byExt[ext], p)
	case last == "**" && p.absolute && !strings.Contains(first, "*"):
		s.byRoot[first] = append(s.byRoot[first], p)
	default:
		s.others = append(s.others, p)
	}
}

// match says whether any pattern of the set matches path.
func (s *set) match(path string) bool {
	_, name, ok := cutLast(path)
	if !ok {
		return false
	}
	if anyMatch(s.byName[name], path) || anyMatch(s.others, path) {
		return true
	}
	if ext := extension(name); ext != "" && anyMatch(s.byExt[ext], path) {
		return true
	}
	return len(s.byRoot) > 0 && anyMatch(s.byRoot[firstElement(path)], path)
}

func anyMatch(patterns []pattern, path string) bool {
	for i := range patterns {
		if patterns[i].match(path) {
			return true
		}
	}
	return false
}

// extension is name from its last dot on, "" when it has none.
func extension(name string) string {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[i:]
	}
	return ""
}

// firstElement is "usr" of "/usr/lib", and "" of a relative path.
func firstElement(path string) string {
	if path == "" || path[0] != '/' {
		return ""
	}
	path = path[1:]
	if i := strings.IndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return path
}
