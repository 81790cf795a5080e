// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"regexp/syntax"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
)

// maxPattern is how large the regular expressions of one condition may become, in instructions of about 40 bytes.
// "x{1000}" is seven bytes of a rule and a thousand of them.
const maxPattern = 4096

var errPattern = errors.New("the pattern of matches() must be a text: what a sandbox says must not become a program")

// checkPatterns refuses regular expressions that would become too large, before anything makes them, and those
// that are not known before an event comes. What is none at all is left to CEL, which says where.
func checkPatterns(tree *ast.AST) error {
	size, dynamic := 0, false
	ast.PostOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != overloads.Matches {
			return
		}
		args := e.AsCall().Args()
		if len(args) == 0 {
			return
		}
		n, literal := patternSize(args[len(args)-1])
		size, dynamic = size+n, dynamic || !literal
	}))
	switch {
	case dynamic:
		return errPattern
	case size > maxPattern:
		return fmt.Errorf("its regular expressions become %d instructions, the most are %d", size, maxPattern)
	}
	return nil
}

// patternSize is about how many instructions a pattern becomes, and whether it is a text, or texts put together.
func patternSize(e ast.Expr) (size int, literal bool) {
	switch e.Kind() {
	case ast.LiteralKind:
		text, ok := e.AsLiteral().Value().(string)
		if !ok {
			return 0, true // CEL says that its type is another
		}
		re, err := syntax.Parse(text, syntax.Perl)
		if err != nil {
			return 0, true
		}
		return instructions(re), true
	case ast.CallKind:
		if e.AsCall().FunctionName() != operators.Add {
			return 0, false
		}
		for _, part := range e.AsCall().Args() {
			n, ok := patternSize(part)
			if !ok {
				return 0, false
			}
			size += n
		}
		return size, true
	default:
		return 0, false
	}
}

// instructions is how many a parsed expression becomes: repetitions are written out.
func instructions(re *syntax.Regexp) int {
	const most = 1 << 30
	n := 1
	if re.Op == syntax.OpLiteral {
		n = len(re.Rune)
	}
	for _, sub := range re.Sub {
		n += instructions(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return min(n, most)
}
