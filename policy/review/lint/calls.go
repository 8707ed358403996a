package lint

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// call is one call of a function, operators included.
type call struct {
	*branch
	op      string
	args    []*ast.Term
	at      *ast.Location
	negated bool
}

// calls visits all calls of the operator's rules.
func (p *pass) calls(visit func(c call)) {
	for _, b := range p.branches {
		b.calls(visit)
	}
}

func (b *branch) calls(visit func(c call)) {
	v := &callVisitor{branch: b, visit: visit}
	v.term(b.Head.Key, false)
	v.term(b.Head.Value, false)
	v.body(b.Body, false)
}

// callVisitor walks a rule and knows what is negated.
type callVisitor struct {
	*branch
	visit func(c call)
}

func (v *callVisitor) body(body ast.Body, negated bool) {
	for _, e := range body {
		v.expr(e, negated != e.Negated)
	}
}

func (v *callVisitor) expr(e *ast.Expr, negated bool) {
	switch t := e.Terms.(type) {
	case *ast.Term:
		v.term(t, negated)
	case []*ast.Term:
		v.tell(t, e.Location, negated)
	case *ast.SomeDecl:
		for _, s := range t.Symbols {
			v.term(s, negated)
		}
	case *ast.Every:
		v.term(t.Domain, negated)
		v.body(t.Body, negated)
	case *ast.Not:
		v.body(t.Body, !negated)
	}
}

func (v *callVisitor) tell(terms []*ast.Term, at *ast.Location, negated bool) {
	v.visit(call{v.branch, operator(terms[0]), terms[1:], at, negated})
	for _, t := range terms[1:] {
		v.term(t, negated)
	}
}

func (v *callVisitor) term(t *ast.Term, negated bool) {
	if t == nil {
		return
	}
	each := func(t *ast.Term) { v.term(t, negated) }
	switch x := t.Value.(type) {
	case ast.Call:
		v.tell(x, t.Location, negated)
	case ast.Ref:
		for _, part := range x {
			each(part)
		}
	case *ast.Array:
		x.Foreach(each)
	case ast.Set:
		x.Foreach(each)
	case ast.Object:
		x.Foreach(func(k, v *ast.Term) { each(k); each(v) })
	case *ast.ArrayComprehension:
		each(x.Term)
		v.body(x.Body, negated)
	case *ast.SetComprehension:
		each(x.Term)
		v.body(x.Body, negated)
	case *ast.ObjectComprehension:
		each(x.Key)
		each(x.Value)
		v.body(x.Body, negated)
	}
}

// comparison is a place of input held against constants.
type comparison struct {
	call
	field  string // such as input.subject.email; input.subject.groups. for an element of it
	values []*ast.Term
}

// equality are the operators that hold when two values are equal.
var equality = map[string]bool{"equal": true, "eq": true, "assign": true}

// comparisons visits where a place of input is compared with constants: ==, !=, in, and as the key of a constant object
// or set.
func (p *pass) comparisons(visit func(c comparison)) {
	p.calls(func(c call) {
		switch {
		case (equality[c.op] || c.op == "neq") && len(c.args) == 2:
			p.compare(c, c.field(c.args[0]), p.values(c.branch, c.args[1]), visit)
			p.compare(c, c.field(c.args[1]), p.values(c.branch, c.args[0]), visit)
		case c.op == "internal.member_2":
			p.compare(c, c.field(c.args[0]), p.elements(c.branch, c.args[1]), visit)
			p.compare(c, c.field(c.args[1])+".", p.values(c.branch, c.args[0]), visit)
		}
	})
	p.lookups(visit)
}

func (p *pass) compare(c call, field string, values []*ast.Term, visit func(c comparison)) {
	if strings.HasPrefix(field, "input.") && len(values) > 0 {
		visit(comparison{c, field, values})
	}
}

// lookups visits constant objects and sets that a place of input is looked up in: admins[input.subject.email].
func (p *pass) lookups(visit func(c comparison)) {
	for _, b := range p.branches {
		ast.WalkTerms(&ast.Rule{Head: b.Head, Body: b.Body}, func(t *ast.Term) bool {
			ref, ok := t.Value.(ast.Ref)
			if !ok || len(ref) < 2 {
				return false
			}
			for i, key := range ref[1:] {
				field := ""
				if !isConstant(key) {
					field = b.field(key)
				}
				if strings.HasPrefix(field, "input.") {
					c := call{branch: b, op: "lookup", at: t.Location}
					p.compare(c, field, p.keys(b, located(ref[:i+1].Copy(), t)), visit)
				}
			}
			return false
		})
	}
}

// keys are the constants that a set holds or an object is keyed by.
func (p *program) keys(b *branch, t *ast.Term) (list []*ast.Term) {
	add := func(e *ast.Term) { list = append(list, p.values(b, e)...) }
	switch v := b.resolve(t).Value.(type) {
	case ast.Set:
		v.Foreach(add)
	case ast.Object:
		v.Foreach(func(k, _ *ast.Term) { add(k) })
	case ast.Ref:
		for _, r := range p.byPath[pathText(v)] {
			switch {
			case r.Head.Key != nil:
				list = append(list, p.values(r, r.Head.Key)...)
			case r.Head.Value != nil && len(r.Head.Args) == 0 && !v.Equal(r.Head.Value.Value):
				if _, named := r.Head.Value.Value.(ast.Ref); !named {
					list = append(list, p.keys(r, r.Head.Value)...)
				}
			}
		}
	}
	return list
}
