package oidc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"sallyport/authn"
)

// statement is what a provider says about one person, taken from a verified ID token.
type statement struct {
	subject  string
	nonce    string
	authTime time.Time // zero: the provider does not say
	claims   map[string]any
	before   *authn.Identity // on refresh: what holds where the provider is silent now
}

func idTokenOf(answer *oauth2.Token) string {
	raw, _ := answer.Extra("id_token").(string)
	return raw
}

// readToken verifies the ID token of a token answer (OpenID Connect Core §3.1.3.7), the nonce excepted.
func (p *Provider) readToken(ctx context.Context, d *discovered, answer *oauth2.Token) (*statement, *Failure) {
	raw := idTokenOf(answer)
	if raw == "" {
		return nil, fail(TokenMissing, "token endpoint sent no id_token")
	}
	t, failure := p.verify(ctx, d, raw)
	if failure != nil {
		return nil, failure
	}
	if t.AccessTokenHash != "" && t.VerifyAccessToken(answer.AccessToken) != nil { // §3.1.3.8
		return nil, fail(TokenInvalid, "at_hash is not that of the access token")
	}
	said := &statement{subject: t.Subject}
	if err := t.Claims(exact(&said.claims)); err != nil {
		return nil, fail(TokenInvalid, "reading claims: %s", excerpt(err.Error()))
	}
	if failure := p.checkClaims(t, said); failure != nil {
		return nil, failure
	}
	return said, nil
}

// verify checks signature, algorithm, issuer, audience and exp.
func (p *Provider) verify(ctx context.Context, d *discovered, raw string) (*gooidc.IDToken, *Failure) {
	keys := &watchedKeys{KeySet: d.keys}
	verifier := gooidc.NewVerifier(p.cfg.Issuer, keys, &gooidc.Config{
		ClientID:             p.cfg.ClientID,
		SupportedSigningAlgs: d.algorithms,
		Now:                  func() time.Time { return p.now().Add(-p.cfg.Skew) },
	})
	t, err := verifier.Verify(ctx, raw)
	if err == nil {
		return t, nil
	}
	if keys.err != nil {
		if f := callFailure("fetching the provider's keys", keys.err); f.Code == ProviderUnreachable {
			return nil, f
		}
	}
	if _, expired := errors.AsType[*gooidc.TokenExpiredError](err); expired {
		return nil, fail(TokenExpired, "exp is in the past")
	}
	return nil, fail(TokenInvalid, "%s", excerpt(err.Error()))
}

// watchedKeys keeps the error of a key set, whose chain the verifier does not pass on.
type watchedKeys struct {
	gooidc.KeySet
	err error
}

func (k *watchedKeys) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := k.KeySet.VerifySignature(ctx, jwt)
	k.err = err
	return payload, err
}

// checkClaims does what the verifier leaves to its caller.
func (p *Provider) checkClaims(t *gooidc.IDToken, said *statement) *Failure {
	latest := p.now().Add(p.cfg.Skew)
	azp, hasAZP := said.claims["azp"]
	switch {
	case said.claims["sub"] != any(t.Subject) || said.claims["iss"] != any(t.Issuer):
		return fail(TokenInvalid, "claims differ in the case of their names only") // Go's decoder takes "Sub" for "sub"
	case t.Subject == "":
		return fail(SubjectInvalid, "sub is empty")
	case hasAZP && azp != any(p.cfg.ClientID), !hasAZP && len(t.Audience) > 1: // §3.1.3.7 (4), (5)
		return fail(TokenParty, "azp is not this client")
	case secondsClaim(said.claims, "iat").IsZero(), secondsClaim(said.claims, "exp").IsZero():
		return fail(TokenInvalid, "iat or exp is no number")
	}
	said.nonce, _ = said.claims["nonce"].(string)
	said.authTime = secondsClaim(said.claims, "auth_time")
	for _, at := range []time.Time{secondsClaim(said.claims, "iat"), secondsClaim(said.claims, "nbf"), said.authTime} {
		if at.After(latest) {
			return fail(TokenNotYet, "iat, nbf or auth_time is in the future")
		}
	}
	return nil
}

// checkAge enforces max_age (§3.1.3.7 (13)). The provider must say when people authenticated if it is asked.
func (p *Provider) checkAge(said *statement) *Failure {
	if p.cfg.MaxAge > 0 && p.now().Sub(said.authTime) > p.cfg.MaxAge+p.cfg.Skew {
		return fail(AuthTooOld, "auth_time is absent or too long ago")
	}
	return nil
}

// readRefreshed reads a refresh answer, which may lack an ID token (§12.2). It must speak of the same person.
func (p *Provider) readRefreshed(ctx context.Context, d *discovered, answer *oauth2.Token, before *authn.Identity) (*statement, *Failure) {
	said := &statement{subject: before.Subject, claims: map[string]any{}}
	if idTokenOf(answer) != "" {
		var failure *Failure
		if said, failure = p.readToken(ctx, d, answer); failure != nil {
			return nil, failure
		}
	}
	said.before = before
	if said.subject != before.Subject {
		return nil, fail(SubjectMismatch, "refresh answered for somebody else")
	}
	return said, nil
}

// notFromUserinfo are claims that mean something only in an ID token.
var notFromUserinfo = []string{
	"iss", "aud", "exp", "iat", "nbf", "nonce", "azp", "at_hash", "c_hash", "auth_time", "acr", "amr", "_claim_names", "_claim_sources",
}

// addUserinfo asks the userinfo endpoint where the configuration wants it, and adds what the ID token did not say.
func (p *Provider) addUserinfo(ctx context.Context, d *discovered, answer *oauth2.Token, said *statement) *Failure {
	if !p.cfg.Userinfo {
		return nil
	}
	info, err := d.provider.UserInfo(p.callContext(ctx), oauth2.StaticTokenSource(answer))
	if err != nil {
		return callFailure("asking userinfo", err)
	}
	var claims map[string]any
	if err := info.Claims(exact(&claims)); err != nil {
		return fail(ProviderInvalidAnswer, "reading userinfo: %s", excerpt(err.Error()))
	}
	if claims["sub"] != any(said.subject) { // §5.3.2
		return fail(SubjectMismatch, "userinfo answered for somebody else")
	}
	p.merge(said, claims)
	return nil
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

// exact decodes claims by their exact names and keeps numbers as they are written.
func exact(into *map[string]any) json.Unmarshaler { return &exactClaims{into} }

type exactClaims struct{ into *map[string]any }

func (c *exactClaims) UnmarshalJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return dec.Decode(c.into)
}

// secondsClaim reads a NumericDate (RFC 7519 §2); the zero time when it is absent or no number.
func secondsClaim(claims map[string]any, name string) time.Time {
	n, ok := claims[name].(json.Number)
	if !ok {
		return time.Time{}
	}
	seconds, err := n.Float64()
	if err != nil || seconds <= 0 || seconds > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0).UTC()
}
