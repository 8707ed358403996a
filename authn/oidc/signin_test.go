package oidc

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"sallyport/authn"
	"sallyport/test/fakeidp"
)

func TestSignInYieldsTheIdentityThatTheProviderVouchesFor(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	authenticated := time.Now().Add(-time.Hour).Truncate(time.Second).UTC()
	idp.SetPerson(map[string]any{"amr": []string{"pwd", "mfa"}, "acr": "gold", "department": "it", "cost_centre": 12345678901234567})
	idp.Do(fakeidp.Script{Claims: func(c jwt.MapClaims) { c["auth_time"] = authenticated.Unix() }})
	p := discoveredProvider(t, idp, func(c *Config) { c.Claims.Extra = []string{"department", "cost_centre", "absent"} })

	result := mustSignIn(t, p)

	want := &authn.Identity{
		Kind: authn.User, Provider: "corp", Subject: "alice-1", Email: "alice@corp.example", EmailVerified: true, Name: "Alice",
		Groups: []string{"staff", "wiki"}, ACR: "gold", AMR: []string{"pwd", "mfa"}, MFA: true, AuthTime: authenticated,
		Claims: result.Identity.Claims,
	}
	if diff := cmp.Diff(want, result.Identity); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	if got := result.Identity.Claims; got["department"] != "it" || got["cost_centre"].(interface{ String() string }).String() != "12345678901234567" || len(got) != 2 {
		t.Errorf("claims %v: want department and cost_centre as the provider wrote them", got)
	}
	if result.RefreshToken == "" || strings.Contains(result.String(), result.RefreshToken) {
		t.Errorf("refresh token %q is missing, or shows in %q", result.RefreshToken, result)
	}
}

// OIDC-01, OIDC-02: without the state of this very flow nothing is sent to the provider.
func TestOIDC01StateOfAnotherSignInIsRefusedBeforeAnyCall(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, nil)
	f, other := p.NewFlow(), p.NewFlow()
	cb := visit(t, p, f)
	for _, tc := range []struct {
		name string
		flow *Flow
		cb   Callback
		want Code
	}{
		{"no state", f, Callback{Code: cb.Code, Issuer: cb.Issuer}, StateMissing},
		{"state of another flow", other, cb, StateMismatch},
		{"flow of another provider", &Flow{Provider: "other", State: f.State}, cb, StateMismatch},
		{"no iss", f, Callback{Code: cb.Code, State: cb.State}, IssuerMissing},
		{"other iss", f, Callback{Code: cb.Code, State: cb.State, Issuer: cb.Issuer + "/"}, IssuerMismatch},
		{"neither code nor error", f, Callback{State: cb.State, Issuer: cb.Issuer}, CodeMissing},
		{"declined", f, Callback{State: cb.State, Issuer: cb.Issuer, Error: "access_denied"}, AccessDenied},
		{"error", f, Callback{State: cb.State, Issuer: cb.Issuer, Code: cb.Code, Error: "server_error"}, ProviderError},
	} {
		_, err := p.Finish(t.Context(), tc.flow, tc.cb)
		t.Run(tc.name, func(t *testing.T) { wantCode(t, err, tc.want) })
	}
	if n := idp.Calls("token"); n != 0 {
		t.Errorf("%d token requests were sent, want none", n)
	}
}

// OIDC-11: the provider's text is never repeated, its code only when a standard defines it.
func TestOIDC11ProviderErrorsAreReportedByStandardCodeOnly(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, nil)
	for sent, want := range map[string]string{"temporarily_unavailable": "temporarily_unavailable", "<script>alert(1)</script>": ""} {
		f := p.NewFlow()
		_, err := p.Finish(t.Context(), f, Callback{State: f.State, Issuer: idp.Issuer, Error: sent})
		wantCode(t, err, ProviderError)
		if failure, _ := errors.AsType[*Failure](err); failure == nil || failure.Reported != want || strings.Contains(failure.Error(), "script") {
			t.Errorf("error %q: got %v, want reported %q", sent, failure, want)
		}
	}
}

func TestIDTokensThatAreNotForThisSignInAreRefused(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, nil)
	otherKey := newSigner(t).key
	now := time.Now()
	key, kid := idp.Key()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
	claims := func(change func(c jwt.MapClaims)) fakeidp.Script { return fakeidp.Script{Claims: change} }
	sign := func(s func(c jwt.MapClaims) string) fakeidp.Script { return fakeidp.Script{Sign: s} }

	for _, tc := range []struct {
		name   string
		script fakeidp.Script
		want   Code
	}{
		{"OIDC-04 no nonce", claims(func(c jwt.MapClaims) { delete(c, "nonce") }), NonceMismatch},
		{"OIDC-04 wrong nonce", claims(func(c jwt.MapClaims) { c["nonce"] = "other" }), NonceMismatch},
		{"OIDC-04 nonce in other case", claims(func(c jwt.MapClaims) { c["Nonce"] = c["nonce"]; delete(c, "nonce") }), TokenInvalid},
		{"issuer by a slash", claims(func(c jwt.MapClaims) { c["iss"] = idp.Issuer + "/" }), TokenIssuer},
		{"no issuer", claims(func(c jwt.MapClaims) { delete(c, "iss") }), TokenIssuer},
		{"other audience", claims(func(c jwt.MapClaims) { c["aud"] = "other" }), TokenAudience},
		{"audience by substring", claims(func(c jwt.MapClaims) { c["aud"] = "sallyport2" }), TokenAudience},
		{"no audience", claims(func(c jwt.MapClaims) { delete(c, "aud") }), TokenAudience},
		{"several audiences without azp", claims(func(c jwt.MapClaims) { c["aud"] = []string{"sallyport", "other"} }), TokenParty},
		{"azp of another client", claims(func(c jwt.MapClaims) { c["azp"] = "other" }), TokenParty},
		{"azp that is no text", claims(func(c jwt.MapClaims) { c["azp"] = []string{"sallyport"} }), TokenParty},
		{"expired", claims(func(c jwt.MapClaims) { c["exp"] = now.Add(-2 * time.Minute).Unix() }), TokenExpired},
		{"no exp", claims(func(c jwt.MapClaims) { delete(c, "exp") }), TokenExpired},
		{"exp as text", claims(func(c jwt.MapClaims) { c["exp"] = strconv.FormatInt(now.Add(time.Hour).Unix(), 10) }), TokenInvalid},
		{"no iat", claims(func(c jwt.MapClaims) { delete(c, "iat") }), TokenInvalid},
		{"iat in the future", claims(func(c jwt.MapClaims) { c["iat"] = now.Add(2 * time.Minute).Unix() }), TokenNotYet},
		{"nbf in the future", claims(func(c jwt.MapClaims) { c["nbf"] = now.Add(2 * time.Minute).Unix() }), TokenNotYet},
		{"auth_time in the future", claims(func(c jwt.MapClaims) { c["auth_time"] = now.Add(time.Hour).Unix() }), TokenNotYet},
		{"no sub", claims(func(c jwt.MapClaims) { delete(c, "sub") }), SubjectInvalid},
		{"empty sub", claims(func(c jwt.MapClaims) { c["sub"] = "" }), SubjectInvalid},
		{"long sub", claims(func(c jwt.MapClaims) { c["sub"] = strings.Repeat("x", 256) }), SubjectInvalid},
		{"sub in a spelling that folds to it", claims(func(c jwt.MapClaims) { c["\u017fub"] = "root" }), TokenInvalid},
		{"at_hash of another token", claims(func(c jwt.MapClaims) { c["at_hash"] = "AAAAAAAAAAAAAAAAAAAAAA" }), TokenInvalid},
		{"alg none", sign(func(c jwt.MapClaims) string {
			return fakeidp.Sign(jwt.SigningMethodNone, kid, c, jwt.UnsafeAllowNoneSignatureType)
		}), TokenAlgorithm},
		{"HS256 with the public key as PEM", sign(func(c jwt.MapClaims) string {
			return fakeidp.Sign(jwt.SigningMethodHS256, kid, c, publicPEM)
		}), TokenAlgorithm},
		{"HS256 with the public key as DER", sign(func(c jwt.MapClaims) string {
			return fakeidp.Sign(jwt.SigningMethodHS256, kid, c, spki)
		}), TokenAlgorithm},
		{"HS256 with the client secret", sign(func(c jwt.MapClaims) string {
			return fakeidp.Sign(jwt.SigningMethodHS256, "", c, []byte(testClient.Secret))
		}), TokenAlgorithm},
		{"unknown kid", sign(func(c jwt.MapClaims) string {
			return fakeidp.Sign(jwt.SigningMethodES256, "unknown", c, otherKey)
		}), TokenKey},
		{"known kid, other key", sign(func(c jwt.MapClaims) string {
			return fakeidp.Sign(jwt.SigningMethodES256, kid, c, otherKey)
		}), TokenSignature},
		{"no kid, other key", sign(func(c jwt.MapClaims) string {
			return fakeidp.Sign(jwt.SigningMethodES256, "", c, otherKey)
		}), TokenSignature},
		{"signature of zeros", sign(func(c jwt.MapClaims) string {
			signed := fakeidp.Sign(jwt.SigningMethodES256, kid, c, key)
			return signed[:strings.LastIndex(signed, ".")+1] + strings.Repeat("A", 86)
		}), TokenSignature},
		{"no signature", sign(func(c jwt.MapClaims) string {
			signed := fakeidp.Sign(jwt.SigningMethodES256, kid, c, key)
			return signed[:strings.LastIndex(signed, ".")+1]
		}), TokenSignature},
		{"not a JWT", sign(func(jwt.MapClaims) string { return "access-token-by-mistake" }), TokenInvalid},
		{"100,000 dots", sign(func(jwt.MapClaims) string { return strings.Repeat(".", 100_000) }), TokenInvalid},
		{"no id_token", fakeidp.Script{TokenBody: func(b map[string]any) { delete(b, "id_token") }}, TokenMissing},
		{"id_token that is no text", fakeidp.Script{TokenBody: func(b map[string]any) { b["id_token"] = 7 }}, TokenMissing},
	} {
		t.Run(tc.name, func(t *testing.T) {
			idp.Do(tc.script)
			_, err := signIn(t, p)
			wantCode(t, err, tc.want)
		})
	}

	idp.Do(fakeidp.Script{})
	mustSignIn(t, p) // the control
}

func TestClockSkewIsToleratedAsFarAsConfigured(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, nil)
	idp.Do(fakeidp.Script{Claims: func(c jwt.MapClaims) {
		c["iat"], c["exp"] = time.Now().Add(45*time.Second).Unix(), time.Now().Add(-45*time.Second).Unix()
	}})
	mustSignIn(t, p)
}

func TestExtraAudienceIsAcceptedWhenAZPIsThisClient(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, nil)
	idp.Do(fakeidp.Script{Claims: func(c jwt.MapClaims) { c["aud"], c["azp"] = []string{"project", "sallyport"}, "sallyport" }})
	mustSignIn(t, p)
}

// OIDC-03: the provider refuses a code that was used, and we say so.
func TestOIDC03ReplayedCodeIsRefused(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, nil)
	f := p.NewFlow()
	cb := visit(t, p, f)
	if _, err := p.Finish(t.Context(), f, cb); err != nil {
		t.Fatal(err)
	}
	_, err := p.Finish(t.Context(), f, cb)
	wantCode(t, err, CodeRejected)
}

// OIDC-05: every flow has its own verifier, and another one is refused.
func TestOIDC05SwappedVerifierIsRefused(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, nil)
	f := p.NewFlow()
	to, err := p.AuthCodeURL(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	q := mustParse(t, to).Query()
	if q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 || strings.Contains(to, f.Verifier) {
		t.Errorf("authorization request without PKCE S256, or with the verifier: %s", to)
	}
	cb := visit(t, p, f)
	f.Verifier = p.NewFlow().Verifier
	_, err = p.Finish(t.Context(), f, cb)
	wantCode(t, err, CodeRejected)
}

func TestFlowsShareNoSecret(t *testing.T) {
	p := newProvider(t, configFor(fakeidp.Start(t, testClient)), Options{})
	seen := map[string]bool{}
	for range 100 {
		f := p.NewFlow()
		for _, secret := range []string{f.ID, f.State, f.Nonce, f.Verifier} {
			if seen[secret] || len(secret) < 26 {
				t.Fatalf("secret %q is short or not fresh", secret)
			}
			seen[secret] = true
		}
		if FlowID(f.State) != f.ID {
			t.Fatalf("state %q does not lead to its flow %q", f.State, f.ID)
		}
	}
}

func TestMaxAgeIsAskedForAndChecked(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, func(c *Config) { c.MaxAge = 15 * time.Minute })
	to, err := p.AuthCodeURL(t.Context(), p.NewFlow())
	if err != nil || mustParse(t, to).Query().Get("max_age") != "900" {
		t.Errorf("authorization request %s (%v): want max_age=900", to, err)
	}
	mustSignIn(t, p)
	for name, change := range map[string]func(jwt.MapClaims){
		"long ago": func(c jwt.MapClaims) { c["auth_time"] = time.Now().Add(-17 * time.Minute).Unix() },
		"absent":   func(c jwt.MapClaims) { delete(c, "auth_time") },
	} {
		t.Run(name, func(t *testing.T) {
			idp.Do(fakeidp.Script{Claims: change})
			_, err := signIn(t, p)
			wantCode(t, err, AuthTooOld)
		})
	}
}

func TestClientProvesItselfTheConfiguredWay(t *testing.T) {
	signer := newSigner(t)
	for _, auth := range []ClientAuth{ClientSecretBasic, ClientSecretPost, PrivateKeyJWT} {
		t.Run(string(auth), func(t *testing.T) {
			client := testClient
			if auth == PrivateKeyJWT {
				client.Secret, client.Key = "", &signer.key.PublicKey
			}
			idp := fakeidp.Start(t, client)
			cfg := configFor(idp)
			cfg.ClientAuth = auth
			p := newProvider(t, cfg, Options{Assertion: signer})
			if err := p.Discover(t.Context()); err != nil {
				t.Fatal(err)
			}
			result := mustSignIn(t, p)
			first, header := idp.LastToken()
			if got := header != ""; got != (auth == ClientSecretBasic) {
				t.Errorf("Authorization header present: %v", got)
			}
			if got := first.Get("client_secret") != ""; got != (auth == ClientSecretPost) {
				t.Errorf("client_secret in the form: %v", got)
			}
			if _, err := p.Refresh(t.Context(), result.Identity, result.RefreshToken); err != nil {
				t.Fatalf("refresh: %v", err)
			}
			second, _ := idp.LastToken()
			if auth == PrivateKeyJWT && second.Get("client_assertion") == first.Get("client_assertion") {
				t.Error("a client assertion was used twice")
			}
		})
	}
}

func TestKeyThatCannotSignFailsTheSignInByName(t *testing.T) {
	signer := newSigner(t)
	signer.fail = errors.New("key process is gone")
	client := testClient
	client.Key = &signer.key.PublicKey
	idp := fakeidp.Start(t, client)
	cfg := configFor(idp)
	cfg.ClientSecret = ""
	p := newProvider(t, cfg, Options{Assertion: signer})
	if err := p.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := signIn(t, p)
	wantCode(t, err, KeyUnavailable)
	if idp.Calls("token") != 0 {
		t.Error("a token request without proof was sent")
	}
}

func TestClientRefusedByProviderIsNamed(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, func(c *Config) { c.ClientSecret = "wrong" })
	_, err := signIn(t, p)
	wantCode(t, err, ClientRejected)
}

func TestRefreshFollowsWhatTheProviderSaysToday(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, nil)
	idp.SetPerson(map[string]any{"amr": []string{"mfa"}, "acr": "gold"})
	before := mustSignIn(t, p)

	idp.SetPerson(map[string]any{"groups": []string{"staff"}, "amr": nil, "acr": nil})
	idp.Do(fakeidp.Script{Claims: func(c jwt.MapClaims) { delete(c, "auth_time") }})
	after, err := p.Refresh(t.Context(), before.Identity, before.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if got := after.Identity; cmp.Diff([]string{"staff"}, got.Groups) != "" || !got.MFA || got.ACR != "gold" || !got.AuthTime.Equal(before.Identity.AuthTime) {
		t.Errorf("got %+v: want groups of today, authentication of then", got)
	}

	idp.SetPerson(map[string]any{"sub": "mallory"})
	refused, err := p.Refresh(t.Context(), before.Identity, after.RefreshToken)
	wantCode(t, err, SubjectMismatch)
	if refused == nil || refused.Identity != nil || refused.RefreshToken == "" || refused.RefreshToken == after.RefreshToken {
		t.Fatalf("got %+v: want the new refresh token alone, for the old one is spent", refused)
	}

	_, err = p.Refresh(t.Context(), before.Identity, before.RefreshToken)
	wantCode(t, err, RefreshRejected)
	_, err = p.Refresh(t.Context(), before.Identity, refused.RefreshToken) // the provider saw a used one: all are dead
	wantCode(t, err, RefreshRejected)
}

func TestRefreshWithoutIDTokenLeavesThePersonAsTheyWere(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, nil)
	before := mustSignIn(t, p)
	idp.Do(fakeidp.Script{TokenBody: func(b map[string]any) { delete(b, "id_token"); delete(b, "refresh_token") }})
	after, err := p.Refresh(t.Context(), before.Identity, before.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	if after.Identity != before.Identity || after.RefreshToken != before.RefreshToken {
		t.Errorf("got %+v, want what was", after)
	}
}

func TestUserinfoAddsWhatTheIDTokenDoesNotSay(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, func(c *Config) { c.Userinfo = true })
	onlyInUserinfo := func(c jwt.MapClaims) { delete(c, "groups"); delete(c, "email"); delete(c, "name") }
	for _, tc := range []struct {
		name         string
		claims       func(jwt.MapClaims)
		userinfo     func(map[string]any)
		wantEmail    string
		wantVerified bool
		wantGroups   []string
	}{
		{"all of it", onlyInUserinfo, func(map[string]any) {}, "alice@corp.example", true, []string{"staff", "wiki"}},
		{"token wins", func(jwt.MapClaims) {}, func(c map[string]any) { c["groups"] = []string{"admins"} }, "alice@corp.example", true, []string{"staff", "wiki"}},
		{"verified elsewhere", func(c jwt.MapClaims) { delete(c, "email_verified"); c["email"] = "ceo@corp.example" },
			func(map[string]any) {}, "ceo@corp.example", false, []string{"staff", "wiki"}},
		{"verified by the token, of another address", func(c jwt.MapClaims) { delete(c, "email") },
			func(c map[string]any) { c["email"] = "ceo@corp.example"; delete(c, "email_verified") }, "ceo@corp.example", false, []string{"staff", "wiki"}},
		{"protocol claims stay out", func(c jwt.MapClaims) { delete(c, "groups") },
			func(c map[string]any) { delete(c, "groups"); c["amr"] = []string{"mfa"}; c["auth_time"] = 1 }, "alice@corp.example", true, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			idp.Do(fakeidp.Script{Claims: tc.claims, Userinfo: tc.userinfo})
			got := mustSignIn(t, p).Identity
			if got.Email != tc.wantEmail || got.EmailVerified != tc.wantVerified || cmp.Diff(tc.wantGroups, got.Groups) != "" || got.MFA {
				t.Errorf("got %+v", got)
			}
		})
	}
	idp.Do(fakeidp.Script{Userinfo: func(c map[string]any) { c["sub"] = "mallory" }})
	_, err := signIn(t, p)
	wantCode(t, err, SubjectMismatch)
}

// JWT-36: a rotated key works at once, and the old one does not come back.
func TestRotatedKeysAreFollowed(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	p := discoveredProvider(t, idp, nil)
	mustSignIn(t, p)
	oldKey, oldKid := idp.Key()
	idp.Rotate()
	mustSignIn(t, p)
	if err := p.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	idp.Do(fakeidp.Script{Sign: func(c jwt.MapClaims) string { return fakeidp.Sign(jwt.SigningMethodES256, oldKid, c, oldKey) }})
	_, err := signIn(t, p)
	wantCode(t, err, TokenKey)
}

// JWT-05, JWT-06: keys and addresses inside a token are never used.
func TestKeysNamedByATokenAreNotUsed(t *testing.T) {
	idp := fakeidp.Start(t, testClient)
	asked := make(chan string, 10)
	trap := fakeidp.Start(t, testClient)
	trap.Do(fakeidp.Script{JWKS: func(http.ResponseWriter, *http.Request) bool { asked <- "jwks"; return false }})
	p := discoveredProvider(t, idp, nil)
	key, kid := trap.Key()
	idp.Do(fakeidp.Script{Sign: func(c jwt.MapClaims) string {
		token := jwt.NewWithClaims(jwt.SigningMethodES256, c)
		token.Header["kid"], token.Header["jku"], token.Header["x5u"] = kid, trap.Issuer+"/jwks", trap.Issuer+"/jwks"
		signed, err := token.SignedString(key)
		if err != nil {
			panic(err)
		}
		return signed
	}})
	_, err := signIn(t, p)
	wantCode(t, err, TokenKey)
	if len(asked) != 0 {
		t.Error("a URL out of a token was fetched")
	}
}

func TestCallbackParametersMustNotRepeat(t *testing.T) {
	for query, want := range map[string]bool{
		"code=a&state=b&iss=c":              true,
		"code=a&state=b&session_state":      true,
		"code=a&code=b&state=c":             false,
		"code=a&state=b&state=b":            false,
		"error=a&error=b":                   false,
		"code=%zz":                          false,
		"code=a;state=b":                    false,
		"code=" + strings.Repeat("a", 9000): false,
	} {
		_, err := ParseCallback(query)
		if (err == nil) != want {
			t.Errorf("ParseCallback(%.40q): %v", query, err)
		} else if err != nil {
			wantCode(t, err, CallbackInvalid)
		}
	}
}

func mustParse(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
