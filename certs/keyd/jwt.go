package keyd

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// maxLifetime bounds exp − iat of everything signed here, so that a stolen token is soon worthless.
	maxLifetime = 5 * time.Minute
	// maxSkew is how far iat may be from keyd's clock. Both processes share one clock; this covers a slow request and
	// keeps a hostile gateway from hoarding tokens for next week.
	maxSkew = 30 * time.Second
	// maxMembers bounds the work on one object; ours have a dozen.
	maxMembers = 64
)

// token is a parsed JWS signing input (RFC 7515 §5.1): `base64url(header).base64url(claims)`.
type token struct {
	header, claims members
}

// members is a JSON object, one level deep.
type members map[string]json.RawMessage

// parseToken parses a signing input so strictly that no verifier can read another one out of the same bytes: canonical
// base64url, valid UTF-8, no member twice, not even in another case.
func parseToken(input []byte) (token, error) {
	head, body, ok := strings.Cut(string(input), ".")
	if !ok {
		return token{}, refusal("not a JWT signing input")
	}
	header, err := parsePart(head)
	if err != nil {
		return token{}, err
	}
	claims, err := parsePart(body)
	if err != nil {
		return token{}, err
	}
	return token{header, claims}, nil
}

func parsePart(part string) (members, error) {
	data, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil || strings.ContainsAny(part, "\r\n") { // the decoder skips line breaks
		return nil, refusal("not base64url")
	}
	if !utf8.Valid(data) {
		return nil, refusal("not UTF-8")
	}
	return parseMembers(data)
}

// parseMembers reads one JSON object. Names that differ only in case count as equal: some verifiers (Go's among them)
// match them that way, with an ſ for an s.
func parseMembers(data []byte) (members, error) {
	bad := refusal("not one JSON object")
	if !json.Valid(data) {
		return nil, bad
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, bad
	}
	m, seen := members{}, map[string]bool{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, bad
		}
		fold := strings.ToLower(strings.ToUpper(name))
		if seen[fold] {
			return nil, refusal("the same JSON member twice")
		}
		seen[fold] = true
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, bad
		}
		if m[name] = value; len(m) > maxMembers {
			return nil, refusal("too many JSON members")
		}
	}
	return m, nil
}

// text is a member that must be a non-empty string; "" otherwise.
func (m members) text(name string) string {
	var s string
	if json.Unmarshal(m[name], &s) != nil {
		return ""
	}
	return s
}

// number is a member that must be an integer. RFC 7519 §2 would allow fractions of a second in a NumericDate.
func (m members) number(name string) (int64, bool) {
	var n *int64
	if json.Unmarshal(m[name], &n) != nil || n == nil {
		return 0, false
	}
	return *n, true
}

// texts is a member that is a string or a list of strings (RFC 7519 §4.1.3); nil otherwise.
func (m members) texts(name string) []string {
	if s := m.text(name); s != "" {
		return []string{s}
	}
	var list []string
	if json.Unmarshal(m[name], &list) != nil {
		return nil
	}
	return list
}

// checkHeader accepts exactly alg, kid and typ: no jwk, jku, x5u or crit that would send a verifier elsewhere.
func (t token) checkHeader(kid string, types ...string) error {
	switch {
	case len(t.header) != 3:
		return refusal("the header must be alg, kid and typ")
	case t.header.text("alg") != "ES256":
		return refusal("alg must be ES256")
	case t.header.text("kid") != kid:
		return refusal("kid must be the key's id")
	case !slices.Contains(types, t.header.text("typ")):
		return refusal("typ must be JWT")
	}
	return nil
}

// checkTime accepts iat within maxSkew of now and iat < exp ≤ iat + maxLifetime.
func (t token) checkTime(now time.Time) error {
	iat, ok := t.claims.number("iat")
	if !ok || iat < now.Add(-maxSkew).Unix() || iat > now.Add(maxSkew).Unix() {
		return refusal("iat must be an integer close to now")
	}
	exp, ok := t.claims.number("exp")
	if !ok || exp <= iat || exp > iat+int64(maxLifetime/time.Second) {
		return refusal("exp must be an integer, at most five minutes after iat")
	}
	return nil
}

// checkAssertion accepts the gateway's word to one app: RFC 7519 claims, our issuer, one audience that is ours.
func checkAssertion(c *AssertionConfig, kid string, now time.Time, input []byte) error {
	t, err := parseToken(input)
	if err != nil {
		return err
	}
	if err := t.checkHeader(kid, "JWT"); err != nil {
		return err
	}
	if t.claims.text("iss") != c.Issuer {
		return refusal("iss is not ours")
	}
	if t.claims.text("sub") == "" {
		return refusal("sub is missing")
	}
	// One audience: with two, the first app could show the assertion to the second.
	aud := t.claims.texts("aud")
	if len(aud) != 1 || !slices.ContainsFunc(c.Audiences, func(a Audience) bool { return a.matches(aud[0]) }) {
		return refusal("aud must be one origin that is ours")
	}
	return t.checkTime(now)
}

// checkClientAssertion accepts a client authentication JWT, RFC 7523 §3. Its iat and jti are required here, though
// optional there.
func checkClientAssertion(clientID string, audiences []string, kid string, now time.Time, input []byte) error {
	t, err := parseToken(input)
	if err != nil {
		return err
	}
	if err := t.checkHeader(kid, "JWT", "client-authentication+jwt"); err != nil {
		return err
	}
	if t.claims.text("iss") != clientID || t.claims.text("sub") != clientID {
		return refusal("iss and sub must be the client id")
	}
	aud := t.claims.texts("aud")
	ours := func(a string) bool { return slices.Contains(audiences, a) }
	if len(aud) == 0 || slices.ContainsFunc(aud, func(a string) bool { return !ours(a) }) {
		return refusal("aud is not one of the provider's")
	}
	if t.claims.text("jti") == "" {
		return refusal("jti is missing")
	}
	return t.checkTime(now)
}

// jwtSigner returns how a key signs the signing inputs that check accepts, with ES256.
func jwtSigner(private crypto.Signer, check func(input []byte) error) (func([]byte) ([]byte, error), error) {
	if err := checkES256(private.Public()); err != nil {
		return nil, err
	}
	return func(input []byte) ([]byte, error) {
		if err := check(input); err != nil {
			return nil, err
		}
		digest := sha256.Sum256(input)
		return signES256(private, digest[:])
	}, nil
}
