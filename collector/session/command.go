// SPDX-License-Identifier: Apache-2.0

package session

import (
	"path"
	"strings"
)

// maxCommand bounds a command line that is kept to be compared or shown, in bytes.
const maxCommand = 4 << 10

// command is a command line as it can be compared: what an agent said it runs, or what a process was given.
type command struct {
	// text is in normal form.
	text string
	// cut is true when only the beginning is known.
	cut bool
	// wrapped is true when it stood in the wrapper that an agent puts around its tools' commands, and around
	// nothing else that it starts.
	wrapped bool
	// confined is how it ran; unknown for what was only said.
	confined confinement
}

// confinement is whether a program ran under restrictions of its own.
type confinement uint8

const (
	confinementUnknown confinement = iota
	confinementNone
	confinementSome
)

// minPrefix is how much of a command that was cut must agree with another.
const minPrefix = 64

// same says whether two command lines are the same, as far as both are known.
func (c command) same(other command) bool {
	shorter, longer := c, other
	if len(shorter.text) > len(longer.text) {
		shorter, longer = longer, shorter
	}
	if shorter.text == longer.text {
		return shorter.text != ""
	}
	return shorter.cut && len(shorter.text) >= minPrefix && strings.HasPrefix(longer.text, shorter.text)
}

// said makes a command of an agent's words.
func said(line string) command {
	text := normal(line)
	if len(text) > maxCommand {
		return command{text: strings.Clone(text[:maxCommand]), cut: true}
	}
	return command{text: strings.Clone(text)}
}

// executed makes a command of the arguments of an exec: what a shell was given to run, without the wrapper of the
// agent; else the arguments themselves. truncated says that the kernel did not tell all of them.
func executed(args []string, truncated bool) command {
	line, shell := script(args)
	if !shell {
		c := said(strings.Join(args, " "))
		c.cut = c.cut || truncated
		return c
	}
	for _, unwrap := range []func(string) (string, bool){fromClaude, fromGemini} {
		if inner, ok := unwrap(line); ok {
			c := said(inner)
			c.wrapped = true
			return c
		}
	}
	c := said(line)
	c.cut = c.cut || truncated
	return c
}

// script is what a shell is given with -c. Options may stand before and after it.
func script(args []string) (line string, ok bool) {
	if len(args) < 3 || !isShell(args[0]) {
		return "", false
	}
	given := false
	for _, arg := range args[1:] {
		switch {
		case strings.HasPrefix(arg, "--"):
		case strings.HasPrefix(arg, "-") || strings.HasPrefix(arg, "+"):
			given = given || strings.Contains(arg, "c")
		case given:
			return arg, true
		default:
			return "", false
		}
	}
	return "", false
}

func isShell(program string) bool {
	switch strings.TrimPrefix(path.Base(program), "-") {
	case "sh", "bash", "dash", "zsh", "ash", "ksh":
		return true
	}
	return false
}

// fromClaude takes a command out of what Claude Code gives its shell:
//
//	source SNAPSHOT … && eval 'COMMAND' < /dev/null && pwd -P >| /tmp/claude-…-cwd
func fromClaude(line string) (string, bool) {
	const before, tries = "eval ", 8 // of which the first is the wrapper's, unless its beginning has others
	rest := line
	for range tries {
		at := strings.Index(rest, before)
		if at < 0 {
			return "", false
		}
		quoted := rest[at+len(before):]
		inner, after, ok := word(quoted)
		after = strings.TrimPrefix(after, " < /dev/null")
		if ok && strings.HasPrefix(after, " && pwd -P >| ") {
			return inner, true
		}
		rest = quoted
	}
	return "", false
}

// fromGemini takes a command out of what Gemini CLI gives its shell, in either form:
//
//	… _bgpids_file=FILE ( trap 'jobs -p > "$_bgpids_file"' EXIT COMMAND ) __code=$? exit $__code
//	{ COMMAND; }; __code=$?; …
func fromGemini(line string) (string, bool) {
	const trap, code = `trap 'jobs -p > "$_bgpids_file"' EXIT`, "__code=$?"
	end := strings.LastIndex(line, code)
	if end < 0 {
		return "", false
	}
	body := strings.TrimRight(line[:end], " \t\n;")
	if _, after, ok := strings.Cut(body, trap); ok {
		return strings.CutSuffix(strings.TrimLeft(after, " \t\n;"), ")")
	}
	inner, opened := strings.CutPrefix(body, "{")
	inner, closed := strings.CutSuffix(inner, "}")
	return strings.TrimRight(strings.TrimSpace(inner), ";"), opened && closed
}

// word takes the quotes off the first word of a shell's line. What follows it is the rest.
func word(line string) (text, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t', '\n', ';', '&', '|', '<', '>', '(', ')':
			return b.String(), line[i:], b.Len() > 0
		case '\'':
			end := strings.IndexByte(line[i+1:], '\'')
			if end < 0 {
				return "", "", false
			}
			b.WriteString(line[i+1 : i+1+end])
			i += end + 1
		case '"':
			n, closed := doubleQuoted(&b, line[i+1:])
			if !closed {
				return "", "", false
			}
			i += n
		case '\\':
			if i++; i < len(line) {
				b.WriteByte(line[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", b.Len() > 0
}

// doubleQuoted reads up to the closing quote; n is how many bytes that were, the quote included.
func doubleQuoted(b *strings.Builder, line string) (n int, closed bool) {
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			return i + 1, true
		case c == '\\' && i+1 < len(line) && strings.IndexByte("\"\\$`\n", line[i+1]) >= 0:
			i++
			b.WriteByte(line[i])
		default:
			b.WriteByte(c)
		}
	}
	return 0, false
}

// normal is a command line in the form in which two are compared: agents change blanks, and close the standard
// input of what they run.
func normal(line string) string {
	if len(line) > 2*maxCommand {
		line = line[:2*maxCommand]
	}
	line = strings.ReplaceAll(line, "< /dev/null", " ")
	line = strings.Join(strings.Fields(line), " ")
	return strings.TrimRight(line, "; ")
}
