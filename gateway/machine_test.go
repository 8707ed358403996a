package gateway

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sallyport/audit"
	"sallyport/authn"
	"sallyport/authn/personal"
	"sallyport/authn/service"
	"sallyport/authn/session"
	"sallyport/authn/session/sqlite"
	"sallyport/authn/token"
	"sallyport/certs"
	"sallyport/gateway/canon"
	"sallyport/gateway/limit"
	"sallyport/gateway/route"
	"sallyport/policy"
)

// machineBed is a bed with the three ways for programs: the wiki is for staff, api, below /api/, for staff and builds, and
// reads Authorization itself.
type machineBed struct {
	*bed
	tokens *personal.Keeper
	owners *owners
	issuer string
	key    *rsa.PrivateKey
	seen   chan http.Header
}

// owners are people as their provider last spoke of them.
type owners struct {
	mu    sync.Mutex
	known map[string]session.Person
}

func (o *owners) Person(_ context.Context, subject string) (session.Person, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p, ok := o.known[subject]; ok {
		return p, nil
	}
	return session.Person{}, session.ErrNoPerson
}

func (o *owners) set(p session.Person) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known[p.Identity.ID()] = p
}

func newMachineBed(t *testing.T, change ...func(*token.Issuer)) *machineBed {
	t.Helper()
	m := &machineBed{seen: make(chan http.Header, 100), owners: &owners{known: map[string]session.Person{}}}
	m.bed = newBed(t, func(w http.ResponseWriter, r *http.Request) {
		m.seen <- r.Header
		if r.URL.Path == "/events" {
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: 1\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	})
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	m.tokens = personal.New(personal.Config{Enabled: true, MaxLifetime: 24 * time.Hour, Confirm: time.Hour, MaxPerPerson: 20}, store.Tokens(), m.owners, time.Now, slog.New(slog.DiscardHandler))
	m.server.personal = m.tokens
	m.tokens.OnEnd(m.server.TokenEnded)
	m.owners.set(session.Person{Identity: m.ada(t), Confirmed: time.Now()})
	if m.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"keys":[{"kty":"RSA","kid":"1","use":"sig","n":%q,"e":"AQAB"}]}`, base64.RawURLEncoding.EncodeToString(m.key.N.Bytes()))
	}))
	t.Cleanup(keys.Close)
	m.issuer = keys.URL
	cfg := token.Issuer{Name: "ci", Issuer: keys.URL, JWKSURI: keys.URL, Audience: []string{"https://auth.corp.test"}, Algorithms: []string{"RS256"}, MaxAge: time.Hour, Groups: []string{"builds"}}
	for _, f := range change {
		f(&cfg)
	}
	m.swap(t, limit.Config{}, cfg)
	return m
}

func (m *machineBed) ada(t *testing.T) *authn.Identity {
	t.Helper()
	who, err := authn.New(authn.Identity{Kind: authn.User, Provider: "corp", Subject: "ada", Email: "ada@corp.test", EmailVerified: true, Groups: []string{"staff"}, MFA: true})
	if err != nil {
		t.Fatal(err)
	}
	return who
}

func (m *machineBed) swap(t *testing.T, limits limit.Config, issuers ...token.Issuer) {
	t.Helper()
	api := wiki(t, m.origin, "staff", "builds")
	api.Name, api.Path, api.Authorization = "api", "/api/", route.AuthorizationGateway
	strict := wiki(t, m.origin, "staff")
	strict.Name, strict.Path, strict.Access = "strict", "/strict/", policy.Access{{Groups: []string{"staff"}, MFA: true}}
	next := snapshot(t, wiki(t, m.origin, "staff"), api, strict)
	next.Limits = limits
	var err error
	if next.Issuers, err = token.NewVerifier(token.VerifierConfig{Issuers: issuers}); err != nil {
		t.Fatal(err)
	}
	m.server.Swap(next)
}

func (m *machineBed) make(t *testing.T, name string, apps, methods []string) (string, personal.Token) {
	t.Helper()
	secret, made, err := m.tokens.Create(t.Context(), m.ada(t), personal.Request{Name: name, Apps: apps, Methods: methods, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return secret, made
}

// said is a token of the issuer, good but for what is changed.
func (m *machineBed) said(t *testing.T, change ...func(jwt.MapClaims)) string {
	t.Helper()
	now := time.Now().Unix()
	said := jwt.MapClaims{"iss": m.issuer, "sub": "repo:corp/site", "aud": "https://auth.corp.test", "iat": now, "exp": now + 300}
	for _, f := range change {
		f(said)
	}
	made := jwt.NewWithClaims(jwt.SigningMethodRS256, said)
	made.Header["kid"] = "1"
	raw, err := made.SignedString(m.key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func claim(name string, value any) func(jwt.MapClaims) {
	return func(c jwt.MapClaims) { c[name] = value }
}

// program asks with a credential in a field.
func (m *machineBed) program(t *testing.T, method, path, field, credential string) *http.Response {
	t.Helper()
	r := m.request(t, method, path, "", nil)
	r.Header.Set(field, credential)
	res, err := m.client(t, "http/1.1").Do(r)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res
}

func (m *machineBed) bearer(t *testing.T, method, path, raw string) *http.Response {
	t.Helper()
	return m.program(t, method, path, "Sallyport-Authorization", "Bearer "+raw)
}

// last is the newest decision and what it was made on, if it was.
func (m *machineBed) last(t *testing.T) (audit.Record, *policy.Input) {
	t.Helper()
	records := m.log.of(audit.TypeDecision)
	r := records[len(records)-1]
	if r.Document == nil {
		return r, nil
	}
	in, err := policy.ParseInput(r.Document.AppendJSON(nil))
	if err != nil {
		t.Fatal(err)
	}
	return r, in
}

func TestPersonalTokenStandsForItsOwner(t *testing.T) {
	m := newMachineBed(t)
	secret, made := m.make(t, "build", []string{"wiki", "api"}, []string{"GET"})
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("anything:"+secret)) // as git sends it
	for _, way := range []struct{ path, field, credential string }{
		{"/page", "Sallyport-Authorization", "Bearer " + secret},
		{"/api/v1", "Authorization", "Bearer " + secret},
		{"/api/v1", "Authorization", basic},
	} {
		if res := m.program(t, "GET", way.path, way.field, way.credential); res.StatusCode != http.StatusOK {
			t.Fatalf("%v: status %d", way, res.StatusCode)
		}
		r, in := m.last(t)
		s := in.Subject
		if r.Session != made.ID || s.ID != "corp|ada" || s.Type != policy.TypeUser || s.Session != nil || s.Authn.MFA {
			t.Errorf("%v: session %s, subject %+v", way, r.Session, s)
		}
		if s.Token == nil || s.Token.ID != made.ID || s.Token.Kind != policy.TokenPersonal || s.Token.Name != "build" || strings.Join(s.Token.Apps, " ") != "api wiki" {
			t.Errorf("%v: token %+v", way, s.Token)
		}
		header := <-m.seen
		if text := fmt.Sprint(header); strings.Contains(text, secret) || strings.Contains(text, "Basic") || header.Get("X-Sallyport-User") != "corp|ada" {
			t.Errorf("%v: the app saw %v", way, header)
		}
	}
	records, err := json.Marshal(m.log.records)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(records) + m.printed.String(); strings.Contains(text, secret[len(personal.Prefix):]) {
		t.Error("the token is in a record or the log")
	}
	if again := m.server.Snapshot().Policy.Recompute(t.Context(), m.log.of(audit.TypeDecision)[0].Document.AppendJSON(nil)); !again.Allow {
		t.Errorf("the record is decided otherwise: %s", again.JSON)
	}
}

// What is wrong with a token is on record; the program hears what RFC 6750 has for it.
func TestTokensThatAreNotGoodAreRefusedAndRecorded(t *testing.T) {
	m := newMachineBed(t, func(i *token.Issuer) { i.Scopes = []string{"deploy"} })
	deploy := claim("scope", "deploy")
	some, _ := m.make(t, "some", []string{"api"}, []string{"GET"})
	revoked, made := m.make(t, "revoked", []string{"*"}, []string{"*"})
	if _, err := m.tokens.Revoke(t.Context(), personal.Filter{ID: made.ID}); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	hmac, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": m.issuer, "exp": now + 300}).SignedString([]byte("guess"))
	if err != nil {
		t.Fatal(err)
	}
	good := m.said(t, deploy)
	for _, tt := range []struct {
		name, method, path, raw string
		status                  int
		effect                  audit.Effect
		reason, detail, said    string
	}{
		{"other app", "GET", "/page", some, 403, audit.Deny, policy.ReasonPolicy, "", "insufficient_scope"},
		{"other method", "POST", "/api/", some, 403, audit.Deny, policy.ReasonPolicy, "", "insufficient_scope"},
		{"revoked", "GET", "/page", revoked, 401, audit.Reject, "bad_token", personal.CodeRevoked, "invalid_token"},
		{"unknown", "GET", "/page", personal.Prefix + "guess", 401, audit.Reject, "bad_token", personal.CodeUnknown, "invalid_token"},
		{"audience", "GET", "/api/", m.said(t, deploy, claim("aud", "https://other.test")), 401, audit.Reject, "bad_token", token.CodeAudience, "invalid_token"},
		{"algorithm", "GET", "/api/", hmac, 401, audit.Reject, "bad_token", token.CodeAlgorithm, "invalid_token"},
		{"scope", "GET", "/api/", m.said(t), 403, audit.Reject, "bad_token", token.CodeScopes, "insufficient_scope"},
		{"expired", "GET", "/api/", m.said(t, deploy, claim("exp", now-600)), 401, audit.Reject, "bad_token", token.CodeTokenExpiry, "invalid_token"},
		{"age", "GET", "/api/", m.said(t, deploy, claim("iat", now-7200)), 401, audit.Reject, "bad_token", token.CodeTooOld, "invalid_token"},
		{"not yet", "GET", "/api/", m.said(t, deploy, claim("nbf", now+600)), 401, audit.Reject, "bad_token", token.CodeNotYet, "invalid_token"},
		{"issuer", "GET", "/api/", m.said(t, deploy, claim("iss", m.issuer+"/")), 401, audit.Reject, "bad_token", token.CodeIssuer, "invalid_token"},
		{"signature", "GET", "/api/", good[:len(good)-8] + "AAAAAAAA", 401, audit.Reject, "bad_token", token.CodeSignature, "invalid_token"},
		{"nonsense", "GET", "/api/", "nonsense", 401, audit.Reject, "bad_token", token.CodeMalformed, "invalid_token"},
		{"nobody's group", "GET", "/page", good, 403, audit.Deny, policy.ReasonPolicy, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res := m.bearer(t, tt.method, tt.path, tt.raw)
			challenge := res.Header.Get("WWW-Authenticate")
			if res.StatusCode != tt.status || tt.said != "" && !strings.Contains(challenge, `error="`+tt.said+`"`) {
				t.Errorf("status %d, %s: want %d, %s", res.StatusCode, challenge, tt.status, tt.said)
			}
			r, _ := m.last(t)
			if r.Effect != tt.effect || r.Reason != tt.reason || tt.detail != "" && !strings.Contains(string(r.Detail), `"why":"`+tt.detail+`"`) {
				t.Errorf("recorded %s %s %s, want %s %s %s", r.Effect, r.Reason, r.Detail, tt.effect, tt.reason, tt.detail)
			}
			if tt.said == "insufficient_scope" && tt.effect == audit.Deny && !strings.Contains(string(r.Decision), `"token_scope"`) {
				t.Errorf("decision %s", r.Decision)
			}
		})
	}
	if len(m.seen) != 0 {
		t.Error("the app was asked")
	}
	if res := m.bearer(t, "POST", "/api/", good); res.StatusCode != http.StatusOK { // the control
		t.Errorf("a good token: status %d", res.StatusCode)
	}
	_, in := m.last(t)
	if s := in.Subject; s.Type != policy.TypeService || s.ID != "ci|repo:corp/site" || s.Token.Kind != policy.TokenIssued || s.Token.Name != "ci" || strings.Join(s.Token.Scopes, "") != "deploy" {
		t.Errorf("subject %+v, token %+v", in.Subject, in.Subject.Token)
	}
}

// How the owner of a token signed in once is no assurance: RFC 9470 tells the program what is asked for.
func TestTokenMeetsNoStepUp(t *testing.T) {
	m := newMachineBed(t)
	secret, _ := m.make(t, "build", []string{"*"}, []string{"*"})
	res := m.bearer(t, "GET", "/strict/", secret)
	if said := res.Header.Get("WWW-Authenticate"); res.StatusCode != http.StatusUnauthorized || !strings.Contains(said, "insufficient_user_authentication") {
		t.Errorf("status %d, %s", res.StatusCode, said)
	}
	if r, _ := m.last(t); r.Effect != audit.Deny || r.Reason != policy.ReasonStepUp {
		t.Errorf("recorded %s %s", r.Effect, r.Reason)
	}
}

// REV-01 for programs: what is open ends with the token.
func TestRevokedTokenEndsItsStream(t *testing.T) {
	m := newMachineBed(t)
	for name, end := range map[string]func(personal.Token){
		"revoked": func(made personal.Token) {
			if _, err := m.tokens.Revoke(t.Context(), personal.Filter{ID: made.ID}); err != nil {
				t.Error(err)
			}
		},
	} {
		secret, made := m.make(t, name, []string{"*"}, []string{"*"})
		other, _ := m.make(t, name+" not", []string{"*"}, []string{"*"})
		open := func(raw string) (*http.Response, context.CancelFunc) {
			ctx, cancel := context.WithCancel(t.Context())
			r := m.request(t, "GET", "/events", "", nil).WithContext(ctx)
			r.Header.Set("Sallyport-Authorization", "Bearer "+raw)
			res, err := m.client(t, "http/1.1").Do(r)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { res.Body.Close() })
			if _, err := io.ReadFull(res.Body, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
			return res, cancel
		}
		stream, cancel := open(secret)
		defer cancel()
		stays, cancelOther := open(other)
		end(made)
		ended := make(chan struct{})
		go func() { io.Copy(io.Discard, stream.Body); close(ended) }()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: the stream is open after five seconds", name)
		}
		if r := m.log.one(t, audit.TypeOutcome); r.Outcome.Error != "token_revoked" {
			t.Errorf("%s: outcome %+v", name, r.Outcome)
		}
		if n := len(m.log.of(audit.TypeOutcome)); n != 1 {
			t.Errorf("%s: %d streams ended: that of another token went with it", name, n)
		}
		cancelOther()
		stays.Body.Close()
		if res := m.bearer(t, "GET", "/page", secret); res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: status %d", name, res.StatusCode)
		}
	}
}

// An open exchange goes on no longer than its token, and is known by what holds when it is decided again.
func TestOpenExchangesOfPrograms(t *testing.T) {
	m := newMachineBed(t)
	secret, made := m.make(t, "build", []string{"*"}, []string{"*"})
	x := &exchange{server: m.server, snap: m.server.Snapshot(), ctx: t.Context(), r: httptest.NewRequest("GET", "/", nil)}
	x.req, x.app = &canon.Request{Token: secret, Method: "GET", Path: "/", Host: wikiHost}, m.server.Snapshot().apps["wiki"]
	bearer, err := x.bearerNow(x.snap)
	if err != nil {
		t.Fatal(err)
	}
	x.session, x.bearer, x.machine = bearer.Session, bearer, true
	if current, err := x.currentSession(); err != nil || current != bearer.Session {
		t.Errorf("%v, %v", current, err)
	}
	if x.expired(bearer.Expires.Add(-time.Second)) || !x.expired(bearer.Expires) || !errors.Is(x.overdue(bearer.Expires), ErrSessionExpired) {
		t.Error("an expired token's exchange goes on")
	}
	if _, err := m.tokens.Revoke(t.Context(), personal.Filter{ID: made.ID}); err != nil {
		t.Fatal(err)
	}
	if _, err := x.currentSession(); !errors.Is(err, session.ErrNoSession) {
		t.Errorf("got %v", err)
	}
}

// Guesses are strangers' requests: past the rate, nothing is verified and nothing looked up. A token in use is no guess.
func TestGuessedTokensAreLimited(t *testing.T) {
	m := newMachineBed(t)
	secret, _ := m.make(t, "build", []string{"*"}, []string{"*"})
	if res := m.bearer(t, "GET", "/page", secret); res.StatusCode != http.StatusOK {
		t.Fatal(res.StatusCode)
	}
	m.swap(t, limit.Config{Strangers: limit.Every(3, time.Minute)})
	statuses := map[int]int{}
	for i := range 20 {
		statuses[m.bearer(t, "GET", "/page", personal.Prefix+fmt.Sprint(i)).StatusCode]++
	}
	if statuses[http.StatusUnauthorized] != 3 || statuses[http.StatusTooManyRequests] != 17 {
		t.Errorf("%v", statuses)
	}
	if res := m.bearer(t, "GET", "/page", secret); res.StatusCode != http.StatusOK {
		t.Errorf("a token in use is held to the rate of strangers: %d", res.StatusCode)
	}
}

// git sends a password when it is asked, and a browser must not ask anybody for one.
func TestProgramsAreAskedForAPasswordAndBrowsersAreNot(t *testing.T) {
	m := newMachineBed(t)
	for site, want := range map[string]int{"": 2, "same-origin": 1, "cross-site": 1} {
		for path, more := range map[string]int{"/api/": want, "/page": 1} {
			r := m.request(t, "GET", path, "", nil)
			if site != "" {
				r.Header.Set("Sec-Fetch-Site", site)
			}
			res, err := m.client(t, "http/1.1").Do(r)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if asked := res.Header["Www-Authenticate"]; res.StatusCode != http.StatusUnauthorized || len(asked) != more {
				t.Errorf("%s from %q: status %d, asked %q", path, site, res.StatusCode, asked)
			}
		}
	}
}

// A token beside a session would leave open whose request it is.
func TestTwoCredentialsAreRefused(t *testing.T) {
	m := newMachineBed(t)
	secret, _ := m.make(t, "build", []string{"*"}, []string{"*"})
	r := m.request(t, "GET", "/page", "ada", nil)
	r.Header.Set("Sallyport-Authorization", "Bearer "+secret)
	if status, _ := answerTo(t, m.client(t, "http/1.1"), r); status != http.StatusBadRequest {
		t.Errorf("status %d", status)
	}
}

func TestCertificateOfAServiceAccount(t *testing.T) {
	c := newCertBed(t)
	accounts := []service.Account{
		{Name: "backup", Certificate: service.Certificate{Subject: "CN=backup,O=Corp"}, Groups: []string{"staff"}},
		{Name: "twin-a", Certificate: service.Certificate{Subject: "CN=twin,O=Corp"}, Groups: []string{"staff"}},
		{Name: "twin-b", Certificate: service.Certificate{Subject: "CN=twin,O=Corp"}, Groups: []string{"staff"}},
		{Name: "idle", Certificate: service.Certificate{Subject: "CN=idle,O=Corp"}},
	}
	programs, err := NewPrograms(accounts, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	next := snapshot(t, c.apps(t)...)
	if next.ClientAuthorities, err = certs.LoadClientAuthorities(c.cfg, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	next.Programs = programs
	c.server.Swap(next)
	backup := c.people.Issue(t, "backup")
	if status, _ := answerTo(t, c.showing(t, "h2", backup), c.request(t, "GET", "/", "", nil)); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	s := c.last(t).Subject
	if s.Type != policy.TypeService || s.ID != "certificate|backup" || s.Session != nil || s.Token != nil || s.Cert == nil {
		t.Errorf("subject %+v", s)
	}
	for _, tt := range []struct {
		name, cn, path, handle string
		status                 int
		id                     string
	}{
		{"nobody's certificate is a stranger", "other", "/", "", 401, ""},
		{"an account without groups", "idle", "/", "", 403, "certificate|idle"},
		{"an app that asks for none", "backup", "/docs/", "", 401, ""},
		{"a session comes first", "backup", "/", "ada", 200, "corp|ada"},
		{"two accounts", "twin", "/", "", 403, "-"},
	} {
		client := c.showing(t, "http/1.1", c.people.Issue(t, tt.cn))
		if status, _ := answerTo(t, client, c.request(t, "GET", tt.path, tt.handle, nil)); status != tt.status {
			t.Errorf("%s: status %d, want %d", tt.name, status, tt.status)
		}
		records := c.log.of(audit.TypeDecision)
		r := records[len(records)-1]
		if tt.id == "-" {
			if r.Effect != audit.Reject || r.Reason != "bad_certificate" || !strings.Contains(string(r.Detail), "service_ambiguous") {
				t.Errorf("%s: %s %s %s", tt.name, r.Effect, r.Reason, r.Detail)
			}
			continue
		}
		if got := c.last(t).Subject.ID; got != tt.id {
			t.Errorf("%s: decided on %q, want %q", tt.name, got, tt.id)
		}
	}
}
