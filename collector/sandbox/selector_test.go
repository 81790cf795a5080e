// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"strings"
	"testing"
)

func TestSelectors(t *testing.T) {
	const uuid = "0b5a2f66-7a9f-4f49-8c5c-2d3b9e0c1f11"
	for _, test := range []struct{ selectors, cgroup, want string }{
		{"", "/a", ""},
		{"/watchglass/run-*", "/watchglass/run-1-a", "/watchglass/run-1-a"},
		{"/watchglass/run-*", "/watchglass", ""},
		{"/watchglass/run-*", "/watchglass/run-1/inner/most", "/watchglass/run-1"},
		{"/kubepods/*/pod*/*", "/kubepods/burstable/pod" + uuid + "/abc", "/kubepods/burstable/pod" + uuid + "/abc"},
		{"/kubepods/*/pod*/*", "/kubepods/burstable/pod" + uuid, ""},
		{"/kubepods/*/pod*/*", "/kubepods/pod" + uuid + "/abc", ""},
		{"/kubepods/**/pod*/*", "/kubepods/pod" + uuid + "/abc/def", "/kubepods/pod" + uuid + "/abc"},
		{"/kubepods/**/pod*/*", "/kubepods/burstable/pod" + uuid + "/abc", "/kubepods/burstable/pod" + uuid + "/abc"},
		{"/a/b /a", "/a/b/c", "/a"},
		{"/a/b/c /a/b", "/a/b/c", "/a/b"},
		{"/**/agent", "/x/y/agent/z/agent", "/x/y/agent"},
		{"/a/**", "/a", "/a"},
		{"/a/**/b/**/c", "/a/b/b/x/c", "/a/b/b/x/c"},
		{"/a/**/b/**/c", "/a/b/b/x/d", ""},
		{"/a?c", "/abc", "/abc"},
		{"/a?c", "/a/c", ""},
		{`/\*`, "/*", "/*"},
		{`/\*`, "/x", ""},
		{"/[ab]*", "/b1/x", "/b1"},
		{"/*", "/", ""},
		{"/*", "relative", ""},
		{"/*", "", ""},
	} {
		s, err := ParseSelectors(strings.Fields(test.selectors))
		if err != nil {
			t.Errorf("%q: %v", test.selectors, err)
			continue
		}
		if got, ok := s.Root(test.cgroup); got != test.want || ok != (test.want != "") {
			t.Errorf("%q on %q: %q, %v; want %q", test.selectors, test.cgroup, got, ok, test.want)
		}
	}
}

func TestParseSelectorsRefuses(t *testing.T) {
	for selector, want := range map[string]error{
		"":                               errSelectorRoot,
		"kubepods":                       errSelectorRoot,
		"/":                              errSelectorAll,
		"/**":                            errSelectorAll,
		"/**/**":                         errSelectorAll,
		"/a//b":                          errSelectorEmpty,
		"/a/":                            errSelectorEmpty,
		"/a/../b":                        errSelectorEmpty,
		"/./a":                           errSelectorEmpty,
		"/a/b**":                         errSelectorStars,
		"/[a":                            nil,
		"/a/[]":                          nil,
		"/" + strings.Repeat("a/", 5000): errSelectorLong,
	} {
		_, err := ParseSelectors([]string{"/fine", selector})
		var selectorErr *SelectorError
		if !errors.As(err, &selectorErr) || selectorErr.Index != 1 || want != nil && !errors.Is(err, want) {
			t.Errorf("%.40q: %v; want %v", selector, err, want)
		}
	}
	if _, err := ParseSelectors(make([]string, maxSelectors+1)); err == nil {
		t.Error("any number of selectors is accepted")
	}
}

func FuzzSelectors(f *testing.F) {
	f.Add("/kubepods/**/pod*/*", "/kubepods/burstable/pod1/x")
	f.Add("/a/**/b/**/c", "/a/b/b/x/c")
	f.Add(`/[a-z]?\*`, "//")
	f.Add("/*", "//")
	f.Fuzz(func(t *testing.T, pattern, cgroup string) {
		s, err := ParseSelectors([]string{pattern})
		if err != nil {
			return
		}
		root, ok := s.Root(cgroup)
		if !ok {
			return
		}
		if root == "" || !strings.HasPrefix(cgroup+"/", root+"/") {
			t.Errorf("%q on %q: %q is no prefix", pattern, cgroup, root)
		}
		if again, ok := s.Root(root); !ok || again != root {
			t.Errorf("%q: root %q is itself in %q", pattern, root, again)
		}
	})
}
