package lint

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"sallyport/policy"
)

// eachRule visits all access rules of the configuration.
func (p *pass) eachRule(visit func(app *policy.App, place int, r *policy.Rule)) {
	for i := range p.Apps {
		app := &p.Apps[i]
		for place := range app.Access {
			visit(app, place, &app.Access[place])
		}
	}
}

// findShadowed tells access rules that never decide, because earlier ones always do.
func findShadowed(p *pass) {
	p.eachRule(func(app *policy.App, place int, r *policy.Rule) {
		for first := range place {
			if covers(&app.Access[first], r) {
				p.access(app, place, "", "the first rule that matches decides alone: put the narrower one first",
					"it never decides: rule %s matches all of its requests before", app.Access.ID(first))
				return
			}
		}
	})
}

// covers reports whether a rule matches every request that another one matches.
func covers(a, b *policy.Rule) bool {
	return len(a.Methods) == 0 && len(a.Paths) == 0 || coversMethods(a, b) && coversPaths(a.Paths, b.Paths)
}

func coversMethods(a, b *policy.Rule) bool {
	if len(a.Methods) == 0 {
		return true
	}
	for _, m := range b.Methods {
		if !contains(a.Methods, m) && (m != "HEAD" || !contains(a.Methods, "GET")) {
			return false
		}
	}
	return len(b.Methods) > 0
}

func coversPaths(a, b []string) bool {
	if len(a) == 0 || contains(a, "/") {
		return true
	}
	for _, path := range b {
		if !slices.ContainsFunc(a, func(p string) bool {
			return p == path || p == path+"/" || strings.HasSuffix(p, "/") && strings.HasPrefix(path, p)
		}) {
			return false
		}
	}
	return len(b) > 0
}

// findWeaker tells rules that demand less of the sign-in for a part of an app than a later one demands for the rest.
func findWeaker(p *pass) {
	p.eachRule(func(app *policy.App, place int, r *policy.Rule) {
		for later := place + 1; later < len(app.Access); later++ {
			rest := &app.Access[later]
			if !r.Public && len(r.Groups)+len(r.Emails)+len(r.Domains) > 0 && overlaps(r, rest) && writes(r) && weaker(r, rest) {
				p.access(app, place, "", "demand at least as much, or restrict the rule to GET",
					"it demands less of the sign-in for a part of the app, changes included, than rule %s for the rest", app.Access.ID(later))
				return
			}
		}
	})
}

// overlaps reports whether two rules admit the same people for a part of an app and for what remains of it.
func overlaps(part, rest *policy.Rule) bool {
	same := func(a, b []string) bool {
		return slices.ContainsFunc(a, func(s string) bool { return contains(b, s) })
	}
	return covers(rest, part) && (same(part.Groups, rest.Groups) || same(part.Emails, rest.Emails) || same(part.Domains, rest.Domains))
}

// weaker reports whether a rule demands less of the sign-in.
func weaker(a, b *policy.Rule) bool {
	return b.MFA && !a.MFA && len(a.ACR) == 0 || len(b.ACR) > 0 && len(a.ACR) == 0 && !a.MFA ||
		b.MaxAge > 0 && (a.MaxAge == 0 || a.MaxAge > b.MaxAge)
}

// safe are the methods that change nothing (RFC 9110 §9.2.1).
var safe = []string{"GET", "HEAD", "OPTIONS", "TRACE"}

// writes reports whether a rule admits methods that change something.
func writes(r *policy.Rule) bool {
	return len(r.Methods) == 0 || slices.ContainsFunc(r.Methods, func(m string) bool { return !contains(safe, m) })
}

// findPublicWrite tells public rules that admit changes.
func findPublicWrite(p *pass) {
	p.eachRule(func(app *policy.App, place int, r *policy.Rule) {
		switch {
		case !r.Public || !writes(r):
		case len(r.Methods) > 0:
			p.access(app, place, "methods", "", "everybody may %s, signed in or not", strings.Join(changing(r.Methods), ", "))
		default:
			p.access(app, place, "public", "add methods: [GET], unless the app takes changes from strangers",
				"everybody may use all methods, POST and DELETE included, signed in or not").Severity = Note
		}
	})
}

func changing(methods []string) []string {
	return slices.DeleteFunc(slices.Clone(methods), func(m string) bool { return contains(safe, m) })
}

// findAnyNetwork tells networks that hold everybody.
func findAnyNetwork(p *pass) {
	p.eachRule(func(app *policy.App, place int, r *policy.Rule) {
		for _, n := range r.Networks {
			if n.Bits() == 0 {
				p.access(app, place, "networks", "name the networks, or leave networks away", "%v holds every address of its kind", n)
			}
		}
	})
	p.calls(func(c call) {
		if !strings.HasPrefix(c.op, "net.cidr_contains") || len(c.args) == 0 {
			return
		}
		for _, v := range p.texts(c.branch, c.args[0]) {
			prefix, err := netip.ParsePrefix(v)
			switch {
			case err == nil && prefix.Bits() == 0:
				p.at(c.at, "name the networks", "%s holds every address of its kind", v)
			case err != nil && !isAddress(v):
				p.at(c.at, "", "%q is no network: every evaluation that gets here fails", v)
			}
		}
	})
}

func isAddress(v string) bool {
	_, err := netip.ParseAddr(v)
	return err == nil
}

// findUndocumented tells what nobody can be asked about.
func findUndocumented(p *pass) {
	for i := range p.Apps {
		app := &p.Apps[i]
		if app.Owner == "" {
			p.access(app, -1, "owner", "", "nobody is said to answer for it")
		}
		for place := range app.Access {
			r := &app.Access[place]
			var lacks []string
			if r.ID == "" && len(app.Access) > 1 {
				lacks = append(lacks, "id")
			}
			if r.Description == "" && len(app.Access) > 1 {
				lacks = append(lacks, "description")
			}
			if len(lacks) > 0 {
				p.access(app, place, "", "", "it has no %s: records and reviews will call it %s", strings.Join(lacks, " and no "), cmp.Or(r.ID, app.Access.ID(place)))
			}
		}
	}
	p.undocumentedPackages()
}
