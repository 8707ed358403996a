package filter

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
)

// Error says what is wrong with an expression.
type Error struct {
	Expr     string
	Problems []Problem // in the order of their places, at least one
}

// Problem is one mistake in an expression.
type Problem struct {
	Line, Column int // from 1; columns count characters
	Message      string
}

// Error names the first problem and how many more there are.
func (e *Error) Error() string {
	p := e.Problems[0]
	text := fmt.Sprintf("filter: line %d, column %d: %s", p.Line, p.Column, p.Message)
	if more := len(e.Problems) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return text
}

func newError(expr string, issues *cel.Issues) *Error {
	e := &Error{Expr: expr}
	for _, i := range issues.Errors() {
		e.Problems = append(e.Problems, Problem{max(1, i.Location.Line()), max(1, i.Location.Column()+1), explain(i.Message)})
	}
	slices.SortStableFunc(e.Problems, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return e
}

// explain adds the list of fields where a name is not known.
func explain(message string) string {
	message = strings.TrimSuffix(message, " (in container '')")
	if !strings.Contains(message, "undeclared reference") {
		return message
	}
	return message + "; the fields are " + fieldNames()
}

func fieldNames() string {
	var names []string
	for _, f := range fields() {
		names = append(names, string(f.Name))
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
