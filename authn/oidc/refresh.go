package oidc

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"

	"golang.org/x/oauth2"

	"sallyport/authn"
	"sallyport/authn/remote"
)

// Refresh asks what the provider says about a person today. Its errors are [*Failure]: with [RefreshRejected] the provider
// has withdrawn its consent, as it does when an account is disabled; with [LoginRequired] it wants to see the person; with
// [ClientRejected] and [KeyUnavailable] it is we who are refused; with [ProviderUnreachable] nothing is known.
//
// A refresh token is used up by being sent. The result is therefore not nil as soon as the provider gave out tokens, also
// when what it said with them is refused: its RefreshToken replaces the old one then, and its Identity is nil.
// [Failure.Unsent] tells whether the old one is still good. A provider that answers with tokens but says nothing about the
// person leaves before as it was.
func (p *Provider) Refresh(ctx context.Context, before *authn.Identity, refreshToken string) (*Result, error) {
	ctx, cancel := context.WithTimeout(ctx, finishTimeout)
	defer cancel()
	result, failure := p.refresh(ctx, before, refreshToken)
	if failure != nil {
		return result, p.noticed(failure)
	}
	return result, nil
}

func (p *Provider) refresh(ctx context.Context, before *authn.Identity, refreshToken string) (*Result, *Failure) {
	d, failure := p.inUse(ctx)
	if failure != nil {
		return nil, &Failure{Code: failure.Code, Err: failure.Err, Unsent: true}
	}
	answer, err := d.oauth.TokenSource(p.tokenContext(ctx), &oauth2.Token{RefreshToken: refreshToken}).Token()
	if err != nil {
		return nil, refreshFailure(err)
	}
	result, failure := p.reread(ctx, d, answer, before)
	if failure != nil {
		return &Result{RefreshToken: answer.RefreshToken}, failure
	}
	return result, nil
}

// reread makes the identity of today out of a refresh answer (OpenID Connect Core §12.2).
func (p *Provider) reread(ctx context.Context, d *discovered, answer *oauth2.Token, before *authn.Identity) (*Result, *Failure) {
	if idTokenOf(answer) == "" && !p.cfg.Userinfo {
		return &Result{Identity: before, RefreshToken: answer.RefreshToken, Unsaid: true}, nil
	}
	said, failure := p.readRefreshed(ctx, d, answer, before)
	if failure != nil {
		return nil, failure
	}
	if failure := p.complete(ctx, d, answer, said); failure != nil {
		return nil, failure
	}
	return p.result(said, answer)
}

// readRefreshed reads a refresh answer, which may lack an ID token. It must speak of the same person. A nonce in it is that
// of the first sign-in, which is over and forgotten: it is not looked at.
func (p *Provider) readRefreshed(ctx context.Context, d *discovered, answer *oauth2.Token, before *authn.Identity) (*statement, *Failure) {
	said := &statement{subject: before.Subject, claims: map[string]any{}}
	if idTokenOf(answer) != "" {
		var failure *Failure
		if said, failure = p.readToken(ctx, d, answer); failure != nil {
			return nil, failure
		}
	}
	said.before = before
	if before.Provider != p.cfg.Name || said.subject != before.Subject {
		return nil, fail(SubjectMismatch, "refresh answered for somebody else")
	}
	return said, nil
}

// refreshFailure classifies what became of a refresh and of its token.
func refreshFailure(err error) *Failure {
	failure := tokenFailure(err, RefreshRejected)
	if needsPerson[failure.Reported] {
		failure.Code = LoginRequired
	}
	failure.Unsent = unsent(err, failure)
	return failure
}

// unsent tells errors after which the token is surely as good as before.
func unsent(err error, f *Failure) bool {
	if answer, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		said := answer.Response.StatusCode
		return f.Code != RefreshRejected && f.Reported != "" && said >= 400 && said < 500
	}
	if busy, ok := errors.AsType[*remote.Error](err); ok {
		return busy.Status == http.StatusTooManyRequests || busy.Status == http.StatusServiceUnavailable
	}
	if call, ok := errors.AsType[*net.OpError](err); ok && call.Op == "dial" {
		return true
	}
	_, stranger := errors.AsType[*tls.CertificateVerificationError](err)
	return stranger || f.Code == KeyUnavailable
}
