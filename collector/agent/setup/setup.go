// SPDX-License-Identifier: Apache-2.0

// Package setup writes the coding agents' own configuration, so that they tell Watchglass what they do: OTLP, and
// hooks.
//
// It owns what each agent is to be told and how that goes into a file that people wrote, with their comments and
// their other settings left as they are. It must not read the environment, nor any file but those it is asked about.
package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/watchglass/watchglass/internal/replace"
)

// Settings is what agents are told.
type Settings struct {
	// Endpoint is the base URL of the OTLP receiver, over HTTP: "http://127.0.0.1:4318". "" for no OTLP.
	Endpoint string
	// Hook is the command line that agents call, without its --agent: "/usr/local/bin/watchglass hook". "" for no
	// hooks.
	Hook string
	// Prompts has agents tell the text of prompts, Redacted has them leave out the commands and arguments of tools,
	// as far as each can.
	Prompts, Redacted bool
}

// Validate says what is wrong with the settings.
func (s *Settings) Validate() error {
	if s.Endpoint != "" {
		u, err := url.Parse(s.Endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			return fmt.Errorf("endpoint: %q is no URL such as http://127.0.0.1:4318", s.Endpoint)
		}
	}
	if strings.ContainsAny(s.Hook, "\n\r\x00") {
		return fmt.Errorf("hook: %q is more than one line", s.Hook)
	}
	return nil
}

// url is the address of one signal.
func (s *Settings) url(signal string) string {
	return strings.TrimSuffix(s.Endpoint, "/") + "/v1/" + signal
}

func (s *Settings) hook(agent string) string { return s.Hook + " --agent " + agent }

// Places is where a user's agents keep their configuration.
type Places struct {
	// Home is the user's home directory. The others are the directories that the user chose instead of the default:
	// what CODEX_HOME, CLAUDE_CONFIG_DIR and XDG_CONFIG_HOME say, "" when they say nothing.
	Home, Codex, Claude, XDG string
}

// Agent is one agent that can be set up.
type Agent struct {
	// Name is what people call it here, Adapter the name in events, Program the command.
	Name, Adapter, Program string
	files                  func(Places) []file
	// Notes is what is left for people to do.
	Notes func(Settings) []string
}

// file is one file of an agent's configuration.
type file struct {
	path string
	// apply is the file's text with the settings in it, remove without any. An empty text is no file.
	apply  func(old []byte, s *Settings) ([]byte, error)
	remove func(old []byte) ([]byte, error)
}

// Agents is all agents that can be set up.
func Agents() []Agent { return []Agent{codex(), claudeCode(), geminiCLI(), openCode()} }

// Find is the agent that goes by a name, its adapter's or its program's.
func Find(name string) (Agent, error) {
	var names []string
	for _, a := range Agents() {
		if name == a.Name || name == a.Adapter || name == a.Program {
			return a, nil
		}
		names = append(names, a.Name)
	}
	return Agent{}, fmt.Errorf("%q cannot be set up; there are: %s", name, strings.Join(names, ", "))
}

// Change is what setting up does to one file.
type Change struct {
	Path string
	// Old and New are the file's text; nil for no file.
	Old, New []byte
}

// Changed says whether the change changes anything.
func (c *Change) Changed() bool { return string(c.Old) != string(c.New) }

// PositionError is a configuration that cannot be changed, and where.
type PositionError struct {
	Path string
	Line int
	Err  error
}

func (e *PositionError) Error() string { return fmt.Sprintf("%s:%d: %v", e.Path, e.Line, e.Err) }

func (e *PositionError) Unwrap() error { return e.Err }

// maxFile bounds a configuration that is changed.
const maxFile = 16 << 20

// Plan is what setting up changes, without changing it. A file that cannot be read as what it should be is an error,
// with its place where that is known.
func (a Agent) Plan(at Places, s Settings) ([]Change, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return a.plan(at, func(f *file, old []byte) ([]byte, error) { return f.apply(old, &s) })
}

// PlanRemoval is what taking the settings out again changes.
func (a Agent) PlanRemoval(at Places) ([]Change, error) {
	return a.plan(at, func(f *file, old []byte) ([]byte, error) { return f.remove(old) })
}

func (a Agent) plan(at Places, edit func(*file, []byte) ([]byte, error)) ([]Change, error) {
	var changes []Change
	for _, f := range a.files(at) {
		old, err := readFile(f.path)
		if err != nil {
			return nil, err
		}
		text, err := edit(&f, old)
		if wrong := new(PositionError); errors.As(err, &wrong) {
			wrong.Path = f.path
			return nil, wrong
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, err)
		}
		changes = append(changes, Change{Path: f.path, Old: old, New: text})
	}
	return changes, nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no file", path)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return os.ReadFile(path)
}

// Write makes the change and returns where the file's old text is kept; "" where there was none. The new text is put
// in place as a whole, with the old one's permissions; a link stays one.
func (c *Change) Write(now time.Time) (backup string, err error) {
	path, mode := c.Path, fs.FileMode(0o600)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	if c.Old != nil {
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		mode = info.Mode().Perm()
		backup = path + ".before-watchglass-" + now.UTC().Format("20060102T150405Z")
		if err := replace.File(backup, c.Old, mode); err != nil {
			return "", fmt.Errorf("keep the old text: %w", err)
		}
	}
	if c.New == nil {
		return backup, os.Remove(path)
	}
	return backup, replace.File(path, c.New, mode)
}

// State is how far an agent is set up.
type State struct {
	// Paths is the files that say so.
	Paths []string
	// SetUp is true when setting up would change nothing; Err is why that is not known.
	SetUp bool
	Err   error
}

// Look says how far an agent is set up with these settings.
func (a Agent) Look(at Places, s Settings) State {
	var state State
	for _, f := range a.files(at) {
		state.Paths = append(state.Paths, f.path)
	}
	changes, err := a.Plan(at, s)
	state.Err = err
	state.SetUp = err == nil && !slices.ContainsFunc(changes, func(c Change) bool { return c.Changed() })
	return state
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
