package oidcpeer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"sallyport/authn/oidc"
)

const redirectURL = "http://127.0.0.1:1/.sallyport/callback/corp" // never dialled: the browser stops there

// assertionKey is a key that would live in the key process.
type assertionKey struct{ key *ecdsa.PrivateKey }

func newAssertionKey(t *testing.T) assertionKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return assertionKey{key}
}

func (k assertionKey) KeyID() string            { return "client-1" }
func (k assertionKey) Public() crypto.PublicKey { return k.key.Public() }

func (k assertionKey) SignJWT(_ context.Context, input []byte) ([]byte, error) {
	digest := sha256.Sum256(input)
	r, s, err := ecdsa.Sign(rand.Reader, k.key, digest[:])
	if err != nil {
		return nil, err
	}
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...), nil
}

func newProvider(t *testing.T, cfg oidc.Config, key assertionKey) *oidc.Provider {
	t.Helper()
	cfg.Name, cfg.Skew = "corp", time.Minute
	cfg.Claims = oidc.Claims{Groups: "groups", Email: "email", EmailVerified: "email_verified", Name: "name"}
	p, err := oidc.New(cfg, oidc.Options{RedirectURL: redirectURL, Assertion: key})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func discover(t *testing.T, p *oidc.Provider) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		err := p.Discover(t.Context())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// signIn is a whole sign-in by a new browser.
func signIn(t *testing.T, p *oidc.Provider, fill func(page string) url.Values) *oidc.Result {
	t.Helper()
	f := p.NewFlow()
	result, err := p.Finish(t.Context(), f, visit(t, p, f, fill))
	if err != nil {
		t.Fatalf("sign-in: %v", err)
	}
	return result
}

// visit walks from the authorization request to the callback: it follows redirects and sends each form on the way as fill
// says.
func visit(t *testing.T, p *oidc.Provider, f *oidc.Flow, fill func(page string) url.Values) oidc.Callback {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	at, err := p.AuthCodeURL(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	var form url.Values
	for range 20 {
		next, page := step(t, browser, at, form)
		if callback, found := strings.CutPrefix(next, redirectURL+"?"); found {
			cb, err := oidc.ParseCallback(callback)
			if err != nil {
				t.Fatal(err)
			}
			return cb
		}
		if at, form = next, nil; page != "" {
			at, form = next, fill(page)
		}
	}
	t.Fatalf("the provider never came to an end; last at %s", at)
	return oidc.Callback{}
}

// step opens a page, or sends a form there, and returns where to go next: the redirect's target, or the target of the form
// on the page.
func step(t *testing.T, browser *http.Client, at string, form url.Values) (next, page string) {
	t.Helper()
	var resp *http.Response
	var err error
	if form == nil {
		resp, err = browser.Get(at)
	} else {
		resp, err = browser.PostForm(at, form)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	target := resp.Header.Get("Location")
	if target == "" {
		found := formAction.FindSubmatch(body)
		if found == nil {
			t.Fatalf("%s answered %d without a form: %s", at, resp.StatusCode, body)
		}
		target, page = string(found[1]), string(body)
	}
	absolute, err := resp.Request.URL.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	return absolute.String(), page
}
