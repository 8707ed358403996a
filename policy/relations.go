package policy

import "github.com/open-policy-agent/opa/v1/ast"

// How a rule uses what it reads, as far as its text tells.

var refGroups = ast.MustParseRef("input.subject.groups")

// asksMembersOnly reports whether a rule uses the person's groups in no way but to ask whether a text is one of them:
// "staff" in input.subject.groups, as it is or by way of a variable that serves nothing else.
func asksMembersOnly(r *ast.Rule) bool {
	names, uses, member := map[ast.Var]int{}, 0, 0
	count := func(t *ast.Term, n *int) {
		if v, named := t.Value.(ast.Var); named && names[v] > 0 {
			names[v]--
			return
		}
		if ref, ok := t.Value.(ast.Ref); ok && ref.Equal(refGroups) {
			*n++
		}
	}
	ast.WalkExprs(r, func(e *ast.Expr) bool { // bindings come to light first
		if v, bound := boundToGroups(e); bound {
			member++
			names[v] = 0
		}
		return false
	})
	ast.WalkVars(r, func(v ast.Var) bool {
		if _, of := names[v]; of {
			names[v]++
		}
		return false
	})
	for v := range names {
		names[v]-- // where it is bound
	}
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		if e.IsCall() && e.Operator().String() == ast.Member.Name && len(e.Operands()) == 2 {
			if _, text := e.Operand(0).Value.(ast.String); text {
				count(e.Operand(1), &member)
			}
		}
		return false
	})
	ast.WalkRefs(r, func(ref ast.Ref) bool {
		if ref.HasPrefix(refGroups) {
			uses++
		}
		return false
	})
	for _, left := range names {
		if left != 0 {
			return false
		}
	}
	return uses == member
}

// boundToGroups is the variable that an expression makes a name for the person's groups.
func boundToGroups(e *ast.Expr) (ast.Var, bool) {
	if !e.IsEquality() && !e.IsAssignment() || e.Negated {
		return "", false
	}
	for i := range 2 {
		v, named := e.Operand(i).Value.(ast.Var)
		ref, ok := e.Operand(1 - i).Value.(ast.Ref)
		if named && ok && ref.Equal(refGroups) {
			return v, true
		}
	}
	return "", false
}

// origin is where a variable's value may come from.
type origin uint8

const (
	fromPath origin = 1 << iota
	fromPerson
)

var (
	refPath     = ast.MustParseRef("input.resource.path")
	refSegments = ast.MustParseRef("input.resource.segments")
	refSubject  = ast.MustParseRef("input.subject")
)

// relates reports whether a rule may hold the path against something of the person: whether one of its expressions has
// values from both. What a function is given may come from the person.
func relates(r *ast.Rule) bool {
	origins := make(map[ast.Var]origin)
	for _, arg := range r.Head.Args {
		ast.WalkVars(arg, func(v ast.Var) bool { origins[v] = fromPerson; return false })
	}
	found := false
	for changed := true; changed && !found; {
		changed = false
		ast.WalkExprs(r, func(e *ast.Expr) bool {
			of := originOf(e, origins)
			found = found || of == fromPath|fromPerson
			ast.WalkVars(e, func(v ast.Var) bool {
				if !ast.RootDocumentNames.Contains(ast.NewTerm(v)) && origins[v]|of != origins[v] {
					origins[v] |= of
					changed = true
				}
				return false
			})
			return found
		})
	}
	return found
}

// originOf is where the values in an expression come from.
func originOf(e *ast.Expr, origins map[ast.Var]origin) (of origin) {
	ast.WalkVars(e, func(v ast.Var) bool { of |= origins[v]; return false })
	ast.WalkRefs(e, func(r ast.Ref) bool {
		if r.HasPrefix(refPath) || r.HasPrefix(refSegments) || refPath.HasPrefix(r) {
			of |= fromPath
		}
		if r.HasPrefix(refSubject) || refSubject.HasPrefix(r) {
			of |= fromPerson
		}
		return false
	})
	return of
}
