// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// What marks our lines in a file of somebody else's. A setting of theirs that ours replaces is kept as a comment
// that begins with tomlAside, and put back when ours go.
const (
	tomlBegin = "# >>> watchglass: written by `watchglass agents setup`, which also takes it out again"
	tomlEnd   = "# <<< watchglass"
	tomlAside = "#watchglass# "
)

// applyTOML puts lines into a table, in front of what it has already; the table is made at the end when there is none.
// keys is the keys that the lines set: other settings of them are put aside.
func applyTOML(old []byte, table string, keys, lines []string) ([]byte, error) {
	text, err := removeTOML(old)
	if err != nil {
		return nil, err
	}
	place, err := findTOML(text, table, keys)
	if err != nil {
		return nil, err
	}
	block := tomlBegin + "\n" + strings.Join(lines, "\n") + "\n" + tomlEnd + "\n"
	var out bytes.Buffer
	if place.header < 0 {
		out.Write(text)
		if len(text) > 0 && text[len(text)-1] != '\n' {
			out.WriteByte('\n')
		}
		if len(text) > 0 {
			out.WriteByte('\n')
		}
		// The header is ours too, and goes with the rest.
		out.WriteString(strings.Replace(block, "\n", "\n["+table+"]\n", 1))
	} else {
		for i, line := range splitLines(text) {
			if slices.Contains(place.aside, i) {
				out.WriteString(tomlAside)
			}
			out.WriteString(line)
			if i == place.header {
				if !strings.HasSuffix(line, "\n") {
					out.WriteByte('\n')
				}
				out.WriteString(block)
			}
		}
	}
	return out.Bytes(), checkTOML(out.Bytes())
}

// removeTOML takes our lines out and puts back what they replaced.
func removeTOML(old []byte) ([]byte, error) {
	if err := checkTOML(old); err != nil {
		return nil, err
	}
	var kept []string
	begun := 0
	lines := splitLines(old)
	for i, line := range lines {
		switch trimmed := strings.TrimRight(line, "\r\n"); {
		case begun == 0 && trimmed == tomlBegin:
			begun = i + 1
			// A table of ours was put behind an empty line.
			ours := i+1 < len(lines) && strings.HasPrefix(lines[i+1], "[")
			if last := len(kept) - 1; ours && last >= 0 && strings.TrimRight(kept[last], "\r\n") == "" {
				kept = kept[:last]
			}
		case begun != 0:
			if trimmed == tomlEnd {
				begun = 0
			}
		default:
			kept = append(kept, strings.TrimPrefix(line, tomlAside))
		}
	}
	if begun != 0 {
		return nil, &PositionError{Line: begun, Err: fmt.Errorf("what begins here has no end: the line %q is missing", tomlEnd)}
	}
	text := []byte(strings.Join(kept, ""))
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	return text, checkTOML(text)
}

func splitLines(text []byte) []string { return slices.Collect(strings.Lines(string(text))) }

// checkTOML says where a text is no TOML.
func checkTOML(text []byte) error {
	var anything map[string]any
	err := toml.Unmarshal(text, &anything)
	if wrong := new(toml.DecodeError); errors.As(err, &wrong) {
		line, _ := wrong.Position()
		return &PositionError{Line: line, Err: errors.New(strings.TrimPrefix(wrong.Error(), "toml: "))}
	}
	return err
}

// tomlPlace is where lines go, by numbers from 0.
type tomlPlace struct {
	// header is the line of the table's header, -1 for none; aside is the lines of settings that ours replace.
	header int
	aside  []int
}

// findTOML finds a table, and the settings in it that have one of the keys. Tables that are written in a way that
// cannot be changed line by line are an error.
func findTOML(text []byte, table string, keys []string) (tomlPlace, error) {
	place := tomlPlace{header: -1}
	var parser unstable.Parser
	parser.Reset(text)
	var inside []string
	for parser.NextExpression() {
		node := parser.Expression()
		name, from, to := tomlKey(&parser, node)
		refuse := func(why string) error {
			return &PositionError{Line: from + 1, Err: fmt.Errorf("%s: %s; take it out, or set it by hand", strings.Join(name, "."), why)}
		}
		switch node.Kind {
		case unstable.Table, unstable.ArrayTable:
			inside = name
			switch {
			case name[0] != table:
			case node.Kind == unstable.ArrayTable:
				return place, refuse("is a list of tables")
			case len(name) == 1:
				place.header = from
			case slices.Contains(keys, name[1]):
				return place, refuse("is set as a table of its own")
			}
		case unstable.KeyValue:
			if full := append(slices.Clone(inside), name...); full[0] != table {
				continue
			} else if len(inside) == 0 {
				return place, refuse("is not written as [" + table + "]")
			} else if len(inside) == 1 && slices.Contains(keys, full[1]) {
				for line := from; line <= to; line++ {
					place.aside = append(place.aside, line)
				}
			}
		default: // nothing else stands by itself
		}
	}
	return place, parser.Error()
}

// tomlKey is the key of an expression and its first and last line, from 0.
func tomlKey(parser *unstable.Parser, node *unstable.Node) (name []string, from, to int) {
	raw := node.Raw
	for it := node.Key(); it.Next(); {
		name = append(name, string(it.Node().Data))
		if raw.Length == 0 { // a table's header has no range of its own
			raw = it.Node().Raw
		}
	}
	shape := parser.Shape(raw)
	return name, shape.Start.Line - 1, shape.End.Line - 1
}
