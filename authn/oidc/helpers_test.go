package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport/test/fakeidp"
)

const redirectURL = "https://auth.corp.example/.sallyport/callback/corp"

var testClient = fakeidp.Client{ID: "sallyport", Secret: "s3cret & more%", RedirectURI: redirectURL}

// configFor is what the loader would make of a short configuration.
func configFor(idp *fakeidp.Provider) Config {
	return Config{
		Name: "corp", Issuer: idp.Issuer, ClientID: idp.Client.ID, ClientSecret: Secret(idp.Client.Secret),
		AssertionAudience: AudienceIssuer,
		Scopes:            []string{"openid", "profile", "email"}, Skew: time.Minute,
		Claims: Claims{Groups: "groups", Email: "email", EmailVerified: "email_verified", Name: "name"},
		MFA:    MFA{AMR: []string{"mfa"}},
	}
}

func newProvider(t *testing.T, cfg Config, opts Options) *Provider {
	t.Helper()
	opts.RedirectURL = redirectURL
	p, err := New(cfg, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.client.CloseIdleConnections)
	return p
}

// discoveredProvider is a provider that was reached.
func discoveredProvider(t *testing.T, idp *fakeidp.Provider, change func(*Config)) *Provider {
	t.Helper()
	cfg := configFor(idp)
	if change != nil {
		change(&cfg)
	}
	p := newProvider(t, cfg, Options{})
	if err := p.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// visit sends a browser to the provider and returns what it brings back.
func visit(t *testing.T, p *Provider, f *Flow) Callback {
	t.Helper()
	to, err := p.AuthCodeURL(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Transport: p.client.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := browser.Get(to)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	back, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || resp.StatusCode != http.StatusFound || !strings.HasPrefix(back.String(), p.redirectURL) {
		t.Fatalf("provider answered %d, Location %q", resp.StatusCode, back)
	}
	cb, err := ParseCallback(back.RawQuery)
	if err != nil {
		t.Fatal(err)
	}
	return cb
}

func signIn(t *testing.T, p *Provider) (*Result, error) {
	t.Helper()
	f := p.NewFlow()
	return p.Finish(t.Context(), f, visit(t, p, f))
}

func mustSignIn(t *testing.T, p *Provider) *Result {
	t.Helper()
	result, err := signIn(t, p)
	if err != nil {
		t.Fatalf("sign-in failed: %v", err)
	}
	return result
}

// wantCode fails unless err is a failure with the code whose text repeats no token.
func wantCode(t *testing.T, err error, want Code) {
	t.Helper()
	failure, ok := errors.AsType[*Failure](err)
	if !ok {
		t.Fatalf("got error %v, want failure %s", err, want)
	}
	if failure.Code != want {
		t.Errorf("got code %s (%v), want %s", failure.Code, failure, want)
	}
	for _, secret := range []string{"eyJ", "access-", "s3cret"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error repeats %q: %v", secret, err)
		}
	}
	if len(err.Error()) > 1000 {
		t.Errorf("the error is %d bytes long", len(err.Error()))
	}
}

// testSigner is a key that would live in the key process.
type testSigner struct {
	key  *ecdsa.PrivateKey
	fail error
}

func newSigner(t *testing.T) *testSigner {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &testSigner{key: key}
}

func (s *testSigner) KeyID() string            { return "client-1" }
func (s *testSigner) Public() crypto.PublicKey { return s.key.Public() }
func (s *testSigner) SignJWT(_ context.Context, input []byte) ([]byte, error) {
	if s.fail != nil {
		return nil, s.fail
	}
	digest := sha256.Sum256(input)
	r, q, err := ecdsa.Sign(rand.Reader, s.key, digest[:])
	if err != nil {
		return nil, err
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	q.FillBytes(sig[32:])
	return sig, nil
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("never %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
