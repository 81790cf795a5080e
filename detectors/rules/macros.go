// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"slices"
	"strings"
)

// macros is the named expressions of a file. A condition uses one by its name; it stands there in parentheses.
type macros map[string]text

// expand replaces the macros in an expression. A macro may use others, but not itself.
func (m macros) expand(expression string) (string, error) {
	var b strings.Builder
	if err := m.write(&b, expression, nil); err != nil {
		return "", err
	}
	return b.String(), nil
}

func (m macros) write(b *strings.Builder, expression string, within []string) error {
	for rest := expression; rest != ""; {
		token, after := nextToken(rest, b)
		rest = after
		body, known := m[token]
		if !known {
			b.WriteString(token)
		} else {
			if slices.Contains(within, token) {
				return fmt.Errorf("macro %s uses itself: %s", token, strings.Join(append(within, token), " → "))
			}
			b.WriteByte('(')
			if err := m.write(b, body.string, append(slices.Clip(within), token)); err != nil {
				return err
			}
			b.WriteByte(')')
		}
		if b.Len() > maxExpression {
			return fmt.Errorf("with its macros it is longer than %d bytes", maxExpression)
		}
	}
	return nil
}

// nextToken splits off a name that stands for itself, or else text that holds none: a string, a part of a
// qualified name, anything else. What is written already tells whether a name follows a dot.
func nextToken(s string, written *strings.Builder) (token, rest string) {
	c := s[0]
	switch {
	case c == '"' || c == '\'':
		n := stringEnd(s)
		return s[:n], s[n:]
	case !isNameStart(c):
		return s[:1], s[1:]
	}
	n := 1
	for n < len(s) && (isNameStart(s[n]) || s[n] >= '0' && s[n] <= '9') {
		n++
	}
	qualified := strings.HasSuffix(written.String(), ".") || n < len(s) && (s[n] == '.' || s[n] == '(')
	if prefix := n < len(s) && (s[n] == '"' || s[n] == '\''); prefix || qualified {
		// r"…" and b"…" are strings; a part of a qualified name is written with the next one.
		if prefix {
			n += stringEnd(s[n:])
		}
		// A name of its own that no macro can have, so that it is written as it is.
		written.WriteString(s[:n])
		return "", s[n:]
	}
	return s[:n], s[n:]
}

func isNameStart(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// stringEnd is the length of the string literal that s begins with, or of all of s where it does not end.
func stringEnd(s string) int {
	quote := s[:1]
	if strings.HasPrefix(s, strings.Repeat(quote, 3)) {
		quote = s[:3]
	}
	for i := len(quote); i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case strings.HasPrefix(s[i:], quote):
			return i + len(quote)
		}
	}
	return len(s)
}
