// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"path"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"github.com/watchglass/watchglass/event"
)

// mostAncestors is how far up ancestors goes.
const mostAncestors = 16

// values is one event as conditions see it. It is used for one event after the other: what belongs to an
// earlier one is told by its generation.
type values struct {
	l          *language
	event      *event.Event
	captured   map[string]string
	generation uint32
	scratch    []event.Attribute
	at         []event.Value
	filled     []uint32
	// boxed is the values as CEL takes them, made when it asks.
	boxed   []ref.Val
	boxedAt []uint32
	// text is where a text is made that a comparison needs.
	text []byte
	// resource is true once the sandbox's attributes are there too.
	resource bool
}

func newValues(l *language) *values {
	n := len(l.keys)
	return &values{
		l: l, at: make([]event.Value, n), filled: make([]uint32, n),
		boxed: make([]ref.Val, n), boxedAt: make([]uint32, n),
	}
}

// load makes e the event that is looked at.
func (v *values) load(e *event.Event) {
	v.event, v.captured, v.resource = e, nil, false
	if v.generation++; v.generation == 0 { // it came round: nothing may look as if it were of this event
		v.generation = 1
		clear(v.filled)
		clear(v.boxedAt)
	}
	v.scratch = e.AppendAttributes(v.scratch[:0])
	v.fill(v.scratch)
}

func (v *values) fill(attributes []event.Attribute) {
	for i := range attributes {
		if slot, ok := v.l.slots[attributes[i].Key]; ok {
			v.at[slot], v.filled[slot] = attributes[i].Value, v.generation
		}
	}
}

// release lets go of the event.
func (v *values) release() {
	v.event, v.captured = nil, nil
	clear(v.scratch)
}

// get is the value in a slot, the zero Value where the event has none.
func (v *values) get(slot int) (event.Value, bool) {
	if v.filled[slot] == v.generation {
		return v.at[slot], true
	}
	if !v.resource && v.event.Sandbox != nil && strings.HasPrefix(string(v.l.keys[slot]), "watchglass.sandbox.") {
		v.resource = true
		v.scratch = v.event.Sandbox.AppendAttributes(v.scratch[:0])
		v.fill(v.scratch)
		return v.get(slot)
	}
	return event.Value{}, false
}

// ResolveName implements interpreter.Activation.
func (v *values) ResolveName(name string) (any, bool) {
	if slot, ok := v.l.slots[event.Key(name)]; ok {
		return v.box(slot), true
	}
	switch name {
	case variableKind:
		return types.String(v.event.Kind()), true
	case variableSeverity:
		return types.Int(v.event.Payload.Severity()), true
	case variableAncestors:
		if v.event.Process == nil {
			return types.DefaultTypeAdapter.NativeToValue([]string{}), true
		}
		return types.DefaultTypeAdapter.NativeToValue(v.event.Process.Ancestry(mostAncestors)), true
	case variableCommands:
		return types.DefaultTypeAdapter.NativeToValue(commands(v.event.Process)), true
	case variableEnvironment:
		return types.DefaultTypeAdapter.NativeToValue(v.environment()), true
	case variableCaptured:
		return types.DefaultTypeAdapter.NativeToValue(v.captured), true
	}
	if key, ok := strings.CutPrefix(name, presence); ok {
		_, present := v.get(v.l.slots[event.Key(key)])
		return types.Bool(present), true
	}
	return nil, false
}

// Parent implements interpreter.Activation.
func (*values) Parent() interpreter.Activation { return nil }

// commands is the commands of the ancestors, from the parent upwards: the program and its first arguments, of
// paths the last element, so that "node /usr/lib/node_modules/npm/bin/npm-cli.js ci" is "node npm-cli.js ci".
func commands(p *event.Process) []string {
	const mostArguments = 6
	list := []string{}
	if p == nil {
		return list
	}
	for q := p.Parent; q != nil && len(list) < mostAncestors; q = q.Parent {
		words := []string{q.Name}
		for i, arg := range q.Args {
			if i > 0 && i <= mostArguments {
				words = append(words, path.Base(arg))
			}
		}
		list = append(list, cut(strings.Join(words, " "), longestPart))
	}
	return list
}

func (v *values) environment() map[string]string {
	all := map[string]string{}
	if x, ok := v.event.Payload.(*event.ProcessExec); ok {
		for _, variable := range x.Env {
			all[variable.Name] = variable.Value
		}
	}
	return all
}

func (v *values) box(slot int) ref.Val {
	if v.boxedAt[slot] == v.generation {
		return v.boxed[slot]
	}
	value, _ := v.get(slot)
	v.boxed[slot], v.boxedAt[slot] = boxed(value, v.l.forms[slot]), v.generation
	return v.boxed[slot]
}

func boxed(value event.Value, form event.ValueKind) ref.Val {
	switch form {
	case event.ValueInt:
		return types.Int(value.AsInt())
	case event.ValueDouble:
		return types.Double(value.AsDouble())
	case event.ValueBool:
		return types.Bool(value.AsBool())
	case event.ValueStrings:
		return types.NewStringList(types.DefaultTypeAdapter, value.AsStrings())
	case event.ValueMap:
		counts := map[string]int64{}
		for _, c := range value.AsCounts() {
			counts[c.Name] = c.N
		}
		return types.DefaultTypeAdapter.NativeToValue(counts)
	case event.ValueString, event.ValueInvalid:
	}
	return types.String(value.AsString())
}
