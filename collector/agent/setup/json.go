// SPDX-License-Identifier: Apache-2.0

package setup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tailscale/hujson"
)

// document is a JSON file, with comments and trailing commas where it has them. What is not changed stays as it is,
// to the byte.
type document struct {
	text []byte
	root hujson.Value
	// unit is one step of the file's indentation.
	unit string
}

// parseJSON reads a file; one that is empty is an empty object.
func parseJSON(text []byte) (*document, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		text = []byte("{}\n")
	}
	root, err := hujson.Parse(text)
	if err != nil {
		return nil, positioned(err)
	}
	d := &document{text: text, root: root, unit: "  "}
	object, ok := root.Value.(*hujson.Object)
	if !ok {
		return nil, &PositionError{Line: d.line(&root), Err: errors.New("is no JSON object")}
	}
	if len(object.Members) > 0 {
		before := string(object.Members[0].Name.BeforeExtra)
		if at := strings.LastIndexByte(before, '\n'); at >= 0 && strings.TrimLeft(before[at+1:], " \t") == "" {
			d.unit = first(before[at+1:], d.unit)
		}
	}
	return d, nil
}

// positioned takes the line out of what hujson says of it.
func positioned(err error) error {
	message := strings.TrimPrefix(err.Error(), "hujson: ")
	if rest, ok := strings.CutPrefix(message, "line "); ok {
		number, after, _ := strings.Cut(rest, ",")
		if line, convErr := strconv.Atoi(number); convErr == nil {
			_, what, _ := strings.Cut(after, ": ")
			return &PositionError{Line: line, Err: errors.New(what)}
		}
	}
	return err
}

func (d *document) line(v *hujson.Value) int {
	return 1 + bytes.Count(d.text[:min(v.StartOffset, len(d.text))], []byte("\n"))
}

// bytes is the file's text; nil when nothing is left in it.
func (d *document) bytes() []byte {
	if object, ok := d.root.Value.(*hujson.Object); ok && len(object.Members) == 0 && len(bytes.TrimSpace(object.AfterExtra)) == 0 {
		return nil
	}
	return d.root.Pack()
}

// object is the object at a path from the root, made where it is missing.
func (d *document) object(path ...string) (*hujson.Object, int, error) {
	at, _ := d.root.Value.(*hujson.Object)
	for depth, name := range path {
		member := find(at, name)
		if member == nil {
			d.add(at, depth, name, map[string]any{})
			member = find(at, name)
		}
		next, ok := member.Value.Value.(*hujson.Object)
		if !ok {
			return nil, 0, &PositionError{Line: d.line(&member.Value), Err: fmt.Errorf("%s is no object", strings.Join(path[:depth+1], "."))}
		}
		at = next
	}
	return at, len(path), nil
}

// lookup is the value at a path, nil where there is none.
func (d *document) lookup(path ...string) *hujson.Value {
	value := &d.root
	for _, name := range path {
		object, ok := value.Value.(*hujson.Object)
		if !ok {
			return nil
		}
		member := find(object, name)
		if member == nil {
			return nil
		}
		value = &member.Value
	}
	return value
}

// find is the member that a reader of the file sees: the last of a name.
func find(object *hujson.Object, name string) *hujson.ObjectMember {
	for i := len(object.Members) - 1; i >= 0; i-- {
		if literal, ok := object.Members[i].Name.Value.(hujson.Literal); ok && literal.String() == name {
			return &object.Members[i]
		}
	}
	return nil
}

// set sets a value at a path. One that is so already is not touched.
func (d *document) set(value any, path ...string) error {
	object, depth, err := d.object(path[:len(path)-1]...)
	if err != nil {
		return err
	}
	name := path[len(path)-1]
	member := find(object, name)
	if member == nil {
		d.add(object, depth, name, value)
		return nil
	}
	if !same(&member.Value, value) {
		member.Value.Value = d.value(value, depth+1)
	}
	return nil
}

// same says whether a value in the file is this one.
func same(v *hujson.Value, value any) bool {
	have := v.Clone()
	have.Standardize()
	var a, b any
	text, err := json.Marshal(value)
	if err != nil || json.Unmarshal(have.Pack(), &a) != nil || json.Unmarshal(text, &b) != nil {
		return false
	}
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// value is a value as it stands at a depth. It is made of maps, lists and texts alone, so nothing of it can fail.
func (d *document) value(value any, depth int) hujson.ValueTrimmed {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent(strings.Repeat(d.unit, depth), d.unit)
	if err := encoder.Encode(value); err != nil {
		return hujson.Literal("null")
	}
	parsed, err := hujson.Parse(bytes.TrimSpace(text.Bytes()))
	if err != nil {
		return hujson.Literal("null")
	}
	return parsed.Value
}

// add adds a member at the end of an object that stands at a depth.
func (d *document) add(object *hujson.Object, depth int, name string, value any) {
	own, trailing := "\n"+strings.Repeat(d.unit, depth+1), false
	if last := len(object.Members) - 1; last >= 0 {
		trailing = object.Members[last].Value.AfterExtra != nil
		if before := string(object.Members[last].Name.BeforeExtra); !strings.Contains(before, "\n") {
			own = first(before, " ") // an object on one line stays on it
		}
	}
	var before, after hujson.Extra
	before, after = d.behind(object.AfterExtra, own, depth)
	member := hujson.ObjectMember{
		Name:  hujson.Value{BeforeExtra: before, Value: hujson.String(name)},
		Value: hujson.Value{BeforeExtra: hujson.Extra(" "), Value: d.value(value, depth+1)},
	}
	if trailing {
		member.Value.AfterExtra = hujson.Extra{}
	}
	object.Members, object.AfterExtra = append(object.Members, member), after
}

// behind divides what stands before a closing bracket: comments go before the new last element, which has own before
// it otherwise.
func (d *document) behind(extra hujson.Extra, own string, depth int) (before, after hujson.Extra) {
	comments := strings.TrimRight(string(extra), " \t\r\n")
	before = hujson.Extra(comments + own)
	if strings.HasPrefix(own, "\n") {
		return before, hujson.Extra("\n" + strings.Repeat(d.unit, depth))
	}
	if comments != "" { // which may end only with the line
		before = hujson.Extra(comments + "\n" + own)
	}
	return before, hujson.Extra(extra[len(comments):])
}

// remove takes the value at a path away, and objects that are empty without it.
func (d *document) remove(path ...string) {
	for len(path) > 0 {
		parent := d.lookup(path[:len(path)-1]...)
		if parent == nil {
			return
		}
		object, ok := parent.Value.(*hujson.Object)
		if !ok {
			return
		}
		trailing := len(object.Members) > 0 && object.Members[len(object.Members)-1].Value.AfterExtra != nil
		var kept []hujson.ObjectMember
		var comments hujson.Extra
		for _, m := range object.Members {
			if literal, ok := m.Name.Value.(hujson.Literal); ok && literal.String() == path[len(path)-1] {
				comments = slices.Concat(comments, commentsOf(m.Name.BeforeExtra))
				continue
			}
			m.Name.BeforeExtra, comments = slices.Concat(comments, m.Name.BeforeExtra), nil
			kept = append(kept, m)
		}
		object.Members = kept
		if len(kept) > 0 {
			comments = slices.Concat(comments, ending(&kept[len(kept)-1].Value, trailing))
		}
		object.AfterExtra = slices.Concat(comments, object.AfterExtra)
		if len(object.Members) > 0 || len(bytes.TrimSpace(object.AfterExtra)) > 0 {
			return
		}
		path = path[:len(path)-1]
	}
}

// commentsOf is what stands before an element that goes, if it is more than space: it is about what comes before.
func commentsOf(extra hujson.Extra) hujson.Extra { return bytes.TrimRight(extra, " \t\r\n") }

// ending makes a value the last, with a comma behind it or not, and returns the comments that have to go behind.
func ending(v *hujson.Value, trailing bool) hujson.Extra {
	if trailing {
		v.AfterExtra = append(hujson.Extra{}, v.AfterExtra...)
		return nil
	}
	comments := commentsOf(v.AfterExtra)
	v.AfterExtra = nil
	return comments
}

// hookGroups is the list of an event's hooks as agents keep it: groups with a matcher, each with its commands.
func (d *document) hookGroups(event string) (*hujson.Array, error) {
	value := d.lookup("hooks", event)
	if value == nil {
		return nil, nil
	}
	list, ok := value.Value.(*hujson.Array)
	if !ok {
		return nil, &PositionError{Line: d.line(value), Err: fmt.Errorf("hooks.%s is no list", event)}
	}
	return list, nil
}

// setHook has an event call our command beside what it calls already. A group of somebody else's that calls it too is
// left as it is.
func (d *document) setHook(event string, ours func(command string) bool, group map[string]any) error {
	list, err := d.hookGroups(event)
	if err != nil {
		return err
	}
	if list == nil {
		return d.set([]any{group}, "hooks", event)
	}
	for i := range list.Elements {
		switch mine, alone := calls(&list.Elements[i], ours); {
		case !mine:
		case alone && !same(&list.Elements[i], group):
			list.Elements[i].Value = d.value(group, 3)
			return nil
		default:
			return nil
		}
	}
	const depth = 2
	own := "\n" + strings.Repeat(d.unit, depth+1)
	element := hujson.Value{Value: d.value(group, depth+1)}
	element.BeforeExtra, list.AfterExtra = d.behind(list.AfterExtra, own, depth)
	if last := len(list.Elements) - 1; last >= 0 && list.Elements[last].AfterExtra != nil {
		element.AfterExtra = hujson.Extra{}
	}
	list.Elements = append(list.Elements, element)
	return nil
}

// calls says whether a group calls our command, and whether it calls nothing else.
func calls(group *hujson.Value, ours func(command string) bool) (mine, alone bool) {
	plain := group.Clone()
	plain.Standardize()
	var decoded struct {
		Hooks []struct {
			Command string `json:"command"`
		} `json:"hooks"`
	}
	if json.Unmarshal(plain.Pack(), &decoded) != nil {
		return false, false
	}
	for _, h := range decoded.Hooks {
		mine = mine || ours(h.Command)
	}
	return mine, len(decoded.Hooks) == 1
}

// removeHook takes our command out of what an event calls.
func (d *document) removeHook(event string, ours func(command string) bool) error {
	list, err := d.hookGroups(event)
	if err != nil || list == nil {
		return err
	}
	trailing := len(list.Elements) > 0 && list.Elements[len(list.Elements)-1].AfterExtra != nil
	var kept []hujson.Value
	var comments hujson.Extra
	for _, v := range list.Elements {
		if mine, alone := calls(&v, ours); mine && alone {
			comments = slices.Concat(comments, commentsOf(v.BeforeExtra))
			continue
		}
		v.BeforeExtra, comments = slices.Concat(comments, v.BeforeExtra), nil
		kept = append(kept, v)
	}
	list.Elements = kept
	if len(kept) > 0 {
		comments = slices.Concat(comments, ending(&kept[len(kept)-1], trailing))
	}
	list.AfterExtra = slices.Concat(comments, list.AfterExtra)
	if len(kept) == 0 && len(bytes.TrimSpace(list.AfterExtra)) == 0 {
		d.remove("hooks", event)
	}
	return nil
}
