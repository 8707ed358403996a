package filter

import (
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

const (
	// maxExpression bounds a filter's text in characters: far above what people write, and programs that list ids.
	maxExpression = 64 << 10
	// costLimit bounds the work on one record in CEL's units, of which a comparison takes a few and a millisecond
	// thousands: a filter over the 1,000 groups of a person stays far below it.
	costLimit = 200_000
)

// Compile checks an expression and prepares it. An empty one chooses everything. An error is an *Error.
func Compile(expr string) (*Filter, error) {
	if strings.TrimSpace(expr) == "" {
		return everything(), nil
	}
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("preparing the filter language: %w", err)
	}
	tree, issues := env.Parse(expr)
	if issues.Err() != nil {
		return nil, newError(expr, issues)
	}
	rewritten := &rewriter{tree: tree.NativeRep(), expr: expr}
	if err := rewritten.run(); err != nil {
		return nil, err
	}
	checked, issues := env.Check(tree)
	if issues.Err() != nil {
		return nil, newError(expr, issues)
	}
	if checked.OutputType() != cel.BoolType {
		return nil, &Error{Expr: expr, Problems: []Problem{{1, 1, fmt.Sprintf("a filter is true or false, and this is a %s", checked.OutputType())}}}
	}
	return assemble(expr, env, checked)
}

// assemble makes the parts of a filter: what runs natively on its own, and all of it in CEL where something does not.
func assemble(expr string, env *cel.Env, checked *cel.Ast) (*Filter, error) {
	f := &Filter{text: expr, exact: true}
	n := newNatives()
	whole := true
	for _, e := range conjuncts(checked.NativeRep().Expr()) {
		native, ok := n.predicate(e)
		whole = whole && ok
		if ok {
			f.parts = append(f.parts, part{native: native})
		}
		b := n.bounds(e)
		f.exact = f.exact && (b.bounds() || isTrue(e)) && !conflict(f.bounds, b)
		f.bounds = f.bounds.and(b)
	}
	f.needles = f.bounds.needles()
	if whole {
		return f, nil
	}
	p, err := env.Program(checked, cel.CostLimit(costLimit), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, &Error{Expr: expr, Problems: []Problem{{1, 1, err.Error()}}}
	}
	f.parts = append(f.parts, part{cel: &program{p}})
	return f, nil
}

// environment is the language: CEL's standard library over the fields.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.ParserExpressionSizeLimit(maxExpression),
		cel.DefaultUTCTimeZone(true),
		cel.ASTValidators(cel.ValidateTimestampLiterals(), cel.ValidateDurationLiterals(), cel.ValidateRegexLiterals(),
			cel.ValidateHomogeneousAggregateLiterals()),
		cel.Variable(whoVariable, cel.ListType(cel.StringType)),
		cel.Function(isUserFunction, cel.Overload("is_user_string", []*cel.Type{cel.ListType(cel.StringType), cel.StringType},
			cel.BoolType, cel.BinaryBinding(celIsUser))),
		cel.Function(inUsersFunction, cel.Overload("in_users_list", []*cel.Type{cel.ListType(cel.StringType), cel.ListType(cel.StringType)},
			cel.BoolType, cel.BinaryBinding(celInUsers))),
	}
	for _, f := range fields() {
		options = append(options, cel.Variable(string(f.Name), celTypes[f.Kind]))
	}
	return cel.NewEnv(options...)
})

var celTypes = map[Kind]*cel.Type{
	Text: cel.StringType, Int: cel.IntType, Bool: cel.BoolType, Time: cel.TimestampType, Texts: cel.ListType(cel.StringType), Who: cel.StringType,
}

// The names that comparisons with `user` are rewritten to. Nobody can write an "@" in an expression.
const (
	whoVariable     = "@who"
	isUserFunction  = "@is_user"
	inUsersFunction = "@in_users"
)

func celIsUser(who, user ref.Val) ref.Val {
	names, ok := who.(traits.Indexer)
	text, isText := user.(types.String)
	if !ok || !isText {
		return types.NewErr("user is compared with a string")
	}
	at := func(i int) string { s, _ := names.Get(types.Int(i)).(types.String); return string(s) }
	return types.Bool(isWho(string(text), at(0), at(1)) || isWho(string(text), at(2), at(3)))
}

func celInUsers(who, users ref.Val) ref.Val {
	list, ok := users.(traits.Iterable)
	if !ok {
		return types.NewErr("user is looked for in a list")
	}
	for i := list.Iterator(); i.HasNext() == types.True; {
		if found := celIsUser(who, i.Next()); found != types.False {
			return found
		}
	}
	return types.False
}

// program is an expression that needs CEL.
type program struct{ cel.Program }

func (p *program) eval(x *facts) (bool, error) {
	result, _, err := p.Eval(&activation{x})
	if err != nil {
		return false, err
	}
	return result == types.True, nil
}

// activation gives CEL the fields it asks for, when it asks.
type activation struct{ *facts }

// Parent implements interpreter.Activation.
func (activation) Parent() cel.Activation { return nil }

// ResolveName implements interpreter.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	if name == whoVariable {
		return a.who(), true
	}
	f, ok := fieldByName()[Field(name)]
	if !ok {
		return nil, false
	}
	switch f.Kind {
	case Text:
		return f.text(a.facts), true
	case Int:
		return f.number(a.facts), true
	case Bool:
		return f.truth(a.facts), true
	case Time:
		return f.moment(a.facts), true
	case Texts:
		return f.list(a.facts), true
	}
	return nil, false
}

var fieldByName = sync.OnceValue(func() map[Field]field {
	all := make(map[Field]field)
	for _, f := range fields() {
		all[f.Name] = f
	}
	return all
})
