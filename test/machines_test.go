package test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sallyport/audit"
	"sallyport/certs/clienttest"
	"sallyport/policy"
	"sallyport/test/fakeidp"
	"sallyport/test/harness"
)

// issuer is one that signs tokens for programs, as GitHub, GitLab and Kubernetes do.
type issuer struct {
	URL   string
	asked atomic.Int64 // for keys

	mu   sync.Mutex
	kid  string
	keys map[string]*ecdsa.PrivateKey // published
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{keys: map[string]*ecdsa.PrivateKey{}}
	i.rotate(t, "shared") // every issuer's first key has this id (JWT-39)
	server := httptest.NewServer(http.HandlerFunc(i.serve))
	t.Cleanup(server.Close)
	i.URL = server.URL
	return i
}

func (i *issuer) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/.well-known/openid-configuration" {
		json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
		return
	}
	i.asked.Add(1)
	i.mu.Lock()
	defer i.mu.Unlock()
	var list []map[string]string
	for kid, key := range i.keys {
		point, err := key.PublicKey.Bytes()
		if err != nil {
			panic(err)
		}
		b64 := base64.RawURLEncoding.EncodeToString
		list = append(list, map[string]string{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid, "x": b64(point[1:33]), "y": b64(point[33:])})
	}
	json.NewEncoder(w).Encode(map[string]any{"keys": list})
}

// rotate withdraws all keys and publishes a new one.
func (i *issuer) rotate(t *testing.T, kid string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.kid, i.keys = kid, map[string]*ecdsa.PrivateKey{kid: key}
}

func (i *issuer) key() (*ecdsa.PrivateKey, string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[i.kid], i.kid
}

// claims are those of a good token, with changes; nil removes one.
func (i *issuer) claims(changes jwt.MapClaims) jwt.MapClaims {
	now := time.Now()
	c := jwt.MapClaims{"iss": i.URL, "sub": "repo:corp/site", "aud": "https://gateway.corp.test", "iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(), "scope": "read deploy"}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, value any) bool { return value == nil })
	return c
}

func (i *issuer) token(changes jwt.MapClaims) string {
	key, kid := i.key()
	return fakeidp.Sign(jwt.SigningMethodES256, kid, i.claims(changes), key)
}

// machineStand is an installation that programs call in three ways: tokens of two issuers, hub and lab, tokens that ada
// made in the portal, and certificates.
type machineStand struct {
	*harness.Stand
	hub, lab *issuer
	programs *clienttest.Authority
	client   *http.Client // no browser, no cookies
}

func newMachineStand(t *testing.T) *machineStand {
	t.Helper()
	m := &machineStand{hub: newIssuer(t), lab: newIssuer(t), programs: clienttest.NewAuthority(t, "programs")}
	m.Stand = harness.New(t, `
  - { name: api, host: wiki.corp.test, upstreams: ["ORIGIN"], authorization: gateway, client_certs: optional, access: { groups: [robots, staff] } }
  - { name: payroll, host: payroll.corp.test, upstreams: ["ORIGIN"], authorization: gateway, access: { groups: [robots, staff] } }
`, signInOften)
	clienttest.Write(t, m.Dir, "programs.pem", clienttest.PEM(m.programs))
	clienttest.Write(t, m.Dir, "programs.crl", m.programs.List(t, time.Now().Add(time.Hour)))
	edit(t, m.Stand, `certs/*.pem" }`, fmt.Sprintf(`certs/*.pem", client_certificates: { authorities: ["%[1]s/programs.pem"], revocation: ["%[1]s/programs.crl"] } }`, m.Dir))
	edit(t, m.Stand, "identity:\n", fmt.Sprintf(`identity:
  personal_tokens: { enabled: true }
  services:
    - { name: backup, certificate: { uri: "urn:service:backup" }, groups: [robots] }
  issuers:
    - { name: hub, issuer: %q, audience: [https://gateway.corp.test], algorithms: [ES256], max_age: 1h, scopes: [deploy], groups: [robots] }
    - { name: lab, issuer: %q, audience: [https://gateway.corp.test], algorithms: [ES256], max_age: 1h, groups: [robots] }
`, m.hub.URL, m.lab.URL))
	startLoud(t, m.Stand)
	m.client = &http.Client{Transport: m.Transport(), Timeout: time.Minute, CheckRedirect: stay}
	return m
}

// answer is what a program was told, and what is on record of it.
type answer struct {
	Status    int
	Challenge string
	Error     string // the code in the body
	Record    audit.Record
}

// call asks as a program with a token does, in the field that is the gateway's alone or in the one that everybody uses.
func (m *machineStand) call(t *testing.T, method, label, field, token string) answer {
	t.Helper()
	req := request(t, method, m.URL(label, "/api"), nil, nil)
	req.Header.Set("Accept", "application/json")
	req.Header.Set(field, "Bearer "+token)
	return m.ask(t, m.client, req)
}

func (m *machineStand) ask(t *testing.T, client *http.Client, req *http.Request) (a answer) {
	t.Helper()
	before := len(m.Origin.Seen())
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	a.Status, a.Challenge = res.StatusCode, res.Header.Get("WWW-Authenticate")
	id := res.Header.Get("X-Request-Id")
	if res.Header.Get("Set-Cookie") != "" || res.Header.Get("Location") != "" {
		t.Errorf("a program got Set-Cookie %q, Location %q", res.Header.Get("Set-Cookie"), res.Header.Get("Location"))
	}
	served := res.StatusCode == http.StatusOK
	a.Error, _ = said(t, res)
	if reached := len(m.Origin.Seen()) > before; reached != served {
		t.Errorf("got %d, and the app was reached: %v", a.Status, reached)
	}
	if served {
		seen := m.Origin.Seen()
		last := seen[len(seen)-1]
		id = last.ID
		if last.Header.Get("Authorization") != "" || last.Header.Get("Sallyport-Authorization") != "" {
			t.Error("the app saw the token")
		}
	}
	harness.Eventually(t, time.Minute, "the decision of "+id, func() bool {
		for _, r := range records(t, m.Stand) {
			if r.Type == audit.TypeDecision && r.RequestID == id {
				a.Record = r
				return true
			}
		}
		return false
	})
	return a
}

// refused holds an answer against what must come of a bad credential.
func refused(t *testing.T, name string, got answer, status int, challenge, reason string) {
	t.Helper()
	if got.Status != status {
		t.Errorf("%s: got %d (%s), want %d", name, got.Status, got.Error, status)
	}
	if (challenge == "") != (got.Challenge == "") || !strings.Contains(got.Challenge, challenge) {
		t.Errorf("%s: the challenge is %q, want %q in it", name, got.Challenge, challenge)
	}
	if got.Record.Effect == audit.Allow || !strings.Contains(fmt.Sprintf("%s %s %s %s", got.Record.Reason, got.Record.Detail, got.Record.Decision, got.Record.Input), reason) {
		t.Errorf("%s: on record is %s %s %s %s, want %s", name, got.Record.Effect, got.Record.Reason, got.Record.Detail, got.Record.Decision, reason)
	}
}

// JWT-01 to JWT-39: tokens of configured issuers. Each bad one differs from the good one in one thing, is refused with the
// challenge of RFC 6750 §3.1 and is on record with what was wrong; the good one (JWT-19) is served between them.
func TestMachinesShowTokensOfIssuers(t *testing.T) {
	t.Parallel()
	m := newMachineStand(t)
	good := func(after string) {
		t.Helper()
		for _, field := range []string{"Authorization", "Sallyport-Authorization"} {
			got := m.call(t, http.MethodGet, "wiki", field, m.hub.token(nil))
			if got.Status != http.StatusOK {
				t.Fatalf("JWT-19 in %s, after %s: a good token got %d %s, %s", field, after, got.Status, got.Error, got.Challenge)
			}
			who := policyInput(t, got.Record)
			if who.Subject.ID != "hub|repo:corp/site" || who.Subject.Token == nil || who.Subject.Token.Name != "hub" {
				t.Errorf("the policy was asked about %+v", who.Subject)
			}
		}
	}
	good("nothing")
	if got := m.call(t, http.MethodGet, "wiki", "Authorization", m.lab.token(nil)); got.Status != http.StatusOK {
		t.Fatalf("a good token of lab got %d", got.Status)
	}

	key, kid := m.hub.key()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	trap := newTrap(t)
	labKey, _ := m.lab.key()
	mine, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edward, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	sign := func(method jwt.SigningMethod, kid string, key any) string {
		return fakeidp.Sign(method, kid, m.hub.claims(nil), key)
	}
	with := func(name string, value any) string { return m.hub.token(jwt.MapClaims{name: value}) }
	head := func(more map[string]any) string { return signHead(t, m.hub.claims(nil), kid, key, more) }
	cut := func(token string) string { return token[:strings.LastIndex(token, ".")+1] }
	for name, bad := range map[string]struct{ token, reason string }{
		"JWT-01 alg none":                {sign(jwt.SigningMethodNone, kid, jwt.UnsafeAllowNoneSignatureType), "token_"},
		"JWT-02 alg nOnE":                {cut(head(map[string]any{"alg": "nOnE"})), "token_"},
		"JWT-03 empty signature":         {cut(m.hub.token(nil)), "token_"},
		"JWT-05 embedded key":            {signHead(t, m.hub.claims(nil), "embedded", mine, map[string]any{"jwk": jwk(t, mine, "embedded")}), "token_key"},
		"JWT-06 jku":                     {signHead(t, m.hub.claims(nil), "far", mine, map[string]any{"jku": trap.URL + "/jwks"}), "token_key"},
		"JWT-06 x5u":                     {signHead(t, m.hub.claims(nil), "far", mine, map[string]any{"x5u": trap.URL + "/chain"}), "token_key"},
		"JWT-06 kid is a URL":            {sign(jwt.SigningMethodES256, trap.URL+"/key", mine), "token_key"},
		"JWT-06 iss is a URL":            {fakeidp.Sign(jwt.SigningMethodES256, "shared", m.hub.claims(jwt.MapClaims{"iss": trap.URL}), mine), "token_issuer"},
		"JWT-11 unknown crit":            {head(map[string]any{"crit": []string{"exp"}}), "token_header"},
		"JWT-14 zeros":                   {cut(m.hub.token(nil)) + strings.Repeat("A", 86), "token_signature"},
		"JWT-20 expired":                 {with("exp", now.Add(-5*time.Minute).Unix()), "token_expired"},
		"JWT-21 nbf tomorrow":            {with("nbf", now.Add(24*time.Hour).Unix()), "token_not_yet"},
		"JWT-21 iat tomorrow":            {with("iat", now.Add(24*time.Hour).Unix()), "token_not_yet"},
		"JWT-22 no exp":                  {with("exp", nil), "token_times"},
		"JWT-23 exp is text":             {with("exp", fmt.Sprint(now.Add(time.Hour).Unix())), "token_times"},
		"age":                            {m.hub.token(jwt.MapClaims{"iat": now.Add(-3 * time.Hour).Unix(), "exp": now.Add(time.Hour).Unix()}), "token_too_old"},
		"JWT-24 audience":                {with("aud", "https://elsewhere.example"), "token_audience"},
		"JWT-24 no audience":             {with("aud", nil), "token_audience"},
		"JWT-25 azp of another":          {m.hub.token(jwt.MapClaims{"aud": []string{"https://gateway.corp.test", "x"}, "azp": "x"}), "token_audience"},
		"JWT-26 substring":               {with("aud", "https://gateway.corp.test.evil.example"), "token_audience"},
		"JWT-27 issuer by a slash":       {with("iss", m.hub.URL+"/"), "token_issuer"},
		"unknown issuer":                 {with("iss", "https://token.actions.githubusercontent.com"), "token_issuer"},
		"JWT-30 HS256, PEM":              {sign(jwt.SigningMethodHS256, kid, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})), "token_algorithm"},
		"JWT-30 HS256, DER":              {sign(jwt.SigningMethodHS256, kid, spki), "token_algorithm"},
		"another algorithm":              {sign(jwt.SigningMethodEdDSA, kid, edward), "token_algorithm"},
		"a stranger's key":               {sign(jwt.SigningMethodES256, kid, mine), "token_signature"},
		"JWT-39 lab's key, same kid":     {sign(jwt.SigningMethodES256, kid, labKey), "token_signature"},
		"JWT-39 hub's key as lab's":      {fakeidp.Sign(jwt.SigningMethodES256, kid, m.lab.claims(nil), key), "token_signature"},
		"unknown kid":                    {sign(jwt.SigningMethodES256, "unknown", key), "token_key"},
		"no sub":                         {with("sub", nil), "token_subject"},
		"JWT-08 dots":                    {strings.Repeat(".", 8000), "token_"},
		"no token at all":                {"nonsense", "token_"},
		"a personal token of somebody's": {"sallyport_pat_" + strings.Repeat("a", 40), "token_unknown"},
	} {
		refused(t, name, m.call(t, http.MethodGet, "wiki", "Authorization", bad.token), http.StatusUnauthorized, `error="invalid_token"`, bad.reason)
	}
	refused(t, "scope", m.call(t, http.MethodGet, "wiki", "Authorization", with("scope", "read")), http.StatusForbidden, `error="insufficient_scope"`, "token_scopes")
	good("all of these")
	if n := trap.asked.Load(); n != 0 {
		t.Errorf("JWT-06: %d addresses out of tokens were asked", n)
	}
	for _, r := range records(t, m.Stand) {
		if regexp.MustCompile(`eyJ[A-Za-z0-9_-]{20}`).Match(fmt.Append(nil, string(r.Input), string(r.Detail))) {
			t.Fatalf("a token is on record: %s %s", r.Detail, r.Input)
		}
	}
	recomputeAll(t, m.Stand, 1)
}

// trap is a web server that nobody should ever ask.
type trap struct {
	URL   string
	asked atomic.Int64
}

func newTrap(t *testing.T) *trap {
	t.Helper()
	tr := &trap{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			tr.asked.Add(1)
			conn.Close()
		}
	}()
	tr.URL = "http://" + listener.Addr().String()
	return tr
}

// signHead signs with further members of the header; alg may be among them, and is then a lie.
func signHead(t *testing.T, claims jwt.MapClaims, kid string, key *ecdsa.PrivateKey, more map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	token.Header["kid"] = kid
	maps.Copy(token.Header, more)
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func jwk(t *testing.T, key *ecdsa.PrivateKey, kid string) map[string]string {
	t.Helper()
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return map[string]string{"kty": "EC", "crv": "P-256", "kid": kid, "x": b64(point[1:33]), "y": b64(point[33:])}
}

func policyInput(t *testing.T, r audit.Record) *policy.Input {
	t.Helper()
	in, err := policy.ParseInput(r.Input)
	if err != nil {
		t.Fatalf("record of %s: %v", r.RequestID, err)
	}
	return in
}

// JWT-36: keys change while the gateway runs. A new one counts within half a minute, a withdrawn one does not from then
// on, and whoever invents key ids makes nobody ask the issuer.
func TestMachinesFollowTheIssuersKeys(t *testing.T) {
	t.Parallel()
	m := newMachineStand(t)
	if got := m.call(t, http.MethodGet, "wiki", "Authorization", m.hub.token(nil)); got.Status != http.StatusOK {
		t.Fatalf("a good token got %d", got.Status)
	}
	old, oldKid := m.hub.key()
	before := m.hub.asked.Load()
	var strangers sync.WaitGroup
	for n := range 8 {
		strangers.Go(func() {
			for i := range 40 {
				req := request(t, http.MethodGet, m.URL("wiki", "/api"), nil, nil)
				req.Header.Set("Authorization", "Bearer "+fakeidp.Sign(jwt.SigningMethodES256, fmt.Sprintf("invented-%d-%d", n, i), m.hub.claims(nil), old))
				if res, err := m.client.Do(req); err == nil {
					drain(res)
				}
			}
		})
	}
	strangers.Wait()
	if n := m.hub.asked.Load() - before; n > 2 {
		t.Errorf("320 invented key ids made the gateway ask %d times", n)
	}
	m.hub.rotate(t, "second")
	rotated := time.Now()
	harness.Eventually(t, 2*time.Minute, "the new key to count", func() bool {
		res, _ := m.get(t, m.hub.token(nil))
		return res == http.StatusOK
	})
	if took := time.Since(rotated); took > 45*time.Second {
		t.Errorf("a new key counted after %s", took)
	}
	if got, reason := m.get(t, fakeidp.Sign(jwt.SigningMethodES256, oldKid, m.hub.claims(jwt.MapClaims{"jti": "fresh"}), old)); got != http.StatusUnauthorized {
		t.Errorf("a token by the withdrawn key got %d %s", got, reason)
	}
	if n := m.hub.asked.Load() - before; n > 4 {
		t.Errorf("the issuer was asked %d times", n)
	}
}

// get is call without the record.
func (m *machineStand) get(t *testing.T, token string) (status int, code string) {
	t.Helper()
	req := request(t, http.MethodGet, m.URL("wiki", "/api"), nil, nil)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := m.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	status = res.StatusCode
	code, _ = said(t, res)
	return status, code
}

// make is what a person does in the portal to have a token.
func (m *machineStand) make(t *testing.T, browser *http.Client, fields url.Values) string {
	t.Helper()
	fields.Set("do", "create")
	page := m.post(t, browser, "/.sallyport/tokens", fields)
	secret := regexp.MustCompile(`sallyport_pat_[a-z2-7]+`).FindString(page)
	if secret == "" {
		t.Fatalf("the page shows no token: %.3000s", page)
	}
	return secret
}

// post sends a form of the portal.
func (m *machineStand) post(t *testing.T, browser *http.Client, path string, fields url.Values) string {
	t.Helper()
	req := request(t, http.MethodPost, m.URL("auth", path), nil, strings.NewReader(fields.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", m.URL("auth", ""))
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	req.Header.Set("Sec-Fetch-Dest", "document")
	res, err := browser.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	page := readAll(t, res)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s answers %d: %.3000s", path, res.StatusCode, page)
	}
	return page
}

// A token that somebody made in the portal stands for them, for the apps and methods that they chose, until they revoke
// it; also where it is in use at that moment.
func TestMachinesShowTokensOfPeople(t *testing.T) {
	t.Parallel()
	m := newMachineStand(t)
	browser := m.Browser()
	if status, body := m.SignIn(t, browser, "auth", "ada", "staff"); status != http.StatusOK {
		t.Fatalf("signing in got %d: %.1000s", status, body)
	}
	narrow := m.make(t, browser, url.Values{"name": {"reader"}, "app": {"api"}, "methods": {"read"}, "lifetime": {"7"}})
	wide := m.make(t, browser, url.Values{"name": {"writer"}, "app": {"api", "payroll"}, "methods": {"all"}, "lifetime": {"7"}})
	if _, page := harness.Get(t, browser, m.URL("auth", "/.sallyport/tokens")); strings.Contains(page, narrow) || strings.Contains(page, wide) {
		t.Error("a token is shown twice")
	}
	for _, tt := range []struct {
		name, method, label, token string
		status                     int
		challenge, reason          string
	}{
		{"good", "GET", "wiki", narrow, 200, "", ""},
		{"wrong method", "POST", "wiki", narrow, 403, `error="insufficient_scope"`, "token_scope"},
		{"wrong app", "GET", "payroll", narrow, 403, `error="insufficient_scope"`, "token_scope"},
		{"good, all methods", "POST", "wiki", wide, 200, "", ""},
		{"good, another app", "GET", "payroll", wide, 200, "", ""},
		{"mistyped", "GET", "wiki", narrow[:len(narrow)-1] + "7", 401, `error="invalid_token"`, "token_unknown"},
		{"cut", "GET", "wiki", narrow[:len(narrow)-3], 401, `error="invalid_token"`, "token_unknown"},
		{"in capitals", "GET", "wiki", "sallyport_pat_" + strings.ToUpper(strings.TrimPrefix(narrow, "sallyport_pat_")), 401, `error="invalid_token"`, "token_unknown"},
	} {
		got := m.call(t, tt.method, tt.label, "Authorization", tt.token)
		if tt.status != http.StatusOK {
			refused(t, tt.name, got, tt.status, tt.challenge, tt.reason)
			continue
		}
		if got.Status != http.StatusOK {
			t.Errorf("%s: got %d %s", tt.name, got.Status, got.Error)
			continue
		}
		if in := policyInput(t, got.Record); in.Subject.ID != "corp|ada" || in.Subject.Token == nil || in.Subject.Token.Kind != "personal" {
			t.Errorf("%s: the policy was asked about %+v", tt.name, in.Subject)
		}
	}

	req := request(t, http.MethodGet, m.URL("wiki", "/events"), nil, nil)
	req.Header.Set("Authorization", "Bearer "+narrow)
	client := *m.client
	client.Timeout = 0
	res, err := client.Do(req)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("opening a stream: %v %v", res, err)
	}
	defer res.Body.Close()
	_, page := harness.Get(t, browser, m.URL("auth", "/.sallyport/tokens"))
	id := regexp.MustCompile(`reader[\s\S]*?name="token" value="([^"]+)"`).FindStringSubmatch(page)
	if id == nil {
		t.Fatalf("the page has no way to revoke: %.4000s", page)
	}
	m.post(t, browser, "/.sallyport/tokens", url.Values{"do": {"revoke"}, "token": {id[1]}})
	revoked := time.Now()
	harness.Eventually(t, time.Minute, "the revoked token to be refused", func() bool {
		status, _ := m.get(t, narrow)
		return status == http.StatusUnauthorized
	})
	drain(res)
	if took := time.Since(revoked); took > endedWithin {
		t.Errorf("the revocation was felt after %s", took)
	}
	refused(t, "revoked", m.call(t, "GET", "wiki", "Authorization", narrow), 401, `error="invalid_token"`, "token_revoked")
	if got := m.call(t, "GET", "wiki", "Authorization", wide); got.Status != http.StatusOK {
		t.Errorf("the other token got %d", got.Status)
	}
	var codes []string
	for _, r := range readLog(t, m.Stand, audit.ControlLog, audit.Filter{}) {
		if strings.HasPrefix(r.Code, "token_") {
			codes = append(codes, r.Code)
		}
	}
	if got := strings.Join(codes, " "); got != "token_created token_created token_revoked" {
		t.Errorf("on record: %s", got)
	}
	recomputeAll(t, m.Stand, 1)
}

// A client certificate is a service account's when it is the one that the account names and counts; any other is nobody's.
func TestMachinesShowCertificates(t *testing.T) {
	t.Parallel()
	m := newMachineStand(t)
	named := func(uri string) clienttest.Change {
		return func(x *x509.Certificate) {
			x.URIs = []*url.URL{{Scheme: "urn", Opaque: uri}}
		}
	}
	issue := func(a *clienttest.Authority, changes ...clienttest.Change) *tls.Certificate {
		c := a.Issue(t, "backup", append(changes, func(x *x509.Certificate) { x.SerialNumber = new(big.Int).SetInt64(time.Now().UnixNano()) })...)
		return &c
	}
	backup := named("service:backup")
	revoked := issue(m.programs, backup)
	clienttest.Write(t, m.Dir, "programs.crl", m.programs.List(t, time.Now().Add(time.Hour), revoked.Leaf))
	if out, code := m.Sallyport(t, "reload"); code != 0 {
		t.Fatalf("reload exits with %d: %s", code, out)
	}
	show := &certStand{Stand: m.Stand}
	ask := func(shown *tls.Certificate) answer {
		req := request(t, http.MethodGet, m.URL("wiki", "/api"), nil, nil)
		req.Header.Set("Accept", "application/json")
		return m.ask(t, show.showing("http/1.1", shown), req)
	}
	got := ask(issue(m.programs, backup))
	if got.Status != http.StatusOK {
		t.Fatalf("the good one got %d %s", got.Status, got.Error)
	}
	if in := policyInput(t, got.Record); in.Subject.ID != "certificate|backup" || in.Subject.Type != "service" {
		t.Errorf("the policy was asked about %+v", in.Subject)
	}
	for name, tt := range map[string]struct {
		shown  *tls.Certificate
		reason string
	}{
		"none":                 {nil, "unauthenticated"},
		"of another subject":   {issue(m.programs, named("service:restore")), "unauthenticated"},
		"of another authority": {issue(clienttest.NewAuthority(t, "programs"), backup), "unknown_authority"},
		"revoked":              {revoked, "revoked"},
		"expired":              {issue(m.programs, backup, func(x *x509.Certificate) { x.NotAfter = time.Now().Add(-time.Minute) }), "expired"},
		"not yet valid":        {issue(m.programs, backup, func(x *x509.Certificate) { x.NotBefore = time.Now().Add(time.Minute) }), "not_yet_valid"},
		"for servers":          {issue(m.programs, backup, func(x *x509.Certificate) { x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), "not_for_clients"},
	} {
		got := ask(tt.shown)
		refused(t, name, got, http.StatusUnauthorized, got.Challenge, tt.reason)
	}
	// Beside a credential the certificate is a factor, and no account.
	req := request(t, http.MethodGet, m.URL("wiki", "/api"), nil, nil)
	req.Header.Set("Authorization", "Bearer nonsense")
	refused(t, "beside a bad token", m.ask(t, show.showing("http/1.1", issue(m.programs, backup)), req), http.StatusUnauthorized, `error="invalid_token"`, "token_")
	recomputeAll(t, m.Stand, 1)
}
