package filter

import (
	"cmp"
	"slices"
	"strings"
	"time"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// predicate is an expression that runs without CEL. It never fails, and is what CEL would say.
type predicate func(*facts) bool

// natives translates what it can.
type natives struct{ fields map[Field]field }

func newNatives() *natives { return &natives{fieldByName()} }

// conjuncts are the members of a conjunction.
func conjuncts(e celast.Expr) []celast.Expr {
	if !isCall(e, operators.LogicalAnd, 2) {
		return []celast.Expr{e}
	}
	args := e.AsCall().Args()
	return append(conjuncts(args[0]), conjuncts(args[1])...)
}

// predicate translates an expression, if all of it can be.
func (n *natives) predicate(e celast.Expr) (predicate, bool) {
	if value, ok := literal[types.Bool](e); ok {
		return func(*facts) bool { return bool(value) }, true
	}
	if f, ok := n.field(e); ok && f.Kind == Bool {
		return f.truth, true
	}
	if e.Kind() != celast.CallKind {
		return nil, false
	}
	call := e.AsCall()
	switch name := call.FunctionName(); {
	case call.IsMemberFunction() && len(call.Args()) == 1:
		return n.textTest(name, call.Target(), call.Args()[0])
	case name == operators.LogicalNot:
		inner, ok := n.predicate(call.Args()[0])
		return func(x *facts) bool { return !inner(x) }, ok
	case name == operators.LogicalAnd || name == operators.LogicalOr:
		return n.both(name, call.Args())
	case name == isUserFunction:
		user, ok := literal[types.String](call.Args()[1])
		return func(x *facts) bool { return x.isUser(string(user)) }, ok
	case name == inUsersFunction:
		users, ok := texts(call.Args()[1])
		return func(x *facts) bool { return slices.ContainsFunc(users, x.isUser) }, ok
	case name == operators.In:
		return n.in(call.Args()[0], call.Args()[1])
	case comparisons[name]:
		return n.compare(name, call.Args()[0], call.Args()[1])
	}
	return nil, false
}

func (n *natives) both(name string, args []celast.Expr) (predicate, bool) {
	a, ok := n.predicate(args[0])
	if !ok {
		return nil, false
	}
	b, ok := n.predicate(args[1])
	if name == operators.LogicalAnd {
		return func(x *facts) bool { return a(x) && b(x) }, ok
	}
	return func(x *facts) bool { return a(x) || b(x) }, ok
}

func (n *natives) textTest(name string, target, arg celast.Expr) (predicate, bool) {
	f, isField := n.field(target)
	wanted, isText := literal[types.String](arg)
	tests := map[string]func(s, part string) bool{"startsWith": strings.HasPrefix, "endsWith": strings.HasSuffix, "contains": strings.Contains}
	test, known := tests[name]
	if !isField || f.Kind != Text || !isText || !known {
		return nil, false
	}
	return func(x *facts) bool { return test(f.text(x), string(wanted)) }, true
}

func (n *natives) in(value, of celast.Expr) (predicate, bool) {
	if f, ok := n.field(of); ok && f.Kind == Texts {
		wanted, ok := literal[types.String](value)
		if f.Name == "groups" {
			return func(x *facts) bool { return x.inGroup(string(wanted)) }, ok
		}
		return func(x *facts) bool { return slices.Contains(f.list(x), string(wanted)) }, ok
	}
	f, ok := n.field(value)
	if !ok || f.Kind != Text {
		return nil, false
	}
	wanted, ok := texts(of)
	return func(x *facts) bool { return slices.Contains(wanted, f.text(x)) }, ok
}

func (n *natives) compare(operator string, left, right celast.Expr) (predicate, bool) {
	c, ok := n.comparison(operator, left, right)
	if !ok {
		return nil, false
	}
	holds := c.holds()
	switch c.field.Kind {
	case Text:
		return func(x *facts) bool { return holds(strings.Compare(c.field.text(x), c.text)) }, true
	case Int:
		return func(x *facts) bool { return holds(cmp.Compare(c.field.number(x), c.number)) }, true
	case Time:
		return func(x *facts) bool { return holds(c.field.moment(x).Compare(c.moment)) }, true
	}
	return func(x *facts) bool { return holds(compareTruth(c.field.truth(x), c.truth)) }, true
}

// comparison is a field beside a constant of its kind.
type comparison struct {
	field    field
	operator string // with the field on the left
	text     string
	number   int64
	truth    bool
	moment   time.Time
}

var mirrored = map[string]string{
	operators.Less: operators.Greater, operators.LessEquals: operators.GreaterEquals,
	operators.Greater: operators.Less, operators.GreaterEquals: operators.LessEquals,
	operators.Equals: operators.Equals, operators.NotEquals: operators.NotEquals,
}

func (n *natives) comparison(operator string, left, right celast.Expr) (c comparison, ok bool) {
	if _, onRight := n.field(right); onRight {
		left, right, operator = right, left, mirrored[operator]
	}
	c.operator = operator
	if c.field, ok = n.field(left); !ok {
		return c, false
	}
	switch c.field.Kind {
	case Text:
		text, is := literal[types.String](right)
		c.text, ok = string(text), is
	case Int:
		number, is := literal[types.Int](right)
		c.number, ok = int64(number), is
	case Bool:
		truth, is := literal[types.Bool](right)
		c.truth, ok = bool(truth), is
	case Time:
		c.moment, ok = moment(right)
	default:
		ok = false
	}
	return c, ok
}

// holds is the operator as a test of how the field compares with the constant.
func (c *comparison) holds() func(int) bool {
	switch c.operator {
	case operators.Equals:
		return func(order int) bool { return order == 0 }
	case operators.NotEquals:
		return func(order int) bool { return order != 0 }
	case operators.Less:
		return func(order int) bool { return order < 0 }
	case operators.LessEquals:
		return func(order int) bool { return order <= 0 }
	case operators.Greater:
		return func(order int) bool { return order > 0 }
	}
	return func(order int) bool { return order >= 0 }
}

// moment is the time that timestamp("…") states.
func moment(e celast.Expr) (time.Time, bool) {
	if !isCall(e, timestampFunction, 1) {
		return time.Time{}, false
	}
	text, ok := literal[types.String](e.AsCall().Args()[0])
	if !ok {
		return time.Time{}, false
	}
	// As cel-go reads it.
	t, err := time.Parse(time.RFC3339, string(text))
	return t, err == nil
}

// texts is a list of string literals.
func texts(e celast.Expr) ([]string, bool) {
	if e.Kind() != celast.ListKind {
		return nil, false
	}
	var all []string
	for _, element := range e.AsList().Elements() {
		text, ok := literal[types.String](element)
		if !ok {
			return nil, false
		}
		all = append(all, string(text))
	}
	return all, true
}

func (n *natives) field(e celast.Expr) (field, bool) {
	if e.Kind() != celast.IdentKind {
		return field{}, false
	}
	f, ok := n.fields[Field(e.AsIdent())]
	return f, ok
}

func isCall(e celast.Expr, function string, args int) bool {
	return e.Kind() == celast.CallKind && e.AsCall().FunctionName() == function && !e.AsCall().IsMemberFunction() && len(e.AsCall().Args()) == args
}

func compareTruth(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
