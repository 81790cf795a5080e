// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"maps"
	"strings"
)

// hookFile is a file in which an agent keeps hooks, alone or among other settings.
type hookFile struct {
	adapter string
	events  []string
	// more is what each command has besides its type and its line.
	more map[string]any
	// matcher is true where groups must say which tools they are for.
	matcher bool
}

func (f hookFile) ours(command string) bool {
	return strings.Contains(command, " hook") && strings.HasSuffix(command, " --agent "+f.adapter)
}

func (f hookFile) apply(d *document, s *Settings) error {
	if s.Hook == "" {
		return f.remove(d)
	}
	for _, event := range f.events {
		command := map[string]any{"type": "command", "command": s.hook(f.adapter)}
		maps.Copy(command, f.more)
		group := map[string]any{"hooks": []any{command}}
		if f.matcher {
			group["matcher"] = "*"
		}
		if err := d.setHook(event, f.ours, group); err != nil {
			return err
		}
	}
	return nil
}

func (f hookFile) remove(d *document) error {
	for _, event := range f.events {
		if err := d.removeHook(event, f.ours); err != nil {
			return err
		}
	}
	return nil
}

// editJSON is a file whose settings are put in by apply and taken out by remove.
func editJSON(path string, apply func(*document, *Settings) error, remove func(*document) error) file {
	edit := func(old []byte, change func(*document) error) ([]byte, error) {
		d, err := parseJSON(old)
		if err != nil {
			return nil, err
		}
		if err := change(d); err != nil {
			return nil, err
		}
		return d.bytes(), nil
	}
	return file{
		path: path,
		apply: func(old []byte, s *Settings) ([]byte, error) {
			return edit(old, func(d *document) error { return apply(d, s) })
		},
		remove: func(old []byte) ([]byte, error) { return edit(old, remove) },
	}
}
