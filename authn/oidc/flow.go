package oidc

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"net/url"
	"strconv"
	"strings"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"sallyport/authn"
)

// Flow is one attempt to sign in. It is the caller's to keep, sealed, with the browser that started it: whoever can
// write it can finish it.
type Flow struct {
	ID       string    `json:"id"`       // random; also the first part of State
	Provider string    `json:"provider"` // name of the provider it was made for
	State    string    `json:"state"`
	Nonce    string    `json:"nonce"`
	Verifier string    `json:"verifier"` // PKCE (RFC 7636)
	Started  time.Time `json:"started"`
	Demand   Demand    `json:"demand,omitzero"`
	// What follows is the caller's: where the browser returns to. Host is empty when it stays on the sign-in host.
	ReturnHost string `json:"host,omitempty"`
	ReturnPath string `json:"path,omitempty"`
	Back       string `json:"back,omitempty"`
}

// Demand is what a sign-in must come to, beyond what the provider's configuration asks of everybody. It is sent to the
// provider, and Finish fails with [AssuranceUnmet] or [AuthTooOld] if the answer falls short. The zero Demand asks for
// nothing.
type Demand struct {
	MFA    bool     `json:"mfa,omitzero"`     // more than one factor, by the provider's configured meaning
	ACR    []string `json:"acr,omitempty"`    // one of these classes (acr_values)
	MaxAge int64    `json:"max_age,omitzero"` // seconds since the person proved themselves, at most
	Fresh  bool     `json:"fresh,omitzero"`   // the person must prove themselves now, whatever the provider remembers
	Silent bool     `json:"silent,omitzero"`  // the provider must not ask anything (prompt=none)
	Login  string   `json:"login,omitzero"`   // login_hint: who is about to sign in
}

// NewFlow returns a flow with fresh secrets.
func (p *Provider) NewFlow() *Flow {
	id := rand.Text()
	return &Flow{
		ID:       id,
		Provider: p.cfg.Name,
		State:    id + "." + rand.Text(),
		Nonce:    rand.Text(),
		Verifier: oauth2.GenerateVerifier(),
		Started:  p.now(),
	}
}

// FlowID returns the ID of the flow that a state belongs to, or "" when it has not the form of our states.
func FlowID(state string) string {
	id, secret, found := strings.Cut(state, ".")
	if !found || !isRandomText(id) || !isRandomText(secret) {
		return ""
	}
	return id
}

// isRandomText accepts what [rand.Text] makes: 26 characters of base32.
func isRandomText(s string) bool {
	return len(s) == 26 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// AuthCodeURL returns where to send the browser. It fails while the provider has never been reached, and waits a moment
// for the first look at it.
func (p *Provider) AuthCodeURL(ctx context.Context, f *Flow) (string, error) {
	d, failure := p.inUse(ctx)
	if failure != nil {
		return "", failure
	}
	options := []oauth2.AuthCodeOption{gooidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)}
	if p.cfg.MaxAge > 0 {
		seconds := max(int64(p.cfg.MaxAge/time.Second), 1)
		options = append(options, oauth2.SetAuthURLParam("max_age", strconv.FormatInt(seconds, 10)))
	}
	return d.oauth.AuthCodeURL(f.State, options...), nil
}

// Callback is what a provider tells us through the browser.
type Callback struct {
	State, Code, Issuer string
	Error               string // the provider's error code, as it came
}

// Bounds of a callback. Providers with long codes exist (Entra ID's reach about 2 KiB).
const maxCallback = 8 << 10

// ParseCallback reads the query of a callback. Parameters that decide something must not repeat (RFC 6749 §3.1); unknown
// ones are ignored (§4.1.2). The failure is [CallbackInvalid].
func ParseCallback(rawQuery string) (Callback, error) {
	if len(rawQuery) > maxCallback {
		return Callback{}, fail(CallbackInvalid, "query of %d bytes", len(rawQuery))
	}
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		return Callback{}, fail(CallbackInvalid, "query cannot be parsed")
	}
	for _, name := range []string{"state", "code", "iss", "error"} {
		if len(values[name]) > 1 {
			return Callback{}, fail(CallbackInvalid, "%s occurs %d times", name, len(values[name]))
		}
	}
	return Callback{
		State: values.Get("state"), Code: values.Get("code"), Issuer: values.Get("iss"), Error: values.Get("error"),
	}, nil
}

// Result is a finished sign-in or refresh.
type Result struct {
	Identity *authn.Identity
	// RefreshToken is what Refresh needs next time; empty when the provider gave none.
	RefreshToken string
	// IDToken is the ID token as it came: the hint by which the provider knows what to sign out of. Empty on a refresh
	// without one.
	IDToken string
	// Session is the provider's id of its own session (sid), empty when it names none.
	Session string
}

// String hides the refresh token.
func (r *Result) String() string { return "signed in as " + r.Identity.ID() }

// finishTimeout bounds everything that happens while a browser waits: token endpoint, keys and userinfo.
const finishTimeout = 20 * time.Second

// Finish checks what the browser brought back to the flow that it started, redeems the code and returns who signed in.
// It may be called once per flow: the caller spends the flow's ID before. Errors are [*Failure].
func (p *Provider) Finish(ctx context.Context, f *Flow, cb Callback) (*Result, error) {
	ctx, cancel := context.WithTimeout(ctx, finishTimeout)
	defer cancel()
	result, failure := p.finish(ctx, f, cb)
	if failure != nil {
		return nil, p.noticed(failure)
	}
	return result, nil
}

func (p *Provider) finish(ctx context.Context, f *Flow, cb Callback) (*Result, *Failure) {
	d, failure := p.inUse(ctx)
	if failure != nil {
		return nil, failure
	}
	if failure := p.checkCallback(d, f, cb); failure != nil {
		return nil, failure
	}
	answer, err := d.oauth.Exchange(p.callContext(ctx), cb.Code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		return nil, tokenFailure(err, CodeRejected)
	}
	said, failure := p.readToken(ctx, d, answer)
	if failure != nil {
		return nil, failure
	}
	if subtle.ConstantTimeCompare([]byte(said.nonce), []byte(f.Nonce)) != 1 { // OpenID Connect Core §3.1.3.7 (11)
		return nil, fail(NonceMismatch, "nonce is not the one of this sign-in")
	}
	if failure := p.checkAge(said); failure != nil {
		return nil, failure
	}
	if failure := p.addUserinfo(ctx, d, answer, said); failure != nil {
		return nil, failure
	}
	return p.result(said, answer)
}

// checkCallback holds the callback against the flow before anything is sent to the provider.
func (p *Provider) checkCallback(d *discovered, f *Flow, cb Callback) *Failure {
	switch {
	case cb.State == "":
		return fail(StateMissing, "no state")
	case f.Provider != p.cfg.Name || subtle.ConstantTimeCompare([]byte(cb.State), []byte(f.State)) != 1:
		return fail(StateMismatch, "state is not the one of this sign-in")
	case cb.Issuer == "" && d.sendsIss:
		return fail(IssuerMissing, "provider announces iss and sent none")
	case cb.Issuer != "" && cb.Issuer != p.cfg.Issuer: // RFC 9207 §2.4
		return fail(IssuerMismatch, "answer of another issuer")
	case cb.Error == "access_denied":
		return &Failure{Code: AccessDenied, Reported: cb.Error}
	case cb.Error != "":
		return &Failure{Code: ProviderError, Reported: reported(cb.Error)}
	case cb.Code == "":
		return fail(CodeMissing, "neither code nor error")
	}
	return nil
}

// Refresh asks what the provider says about a person today. It returns a [*Failure]: with [RefreshRejected] the provider
// has withdrawn its consent, with [ProviderUnreachable] nothing is known. A provider that answers with tokens but says
// nothing about the person leaves before as it was. The new refresh token replaces the old one even when they are equal.
func (p *Provider) Refresh(ctx context.Context, before *authn.Identity, refreshToken string) (*Result, error) {
	ctx, cancel := context.WithTimeout(ctx, finishTimeout)
	defer cancel()
	result, failure := p.refresh(ctx, before, refreshToken)
	if failure != nil {
		return nil, p.noticed(failure)
	}
	return result, nil
}

func (p *Provider) refresh(ctx context.Context, before *authn.Identity, refreshToken string) (*Result, *Failure) {
	d, failure := p.inUse(ctx)
	if failure != nil {
		return nil, failure
	}
	answer, err := d.oauth.TokenSource(p.callContext(ctx), &oauth2.Token{RefreshToken: refreshToken}).Token()
	if err != nil {
		return nil, tokenFailure(err, RefreshRejected)
	}
	if idTokenOf(answer) == "" && !p.cfg.Userinfo {
		return &Result{Identity: before, RefreshToken: answer.RefreshToken}, nil
	}
	said, failure := p.readRefreshed(ctx, d, answer, before)
	if failure != nil {
		return nil, failure
	}
	if failure := p.addUserinfo(ctx, d, answer, said); failure != nil {
		return nil, failure
	}
	return p.result(said, answer)
}

// callContext hands the bounded client to oauth2 and go-oidc.
func (p *Provider) callContext(ctx context.Context) context.Context {
	return gooidc.ClientContext(ctx, p.client)
}
