// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxConfigBytes bounds what is read of a configuration file: the wrong file may have been named.
const maxConfigBytes = 1 << 20

// fileError is everything that is wrong with a configuration file, each with its line.
type fileError struct {
	file     string
	problems []problem
}

type problem struct {
	line int // 0 when it is nowhere in particular
	what string
}

func (e *fileError) Error() string {
	lines := make([]string, 0, len(e.problems))
	for _, p := range e.problems {
		if p.line == 0 {
			lines = append(lines, e.file+": "+p.what)
			continue
		}
		lines = append(lines, e.file+":"+strconv.Itoa(p.line)+": "+p.what)
	}
	return strings.Join(lines, "\n")
}

// readConfigFile reads a file that people wrote.
func readConfigFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	if len(text) > maxConfigBytes {
		return nil, fmt.Errorf("read the configuration: %s is larger than %d bytes", path, maxConfigBytes)
	}
	return text, nil
}

// validated is a configuration that can say what is wrong with it. An error begins with the path of
// the setting and a colon: "policy.network.allow[3]: …".
type validated interface{ Validate() error }

// decodeConfig reads text over the defaults in into. The error is a *fileError and names the lines.
func decodeConfig(file string, text []byte, into validated) error {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return &fileError{file, []problem{syntaxProblem(err)}}
	}
	if len(document.Content) == 0 { // empty or only comments: the defaults
		return validate(file, nil, into)
	}
	root := document.Content[0]
	checker := keyChecker{}
	checker.check(root, reflect.TypeOf(into).Elem(), "")
	if len(checker.problems) > 0 {
		return &fileError{file, checker.problems}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil {
		return &fileError{file, typeProblems(err)}
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return &fileError{file, []problem{{0, "holds more than one document (a line with --- starts another)"}}}
	}
	return validate(file, root, into)
}

func validate(file string, root *yaml.Node, into validated) error {
	var problems []problem
	for _, err := range single(into.Validate()) {
		path, _, _ := strings.Cut(err.Error(), ": ")
		problems = append(problems, problem{lineOf(root, path), err.Error()})
	}
	if len(problems) == 0 {
		return nil
	}
	return &fileError{file, problems}
}

// syntaxProblem is the parser's message.
func syntaxProblem(err error) problem {
	p := lineProblem(strings.TrimPrefix(err.Error(), "yaml: "))
	p.what = "not YAML: " + p.what
	return p
}

// lineProblem takes the line out of a message that begins "line 3: ".
func lineProblem(text string) problem {
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if number, what, ok := strings.Cut(rest, ": "); ok {
			if line, err := strconv.Atoi(number); err == nil {
				return problem{line, what}
			}
		}
	}
	return problem{0, text}
}

// typeProblems rewrites the decoder's messages, which speak of Go's types, for people who never saw them.
func typeProblems(err error) []problem {
	wrong := new(yaml.TypeError)
	if !errors.As(err, &wrong) {
		return []problem{syntaxProblem(err)}
	}
	message := regexp.MustCompile("^line ([0-9]+): cannot unmarshal (!![a-z]+)(?: `(.*)`)? into (.*)$")
	var problems []problem
	for _, text := range wrong.Errors {
		m := message.FindStringSubmatch(text)
		if m == nil {
			problems = append(problems, lineProblem(text))
			continue
		}
		line, _ := strconv.Atoi(m[1])
		what := yamlTypeName(m[2])
		if m[3] != "" {
			what = strconv.Quote(m[3]) + " is " + what
		} else {
			what = "here is " + what
		}
		problems = append(problems, problem{line, what + ", " + goTypeName(m[4]) + " is needed"})
	}
	return problems
}

func yamlTypeName(tag string) string {
	switch tag {
	case "!!str":
		return "text"
	case "!!int":
		return "a whole number"
	case "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!seq":
		return "a list"
	case "!!map":
		return "a group of settings"
	case "!!null":
		return "nothing"
	}
	return tag
}

func goTypeName(name string) string {
	switch {
	case name == "time.Duration":
		return `a duration like "1m30s"`
	case name == "bool":
		return "true or false"
	case name == "string":
		return "text"
	case strings.HasPrefix(name, "int"), strings.HasPrefix(name, "uint"):
		return "a whole number"
	case strings.HasPrefix(name, "float"):
		return "a number"
	case strings.HasPrefix(name, "[]"):
		return "a list"
	case strings.HasPrefix(name, "map["):
		return "a group of names and values"
	}
	return "a group of settings"
}

// keyChecker compares the keys of a document with the settings there are.
type keyChecker struct{ problems []problem }

func (c *keyChecker) check(node *yaml.Node, t reflect.Type, path string) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case node.Kind == yaml.AliasNode:
		c.check(node.Alias, t, path)
	case node.Kind == yaml.SequenceNode && t.Kind() == reflect.Slice:
		for i, element := range node.Content {
			c.check(element, t.Elem(), fmt.Sprintf("%s[%d]", path, i))
		}
	case node.Kind == yaml.MappingNode && t.Kind() == reflect.Struct:
		known := settings(t)
		for i := 0; i+1 < len(node.Content); i += 2 {
			key, value := node.Content[i], node.Content[i+1]
			field, ok := known[key.Value]
			switch {
			case ok:
				c.check(value, field, joinPath(path, key.Value))
			case key.Tag == "!!merge":
			default:
				c.problems = append(c.problems, problem{key.Line, unknownKey(key.Value, path, known)})
			}
		}
	}
}

func joinPath(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// unknownKey says that a key is unknown, and which one may be meant.
func unknownKey(key, path string, known map[string]reflect.Type) string {
	text := "unknown key " + strconv.Quote(key)
	if path != "" {
		text += " in " + path
	}
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	best, distance := "", 3
	for _, name := range names {
		if d := editDistance(key, name); d < distance && d < len(name) {
			best, distance = name, d
		}
	}
	if best != "" {
		return text + "; is " + strconv.Quote(best) + " meant?"
	}
	return text + "; there are: " + strings.Join(names, ", ")
}

// settings is the keys of a struct as the YAML decoder has them, and their types.
func settings(t reflect.Type) map[string]reflect.Type {
	known := map[string]reflect.Type{}
	for field := range t.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		switch {
		case name == "-" || !field.IsExported() && options != "inline":
		case options == "inline":
			maps.Copy(known, settings(field.Type))
		case name == "":
			known[strings.ToLower(field.Name)] = field.Type
		default:
			known[name] = field.Type
		}
	}
	return known
}

// editDistance is the number of letters to change, add, leave out or swap with their neighbour to
// make one word of the other. Keys of a hostile length are not compared.
func editDistance(a, b string) int {
	const longest = 64
	if len(a) > longest || len(b) > longest {
		return longest
	}
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
	}
	for j := range d[0] {
		d[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			d[i][j] = min(d[i-1][j]+1, d[i][j-1]+1, d[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}

// lineOf is the line of the setting that a path like "policy.network.allow[3]" names, or of the
// nearest group around it that the document holds; 0 when it holds none.
func lineOf(node *yaml.Node, path string) int {
	line := 0
	for node != nil && path != "" {
		for node.Kind == yaml.AliasNode {
			node = node.Alias
		}
		step := path
		if i := strings.IndexAny(path, ".["); i > 0 {
			step = path[:i]
		} else if i == 0 {
			end := strings.IndexAny(path[1:], ".[") + 1
			if end == 0 {
				end = len(path)
			}
			step = path[:end]
		}
		path = path[len(step):]
		node = child(node, strings.TrimPrefix(step, "."))
		if node != nil {
			line = node.Line
		}
	}
	return line
}

// child is the value below a key, or the element of a list below "[n]".
func child(node *yaml.Node, step string) *yaml.Node {
	if index, ok := strings.CutPrefix(step, "["); ok {
		n, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
		if err != nil || node.Kind != yaml.SequenceNode || n < 0 || n >= len(node.Content) {
			return nil
		}
		return node.Content[n]
	}
	if node.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == step {
			return node.Content[i+1]
		}
	}
	return nil
}
