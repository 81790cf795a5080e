// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"

	"github.com/watchglass/watchglass/event"
)

// longestPart cuts each value in a message, in bytes: it is the sandbox's.
const longestPart = 256

// template is a message with {attribute} and {captured.name} for values.
type template []templatePart

// templatePart is a literal, or else a slot or the name of something captured.
type templatePart struct {
	literal, captured string
	slot              int
}

func (l *language) template(source string, captures map[string]bool) (template, error) {
	var t template
	for rest := source; rest != ""; {
		before, after, open := strings.Cut(rest, "{")
		if before != "" {
			t = append(t, templatePart{literal: before, slot: -1})
		}
		if !open {
			break
		}
		name, next, closed := strings.Cut(after, "}")
		if !closed {
			return nil, fmt.Errorf("the { before %q is not closed", name)
		}
		part := templatePart{slot: -1}
		if captured, ok := strings.CutPrefix(name, variableCaptured+"."); ok {
			if part.captured = captured; !captures[captured] {
				return nil, fmt.Errorf("{%s}: no step captures %s", name, captured)
			}
		} else if slot, ok := l.slots[event.Key(name)]; ok {
			part.slot = slot
		} else {
			return nil, fmt.Errorf("{%s}: there is no such attribute", name)
		}
		t, rest = append(t, part), next
	}
	return t, nil
}

func (t template) render(v *values) string {
	var b strings.Builder
	for i := range t {
		part := &t[i]
		switch {
		case part.literal != "":
			b.WriteString(part.literal)
		case part.captured != "":
			b.WriteString(cut(v.captured[part.captured], longestPart))
		default:
			value, _ := v.get(part.slot)
			b.WriteString(cut(value.Text(), longestPart))
		}
	}
	return b.String()
}

// cut shortens s to at most limit bytes, and copies it, so as not to keep what it is a part of.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return strings.Clone(s)
	}
	return strings.ToValidUTF8(s[:limit-len("…")], "") + "…"
}
