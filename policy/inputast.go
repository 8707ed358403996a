package policy

import (
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
)

// term is the input as the evaluator reads it, built without the detour over JSON. It is the same document as
// AppendJSON's, field for field and byte for byte.
func (in *Input) term() *ast.Term {
	t := &slab{free: make([]ast.Term, 40)}
	return object(4).
		add(keys.subject, in.Subject.term()).
		add(keys.action, in.Action.term(t)).
		add(keys.resource, in.Resource.term(t)).
		add(keys.context, in.Context.term(t)).done(t)
}

// term is shared by the requests of a prepared subject: evaluation changes no term that it is given.
func (s *Subject) term() *ast.Term {
	if p := s.ready(); p != nil {
		return p.term()
	}
	return s.newTerm()
}

func (s *Subject) newTerm() *ast.Term {
	t := &slab{free: make([]ast.Term, 24+len(s.Groups))}
	grants := make([]*ast.Term, len(s.Grants))
	for i := range s.Grants {
		grants[i] = s.Grants[i].term(t)
	}
	o := object(14).
		add(keys.type_, t.str(s.Type)).
		known(t, keys.id, s.ID).
		known(t, keys.email, s.Email).
		add(keys.emailVerified, ast.InternedTerm(s.EmailVerified)).
		add(keys.groups, t.strs(s.Groups)).
		add(keys.groupsIncomplete, ast.InternedTerm(s.GroupsIncomplete)).
		add(keys.claims, t.value(s.Claims))
	if s.Authn != nil {
		o = o.add(keys.authn, s.Authn.term(t))
	}
	if s.Session != nil {
		o = o.add(keys.session, s.Session.term(t))
	}
	if s.Token != nil {
		o = o.add(keys.token, s.Token.term(t))
	}
	if s.Device != nil {
		o = o.add(keys.device, s.Device.term(t))
	}
	if s.Cert != nil {
		o = o.add(keys.cert, s.Cert.term(t))
	}
	o = o.known(t, keys.certProblem, s.CertProblem)
	return o.add(keys.grants, t.array(grants...)).done(t)
}

func (a *Authn) term(t *slab) *ast.Term {
	return object(6).
		add(keys.provider, t.str(a.Provider)).
		known(t, keys.acr, a.ACR).
		add(keys.amr, t.strs(a.AMR)).
		known(t, keys.time, a.Time).
		age(t, keys.ageS, a.AgeS).
		add(keys.mfa, ast.InternedTerm(a.MFA)).done(t)
}

func (s *Session) term(t *slab) *ast.Term {
	return object(3).
		add(keys.id, t.str(s.ID)).
		age(t, keys.ageS, s.AgeS).
		age(t, keys.idleS, s.IdleS).done(t)
}

func (k *Token) term(t *slab) *ast.Term {
	return object(7).
		add(keys.id, t.str(k.ID)).
		add(keys.kind, t.str(k.Kind)).
		add(keys.name, t.str(k.Name)).
		add(keys.apps, t.strs(k.Apps)).
		add(keys.methods, t.strs(k.Methods)).
		add(keys.scopes, t.strs(k.Scopes)).
		add(keys.expires, t.str(k.Expires)).done(t)
}

func (d *Device) term(t *slab) *ast.Term {
	return object(8).
		known(t, keys.id, d.ID).
		known(t, keys.platform, d.Platform).
		known(t, keys.version, d.Version).
		fact(keys.managed, d.Managed).
		fact(keys.compliant, d.Compliant).
		fact(keys.encrypted, d.Encrypted).
		known(t, keys.source, d.Source).
		age(t, keys.ageS, d.AgeS).done(t)
}

func (c *Cert) term(t *slab) *ast.Term {
	return object(8).
		add(keys.fingerprint, t.str(c.Fingerprint)).
		add(keys.subject, t.str(c.Subject)).
		add(keys.issuer, t.str(c.Issuer)).
		add(keys.serial, t.str(c.Serial)).
		add(keys.dnsNames, t.strs(c.DNSNames)).
		add(keys.emails, t.strs(c.Emails)).
		add(keys.uris, t.strs(c.URIs)).
		add(keys.notAfter, t.str(c.NotAfter)).done(t)
}

func (g *Grant) term(t *slab) *ast.Term {
	return object(4).
		add(keys.id, t.str(g.ID)).
		add(keys.app, t.str(g.App)).
		add(keys.name, t.str(g.Name)).
		known(t, keys.expires, g.Expires).done(t)
}

func (a *Action) term(t *slab) *ast.Term { return whole(t, a, actionFields) }

var actionFields = []*ast.Term{keys.name, keys.method, keys.protocol, keys.upgrade}

func (a *Action) field(t *slab, name string) *ast.Term {
	switch name {
	case "name":
		return t.str(a.Name)
	case "method":
		return t.str(a.Method)
	case "protocol":
		return t.str(a.Protocol)
	case "upgrade":
		return t.str(a.Upgrade)
	}
	return nil
}

func (r *Resource) term(t *slab) *ast.Term { return whole(t, r, resourceFields) }

var resourceFields = []*ast.Term{
	keys.type_, keys.id, keys.labels, keys.sensitivity, keys.owner, keys.host, keys.path, keys.segments, keys.query,
}

func (r *Resource) field(t *slab, name string) *ast.Term {
	switch name {
	case "type":
		return t.str(r.Type)
	case "id":
		return t.str(r.ID)
	case "labels":
		return t.strMap(r.Labels)
	case "sensitivity":
		return t.str(r.Sensitivity)
	case "owner":
		return t.str(r.Owner)
	case "host":
		return t.str(r.Host)
	case "path":
		return t.str(r.Path)
	case "segments":
		return t.strs(r.Segments)
	case "query":
		return t.str(r.Query)
	}
	return nil
}

func (c *Context) term(t *slab) *ast.Term { return whole(t, c, contextFields) }

var contextFields = []*ast.Term{
	keys.timeNS, keys.time, keys.weekday, keys.hour, keys.client, keys.tls, keys.request, keys.shield,
}

func (c *Context) field(t *slab, name string) *ast.Term {
	switch name {
	case "time_ns":
		return t.int(c.TimeNS)
	case "time":
		return t.str(c.Time)
	case "weekday":
		return t.str(c.Weekday)
	case "hour":
		return ast.InternedTerm(c.Hour)
	case "client":
		return c.Client.term(t)
	case "tls":
		return c.TLS.term(t)
	case "request":
		return c.Request.term(t)
	case "shield":
		return c.Shield.term(t)
	}
	return nil
}

func (c *Client) term(t *slab) *ast.Term {
	return object(3).
		known(t, keys.ip, c.IP).
		known(t, keys.zone, c.Zone).
		known(t, keys.country, c.Country).done(t)
}

// term is nil without TLS.
func (c *TLS) term(t *slab) *ast.Term {
	if c == nil {
		return nil
	}
	return object(4).
		add(keys.version, t.str(c.Version)).
		add(keys.cipher, t.str(c.Cipher)).
		add(keys.sni, t.str(c.SNI)).
		add(keys.alpn, t.str(c.ALPN)).done(t)
}

func (r *Request) term(t *slab) *ast.Term { return whole(t, r, requestFields) }

var requestFields = []*ast.Term{
	keys.id, keys.contentType, keys.contentLength, keys.userAgent, keys.origin, keys.fetchSite, keys.crossOrigin, keys.crossSiteUnsafe, keys.headers,
}

func (r *Request) field(t *slab, name string) *ast.Term {
	switch name {
	case "id":
		return t.str(r.ID)
	case "content_type":
		return t.str(r.ContentType)
	case "content_length":
		if r.ContentLength != nil {
			return t.int(*r.ContentLength)
		}
	case "user_agent":
		return t.str(r.UserAgent)
	case "origin":
		return t.str(r.Origin)
	case "fetch_site":
		return t.str(r.FetchSite)
	case "cross_origin":
		return ast.InternedTerm(r.CrossOrigin)
	case "cross_site_unsafe":
		if r.CrossSiteUnsafe != nil {
			return ast.InternedTerm(*r.CrossSiteUnsafe)
		}
	case "headers":
		return t.strMap(r.Headers)
	}
	return nil
}

// term is nil where nothing was inspected.
func (s *Shield) term(t *slab) *ast.Term {
	if s == nil {
		return nil
	}
	rules := make([]*ast.Term, len(s.Rules))
	for i, id := range s.Rules {
		rules[i] = t.int(id)
	}
	return object(4).
		add(keys.score, ast.InternedTerm(s.Score)).
		add(keys.rules, t.array(rules...)).
		add(keys.body, t.str(s.Body)).
		add(keys.timeout, ast.InternedTerm(s.Timeout)).done(t)
}

// slab hands out terms from one allocation: an input has dozens of them, and they live and die together.
type slab struct{ free []ast.Term }

func (t *slab) term(v ast.Value) *ast.Term {
	if len(t.free) == 0 {
		t.free = make([]ast.Term, 32)
	}
	term := &t.free[0]
	t.free = t.free[1:]
	term.Value = v
	return term
}

// str reads bytes that are not UTF-8 as AppendJSON writes them.
func (t *slab) str(s string) *ast.Term {
	if s == "" {
		return ast.InternedEmptyString
	}
	return t.term(ast.String(clean(s)))
}

func (t *slab) int(n int64) *ast.Term {
	if ast.HasInternedIntNumberTerm(int(n)) {
		return ast.InternedTerm(n)
	}
	return t.term(ast.Number(strconv.FormatInt(n, 10)))
}

func (t *slab) array(terms ...*ast.Term) *ast.Term {
	if len(terms) == 0 {
		return ast.InternedEmptyArray
	}
	return t.term(ast.NewArray(terms...))
}

func (t *slab) strs(ss []string) *ast.Term {
	if len(ss) == 0 {
		return ast.InternedEmptyArray
	}
	terms := make([]*ast.Term, len(ss))
	for i, s := range ss {
		terms[i] = t.str(s)
	}
	return t.array(terms...)
}

func (t *slab) strMap(m map[string]string) *ast.Term {
	o := object(len(m))
	for k, v := range cleanKeys(m) {
		o = o.add(t.str(k), t.str(v))
	}
	return o.done(t)
}

func (t *slab) value(v any) *ast.Term {
	switch v := v.(type) {
	case bool:
		return ast.InternedTerm(v)
	case string:
		return t.str(v)
	case []string:
		return t.strs(v)
	case []any:
		terms := make([]*ast.Term, len(v))
		for i, e := range v {
			terms[i] = t.value(e)
		}
		return t.array(terms...)
	case map[string]any:
		o := object(len(v))
		for k, e := range cleanKeys(v) {
			o = o.add(t.str(k), t.value(e))
		}
		return o.done(t)
	}
	if n, ok := number(v); ok {
		return t.term(ast.Number(n))
	}
	return ast.InternedNullTerm
}

// items collects an object's fields.
type items [][2]*ast.Term

func object(capacity int) items { return make(items, 0, capacity) }

// whole is a document with all of its fields.
func whole(t *slab, d section, names []*ast.Term) *ast.Term {
	o := object(len(names))
	for _, key := range names {
		name := key.Value.(ast.String)
		if value := d.field(t, string(name)); value != nil {
			o = o.add(key, value)
		}
	}
	return o.done(t)
}

func (o items) add(key, value *ast.Term) items { return append(o, [2]*ast.Term{key, value}) }

func (o items) known(t *slab, key *ast.Term, s string) items {
	if s == "" {
		return o
	}
	return o.add(key, t.str(s))
}

func (o items) age(t *slab, key *ast.Term, a Age) items {
	if !a.known {
		return o
	}
	return o.add(key, t.int(a.seconds))
}

func (o items) fact(key *ast.Term, fact *bool) items {
	if fact == nil {
		return o
	}
	return o.add(key, ast.InternedTerm(*fact))
}

func (o items) done(t *slab) *ast.Term {
	if len(o) == 0 {
		return ast.InternedEmptyObject
	}
	return t.term(ast.NewObject(o...))
}

// keys are the field names' terms, hashed once and shared by all inputs; nobody changes them.
var keys = struct {
	subject, action, resource, context                                              *ast.Term
	type_, id, email, emailVerified, groups, groupsIncomplete, claims, authn        *ast.Term
	session, device, cert, certProblem, grants, provider, acr, amr, time, ageS, mfa *ast.Term
	idleS, platform, version, managed, compliant, encrypted, source                 *ast.Term
	fingerprint, issuer, serial, dnsNames, emails, uris, notAfter                   *ast.Term
	app, name, expires, method, protocol, upgrade                                   *ast.Term
	labels, sensitivity, owner, host, path, segments, query                         *ast.Term
	timeNS, weekday, hour, client, tls, request, shield                             *ast.Term
	ip, zone, country, cipher, sni, alpn                                            *ast.Term
	contentType, contentLength, userAgent, origin, fetchSite, crossOrigin           *ast.Term
	crossSiteUnsafe, headers                                                        *ast.Term
	score, rules, body, timeout                                                     *ast.Term
	token, kind, apps, methods, scopes                                              *ast.Term
}{
	key("subject"), key("action"), key("resource"), key("context"),
	key("type"), key("id"), key("email"), key("email_verified"), key("groups"), key("groups_incomplete"), key("claims"), key("authn"),
	key("session"), key("device"), key("cert"), key("cert_problem"), key("grants"), key("provider"), key("acr"), key("amr"), key("time"), key("age_s"), key("mfa"),
	key("idle_s"), key("platform"), key("version"), key("managed"), key("compliant"), key("encrypted"), key("source"),
	key("fingerprint"), key("issuer"), key("serial"), key("dns_names"), key("emails"), key("uris"), key("not_after"),
	key("app"), key("name"), key("expires"), key("method"), key("protocol"), key("upgrade"),
	key("labels"), key("sensitivity"), key("owner"), key("host"), key("path"), key("segments"), key("query"),
	key("time_ns"), key("weekday"), key("hour"), key("client"), key("tls"), key("request"), key("shield"),
	key("ip"), key("zone"), key("country"), key("cipher"), key("sni"), key("alpn"),
	key("content_type"), key("content_length"), key("user_agent"), key("origin"), key("fetch_site"), key("cross_origin"),
	key("cross_site_unsafe"), key("headers"),
	key("score"), key("rules"), key("body"), key("timeout"),
	key("token"), key("kind"), key("apps"), key("methods"), key("scopes"),
}

func key(name string) *ast.Term { return ast.StringTerm(name) }
