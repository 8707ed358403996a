package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"sallyport/policy"
)

// instead are what to use in place of functions that policies do not have.
var instead = map[string]string{
	"time.now_ns":          "use input.context.time_ns",
	"opa.runtime":          "put what the policy needs into labels of the app, or into a rule",
	"http.send":            "have the provider put it into a claim, or write the data as rules of a package",
	"net.lookup_ip_addr":   "use input.context.client.ip and networks",
	"io.jwt.decode":        "use input.subject.claims: the gateway has verified the token",
	"rand.intn":            "decide by something that is in input",
	"uuid.rfc4122":         "use input.context.request.id",
	"re_match":             "use regex.match",
	"any":                  "use some … in, or a set of conditions",
	"all":                  "use every",
	"net.cidr_overlap":     "use net.cidr_contains",
	"net.cidr_expand":      "use net.cidr_contains",
	"trace":                "use print while you look for the fault, and sallyport policy explain",
	"crypto.md5":           "use crypto.sha256",
	"crypto.sha1":          "use crypto.sha256",
	"yaml.unmarshal":       "write the data as rules of a package",
	"json.match_schema":    "use is_string, is_object and their kin",
	"regex.template_match": "use regex.match",
	"regex.globs_match":    "use glob.match",
}

// findBuiltins tells functions that policies do not have.
func findBuiltins(p *pass) {
	reasons := policy.DeniedBuiltins()
	p.calls(func(c call) {
		why, denied := reasons[c.op]
		if !denied {
			return
		}
		hint := instead[c.op]
		if hint == "" && strings.HasPrefix(c.op, "io.jwt.") {
			hint = instead["io.jwt.decode"]
		}
		p.at(c.at, hint, "policies do not have %s: it %s", c.op, why)
	})
}

// findPrint tells calls that were left behind.
func findPrint(p *pass) {
	p.calls(func(c call) {
		if c.op == "print" {
			p.at(c.at, "sallyport policy explain shows what each condition evaluates to", "print shows nothing in the gateway and costs each evaluation time")
		}
	})
}

// findShadowing tells variables that hide a rule or an import.
func findShadowing(p *pass) {
	for _, b := range p.branches {
		for _, a := range b.Head.Args {
			p.shadows(b, a)
		}
		ast.WalkExprs(&ast.Rule{Head: b.Head, Body: b.Body}, func(e *ast.Expr) bool {
			switch t := e.Terms.(type) {
			case []*ast.Term:
				if operator(t[0]) == "assign" {
					p.shadows(b, t[1])
				}
			case *ast.SomeDecl:
				for _, s := range declared(t) {
					p.shadows(b, s)
				}
			}
			return false
		})
	}
}

func declared(t *ast.SomeDecl) []*ast.Term {
	if call, ok := t.Symbols[0].Value.(ast.Call); ok {
		return call[1 : len(call)-1]
	}
	return t.Symbols
}

func (p *pass) shadows(b *branch, t *ast.Term) {
	v, ok := t.Value.(ast.Var)
	if !ok {
		return
	}
	if hidden, ok := b.names[v]; ok {
		p.at(t.Location, "give the variable another name", "the variable %s hides %v", v, hidden)
	}
}

// findScans tells iterations where a look-up would do.
func findScans(p *pass) {
	p.calls(func(c call) {
		if !equality[c.op] || c.op == "assign" || len(c.args) != 2 {
			return
		}
		for i, a := range c.args {
			list, other := c.field(a), c.args[1-i]
			switch {
			case !c.iterates(a):
			case strings.HasPrefix(list, "data.") && strings.HasPrefix(c.field(other), "input."):
				p.at(c.at, fmt.Sprintf("make %s an object with what is compared as its keys, and look it up", strings.TrimSuffix(list, ".")),
					"each evaluation goes through all of %s to find one", strings.TrimSuffix(list, "."))
				return
			case strings.HasPrefix(list, "input.") && isScalar(c.resolve(other)) && strings.Count(c.elementField(a), "..") == 0:
				p.at(c.at, fmt.Sprintf("write %v in %s", c.resolve(other), strings.TrimSuffix(list, ".")), "this goes through %s one by one", strings.TrimSuffix(list, "."))
				return
			}
		}
	})
}

// iterates reports whether a term goes through the elements of a list: its last part is any of them, or below one.
func (b *branch) iterates(t *ast.Term) bool {
	ref, ok := b.resolve(t).Value.(ast.Ref)
	return ok && slices.ContainsFunc(ref[min(1, len(ref)):], func(part *ast.Term) bool {
		_, variable := part.Value.(ast.Var)
		return variable && !isScalar(b.resolve(part))
	})
}

// undocumentedPackages tells app packages of which nobody is told what they are for.
func (p *pass) undocumentedPackages() {
	for _, app := range p.apps {
		list := p.answers[app]
		described, owned := false, p.owner(app) != ""
		for _, b := range list {
			for _, a := range b.module.Annotations {
				if a.Scope == "package" || a.Scope == "subpackages" || a.GetTargetPath().HasPrefix(b.module.Package.Path) {
					described = described || a.Title != "" || a.Description != ""
					owned = owned || len(a.Authors)+len(a.Organizations) > 0 || a.Custom["owner"] != nil
				}
			}
		}
		at := list[0].module.Package.Location
		if !described {
			p.at(at, "write a comment # METADATA with description: above the package", "nothing says what the package for %s is for", app)
		}
		if !owned {
			p.at(at, "write custom: {owner: …} into its # METADATA, or owner: into the configuration", "nobody is said to answer for the policy of %s", app)
		}
	}
	p.objects(func(b *branch, decision ast.Object, at *ast.Location) {
		if !p.identified(b, decision) {
			p.at(at, `add: "reasons": [{"code": "…", "rule": "…"}]`, "records and reviews cannot tell by which rule this was decided: its reasons have no code and no rule")
		}
	})
}

func (p *pass) owner(app string) string {
	i := slices.IndexFunc(p.Apps, func(a policy.App) bool { return a.Name == app })
	if i < 0 {
		return ""
	}
	return p.Apps[i].Owner
}

// identified reports whether a decision says which rule made it, as far as can be told.
func (p *pass) identified(b *branch, decision ast.Object) bool {
	reasons := decision.Get(ast.StringTerm("reasons"))
	if reasons == nil {
		return decision.Get(ast.StringTerm("obligations")) != nil
	}
	found, objects := false, 0
	each(p, b, reasons, func(o ast.Object, _ *ast.Location) {
		objects++
		found = found || o.Get(ast.StringTerm("rule")) != nil || o.Get(ast.StringTerm("code")) != nil
	})
	return found || objects == 0
}

// findUntested tells app packages that no test tries.
func findUntested(p *pass) {
	if p.Tested == nil {
		return
	}
	for _, app := range p.apps {
		if !contains(p.Tested, app) {
			p.at(p.answers[app][0].module.Package.Location, "add a table in tables/, or a *_test.rego", "no test and no table tries the policy of %s", app)
		}
	}
}

// findForgotten tells apps whose answers cannot be remembered.
func findForgotten(p *pass) {
	if p.Engine == nil {
		return
	}
	for _, app := range p.Engine.Apps() {
		_, err := p.Engine.Dependencies(p.ctx, app)
		if err == nil {
			continue
		}
		said := fmt.Sprintf("answers for %s are not remembered, and each request is evaluated: %v", app, err)
		switch list := p.answers[app]; {
		case len(list) > 0:
			p.at(p.volatile(list), "", "%s", said)
		default:
			p.forgottenApp(app, said)
		}
	}
}

// perRequest are the places that differ in every request.
var perRequest = []string{"input.context.time_ns", "input.context.time", "input.context.request.id"}

// volatile is where a decision reads what differs in every request, or the decision.
func (p *pass) volatile(list []*branch) *ast.Location {
	g := new(grant)
	r := &reader{program: p.program, grant: g, seen: map[visit]bool{}}
	for _, b := range list {
		r.branch(b, false)
	}
	for _, read := range g.reads {
		if contains(perRequest, read.field) || read.field == "input" {
			return read.at
		}
	}
	return list[0].Head.Location
}

func (p *pass) forgottenApp(name, said string) {
	for i := range p.Apps {
		app := &p.Apps[i]
		if app.Name != name {
			continue
		}
		for place := range app.Access {
			if app.Access[place].Hours != nil {
				p.access(app, place, "hours", "let hours begin and end with the hour", "%s", said)
				return
			}
		}
		p.access(app, -1, "", "", "%s", said)
		return
	}
	p.add(Finding{App: name, Text: said})
}
