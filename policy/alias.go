package policy

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// direct is a copy of a rule that reads input by the places' own names: s := input.subject; s.email reads
// input.subject.email, and no more of the subject. So does object.get(input.subject, "email", ""), for whose first argument
// the compiler makes a variable.
func direct(r *ast.Rule) *ast.Rule {
	r = r.Copy()
	for changed := true; changed; {
		changed = false
		places := bindings(r)
		ast.WalkTerms(r, func(t *ast.Term) bool {
			ref, ok := t.Value.(ast.Ref)
			if !ok || len(ref) < 2 {
				return false
			}
			name, _ := ref[0].Value.(ast.Var)
			if place, bound := places[name]; bound {
				if _, constant := placeName(ref[1]); constant {
					t.Value = append(place.Copy(), ref[1:]...)
					changed = true
				}
			}
			return false
		})
		ast.WalkExprs(r, func(e *ast.Expr) bool {
			terms, call := e.Terms.([]*ast.Term)
			if !call || len(terms) < 4 {
				return false
			}
			name, _ := terms[1].Value.(ast.Var)
			if place, bound := places[name]; bound {
				direct := append([]*ast.Term{terms[0], ast.NewTerm(place.Copy())}, terms[2:]...)
				if _, ok := constantGet(direct); ok {
					e.Terms = direct
					changed = true
				}
			}
			return false
		})
	}
	dropUnused(r)
	return r
}

// bindings are the variables of a rule that are names for places under input.
func bindings(r *ast.Rule) map[ast.Var]ast.Ref {
	places := make(map[ast.Var]ast.Ref)
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		if name, place, ok := binding(e); ok {
			places[name] = place
		}
		return false
	})
	return places
}

// binding is the variable that an expression makes a name for a place under input. The compiler gives each of its variables
// one scope in the module.
func binding(e *ast.Expr) (ast.Var, ast.Ref, bool) {
	if !e.IsEquality() && !e.IsAssignment() || e.Negated || len(e.With) > 0 || len(e.Operands()) != 2 {
		return "", nil, false
	}
	for i := range 2 {
		name, named := e.Operand(i).Value.(ast.Var)
		place, ok := e.Operand(1 - i).Value.(ast.Ref)
		if named && ok && strings.HasPrefix(string(name), "__local") && place.HasPrefix(refInput) && len(placeNames(place)) == len(place)-1 {
			return name, place, true
		}
	}
	return "", nil, false
}

// dropUnused drops the names of places that nothing uses any more.
func dropUnused(r *ast.Rule) {
	uses := map[ast.Var]int{}
	ast.WalkVars(r, func(v ast.Var) bool { uses[v]++; return false })
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		if name, _, ok := binding(e); ok && uses[name] == 1 {
			e.Terms = ast.InternedTerm(true)
		}
		return false
	})
}
