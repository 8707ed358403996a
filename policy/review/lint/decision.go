package lint

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"sallyport/policy"
)

// findNoDefault tells decisions that may have no value at all.
func findNoDefault(p *pass) {
	for _, app := range p.apps {
		list := p.answers[app]
		if !slices.ContainsFunc(list, func(b *branch) bool { return b.Default }) && !total(list) {
			p.at(list[0].Head.Location, `add: default decision := {"allow": false, "reasons": [{"code": "…", "user": "…"}]}, and a decision for strangers`,
				"whoever meets none of the conditions gets no decision: people are refused without a reason")
		}
	}
}

func unconditional(b *branch) bool {
	return len(b.Body) == 1 && !b.Body[0].Negated && isTrue(b.Body[0])
}

func isTrue(e *ast.Expr) bool {
	t, ok := e.Terms.(*ast.Term)
	return ok && t.Value.Compare(ast.Boolean(true)) == 0
}

func negates(a, b *ast.Expr) bool {
	return a.Negated != b.Negated && sameTerms(a, b)
}

func sameTerms(a, b *ast.Expr) bool {
	x, y := a.Copy(), b.Copy()
	x.Negated, y.Negated = false, false
	return x.Equal(y)
}

// findDefaultAllow tells defaults that say yes.
func findDefaultAllow(p *pass) {
	for _, b := range p.branches {
		if !b.Default || b.Head.Value == nil {
			continue
		}
		_, decides := b.app()
		value := b.Head.Value
		if o, ok := value.Value.(ast.Object); ok && decides {
			value = o.Get(ast.StringTerm("allow"))
		}
		named := decides || strings.HasPrefix(lastWord(b.path), "allow")
		if named && value != nil && value.Value.Compare(ast.Boolean(true)) == 0 {
			p.at(b.Head.Location, "say no by default, and yes where it holds", "whatever no rule thinks of is allowed")
		}
	}
}

func lastWord(path string) string { return path[strings.LastIndex(path, ".")+1:] }

// findStrangers tells decisions that refuse people who have not signed in, instead of asking them to.
func findStrangers(p *pass) {
	for _, app := range p.apps {
		list := p.answers[app]
		says := slices.ContainsFunc(list, func(b *branch) bool { return allowOf(b) != nil })
		if !says || mentions(list, "unauthenticated") || mentions(list, "anonymous") {
			continue
		}
		at := list[0]
		switch i := slices.IndexFunc(list, func(b *branch) bool { return b.Default }); {
		case i >= 0 && !p.asksAccess(list):
			at = list[i]
		case i < 0 && total(list) && !slices.ContainsFunc(p.grants, func(g *grant) bool { return g.app == app && g.asks }):
		default:
			continue
		}
		p.at(at.Head.Location, `add: decision := authz.access if input.subject.type == "anonymous"`,
			"people who have not signed in are refused for good, not asked to sign in: no rule gives an answer for strangers")
	}
}

// asksAccess reports whether a decision without conditions on the person builds on the access rules.
func (p *pass) asksAccess(list []*branch) bool {
	return slices.ContainsFunc(p.grants, func(g *grant) bool {
		return g.asks && slices.Contains(list, g.at) && !g.readsAny("input.subject") && !g.readsAny("input.context")
	})
}

// mentions reports whether a text occurs in the modules of a decision.
func mentions(list []*branch, word string) bool {
	found := false
	for _, b := range list {
		ast.WalkTerms(b.module, func(t *ast.Term) bool {
			if s, ok := text(t); ok && s == word {
				found = true
			}
			return found
		})
	}
	return found
}

// objects visits the objects that are the value of a decision, or of what it is called in its rule.
func (p *pass) objects(visit func(b *branch, decision ast.Object, at *ast.Location)) {
	for _, app := range p.apps {
		for _, b := range p.answers[app] {
			if b.Head.Value == nil || len(b.Head.Ref()) > 1 {
				continue
			}
			value := b.resolve(b.Head.Value)
			if o, ok := value.Value.(ast.Object); ok {
				visit(b, o, b.Head.Location)
				continue
			}
			for _, named := range p.namedBranches(b, value) {
				if o, ok := named.resolve(named.Head.Value).Value.(ast.Object); ok {
					visit(named, o, named.Head.Location)
				}
			}
		}
	}
}

// findObligations tells obligations that nobody knows, or that nobody carries out.
func findObligations(p *pass) {
	types := policy.ObligationTypes()
	p.objects(func(b *branch, decision ast.Object, _ *ast.Location) {
		each(p, b, decision.Get(ast.StringTerm("obligations")), func(o ast.Object, at *ast.Location) {
			term := o.Get(ast.StringTerm("type"))
			if term == nil {
				return
			}
			name, ok := text(b.resolve(term))
			switch {
			case !ok:
			case !contains(types, name):
				p.at(at, suggestion(name, types), "there is no obligation %q: a decision with it denies", name)
			case p.Enforced != nil && name != policy.StepUp && !contains(p.Enforced, name):
				p.at(at, "", "this gateway does not carry out the obligation %q: a decision with it denies", name)
			}
		})
	})
}

// each visits the objects in a list, or in the set that a rule builds.
func each(p *pass, b *branch, list *ast.Term, visit func(o ast.Object, at *ast.Location)) {
	if list == nil {
		return
	}
	one := func(t *ast.Term) {
		if o, ok := b.resolve(t).Value.(ast.Object); ok {
			visit(o, t.Location)
		}
	}
	switch v := b.resolve(list).Value.(type) {
	case *ast.Array:
		v.Foreach(one)
	case ast.Set:
		v.Foreach(one)
	case ast.Ref:
		for _, r := range p.byPath[pathText(v)] {
			switch {
			case r.Head.Key != nil && r.Head.Value == nil:
				one(r.Head.Key)
			case r.Head.Value != nil && r.Head.Value.Value.Compare(v) != 0:
				if _, ref := r.Head.Value.Value.(ast.Ref); !ref {
					each(p, r, r.Head.Value, visit)
				}
			}
		}
	}
}

// findReasons tells refusals that tell nobody why.
func findReasons(p *pass) {
	p.objects(func(b *branch, decision ast.Object, at *ast.Location) {
		allow := decision.Get(ast.StringTerm("allow"))
		if allow == nil || allow.Value.Compare(ast.Boolean(false)) != 0 || decision.Get(ast.StringTerm("obligations")) != nil {
			return
		}
		reasons := decision.Get(ast.StringTerm("reasons"))
		if reasons == nil {
			p.at(at, `add: "reasons": [{"code": "…", "user": "…"}]`, "whoever is refused is not told why")
			return
		}
		each(p, b, reasons, func(o ast.Object, at *ast.Location) {
			if o.Get(ast.StringTerm("user")) == nil {
				p.at(at, `add: "user": "…"`, "the reason has no sentence for the person who is refused")
			}
		})
	})
}
