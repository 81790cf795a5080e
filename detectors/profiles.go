// SPDX-License-Identifier: Apache-2.0

package detectors

import (
	"fmt"
	"slices"
	"strings"

	"github.com/watchglass/watchglass/event"
)

// ProfileConfig is what differs for one agent, one project, or one agent in one project.
type ProfileConfig struct {
	// Name is what people call it.
	Name string `yaml:"name"`
	// Agent is the agent's name and Project the path of its workspace folder, each a pattern; "" is any.
	Agent   string `yaml:"agent"`
	Project string `yaml:"project"`
	// Disabled is the detectors and rules whose findings do not count, by their ids.
	Disabled []string `yaml:"disabled"`
	// Severity is the severity of findings by the id of their detector or rule.
	Severity map[string]string `yaml:"severity"`
	// Exceptions is the findings that do not count.
	Exceptions []ExceptionConfig `yaml:"exceptions"`
}

// ExceptionConfig describes findings that are none. All that it says must hold; it must say more than the detector.
type ExceptionConfig struct {
	// Detector is the id of a detector or rule.
	Detector string `yaml:"detector"`
	// Object is a pattern for what was touched: all objects of the finding must match it. Executable is one for the
	// path of the program, as the kernel tells it.
	Object     string `yaml:"object"`
	Executable string `yaml:"executable"`
	// Reason is why, for the next one who reads it.
	Reason string `yaml:"reason"`
}

// The limits of profiles.
const (
	mostProfileConfigs = 256
	mostExceptions     = 256
	longestPattern     = 4096
)

// Profiles is the profiles of a configuration, ready to be asked. The zero value has none.
type Profiles struct{ list []profileRule }

type profileRule struct {
	agent, project pattern
	disabled       map[string]bool
	severity       map[string]event.Severity
	exceptions     []exception
}

type exception struct {
	detector           string
	object, executable pattern
}

// NewProfiles makes the profiles of a configuration. known says whether a detector or rule of that id exists.
func NewProfiles(configs []ProfileConfig, known func(id string) bool) (*Profiles, error) {
	p := &Profiles{}
	if len(configs) > mostProfileConfigs {
		return nil, fmt.Errorf("detectors.profiles: there are %d, the most are %d", len(configs), mostProfileConfigs)
	}
	for i := range configs {
		r, err := newProfileRule(&configs[i], known)
		if err != nil {
			return nil, fmt.Errorf("detectors.profiles[%d].%w", i, err)
		}
		p.list = append(p.list, r)
	}
	return p, nil
}

func newProfileRule(c *ProfileConfig, known func(id string) bool) (profileRule, error) {
	r := profileRule{disabled: map[string]bool{}, severity: map[string]event.Severity{}}
	var err error
	if r.agent, err = newPattern(c.Agent); err != nil {
		return r, fmt.Errorf("agent: %w", err)
	}
	if r.project, err = newPattern(c.Project); err != nil {
		return r, fmt.Errorf("project: %w", err)
	}
	if c.Project != "" && !strings.HasPrefix(c.Project, "/") {
		return r, fmt.Errorf("project: %q is not an absolute path", c.Project)
	}
	for i, id := range c.Disabled {
		if !known(id) {
			return r, fmt.Errorf("disabled[%d]: %q is no detector", i, id)
		}
		r.disabled[id] = true
	}
	for id, name := range c.Severity {
		if !known(id) {
			return r, fmt.Errorf("severity: %q is no detector", id)
		}
		if r.severity[id], err = event.ParseFindingSeverity(name); err != nil {
			return r, fmt.Errorf("severity.%s: %w", id, err)
		}
	}
	if len(c.Exceptions) > mostExceptions {
		return r, fmt.Errorf("exceptions: there are %d, the most are %d", len(c.Exceptions), mostExceptions)
	}
	for i := range c.Exceptions {
		x, err := newException(&c.Exceptions[i], known)
		if err != nil {
			return r, fmt.Errorf("exceptions[%d].%w", i, err)
		}
		r.exceptions = append(r.exceptions, x)
	}
	return r, nil
}

func newException(c *ExceptionConfig, known func(id string) bool) (exception, error) {
	x := exception{detector: c.Detector}
	var err error
	if !known(c.Detector) {
		return x, fmt.Errorf("detector: %q is no detector", c.Detector)
	}
	if c.Object == "" && c.Executable == "" {
		return x, fmt.Errorf("object: neither it nor executable is set: to switch %s off, use disabled", c.Detector)
	}
	if x.object, err = newPattern(c.Object); err != nil {
		return x, fmt.Errorf("object: %w", err)
	}
	if x.executable, err = newPattern(c.Executable); err != nil {
		return x, fmt.Errorf("executable: %w", err)
	}
	return x, nil
}

func (p *Profiles) empty() bool { return len(p.list) == 0 }

// judge gives the finding the severity that the profiles say, and says whether it counts. All profiles that match are
// asked, in order: any of them can let it fall, the last one's severity holds.
func (p *Profiles) judge(whose profileID, e *event.Event, f *event.Finding) bool {
	for i := range p.list {
		r := &p.list[i]
		if !r.agent.matches(whose.agent) || !r.project.matches(whose.project) {
			continue
		}
		if r.disabled[f.Rule.ID] || slices.ContainsFunc(r.exceptions, func(x exception) bool { return x.covers(e, f) }) {
			return false
		}
		if level, ok := r.severity[f.Rule.ID]; ok {
			f.Level = level
		}
	}
	return true
}

func (x *exception) covers(e *event.Event, f *event.Finding) bool {
	if x.detector != f.Rule.ID {
		return false
	}
	if !x.executable.any && (e.Process == nil || !x.executable.matches(e.Process.Executable)) {
		return false
	}
	if x.object.any {
		return true
	}
	for _, object := range f.Objects {
		if !x.object.matches(object) {
			return false
		}
	}
	return len(f.Objects) > 0
}

// pattern is text in which * is any run of characters but "/", and ** any run.
type pattern struct {
	any   bool
	parts []string
	// deep says of each gap between parts whether it may have a "/".
	deep []bool
}

func newPattern(s string) (pattern, error) {
	if len(s) > longestPattern {
		return pattern{}, fmt.Errorf("it has %d bytes, the most are %d", len(s), longestPattern)
	}
	p := pattern{any: s == ""}
	for {
		at := strings.IndexByte(s, '*')
		if at < 0 {
			p.parts = append(p.parts, s)
			return p, nil
		}
		rest := strings.TrimLeft(s[at:], "*")
		p.parts, p.deep = append(p.parts, s[:at]), append(p.deep, len(s)-at-len(rest) > 1)
		s = rest
	}
}

// matches says whether the pattern covers all of s.
func (p *pattern) matches(s string) bool {
	if p.any {
		return true
	}
	first, last := p.parts[0], p.parts[len(p.parts)-1]
	if len(p.parts) == 1 {
		return s == first
	}
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	return p.from(1, s[len(first):])
}

// from says whether s is what comes after the parts before i. Each place where a part can stand is tried at most once
// per part and length of the rest, which the parts' number times the length bounds.
func (p *pattern) from(i int, s string) bool {
	// can[j] says that the parts before i can end at j.
	can := make([]bool, len(s)+1)
	can[0] = true
	for ; i < len(p.parts); i++ {
		next, open := make([]bool, len(s)+1), false
		for j := 0; j <= len(s); j++ {
			if j > 0 && s[j-1] == '/' && !p.deep[i-1] {
				open = false
			}
			open = open || can[j]
			if open && strings.HasPrefix(s[j:], p.parts[i]) {
				next[j+len(p.parts[i])] = true
			}
		}
		can = next
	}
	return can[len(s)]
}
