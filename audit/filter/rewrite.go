package filter

import (
	"fmt"
	"time"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// rewriter gives `time` and `user` their meanings in a parsed expression: a time compares with plain strings, and a user
// by whatever names one. Places stay as they were, for the messages of the checks that follow.
type rewriter struct {
	tree     *celast.AST
	expr     string
	nextID   int64
	problems []Problem
}

func (w *rewriter) run() error {
	w.nextID = celast.MaxID(w.tree)
	celast.PostOrderVisit(w.tree.Expr(), celast.NewExprVisitor(w.call))
	celast.PostOrderVisit(w.tree.Expr(), celast.NewExprVisitor(w.leftover))
	if len(w.problems) > 0 {
		return &Error{Expr: w.expr, Problems: w.problems}
	}
	return nil
}

var comparisons = map[string]bool{
	operators.Equals: true, operators.NotEquals: true, operators.Less: true, operators.LessEquals: true,
	operators.Greater: true, operators.GreaterEquals: true,
}

// call rewrites a comparison with time or user.
func (w *rewriter) call(e celast.Expr) {
	if e.Kind() != celast.CallKind || len(e.AsCall().Args()) != 2 {
		return
	}
	function, args := e.AsCall().FunctionName(), e.AsCall().Args()
	for i, arg := range args {
		other := args[1-i]
		switch {
		case comparisons[function] && isIdent(arg, fieldTime):
			w.momentOf(other)
		case function == operators.Equals && isIdent(arg, fieldUser):
			e.SetKindCase(w.userCall(isUserFunction, other))
			return
		case function == operators.NotEquals && isIdent(arg, fieldUser):
			e.SetKindCase(w.factory().NewCall(w.id(), operators.LogicalNot, w.userCall(isUserFunction, other)))
			return
		case function == operators.In && i == 0 && isIdent(arg, fieldUser):
			e.SetKindCase(w.userCall(inUsersFunction, other))
			return
		}
	}
}

// leftover reports what else is done with user, and variables that hide a field.
func (w *rewriter) leftover(e celast.Expr) {
	switch {
	case isIdent(e, fieldUser):
		w.problem(e, "user can be compared with ==, != and in only; the fields email, subject and actor are plain strings")
	case e.Kind() == celast.ComprehensionKind:
		for _, name := range []string{e.AsComprehension().IterVar(), e.AsComprehension().IterVar2()} {
			if _, hides := fieldByName()[Field(name)]; hides {
				w.problem(e, fmt.Sprintf("the variable %s hides the field of that name: call it otherwise", name))
			}
		}
	}
}

func (w *rewriter) userCall(function string, arg celast.Expr) celast.Expr {
	who := w.factory().NewIdent(w.id(), whoVariable)
	return w.factory().NewCall(w.id(), function, who, w.factory().CopyExpr(arg))
}

// momentOf turns a string literal into the time it states.
func (w *rewriter) momentOf(e celast.Expr) {
	text, ok := literal[types.String](e)
	if !ok {
		return
	}
	t, err := ParseTime(string(text))
	if err != nil {
		w.problem(e, err.Error())
		return
	}
	stated := w.factory().NewLiteral(w.id(), types.String(t.Format(time.RFC3339Nano)))
	e.SetKindCase(w.factory().NewCall(w.id(), timestampFunction, stated))
}

const timestampFunction = "timestamp"

// ParseTime reads a date, which is its beginning, or a date and time of day, to the minute, second or fraction. Without
// a zone it is UTC: the same filter means the same everywhere.
func ParseTime(text string) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02 15:04", time.DateTime,
		"2006-01-02T15:04Z07:00", time.RFC3339} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: write 2026-11-30, 2026-11-30T08:00 or 2026-11-30T08:00:00+01:00; without a zone it is UTC", text)
}

func (w *rewriter) factory() celast.ExprFactory { return celast.NewExprFactory() }

func (w *rewriter) id() int64 {
	w.nextID++
	return w.nextID
}

func (w *rewriter) problem(e celast.Expr, message string) {
	at := w.tree.SourceInfo().GetStartLocation(e.ID())
	w.problems = append(w.problems, Problem{at.Line(), at.Column() + 1, message})
}

func isIdent(e celast.Expr, name string) bool {
	return e.Kind() == celast.IdentKind && e.AsIdent() == name
}

// literal is the value of a literal of that type.
func literal[T any](e celast.Expr) (value T, ok bool) {
	if e.Kind() != celast.LiteralKind {
		return value, false
	}
	value, ok = e.AsLiteral().(T)
	return value, ok
}
