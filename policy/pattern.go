// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"slices"
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
//	~/.netrc             the same as .netrc: the homes of a sandbox are not known
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
	if rest == "" || strings.HasSuffix(rest, "/") {
		rest += "**"
	}
	if rest == "**" {
		return pattern{}, errEverything
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

// needle is the longest element without a wildcard of a pattern with **, else "".
func (p *pattern) needle() string {
	if !slices.Contains(p.segments, "**") {
		return ""
	}
	longest := ""
	for _, s := range p.segments {
		if len(s) > len(longest) && !strings.Contains(s, "*") {
			longest = s
		}
	}
	return longest
}

// match says whether the whole of path, or for a floating pattern its end, has the pattern's form.
// It walks backwards, since floating patterns are anchored at the end.
func (p *pattern) match(path string) bool {
	if p.absolute && !strings.HasPrefix(path, "/") {
		return false
	}
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

// index holds patterns with what each means, by what their last or first element says of a path, so
// that a path meets only the few patterns that could match it. A meaning is a small number: where
// several patterns match, the smallest wins, and 0 is none.
type index struct {
	byName   map[string][]entry
	byExt    map[string][]entry
	byParent map[string][]entry // patterns that end in "/*"
	byRoot   map[string][]entry // absolute trees, by their first element
	byByte   map[byte][]entry   // other wildcards, by the first byte of their last element
	others   []entry
}

type entry struct {
	pattern
	meaning uint8
	// tree is what a path starts with when the pattern is an absolute directory without wildcards.
	tree string
	// needle is text that every path that matches holds: it spares a pattern with ** the walk along a
	// path that a sandbox made deep.
	needle string
}

func newIndex() *index {
	return &index{
		byName: map[string][]entry{}, byExt: map[string][]entry{}, byParent: map[string][]entry{},
		byRoot: map[string][]entry{}, byByte: map[byte][]entry{},
	}
}

// add compiles patterns into the index. The error names the pattern.
func (x *index) add(meaning uint8, texts ...string) error {
	for _, text := range texts {
		p, err := compile(text)
		if err != nil {
			return fmt.Errorf("pattern %q: %w", text, err)
		}
		x.place(entry{pattern: p, meaning: meaning, needle: p.needle()})
	}
	return nil
}

// place puts an entry where match looks for it.
func (x *index) place(e entry) {
	last, first, parent := e.last(), e.segments[0], ""
	if n := len(e.segments); n > 1 {
		parent = e.segments[n-2]
	}
	ext := strings.TrimPrefix(last, "*")
	switch {
	case !strings.Contains(last, "*"):
		x.byName[last] = append(x.byName[last], e)
	case len(ext) == len(last)-1 && ext != "" && extension(ext) == ext && !strings.Contains(ext, "*"):
		x.byExt[ext] = append(x.byExt[ext], e)
	case last == "*" && parent != "" && !strings.Contains(parent, "*"):
		x.byParent[parent] = append(x.byParent[parent], e)
	case last == "**" && e.absolute && !strings.Contains(first, "*"):
		if dirs := strings.Join(e.segments[:len(e.segments)-1], "/"); !strings.Contains(dirs, "*") {
			e.tree = "/" + dirs
		}
		x.byRoot[first] = append(x.byRoot[first], e)
	case last[0] != '*':
		x.byByte[last[0]] = append(x.byByte[last[0]], e)
	default:
		x.others = append(x.others, e)
	}
}

// match is the smallest meaning of the patterns that match path, 0 when none does.
func (x *index) match(path string) uint8 {
	rest, name, ok := cutLast(path)
	if !ok {
		return 0
	}
	best := lowest(x.byName[name], path, 0)
	if ext := extension(name); ext != "" {
		best = lowest(x.byExt[ext], path, best)
	}
	if len(x.byParent) > 0 {
		_, parent, _ := cutLast(rest)
		best = lowest(x.byParent[parent], path, best)
	}
	if len(x.byRoot) > 0 {
		best = lowest(x.byRoot[firstElement(path)], path, best)
	}
	if name != "" {
		best = lowest(x.byByte[name[0]], path, best)
	}
	return lowest(x.others, path, best)
}

// lowest is the smallest meaning among best, unless that is 0, and the entries that match path.
func lowest(entries []entry, path string, best uint8) uint8 {
	for i := range entries {
		e := &entries[i]
		if best != 0 && e.meaning >= best || e.needle != "" && !strings.Contains(path, e.needle) {
			continue
		}
		if e.tree != "" {
			if strings.HasPrefix(path, e.tree) && (len(path) == len(e.tree) || path[len(e.tree)] == '/') {
				best = e.meaning
			}
		} else if e.match(path) {
			best = e.meaning
		}
	}
	return best
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
