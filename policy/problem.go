package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Problem is one thing wrong with a policy.
type Problem struct {
	File         string // as the operator knows it
	Line, Column int    // from 1; 0 when it concerns the whole file
	Text         string
}

func (p Problem) Error() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s", p.File, p.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Text)
}

// Problems is the error of a policy that cannot be used: everything found at once.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// problemsOf reads the compiler's errors.
func problemsOf(errs ast.Errors) Problems {
	ps := make(Problems, len(errs))
	for i, e := range errs {
		ps[i] = problemAt(e.Location, e.Message)
		if e.Code == ast.RecursionErr {
			ps[i].Text += recursionAdvice
		}
		ps[i].Text = strings.ReplaceAll(ps[i].Text, guardPrefix, "")
		if name, ok := strings.CutPrefix(ps[i].Text, "undefined function "); ok {
			ps[i].Text += whyDenied(name)
		}
	}
	return ps
}

// whyDenied explains a built-in function that OPA has and policies here do not.
func whyDenied(name string) string {
	for why, names := range denied {
		if slices.Contains(names, name) {
			return ": it " + why
		}
	}
	return ""
}

// recursionAdvice explains what usually lies behind a recursion error.
const recursionAdvice = "; an app package builds on data.sallyport.authz.access, which never asks app packages"

func problemAt(at *ast.Location, text string) Problem {
	if at == nil {
		return Problem{File: "policy", Text: text}
	}
	return Problem{File: at.File, Line: at.Row, Column: at.Col, Text: text}
}
