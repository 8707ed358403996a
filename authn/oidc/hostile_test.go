package oidc

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sallyport/test/fakeidp"
)

// forgery makes an ID token of the claims that the provider would have signed.
type forgery func(claims jwt.MapClaims) string

// enemy is a provider, another that belongs to somebody else, and everything that is public about them.
type enemy struct {
	idp, other *fakeidp.Provider
	key        *fakeidp.Key // of idp
	evil       *fakeidp.Key // of the attacker, published nowhere
}

func newEnemy(t *testing.T) *enemy {
	e := &enemy{idp: fakeidp.Start(t, testClient), other: fakeidp.Start(t, testClient), evil: fakeidp.NewKey("ES256")}
	e.key = e.idp.Keys()[0]
	return e
}

func (e *enemy) change(change func(jwt.MapClaims)) forgery {
	return func(c jwt.MapClaims) string { change(c); return e.key.Sign(c) }
}

func (e *enemy) set(name string, value any) forgery {
	return e.change(func(c jwt.MapClaims) { c[name] = value })
}

// header signs by the right key under a header that says more.
func (e *enemy) header(header map[string]any) forgery { return e.headerBy(e.key, header) }

func (e *enemy) headerBy(key *fakeidp.Key, header map[string]any) forgery {
	return func(c jwt.MapClaims) string {
		header["kid"] = e.key.ID
		return fakeidp.SignWith(key.Method, header, c, key.Private)
	}
}

// raw signs a payload that no encoder would write: change edits its text.
func (e *enemy) raw(change func(payload string) string) forgery {
	return func(c jwt.MapClaims) string {
		payload, err := json.Marshal(c)
		if err != nil {
			panic(err)
		}
		return e.signRaw(`{"alg":"ES256","kid":"`+e.key.ID+`"}`, change(string(payload)))
	}
}

func (e *enemy) rawHeader(header string) forgery {
	return func(c jwt.MapClaims) string {
		payload, err := json.Marshal(c)
		if err != nil {
			panic(err)
		}
		return e.signRaw(strings.ReplaceAll(header, "KID", e.key.ID), string(payload))
	}
}

func (e *enemy) signRaw(header, payload string) string {
	b64 := base64.RawURLEncoding.EncodeToString
	input := b64([]byte(header)) + "." + b64([]byte(payload))
	signature, err := jwt.SigningMethodES256.Sign(input, e.key.Private)
	if err != nil {
		panic(err)
	}
	return input + "." + b64(signature)
}

// twice writes a member a second time, before the first or after it.
func twice(name, value string, first bool) func(string) string {
	return func(payload string) string {
		if first {
			return "{" + `"` + name + `":` + value + "," + payload[1:]
		}
		return payload[:len(payload)-1] + `,"` + name + `":` + value + "}"
	}
}

func (e *enemy) hmac(secret []byte) forgery {
	return func(c jwt.MapClaims) string { return fakeidp.Sign(jwt.SigningMethodHS256, e.key.ID, c, secret) }
}

// forgeries are ID tokens that must not sign anybody in, by threat, each with the one reason for it. Every one of them
// differs from a good token in what its name says and in nothing else.
func (e *enemy) forgeries(t *testing.T) map[string]struct {
	forge forgery
	want  Code
} {
	spki, err := x509.MarshalPKIXPublicKey(e.key.Private.Public())
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := json.Marshal(e.key.JWK())
	if err != nil {
		t.Fatal(err)
	}
	point, err := e.key.Private.Public().(*ecdsa.PublicKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	tail := func(signature string) forgery {
		return func(c jwt.MapClaims) string {
			good := e.key.Sign(c)
			return good[:strings.LastIndexByte(good, '.')+1] + signature
		}
	}
	none := func(alg string) forgery {
		return func(c jwt.MapClaims) string {
			unsigned := e.signRaw(`{"alg":"`+alg+`","kid":"`+e.key.ID+`"}`, mustJSON(c))
			return unsigned[:strings.LastIndexByte(unsigned, '.')+1]
		}
	}
	return map[string]struct {
		forge forgery
		want  Code
	}{
		"OIDC-04 no nonce":                    {e.change(func(c jwt.MapClaims) { delete(c, "nonce") }), NonceMismatch},
		"OIDC-04 nonce of another login":      {e.set("nonce", "other"), NonceMismatch},
		"OIDC-04 nonce is no text":            {e.set("nonce", []string{"x"}), TokenInvalid},
		"OIDC-04 nonce in another case":       {e.change(func(c jwt.MapClaims) { c["Nonce"] = c["nonce"]; delete(c, "nonce") }), TokenInvalid},
		"JWT-27 iss by a slash":               {e.set("iss", e.idp.Issuer+"/"), TokenIssuer},
		"iss of another provider":             {e.set("iss", e.other.Issuer), TokenIssuer},
		"no iss":                              {e.change(func(c jwt.MapClaims) { delete(c, "iss") }), TokenIssuer},
		"iss in another case":                 {e.change(func(c jwt.MapClaims) { c["ISS"] = c["iss"]; c["iss"] = e.other.Issuer }), TokenInvalid},
		"JWT-24 aud of another client":        {e.set("aud", "other"), TokenAudience},
		"JWT-26 aud by substring":             {e.set("aud", "sallyport2"), TokenAudience},
		"no aud":                              {e.change(func(c jwt.MapClaims) { delete(c, "aud") }), TokenAudience},
		"empty aud":                           {e.set("aud", []string{}), TokenAudience},
		"aud is an object":                    {e.set("aud", map[string]any{"sallyport": true}), TokenAudience},
		"aud in another case":                 {e.change(func(c jwt.MapClaims) { c["aud"] = "other"; c["aUd"] = "sallyport" }), TokenInvalid},
		"JWT-25 ours among others, no azp":    {e.set("aud", []string{"sallyport", "other"}), TokenParty},
		"JWT-25 ours among others, other azp": {e.change(func(c jwt.MapClaims) { c["aud"], c["azp"] = []string{"sallyport", "other"}, "other" }), TokenParty},
		"azp of another client":               {e.set("azp", "other"), TokenParty},
		"azp is null":                         {e.set("azp", nil), TokenParty},
		"JWT-20 expired":                      {e.set("exp", now.Add(-2*time.Minute).Unix()), TokenExpired},
		"JWT-22 no exp":                       {e.change(func(c jwt.MapClaims) { delete(c, "exp") }), TokenExpired},
		"JWT-23 exp as text":                  {e.set("exp", "99999999999"), TokenInvalid},
		"exp in another case":                 {e.change(func(c jwt.MapClaims) { c["exp"] = 1; c["EXP"] = now.Add(time.Hour).Unix() }), TokenInvalid},
		"iat in the future":                   {e.set("iat", now.Add(2*time.Minute).Unix()), TokenNotYet},
		"JWT-21 nbf in the future":            {e.set("nbf", now.Add(2*time.Minute).Unix()), TokenNotYet},
		"auth_time in the future":             {e.set("auth_time", now.Add(time.Hour).Unix()), TokenNotYet},
		"no iat":                              {e.change(func(c jwt.MapClaims) { delete(c, "iat") }), TokenInvalid},
		"no sub":                              {e.change(func(c jwt.MapClaims) { delete(c, "sub") }), SubjectInvalid},
		"empty sub":                           {e.set("sub", ""), SubjectInvalid},
		"sub is a number":                     {e.set("sub", 7), TokenInvalid},
		"sub of 256 bytes":                    {e.set("sub", strings.Repeat("x", 256)), SubjectInvalid},
		"sub with a line end":                 {e.set("sub", "alice\nroot"), SubjectInvalid},
		"sub in another case":                 {e.set("Sub", "root"), TokenInvalid},
		"sub that folds to it":                {e.set("\u017fub", "root"), TokenInvalid},
		"sid of a kilobyte":                   {e.set("sid", strings.Repeat("s", 1000)), TokenInvalid},
		"duplicate sub, the other first":      {e.raw(twice("sub", `"root"`, true)), TokenInvalid},
		"duplicate sub, the other last":       {e.raw(twice("sub", `"root"`, false)), TokenInvalid},
		"duplicate groups":                    {e.raw(twice("groups", `["admins"]`, true)), TokenInvalid},
		"duplicate below":                     {e.raw(twice("realm", `{"roles":["a"],"roles":["b"]}`, false)), TokenInvalid},
		"duplicate by an escape":              {e.raw(twice(`s\u0075b`, `"root"`, false)), TokenInvalid},
		"two objects":                         {e.raw(func(p string) string { return p + p }), TokenInvalid},
		"a list":                              {e.raw(func(p string) string { return "[" + p + "]" }), TokenInvalid},
		"nested deeply":                       {e.raw(twice("deep", strings.Repeat("[", 1000)+strings.Repeat("]", 1000), false)), TokenInvalid},
		"at_hash of another access token":     {e.set("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), TokenInvalid},
		"JWT-01 alg none":                     {none("none"), TokenAlgorithm},
		"JWT-02 alg nOnE":                     {none("nOnE"), TokenAlgorithm},
		"no alg":                              {e.rawHeader(`{"kid":"KID"}`), TokenAlgorithm},
		"alg is a list":                       {e.rawHeader(`{"alg":["ES256"],"kid":"KID"}`), TokenAlgorithm},
		"duplicate alg":                       {e.rawHeader(`{"alg":"none","alg":"ES256","kid":"KID"}`), TokenInvalid},
		"alg in another case":                 {e.rawHeader(`{"ALG":"ES256","kid":"KID"}`), TokenAlgorithm},
		"JWT-30 HS256 by the PEM":             {e.hmac(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})), TokenAlgorithm},
		"JWT-30 HS256 by the DER":             {e.hmac(spki), TokenAlgorithm},
		"JWT-30 HS256 by the JWK":             {e.hmac(jwk), TokenAlgorithm},
		"JWT-30 HS256 by the point":           {e.hmac(point), TokenAlgorithm},
		"HS256 by the client secret":          {e.hmac([]byte(testClient.Secret)), TokenAlgorithm},
		"another kind's algorithm":            {func(c jwt.MapClaims) string { k := fakeidp.NewKey("RS256"); k.ID = e.key.ID; return k.Sign(c) }, TokenKey},
		"JWT-36 unknown kid":                  {func(c jwt.MapClaims) string { return e.evil.Sign(c) }, TokenKey},
		"kid of another provider's key":       {func(c jwt.MapClaims) string { return e.other.Keys()[0].Sign(c) }, TokenKey},
		"JWT-39 another's key by our kid":     {e.headerBy(e.other.Keys()[0], map[string]any{}), TokenSignature},
		"no kid, another key":                 {e.headerBy(e.evil, map[string]any{}), TokenSignature},
		"JWT-03 no signature":                 {tail(""), TokenSignature},
		"JWT-14 r = s = 0":                    {tail(strings.Repeat("A", 86)), TokenSignature},
		"JWT-14 r = 0, s = order":             {tail(base64.RawURLEncoding.EncodeToString(append(make([]byte, 32), orderP256()...))), TokenSignature},
		"signature as ASN.1":                  {tail("MAYCAQECAQE"), TokenSignature},
		"JWT-05 jwk":                          {e.headerBy(e.evil, map[string]any{"jwk": e.evil.JWK()}), TokenSignature},
		"JWT-06 jku":                          {e.headerBy(e.evil, map[string]any{"jku": e.other.Issuer + "/jwks"}), TokenSignature},
		"JWT-06 x5u":                          {e.headerBy(e.evil, map[string]any{"x5u": e.other.Issuer + "/jwks"}), TokenSignature},
		"JWT-06 kid is a URL": {func(c jwt.MapClaims) string {
			return fakeidp.Sign(jwt.SigningMethodES256, e.other.Issuer+"/jwks", c, e.evil.Private)
		}, TokenKey},
		"JWT-11 crit":         {e.header(map[string]any{"crit": []string{"x"}, "x": 1}), TokenInvalid},
		"JWT-11 crit b64":     {e.header(map[string]any{"crit": []string{"b64"}, "b64": true}), TokenInvalid},
		"JWT-08 100,000 dots": {func(jwt.MapClaims) string { return strings.Repeat(".", 100_000) }, TokenInvalid},
		"a token of 200 KB":   {e.set("fill", strings.Repeat("x", 200_000)), TokenInvalid},
		"not a token":         {func(jwt.MapClaims) string { return "access-token-by-mistake" }, TokenInvalid},
		"JSON serialization": {func(c jwt.MapClaims) string {
			p := strings.Split(e.key.Sign(c), ".")
			return `{"protected":"` + p[0] + `","payload":"` + p[1] + `","signature":"` + p[2] + `"}`
		}, TokenInvalid},
		"padded":                               {func(c jwt.MapClaims) string { return "=" + e.key.Sign(c) }, TokenInvalid},
		"groups as an object of claim sources": {e.set("_claim_names", map[string]any{"groups": "absent"}), TokenInvalid},
	}
}

func mustJSON(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(data)
}

func orderP256() []byte {
	return []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51}
}

// Sections 7 and 8: no forged ID token signs anybody in, at a sign-in or at a refresh, and the reason is recorded by name.
func TestForgedIDTokensFailByName(t *testing.T) {
	e := newEnemy(t)
	p := discoveredProvider(t, e.idp, nil)
	good := mustSignIn(t, p)
	for name, f := range e.forgeries(t) {
		t.Run(name, func(t *testing.T) {
			e.idp.Do(fakeidp.Script{Sign: f.forge})
			result, err := signIn(t, p)
			if result != nil {
				t.Fatalf("signed in as %v", result)
			}
			wantCode(t, err, f.want)
			if f.want == NonceMismatch {
				return // a refresh has none
			}
			refreshed, err := p.Refresh(t.Context(), good.Identity, good.RefreshToken)
			wantOneOf(t, "refresh", err, f.want, map[Code]Code{SubjectInvalid: SubjectMismatch}[f.want])
			if refreshed == nil || refreshed.Identity != nil || refreshed.RefreshToken == "" {
				t.Fatalf("got %+v, want the next refresh token and no identity", refreshed)
			}
			good.RefreshToken = refreshed.RefreshToken
		})
	}
	if n := e.other.Calls("jwks"); n != 0 {
		t.Errorf("%d calls to addresses out of tokens", n)
	}
	e.idp.Do(fakeidp.Script{})
	mustSignIn(t, p) // JWT-19, the control
}

// Every forgery is one change away from being good: signed in the way that it imitates, the same claims sign in.
func TestHonestTokensOfEveryKindSignIn(t *testing.T) {
	e := newEnemy(t)
	p := discoveredProvider(t, e.idp, nil)
	for name, forge := range map[string]forgery{
		"as it is":            func(c jwt.MapClaims) string { return e.key.Sign(c) },
		"no kid":              func(c jwt.MapClaims) string { return fakeidp.Sign(e.key.Method, "", c, e.key.Private) },
		"raw":                 e.raw(func(p string) string { return p }),
		"raw header":          e.rawHeader(`{"alg":"ES256","kid":"KID"}`),
		"aud as a list":       e.set("aud", []string{"sallyport"}),
		"with azp":            e.change(func(c jwt.MapClaims) { c["aud"], c["azp"] = []string{"sallyport", "other"}, "sallyport" }),
		"jku that is unused":  e.header(map[string]any{"jku": e.other.Issuer + "/jwks"}),
		"further claims":      e.raw(twice("realm", `{"roles":["a","b"]}`, false)),
		"no sid, no groups":   e.change(func(c jwt.MapClaims) { delete(c, "sid"); delete(c, "groups") }),
		"times with fraction": e.change(func(c jwt.MapClaims) { c["iat"] = float64(time.Now().UnixMilli()) / 1000 }),
	} {
		t.Run(name, func(t *testing.T) {
			e.idp.Do(fakeidp.Script{Sign: forge})
			if got := mustSignIn(t, p); got.Identity.ID() != "corp|alice-1" || got.IDToken == "" {
				t.Errorf("got %+v", got)
			}
		})
	}
	e.idp.Do(fakeidp.Script{})
	for _, alg := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			e.idp.UseKeys(fakeidp.NewKey(alg))
			mustSignIn(t, discoveredProvider(t, e.idp, nil))
		})
	}
}

// An algorithm that the provider does not announce is refused, though its key is published.
func TestAlgorithmThatIsNotAnnouncedIsRefused(t *testing.T) {
	e := newEnemy(t)
	other := fakeidp.NewKey("RS256")
	e.idp.UseKeys(e.key, other)
	e.idp.Do(fakeidp.Script{Discovery: func(d map[string]any) { d["id_token_signing_alg_values_supported"] = []string{"ES256"} }})
	p := discoveredProvider(t, e.idp, nil)
	e.idp.Do(fakeidp.Script{Sign: func(c jwt.MapClaims) string { return other.Sign(c) }})
	_, err := signIn(t, p)
	wantCode(t, err, TokenAlgorithm)
}

// A provider whose discovery turns bad later keeps what it was; one that is bad from the start is not used.
func TestDiscoveryThatTurnsHostileIsNotTakenIntoUse(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(map[string]any)
		want   Code
	}{
		"OIDC-13 issuer by a slash":     {func(d map[string]any) { d["issuer"] = d["issuer"].(string) + "/" }, DiscoveryMismatch},
		"issuer of another":             {func(d map[string]any) { d["issuer"] = "https://evil.example" }, DiscoveryMismatch},
		"issuer in another case":        {func(d map[string]any) { d["ISSUER"] = d["issuer"]; delete(d, "issuer") }, DiscoveryMismatch},
		"token endpoint in the clear":   {func(d map[string]any) { d["token_endpoint"] = "http://evil.example/token" }, DiscoveryInvalid},
		"keys in the clear":             {func(d map[string]any) { d["jwks_uri"] = "http://evil.example/jwks" }, DiscoveryInvalid},
		"keys in a file":                {func(d map[string]any) { d["jwks_uri"] = "file:///etc/passwd" }, DiscoveryInvalid},
		"sign-in by script":             {func(d map[string]any) { d["authorization_endpoint"] = "javascript:alert(1)" }, DiscoveryInvalid},
		"endpoint with a password":      {func(d map[string]any) { d["token_endpoint"] = "https://a:b@evil.example/" }, DiscoveryInvalid},
		"endpoint in another case only": {func(d map[string]any) { d["Token_endpoint"] = d["token_endpoint"]; delete(d, "token_endpoint") }, DiscoveryInvalid},
		"endpoint is a list":            {func(d map[string]any) { d["jwks_uri"] = []any{d["jwks_uri"]} }, ProviderInvalidAnswer},
		"symmetric algorithms only":     {func(d map[string]any) { d["id_token_signing_alg_values_supported"] = []string{"HS256", "none"} }, DiscoveryInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			idp := fakeidp.Start(t, testClient)
			p := discoveredProvider(t, idp, nil)
			idp.Do(fakeidp.Script{Discovery: tc.change})
			wantCode(t, p.Discover(t.Context()), tc.want)
			wantCode(t, p.Ready(), tc.want)
			mustSignIn(t, p) // with what was discovered before

			fresh := newProvider(t, configFor(idp), Options{})
			wantCode(t, fresh.Discover(t.Context()), tc.want)
			_, err := fresh.AuthCodeURL(t.Context(), fresh.NewFlow())
			wantCode(t, err, tc.want)
		})
	}
}

// Keys that move are followed; those of the old place mean nothing there.
func TestKeysThatMoveAreFollowed(t *testing.T) {
	e := newEnemy(t)
	p := discoveredProvider(t, e.idp, nil)
	mustSignIn(t, p)
	same := p.found.Load().keys
	if err := p.Discover(t.Context()); err != nil || p.found.Load().keys != same {
		t.Errorf("keys that stayed where they are were forgotten (%v)", err)
	}
	e.idp.Do(fakeidp.Script{Discovery: func(d map[string]any) { d["jwks_uri"] = e.other.Issuer + "/jwks" }})
	if err := p.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := signIn(t, p)
	wantCode(t, err, TokenKey)
	e.idp.UseKeys(e.other.Keys()...)
	mustSignIn(t, p)
}

// A provider whose keys cannot be fetched signs in by those that are known (JWT-36), and nobody by others.
func TestOutageOfKeysIsBridged(t *testing.T) {
	e := newEnemy(t)
	p := discoveredProvider(t, e.idp, nil)
	mustSignIn(t, p)
	noKeys := func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	e.idp.Do(fakeidp.Script{JWKS: noKeys})
	mustSignIn(t, p)
	e.idp.Do(fakeidp.Script{JWKS: noKeys, Sign: func(c jwt.MapClaims) string { return e.evil.Sign(c) }})
	_, err := signIn(t, p)
	wantCode(t, err, ProviderUnreachable)
}
