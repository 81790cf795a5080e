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
	userSecrets, notSecrets       *set
	secrets, secretLookalikes     *set
	config                        *set
	procPlaces, tmpPlaces, system *set
	source                        *set
	allow                         []fileAllow
}

type fileAllow struct{ path, executable pattern }

// NewFiles compiles the built-in lists and the configuration's.
func NewFiles(cfg *FilesConfig) (*Files, error) {
	f := &Files{}
	lists := []struct {
		name string
		into **set
		from []string
	}{
		{"secrets", &f.userSecrets, cfg.Secrets},
		{"not_secrets", &f.notSecrets, cfg.NotSecrets},
		{"config", &f.config, append(configPatterns(), cfg.Config...)},
		{"built-in secrets", &f.secrets, secretPatterns()},
		{"built-in look-alikes", &f.secretLookalikes, secretLookalikePatterns()},
		{"built-in proc", &f.procPlaces, procPatterns()},
		{"built-in tmp", &f.tmpPlaces, tmpPatterns()},
		{"built-in system", &f.system, systemPatterns()},
		{"built-in source", &f.source, sourcePatterns()},
	}
	for _, l := range lists {
		s, err := newSet(l.from...)
		if err != nil {
			return nil, fmt.Errorf("files.%s: %w", l.name, err)
		}
		*l.into = s
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
	switch {
	case f.secret(path):
		return event.FileClassSecret
	case f.config.match(path):
		return event.FileClassConfig
	case f.procPlaces.match(path):
		return event.FileClassProc
	case f.system.match(path):
		return event.FileClassSystem
	case f.source.match(path):
		return event.FileClassSource
	case f.tmpPlaces.match(path):
		return event.FileClassTmp
	default:
		return event.FileClassOther
	}
}

// secret decides by precedence: what the user excepts, what the user adds, what is built in but for its look-alikes.
func (f *Files) secret(path string) bool {
	if f.userSecrets.match(path) {
		return !f.notSecrets.match(path)
	}
	return f.secrets.match(path) && !f.secretLookalikes.match(path) && !f.notSecrets.match(path)
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
