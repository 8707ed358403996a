// Package provider is the demo's OpenID provider: zitadel/oidc's library cut down to one client, the code flow with PKCE,
// refresh tokens that work
// once, signing out from both sides, and a login page that knows a handful of made-up people and asks for a second factor
// when the gateway wants one. It keeps everything in memory and is no provider for real use:
// its passwords are printed on its own login page.
package provider

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// Person is somebody who can sign in.
type Person struct {
	Username, Password string
	Name, Email        string
	Groups             []string
	About              string // a word or two for the login page
}

// Options say who the provider is and whom it knows.
type Options struct {
	Issuer      string // http://localhost:PORT
	ClientID    string // the gateway
	ClientKeys  []byte // JSON Web Key Set that the gateway proves itself with (private_key_jwt)
	RedirectURL string // where the gateway takes the code
	SignedOut   string // where the gateway lets browsers come back to after they signed out here
	Title       string // what people call it
	People      []Person
	// BackChannelURL is where the gateway is told that somebody signed out here, by BackChannel; nil: it is not told.
	BackChannelURL string
	BackChannel    *http.Client
}

// New makes a provider with a fresh signing key.
func New(opts Options) (http.Handler, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	store, err := newStore(opts, key)
	if err != nil {
		return nil, err
	}
	config := &op.Config{CodeMethodS256: true, AuthMethodPrivateKeyJWT: true, GrantTypeRefreshToken: true, SupportedScopes: scopes, SupportedClaims: claims}
	rand.Read(config.CryptoKey[:])
	provider, err := op.NewProvider(config, store, op.StaticIssuer(opts.Issuer),
		op.WithAllowInsecure(),  // http, on loopback
		op.WithCORSOptions(nil)) // no script of another origin has business here
	if err != nil {
		return nil, fmt.Errorf("making the OpenID provider: %w", err)
	}
	login := &login{store: store, opts: opts, finish: op.AuthCallbackURL(provider)}
	withIssuer := op.NewIssuerInterceptor(provider.IssuerFromRequest).HandlerFunc

	mux := http.NewServeMux()
	mux.HandleFunc("GET "+oidc.DiscoveryEndpoint, withIssuer(func(w http.ResponseWriter, r *http.Request) {
		discover(r.Context(), w, provider, store)
	}))
	for _, endpoint := range []*op.Endpoint{provider.AuthorizationEndpoint(), provider.TokenEndpoint(), provider.KeysEndpoint(), provider.EndSessionEndpoint()} {
		mux.Handle(endpoint.Relative(), provider)
	}
	mux.Handle("GET "+provider.AuthorizationEndpoint().Relative()+"/callback", provider)
	sameOrigin := http.NewCrossOriginProtection()
	mux.HandleFunc("GET "+loginPath, withIssuer(login.show))
	mux.Handle("POST "+loginPath, sameOrigin.Handler(withIssuer(login.submit)))
	mux.HandleFunc("GET /{$}", login.home)
	mux.Handle("POST /signout", sameOrigin.Handler(http.HandlerFunc(login.signOut)))
	mux.Handle("POST /disable", sameOrigin.Handler(http.HandlerFunc(login.disable)))
	return store.withSession(mux), nil
}

var (
	scopes = []string{oidc.ScopeOpenID, oidc.ScopeProfile, oidc.ScopeEmail, oidc.ScopeOfflineAccess}
	claims = []string{"sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "sid", "name", "preferred_username", "email", "email_verified", "groups"}
)

// discover answers with what is left after the cut.
func discover(ctx context.Context, w http.ResponseWriter, provider *op.Provider, store *store) {
	full := op.CreateDiscoveryConfig(ctx, provider, store)
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(&oidc.DiscoveryConfiguration{ // the client may have gone; there is nobody else to tell
		Issuer:                            full.Issuer,
		AuthorizationEndpoint:             full.AuthorizationEndpoint,
		TokenEndpoint:                     full.TokenEndpoint,
		EndSessionEndpoint:                full.EndSessionEndpoint,
		JwksURI:                           full.JwksURI,
		ScopesSupported:                   full.ScopesSupported,
		ResponseTypesSupported:            []string{string(oidc.ResponseTypeCode)},
		GrantTypesSupported:               []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken},
		ACRValuesSupported:                []string{acrPassword, acrCode},
		SubjectTypesSupported:             full.SubjectTypesSupported,
		IDTokenSigningAlgValuesSupported:  full.IDTokenSigningAlgValuesSupported,
		TokenEndpointAuthMethodsSupported: []oidc.AuthMethod{oidc.AuthMethodPrivateKeyJWT},
		ClaimsSupported:                   full.ClaimsSupported,
		CodeChallengeMethodsSupported:     full.CodeChallengeMethodsSupported,

		TokenEndpointAuthSigningAlgValuesSupported: []string{string(jose.ES256)},

		BackChannelLogoutSupported: true, BackChannelLogoutSessionSupported: true,
	})
}

// client is the one client, the gateway.
type client struct{ opts Options }

func (c client) GetID() string                       { return c.opts.ClientID }
func (c client) RedirectURIs() []string              { return []string{c.opts.RedirectURL} }
func (c client) PostLogoutRedirectURIs() []string    { return []string{c.opts.SignedOut} }
func (c client) ApplicationType() op.ApplicationType { return op.ApplicationTypeWeb }
func (c client) AuthMethod() oidc.AuthMethod         { return oidc.AuthMethodPrivateKeyJWT }
func (c client) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}
func (c client) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken}
}
func (c client) LoginURL(id string) string                                    { return loginPath + "?id=" + id }
func (c client) AccessTokenType() op.AccessTokenType                          { return op.AccessTokenTypeBearer }
func (c client) IDTokenLifetime() time.Duration                               { return tokenLife }
func (c client) DevMode() bool                                                { return false }
func (c client) IsScopeAllowed(string) bool                                   { return false }
func (c client) IDTokenUserinfoClaimsAssertion() bool                         { return true } // there is no userinfo endpoint to ask
func (c client) ClockSkew() time.Duration                                     { return 0 }
func (c client) RestrictAdditionalIdTokenScopes() func([]string) []string     { return allScopes }
func (c client) RestrictAdditionalAccessTokenScopes() func([]string) []string { return allScopes }

func allScopes(s []string) []string { return s }
