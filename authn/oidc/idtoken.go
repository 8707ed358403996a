package oidc

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"sallyport/authn"
	"sallyport/authn/jwks"
	"sallyport/authn/remote"
)

// Bounds of what a token may hold.
const (
	maxToken   = 100 << 10
	maxSession = 255 // bytes of sid, as of sub
)

// statement is what a provider says about one person, taken from a verified ID token.
type statement struct {
	subject  string
	nonce    string
	session  string    // sid; empty: the provider names none
	authTime time.Time // zero: the provider does not say
	claims   map[string]any
	before   *authn.Identity // on refresh: what holds where the provider is silent now

	groups           []string
	groupsIncomplete bool
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
	t, claims, failure := p.verify(ctx, d, raw)
	if failure != nil {
		return nil, failure
	}
	if t.AccessTokenHash != "" && t.VerifyAccessToken(answer.AccessToken) != nil { // §3.1.3.8
		return nil, fail(TokenInvalid, "at_hash is not that of the access token")
	}
	said := &statement{subject: t.Subject, claims: claims}
	if failure := p.checkClaims(t, said); failure != nil {
		return nil, failure
	}
	return said, nil
}

// verify checks signature, algorithm, issuer, audience and exp.
func (p *Provider) verify(ctx context.Context, d *discovered, raw string) (*gooidc.IDToken, map[string]any, *Failure) {
	keys := &watchedKeys{keys: d.keys}
	if failure := checkHeader(raw, d.algorithms, ""); failure != nil {
		return nil, nil, failure
	}
	t, err := p.verifier(d, keys).Verify(ctx, raw)
	if err == nil {
		return t, keys.claims, nil
	}
	if failure := keys.failure(); failure != nil {
		return nil, nil, failure
	}
	if _, expired := errors.AsType[*gooidc.TokenExpiredError](err); expired {
		return nil, nil, fail(TokenExpired, "exp is in the past")
	}
	return nil, nil, p.refused(err, keys.claims)
}

func (p *Provider) verifier(d *discovered, keys gooidc.KeySet) *gooidc.IDTokenVerifier {
	return gooidc.NewVerifier(p.cfg.Issuer, keys, &gooidc.Config{
		ClientID:             p.cfg.ClientID,
		SupportedSigningAlgs: d.algorithms,
		Now:                  func() time.Time { return p.now().Add(-p.cfg.Skew) },
	})
}

// refused names what the verifier found wrong with claims that the provider signed: it decides, in words that are not for
// programs.
func (p *Provider) refused(err error, claims map[string]any) *Failure {
	switch audience := texts(claims["aud"]); {
	case claims["iss"] != any(p.cfg.Issuer):
		return fail(TokenIssuer, "iss is another issuer")
	case claims["aud"] != any(p.cfg.ClientID) && !slices.Contains(audience, p.cfg.ClientID):
		return fail(TokenAudience, "aud does not name this client")
	}
	return fail(TokenInvalid, "%s", excerpt(err.Error()))
}

// watchedKeys keeps what became of a signature, which the verifier tells in words only, and reads the claims by their exact
// names as soon as it is verified.
type watchedKeys struct {
	keys   *jwks.Set
	claims map[string]any // set once the signature is good
	err    error
	form   error // the claims are no object that everybody reads alike
}

func (k *watchedKeys) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	var payload []byte
	if payload, k.err = k.keys.VerifySignature(ctx, token); k.err != nil {
		return nil, k.err
	}
	if k.form = unambiguous(payload, &k.claims); k.form != nil {
		return nil, k.form
	}
	return payload, nil
}

func (k *watchedKeys) failure() *Failure {
	switch {
	case errors.Is(k.err, jwks.ErrUnavailable) && !remote.Unreachable(k.err):
		return fail(ProviderInvalidAnswer, "fetching the provider's keys: %s", excerpt(k.err.Error()))
	case errors.Is(k.err, jwks.ErrUnavailable):
		return fail(ProviderUnreachable, "fetching the provider's keys: %w", k.err)
	case errors.Is(k.err, jwks.ErrUnknownKey):
		return fail(TokenKey, "%w", k.err)
	case errors.Is(k.err, jwks.ErrSignature):
		return fail(TokenSignature, "%w", k.err)
	case k.err != nil:
		return fail(TokenInvalid, "%s", excerpt(k.err.Error()))
	case k.form != nil:
		return fail(TokenInvalid, "%s", excerpt(k.form.Error()))
	}
	return nil
}

// checkClaims does what the verifier leaves to its caller.
func (p *Provider) checkClaims(t *gooidc.IDToken, said *statement) *Failure {
	latest := p.now().Add(p.cfg.Skew)
	azp, hasAZP := said.claims["azp"]
	switch {
	case t.Subject == "":
		return fail(SubjectInvalid, "sub is empty")
	case hasAZP && azp != any(p.cfg.ClientID), !hasAZP && len(t.Audience) > 1: // §3.1.3.7 (4), (5)
		return fail(TokenParty, "azp is not this client")
	case secondsClaim(said.claims, "iat").IsZero(), secondsClaim(said.claims, "exp").IsZero():
		return fail(TokenInvalid, "iat or exp is no number")
	}
	said.nonce, _ = said.claims["nonce"].(string)
	said.authTime = secondsClaim(said.claims, "auth_time")
	if said.session, _ = said.claims["sid"].(string); len(said.session) > maxSession {
		return fail(TokenInvalid, "sid of %d bytes", len(said.session))
	}
	for _, at := range []time.Time{secondsClaim(said.claims, "iat"), secondsClaim(said.claims, "nbf"), said.authTime} {
		if at.After(latest) {
			return fail(TokenNotYet, "iat, nbf or auth_time is in the future")
		}
	}
	return nil
}

// complete asks the provider for what the ID token did not say: userinfo where the configuration wants it, and groups where
// they are too many for a token.
func (p *Provider) complete(ctx context.Context, d *discovered, answer *oauth2.Token, said *statement) *Failure {
	if failure := p.addUserinfo(ctx, d, answer, said); failure != nil {
		return failure
	}
	said.groups, said.groupsIncomplete = p.groups(said.claims)
	if p.cfg.GroupsEndpoint != "" && groupsElsewhere(said.claims, p.cfg.Claims.Groups) {
		p.addGroups(ctx, answer.AccessToken, said)
	}
	return nil
}

// spelled are the claims that decide something. Libraries differ in whether "Sub" is one of them.
var spelled = []string{
	"iss", "sub", "aud", "exp", "iat", "nbf", "nonce", "azp", "at_hash", "auth_time", "acr", "amr", "sid", "jti", "events",
	"_claim_names", "_claim_sources",
}

// unambiguous reads a claims object that means the same to everybody who reads it: no member occurs twice, at any depth, and
// none is written like one that decides something but for its case.
func unambiguous(data []byte, into *map[string]any) error {
	if err := exact(into).UnmarshalJSON(data); err != nil {
		return err
	}
	for name := range *into {
		for _, known := range spelled {
			if name != known && strings.EqualFold(name, known) {
				return errors.New("a claim is written in another case: " + known)
			}
		}
	}
	return nil
}

// secondsClaim reads a NumericDate (RFC 7519 §2); the zero time when it is absent or no number.
func secondsClaim(claims map[string]any, name string) time.Time {
	n, ok := claims[name].(interface{ Float64() (float64, error) })
	if !ok {
		return time.Time{}
	}
	seconds, err := n.Float64()
	if err != nil || seconds <= 0 || seconds > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0).UTC()
}
