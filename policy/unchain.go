package policy

import (
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
)

// compileForParts is compile with the rules that have else written in another way, for evaluation in part.
func (c *contents) compileForParts(rewrite func(*ast.Module)) (*ast.Compiler, error) {
	modules, err := c.parse()
	if err != nil {
		return nil, err
	}
	for _, m := range modules {
		rewrite(m)
	}
	caps, err := capabilities(c.capabilities)
	if err != nil {
		return nil, err
	}
	compiler := newCompiler(caps)
	if compiler.Compile(modules); compiler.Failed() {
		return nil, problemsOf(compiler.Errors)
	}
	return compiler, nil
}

// loosen writes rules with else as rules of their own, whether those before them hold or not. What a chain can read is
// what any of them can: their denials, which unchain adds, say nothing more of it and take most of the time.
func loosen(m *ast.Module) {
	for _, r := range m.Rules { // not over those that are added
		for r.Else != nil {
			next := r.Else
			r.Else = nil
			m.Rules = append(m.Rules, next)
			r = next
		}
	}
}

// unchain writes rules with else as rules of their own, each on condition that those before it do not hold: OPA evaluates
// the former as a whole or not at all, the latter in part.
func unchain(m *ast.Module) {
	for i, r := range m.Rules { // not over those that are added
		if r.Else != nil {
			m.Rules = append(m.Rules, unchained(r, fmt.Sprintf("__before_%d", i))...)
		}
	}
}

// unchained cuts a chain after its first rule, and returns the others and what they ask of those before them.
func unchained(first *ast.Rule, name string) (added []*ast.Rule) {
	var earlier []*ast.Expr
	for r, n := first, 0; r != nil; n++ {
		next := r.Else
		r.Else = nil
		before := earlier
		if next != nil {
			holds := holdsRule(r, ast.Var(fmt.Sprintf("%s_%d", name, n)))
			added = append(added, holds)
			earlier = append(earlier[:n:n], notHeld(holds))
		}
		r.Body = conjoined(before, r.Body)
		if n > 0 {
			added = append(added, r)
		}
		r = next
	}
	return added
}

// holdsRule is true where a rule has a value.
func holdsRule(r *ast.Rule, name ast.Var) *ast.Rule {
	held := r.Copy()
	held.Head = ast.NewHead(name)
	held.Head.Args = r.Head.Copy().Args
	held.Head.Value = ast.BooleanTerm(true)
	held.Head.Location, held.Head.Name = r.Location, name
	value := ast.Equality.Expr(ast.VarTerm("__value"), r.Head.Value.Copy())
	value.Location = r.Location
	held.Body.Append(value)
	held.Module = r.Module
	return held
}

// notHeld denies such a rule.
func notHeld(held *ast.Rule) *ast.Expr {
	rule := ast.NewTerm(held.Head.Name)
	e := ast.NewExpr(rule)
	if args := held.Head.Copy().Args; len(args) > 0 {
		e = ast.NewExpr(append([]*ast.Term{ast.NewTerm(ast.Ref{rule})}, args...))
	}
	e.Negated, e.Location = true, held.Location
	return e
}

func conjoined(first []*ast.Expr, body ast.Body) ast.Body {
	whole := ast.Body{}
	for _, e := range first {
		whole.Append(e.Copy())
	}
	for _, e := range body {
		whole.Append(e)
	}
	return whole
}
