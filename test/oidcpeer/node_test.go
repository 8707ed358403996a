package oidcpeer

import (
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
	"testing"

	"sallyport/authn"
	"sallyport/authn/oidc"
)

// startNode starts the provider as it is shipped, on a port; 0 takes a free one.
func startNode(t *testing.T, port int, key assertionKey, claimsInIDToken bool) *Peer {
	t.Helper()
	return Start(t, Options{Port: port, RedirectURI: redirectURL, ClientKey: publicJWK(t, key), ClaimsInIDToken: claimsInIDToken})
}

func publicJWK(t *testing.T, key assertionKey) map[string]string {
	t.Helper()
	point, err := key.key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return map[string]string{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": key.KeyID(), "x": b64(point[1:33]), "y": b64(point[33:])}
}

// fillDevelopment answers the pages that oidc-provider ships for development.
func fillDevelopment(person string) func(page string) url.Values {
	return func(page string) url.Values {
		if strings.Contains(page, `value="login"`) {
			return url.Values{"prompt": {"login"}, "login": {person}, "password": {"any"}}
		}
		return url.Values{"prompt": {"consent"}}
	}
}

func nodeConfig(issuer, client string) oidc.Config {
	cfg := oidc.Config{Issuer: issuer, ClientID: client, Scopes: []string{"openid", "profile", "email"}}
	switch client {
	case "basic":
		cfg.ClientSecret = "a secret & more"
	case "post":
		cfg.ClientSecret, cfg.ClientAuth = "a secret & more", oidc.ClientSecretPost
	}
	return cfg
}

func TestSignInAtOIDCProviderWithEveryClientAuthentication(t *testing.T) {
	key := newAssertionKey(t)
	peer := startNode(t, 0, key, true)
	for _, client := range []string{"basic", "post", "key"} {
		t.Run(client, func(t *testing.T) {
			p := newProvider(t, nodeConfig(peer.Issuer, client), key)
			discover(t, p)
			result := signIn(t, p, fillDevelopment("alice"))
			wantAlice(t, result.Identity)

			renewed, err := p.Refresh(t.Context(), result.Identity, result.RefreshToken)
			if err != nil {
				t.Fatalf("refresh: %v", err)
			}
			wantAlice(t, renewed.Identity)
			if renewed.RefreshToken == "" {
				t.Error("no refresh token after a refresh")
			}
		})
	}
	t.Run("code used twice", func(t *testing.T) {
		p := newProvider(t, nodeConfig(peer.Issuer, "basic"), key)
		discover(t, p)
		f := p.NewFlow()
		cb := visit(t, p, f, fillDevelopment("mallory"))
		first, err := p.Finish(t.Context(), f, cb)
		if err != nil {
			t.Fatal(err)
		}
		if id := first.Identity; id.EmailVerified || id.Groups != nil || id.Subject != "mallory" {
			t.Errorf("got %+v", id)
		}
		_, err = p.Finish(t.Context(), f, cb)
		wantCode(t, err, oidc.CodeRejected)
		// RFC 6749 §4.1.2: what was issued for the code is revoked with it.
		_, err = p.Refresh(t.Context(), first.Identity, first.RefreshToken)
		wantCode(t, err, oidc.RefreshRejected)
	})
	t.Run("verifier of another flow", func(t *testing.T) {
		p := newProvider(t, nodeConfig(peer.Issuer, "key"), key)
		discover(t, p)
		f := p.NewFlow()
		cb := visit(t, p, f, fillDevelopment("alice"))
		f.Verifier = p.NewFlow().Verifier
		_, err := p.Finish(t.Context(), f, cb)
		wantCode(t, err, oidc.CodeRejected)
	})
	t.Run("key of another client", func(t *testing.T) {
		p := newProvider(t, nodeConfig(peer.Issuer, "key"), newAssertionKey(t))
		discover(t, p)
		f := p.NewFlow()
		_, err := p.Finish(t.Context(), f, visit(t, p, f, fillDevelopment("alice")))
		wantCode(t, err, oidc.ClientRejected)
	})
}

func TestSignInAtOIDCProviderWithClaimsInUserinfo(t *testing.T) {
	key := newAssertionKey(t)
	peer := startNode(t, 0, key, false)
	cfg := nodeConfig(peer.Issuer, "key")
	cfg.Userinfo = true
	p := newProvider(t, cfg, key)
	discover(t, p)
	result := signIn(t, p, fillDevelopment("alice"))
	wantAlice(t, result.Identity)
	renewed, err := p.Refresh(t.Context(), result.Identity, result.RefreshToken)
	if err != nil {
		t.Fatal(err)
	}
	wantAlice(t, renewed.Identity)
}

func TestOIDCProviderRestartsWithAnotherKey(t *testing.T) {
	key := newAssertionKey(t)
	peer := startNode(t, 0, key, true)
	p := newProvider(t, nodeConfig(peer.Issuer, "key"), key)
	discover(t, p)
	before := signIn(t, p, fillDevelopment("alice"))
	f := p.NewFlow()
	cb := visit(t, p, f, fillDevelopment("alice"))
	port := peer.Port(t)
	peer.Stop()

	_, err := p.Finish(t.Context(), f, cb)
	wantCode(t, err, oidc.ProviderUnreachable)
	wantCode(t, p.Ready(), oidc.ProviderUnreachable)
	_, err = p.Refresh(t.Context(), before.Identity, before.RefreshToken)
	wantCode(t, err, oidc.ProviderUnreachable)

	startNode(t, port, key, true)
	wantAlice(t, signIn(t, p, fillDevelopment("alice")).Identity) // without discovering anew
	discover(t, p)
	if err := p.Ready(); err != nil {
		t.Errorf("ready: %v", err)
	}
	_, err = p.Refresh(t.Context(), before.Identity, before.RefreshToken) // the provider has forgotten it
	wantCode(t, err, oidc.RefreshRejected)
}

func wantAlice(t *testing.T, id *authn.Identity) {
	t.Helper()
	if id.ID() != "corp|alice" || id.Email != "alice@corp.example" || !id.EmailVerified || id.Name != "Alice" ||
		strings.Join(id.Groups, " ") != "staff wiki" || id.GroupsIncomplete {
		t.Errorf("got %+v, want Alice with her groups", id)
	}
}

func wantCode(t *testing.T, err error, want oidc.Code) {
	t.Helper()
	failure, ok := errors.AsType[*oidc.Failure](err)
	if !ok || failure.Code != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
