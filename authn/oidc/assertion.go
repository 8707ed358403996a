package oidc

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sallyport/authn/token"
)

const (
	// assertionLifetime is short since a client assertion is used once, at once.
	assertionLifetime = time.Minute
	assertionType     = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // RFC 7523 §2.2
	maxTokenRequest   = 64 << 10
)

// assertingTransport adds a fresh client assertion to every POST: the only ones are those to the token endpoint, for
// codes and refresh tokens alike. The oauth2 package knows client secrets only.
type assertingTransport struct {
	base     http.RoundTripper
	signer   token.Signer
	clientID string
	audience func(tokenEndpoint string) string
	now      func() time.Time
}

func (t *assertingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodPost {
		return t.base.RoundTrip(req)
	}
	signed, err := t.sign(req)
	if err != nil {
		return nil, err
	}
	return t.base.RoundTrip(signed)
}

// sign returns a copy of a token request with the assertion in its form.
func (t *assertingTransport) sign(req *http.Request) (*http.Request, error) {
	defer req.Body.Close()
	body, err := io.ReadAll(io.LimitReader(req.Body, maxTokenRequest+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxTokenRequest {
		return nil, errors.New("token request is too large")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, fmt.Errorf("reading token request: %w", err)
	}
	assertion, err := t.assertion(req.Context(), req.URL.String())
	if err != nil {
		return nil, &Failure{Code: KeyUnavailable, Err: err}
	}
	form.Set("client_id", t.clientID)
	form.Set("client_assertion_type", assertionType)
	form.Set("client_assertion", assertion)

	encoded := []byte(form.Encode())
	out := req.Clone(req.Context())
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(encoded)), int64(len(encoded))
	out.GetBody = nil // an assertion is used once
	return out, nil
}

// assertion proves who the client is (OpenID Connect Core §9, RFC 7523 §3).
func (t *assertingTransport) assertion(ctx context.Context, tokenEndpoint string) (string, error) {
	now := t.now()
	return token.Sign(ctx, t.signer, jwt.RegisteredClaims{
		Issuer:    t.clientID,
		Subject:   t.clientID,
		Audience:  jwt.ClaimStrings{t.audience(tokenEndpoint)},
		ID:        rand.Text(),
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(now.Add(assertionLifetime)),
	})
}
