package lint

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxAtoms bounds how many different conditions are tried in all combinations.
const maxAtoms = 10

// total reports whether one of the branches always holds, whatever their conditions are worth: it has no condition, or
// two have opposite ones, or several share all cases among them.
func total(list []*branch) bool {
	var clauses []clause
	var atoms []*ast.Expr
	for _, b := range list {
		if len(b.Head.Ref()) > 1 {
			continue
		}
		c, ok := clauseOf(b, &atoms)
		if ok {
			clauses = append(clauses, c)
		}
	}
	if len(atoms) > maxAtoms {
		return false
	}
	for truth := range 1 << len(atoms) {
		if !slices.ContainsFunc(clauses, func(c clause) bool { return c.holds(truth) }) {
			return false
		}
	}
	return true
}

// clause is a body as bits: the atoms that have to hold, and those that must not.
type clause struct{ with, without int }

func (c clause) holds(truth int) bool { return truth&c.with == c.with && truth&c.without == 0 }

// clauseOf numbers the conditions of a body; false if it gives variables values, so that it is more than conditions.
func clauseOf(b *branch, atoms *[]*ast.Expr) (c clause, ok bool) {
	for _, e := range b.Body {
		if isTrue(e) && !e.Negated {
			continue
		}
		if binds(e) {
			return c, false
		}
		i := slices.IndexFunc(*atoms, func(a *ast.Expr) bool { return sameTerms(a, e) })
		if i < 0 {
			i = len(*atoms)
			*atoms = append(*atoms, e)
		}
		if e.Negated {
			c.without |= 1 << min(i, maxAtoms+1)
		} else {
			c.with |= 1 << min(i, maxAtoms+1)
		}
	}
	return c, true
}

func binds(e *ast.Expr) bool {
	switch t := e.Terms.(type) {
	case *ast.SomeDecl:
		return true
	case []*ast.Term:
		return operator(t[0]) == "assign"
	}
	return false
}
