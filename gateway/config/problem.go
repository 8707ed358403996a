package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing wrong with a configuration, at the place where it can be put right.
type Problem struct {
	File   string // as the operator named it
	Line   int    // from 1
	Column int    // from 1, in characters
	Path   string // such as apps[2].access[0].hours.from; empty for the document as a whole
	Text   string // what is wrong and what is expected
}

// String is the line that compilers have taught editors to understand: file:line:column: path: text.
func (p Problem) String() string {
	where := fmt.Sprintf("%s:%d:%d: ", p.File, p.Line, p.Column)
	if p.Path != "" {
		where += p.Path + ": "
	}
	return where + p.Text
}

// Errors is everything that is wrong with one configuration, in the order of the file.
type Errors []Problem

// Error is one line for each problem.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// sorted returns the problems in the order of the file, nil when there are none.
func (e Errors) sorted() error {
	if len(e) == 0 {
		return nil
	}
	slices.SortStableFunc(e, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return e
}

// At says that err is about the field below the value whose Check returns it: a path such as apps[2].host. Without
// At, an error of Check is shown at the checked value itself.
func At(field string, err error) error { return &located{field, err} }

type located struct {
	field string
	err   error
}

func (l *located) Error() string { return l.err.Error() }
func (l *located) Unwrap() error { return l.err }
func (l *located) Field() string { return l.field }

// fielded is an error that knows which field below the checked value it is about. Packages that cannot import this one
// have error types of their own with this method.
type fielded interface{ Field() string }

// flatten takes apart what errors.Join put together.
func flatten(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}

// fieldOf returns the field an error of Check is about, or the empty string.
func fieldOf(err error) string {
	var f fielded
	if errors.As(err, &f) {
		return f.Field()
	}
	return ""
}
