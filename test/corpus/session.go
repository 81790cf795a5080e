// SPDX-License-Identifier: Apache-2.0

package corpus

import (
	"embed"
	"fmt"
	"io/fs"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed sessions
var scripts embed.FS

// Session is one labelled session.
type Session struct {
	Name, About string
	// Attack says whether something must be found; Finds which rules must find it.
	Attack bool
	Finds  []string
	// Tells is what the title of one of these findings must hold; "" for anything. Over is which of the rules must say
	// before the end that what they found is over.
	Tells string
	Over  []string
	// Like is the rules that benign work looks like to, and that must keep quiet.
	Like []string
	// Flags is more flags of watchglass run, in which $HOME is the session's.
	Flags []string
	// Detectors is settings of the detectors, as YAML in one line; "" for the usual.
	Detectors string
	// Learns is how often it runs before, with REHEARSAL in its environment, to teach what is usual.
	Learns int
	// Takes is about how long it takes, where that is much longer than most; only the order depends on it.
	Takes time.Duration
	// Waits is whether it does little but wait, so that it makes no other late.
	Waits bool
	// Needs is the commands without which it cannot run.
	Needs  []string
	Script string
}

// Sessions is the whole corpus, attacks first, by name.
func Sessions() ([]Session, error) {
	var all []Session
	for _, label := range []string{"attack", "benign"} {
		names, err := fs.Glob(scripts, "sessions/"+label+"/*.sh")
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			text, err := scripts.ReadFile(name)
			if err != nil {
				return nil, err
			}
			s, err := parse(strings.TrimSuffix(path.Base(name), ".sh"), string(text))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if s.Attack = label == "attack"; s.Attack != (len(s.Finds) > 0) {
				return nil, fmt.Errorf("%s: an attack is found by something, benign work by nothing", name)
			}
			all = append(all, s)
		}
	}
	return all, nil
}

func parse(name, text string) (Session, error) {
	s := Session{Name: name, Script: text}
	for line := range strings.Lines(text) {
		comment, ok := strings.CutPrefix(strings.TrimSpace(line), "# ")
		if !ok {
			break
		}
		switch key, value, _ := strings.Cut(comment, ": "); key {
		case "SPDX-License-Identifier":
		case "finds":
			s.Finds = strings.Fields(value)
		case "tells":
			s.Tells = value
		case "over":
			s.Over = strings.Fields(value)
		case "like":
			s.Like = strings.Fields(value)
		case "run":
			s.Flags = strings.Fields(value)
		case "detectors":
			s.Detectors = value
		case "learns":
			n, err := strconv.Atoi(value)
			if err != nil {
				return s, fmt.Errorf("learns: %w", err)
			}
			s.Learns = n
		case "takes":
			d, err := time.ParseDuration(value)
			if err != nil {
				return s, fmt.Errorf("takes: %w", err)
			}
			s.Takes = d
		case "waits":
			waits, err := strconv.ParseBool(value)
			if err != nil {
				return s, fmt.Errorf("waits: %w", err)
			}
			s.Waits = waits
		case "needs":
			s.Needs = strings.Fields(value)
		default:
			s.About = comment
		}
	}
	if s.About == "" {
		return s, fmt.Errorf("it does not say what it does")
	}
	return s, nil
}

// agentScript is what the scripted agent knows.
func agentScript() (string, error) {
	text, err := scripts.ReadFile("sessions/agent.sh")
	return string(text), err
}

// prelude is what every session begins with.
func prelude() (string, error) {
	text, err := scripts.ReadFile("sessions/prelude.sh")
	return string(text), err
}

// Missed is the rules that should have found the session and did not, or not what they should have.
func (s *Session) Missed(found []Finding) []string {
	var missed []string
	for _, rule := range s.Finds {
		if !slices.ContainsFunc(found, func(f Finding) bool { return f.Rule == rule }) {
			missed = append(missed, rule)
		}
	}
	if s.Tells != "" && !slices.ContainsFunc(found, func(f Finding) bool {
		return slices.Contains(s.Finds, f.Rule) && strings.Contains(f.Title, s.Tells)
	}) {
		missed = append(missed, s.Finds[0])
	}
	return missed
}

// Open is the rules that should have said that what they found is over, and did not.
func (s *Session) Open(found []Finding) []string {
	return slices.DeleteFunc(slices.Clone(s.Over), func(rule string) bool {
		return slices.ContainsFunc(found, func(f Finding) bool { return f.Rule == rule && f.Over() })
	})
}

// Lacks is the command for want of which it cannot run here, "" for none.
func (s *Session) Lacks() string {
	for _, command := range s.Needs {
		if _, err := exec.LookPath(command); err != nil {
			return command
		}
	}
	return ""
}
