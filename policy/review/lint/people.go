package lint

import (
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"sallyport/policy"
)

// findNoSubject tells grants that do not ask who it is.
func findNoSubject(p *pass) {
	for _, g := range p.grants {
		if !g.asks && !g.at.Default && !g.readsAny("input.subject") && !g.readsAll() {
			p.at(g.at.Head.Location, "name a group, build on data.sallyport.authz.access, or ignore the finding with the reason for which everybody may",
				"this lets everybody into %s, signed in or not: nothing on the way asks who it is", g.app)
		}
	}
}

// personal are the places that name one person.
var personal = map[string]bool{
	"input.subject.id": true, "input.subject.email": true, "input.subject.claims.sub": true, "input.subject.claims.email": true,
	"input.subject.claims.preferred_username": true, "input.subject.claims.upn": true, "input.subject.claims.oid": true,
}

// findLiteralUser tells people who are named in the policy.
func findLiteralUser(p *pass) {
	p.comparisons(func(c comparison) {
		if !personal[c.field] || c.ofServices() {
			return
		}
		for _, v := range c.values {
			if name, ok := text(v); ok && name != "" {
				p.at(c.at, "put them into a group of the identity provider", "%s is held against one person, %q: nobody will remove them here when they leave", c.field, name)
				return
			}
		}
	})
}

// ofServices reports whether a rule is about services only, which are in no group.
func (b *branch) ofServices() bool {
	return slices.ContainsFunc(b.Body, func(e *ast.Expr) bool {
		field, value := b.pinned(e)
		return field == "input.subject.type" && value.Value.Compare(ast.String(policy.TypeService)) == 0
	})
}

// findUnverified tells grants by an address that nobody vouched for.
func findUnverified(p *pass) {
	for _, g := range p.grants {
		if g.readsAny("input.subject.email_verified") {
			continue
		}
		for _, r := range g.reads {
			if r.field == "input.subject.email" || r.field == "input.subject.claims.email" {
				p.at(r.at, "demand input.subject.email_verified as well", "the address counts although nobody may have verified it: whoever opens an account with it gets in")
				break
			}
		}
	}
}

// findLooseDomain tells tests of an address that hold for other domains as well.
func findLooseDomain(p *pass) {
	p.calls(func(c call) {
		if len(c.args) != 2 || !strings.HasSuffix(c.field(c.args[0]), "email") || !strings.HasPrefix(c.field(c.args[0]), "input.subject.") {
			return
		}
		var ends []*ast.Term
		switch c.op {
		case "endswith", "contains":
			ends = p.values(c.branch, c.args[1])
		case "strings.any_suffix_match":
			ends = append(p.elements(c.branch, c.args[1]), p.values(c.branch, c.args[1])...)
		}
		for _, v := range ends {
			if domain, ok := text(v); ok && (c.op == "contains" || !strings.HasPrefix(domain, "@")) {
				p.at(c.at, `write endswith(lower(input.subject.email), "@`+strings.TrimLeft(domain, "@.")+`")`,
					"%s(…, %q) also holds for addresses of other domains, such as x@evil-%s", c.op, domain, strings.TrimLeft(domain, "@."))
				return
			}
		}
	})
}

const groupsField = "input.subject.groups"

// findIncomplete tells grants because of a group that somebody is not in, which do not ask whether all are known.
func findIncomplete(p *pass) {
	for _, g := range p.grants {
		if g.readsAny("input.subject.groups_incomplete") {
			continue
		}
		for _, r := range g.reads {
			if r.against && below(r.field, groupsField) && !leadsToYes(p.grants, g.app, r) {
				p.at(r.at, "demand not input.subject.groups_incomplete as well", "that a group is not listed proves nothing when there are more groups than the input holds")
				break
			}
		}
	}
}

// findUnknownGroup tells groups that the directory does not have.
func findUnknownGroup(p *pass) {
	if p.Directory == nil {
		return
	}
	known := p.Directory.GroupNames()
	missing := func(name string) bool { return !contains(known, name) }
	p.comparisons(func(c comparison) {
		if c.field != groupsField+"." {
			return
		}
		for _, v := range c.values {
			if name, ok := text(v); ok && missing(name) {
				p.at(c.at, suggestion(name, known), "nobody is in a group %q: the directory has none", name)
			}
		}
	})
	p.eachRule(func(app *policy.App, place int, r *policy.Rule) {
		for _, name := range r.Groups {
			if missing(name) {
				p.access(app, place, "groups", suggestion(name, known), "nobody is in a group %q: the directory has none", name)
			}
		}
	})
}

// findUnknownApp tells names of apps that there are not.
func findUnknownApp(p *pass) {
	if p.Apps == nil {
		return
	}
	var known []string
	for i := range p.Apps {
		known = append(known, p.Apps[i].Name)
	}
	p.comparisons(func(c comparison) {
		if c.field != "input.resource.id" && c.field != "input.subject.grants..app" {
			return
		}
		for _, v := range c.values {
			if name, ok := text(v); ok && !contains(known, name) {
				p.at(c.at, suggestion(name, known), "there is no app %q", name)
			}
		}
	})
}
