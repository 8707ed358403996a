package policy

import (
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
)

// term is the input as the evaluator reads it, built without the detour over JSON. It is the same document as
// AppendJSON's, field for field and byte for byte.
func (in *Input) term() *ast.Term {
	return object(4).
		add(keys.subject, in.Subject.term()).
		add(keys.action, in.Action.term()).
		add(keys.resource, in.Resource.term()).
		add(keys.context, in.Context.term()).done()
}

func (s *Subject) term() *ast.Term {
	grants := make([]*ast.Term, len(s.Grants))
	for i := range s.Grants {
		grants[i] = s.Grants[i].term()
	}
	o := object(12).
		add(keys.type_, stringTerm(s.Type)).
		known(keys.id, s.ID).
		known(keys.email, s.Email).
		add(keys.emailVerified, ast.InternedTerm(s.EmailVerified)).
		add(keys.groups, stringsTerm(s.Groups)).
		add(keys.groupsIncomplete, ast.InternedTerm(s.GroupsIncomplete)).
		add(keys.claims, valueTerm(s.Claims))
	if s.Authn != nil {
		o = o.add(keys.authn, s.Authn.term())
	}
	if s.Session != nil {
		o = o.add(keys.session, s.Session.term())
	}
	if s.Device != nil {
		o = o.add(keys.device, s.Device.term())
	}
	if s.Cert != nil {
		o = o.add(keys.cert, s.Cert.term())
	}
	return o.add(keys.grants, ast.ArrayTerm(grants...)).done()
}

func (a *Authn) term() *ast.Term {
	return object(6).
		add(keys.provider, stringTerm(a.Provider)).
		known(keys.acr, a.ACR).
		add(keys.amr, stringsTerm(a.AMR)).
		known(keys.time, a.Time).
		age(keys.ageS, a.AgeS).
		add(keys.mfa, ast.InternedTerm(a.MFA)).done()
}

func (s *Session) term() *ast.Term {
	return object(3).
		add(keys.id, stringTerm(s.ID)).
		age(keys.ageS, s.AgeS).
		age(keys.idleS, s.IdleS).done()
}

func (d *Device) term() *ast.Term {
	return object(8).
		known(keys.id, d.ID).
		known(keys.platform, d.Platform).
		known(keys.version, d.Version).
		fact(keys.managed, d.Managed).
		fact(keys.compliant, d.Compliant).
		fact(keys.encrypted, d.Encrypted).
		known(keys.source, d.Source).
		age(keys.ageS, d.AgeS).done()
}

func (c *Cert) term() *ast.Term {
	return object(8).
		add(keys.fingerprint, stringTerm(c.Fingerprint)).
		add(keys.subject, stringTerm(c.Subject)).
		add(keys.issuer, stringTerm(c.Issuer)).
		add(keys.serial, stringTerm(c.Serial)).
		add(keys.dnsNames, stringsTerm(c.DNSNames)).
		add(keys.emails, stringsTerm(c.Emails)).
		add(keys.uris, stringsTerm(c.URIs)).
		add(keys.notAfter, stringTerm(c.NotAfter)).done()
}

func (g *Grant) term() *ast.Term {
	return object(4).
		add(keys.id, stringTerm(g.ID)).
		add(keys.app, stringTerm(g.App)).
		add(keys.name, stringTerm(g.Name)).
		known(keys.expires, g.Expires).done()
}

func (a *Action) term() *ast.Term {
	return object(4).
		add(keys.name, stringTerm(a.Name)).
		add(keys.method, stringTerm(a.Method)).
		add(keys.protocol, stringTerm(a.Protocol)).
		add(keys.upgrade, stringTerm(a.Upgrade)).done()
}

func (r *Resource) term() *ast.Term {
	return object(9).
		add(keys.type_, stringTerm(r.Type)).
		add(keys.id, stringTerm(r.ID)).
		add(keys.labels, stringMapTerm(r.Labels)).
		add(keys.sensitivity, stringTerm(r.Sensitivity)).
		add(keys.owner, stringTerm(r.Owner)).
		add(keys.host, stringTerm(r.Host)).
		add(keys.path, stringTerm(r.Path)).
		add(keys.segments, stringsTerm(r.Segments)).
		add(keys.query, stringTerm(r.Query)).done()
}

func (c *Context) term() *ast.Term {
	o := object(8).
		add(keys.timeNS, intTerm(c.TimeNS)).
		add(keys.time, stringTerm(c.Time)).
		add(keys.weekday, stringTerm(c.Weekday)).
		add(keys.hour, ast.InternedTerm(c.Hour)).
		add(keys.client, c.Client.term())
	if c.TLS != nil {
		o = o.add(keys.tls, c.TLS.term())
	}
	o = o.add(keys.request, c.Request.term())
	if c.Shield != nil {
		o = o.add(keys.shield, c.Shield.term())
	}
	return o.done()
}

func (c *Client) term() *ast.Term {
	return object(3).
		known(keys.ip, c.IP).
		known(keys.zone, c.Zone).
		known(keys.country, c.Country).done()
}

func (t *TLS) term() *ast.Term {
	return object(4).
		add(keys.version, stringTerm(t.Version)).
		add(keys.cipher, stringTerm(t.Cipher)).
		add(keys.sni, stringTerm(t.SNI)).
		add(keys.alpn, stringTerm(t.ALPN)).done()
}

func (r *Request) term() *ast.Term {
	o := object(7).
		add(keys.id, stringTerm(r.ID)).
		add(keys.contentType, stringTerm(r.ContentType))
	if r.ContentLength != nil {
		o = o.add(keys.contentLength, intTerm(*r.ContentLength))
	}
	return o.
		add(keys.userAgent, stringTerm(r.UserAgent)).
		add(keys.origin, stringTerm(r.Origin)).
		add(keys.fetchSite, stringTerm(r.FetchSite)).
		add(keys.headers, stringMapTerm(r.Headers)).done()
}

func (s *Shield) term() *ast.Term {
	rules := make([]*ast.Term, len(s.Rules))
	for i, id := range s.Rules {
		rules[i] = intTerm(id)
	}
	return object(4).
		add(keys.score, ast.InternedTerm(s.Score)).
		add(keys.rules, ast.ArrayTerm(rules...)).
		add(keys.body, stringTerm(s.Body)).
		add(keys.timeout, ast.InternedTerm(s.Timeout)).done()
}

// items collects an object's fields.
type items [][2]*ast.Term

func object(capacity int) items { return make(items, 0, capacity) }

func (o items) add(key, value *ast.Term) items { return append(o, [2]*ast.Term{key, value}) }

func (o items) known(key *ast.Term, s string) items {
	if s == "" {
		return o
	}
	return o.add(key, stringTerm(s))
}

func (o items) age(key *ast.Term, a Age) items {
	if !a.known {
		return o
	}
	return o.add(key, intTerm(a.seconds))
}

func (o items) fact(key *ast.Term, fact *bool) items {
	if fact == nil {
		return o
	}
	return o.add(key, ast.InternedTerm(*fact))
}

func (o items) done() *ast.Term { return ast.ObjectTerm(o...) }

// stringTerm reads bytes that are not UTF-8 as AppendJSON writes them.
func stringTerm(s string) *ast.Term { return ast.InternedTerm(clean(s)) }

func intTerm(n int64) *ast.Term {
	if ast.HasInternedIntNumberTerm(int(n)) {
		return ast.InternedTerm(n)
	}
	return ast.NewTerm(ast.Number(strconv.FormatInt(n, 10)))
}

func stringsTerm(ss []string) *ast.Term {
	if len(ss) == 0 {
		return ast.InternedEmptyArray
	}
	terms := make([]*ast.Term, len(ss))
	for i, s := range ss {
		terms[i] = stringTerm(s)
	}
	return ast.ArrayTerm(terms...)
}

func stringMapTerm(m map[string]string) *ast.Term {
	if len(m) == 0 {
		return ast.InternedEmptyObject
	}
	o := object(len(m))
	for k, v := range cleanKeys(m) {
		o = o.add(stringTerm(k), stringTerm(v))
	}
	return o.done()
}

func valueTerm(v any) *ast.Term {
	switch v := v.(type) {
	case bool:
		return ast.InternedTerm(v)
	case string:
		return stringTerm(v)
	case []string:
		return stringsTerm(v)
	case []any:
		terms := make([]*ast.Term, len(v))
		for i, e := range v {
			terms[i] = valueTerm(e)
		}
		return ast.ArrayTerm(terms...)
	case map[string]any:
		if len(v) == 0 {
			return ast.InternedEmptyObject
		}
		o := object(len(v))
		for k, e := range cleanKeys(v) {
			o = o.add(stringTerm(k), valueTerm(e))
		}
		return o.done()
	}
	if n, ok := number(v); ok {
		return ast.NewTerm(ast.Number(n))
	}
	return ast.InternedNullTerm
}

// keys are the field names' terms, hashed once and shared by all inputs; nobody changes them.
var keys = struct {
	subject, action, resource, context                                       *ast.Term
	type_, id, email, emailVerified, groups, groupsIncomplete, claims, authn *ast.Term
	session, device, cert, grants, provider, acr, amr, time, ageS, mfa       *ast.Term
	idleS, platform, version, managed, compliant, encrypted, source          *ast.Term
	fingerprint, issuer, serial, dnsNames, emails, uris, notAfter            *ast.Term
	app, name, expires, method, protocol, upgrade                            *ast.Term
	labels, sensitivity, owner, host, path, segments, query                  *ast.Term
	timeNS, weekday, hour, client, tls, request, shield                      *ast.Term
	ip, zone, country, cipher, sni, alpn                                     *ast.Term
	contentType, contentLength, userAgent, origin, fetchSite, headers        *ast.Term
	score, rules, body, timeout                                              *ast.Term
}{
	key("subject"), key("action"), key("resource"), key("context"),
	key("type"), key("id"), key("email"), key("email_verified"), key("groups"), key("groups_incomplete"), key("claims"), key("authn"),
	key("session"), key("device"), key("cert"), key("grants"), key("provider"), key("acr"), key("amr"), key("time"), key("age_s"), key("mfa"),
	key("idle_s"), key("platform"), key("version"), key("managed"), key("compliant"), key("encrypted"), key("source"),
	key("fingerprint"), key("issuer"), key("serial"), key("dns_names"), key("emails"), key("uris"), key("not_after"),
	key("app"), key("name"), key("expires"), key("method"), key("protocol"), key("upgrade"),
	key("labels"), key("sensitivity"), key("owner"), key("host"), key("path"), key("segments"), key("query"),
	key("time_ns"), key("weekday"), key("hour"), key("client"), key("tls"), key("request"), key("shield"),
	key("ip"), key("zone"), key("country"), key("cipher"), key("sni"), key("alpn"),
	key("content_type"), key("content_length"), key("user_agent"), key("origin"), key("fetch_site"), key("headers"),
	key("score"), key("rules"), key("body"), key("timeout"),
}

func key(name string) *ast.Term { return ast.StringTerm(name) }
