// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// section is the name of a part of the page that can be measured and written alone: it stands between two marks.
type section string

func (s section) begin() string { return "\n<!-- " + string(s) + " -->\n" }
func (s section) end() string   { return "<!-- end of " + string(s) + " -->\n" }

// of is the section of a page, marks and all; "" where it has none.
func (s section) of(page string) string {
	_, rest, found := strings.Cut(page, s.begin())
	text, _, ended := strings.Cut(rest, s.end())
	if !found || !ended {
		return ""
	}
	return s.begin() + text + s.end()
}

// in is the page with the section, marks and all, in its place; where there is none at the end.
func (s section) in(page, text string) string {
	before, rest, _ := strings.Cut(page, s.begin())
	_, after, _ := strings.Cut(rest, s.end())
	return before + text + after
}

// update puts the section, marks and all, in its place in the page that is a file.
func (s section) update(file, text string) error {
	page, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading the page: %w", err)
	}
	if err := os.WriteFile(file, []byte(s.in(string(page), text)), 0o644); err != nil { //nolint:gosec // for everyone to read
		return fmt.Errorf("writing the page: %w", err)
	}
	progress("wrote the section about " + string(s) + " in " + file)
	return nil
}

// kept is the section as it is in the page that is a file, which need not be there.
func (s section) kept(file string) (string, error) {
	page, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("reading the page: %w", err)
	}
	return s.of(string(page)), nil
}
