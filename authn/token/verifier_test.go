package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sallyport/authn"
	"sallyport/authn/jwks"
)

const (
	ci     = "https://ci.corp.example"
	door   = "https://auth.corp.example"
	tenant = "https://ci.other.example"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

var (
	rsaKey    = must(rsa.GenerateKey(rand.Reader, 2048))
	otherRSA  = must(rsa.GenerateKey(rand.Reader, 2048))
	ecKey     = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	rsaPublic = &rsaKey.PublicKey
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// held are keys by kid and alg, as a set has them that needs no network.
type held map[string]any

func (h held) Key(_ context.Context, kid, alg string) (publicKey, error) {
	if key, ok := h[kid+" "+alg]; ok {
		return key, nil
	}
	return nil, jwks.ErrUnknownKey
}

// fixture is a verifier of two issuers that use the same key id, with keys at hand.
func fixture(t testing.TB, change ...func(*Issuer)) *Verifier {
	t.Helper()
	cfg := Issuer{Name: "ci", Issuer: ci, Audience: []string{door}, Algorithms: []string{"RS256", "ES256"}, MaxAge: 24 * time.Hour, Skew: time.Minute}
	for _, f := range change {
		f(&cfg)
	}
	other := Issuer{Name: "tenant", Issuer: tenant, Audience: []string{door}, Algorithms: []string{"RS256"}, MaxAge: time.Hour}
	for _, i := range []Issuer{cfg, other} {
		if err := i.Check(); err != nil {
			t.Fatal(err)
		}
	}
	v, err := NewVerifier(VerifierConfig{Issuers: []Issuer{cfg, other}, Now: func() time.Time { return noon }})
	if err != nil {
		t.Fatal(err)
	}
	v.issuers[ci].keys = held{"1 RS256": rsaPublic, "2 ES256": &ecKey.PublicKey}
	v.issuers[tenant].keys = held{"1 RS256": &otherRSA.PublicKey}
	return v
}

// good is what a good token says.
func good(change ...func(jwt.MapClaims)) jwt.MapClaims {
	said := jwt.MapClaims{"iss": ci, "sub": "repo:corp/site:ref:refs/heads/main", "aud": door, "iat": noon.Unix() - 10, "exp": noon.Unix() + 300}
	for _, f := range change {
		f(said)
	}
	return said
}

func with(name string, value any) func(jwt.MapClaims) {
	return func(c jwt.MapClaims) { c[name] = value }
}

func without(name string) func(jwt.MapClaims) { return func(c jwt.MapClaims) { delete(c, name) } }

// sign makes a token; header members replace the usual ones, nil removes one.
func sign(method jwt.SigningMethod, key any, said jwt.Claims, header map[string]any) string {
	t := jwt.NewWithClaims(method, said)
	t.Header["kid"] = "1"
	for name, value := range header {
		if t.Header[name] = value; value == nil {
			delete(t.Header, name)
		}
	}
	return must(t.SignedString(key))
}

func signed(change ...func(jwt.MapClaims)) string {
	return sign(jwt.SigningMethodRS256, rsaKey, good(change...), nil)
}

func headed(header map[string]any) string {
	return sign(jwt.SigningMethodRS256, rsaKey, good(), header)
}

// worse is a parser that lacks a protection: what it changes, the verifier no longer sees.
type worse struct {
	parser
	header     func(map[string]any)
	claims     func(claims)
	key        func(*jwt.Token, any, error) (any, error)
	unverified bool
}

func (w worse) ParseWithClaims(raw string, into jwt.Claims, find jwt.Keyfunc) (*jwt.Token, error) {
	changed := func(t *jwt.Token) (any, error) {
		if w.header != nil {
			w.header(t.Header)
		}
		if w.claims != nil {
			w.claims(*into.(*claims))
		}
		key, err := find(t)
		if w.key != nil {
			return w.key(t, key, err)
		}
		return key, err
	}
	if !w.unverified {
		return w.parser.ParseWithClaims(raw, into, changed)
	}
	t, _, err := jwt.NewParser().ParseUnverified(raw, into)
	if err == nil {
		_, err = changed(t)
	}
	return t, err
}

// lacking is the verifier behind a worse parser.
func lacking(w worse) func(*Verifier) {
	return func(v *Verifier) {
		w.parser = v.parser
		v.parser = w
	}
}

func saying(name string, value any) func(*Verifier) {
	return lacking(worse{claims: func(c claims) { c[name] = value }})
}

func ignoring(members ...string) func(*Verifier) {
	return lacking(worse{header: func(h map[string]any) {
		for _, name := range members {
			delete(h, name)
		}
	}})
}

func codeOf(err error) string {
	if refused, ok := errors.AsType[*Refused](err); ok {
		return refused.Code
	}
	return fmt.Sprint(err)
}

func hs256(key []byte) string {
	input := strings.Join(strings.Split(sign(jwt.SigningMethodHS256, key, good(), nil), ".")[:2], ".")
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(input))
	return input + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// trustsSymmetric is a verifier that lets a token choose HS256 and hands it the public key as the secret.
func trustsSymmetric(secret []byte) func(*Verifier) {
	return func(v *Verifier) {
		v.issuers[ci].Algorithms = append(v.issuers[ci].Algorithms, "HS256")
		v.issuers[ci].keys = held{"1 HS256": secret}
	}
}

func number(n int64) json.Number { return json.Number(fmt.Sprint(n)) }

// Section 8 of the threats, each with the verifier that lacks the one protection and believes it.
func TestTokensThatMustNotBeBelieved(t *testing.T) {
	der := must(x509.MarshalPKIXPublicKey(rsaPublic))
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	parts := strings.Split(signed(), ".")
	zero := sign(jwt.SigningMethodES256, ecKey, good(), map[string]any{"kid": "2"})
	zero = zero[:strings.LastIndex(zero, ".")+1] + base64.RawURLEncoding.EncodeToString(make([]byte, 64))
	none := sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good(), nil)
	spelled := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"nOnE","typ":"JWT","kid":"1"}`)) + none[strings.Index(none, "."):]
	unverified := lacking(worse{unverified: true})
	later := number(noon.Unix() + 300)
	for _, tt := range []struct {
		id, raw, code string
		mutant        func(*Verifier)
	}{
		{"JWT-01", none, CodeAlgorithm, func(v *Verifier) {
			v.issuers[ci].Algorithms, v.issuers[ci].keys = []string{"none"}, held{"1 none": jwt.UnsafeAllowNoneSignatureType}
		}},
		{"JWT-02", spelled, CodeAlgorithm, func(v *Verifier) {
			v.issuers[ci].Algorithms, v.issuers[ci].keys = []string{"none"}, held{"1 none": jwt.UnsafeAllowNoneSignatureType}
			v.parser = lowerCase{v.parser}
		}},
		{"JWT-03", parts[0] + "." + parts[1] + ".", CodeSignature, unverified},
		{"JWT-05", sign(jwt.SigningMethodRS256, otherRSA, good(), map[string]any{"jwk": map[string]any{"kty": "RSA", "n": base64.RawURLEncoding.EncodeToString(otherRSA.N.Bytes()), "e": "AQAB"}}), CodeSignature,
			lacking(worse{key: func(t *jwt.Token, _ any, _ error) (any, error) {
				n := must(base64.RawURLEncoding.DecodeString(t.Header["jwk"].(map[string]any)["n"].(string)))
				return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}, nil
			}})},
		{"JWT-11 crit", headed(map[string]any{"crit": []string{"exp"}}), CodeHeader, ignoring("crit")},
		{"JWT-11 unknown crit", headed(map[string]any{"crit": []string{"sudo"}, "sudo": true}), CodeHeader, ignoring("crit")},
		{"JWT-11 empty crit", headed(map[string]any{"crit": []string{}}), CodeHeader, ignoring("crit")},
		{"JWT-12 b64", headed(map[string]any{"b64": false}), CodeHeader, ignoring("b64")},
		{"JWT-13 logout token", headed(map[string]any{"typ": "logout+jwt"}), CodeHeader, ignoring("typ")},
		{"JWT-13 DPoP proof", headed(map[string]any{"typ": "dpop+jwt"}), CodeHeader, ignoring("typ")},
		{"JWT-13 typ is no text", headed(map[string]any{"typ": 7}), CodeHeader, ignoring("typ")},
		{"JWT-14", zero, CodeSignature, unverified},
		{"kid is no text", headed(map[string]any{"kid": []string{"1"}}), CodeHeader, lacking(worse{header: func(h map[string]any) { h["kid"] = "1" }})},
		{"kid is long", headed(map[string]any{"kid": strings.Repeat("k", 2000)}), CodeHeader, lacking(worse{header: func(h map[string]any) { h["kid"] = "1" }})},
		{"unknown kid", headed(map[string]any{"kid": "9"}), CodeKey, func(v *Verifier) { v.issuers[ci].keys = held{"9 RS256": rsaPublic} }},
		{"JWT-20 expired", signed(with("exp", noon.Unix()-61)), CodeTokenExpiry, saying("exp", later)},
		{"JWT-20 expired to the second", signed(with("exp", noon.Unix()-60)), CodeTokenExpiry, saying("exp", later)},
		{"JWT-21 nbf in the future", signed(with("nbf", noon.Unix()+61)), CodeNotYet, saying("nbf", number(0))},
		{"JWT-21 iat in the future", signed(with("iat", noon.Unix()+61)), CodeNotYet, saying("iat", number(noon.Unix()))},
		{"JWT-21 nbf as text", signed(with("nbf", "0")), CodeTimes, saying("nbf", number(0))},
		{"JWT-22 no exp", signed(without("exp")), CodeTimes, saying("exp", later)},
		{"JWT-22 no iat", signed(without("iat")), CodeTimes, saying("iat", number(noon.Unix()))},
		{"JWT-23 exp as text", signed(with("exp", fmt.Sprint(noon.Unix()+300))), CodeTimes, saying("exp", later)},
		{"JWT-23 exp beyond all time", signed(with("exp", json.Number("1e300"))), CodeTimes, saying("exp", later)},
		{"JWT-23 exp negative", signed(with("exp", -1)), CodeTimes, saying("exp", later)},
		{"JWT-23 exp null", signed(with("exp", nil)), CodeTimes, saying("exp", later)},
		{"too old", signed(with("iat", noon.Unix()-86461)), CodeTooOld, func(v *Verifier) { v.issuers[ci].MaxAge *= 2 }},
		{"JWT-24 other audience", signed(with("aud", "https://other.example")), CodeAudience, saying("aud", door)},
		{"JWT-24 no audience", signed(without("aud")), CodeAudience, saying("aud", door)},
		{"JWT-24 audience is no text", signed(with("aud", []any{door, 7})), CodeAudience, saying("aud", door)},
		{"JWT-25 other azp", signed(with("aud", []string{"https://other.example", door}), with("azp", "https://other.example")), CodeAudience, saying("azp", door)},
		{"JWT-25 azp is no text", signed(with("aud", []string{"https://other.example", door}), with("azp", []string{door})), CodeAudience, saying("azp", door)},
		{"JWT-26 part of the audience", signed(with("aud", door[:20])), CodeAudience, saying("aud", door)},
		{"JWT-26 more than the audience", signed(with("aud", door+".evil.example")), CodeAudience, saying("aud", door)},
		{"JWT-26 empty audience", signed(with("aud", "")), CodeAudience, saying("aud", door)},
		{"JWT-27 slash", signed(with("iss", ci+"/")), CodeIssuer, func(v *Verifier) { v.issuers[ci+"/"] = v.issuers[ci] }},
		{"JWT-27 case", signed(with("iss", strings.ToUpper(ci))), CodeIssuer, func(v *Verifier) { v.issuers[strings.ToUpper(ci)] = v.issuers[ci] }},
		{"JWT-28 no issuer", signed(without("iss")), CodeIssuer, saying("iss", ci)},
		{"JWT-28 several issuers", signed(with("iss", []string{ci})), CodeIssuer, saying("iss", ci)},
		{"JWT-30 PEM as secret", hs256(pemKey), CodeAlgorithm, trustsSymmetric(pemKey)},
		{"JWT-30 DER as secret", hs256(der), CodeAlgorithm, trustsSymmetric(der)},
		{"JWT-31 other algorithm of the key", sign(jwt.SigningMethodPS256, rsaKey, good(), nil), CodeAlgorithm, func(v *Verifier) {
			v.issuers[ci].Algorithms, v.issuers[ci].keys = []string{"PS256"}, held{"1 PS256": rsaPublic}
		}},
		{"JWT-39 A presented as B", sign(jwt.SigningMethodRS256, rsaKey, good(with("iss", tenant)), nil), CodeSignature, func(v *Verifier) { v.issuers[tenant].keys = v.issuers[ci].keys }},
		{"JWT-39 B presented as A", sign(jwt.SigningMethodRS256, otherRSA, good(), nil), CodeSignature, func(v *Verifier) { v.issuers[ci].keys = v.issuers[tenant].keys }},
		{"no subject", signed(without("sub")), CodeSubject, saying("sub", "x")},
		{"subject with control characters", signed(with("sub", "a\nb")), CodeSubject, saying("sub", "x")},
		{"payload is no object", sign(jwt.SigningMethodRS256, rsaKey, listed{}, nil), CodeMalformed, nil},
		{"not base64", parts[0] + ".%." + parts[2], CodeMalformed, nil},
		{"padding", parts[0] + "=." + parts[1] + "." + parts[2], CodeMalformed, nil},
		{"two parts", parts[0] + "." + parts[1], CodeMalformed, nil},
		{"empty", "", CodeMalformed, nil},
	} {
		t.Run(tt.id, func(t *testing.T) {
			v := fixture(t)
			if _, err := v.Bearer(t.Context(), signed()); err != nil { // keys and tokens of others are known and help nobody
				t.Fatal(err)
			}
			for range 2 { // the second time as the first
				if b, err := v.Bearer(t.Context(), tt.raw); b != nil || codeOf(err) != tt.code {
					t.Errorf("got %v, %s, want %s", b, codeOf(err), tt.code)
				}
			}
			if tt.mutant == nil {
				return
			}
			mutant := fixture(t)
			tt.mutant(mutant)
			if _, err := mutant.Bearer(t.Context(), tt.raw); err != nil {
				t.Errorf("without the protection the token is refused still: %v: the test shows nothing", err)
			}
		})
	}
}

// lowerCase reads alg without regard to case.
type lowerCase struct{ parser }

func (p lowerCase) ParseWithClaims(raw string, into jwt.Claims, find jwt.Keyfunc) (*jwt.Token, error) {
	_, rest, _ := strings.Cut(raw, ".")
	head := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"1"}`))
	return p.parser.ParseWithClaims(head+"."+rest, into, find)
}

// listed are claims that are a list.
type listed struct{ jwt.MapClaims }

func (listed) MarshalJSON() ([]byte, error) { return []byte(`["iss"]`), nil }

// JWT-19: the control, in the shapes that the big issuers use.
func TestGoodTokensAreBelieved(t *testing.T) {
	github := jwt.MapClaims{
		"jti": "4f6", "sub": "repo:corp/site:ref:refs/heads/main", "aud": door, "ref": "refs/heads/main", "sha": "abc", "repository": "corp/site",
		"repository_owner": "corp", "repository_visibility": "private", "run_attempt": "1", "workflow": "deploy", "event_name": "push", "ref_type": "branch",
		"iss": ci, "nbf": noon.Unix() - 310, "exp": noon.Unix() + 290, "iat": noon.Unix() - 10,
	}
	gitlab := jwt.MapClaims{
		"namespace_id": "72", "namespace_path": "corp", "project_id": "20", "project_path": "corp/site", "user_id": "1", "user_login": "ada",
		"user_email": "ada@corp.example", "ref": "main", "ref_type": "branch", "ref_protected": "true", "iss": ci, "iat": noon.Unix(), "nbf": noon.Unix() - 5,
		"exp": noon.Unix() + 3600, "sub": "project_path:corp/site:ref_type:branch:ref:main", "aud": []string{door},
	}
	kubernetes := jwt.MapClaims{
		"aud": []string{door}, "exp": noon.Unix() + 3600, "iat": noon.Unix(), "nbf": noon.Unix(), "iss": ci, "jti": "e1c4",
		"kubernetes.io": map[string]any{"namespace": "ci", "serviceaccount": map[string]any{"name": "builder", "uid": "1-2"}}, "sub": "system:serviceaccount:ci:builder",
	}
	fractions := good(with("iat", json.Number(fmt.Sprintf("%d.25", noon.Unix()-10))), with("exp", json.Number(fmt.Sprintf("%d.5", noon.Unix()+300))))
	for name, raw := range map[string]string{
		"github":                               sign(jwt.SigningMethodRS256, rsaKey, github, map[string]any{"x5t": "abc"}),
		"gitlab":                               sign(jwt.SigningMethodRS256, rsaKey, gitlab, nil),
		"kubernetes":                           sign(jwt.SigningMethodRS256, rsaKey, kubernetes, map[string]any{"typ": nil}),
		"access token":                         headed(map[string]any{"typ": "at+jwt"}),
		"media type":                           headed(map[string]any{"typ": "application/at+jwt"}),
		"ES256":                                sign(jwt.SigningMethodES256, ecKey, good(), map[string]any{"kid": "2"}),
		"within the skew":                      signed(with("exp", noon.Unix()-59), with("nbf", noon.Unix()+59), with("iat", noon.Unix()+59)),
		"parts of seconds":                     sign(jwt.SigningMethodRS256, rsaKey, fractions, nil),
		"several audiences, ours is the party": signed(with("aud", []string{"https://other.example", door}), with("azp", door)),
		"one audience, another party":          signed(with("azp", "109876")),
	} {
		b, err := fixture(t).Bearer(t.Context(), raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		who := b.Session.Identity
		if who.Kind != authn.Service || !strings.HasPrefix(who.ID(), "ci|") || who.EmailVerified || who.MFA || who.Email != "" {
			t.Errorf("%s: %+v", name, who)
		}
		if b.Kind != Issued || b.Name != "ci" || b.ID != b.Session.ID || strings.Contains(raw, b.ID) || !strings.HasPrefix(b.ID, "jwt_") {
			t.Errorf("%s: %+v", name, b)
		}
	}
}

func TestWhatAnIssuersTokensMustSay(t *testing.T) {
	strict := func(i *Issuer) {
		i.Require = map[string][]string{"repository": {"corp/site", "corp/api"}, "ref_protected": {"true"}}
		i.Scopes, i.Groups, i.GroupsClaim, i.Claims = []string{"deploy"}, []string{"ci"}, "teams", []string{"ref", "none"}
	}
	full := []func(jwt.MapClaims){with("repository", "corp/api"), with("ref_protected", true), with("scope", "read deploy"), with("teams", []string{"web"}), with("ref", "main"), with("acr", "gold")}
	b, err := fixture(t, strict).Bearer(t.Context(), signed(full...))
	if err != nil {
		t.Fatal(err)
	}
	who := b.Session.Identity
	if !slices.Equal(who.Groups, []string{"ci", "web"}) || !slices.Equal(b.Scopes, []string{"deploy", "read"}) || !maps.Equal(who.Claims, map[string]any{"ref": any("main")}) || who.ACR != "gold" {
		t.Errorf("%+v, scopes %v", who, b.Scopes)
	}
	for code, change := range map[string]func(jwt.MapClaims){
		CodeClaim + " other":   with("repository", "evil/site"),
		CodeClaim + " absent":  without("repository"),
		CodeClaim + " part":    with("repository", "corp/site2"),
		CodeClaim + " false":   with("ref_protected", false),
		CodeScopes + " other":  with("scope", "deployment read"),
		CodeScopes + " absent": without("scope"),
	} {
		want, _, _ := strings.Cut(code, " ")
		if _, err := fixture(t, strict).Bearer(t.Context(), signed(append(full, change)...)); codeOf(err) != want {
			t.Errorf("%s: got %s", code, codeOf(err))
		}
		if _, err := fixture(t).Bearer(t.Context(), signed(append(full, change)...)); err != nil { // the mutant: an issuer of whom nothing is demanded
			t.Errorf("%s: refused where nothing is demanded: %v", code, err)
		}
	}
	if b, err := fixture(t, strict).Bearer(t.Context(), signed(append(full, without("scope"), with("scp", []string{"deploy"}))...)); err != nil || !slices.Equal(b.Scopes, []string{"deploy"}) {
		t.Errorf("scp: %v", err)
	}
	if b, err := fixture(t, strict).Bearer(t.Context(), signed(append(full, with("teams", 7))...)); err != nil || !b.Session.Identity.GroupsIncomplete {
		t.Errorf("groups that cannot be read count as all there are: %v", err)
	}
	parties := func(i *Issuer) { i.Require = map[string][]string{"azp": {"deployer"}} }
	if _, err := fixture(t, parties).Bearer(t.Context(), signed(with("aud", []string{"account", door}), with("azp", "deployer"))); err != nil {
		t.Errorf("a party that require names: %v", err)
	}
}

// JWT-08: form is looked at before anything is taken apart.
func TestJWT08DotsCostNothing(t *testing.T) {
	v, dots := fixture(t), strings.Repeat(".", 100_000)
	allocated := func(f func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	for _, raw := range []string{dots, dots[:maxToken], signed() + dots[:5000]} {
		if got := allocated(func() {
			if _, err := v.Bearer(t.Context(), raw); codeOf(err) != CodeMalformed {
				t.Errorf("got %v", err)
			}
		}); got > 256<<10 {
			t.Errorf("%d dots cost %d bytes", len(raw), got)
		}
	}
	var parts []string
	if got := allocated(func() { parts = strings.Split(dots, ".") }); got <= 256<<10 {
		t.Errorf("taking %d parts apart costs %d bytes only: the test shows nothing", len(parts), got)
	}
}

// JWT-06: nothing in a token is ever called. The mutant shows that the listener hears whoever does.
func TestJWT06NoAddressInATokenIsCalled(t *testing.T) {
	var calls atomic.Int64
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { calls.Add(1) }))
	defer listener.Close()
	follows := lacking(worse{key: func(t *jwt.Token, _ any, _ error) (any, error) {
		for _, name := range []string{"jku", "x5u", "kid"} {
			if url, _ := t.Header[name].(string); strings.HasPrefix(url, "http") {
				if answer, err := http.Get(url); err == nil {
					answer.Body.Close()
				}
			}
		}
		return &otherRSA.PublicKey, nil
	}})
	for i, header := range []map[string]any{{"jku": listener.URL}, {"x5u": listener.URL}, {"kid": listener.URL}} {
		raw := sign(jwt.SigningMethodRS256, otherRSA, good(), header)
		if _, err := fixture(t).Bearer(t.Context(), raw); err == nil {
			t.Errorf("%v: believed", header)
		}
		if calls.Load() != int64(i) {
			t.Fatalf("%v: the listener was called", header)
		}
		mutant := fixture(t)
		follows(mutant)
		if _, err := mutant.Bearer(t.Context(), raw); err != nil || calls.Load() != int64(i)+1 {
			t.Fatalf("%v: the mutant does not follow: %v", header, err)
		}
	}
}

// published are an issuer's keys behind HTTP, and how often they were asked for.
type publisher struct {
	*httptest.Server
	kids  atomic.Pointer[map[string]*rsa.PublicKey]
	calls atomic.Int64
}

func publish(t *testing.T, kids map[string]*rsa.PublicKey) *publisher {
	p := &publisher{}
	p.kids.Store(&kids)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/.well-known/openid-configuration" {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, p.URL, p.URL+"/keys")
			return
		}
		p.calls.Add(1)
		var list []string
		for kid, key := range *p.kids.Load() {
			list = append(list, fmt.Sprintf(`{"kty":"RSA","kid":%q,"alg":"RS256","use":"sig","n":%q,"e":"AQAB"}`, kid, base64.RawURLEncoding.EncodeToString(key.N.Bytes())))
		}
		io.WriteString(w, `{"keys":[`+strings.Join(list, ",")+`]}`)
	}))
	t.Cleanup(p.Close)
	return p
}

// JWT-36: a new key works, an old one does not, and unknown ones cost no more than one fetch in half a minute.
func TestJWT36KeysRotate(t *testing.T) {
	for _, discovered := range []bool{true, false} {
		p := publish(t, map[string]*rsa.PublicKey{"1": rsaPublic})
		cfg := Issuer{Name: "ci", Issuer: p.URL, Audience: []string{door}, Algorithms: []string{"RS256"}, MaxAge: 24 * time.Hour, Skew: time.Minute}
		if !discovered {
			cfg.JWKSURI = p.URL + "/keys"
		}
		if err := cfg.Check(); err != nil {
			t.Fatal(err)
		}
		var now atomic.Int64
		now.Store(noon.Unix())
		clock := func() time.Time { return time.Unix(now.Load(), 0) }
		v := must(NewVerifier(VerifierConfig{Issuers: []Issuer{cfg}, Now: clock}))
		old := sign(jwt.SigningMethodRS256, rsaKey, good(with("iss", p.URL), with("exp", noon.Unix()+7200)), nil)
		fresh := sign(jwt.SigningMethodRS256, otherRSA, good(with("iss", p.URL), with("exp", noon.Unix()+7200)), map[string]any{"kid": "2"})
		first, err := v.Bearer(t.Context(), old)
		if err != nil {
			t.Fatal(err)
		}
		before := p.calls.Load()
		for i := range 1000 {
			if _, err := v.Bearer(t.Context(), sign(jwt.SigningMethodHS256, []byte("x"), good(with("iss", p.URL), with("n", i)), nil)); codeOf(err) != CodeAlgorithm {
				t.Fatal(err)
			}
			raw := old[strings.Index(old, "."):]
			head := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"alg":"RS256","kid":"r%d"}`, i))
			if _, err := v.Bearer(t.Context(), head+raw); codeOf(err) != CodeKey {
				t.Fatal(err)
			}
		}
		if calls := p.calls.Load() - before; calls > 1 {
			t.Errorf("1000 unknown keys made %d fetches", calls)
		}
		p.kids.Store(&map[string]*rsa.PublicKey{"2": &otherRSA.PublicKey})
		now.Add(int64(jwks.UnknownKey/time.Second) + 1)
		if _, err := v.Bearer(t.Context(), fresh); err != nil {
			t.Errorf("a new key: %v", err)
		}
		if again, err := v.Bearer(t.Context(), old); err != nil || again != first {
			t.Errorf("within the minute it is believed without its key: %v", err)
		}
		now.Add(int64(reverify / time.Second))
		if _, err := v.Bearer(t.Context(), old); codeOf(err) != CodeKey {
			t.Errorf("a withdrawn key: %v", err)
		}
		if v.Recalls(old) {
			t.Error("a token that is refused now is remembered as good")
		}
	}
}

// The memory of good tokens is what lets a withdrawn key live on: without an end to it the test above fails.
func TestRememberedTokensEnd(t *testing.T) {
	now := noon
	v := fixture(t)
	v.now = func() time.Time { return now }
	raw := signed()
	if _, err := v.Bearer(t.Context(), raw); err != nil || !v.Recalls(raw) {
		t.Fatal(err)
	}
	v.issuers[ci].keys = held{}
	if _, err := v.Bearer(t.Context(), raw); err != nil {
		t.Errorf("a token in use needs its key at once: %v", err)
	}
	now = noon.Add(reverify)
	if _, err := v.Bearer(t.Context(), raw); codeOf(err) != CodeKey {
		t.Errorf("got %v", err)
	}
	v.issuers[ci].keys = held{"1 RS256": rsaPublic}
	if _, err := v.Bearer(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	now = noon.Add(300*time.Second + time.Minute)
	if _, err := v.Bearer(t.Context(), raw); codeOf(err) != CodeTokenExpiry {
		t.Errorf("an expired token: %v", err)
	}
}

// A reload keeps the keys of issuers that are asked as before and forgets which tokens were good.
func TestReloadKeepsKeysAndForgetsTokens(t *testing.T) {
	p := publish(t, map[string]*rsa.PublicKey{"1": rsaPublic})
	cfg := Issuer{Name: "ci", Issuer: p.URL, Audience: []string{door}, Algorithms: []string{"RS256"}, MaxAge: 24 * time.Hour, Skew: time.Minute, JWKSURI: p.URL + "/keys"}
	c := VerifierConfig{Issuers: []Issuer{cfg}, Now: func() time.Time { return noon }}
	v := must(NewVerifier(c))
	raw := signed(with("iss", p.URL))
	if _, err := v.Bearer(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	c.Previous, c.Issuers = v, []Issuer{cfg}
	c.Issuers[0].Audience = []string{"https://other.example"}
	next := must(NewVerifier(c))
	if _, err := next.Bearer(t.Context(), raw); codeOf(err) != CodeAudience || next.Recalls(raw) {
		t.Errorf("a token that the new configuration refuses: %v", err)
	}
	if p.calls.Load() != 1 {
		t.Errorf("keys were fetched %d times, want once", p.calls.Load())
	}
}

// A token in use costs a hash and a look.
func BenchmarkBearerInUse(b *testing.B) {
	v, raw := fixture(b), signed()
	if _, err := v.Bearer(b.Context(), raw); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			v.Bearer(b.Context(), raw)
		}
	})
}

// A guess costs no walk through what is remembered, nor makes anybody wait: it is refused while every other part of the
// memory is in use.
func TestGuessesLeaveTheMemoryAlone(t *testing.T) {
	v := fixture(t)
	for i := range v.memory.shards {
		v.memory.shards[i].mu.RLock()
		defer v.memory.shards[i].mu.RUnlock()
	}
	refused := make(chan error, 1)
	go func() {
		_, err := v.Bearer(t.Context(), "a.b.c")
		refused <- err
	}()
	select {
	case err := <-refused:
		if codeOf(err) != CodeMalformed {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("a guess waits for the memory")
	}
}

func TestMemoryOfTokensIsBounded(t *testing.T) {
	var m Memory[int]
	for i := range 3 * memoryShards * maxShard {
		m.Put(sha256.Sum256(fmt.Append(nil, i)), i)
	}
	kept := 0
	m.DeleteFunc(func(int) bool { kept++; return false })
	if kept > memoryShards*maxShard || kept < memoryShards*maxShard/2 {
		t.Errorf("%d are remembered, want at most %d", kept, memoryShards*maxShard)
	}
}

func TestIssuersThatCannotWork(t *testing.T) {
	ok := Issuer{Name: "ci", Issuer: ci, Audience: []string{door}, Algorithms: []string{"RS256"}, MaxAge: time.Hour}
	if err := ok.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Issuer){
		"http":        func(i *Issuer) { i.Issuer = "http://ci.corp.example" },
		"query":       func(i *Issuer) { i.Issuer += "?a" },
		"no audience": func(i *Issuer) { i.Audience = nil },
		"empty":       func(i *Issuer) { i.Audience = []string{""} },
		"symmetric":   func(i *Issuer) { i.Algorithms = []string{"RS256", "HS256"} },
		"none":        func(i *Issuer) { i.Algorithms = []string{"none"} },
		"no alg":      func(i *Issuer) { i.Algorithms = nil },
		"jwks_uri":    func(i *Issuer) { i.JWKSURI = "http://169.254.169.254/keys" },
		"connect":     func(i *Issuer) { i.Connect = "http://x/" },
		"skew":        func(i *Issuer) { i.Skew = time.Hour },
		"name":        func(i *Issuer) { i.Name = "a|b" },
	} {
		bad := ok
		change(&bad)
		if bad.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// What is read of a token's claims never panics and never names somebody whom the same token would not name twice.
func FuzzVerify(f *testing.F) {
	for _, raw := range []string{signed(), headed(map[string]any{"crit": []string{"x"}}), "..", "a.b.c"} {
		f.Add(raw)
	}
	v := fixture(f)
	v.parser = worse{parser: v.parser, unverified: true}
	f.Fuzz(func(t *testing.T, raw string) {
		a, err := v.verify(t.Context(), raw, sha256.Sum256([]byte(raw)), noon)
		b, again := v.verify(t.Context(), raw, sha256.Sum256([]byte(raw)), noon)
		if (err == nil) != (again == nil) || err == nil && a.Session.Identity.ID() != b.Session.Identity.ID() {
			t.Errorf("%v and %v", err, again)
		}
		if _, ok := errors.AsType[*Refused](err); err != nil && !ok {
			t.Errorf("%v is no refusal", err)
		}
	})
}
