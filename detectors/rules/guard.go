// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/watchglass/watchglass/event"
)

// guard is one comparison of an attribute with constants, which is decided without CEL.
type guard struct {
	slot   int
	test   guardTest
	texts  []string
	number int64
	flag   bool
	// compare is the operator of guardOrder.
	compare string
	pattern *regexp.Regexp
}

type guardTest uint8

const (
	guardEqual guardTest = iota
	guardNumber
	// What follows no index can find.
	guardFlag
	guardOrder
	guardPrefix
	guardSuffix
	guardContains
	guardPresent
	guardItem
	guardPattern
)

// verdict is what is known of a condition without CEL.
type verdict uint8

const (
	verdictFalse verdict = iota
	verdictTrue
	// verdictOpen is of what only CEL can tell.
	verdictOpen
)

// clause is a condition as far as it can be decided without CEL: nearly every event is decided by it, and costs no
// memory then. Its logic is CEL's own: what is open does not matter where the rest decides.
type clause struct {
	// logic is the operator over parts; "" for a guard; open for what needs CEL.
	logic string
	parts []clause
	guard guard
	open  bool
}

// clause makes the clause of an expression.
func (l *language) clause(tree *ast.AST, e ast.Expr) clause {
	if g, ok := l.guard(tree, e); ok {
		return clause{guard: g}
	}
	if e.Kind() == ast.LiteralKind {
		if v, ok := e.AsLiteral().(types.Bool); ok {
			// A flag that no event has is false.
			return clause{logic: constant, open: bool(v)}
		}
	}
	if e.Kind() != ast.CallKind {
		return clause{open: true}
	}
	call := e.AsCall()
	switch name := call.FunctionName(); name {
	case operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot:
		c := clause{logic: name}
		for _, arg := range call.Args() {
			c.parts = append(c.parts, l.clause(tree, arg))
		}
		return c
	case operators.NotEquals:
		if args := call.Args(); len(args) == 2 {
			if slot, ok := l.attribute(tree, args[0]); ok {
				if g, ok := l.equalGuard(slot, args[1]); ok {
					return clause{logic: operators.LogicalNot, parts: []clause{{guard: g}}}
				}
			}
		}
	}
	return clause{open: true}
}

// constant is the logic of true and false.
const constant = "constant"

// holds is what is known of the clause for the event in v.
func (c *clause) holds(v *values) verdict {
	switch c.logic {
	case constant:
		return truth(c.open)
	case operators.LogicalNot:
		switch c.parts[0].holds(v) {
		case verdictFalse:
			return verdictTrue
		case verdictTrue:
			return verdictFalse
		case verdictOpen:
		}
		return verdictOpen
	case operators.LogicalAnd:
		return c.among(v, verdictFalse, verdictTrue)
	case operators.LogicalOr:
		return c.among(v, verdictTrue, verdictFalse)
	}
	if c.open {
		return verdictOpen
	}
	return truth(c.guard.holds(v))
}

// native says that no part of the clause needs CEL.
func (c *clause) native() bool {
	for i := range c.parts {
		if !c.parts[i].native() {
			return false
		}
	}
	return c.logic != "" || !c.open
}

// among is decided where one of the parts is; without an open one it is else.
func (c *clause) among(v *values, decided, otherwise verdict) verdict {
	result := otherwise
	for i := range c.parts {
		switch got := c.parts[i].holds(v); got {
		case decided:
			return decided
		case verdictOpen:
			result = verdictOpen
		default:
		}
	}
	return result
}

func truth(b bool) verdict {
	if b {
		return verdictTrue
	}
	return verdictFalse
}

// guards is the clauses of a conjunction that are comparisons, and rest what else it says, nil for nothing.
func (l *language) guards(tree *ast.AST) (list []guard, rest *clause) {
	others := clause{logic: operators.LogicalAnd}
	for _, e := range conjuncts(tree.Expr(), nil) {
		if g, ok := l.guard(tree, e); ok {
			list = append(list, g)
		} else {
			others.parts = append(others.parts, l.clause(tree, e))
		}
	}
	// What an index can find goes first, then what is cheap.
	slices.SortStableFunc(list, func(a, b guard) int { return int(a.test) - int(b.test) })
	if len(others.parts) == 0 {
		return list, nil
	}
	return list, &others
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
	if call.FunctionName() == operators.In {
		if g, ok := l.itemGuard(tree, args); ok {
			return g, true
		}
	}
	slot, ok := l.attribute(tree, args[0])
	if !ok {
		return guard{}, false
	}
	switch name := call.FunctionName(); name {
	case operators.Equals:
		return l.equalGuard(slot, args[1])
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		if args[1].Kind() == ast.LiteralKind {
			number, ok := args[1].AsLiteral().(types.Int)
			return guard{slot: slot, test: guardOrder, compare: name, number: int64(number)}, ok && l.forms[slot] == event.ValueInt
		}
	case operators.In:
		texts, ok := constants(args[1])
		return guard{slot: slot, test: guardEqual, texts: texts}, ok && l.forms[slot] == event.ValueString
	}
	return guard{}, false
}

// itemGuard is "text" in attribute, where that is a list of texts.
func (l *language) itemGuard(tree *ast.AST, args []ast.Expr) (guard, bool) {
	slot, ok := l.attribute(tree, args[1])
	if !ok || l.forms[slot] != event.ValueStrings || args[0].Kind() != ast.LiteralKind {
		return guard{}, false
	}
	text, ok := args[0].AsLiteral().(types.String)
	return guard{slot: slot, test: guardItem, texts: []string{string(text)}}, ok
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
	case "matches":
		pattern, err := regexp.Compile(string(text))
		if err != nil {
			return guard{}, false
		}
		g.test, g.pattern = guardPattern, pattern
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

// holds says whether the comparison holds. An attribute that the event lacks is empty, 0 or false, as in CEL.
func (g *guard) holds(v *values) bool {
	value, present := v.get(g.slot)
	switch g.test {
	case guardNumber:
		return value.AsInt() == g.number
	case guardOrder:
		return ordered(g.compare, value.AsInt(), g.number)
	case guardFlag:
		return value.AsBool() == g.flag
	case guardPresent:
		return present == g.flag
	case guardItem:
		for i := range value.Len() {
			if v.text = value.AppendItem(v.text[:0], i); string(v.text) == g.texts[0] {
				return true
			}
		}
		return false
	case guardEqual, guardPrefix, guardSuffix, guardContains, guardPattern:
	}
	if text, plain := value.Plain(); plain {
		return g.covers(text)
	}
	v.text = value.AppendString(v.text[:0])
	return g.coversBytes(v.text)
}

func ordered(operator string, a, b int64) bool {
	switch operator {
	case operators.Less:
		return a < b
	case operators.LessEquals:
		return a <= b
	case operators.Greater:
		return a > b
	default:
		return a >= b
	}
}

// covers compares a text.
func (g *guard) covers(text string) bool {
	switch g.test {
	case guardEqual:
		return slices.Contains(g.texts, text)
	case guardPrefix:
		return strings.HasPrefix(text, g.texts[0])
	case guardSuffix:
		return strings.HasSuffix(text, g.texts[0])
	case guardContains:
		return strings.Contains(text, g.texts[0])
	case guardPattern:
		return g.pattern.MatchString(text)
	default:
		return false
	}
}

// coversBytes is covers for a text that was made for it, and becomes no string: that would cost memory.
func (g *guard) coversBytes(text []byte) bool {
	first := g.test != guardPattern && len(text) >= len(g.texts[0])
	switch g.test {
	case guardEqual:
		return slices.ContainsFunc(g.texts, func(t string) bool { return t == string(text) })
	case guardPrefix:
		return first && string(text[:len(g.texts[0])]) == g.texts[0]
	case guardSuffix:
		return first && string(text[len(text)-len(g.texts[0]):]) == g.texts[0]
	case guardContains:
		for at := 0; at+len(g.texts[0]) <= len(text); at++ {
			if string(text[at:at+len(g.texts[0])]) == g.texts[0] {
				return true
			}
		}
		return false
	case guardPattern:
		return g.pattern.Match(text)
	default:
		return false
	}
}
