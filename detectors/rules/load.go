// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
)

//go:embed builtin/*.yaml
var builtin embed.FS

// Source is one file of rules.
type Source struct {
	// Name is the file's name, for messages.
	Name string
	Data []byte
}

// Builtin is the files that come with Watchglass.
func Builtin() ([]Source, error) {
	names, err := fs.Glob(builtin, "builtin/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("listing the built-in rules: %w", err)
	}
	var sources []Source
	for _, name := range names {
		data, err := builtin.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading a built-in rule: %w", err)
		}
		sources = append(sources, Source{Name: path.Join("detectors/rules", name), Data: data})
	}
	return sources, nil
}

// Set is rules that are ready to run, in the order of their files.
type Set struct {
	l     *language
	rules []*Rule
}

// Rules is the rules of the set.
func (s *Set) Rules() []*Rule { return slices.Clone(s.rules) }

// Load compiles all rules of all files. It returns every error that it finds, each an *Error or several joined;
// with any, there is no set.
func Load(sources ...Source) (*Set, error) {
	l, err := newLanguage()
	if err != nil {
		return nil, err
	}
	return l.load(sources...)
}

// load is Load in a language that is there already: making it takes longer than many a rule.
func (l *language) load(sources ...Source) (*Set, error) {
	var errs []error
	documents, count := make([]*document, len(sources)), 0
	for i, source := range sources {
		d, err := parse(source.Name, source.Data)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		documents[i] = d
		// Before any is compiled, which takes longer than to read it.
		if count += len(d.Rules); count > maxRules {
			return nil, errors.Join(append(errs, &Error{File: source.Name, Reason: fmt.Sprintf("there are more than %d rules", maxRules)})...)
		}
	}
	s, patterns := &Set{l: l}, newPatterns()
	ids, uuids := map[string]*Rule{}, map[string]*Rule{}
	for i, d := range documents {
		if d == nil {
			continue
		}
		c := &compiler{l: l, patterns: patterns, file: sources[i].Name, macros: d.Macros}
		for i := range d.Rules {
			r, err := c.compile(&d.Rules[i])
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if other := firstOf(ids[r.rule.ID], uuids[r.rule.UUID]); other != nil {
				errs = append(errs, c.fail(r.Line, "its id or uuid is taken by the rule at %s:%d", other.File, other.Line))
				continue
			}
			ids[r.rule.ID], uuids[r.rule.UUID] = r, r
			s.rules = append(s.rules, r)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

func firstOf(rules ...*Rule) *Rule {
	for _, r := range rules {
		if r != nil {
			return r
		}
	}
	return nil
}
