package corpus

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"sallyport/policy"
)

// Key makes pseudonyms. Whoever has it can tell whether somebody is in a corpus, so it is drawn anew for each and forgotten.
type Key [32]byte

// redactor takes names out of one app's requests.
type redactor struct {
	key      Key
	known    map[string]bool // values that the policy names, in lower case too
	networks []netip.Prefix
}

// newRedactor finds out what a policy names for an app, in the order of names.
func newRedactor(ctx context.Context, key Key, e *policy.Engine, app string) (*redactor, []string, error) {
	values, networks, err := named(ctx, e, app)
	if err != nil {
		return nil, nil, err
	}
	r := &redactor{key: key, known: make(map[string]bool), networks: networks}
	for _, value := range values {
		r.known[value] = true
		r.known[strings.ToLower(value)] = true
		for segment := range strings.SplitSeq(value, "/") {
			r.known[segment] = true
		}
	}
	return r, values, nil
}

// named is what a policy compares an app's requests with: texts, sorted, and networks.
func named(ctx context.Context, e *policy.Engine, app string) (values []string, networks []netip.Prefix, err error) {
	selectors, err := e.Selectors(app)
	if err != nil {
		return nil, nil, nil // an app that the policy does not have: it names nothing of it
	}
	for _, s := range selectors {
		values = slices.Concat(values, s.Emails, s.Exact, s.Below)
		networks = append(networks, s.Networks...)
		for _, network := range s.Networks {
			values = append(values, network.String())
		}
	}
	constants, err := e.Constants(ctx, app)
	if err != nil {
		return nil, nil, err
	}
	if constants != nil {
		values = append(values, constants.Strings...)
		networks = append(networks, parsed(constants.Strings)...)
	}
	slices.Sort(values)
	return slices.Compact(values), networks, nil
}

// parsed are the networks and addresses among texts.
func parsed(texts []string) (networks []netip.Prefix) {
	for _, text := range texts {
		if network, err := netip.ParsePrefix(text); err == nil {
			networks = append(networks, network)
		} else if address, err := netip.ParseAddr(text); err == nil {
			networks = append(networks, netip.PrefixFrom(address, address.BitLen()))
		}
	}
	return networks
}

// redact is an input without names.
func (r *redactor) redact(in *policy.Input) *policy.Input {
	out := *in
	out.Subject = r.subject(&in.Subject)
	out.Resource.Path, out.Resource.Segments = r.path(in.Resource.Path), nil
	for _, segment := range in.Resource.Segments {
		out.Resource.Segments = append(out.Resource.Segments, r.segment(segment))
	}
	out.Resource.Query = r.query(in.Resource.Query)
	out.Context.Client.IP = r.address(in.Context.Client.IP)
	out.Context.Request.ID = r.name("r", in.Context.Request.ID)
	if in.Context.Request.Headers != nil {
		out.Context.Request.Headers = make(map[string]string, len(in.Context.Request.Headers))
		for name, value := range in.Context.Request.Headers {
			out.Context.Request.Headers[name] = r.name("h", value)
		}
	}
	return &out
}

func (r *redactor) subject(in *policy.Subject) policy.Subject {
	out := policy.Subject{
		Type: in.Type, ID: r.id(in.ID), Email: r.email(in.Email), EmailVerified: in.EmailVerified,
		Groups: in.Groups, GroupsIncomplete: in.GroupsIncomplete, Authn: in.Authn, Session: in.Session, Token: in.Token, Device: in.Device, Cert: in.Cert, CertProblem: in.CertProblem,
	}
	if in.Claims != nil {
		out.Claims = make(map[string]any, len(in.Claims))
		for name, value := range in.Claims {
			out.Claims[name] = r.claim(value)
		}
	}
	if in.Session != nil {
		session := *in.Session
		session.ID = r.name("s", session.ID)
		out.Session = &session
	}
	if in.Token != nil {
		token := *in.Token
		token.ID, token.Name = r.name("t", token.ID), r.name("t", token.Name)
		out.Token = &token
	}
	if in.Device != nil {
		device := *in.Device
		device.ID = r.name("d", device.ID)
		out.Device = &device
	}
	if in.Cert != nil {
		out.Cert = r.cert(in.Cert)
	}
	for _, grant := range in.Grants {
		grant.ID = r.name("g", grant.ID)
		out.Grants = append(out.Grants, grant)
	}
	return out
}

func (r *redactor) cert(in *policy.Cert) *policy.Cert {
	out := *in
	out.Fingerprint, out.Serial = r.name("c", in.Fingerprint), r.name("c", in.Serial)
	out.Subject = r.name("CN=c", in.Subject)
	out.DNSNames, out.URIs = r.names("n", in.DNSNames), r.names("u", in.URIs)
	out.Emails = nil
	for _, email := range in.Emails {
		out.Emails = append(out.Emails, r.email(email))
	}
	return &out
}

// inner is the name of a claim within a claim, unless it is somebody's address.
func (r *redactor) inner(name string) string {
	if strings.Contains(name, "@") {
		return r.email(name)
	}
	return name
}

func (r *redactor) names(kind string, values []string) (out []string) {
	for _, value := range values {
		out = append(out, r.name(kind, value))
	}
	return out
}

// name is a pseudonym, unless the policy names the value itself or there is none.
func (r *redactor) name(kind, value string) string {
	if value == "" || r.known[value] {
		return value
	}
	return kind + "-" + r.token(value)
}

func (r *redactor) token(value string) string {
	h := hmac.New(sha256.New, r.key[:])
	h.Write([]byte(value))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil)[:8]))
}

// id keeps the provider of provider|sub.
func (r *redactor) id(id string) string {
	provider, sub, ok := strings.Cut(id, "|")
	if !ok || r.known[id] {
		return r.name("p", id)
	}
	return provider + "|p-" + r.token(sub)
}

// email keeps the domain.
func (r *redactor) email(email string) string {
	at := strings.LastIndexByte(email, '@')
	if at < 0 || r.known[email] || r.known[strings.ToLower(email)] {
		return r.name("p", email)
	}
	return "p-" + r.token(strings.ToLower(email)) + email[at:]
}

// claim keeps numbers and truth, and what the policy names.
func (r *redactor) claim(value any) any {
	switch value := value.(type) {
	case string:
		return r.name("v", value)
	case []string:
		return r.names("v", value)
	case []any:
		out := make([]any, len(value))
		for i := range value {
			out[i] = r.claim(value[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(value))
		for name, inner := range value {
			out[r.inner(name)] = r.claim(inner)
		}
		return out
	}
	return value
}

func (r *redactor) path(path string) string {
	segments := strings.Split(path, "/")
	for i := range segments {
		segments[i] = r.segment(segments[i])
	}
	return strings.Join(segments, "/")
}

// maxWord is the longest part of a path that counts as a word.
const maxWord = 24

// segment keeps words; what has digits, capitals or an @ may be somebody's.
func (r *redactor) segment(segment string) string {
	word := func(c rune) bool { return c >= 'a' && c <= 'z' || c == '-' || c == '_' || c == '.' }
	if r.known[segment] || len(segment) <= maxWord && !strings.ContainsFunc(segment, func(c rune) bool { return !word(c) }) {
		return segment
	}
	return "x-" + r.token(segment)
}

// query keeps the names of parameters. What is no pair may be a value, and so may what cannot be decoded.
func (r *redactor) query(query string) string {
	parameters := strings.Split(query, "&")
	for i, p := range parameters {
		name, value, has := strings.Cut(p, "=")
		text, err := url.QueryUnescape(value)
		switch {
		case !has:
			parameters[i] = r.parameter(p)
		case value == policy.Redacted || err == nil && r.known[text]:
			parameters[i] = r.parameter(name) + "=" + value
		default:
			parameters[i] = r.parameter(name) + "=" + r.name("q", value)
		}
	}
	return strings.Join(parameters, "&")
}

// parameter keeps names as programs give them: letters, and what joins words. Anything else may be somebody's.
func (r *redactor) parameter(name string) string {
	part := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.ContainsRune("-_.:[]", c)
	}
	if r.known[name] || len(name) <= maxWord && !strings.ContainsFunc(name, func(c rune) bool { return !part(c) }) {
		return name
	}
	return "q-" + r.token(name)
}

// Bits of an address that stay.
const (
	keptIPv4 = 24
	keptIPv6 = 48
)

// address clears the end of an address, and no more than leaves it in and out of the networks that the policy names.
func (r *redactor) address(text string) string {
	address, err := netip.ParseAddr(text)
	if err != nil {
		return r.name("a", text)
	}
	for bits := keptBits(address); bits < address.BitLen(); bits++ {
		if start := netip.PrefixFrom(address, bits).Masked().Addr(); r.neighbours(address, start) {
			return start.String()
		}
	}
	return text
}

// neighbours reports whether two addresses are in the same networks.
func (r *redactor) neighbours(a, b netip.Addr) bool {
	return !slices.ContainsFunc(r.networks, func(n netip.Prefix) bool { return n.Contains(a) != n.Contains(b) })
}

func keptBits(a netip.Addr) int {
	if a.Is4() {
		return keptIPv4
	}
	return keptIPv6
}
