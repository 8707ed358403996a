package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Site is a place in an app's own package, or in what it leads to, that calls a built-in function with something made of
// the path or the method.
type Site struct {
	Call   string // the function
	Where  string // file:line
	Path   bool
	Method bool
}

// Parts of the input whose way through the rules is followed.
const (
	ofPath origin = 1 << iota
	ofMethod
)

var (
	refResource = ast.MustParseRef("input.resource")
	refAction   = ast.MustParseRef("input.action")
	refVerb     = ast.MustParseRef("input.action.method")
)

// flow follows the path and the method through rules: from expression to variable, from rule to rule, and into
// functions. A variable of an expression is held to depend on all that stands in it.
type flow struct {
	rules  []*ast.Rule
	values map[string]origin // of rules
	args   map[string]origin // of functions' arguments, by function and place
	grown  bool
}

// sites are the calls in the visited rules that are given something of the path or the method.
func (g *gatherer) sites() []Site {
	f := &flow{values: make(map[string]origin), args: make(map[string]origin)}
	for r := range g.visited {
		f.rules = append(f.rules, r)
	}
	for f.grown = true; f.grown; {
		f.grown = false
		for _, r := range f.rules {
			f.follow(r)
		}
	}
	seen := make(map[Site]bool)
	for _, r := range f.rules {
		vars := f.variables(r)
		ast.WalkExprs(r, func(e *ast.Expr) bool {
			if of := f.origin(e, vars); of != 0 && e.IsCall() && !e.Operator().HasPrefix(ast.DefaultRootRef) {
				seen[Site{strings.TrimPrefix(e.Operator().String(), guardPrefix), whereOf(e.Location), of&ofPath != 0, of&ofMethod != 0}] = true
			}
			return false
		})
	}
	list := make([]Site, 0, len(seen))
	for site := range seen {
		list = append(list, site)
	}
	slices.SortFunc(list, func(a, b Site) int { return cmp.Or(cmp.Compare(a.Where, b.Where), cmp.Compare(a.Call, b.Call)) })
	return list
}

func whereOf(l *ast.Location) string {
	if l == nil {
		return "its package"
	}
	return fmt.Sprintf("%s:%d", strings.TrimPrefix(l.File, operatorPrefix), l.Row)
}

// follow notes what a rule's value is made of, and what it hands to functions.
func (f *flow) follow(r *ast.Rule) {
	vars := f.variables(r)
	for one := r; one != nil; one = one.Else {
		f.add(f.values, nameOfRule(r), f.origin(one.Head, vars))
	}
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		if e.IsCall() && e.Operator().HasPrefix(ast.DefaultRootRef) {
			for i, operand := range e.Operands() {
				f.add(f.args, argument(e.Operator().String(), i), f.origin(operand, vars))
			}
		}
		return false
	})
}

func (f *flow) add(to map[string]origin, name string, of origin) {
	if to[name]|of != to[name] {
		to[name] |= of
		f.grown = true
	}
}

func nameOfRule(r *ast.Rule) string {
	return r.Module.Package.Path.Extend(r.Head.Ref().GroundPrefix()).String()
}

func argument(function string, place int) string { return fmt.Sprintf("%s %d", function, place) }

// variables are what a rule's variables are made of.
func (f *flow) variables(r *ast.Rule) map[ast.Var]origin {
	vars := make(map[ast.Var]origin)
	for i, arg := range r.Head.Args {
		of := f.args[argument(nameOfRule(r), i)]
		ast.WalkVars(arg, func(v ast.Var) bool { vars[v] |= of; return false })
	}
	for changed := true; changed; {
		changed = false
		ast.WalkExprs(r, func(e *ast.Expr) bool {
			of := f.origin(e, vars)
			ast.WalkVars(e, func(v ast.Var) bool {
				if (v.IsGenerated() || v.IsWildcard()) && vars[v]|of != vars[v] { // all others name documents and functions
					vars[v] |= of
					changed = true
				}
				return false
			})
			return false
		})
	}
	return vars
}

// origin is what a piece of a rule is made of.
func (f *flow) origin(x any, vars map[ast.Var]origin) (of origin) {
	ast.WalkVars(x, func(v ast.Var) bool { of |= vars[v]; return false })
	ast.WalkRefs(x, func(r ast.Ref) bool {
		of |= f.read(r)
		return false
	})
	return of
}

func (f *flow) read(r ast.Ref) (of origin) {
	if r.HasPrefix(refPath) || r.HasPrefix(refSegments) || r.HasPrefix(refInput) && refResource.HasPrefix(r.ConstantPrefix()) {
		of |= ofPath
	}
	if r.HasPrefix(refVerb) || r.HasPrefix(refInput) && refAction.HasPrefix(r.ConstantPrefix()) {
		of |= ofMethod
	}
	if !r.HasPrefix(ast.DefaultRootRef) {
		return of
	}
	for end := len(r.ConstantPrefix()); end > 1; end-- {
		of |= f.values[r[:end].String()]
	}
	return of
}
