// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"
	"cel.dev/cel-go/parser"

	"github.com/watchglass/watchglass/event"
)

// The limits of one evaluation, in CEL's own unit of cost: about a comparison.
const (
	// maxEstimate refuses at load what could cost more than this with the longest values.
	maxEstimate = 1 << 28
	// maxCost ends an evaluation that costs more. The rule then does not match, and that is counted.
	maxCost = 4 << 20
	// The longest values that estimates reckon with: bytes of a text, elements of a list.
	longestText, longestList = 4096, 1024
)

// Variables besides the attributes.
const (
	variableKind        = "event.kind"
	variableSeverity    = "event.severity"
	variableAncestors   = "ancestors"
	variableCommands    = "ancestor_commands"
	variableEnvironment = "environment"
	variableCaptured    = "captured"
	// presence is the prefix of the variables that present(attribute) stands for.
	presence = "@present."
)

// language is what conditions can say: CEL over the attributes of events.
type language struct {
	env *cel.Env
	// slots is the place of each attribute's value in values.
	slots map[event.Key]int
	forms []event.ValueKind
	keys  []event.Key
	// kinds is the kinds of events, by their names with and without the prefix.
	kinds map[string]event.Kind
	// carried is the attributes of each kind's own; common those that any event can have.
	carried map[event.Kind]map[event.Key]bool
	own     map[event.Key]bool
}

// newLanguage makes the language from the registry of events.
func newLanguage() (*language, error) {
	l := &language{
		slots: map[event.Key]int{}, kinds: map[string]event.Kind{},
		carried: map[event.Kind]map[event.Key]bool{}, own: map[event.Key]bool{},
	}
	options := []cel.EnvOption{
		cel.Variable(variableKind, cel.StringType),
		cel.Variable(variableSeverity, cel.IntType),
		cel.Variable(variableAncestors, cel.ListType(cel.StringType)),
		cel.Variable(variableCommands, cel.ListType(cel.StringType)),
		cel.Variable(variableEnvironment, cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable(variableCaptured, cel.MapType(cel.StringType, cel.StringType)),
		cel.Macros(cel.StandardMacros...),
		cel.Macros(cel.GlobalMacro("present", 1, expandPresent)),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateComprehensionNestingLimit(2)),
		ext.Strings(ext.StringsVersion(4)),
		ext.Network(),
	}
	for i, a := range event.Attributes() {
		l.slots[a.Key], l.forms, l.keys = i, append(l.forms, a.Form), append(l.keys, a.Key)
		if a.Key == event.ProcessEnvironment {
			continue // a prefix: see variableEnvironment
		}
		options = append(options, cel.Variable(string(a.Key), celType(a.Form)), cel.Variable(presence+string(a.Key), cel.BoolType))
	}
	for _, k := range event.Kinds() {
		l.kinds[string(k.Kind)] = k.Kind
		l.kinds[strings.TrimPrefix(string(k.Kind), "watchglass.")] = k.Kind
		l.carried[k.Kind] = map[event.Key]bool{}
		for _, key := range k.Attributes {
			l.carried[k.Kind][key], l.own[key] = true, true
		}
	}
	var err error
	if l.env, err = cel.NewCustomEnv(append(options, cel.StdLib())...); err != nil {
		return nil, fmt.Errorf("making the language of rules: %w", err)
	}
	return l, nil
}

func celType(form event.ValueKind) *cel.Type {
	switch form {
	case event.ValueInt:
		return cel.IntType
	case event.ValueDouble:
		return cel.DoubleType
	case event.ValueBool:
		return cel.BoolType
	case event.ValueStrings:
		return cel.ListType(cel.StringType)
	case event.ValueMap:
		return cel.MapType(cel.StringType, cel.IntType)
	case event.ValueString, event.ValueInvalid:
	}
	return cel.StringType
}

// expandPresent makes present(file.path) a variable of its own.
func expandPresent(eh parser.ExprHelper, _ ast.Expr, args []ast.Expr) (ast.Expr, *common.Error) {
	name := qualified(args[0])
	if name == "" {
		return nil, eh.NewError(args[0].ID(), "present() takes the name of an attribute")
	}
	return eh.NewIdent(presence + name), nil
}

// qualified is the dotted name that an expression is, "" when it is none.
func qualified(e ast.Expr) string {
	switch e.Kind() {
	case ast.IdentKind:
		return e.AsIdent()
	case ast.SelectKind:
		if operand := qualified(e.AsSelect().Operand()); operand != "" && !e.AsSelect().IsTestOnly() {
			return operand + "." + e.AsSelect().FieldName()
		}
	default: // no name
	}
	return ""
}

// expression is a compiled condition, or another expression over an event.
type expression struct {
	// guards must all hold, and then the rest, which is nil when nothing else is left to decide.
	guards   []guard
	rest     *clause
	program  cel.Program
	estimate uint64
}

// compile makes an expression of the wanted type. kinds is the events it is asked about: an attribute that
// none of them has is a mistake.
func (l *language) compile(source string, want *cel.Type, kinds []event.Kind) (*expression, error) {
	parsed, issues := l.env.Parse(source)
	if err := issues.Err(); err != nil {
		return nil, plain(issues)
	}
	if err := checkPatterns(parsed.NativeRep()); err != nil {
		return nil, err
	}
	checked, issues := l.env.Check(parsed)
	if err := issues.Err(); err != nil {
		return nil, plain(issues)
	}
	if !checked.OutputType().IsExactType(want) {
		return nil, fmt.Errorf("it is a %s, a %s is needed here", checked.OutputType(), want)
	}
	tree := checked.NativeRep()
	if err := l.checkAttributes(tree, kinds); err != nil {
		return nil, err
	}
	estimate, err := l.env.EstimateCost(checked, estimator{})
	if err != nil {
		return nil, fmt.Errorf("its cost cannot be estimated: %w", err)
	}
	if estimate.Max > maxEstimate {
		return nil, fmt.Errorf("it could cost %d, the most is %d: put cheap conditions first and avoid loops in loops", estimate.Max, maxEstimate)
	}
	x := &expression{estimate: estimate.Max}
	if want == cel.BoolType {
		x.guards, x.rest = l.guards(tree)
	}
	x.program, err = l.env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	if err != nil {
		return nil, fmt.Errorf("planning: %w", err)
	}
	return x, nil
}

// plain is the complaints of CEL in one line each, without the drawing of the place.
func plain(issues *cel.Issues) error {
	var all []error
	for _, issue := range issues.Errors() {
		all = append(all, fmt.Errorf("column %d: %s", issue.Location.Column()+1, strings.TrimSpace(issue.Message)))
	}
	if len(all) == 0 {
		return issues.Err()
	}
	return errors.Join(all...)
}

// checkAttributes refuses attributes that none of the kinds has.
func (l *language) checkAttributes(tree *ast.AST, kinds []event.Kind) error {
	for _, r := range tree.ReferenceMap() {
		key := event.Key(strings.TrimPrefix(r.Name, presence))
		if _, known := l.slots[key]; !known || !l.own[key] || len(kinds) == 0 {
			continue
		}
		if !l.anyCarries(kinds, key) {
			return fmt.Errorf("no event of %v has the attribute %s", kinds, key)
		}
	}
	return nil
}

func (l *language) anyCarries(kinds []event.Kind, key event.Key) bool {
	for _, k := range kinds {
		if l.carried[k][key] || everywhere(key) {
			return true
		}
	}
	return false
}

// everywhere says of attributes that some payloads have as their own that the process of any event has them too.
func everywhere(key event.Key) bool {
	switch key {
	case event.ProcessExecutablePath, event.ProcessExecutableName, event.SessionID, event.GenAIConversationID,
		event.GenAIAgentName, event.GenAIToolCallID, event.GenAIToolName, event.TurnID, event.ApprovalID,
		event.JoinMethod, event.JoinConfidence:
		return true
	default:
		return false
	}
}

// estimator tells CEL how long values can be.
type estimator struct{}

// EstimateSize implements cost.Estimator.
func (estimator) EstimateSize(element cost.AstNode) *cost.SizeEstimate {
	switch element.Type().Kind() {
	case types.StringKind, types.BytesKind:
		return &cost.SizeEstimate{Max: longestText}
	case types.ListKind, types.MapKind:
		return &cost.SizeEstimate{Max: longestList}
	default:
		return nil
	}
}

// EstimateCallCost implements cost.Estimator: CEL's own estimates do.
func (estimator) EstimateCallCost(_, _ string, _ *cost.AstNode, _ []cost.AstNode) *cost.CallEstimate {
	return nil
}

var _ cost.Estimator = estimator{}

// holds says whether a condition holds for the event in v. An error, or too high a cost, is no match.
func (x *expression) holds(v *values) (bool, error) {
	for i := range x.guards {
		if !x.guards[i].holds(v) {
			return false, nil
		}
	}
	if x.rest == nil {
		return true, nil
	}
	if known := x.rest.holds(v); known != verdictOpen {
		return known == verdictTrue, nil
	}
	result, err := x.eval(v)
	return result == types.True, err
}

// native says that a condition never needs CEL.
func (x *expression) native() bool { return x.rest == nil || x.rest.native() }

// string is the value of an expression of type string.
func (x *expression) string(v *values) (string, error) {
	result, err := x.eval(v)
	if err != nil {
		return "", err
	}
	s, _ := result.Value().(string)
	return s, nil
}

// int is the value of an expression of type int.
func (x *expression) int(v *values) (int64, error) {
	result, err := x.eval(v)
	if err != nil {
		return 0, err
	}
	n, _ := result.Value().(int64)
	return n, nil
}

func (x *expression) eval(v *values) (ref.Val, error) {
	result, _, err := x.program.Eval(v)
	if err != nil {
		return nil, fmt.Errorf("evaluating: %w", err)
	}
	return result, nil
}
