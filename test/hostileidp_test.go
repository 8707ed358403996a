package test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sallyport/audit"
	"sallyport/authn/oidc"
	"sallyport/test/fakeidp"
	"sallyport/test/harness"
)

// signInOften lets everybody sign in as often as a test asks.
const signInOften = "limits: { strangers: 10000/s burst 100000, sign_in: { address: 1000/s burst 100000, account: 1000/s burst 100000, total: 1000/s burst 100000 } }"

// hostileStand is an installation with two providers, both hostile on demand: corp, which is asked for userinfo too, and
// other, which vouches for addresses of its own only.
type hostileStand struct {
	*harness.Stand
	other *fakeidp.Provider
}

func newHostileStand(t *testing.T) *hostileStand {
	t.Helper()
	s := harness.New(t, `
  - { name: wiki, host: wiki.corp.test, upstreams: ["ORIGIN"], providers: [corp], access: { groups: [staff] } }
  - { name: payroll, host: payroll.corp.test, upstreams: ["ORIGIN"], providers: [other], access: { groups: [staff] } }
  - { name: public, host: public.corp.test, upstreams: ["ORIGIN"], access: { domains: [corp.test] } }
`, signInOften)
	h := &hostileStand{Stand: s}
	h.other = fakeidp.Start(t, fakeidp.Client{ID: "sallyport", Secret: "a secret of the other", RedirectURI: s.URL("auth", "/.sallyport/callback/other")})
	edit(t, s, `      client_secret: "a secret of the test"`+"\n", `      client_secret: "a secret of the test"
      userinfo: true
      email_domains: [corp.test]
    - name: other
      issuer: `+h.other.Issuer+`
      client_id: sallyport
      client_secret: "a secret of the other"
      email_domains: [other.test]
`)
	startLoud(t, s)
	for _, p := range []*fakeidp.Provider{s.Provider, h.other} {
		p.SetPerson(map[string]any{"sub": "ada", "email": "ada@corp.test", "email_verified": true, "groups": []string{"staff"}})
	}
	return h
}

// refusedSignIns are the reasons of the sign-ins that failed so far.
func refusedSignIns(t *testing.T, s *harness.Stand) (reasons []string) {
	t.Helper()
	for _, r := range readLog(t, s, audit.ControlLog, audit.Filter{}) {
		if r.Code == "sign_in_failed" {
			reasons = append(reasons, r.Reason)
		}
	}
	return reasons
}

// hasSession reports whether a browser was given a session on any of our hosts.
func (h *hostileStand) hasSession(t *testing.T, browser *http.Client) bool {
	t.Helper()
	for _, label := range []string{"auth", "wiki", "payroll"} {
		u, err := url.Parse(h.URL(label, "/"))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range browser.Jar.Cookies(u) {
			if c.Name == "__Host-sallyport" {
				return true
			}
		}
	}
	return false
}

// lies are the hostile answers of a provider, and the reason that must be on record for each.
func (h *hostileStand) lies(t *testing.T) map[string]struct {
	script fakeidp.Script
	want   oidc.Code
} {
	t.Helper()
	corp := h.Provider
	mine, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, kid := corp.Key()
	foreign, _ := h.other.Key()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
	claim := func(name string, value any) fakeidp.Script {
		return fakeidp.Script{Claims: func(c jwt.MapClaims) {
			if c[name] = value; value == nil {
				delete(c, name)
			}
		}}
	}
	sign := func(method jwt.SigningMethod, kid string, key any) fakeidp.Script {
		return fakeidp.Script{Sign: func(c jwt.MapClaims) string { return fakeidp.Sign(method, kid, c, key) }}
	}
	says := func(status int, body string) fakeidp.Script {
		return fakeidp.Script{Token: func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			w.Write([]byte(body))
			return true
		}}
	}
	callback := func(change func(url.Values)) fakeidp.Script { return fakeidp.Script{Callback: change} }
	return map[string]struct {
		script fakeidp.Script
		want   oidc.Code
	}{
		"iss of another":            {claim("iss", corp.Issuer+"/"), oidc.TokenIssuer},
		"iss of the other":          {claim("iss", h.other.Issuer), oidc.TokenIssuer},
		"aud of another":            {claim("aud", "another"), oidc.TokenAudience},
		"aud of several, no azp":    {claim("aud", []string{"sallyport", "another"}), oidc.TokenParty},
		"azp of another":            {claim("azp", "another"), oidc.TokenParty},
		"OIDC-04 no nonce":          {claim("nonce", nil), oidc.NonceMismatch},
		"OIDC-04 another's nonce":   {claim("nonce", "another"), oidc.NonceMismatch},
		"expired":                   {claim("exp", time.Now().Add(-time.Hour).Unix()), oidc.TokenExpired},
		"of tomorrow":               {claim("iat", time.Now().Add(24*time.Hour).Unix()), oidc.TokenNotYet},
		"no sub":                    {claim("sub", nil), oidc.SubjectInvalid},
		"alg none":                  {sign(jwt.SigningMethodNone, kid, jwt.UnsafeAllowNoneSignatureType), oidc.TokenAlgorithm},
		"HS256 with public key":     {sign(jwt.SigningMethodHS256, kid, publicPEM), oidc.TokenAlgorithm},
		"HS256 with client secret":  {sign(jwt.SigningMethodHS256, "", []byte(corp.Client.Secret)), oidc.TokenAlgorithm},
		"unknown kid":               {sign(jwt.SigningMethodES256, "unknown", mine), oidc.TokenKey},
		"key of a stranger":         {sign(jwt.SigningMethodES256, kid, mine), oidc.TokenSignature},
		"key of the other":          {sign(jwt.SigningMethodES256, kid, foreign), oidc.TokenSignature},
		"swapped sub in userinfo":   {fakeidp.Script{Userinfo: func(c map[string]any) { c["sub"] = "root" }}, oidc.SubjectMismatch},
		"no ID token":               {fakeidp.Script{TokenBody: func(b map[string]any) { delete(b, "id_token") }}, oidc.TokenMissing},
		"code refused":              {says(400, `{"error":"invalid_grant","error_description":"<script>alert(1)</script>"}`), oidc.CodeRejected},
		"client refused":            {says(401, `{"error":"invalid_client"}`), oidc.ClientRejected},
		"overloaded":                {says(503, "later"), oidc.ProviderUnreachable},
		"OIDC-15 HTML":              {says(200, "<html>maintenance</html>"), oidc.ProviderInvalidAnswer},
		"OIDC-15 huge":              {says(200, `{"id_token":"`+strings.Repeat("x", 8<<20)+`"}`), oidc.ProviderInvalidAnswer},
		"iss of another comes back": {callback(func(q url.Values) { q.Set("iss", h.other.Issuer) }), oidc.IssuerMismatch},
		"no iss comes back":         {callback(func(q url.Values) { q.Del("iss") }), oidc.IssuerMissing},
		"OIDC-01 no state":          {callback(func(q url.Values) { q.Del("state") }), oidc.StateMissing},
		"two codes":                 {callback(func(q url.Values) { q.Add("code", "second") }), oidc.CallbackInvalid},
		"OIDC-11 declined": {callback(func(q url.Values) {
			q.Del("code")
			q.Set("error", "access_denied")
			q.Set("error_description", "<script>alert(1)</script>")
		}), oidc.AccessDenied},
		"OIDC-11 an error": {callback(func(q url.Values) { q.Del("code"); q.Set("error", "server_error") }), oidc.ProviderError},
		"invented code":    {callback(func(q url.Values) { q.Set("code", "invented") }), oidc.CodeRejected},
	}
}

// Whatever a provider answers: nobody is signed in by it, no cookie stays, the page repeats nothing and has one way on,
// and the control log has the one fixed reason. The person who then signs in honestly is let in.
func TestHostileProviderSignsNobodyIn(t *testing.T) {
	h := newHostileStand(t)
	honest := func() {
		t.Helper()
		h.Provider.Do(fakeidp.Script{})
		browser := h.Browser()
		if status, body := harness.Get(t, browser, h.URL("wiki", "/page")); status != http.StatusOK || !h.hasSession(t, browser) {
			t.Fatalf("the control: an honest sign-in got %d: %.1000s", status, body)
		}
	}
	honest()
	before := len(refusedSignIns(t, h.Stand))
	for name, lie := range h.lies(t) {
		h.Provider.Do(lie.script)
		browser := h.Browser()
		status, page := harness.Get(t, browser, h.URL("wiki", "/page"))
		if status < 400 || h.hasSession(t, browser) {
			t.Errorf("%s: got %d, session: %v", name, status, h.hasSession(t, browser))
		}
		if strings.Contains(page, "alert(1)") || strings.Contains(page, "maintenance") {
			t.Errorf("%s: the page repeats what the provider said: %.2000s", name, page)
		}
		if n := strings.Count(page, "<main"); n != 1 || !strings.Contains(page, `href="https://`) {
			t.Errorf("%s: the page leads nowhere: %.2000s", name, page)
		}
		reasons := refusedSignIns(t, h.Stand)
		if len(reasons) != before+1 || reasons[before] != string(lie.want) {
			t.Errorf("%s: on record are %q, want %s", name, reasons[min(before, len(reasons)):], lie.want)
		}
		before = len(reasons)
	}
	honest()
	if raw := readLog(t, h.Stand, audit.ControlLog, audit.Filter{}); bytes.Contains(fmt.Append(nil, raw), []byte("alert(1)")) {
		t.Error("the log repeats what the provider said")
	}
}

// Mix-up (RFC 9700 §4.4): an answer of one provider is worth nothing at the callback of another, whether it names its
// issuer or not; and nobody hears of the code.
func TestHostileProviderMixUp(t *testing.T) {
	h := newHostileStand(t)
	browser := h.Browser()
	browser.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.Path, "/.sallyport/callback/") {
			return http.ErrUseLastResponse
		}
		return nil
	}
	res, err := browser.Get(h.URL("wiki", "/"))
	if err != nil {
		t.Fatal(err)
	}
	drain(res)
	callback := res.Header.Get("Location")
	if !strings.Contains(callback, "/callback/corp?") {
		t.Fatalf("the provider sends people to %q", callback)
	}
	mixed := strings.Replace(callback, "/callback/corp?", "/callback/other?", 1)
	for name, address := range map[string]string{"as it is": mixed, "with the issuer of the other": strings.Replace(mixed, url.QueryEscape(h.Provider.Issuer), url.QueryEscape(h.other.Issuer), 1)} {
		if status, _ := harness.Get(t, browser, address); status != http.StatusBadRequest || h.hasSession(t, browser) {
			t.Errorf("%s: got %d, session: %v", name, status, h.hasSession(t, browser))
		}
	}
	if n := h.Provider.Calls("token") + h.other.Calls("token"); n != 0 {
		t.Errorf("%d token requests were sent", n)
	}
	reasons := refusedSignIns(t, h.Stand)
	if len(reasons) != 2 || reasons[0] != string(oidc.StateMismatch) {
		t.Errorf("on record: %q", reasons)
	}
}

// OIDC-16: the same subject and address at another provider is somebody else, who gets in only where that provider's people
// may, and whose address counts only in the domains for which that provider may vouch.
func TestTheSameAddressAtAnotherProviderIsSomebodyElse(t *testing.T) {
	h := newHostileStand(t)
	browser := h.Browser()
	if status, body := harness.Get(t, browser, h.URL("payroll", "/mine")); status != http.StatusOK {
		t.Fatalf("signing in at the other provider got %d: %.1000s", status, body)
	}
	cookie := h.Cookie(t, browser, "payroll")
	var users []string
	for _, seen := range h.Origin.Seen() {
		users = append(users, seen.Header.Get("X-Sallyport-User"))
	}
	if len(users) != 1 || users[0] != "other|ada" {
		t.Errorf("the app was told %q", users)
	}
	client := &http.Client{Transport: h.Transport(), Jar: browser.Jar, CheckRedirect: stay}
	if res, _ := send(t, client, http.MethodGet, h.URL("payroll", "/"), cookie, nil); res.StatusCode != http.StatusOK {
		t.Errorf("payroll, which is for the other's people: %d", res.StatusCode)
	}
	if status, body := harness.Get(t, browser, h.URL("public", "/")); status == http.StatusOK {
		t.Errorf("an address that the other may not vouch for opens what is for its domain: %.500s", body)
	}
	alice := h.Browser()
	if status, _ := harness.Get(t, alice, h.URL("wiki", "/")); status != http.StatusOK {
		t.Fatalf("signing in at corp: %d", status)
	}
	if status, _ := harness.Get(t, alice, h.URL("public", "/")); status != http.StatusOK {
		t.Errorf("the control: an address that corp may vouch for got %d", status)
	}
}

// OIDC-03, OIDC-02: a callback works once, and in one browser.
func TestHostileReplayOfACallback(t *testing.T) {
	h := newHostileStand(t)
	var callback string
	browser := h.Browser()
	browser.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if strings.Contains(r.URL.Path, "/callback/") {
			callback = r.URL.String()
		}
		return nil
	}
	if status, _ := harness.Get(t, browser, h.URL("wiki", "/")); status != http.StatusOK || callback == "" {
		t.Fatalf("signing in: %d, by %q", status, callback)
	}
	tokens := h.Provider.Calls("token")
	for name, victim := range map[string]*http.Client{"the same browser": browser, "another browser": h.Browser()} {
		had := h.hasSession(t, victim)
		if status, _ := harness.Get(t, victim, callback); status != http.StatusBadRequest || h.hasSession(t, victim) != had {
			t.Errorf("%s: got %d", name, status)
		}
	}
	if n := h.Provider.Calls("token"); n != tokens {
		t.Errorf("%d token requests were sent", n-tokens)
	}
}

// OIDC-13: a discovery document of another issuer, by one slash, is refused before anybody is sent there.
func TestHostileDiscovery(t *testing.T) {
	s := harness.New(t, harness.Apps, "")
	s.Provider.Do(fakeidp.Script{Discovery: func(document map[string]any) { document["issuer"] = s.Provider.Issuer + "/" }})
	s.Start(t)
	status, _ := harness.Get(t, s.Browser(), s.URL("wiki", "/"))
	if status != http.StatusBadGateway || s.Provider.Calls("authorize") != 0 {
		t.Errorf("got %d, and the provider saw %d people", status, s.Provider.Calls("authorize"))
	}
	s.Provider.Do(fakeidp.Script{})
	s.Provider.SetPerson(map[string]any{"groups": []string{"staff"}})
	harness.Eventually(t, 2*time.Minute, "an honest document to count", func() bool {
		status, _ := harness.Get(t, s.Browser(), s.URL("wiki", "/"))
		return status == http.StatusOK
	})
}
