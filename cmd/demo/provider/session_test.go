package provider_test

import (
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"
)

// visitor is a browser that keeps cookies and has signed in once, and the tokens of that.
type visitor struct {
	t       *testing.T
	issuer  string
	key     jose.Signer
	browser *http.Client
	config  *oauth2.Config
	tokens  *oauth2.Token
}

func visit(t *testing.T, issuer string, key jose.Signer, browser *http.Client) *visitor {
	t.Helper()
	browser.Jar, _ = cookiejar.New(nil) // never fails
	_, config := gateway(t, issuer)
	config.Scopes = append(config.Scopes, oidc.ScopeOfflineAccess)
	config.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	v := &visitor{t: t, issuer: issuer, key: key, browser: browser, config: config}
	verifier := oauth2.GenerateVerifier()
	v.redeem(signIn(t, browser, config.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier))), verifier)
	return v
}

func (v *visitor) redeem(code, verifier string) {
	v.t.Helper()
	tokens, err := v.config.Exchange(v.t.Context(), code, append(proof(v.t, v.key, v.issuer), oauth2.VerifierOption(verifier))...)
	if err != nil {
		v.t.Fatal(err)
	}
	v.tokens = tokens
}

// claims are what the newest ID token says.
func (v *visitor) claims() (c struct {
	ACR, SID string
	AMR      []string
	AuthTime int64 `json:"auth_time"`
}) {
	v.t.Helper()
	claimsOf(v.t, v.tokens.Extra("id_token").(string), &c)
	return c
}

func claimsOf(t *testing.T, token string, into any) {
	t.Helper()
	parsed, err := jose.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(parsed.UnsafePayloadWithoutVerification(), into); err != nil {
		t.Fatal(err)
	}
}

// refresh uses a refresh token and returns what came of it.
func (v *visitor) refresh(token string) (*oauth2.Token, error) {
	v.t.Helper()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {"sallyport"}}
	for _, o := range proof(v.t, v.key, v.issuer) {
		at, _ := url.Parse((&oauth2.Config{}).AuthCodeURL("", o))
		for name, values := range at.Query() {
			if strings.HasPrefix(name, "client_assertion") {
				form[name] = values
			}
		}
	}
	form.Del("client_id")
	response, err := v.browser.PostForm(v.config.Endpoint.TokenURL, form)
	if err != nil {
		v.t.Fatal(err)
	}
	defer response.Body.Close()
	var said struct {
		Refresh string `json:"refresh_token"`
		ID      string `json:"id_token"`
		Error   string
	}
	if err := json.NewDecoder(response.Body).Decode(&said); err != nil {
		v.t.Fatal(err)
	}
	if said.Error != "" {
		return nil, &oauth2.RetrieveError{ErrorCode: said.Error}
	}
	return (&oauth2.Token{RefreshToken: said.Refresh}).WithExtra(map[string]any{"id_token": said.ID}), nil
}

func TestRefreshTokensWorkOnceAndEndTogether(t *testing.T) {
	issuer, key, browser := start(t)
	v := visit(t, issuer, key, browser)
	first := v.tokens.RefreshToken
	if first == "" {
		t.Fatal("offline_access brought no refresh token")
	}
	before := v.claims()
	second, err := v.refresh(first)
	if err != nil || second.RefreshToken == "" || second.RefreshToken == first {
		t.Fatalf("a refresh brought %+v, %v", second, err)
	}
	v.tokens = second
	if after := v.claims(); after.SID != before.SID || after.SID == "" || after.AuthTime != before.AuthTime {
		t.Errorf("after a refresh the ID token says %+v, before %+v", after, before)
	}
	if _, err := v.refresh(first); err == nil {
		t.Error("a refresh token worked twice")
	}
	if _, err := v.refresh(second.RefreshToken); err == nil {
		t.Error("what came of a token that was used twice still works")
	}
}

func TestADisabledAccountIsToldToTheGateway(t *testing.T) {
	issuer, key, browser := start(t)
	v := visit(t, issuer, key, browser)
	post(t, browser, issuer+"/disable", url.Values{"username": {"ines"}})
	_, err := v.refresh(v.tokens.RefreshToken)
	if said, ok := err.(*oauth2.RetrieveError); !ok || said.ErrorCode != "invalid_grant" {
		t.Errorf("refreshing for a disabled account: %v, want invalid_grant", err)
	}
	post(t, browser, issuer+"/disable", url.Values{"username": {"ines"}})
	if _, err := v.refresh(v.tokens.RefreshToken); err != nil {
		t.Errorf("and once it is enabled again: %v", err)
	}
}

// A step-up asks for the second factor alone, of somebody who is signed in here.
func TestAStepUpAsksForWhatIsMissing(t *testing.T) {
	issuer, key, browser := start(t)
	v := visit(t, issuer, key, browser)
	if got := v.claims(); got.ACR != "1fa" || len(got.AMR) != 1 {
		t.Errorf("a password alone is %+v", got)
	}
	verifier := oauth2.GenerateVerifier()
	login := get(t, browser, v.config.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("acr_values", "2fa"))).Header.Get("Location")
	page := read(t, get(t, browser, issuer+login))
	if !strings.Contains(page, "Continue as Ines Okafor") {
		t.Fatalf("somebody who is known is not offered to go on:\n%s", page)
	}
	id := hiddenID.FindStringSubmatch(page)[1]
	asked := read(t, post(t, browser, issuer+"/login", url.Values{"id": {id}, "continue": {"1"}}))
	if !strings.Contains(asked, "One more step") {
		t.Fatalf("no code was asked for:\n%s", asked)
	}
	if wrong := post(t, browser, issuer+"/login", url.Values{"id": {id}, "code": {"000000"}}); wrong.StatusCode != http.StatusForbidden {
		t.Errorf("a wrong code: %d, want 403", wrong.StatusCode)
	}
	done := post(t, browser, issuer+"/login", url.Values{"id": {id}, "code": {"246810"}})
	back, _ := url.Parse(get(t, browser, done.Header.Get("Location")).Header.Get("Location"))
	v.redeem(back.Query().Get("code"), verifier)
	if got := v.claims(); got.ACR != "2fa" || !strings.Contains(strings.Join(got.AMR, " "), "mfa") {
		t.Errorf("after the step-up the ID token says %+v", got)
	}
	refreshed, err := v.refresh(v.tokens.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	v.tokens = refreshed
	if got := v.claims(); got.ACR != "2fa" {
		t.Errorf("a refresh forgets the second factor: %+v", got)
	}
}

func TestNobodyIsAskedWithPromptNone(t *testing.T) {
	issuer, key, browser := start(t)
	silent := oauth2.SetAuthURLParam("prompt", "none")
	_, config := gateway(t, issuer)
	if to := get(t, browser, config.AuthCodeURL("s", oauth2.S256ChallengeOption("v"), silent)).Header.Get("Location"); !strings.Contains(to, "error=login_required") {
		t.Errorf("a stranger went to %q, want login_required", to)
	}
	v := visit(t, issuer, key, browser)
	login := get(t, browser, v.config.AuthCodeURL("s", oauth2.S256ChallengeOption(oauth2.GenerateVerifier()), silent)).Header.Get("Location")
	finish := get(t, browser, issuer+login).Header.Get("Location")
	if to := get(t, browser, finish).Header.Get("Location"); !strings.Contains(to, "code=") {
		t.Errorf("somebody who is known went to %q, want a code", to)
	}
	again := oauth2.SetAuthURLParam("prompt", "login")
	login = get(t, browser, v.config.AuthCodeURL("s", oauth2.S256ChallengeOption(oauth2.GenerateVerifier()), again)).Header.Get("Location")
	if page := read(t, get(t, browser, issuer+login)); !strings.Contains(page, "Is it still you?") || strings.Contains(page, "Continue as") {
		t.Errorf("prompt=login does not ask for the password:\n%s", page)
	}
}

func TestSigningOutFromTheGateway(t *testing.T) {
	issuer, key, browser := start(t)
	v := visit(t, issuer, key, browser)
	end := issuer + "/end_session?" + url.Values{"id_token_hint": {v.tokens.Extra("id_token").(string)}, "post_logout_redirect_uri": {signedOut}, "state": {"x"}}.Encode()
	if to := get(t, browser, end).Header.Get("Location"); to != signedOut+"?state=x" {
		t.Errorf("after signing out the browser went to %q", to)
	}
	if page := read(t, get(t, browser, issuer+"/")); strings.Contains(page, "You are signed in") {
		t.Error("the session at the provider goes on")
	}
	if _, err := v.refresh(v.tokens.RefreshToken); err == nil {
		t.Error("the refresh token goes on")
	}
}

func TestSigningOutHereIsToldToTheGateway(t *testing.T) {
	heard := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { heard <- r.PostFormValue("logout_token") }))
	t.Cleanup(server.Close)
	issuer, key, browser := startTelling(t, server.URL, server.Client())
	v := visit(t, issuer, key, browser)
	if page := read(t, post(t, browser, issuer+"/signout", nil)); !strings.Contains(page, "Sallyport was told") {
		t.Errorf("the page says:\n%s", page)
	}
	var said struct {
		Sub, SID, JTI string
		Nonce         *string
		Events        map[string]any
	}
	claimsOf(t, <-heard, &said)
	if said.Sub != "ines" || said.SID != v.claims().SID || said.JTI == "" || said.Nonce != nil || len(said.Events) != 1 {
		t.Errorf("the logout token says %+v", said)
	}
}

func post(t *testing.T, browser *http.Client, address string, form url.Values) *http.Response {
	t.Helper()
	response, err := browser.PostForm(address, form)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}
