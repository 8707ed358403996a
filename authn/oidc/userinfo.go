package oidc

import (
	"context"
	"io"
	"mime"
	"net/http"
	"slices"

	"golang.org/x/oauth2"

	"sallyport/authn/remote"
)

// notFromUserinfo are claims that mean something only in an ID token.
var notFromUserinfo = []string{
	"iss", "aud", "exp", "iat", "nbf", "nonce", "azp", "at_hash", "c_hash", "auth_time", "acr", "amr", "sid",
}

// addUserinfo asks the userinfo endpoint where the configuration wants it, and adds what the ID token did not say.
func (p *Provider) addUserinfo(ctx context.Context, d *discovered, answer *oauth2.Token, said *statement) *Failure {
	if !p.cfg.Userinfo {
		return nil
	}
	body, failure := p.askUserinfo(ctx, d, answer.AccessToken)
	if failure != nil {
		return failure
	}
	var claims map[string]any
	if err := unambiguous(body, &claims); err != nil {
		return fail(ProviderInvalidAnswer, "reading userinfo: %s", excerpt(err.Error()))
	}
	if claims["sub"] != any(said.subject) { // OpenID Connect Core §5.3.2
		return fail(SubjectMismatch, "userinfo answered for somebody else")
	}
	p.merge(said, claims)
	return nil
}

// askUserinfo returns the claims as JSON. A provider may sign them; encrypted ones are not asked for and not read.
func (p *Provider) askUserinfo(ctx context.Context, d *discovered, accessToken string) ([]byte, *Failure) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.userinfo, nil)
	if err != nil {
		return nil, fail(DiscoveryInvalid, "userinfo_endpoint is no URL")
	}
	req.Header.Set("Authorization", "Bearer "+accessToken)
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, callFailure("asking userinfo", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fail(ProviderInvalidAnswer, "userinfo answered %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, remote.MaxAnswer+1))
	if err != nil {
		return nil, callFailure("reading userinfo", err)
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "application/jwt" {
		return p.signedUserinfo(ctx, d, string(body))
	}
	return body, nil
}

// signedUserinfo verifies userinfo that is signed: it names its issuer and us (OpenID Connect Core §5.3.2).
func (p *Provider) signedUserinfo(ctx context.Context, d *discovered, raw string) ([]byte, *Failure) {
	if failure := checkHeader(raw, d.algorithms, ""); failure != nil {
		return nil, failure
	}
	keys := &watchedKeys{keys: d.keys}
	body, err := keys.VerifySignature(ctx, raw)
	if err != nil {
		return nil, keys.failure()
	}
	audience := keys.claims["aud"]
	if keys.claims["iss"] != any(p.cfg.Issuer) || audience != any(p.cfg.ClientID) && !slices.Contains(texts(audience), p.cfg.ClientID) {
		return nil, fail(ProviderInvalidAnswer, "signed userinfo is of another issuer or for another client")
	}
	return body, nil
}

// merge adds claims that are absent so far. An address and its being verified come from one place: neither vouches for
// the other's.
func (p *Provider) merge(said *statement, claims map[string]any) {
	email, verified := p.cfg.Claims.Email, p.cfg.Claims.EmailVerified
	switch text(said.claims, email) {
	case "":
		delete(said.claims, verified)
	case text(claims, email):
	default:
		delete(claims, verified)
	}
	for name, value := range claims {
		if _, have := said.claims[name]; !have && !slices.Contains(notFromUserinfo, name) {
			said.claims[name] = value
		}
	}
}
