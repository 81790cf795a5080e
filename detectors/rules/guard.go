// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/watchglass/watchglass/event"
)

// guard is one clause of a condition that is decided without CEL: an attribute compared with constants.
// Nearly every event fails a guard, so that what does not match costs no more than a comparison.
type guard struct {
	slot   int
	test   guardTest
	texts  []string
	number int64
	flag   bool
}

type guardTest uint8

const (
	guardEqual guardTest = iota
	guardNumber
	// What follows no index can find.
	guardFlag
	guardPrefix
	guardSuffix
	guardContains
	guardPresent
)

// guards is the clauses of a conjunction that need no CEL. complete says that there are no others.
func (l *language) guards(tree *ast.AST) (list []guard, complete bool) {
	complete = true
	for _, clause := range conjuncts(tree.Expr(), nil) {
		if g, ok := l.guard(tree, clause); ok {
			list = append(list, g)
		} else {
			complete = false
		}
	}
	// What an index can find goes first, then what is cheap.
	slices.SortStableFunc(list, func(a, b guard) int { return int(a.test) - int(b.test) })
	return list, complete
}

func conjuncts(e ast.Expr, list []ast.Expr) []ast.Expr {
	if e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.LogicalAnd {
		for _, arg := range e.AsCall().Args() {
			list = conjuncts(arg, list)
		}
		return list
	}
	return append(list, e)
}

// attribute is the slot of the attribute that an expression names.
func (l *language) attribute(tree *ast.AST, e ast.Expr) (int, bool) {
	r := tree.ReferenceMap()[e.ID()]
	if r == nil {
		return 0, false
	}
	slot, ok := l.slots[event.Key(r.Name)]
	return slot, ok
}

// presence is the slot of the attribute in present(attribute).
func (l *language) presence(tree *ast.AST, e ast.Expr) (int, bool) {
	r := tree.ReferenceMap()[e.ID()]
	if r == nil || !strings.HasPrefix(r.Name, presence) {
		return 0, false
	}
	slot, ok := l.slots[event.Key(strings.TrimPrefix(r.Name, presence))]
	return slot, ok
}

func (l *language) guard(tree *ast.AST, e ast.Expr) (guard, bool) {
	if slot, ok := l.presence(tree, e); ok {
		return guard{slot: slot, test: guardPresent, flag: true}, true
	}
	if slot, ok := l.attribute(tree, e); ok && l.forms[slot] == event.ValueBool {
		return guard{slot: slot, test: guardFlag, flag: true}, true
	}
	if e.Kind() != ast.CallKind {
		return guard{}, false
	}
	call := e.AsCall()
	if call.IsMemberFunction() {
		return l.memberGuard(tree, call)
	}
	args := call.Args()
	if call.FunctionName() == operators.LogicalNot {
		if slot, ok := l.presence(tree, args[0]); ok {
			return guard{slot: slot, test: guardPresent}, true
		}
		slot, ok := l.attribute(tree, args[0])
		return guard{slot: slot, test: guardFlag}, ok && l.forms[slot] == event.ValueBool
	}
	if len(args) != 2 {
		return guard{}, false
	}
	slot, ok := l.attribute(tree, args[0])
	if !ok {
		return guard{}, false
	}
	switch call.FunctionName() {
	case operators.Equals:
		return l.equalGuard(slot, args[1])
	case operators.In:
		texts, ok := constants(args[1])
		return guard{slot: slot, test: guardEqual, texts: texts}, ok && l.forms[slot] == event.ValueString
	}
	return guard{}, false
}

func (l *language) equalGuard(slot int, constant ast.Expr) (guard, bool) {
	if constant.Kind() != ast.LiteralKind {
		return guard{}, false
	}
	switch v := constant.AsLiteral().(type) {
	case types.String:
		return guard{slot: slot, test: guardEqual, texts: []string{string(v)}}, l.forms[slot] == event.ValueString
	case types.Int:
		return guard{slot: slot, test: guardNumber, number: int64(v)}, l.forms[slot] == event.ValueInt
	case types.Bool:
		return guard{slot: slot, test: guardFlag, flag: bool(v)}, l.forms[slot] == event.ValueBool
	}
	return guard{}, false
}

func (l *language) memberGuard(tree *ast.AST, call ast.CallExpr) (guard, bool) {
	slot, ok := l.attribute(tree, call.Target())
	if !ok || l.forms[slot] != event.ValueString || len(call.Args()) != 1 {
		return guard{}, false
	}
	if call.Args()[0].Kind() != ast.LiteralKind {
		return guard{}, false
	}
	text, ok := call.Args()[0].AsLiteral().(types.String)
	if !ok {
		return guard{}, false
	}
	g := guard{slot: slot, texts: []string{string(text)}}
	switch call.FunctionName() {
	case "startsWith":
		g.test = guardPrefix
	case "endsWith":
		g.test = guardSuffix
	case "contains":
		g.test = guardContains
	default:
		return guard{}, false
	}
	return g, true
}

// constants is the texts of a list of nothing but constant texts.
func constants(e ast.Expr) ([]string, bool) {
	if e.Kind() != ast.ListKind {
		return nil, false
	}
	var texts []string
	for _, element := range e.AsList().Elements() {
		if element.Kind() != ast.LiteralKind {
			return nil, false
		}
		text, ok := element.AsLiteral().(types.String)
		if !ok {
			return nil, false
		}
		texts = append(texts, string(text))
	}
	return texts, len(texts) > 0
}

// holds says whether the clause holds. An attribute that the event lacks is empty, 0 or false, as in CEL.
func (g *guard) holds(v *values) bool {
	value, present := v.get(g.slot)
	switch g.test {
	case guardEqual:
		return slices.Contains(g.texts, value.AsString())
	case guardPrefix:
		return strings.HasPrefix(value.AsString(), g.texts[0])
	case guardSuffix:
		return strings.HasSuffix(value.AsString(), g.texts[0])
	case guardContains:
		return strings.Contains(value.AsString(), g.texts[0])
	case guardNumber:
		return value.AsInt() == g.number
	case guardFlag:
		return value.AsBool() == g.flag
	case guardPresent:
		return present == g.flag
	}
	return false
}
