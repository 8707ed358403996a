package provider_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"sallyport/cmd/demo/provider"
)

const redirectURL = "https://auth.sallyport.localhost:8443/.sallyport/callback/demo"
const signedOut = "https://auth.sallyport.localhost:8443/.sallyport/signedout"

var ines = provider.Person{Username: "ines", Password: "right", Name: "Ines Okafor", Email: "ines@harbour.example", Groups: []string{"staff"}}

// newKey is a key of the gateway's: its signer and the set that publishes it.
func newKey(t *testing.T) (jose.Signer, []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: private, KeyID: "client"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: private.Public(), KeyID: "client", Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	return signer, set
}

// proof authenticates the gateway at the token endpoint: RFC 7523 §2.2.
func proof(t *testing.T, signer jose.Signer, issuer string) []oauth2.AuthCodeOption {
	t.Helper()
	claims, err := json.Marshal(map[string]any{"iss": "sallyport", "sub": "sallyport", "aud": issuer, "jti": rand.Text(),
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	assertion, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return []oauth2.AuthCodeOption{
		oauth2.SetAuthURLParam("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
		oauth2.SetAuthURLParam("client_assertion", assertion),
	}
}

// start serves a provider and returns its issuer, the gateway's key and a client that follows no redirect.
func start(t *testing.T) (issuer string, key jose.Signer, browser *http.Client) {
	t.Helper()
	return startTelling(t, "", nil)
}

// startTelling is start for a gateway that hears of sign-outs.
func startTelling(t *testing.T, backChannel string, gatewayHears *http.Client) (issuer string, key jose.Signer, browser *http.Client) {
	t.Helper()
	key, published := newKey(t)
	server := httptest.NewUnstartedServer(nil)
	issuer = "http://" + server.Listener.Addr().String()
	handler, err := provider.New(provider.Options{Issuer: issuer, ClientID: "sallyport", ClientKeys: published, RedirectURL: redirectURL, SignedOut: signedOut,
		People: []provider.Person{ines}, BackChannelURL: backChannel, BackChannel: gatewayHears})
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = handler
	server.Start()
	t.Cleanup(server.Close)
	return issuer, key, &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func gateway(t *testing.T, issuer string) (*oidc.Provider, *oauth2.Config) {
	t.Helper()
	p, err := oidc.NewProvider(t.Context(), issuer)
	if err != nil {
		t.Fatal(err)
	}
	return p, &oauth2.Config{ClientID: "sallyport", Endpoint: p.Endpoint(), RedirectURL: redirectURL, Scopes: []string{"openid", "profile", "email"}}
}

func TestCodeFlowTellsWhoSignedIn(t *testing.T) {
	issuer, key, browser := start(t)
	p, config := gateway(t, issuer)
	verifier := oauth2.GenerateVerifier()
	code := signIn(t, browser, config.AuthCodeURL("the-state", oauth2.S256ChallengeOption(verifier), oidc.Nonce("the-nonce")))

	tokens, err := config.Exchange(t.Context(), code, append(proof(t, key, issuer), oauth2.VerifierOption(verifier))...)
	if err != nil {
		t.Fatal(err)
	}
	idToken, err := p.Verifier(&oidc.Config{ClientID: "sallyport"}).Verify(t.Context(), tokens.Extra("id_token").(string))
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Nonce, Name, Email string
		Verified           bool `json:"email_verified"`
		Groups, AMR        []string
	}
	if err := idToken.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	if idToken.Subject != "ines" || claims.Nonce != "the-nonce" || claims.Name != ines.Name || claims.Email != ines.Email || !claims.Verified || !slices.Equal(claims.Groups, ines.Groups) {
		t.Errorf("ID token says %q, %+v", idToken.Subject, claims)
	}
	if _, err := config.Exchange(t.Context(), code, append(proof(t, key, issuer), oauth2.VerifierOption(verifier))...); err == nil {
		t.Error("a code was redeemed twice")
	}
}

func TestCodeIsRedeemedOnlyByItsClient(t *testing.T) {
	issuer, key, browser := start(t)
	_, config := gateway(t, issuer)
	stranger, _ := newKey(t)
	for name, options := range map[string]func(verifier string) []oauth2.AuthCodeOption{
		"another verifier": func(string) []oauth2.AuthCodeOption {
			return append(proof(t, key, issuer), oauth2.VerifierOption(oauth2.GenerateVerifier()))
		},
		"another key": func(verifier string) []oauth2.AuthCodeOption {
			return append(proof(t, stranger, issuer), oauth2.VerifierOption(verifier))
		},
		"a proof for another provider": func(verifier string) []oauth2.AuthCodeOption {
			return append(proof(t, key, "https://login.corp.example"), oauth2.VerifierOption(verifier))
		},
		"no proof": func(verifier string) []oauth2.AuthCodeOption {
			return []oauth2.AuthCodeOption{oauth2.VerifierOption(verifier)}
		},
	} {
		verifier := oauth2.GenerateVerifier()
		code := signIn(t, browser, config.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier)))
		if _, err := config.Exchange(t.Context(), code, options(verifier)...); err == nil {
			t.Errorf("%s: the code was redeemed", name)
		}
	}
}

func TestSignInNeedsPKCEAndTheRegisteredAddress(t *testing.T) {
	issuer, _, browser := start(t)
	_, config := gateway(t, issuer)
	if to := get(t, browser, config.AuthCodeURL("s")).Header.Get("Location"); !strings.Contains(to, "error=invalid_request") {
		t.Errorf("without PKCE the browser went to %q, want an error", to)
	}
	stranger := *config
	stranger.RedirectURL = "https://evil.example/"
	response := get(t, browser, stranger.AuthCodeURL("s", oauth2.S256ChallengeOption(oauth2.GenerateVerifier())))
	if to := response.Header.Get("Location"); response.StatusCode != http.StatusBadRequest || to != "" {
		t.Errorf("an unregistered address: %d to %q, want 400 and no redirect", response.StatusCode, to)
	}
}

func TestWrongPasswordStaysOnThePage(t *testing.T) {
	issuer, _, browser := start(t)
	_, config := gateway(t, issuer)
	page := get(t, browser, config.AuthCodeURL("s", oauth2.S256ChallengeOption(oauth2.GenerateVerifier()))).Header.Get("Location")
	response := submit(t, browser, issuer, page, "wrong")
	body := read(t, response)
	if response.StatusCode != http.StatusForbidden || !strings.Contains(body, "do not go together") || !strings.Contains(body, `value="ines"`) {
		t.Errorf("a wrong password: %d with %s", response.StatusCode, body)
	}
	if again := submit(t, browser, issuer, page, "right"); again.StatusCode != http.StatusSeeOther {
		t.Errorf("the right password after a wrong one: %d, want %d", again.StatusCode, http.StatusSeeOther)
	}
	unknown := get(t, browser, issuer+"/login?id=nonsense")
	if unknown.StatusCode != http.StatusNotFound {
		t.Errorf("an unknown sign-in: %d, want 404", unknown.StatusCode)
	}
}

func TestDiscoveryNamesWhatIsServed(t *testing.T) {
	issuer, _, browser := start(t)
	var doc map[string]any
	if err := json.Unmarshal([]byte(read(t, get(t, browser, issuer+"/.well-known/openid-configuration"))), &doc); err != nil {
		t.Fatal(err)
	}
	if doc["issuer"] != issuer {
		t.Errorf("issuer = %v, want %s", doc["issuer"], issuer)
	}
	for key, value := range doc {
		if !strings.HasSuffix(key, "_endpoint") && key != "jwks_uri" {
			continue
		}
		if status := get(t, browser, value.(string)).StatusCode; status == http.StatusNotFound {
			t.Errorf("%s names %v, which is not served", key, value)
		}
	}
	for _, path := range []string{"/userinfo", "/oauth/introspect", "/revoke", "/device_authorization"} {
		if status := get(t, browser, issuer+path).StatusCode; status != http.StatusNotFound {
			t.Errorf("%s = %d, want 404: it was cut", path, status)
		}
	}
}

// signIn walks through the login page and returns the code that the gateway receives.
func signIn(t *testing.T, browser *http.Client, address string) string {
	t.Helper()
	toLogin := get(t, browser, address)
	issuer := toLogin.Request.URL.Scheme + "://" + toLogin.Request.URL.Host
	toCallback := submit(t, browser, issuer, toLogin.Header.Get("Location"), "right")
	if toCallback.StatusCode != http.StatusSeeOther {
		t.Fatalf("login answered %d: %s", toCallback.StatusCode, read(t, toCallback))
	}
	toGateway := get(t, browser, toCallback.Header.Get("Location"))
	back, err := url.Parse(toGateway.Header.Get("Location"))
	if err != nil || !strings.HasPrefix(back.String(), redirectURL+"?") || back.Query().Get("code") == "" || back.Query().Get("state") == "" {
		t.Fatalf("the provider sent the browser to %q (%d)", back, toGateway.StatusCode)
	}
	return back.Query().Get("code")
}

var hiddenID = regexp.MustCompile(`name="id" value="([^"]+)"`)

// submit reads the sign-in's id from the page and sends the form.
func submit(t *testing.T, browser *http.Client, issuer, page, password string) *http.Response {
	t.Helper()
	if !strings.HasPrefix(page, "/login?") {
		t.Fatalf("the provider sent the browser to %q, want its login page", page)
	}
	id := hiddenID.FindStringSubmatch(read(t, get(t, browser, issuer+page)))
	if id == nil {
		t.Fatal("the login page has no id")
	}
	form := url.Values{"id": {id[1]}, "username": {"ines"}, "password": {password}}
	response, err := browser.PostForm(issuer+"/login", form)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

func get(t *testing.T, browser *http.Client, address string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := browser.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

func read(t *testing.T, response *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
