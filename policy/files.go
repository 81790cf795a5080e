// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"

	"github.com/watchglass/watchglass/event"
)

// FilesConfig is what users write about files. Patterns are in the language of docs/configuration.md.
type FilesConfig struct {
	// Secrets is patterns of files that are secrets besides the built-in ones.
	Secrets []string `yaml:"secrets"`
	// NotSecrets is patterns of files that are not, whatever the other lists say.
	NotSecrets []string `yaml:"not_secrets"`
	// Config is patterns of watched configuration besides the built-in ones.
	Config []string `yaml:"config"`
	// Allow is who may read which secret without a finding. The file stays a secret in every event.
	Allow []FileAllow `yaml:"allow"`
}

// FileAllow lets one program read some secrets.
type FileAllow struct {
	// Path is a pattern of secrets, Executable one of programs. Both are needed.
	Path       string `yaml:"path"`
	Executable string `yaml:"executable"`
}

// Validate says what is wrong with the configuration, and names the entry.
func (c *FilesConfig) Validate() error {
	_, err := NewFiles(c)
	return err
}

// Files classifies paths. It is immutable.
type Files struct {
	// classes holds all patterns; otherwise all but those of watched files, for what turned out to be none.
	classes, otherwise *index
	// exceptions is consulted for watched files only: users' exceptions hold for all secrets, look-alikes
	// for what is built in.
	exceptions *index
	allow      []fileAllow
}

type fileAllow struct{ path, executable pattern }

// The meanings of the patterns in Files.classes, the strongest first.
const (
	meansUserSecret uint8 = iota + 1
	meansSecret
	meansConfig
	meansProc
	meansSystem
	meansSource
	meansTmp
)

// The meanings of the patterns in Files.exceptions.
const (
	meansNotSecret uint8 = iota + 1
	meansLookalike
	meansNotConfig
)

// NewFiles compiles the built-in lists and the configuration's.
func NewFiles(cfg *FilesConfig) (*Files, error) {
	f := &Files{classes: newIndex(), otherwise: newIndex(), exceptions: newIndex()}
	lists := []struct {
		name    string
		into    *index
		meaning uint8
		from    []string
	}{
		{"secrets", f.classes, meansUserSecret, cfg.Secrets},
		{"not_secrets", f.exceptions, meansNotSecret, cfg.NotSecrets},
		{"config", f.classes, meansConfig, cfg.Config},
		{"built-in secrets", f.classes, meansSecret, secretPatterns()},
		{"built-in look-alikes", f.exceptions, meansLookalike, secretLookalikePatterns()},
		{"built-in config", f.classes, meansConfig, configPatterns()},
		{"built-in config look-alikes", f.exceptions, meansNotConfig, configLookalikePatterns()},
		{"built-in proc", f.classes, meansProc, procPatterns()},
		{"built-in system", f.classes, meansSystem, systemPatterns()},
		{"built-in source", f.classes, meansSource, sourcePatterns()},
		{"built-in tmp", f.classes, meansTmp, tmpPatterns()},
	}
	for _, l := range lists {
		if err := l.into.add(l.meaning, l.from...); err != nil {
			return nil, fmt.Errorf("files.%s: %w", l.name, err)
		}
		if l.into == f.classes && l.meaning > meansConfig {
			if err := f.otherwise.add(l.meaning, l.from...); err != nil {
				return nil, fmt.Errorf("files.%s: %w", l.name, err)
			}
		}
	}
	for i, a := range cfg.Allow {
		path, err := compile(a.Path)
		if err != nil {
			return nil, fmt.Errorf("files.allow[%d]: path %q: %w", i, a.Path, err)
		}
		executable, err := compile(a.Executable)
		if err != nil {
			return nil, fmt.Errorf("files.allow[%d]: executable %q: %w", i, a.Executable, err)
		}
		f.allow = append(f.allow, fileAllow{path, executable})
	}
	return f, nil
}

// Class is the kind of file that path names, the first that holds of: secret, config, proc, system,
// source, tmp, other. So a key in a temporary directory is a secret, a library's header is system
// and a checkout below /tmp is source. It goes by the name alone and allocates nothing.
func (f *Files) Class(path string) event.FileClass {
	meaning := f.classes.match(path)
	if meaning != 0 && meaning <= meansConfig {
		except := f.exceptions.match(path)
		switch {
		case meaning == meansUserSecret && except != meansNotSecret, meaning == meansSecret && except == 0:
			return event.FileClassSecret
		case meaning == meansConfig && except != meansNotConfig:
			return event.FileClassConfig
		}
		meaning = f.otherwise.match(path)
	}
	switch meaning {
	case meansProc:
		return event.FileClassProc
	case meansSystem:
		return event.FileClassSystem
	case meansSource:
		return event.FileClassSource
	case meansTmp:
		return event.FileClassTmp
	}
	return event.FileClassOther
}

// SecretAllowed says that the configuration lets executable read the secret at path.
func (f *Files) SecretAllowed(path, executable string) bool {
	for i := range f.allow {
		if f.allow[i].path.match(path) && f.allow[i].executable.match(executable) {
			return true
		}
	}
	return false
}
