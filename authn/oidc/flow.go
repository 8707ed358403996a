package oidc

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"net/url"
	"slices"
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
	request := *d.oauth
	if p.asksOffline(d) {
		request.Scopes = append(slices.Clone(request.Scopes), gooidc.ScopeOfflineAccess)
	}
	options := []oauth2.AuthCodeOption{gooidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)}
	return request.AuthCodeURL(f.State, append(options, p.demands(f.Demand)...)...), nil
}

// asksOffline tells whether offline_access is to be asked for beside the configured scopes.
func (p *Provider) asksOffline(d *discovered) bool {
	return p.cfg.OfflineAccess != OfflineNever && d.offline && !p.noOffline.Load() &&
		!slices.Contains(p.cfg.Scopes, gooidc.ScopeOfflineAccess)
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
	// Unsaid tells of a refresh at which the provider gave new tokens and said nothing about the person: Identity is as it
	// was. The account exists, whatever its groups.
	Unsaid bool
}

// String hides the tokens.
func (r *Result) String() string {
	if r.Identity == nil {
		return "tokens without an identity"
	}
	return "signed in as " + r.Identity.ID()
}

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
	answer, err := d.oauth.Exchange(p.tokenContext(ctx), cb.Code, oauth2.VerifierOption(f.Verifier))
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
	if failure := p.checkAge(f, said); failure != nil {
		return nil, failure
	}
	if failure := p.complete(ctx, d, answer, said); failure != nil {
		return nil, failure
	}
	result, failure := p.result(said, answer)
	if failure != nil {
		return nil, failure
	}
	if failure := f.Demand.metBy(result.Identity); failure != nil {
		return nil, failure
	}
	return result, nil
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
	case f.Demand.Silent && needsPerson[cb.Error]:
		return &Failure{Code: LoginRequired, Reported: cb.Error}
	case cb.Error == "invalid_scope" && p.asksOffline(d):
		p.noOffline.Store(true) // the next attempt asks for what is configured, and no more
		return &Failure{Code: ProviderError, Reported: cb.Error}
	case cb.Error == "access_denied":
		return &Failure{Code: AccessDenied, Reported: cb.Error}
	case cb.Error != "":
		return &Failure{Code: ProviderError, Reported: reported(cb.Error)}
	case cb.Code == "":
		return fail(CodeMissing, "neither code nor error")
	}
	return nil
}

// tokenContext hands the client that proves who we are to oauth2.
func (p *Provider) tokenContext(ctx context.Context) context.Context {
	return gooidc.ClientContext(ctx, p.tokenClient)
}
