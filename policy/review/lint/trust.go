package lint

// chosen are the places that whoever asks fills as they like, with what to rely on instead.
var chosen = []struct{ place, what, hint string }{
	{"input.context.request.headers", "a header", "rely on what was proved: input.subject, its claims, its certificate or its device"},
	{"input.context.request.user_agent", "the user agent", "rely on input.subject.device, which somebody vouches for"},
	{"input.context.request.origin", "the origin", "input.context.request.cross_origin tells foreign pages, input.subject who asks"},
	{"input.context.request.fetch_site", "a header", "input.context.request.cross_site_unsafe tells foreign pages, input.subject who asks"},
}

// findHeaderTrust tells grants that rest on what the request says of itself.
func findHeaderTrust(p *pass) {
	for _, g := range p.grants {
		for _, c := range chosen {
			for _, r := range g.reads {
				if !r.against && below(r.field, c.place) {
					p.at(r.at, c.hint, "this lets somebody in because of %s, which whoever asks can write as they like", c.what)
					break
				}
			}
		}
	}
}

// findQueryTrust tells grants that rest on the query of the address.
func findQueryTrust(p *pass) {
	for _, g := range p.grants {
		for _, r := range g.reads {
			if !r.against && below(r.field, "input.resource.query") {
				p.at(r.at, "rely on input.subject, or on the path", "this lets somebody in because of the query, which whoever asks can write as they like")
				break
			}
		}
	}
}
