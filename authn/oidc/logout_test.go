package oidc

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sallyport/test/fakeidp"
)

func TestLogoutTokenNamesPersonAndSession(t *testing.T) {
	e := newEnemy(t)
	p := discoveredProvider(t, e.idp, nil)
	for name, tc := range map[string]struct{ sub, sid, person string }{
		"both":         {"alice-1", "s1", "corp|alice-1"},
		"session only": {"", "s1", ""},
		"person only":  {"alice-1", "", "corp|alice-1"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := p.ReadLogout(t.Context(), e.idp.LogoutToken(tc.sub, tc.sid))
			if err != nil || got.Subject != tc.sub || got.Session != tc.sid || got.Person != tc.person || got.ID == "" {
				t.Errorf("got %+v, %v; want %+v", got, err, tc)
			}
			if lasts := got.Expires.Sub(got.Issued); lasts != 2*time.Minute || time.Since(got.Issued) > time.Minute {
				t.Errorf("issued %s, good for %s", got.Issued, lasts)
			}
		})
	}
	if got := mustSignIn(t, p); got.Session == "" || got.Session != e.idp.Sessions()[0] {
		t.Errorf("the session's sid is %q, provider has %q", got.Session, e.idp.Sessions())
	}
}

// OIDC-25: Back-Channel Logout 1.0 §2.6.
func TestOIDC25WrongLogoutTokensAreRefusedByName(t *testing.T) {
	e := newEnemy(t)
	p := discoveredProvider(t, e.idp, nil)
	now := time.Now()
	type change = func(jwt.MapClaims)
	with := func(name string, value any) change { return func(c jwt.MapClaims) { c[name] = value } }
	without := func(name string) change { return func(c jwt.MapClaims) { delete(c, name) } }
	changed := func(f change) string {
		claims := e.idp.LogoutClaims("alice-1", "s1")
		f(claims)
		return e.idp.SignLogout(claims)
	}
	headed := func(header map[string]any) string {
		if _, said := header["kid"]; !said {
			header["kid"] = e.key.ID
		}
		return fakeidp.SignWith(e.key.Method, header, e.idp.LogoutClaims("alice-1", "s1"), e.key.Private)
	}
	raw := func(edit func(string) string) string {
		return e.raw(edit)(e.idp.LogoutClaims("alice-1", "s1"))
	}
	claims := e.idp.LogoutClaims("alice-1", "s1")
	good := e.idp.SignLogout(claims)
	event := func(value any) change {
		return with("events", map[string]any{fakeidp.LogoutEvent: value})
	}
	for name, tc := range map[string]struct {
		token string
		want  Code
	}{
		"typ of an ID token":     {headed(map[string]any{"typ": "JWT"}), LogoutInvalid},
		"typ of an access token": {headed(map[string]any{"typ": "at+jwt"}), LogoutInvalid},
		"typ is no text":         {headed(map[string]any{"typ": []string{"logout+jwt"}}), LogoutInvalid},
		"crit":                   {headed(map[string]any{"typ": "logout+jwt", "crit": []string{"x"}, "x": 1}), LogoutInvalid},
		"an ID token":            {e.key.Sign(jwt.MapClaims{"iss": e.idp.Issuer, "aud": "sallyport", "sub": "alice-1", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "nonce": "n"}), LogoutInvalid},
		"nonce":                  {changed(with("nonce", "n")), LogoutInvalid},
		"nonce is null":          {changed(with("nonce", nil)), LogoutInvalid},
		"nonce in another case":  {changed(with("NONCE", "n")), LogoutInvalid},
		"no events":              {changed(without("events")), LogoutInvalid},
		"other event":            {changed(with("events", map[string]any{"http://schemas.openid.net/event/other": map[string]any{}})), LogoutInvalid},
		"event by its case":      {changed(with("events", map[string]any{strings.ToUpper(fakeidp.LogoutEvent): map[string]any{}})), LogoutInvalid},
		"events is a list":       {changed(with("events", []string{fakeidp.LogoutEvent})), LogoutInvalid},
		"event is null":          {changed(event(nil)), LogoutInvalid},
		"event is a text":        {changed(event("yes")), LogoutInvalid},
		"neither sub nor sid":    {changed(func(c jwt.MapClaims) { delete(c, "sub"); delete(c, "sid") }), LogoutInvalid},
		"empty sub":              {changed(with("sub", "")), LogoutInvalid},
		"empty sid":              {changed(with("sid", "")), LogoutInvalid},
		"sid is a number":        {changed(with("sid", 7)), LogoutInvalid},
		"sub is null":            {changed(with("sub", nil)), LogoutInvalid},
		"sub of a kilobyte":      {changed(with("sub", strings.Repeat("s", 1000))), LogoutInvalid},
		"sid of a kilobyte":      {changed(with("sid", strings.Repeat("s", 1000))), LogoutInvalid},
		"no jti":                 {changed(without("jti")), LogoutInvalid},
		"empty jti":              {changed(with("jti", "")), LogoutInvalid},
		"jti of a kilobyte":      {changed(with("jti", strings.Repeat("j", 1000))), LogoutInvalid},
		"jti in another case":    {changed(func(c jwt.MapClaims) { c["JTI"] = c["jti"]; delete(c, "jti") }), LogoutInvalid},
		"other aud":              {changed(with("aud", "other")), TokenAudience},
		"no aud":                 {changed(without("aud")), TokenAudience},
		"other iss":              {changed(with("iss", e.other.Issuer)), TokenIssuer},
		"iss by a slash":         {changed(with("iss", e.idp.Issuer+"/")), TokenIssuer},
		"no iat":                 {changed(without("iat")), LogoutInvalid},
		"iat in the future": {changed(func(c jwt.MapClaims) {
			c["iat"], c["exp"] = now.Add(3*time.Minute).Unix(), now.Add(5*time.Minute).Unix()
		}), TokenNotYet},
		"no exp": {changed(without("exp")), LogoutInvalid},
		"expired": {changed(func(c jwt.MapClaims) {
			c["iat"], c["exp"] = now.Add(-5*time.Minute).Unix(), now.Add(-3*time.Minute).Unix()
		}), LogoutExpired},
		"good for an hour":         {changed(with("exp", now.Add(time.Hour).Unix())), LogoutInvalid},
		"alg none":                 {fakeidp.SignWith(jwt.SigningMethodNone, map[string]any{"typ": "logout+jwt"}, claims, jwt.UnsafeAllowNoneSignatureType), TokenAlgorithm},
		"HS256":                    {fakeidp.SignWith(jwt.SigningMethodHS256, map[string]any{"typ": "logout+jwt"}, claims, []byte(testClient.Secret)), TokenAlgorithm},
		"unknown key":              {e.evil.Sign(claims), LogoutInvalid}, // its typ is JWT, which is seen first
		"unknown key, right typ":   {fakeidp.SignWith(e.evil.Method, map[string]any{"typ": "logout+jwt", "kid": e.evil.ID}, claims, e.evil.Private), TokenKey},
		"another's key":            {fakeidp.SignWith(e.evil.Method, map[string]any{"typ": "logout+jwt", "kid": e.key.ID}, claims, e.evil.Private), TokenSignature},
		"no signature":             {good[:strings.LastIndexByte(good, '.')+1], TokenSignature},
		"another provider's token": {e.other.LogoutToken("alice-1", "s1"), TokenKey},
		"duplicate sub":            {raw(twice("sub", `"root"`, true)), LogoutInvalid},
		"duplicate events":         {raw(twice("events", `{}`, false)), LogoutInvalid},
		"empty":                    {"", LogoutInvalid},
		"dots":                     {strings.Repeat(".", 100_000), LogoutInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := p.ReadLogout(t.Context(), tc.token)
			if got != (Logout{}) {
				t.Errorf("read %+v", got)
			}
			wantCode(t, err, tc.want)
		})
	}
	for name, token := range map[string]string{
		"the control":         good,
		"without typ":         headed(map[string]any{"typ": nil}),
		"typ as a media type": headed(map[string]any{"typ": "application/logout+jwt"}),
		"event with members":  changed(event(map[string]any{"x": 1})),
		"several audiences":   changed(with("aud", []string{"other", "sallyport"})),
	} {
		if _, err := p.ReadLogout(t.Context(), token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	e.idp.Do(fakeidp.Script{Down: true})
	fresh := newProvider(t, configFor(e.idp), Options{})
	_ = fresh.Discover(t.Context())
	_, err := fresh.ReadLogout(t.Context(), good)
	wantCode(t, err, ProviderUnreachable)
}

func TestSignOutAtTheProviderNamesTheSession(t *testing.T) {
	client := testClient
	client.PostLogoutURI = "https://auth.corp.example/.sallyport/signedout"
	idp := fakeidp.Start(t, client)
	p := newProvider(t, configFor(idp), Options{})
	if _, ok := p.EndSessionURL("x", "s", client.PostLogoutURI); ok {
		t.Error("a provider that was never reached has no place to sign out")
	}
	if err := p.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	in := mustSignIn(t, p)
	to, ok := p.EndSessionURL(in.IDToken, "state-1", client.PostLogoutURI)
	if !ok {
		t.Fatal("no end_session URL")
	}
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := browser.Get(to)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("Location"); got != client.PostLogoutURI+"?state=state-1" || len(idp.Sessions()) != 0 {
		t.Errorf("sent to %q, sessions %q left", got, idp.Sessions())
	}
	_, err = p.Refresh(t.Context(), in.Identity, in.RefreshToken)
	wantCode(t, err, RefreshRejected)

	long, ok := p.EndSessionURL(strings.Repeat("x", 5000), "", "")
	if q := mustParse(t, long).Query(); !ok || q.Has("id_token_hint") || q.Get("client_id") != "sallyport" {
		t.Errorf("a hint that is too long for a URL: %s", long)
	}
}

// A browser with an ID token is sent to where it signed in and nowhere else.
func TestSignOutElsewhereIsNotOffered(t *testing.T) {
	for name, end := range map[string]any{
		"another host":   "https://evil.example/end",
		"in the clear":   "http://evil.example/end",
		"script":         "javascript:alert(1)",
		"data":           "data:text/html,x",
		"userinfo":       "https://a@127.0.0.1/end",
		"relative":       "/end",
		"no text":        7,
		"nothing":        nil,
		"host by prefix": "http://127.0.0.1.evil.example/end",
	} {
		t.Run(name, func(t *testing.T) {
			idp := fakeidp.Start(t, testClient)
			idp.Do(fakeidp.Script{Discovery: func(d map[string]any) { d["end_session_endpoint"] = end }})
			p := discoveredProvider(t, idp, nil) // it is of use all the same
			if to, ok := p.EndSessionURL("token", "state", "https://auth.corp.example/"); ok {
				t.Errorf("the browser would go to %s", to)
			}
		})
	}
	idp := fakeidp.Start(t, testClient)
	idp.Do(fakeidp.Script{Discovery: func(d map[string]any) { d["end_session_endpoint"] = idp.Issuer + "/end?tenant=1&state=x" }})
	to, ok := discoveredProvider(t, idp, nil).EndSessionURL("", "mine", "")
	if q := mustParse(t, to).Query(); !ok || q.Get("tenant") != "1" || len(q["state"]) != 1 || q.Get("state") != "mine" {
		t.Errorf("the endpoint's own query: %s", to)
	}
}

// A logout token is read alike by everybody, or not at all: whatever is signed, what we read is what its JSON says.
func FuzzReadLogout(f *testing.F) {
	idp := fakeidp.Start(f, testClient)
	cfg := configFor(idp)
	p, err := New(cfg, Options{RedirectURL: redirectURL})
	if err != nil {
		f.Fatal(err)
	}
	if err := p.Discover(f.Context()); err != nil {
		f.Fatal(err)
	}
	e := &enemy{idp: idp, key: idp.Keys()[0]}
	for _, claims := range []jwt.MapClaims{idp.LogoutClaims("a", "s"), idp.LogoutClaims("a", ""), idp.LogoutClaims("", "s")} {
		f.Add(mustJSON(claims))
	}
	f.Fuzz(func(t *testing.T, payload string) {
		got, err := p.ReadLogout(t.Context(), e.signRaw(`{"alg":"ES256","typ":"logout+jwt","kid":"`+e.key.ID+`"}`, payload))
		if err != nil {
			return
		}
		var said map[string]any
		if err := json.Unmarshal([]byte(payload), &said); err != nil {
			t.Fatalf("read %q", payload)
		}
		sub, _ := said["sub"].(string)
		sid, _ := said["sid"].(string)
		if got.Subject != sub || got.Session != sid || sub == "" && sid == "" || got.ID != said["jti"] || said["iss"] != cfg.Issuer {
			t.Fatalf("%q was read as %+v", payload, got)
		}
	})
}
