package lint

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// grant is one way for an app package to say yes: the branch that says it, and all that it reads on the way.
type grant struct {
	app   string
	at    *branch
	reads []reading
	asks  bool // the app's access rules decide
}

// reading is one place of input that a grant depends on.
type reading struct {
	field   string // such as input.subject.email
	at      *ast.Location
	against bool // it is negated: what is absent counts as a yes
	bare    bool // it is asked whether it is there, and true, nothing else
}

// readsAny reports whether a grant reads a place, or one below it.
func (g *grant) readsAny(prefix string) bool {
	return slices.ContainsFunc(g.reads, func(r reading) bool { return below(r.field, prefix) })
}

// readsAll reports whether a grant hands on all of input.
func (g *grant) readsAll() bool {
	return slices.ContainsFunc(g.reads, func(r reading) bool { return r.field == "input" })
}

func below(field, prefix string) bool {
	return field == prefix || strings.HasPrefix(field, prefix+".")
}

// app is the app whose decision the branch makes.
func (b *branch) app() (string, bool) {
	path := b.module.Package.Path
	if len(path) != 4 || !strings.HasPrefix(pathText(path), "data.sallyport.app.") {
		return "", false
	}
	name, ok := path[3].Value.(ast.String)
	decision := b.Head.Ref()[0].Value.Compare(ast.Var("decision")) == 0 && len(b.Head.Args) == 0
	return string(name), ok && decision
}

func (p *program) findGrants() (list []*grant) {
	for _, app := range p.apps {
		for _, b := range p.answers[app] {
			for _, way := range p.ways(b, allowOf(b), maxSteps) {
				g := &grant{app: app, at: way[len(way)-1].branch}
				r := &reader{program: p, grant: g, seen: map[visit]bool{}}
				for _, part := range way {
					r.body(part.branch, part.branch.Body, false)
					r.term(part.branch, part.says, false, true)
				}
				list = append(list, g)
			}
		}
	}
	return list
}

// part is a branch on the way to a yes, with the term that says it.
type part struct {
	branch *branch
	says   *ast.Term
}

// ways are the branches through which a term says yes: the branch itself if it is true, or asks what is not known here;
// the branch and each way of the rule that it names otherwise. A term that is false has none.
func (p *program) ways(b *branch, says *ast.Term, left int) [][]part {
	if says == nil || left == 0 {
		return nil
	}
	here := part{b, says}
	resolved := b.resolve(says)
	if yes, constant := resolved.Value.(ast.Boolean); constant {
		if bool(yes) {
			return [][]part{{here}}
		}
		return nil
	}
	asked := p.namedBranches(b, resolved)
	if len(asked) == 0 {
		return [][]part{{here}}
	}
	var all [][]part
	for _, next := range asked {
		for _, way := range p.ways(next, yes(next, next.Head.Value), left-1) {
			all = append(all, append([]part{{b, nil}}, way...))
		}
	}
	return all
}

// allowOf is the term that says whether a decision allows; nil when it does not say.
func allowOf(b *branch) *ast.Term {
	if ref := b.Head.Ref(); len(ref) > 1 {
		if name, ok := text(ref[1]); ok && name == "allow" && len(ref) == 2 {
			return b.Head.Value
		}
		return nil
	}
	if b.Head.Value == nil || isScalar(b.resolve(b.Head.Value)) {
		return nil
	}
	return yes(b, b.Head.Value)
}

// yes is the allow of an object, or the value itself.
func yes(b *branch, value *ast.Term) *ast.Term {
	if o, ok := b.resolve(value).Value.(ast.Object); ok {
		return o.Get(ast.StringTerm("allow"))
	}
	return value
}

// reader follows a grant through the rules that it asks.
type reader struct {
	*program
	grant *grant
	seen  map[visit]bool
}

type visit struct {
	branch  *branch
	against bool
}

func (r *reader) body(b *branch, body ast.Body, against bool) {
	for _, e := range body {
		r.expr(b, e, against != e.Negated)
	}
}

func (r *reader) expr(b *branch, e *ast.Expr, against bool) {
	switch t := e.Terms.(type) {
	case *ast.Term:
		r.term(b, t, against, true)
	case []*ast.Term:
		against = against != noneOf(t)
		for _, operand := range t[1:] {
			r.term(b, operand, against, false)
		}
		r.function(b, t[0], against)
	case *ast.SomeDecl:
		for _, s := range t.Symbols {
			r.term(b, s, against, false)
		}
	case *ast.Every:
		r.term(b, t.Domain, against, false)
		r.body(b, t.Body, against)
	case *ast.Not:
		r.body(b, t.Body, !against)
	}
}

// noneOf recognises count(…) == 0, which negates what it counts.
func noneOf(terms []*ast.Term) bool {
	if op := operator(terms[0]); op != "equal" && op != "eq" {
		return false
	}
	for i, t := range terms[1:] {
		call, ok := t.Value.(ast.Call)
		if ok && operator(call[0]) == "count" && terms[2-i].Equal(ast.InternedTerm(0)) {
			return true
		}
	}
	return false
}

// term notes what a term reads, and follows the rules that it names.
func (r *reader) term(b *branch, t *ast.Term, against, bare bool) {
	if t == nil {
		return
	}
	ast.WalkTerms(t, func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case *ast.ArrayComprehension:
			r.body(b, v.Body, against)
		case *ast.SetComprehension:
			r.body(b, v.Body, against)
		case *ast.ObjectComprehension:
			r.body(b, v.Body, against)
		case ast.Call:
			if got := b.field(t); strings.HasPrefix(got, "input.") { // object.get
				r.note(got, t.Location, against, bare)
			}
			r.function(b, v[0], against)
			for _, operand := range v[1:] {
				r.term(b, operand, against, false)
			}
			return true
		case ast.Var:
			r.reference(b, b.resolve(t), against, bare)
		case ast.Ref:
			r.reference(b, b.resolve(t), against, bare)
			for _, key := range v[1:] {
				r.term(b, key, against, false)
			}
			return true
		}
		return false
	})
}

func (r *reader) reference(b *branch, t *ast.Term, against, bare bool) {
	ref, ok := t.Value.(ast.Ref)
	if !ok {
		if v, variable := t.Value.(ast.Var); variable && v.Equal(ast.InputRootDocument.Value) {
			r.note("input", t.Location, against, false)
		}
		return
	}
	path := strings.TrimSuffix(pathText(ref), ".")
	switch {
	case strings.HasPrefix(path, "input."):
		r.note(path, t.Location, against, bare)
	case below(path, "data.sallyport.authz"):
		r.grant.asks = true
	case strings.HasPrefix(path, "data."):
		r.rules(path, against)
	}
}

func (r *reader) note(field string, at *ast.Location, against, bare bool) {
	r.grant.reads = append(r.grant.reads, reading{strings.TrimSuffix(field, "."), at, against, bare})
}

// function follows a function of the operator's.
func (r *reader) function(b *branch, name *ast.Term, against bool) {
	if ref, ok := b.resolve(name).Value.(ast.Ref); ok {
		r.rules(pathText(ref), against)
	}
}

// rules follows the rules of a name.
func (r *reader) rules(path string, against bool) {
	for _, b := range r.relatives(path) {
		r.branch(b, against)
	}
}

func (r *reader) branch(b *branch, against bool) {
	if r.seen[visit{b, against}] {
		return
	}
	r.seen[visit{b, against}] = true
	r.body(b, b.Body, against)
	r.term(b, b.Head.Key, against, false)
	r.term(b, b.Head.Value, against, false)
}
