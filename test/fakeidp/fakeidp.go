// Package fakeidp is an OpenID provider for tests that does everything right until a test tells it what to do wrong.
//
// It signs everybody in at once, without a page: the authorization endpoint redirects straight back. It holds clients to
// the protocol (exact redirect URI, PKCE S256, codes and refresh tokens used once, client authentication), so that a client's
// mistake fails a test too. It remembers browsers by a cookie, as providers do: a session has a sid, a time and a strength, which
// max_age, prompt and acr_values ask for, and it ends at end_session.
package fakeidp

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Client is the one client that the provider knows.
type Client struct {
	ID, Secret  string
	RedirectURI string
	// PostLogoutURI is where browsers may be sent after end_session, BackchannelURI where logout tokens go.
	PostLogoutURI, BackchannelURI string
	// Key verifies client assertions; without one the secret is asked for.
	Key *ecdsa.PublicKey
}

// Script says what the provider does wrong. Every field may be nil; Provider.Do changes it while the provider runs.
type Script struct {
	Discovery func(document map[string]any) // changes the discovery document
	Callback  func(answer url.Values)       // changes what the browser brings back
	Claims    func(claims jwt.MapClaims)    // changes the claims of the ID token before it is signed
	Sign      func(claims jwt.MapClaims) string
	TokenBody func(body map[string]any)                         // changes the token answer
	Token     func(w http.ResponseWriter, r *http.Request) bool // answers in place of the token endpoint when it returns true
	JWKS      func(w http.ResponseWriter, r *http.Request) bool
	Groups    func(w http.ResponseWriter, r *http.Request) bool
	Userinfo  func(claims map[string]any)
	Down      bool // every connection is cut
}

// Provider is a running provider.
type Provider struct {
	Server *httptest.Server
	Issuer string // without a trailing slash
	Client Client

	mu        sync.Mutex
	script    Script
	keys      []*Key // published; the first signs
	person    map[string]any
	disabled  map[string]bool     // by sub
	offered   map[string][]string // the amr of each acr that people can be asked for
	many      []string            // groups that are too many for a token
	sessions  map[string]*login   // by sid
	grants    map[string]grant    // by code
	refresh   map[string]*family  // by refresh token, used ones included
	calls     map[string]int
	lastForm  url.Values
	lastAuth  string
	lastQuery url.Values
}

// grant is what a code stands for.
type grant struct {
	redirectURI, challenge, nonce string
	login                         login
}

// Start runs a provider on http://127.0.0.1 until the test ends.
func Start(t testing.TB, client Client) *Provider {
	t.Helper()
	return start(t, client, (*httptest.Server).Start)
}

// StartTLS runs a provider on https://127.0.0.1 until the test ends; Server.Certificate vouches for it.
func StartTLS(t testing.TB, client Client) *Provider {
	t.Helper()
	return start(t, client, (*httptest.Server).StartTLS)
}

func start(t testing.TB, client Client, run func(*httptest.Server)) *Provider {
	p := &Provider{
		Client: client,
		person: map[string]any{"sub": "alice-1", "email": "alice@corp.example", "email_verified": true, "name": "Alice",
			"groups": []string{"staff", "wiki"}},
		disabled: map[string]bool{}, sessions: map[string]*login{},
		grants: map[string]grant{}, refresh: map[string]*family{}, calls: map[string]int{},
	}
	p.Rotate()
	p.Server = httptest.NewUnstartedServer(p)
	p.Server.Config.ErrorLog = log.New(io.Discard, "", 0) // cut connections are part of the play
	run(p.Server)
	p.Issuer = p.Server.URL
	t.Cleanup(p.Server.Close)
	return p
}

// Do replaces the script.
func (p *Provider) Do(s Script) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.script = s
}

// SetPerson changes claims of the person who signs in; nil values remove them.
func (p *Provider) SetPerson(claims map[string]any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, value := range claims {
		if p.person[name] = value; value == nil {
			delete(p.person, name)
		}
	}
}

// Calls is how often an endpoint was asked: "discovery", "authorize", "token", "jwks", "userinfo", "end_session", "groups" or
// "trap", an address that only tokens name; and how often the token endpoint was for a "code" or a "refresh".
func (p *Provider) Calls(endpoint string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[endpoint]
}

// LastToken is the form and the Authorization header of the latest token request.
func (p *Provider) LastToken() (url.Values, string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lastForm, p.lastAuth
}

// LastAuthorize is the query of the latest authorization request.
func (p *Provider) LastAuthorize() url.Values {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lastQuery
}

var endpoints = map[string]func(*Provider, Script, http.ResponseWriter, *http.Request){
	"/.well-known/openid-configuration": (*Provider).discovery,
	"/authorize":                        (*Provider).authorize,
	"/token":                            (*Provider).token,
	"/jwks":                             (*Provider).jwks,
	"/userinfo":                         (*Provider).userinfo,
	"/end_session":                      (*Provider).endSession,
	"/groups":                           (*Provider).groups,
	"/v1.0/me/getMemberObjects":         (*Provider).groups,
	"/trap":                             (*Provider).trap,
}

func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	script := p.script
	p.mu.Unlock()
	if script.Down {
		panic(http.ErrAbortHandler)
	}
	serve := endpoints[r.URL.Path]
	if serve == nil {
		http.NotFound(w, r)
		return
	}
	p.count(endpointName(r.URL.Path))
	serve(p, script, w, r)
}

func (p *Provider) count(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[name]++
}

func endpointName(path string) string {
	switch {
	case strings.HasPrefix(path, "/.well-known"):
		return "discovery"
	case strings.HasSuffix(path, "/getMemberObjects"):
		return "groups"
	}
	return strings.Trim(path, "/")
}

func (p *Provider) discovery(s Script, w http.ResponseWriter, _ *http.Request) {
	document := map[string]any{
		"issuer":                                         p.Issuer,
		"authorization_endpoint":                         p.Issuer + "/authorize",
		"token_endpoint":                                 p.Issuer + "/token",
		"jwks_uri":                                       p.Issuer + "/jwks",
		"userinfo_endpoint":                              p.Issuer + "/userinfo",
		"end_session_endpoint":                           p.Issuer + "/end_session",
		"response_types_supported":                       []string{"code"},
		"subject_types_supported":                        []string{"public"},
		"scopes_supported":                               []string{"openid", "profile", "email", "offline_access"},
		"id_token_signing_alg_values_supported":          append(slices.Sorted(maps.Keys(methods)), "HS256", "none"),
		"backchannel_logout_supported":                   true,
		"backchannel_logout_session_supported":           true,
		"authorization_response_iss_parameter_supported": true,
	}
	if s.Discovery != nil {
		s.Discovery(document)
	}
	writeJSON(w, http.StatusOK, document)
}

func (p *Provider) authorize(s Script, w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	switch {
	case q.Get("client_id") != p.Client.ID, q.Get("redirect_uri") != p.Client.RedirectURI:
		http.Error(w, "unknown client or redirect_uri", http.StatusBadRequest)
		return
	case q.Get("response_type") != "code", !strings.Contains(" "+q.Get("scope")+" ", " openid "),
		q.Get("code_challenge_method") != "S256", len(q.Get("code_challenge")) != 43, q.Get("state") == "", q.Get("nonce") == "":
		http.Error(w, "want code flow with openid, PKCE S256, state and nonce", http.StatusBadRequest)
		return
	}
	answer := p.answer(w, r, q)
	if s.Callback != nil {
		s.Callback(answer)
	}
	http.Redirect(w, r, p.Client.RedirectURI+"?"+answer.Encode(), http.StatusFound)
}

// answer is what the browser takes back: a code, or why there is none.
func (p *Provider) answer(w http.ResponseWriter, r *http.Request, q url.Values) url.Values {
	answer := url.Values{"state": {q.Get("state")}, "iss": {p.Issuer}}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastQuery = q
	session, refusal := p.signInLocked(w, r, q)
	if refusal != "" {
		answer.Set("error", refusal)
		return answer
	}
	code := rand.Text()
	p.grants[code] = grant{q.Get("redirect_uri"), q.Get("code_challenge"), q.Get("nonce"), *session}
	answer.Set("code", code)
	return answer
}

func (p *Provider) token(s Script, w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		writeError(w, "invalid_request")
		return
	}
	p.mu.Lock()
	p.lastForm, p.lastAuth = r.PostForm, r.Header.Get("Authorization")
	p.mu.Unlock()
	if s.Token != nil && s.Token(w, r) {
		return
	}
	if !p.authenticated(r) {
		writeError(w, "invalid_client")
		return
	}
	g, refresh, ok := p.redeem(r.PostForm)
	if !ok {
		writeError(w, "invalid_grant")
		return
	}
	body := map[string]any{"access_token": "access-" + rand.Text(), "token_type": "Bearer", "expires_in": 300,
		"refresh_token": refresh, "id_token": p.idToken(s, g)}
	if s.TokenBody != nil {
		s.TokenBody(body)
	}
	writeJSON(w, http.StatusOK, body)
}

// authenticated checks how the client proved itself: by assertion, by Basic or by form.
func (p *Provider) authenticated(r *http.Request) bool {
	if p.Client.Key != nil {
		return p.asserted(r.PostForm)
	}
	if id, secret, ok := r.BasicAuth(); ok {
		return id == url.QueryEscape(p.Client.ID) && secret == url.QueryEscape(p.Client.Secret)
	}
	return r.PostForm.Get("client_id") == p.Client.ID && r.PostForm.Get("client_secret") == p.Client.Secret
}

func (p *Provider) asserted(form url.Values) bool {
	claims := jwt.RegisteredClaims{}
	_, err := jwt.ParseWithClaims(form.Get("client_assertion"), &claims, func(*jwt.Token) (any, error) { return p.Client.Key, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer(p.Client.ID), jwt.WithSubject(p.Client.ID),
		jwt.WithAudience(p.Issuer), jwt.WithExpirationRequired())
	return err == nil && claims.ID != "" && form.Get("client_secret") == "" &&
		form.Get("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
}

// redeem uses up a code or a refresh token and returns what it stood for and the next refresh token.
func (p *Provider) redeem(form url.Values) (g grant, refresh string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if form.Get("grant_type") == "refresh_token" {
		p.calls["refresh"]++
		return p.rotateLocked(form.Get("refresh_token"))
	}
	p.calls["code"]++
	g, ok = p.grants[form.Get("code")]
	delete(p.grants, form.Get("code"))
	sum := sha256.Sum256([]byte(form.Get("code_verifier")))
	if !ok || g.redirectURI != form.Get("redirect_uri") || g.challenge != base64.RawURLEncoding.EncodeToString(sum[:]) {
		return grant{}, "", false
	}
	return g, p.startFamilyLocked(g), true
}

func (p *Provider) idToken(s Script, g grant) string {
	p.mu.Lock()
	claims := jwt.MapClaims(maps.Clone(p.person))
	key := p.keys[0]
	p.groupsClaimLocked(claims)
	p.mu.Unlock()
	now := time.Now()
	maps.Copy(claims, jwt.MapClaims{"iss": p.Issuer, "aud": p.Client.ID, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"auth_time": g.login.at.Unix(), "sid": g.login.sid})
	if g.login.acr != "" {
		claims["acr"], claims["amr"] = g.login.acr, g.login.amr
	}
	if g.nonce != "" {
		claims["nonce"] = g.nonce
	}
	if s.Claims != nil {
		s.Claims(claims)
	}
	if s.Sign != nil {
		return s.Sign(claims)
	}
	return Sign(key.Method, key.ID, claims, key.Private)
}

func (p *Provider) userinfo(s Script, w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer access-") {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	p.mu.Lock()
	claims := maps.Clone(p.person)
	p.mu.Unlock()
	if s.Userinfo != nil {
		s.Userinfo(claims)
	}
	writeJSON(w, http.StatusOK, claims)
}

func writeError(w http.ResponseWriter, code string) {
	writeJSON(w, http.StatusBadRequest, map[string]any{"error": code, "error_description": fmt.Sprintf("<script>%s</script>", code)})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		panic(http.ErrAbortHandler)
	}
}
