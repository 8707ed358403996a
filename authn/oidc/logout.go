package oidc

import (
	"context"
	"errors"
	"net/url"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"

	"sallyport/authn"
	"sallyport/authn/remote"
)

// Bounds of signing out.
const (
	// LogoutLifetime is how long a logout token may be good for: so long its identifier must be remembered. Back-Channel
	// Logout §2.4 recommends two minutes at most.
	LogoutLifetime = 10 * time.Minute
	// maxHintToken is the longest ID token that goes into a URL.
	maxHintToken = 4 << 10
	maxTokenID   = 255
	logoutType   = "logout+jwt"
	logoutEvent  = "http://schemas.openid.net/event/backchannel-logout"
)

// endSession returns where people sign out at the provider. It must be where they sign in: the browser is sent there with an
// ID token.
func (p *Provider) endSession(meta metadata) string {
	if meta.endSession == "" {
		return ""
	}
	end, err := url.Parse(meta.endSession)
	if err != nil || !remote.AllowedEndpoint(meta.endSession, p.issuer) || !p.signsInAt(meta, end) {
		p.log.Warn("end_session_endpoint is not where people sign in and is not used", "provider", p.cfg.Name)
		return ""
	}
	return meta.endSession
}

func (p *Provider) signsInAt(meta metadata, u *url.URL) bool {
	authorize, err := url.Parse(meta.authorize)
	return err == nil && (u.Host == authorize.Host && u.Scheme == authorize.Scheme || u.Host == p.issuer.Host && u.Scheme == p.issuer.Scheme)
}

// EndSessionURL returns where to send a browser that is to sign out at the provider as well (RP-Initiated Logout §2), and
// whether the provider has such a place. IDToken is the one of the session that ended; the provider sends the browser back to
// returnTo, registered there, with clientState.
func (p *Provider) EndSessionURL(idToken, clientState, returnTo string) (string, bool) {
	d := p.found.Load()
	if d == nil || d.endSession == "" {
		return "", false
	}
	u, err := url.Parse(d.endSession)
	if err != nil {
		return "", false
	}
	q := u.Query()
	q.Set("client_id", p.cfg.ClientID)
	if idToken != "" && len(idToken) <= maxHintToken {
		q.Set("id_token_hint", idToken)
	}
	if returnTo != "" {
		q.Set("post_logout_redirect_uri", returnTo)
	}
	if clientState != "" {
		q.Set("state", clientState)
	}
	u.RawQuery = q.Encode()
	return u.String(), true
}

// Logout is what a logout token says. At least one of Subject and Session is not empty.
type Logout struct {
	Subject string // the provider's name for the person
	Person  string // who that is to us: the subject of their sessions; empty without Subject
	Session string // the provider's id of the session that ended (sid)
	// ID names the token (jti): it is used once, and remembered until Expires and the configured skew have passed.
	ID              string
	Issued, Expires time.Time
}

// ReadLogout verifies a logout token as Back-Channel Logout 1.0 §2.6 wants it, but for its having been used before: the
// caller spends Logout.ID. The error is a [*Failure] whose code tells what is wrong; [ProviderUnreachable] means that nothing
// can be said about the token.
func (p *Provider) ReadLogout(ctx context.Context, logoutToken string) (Logout, error) {
	ctx, cancel := context.WithTimeout(ctx, finishTimeout)
	defer cancel()
	said, failure := p.readLogout(ctx, logoutToken)
	if failure != nil {
		return Logout{}, p.noticed(failure)
	}
	return said, nil
}

func (p *Provider) readLogout(ctx context.Context, raw string) (Logout, *Failure) {
	d, failure := p.inUse(ctx)
	if failure != nil {
		return Logout{}, failure
	}
	if failure := checkHeader(raw, d.algorithms, logoutType); failure != nil { // (1) to (3)
		return Logout{}, ofLogout(failure)
	}
	keys := &watchedKeys{keys: d.keys}
	t, err := p.verifier(d, keys).VerifyLogout(ctx, raw)
	if err != nil {
		return Logout{}, ofLogout(p.refusedLogout(err, keys))
	}
	return p.checkLogout(t, keys.claims)
}

func (p *Provider) refusedLogout(err error, keys *watchedKeys) *Failure {
	if failure := keys.failure(); failure != nil {
		return failure
	}
	if _, expired := errors.AsType[*gooidc.TokenExpiredError](err); expired {
		return fail(LogoutExpired, "exp is in the past")
	}
	return p.refused(err, keys.claims)
}

// ofLogout gives a failure to read a token a name of its own, and leaves those that both kinds of token share.
func ofLogout(f *Failure) *Failure {
	if f.Code == TokenInvalid {
		f.Code = LogoutInvalid
	}
	return f
}

// checkLogout does what the verifier leaves to its caller, by the exact names of the claims.
func (p *Provider) checkLogout(t *gooidc.LogoutToken, claims map[string]any) (Logout, *Failure) {
	said := Logout{ID: t.TokenID, Issued: secondsClaim(claims, "iat"), Expires: secondsClaim(claims, "exp")}
	events, _ := claims["events"].(map[string]any)
	_, isLogout := events[logoutEvent].(map[string]any)
	_, hasNonce := claims["nonce"]
	var subject, session bool
	said.Subject, subject = absentOrText(claims, "sub")
	said.Session, session = absentOrText(claims, "sid")
	switch latest := p.now().Add(p.cfg.Skew); {
	case !isLogout: // (6)
		return Logout{}, fail(LogoutInvalid, "no event that ends a session")
	case hasNonce: // (7)
		return Logout{}, fail(LogoutInvalid, "nonce is present")
	case !subject || !session || said.Subject == "" && said.Session == "" || len(said.Session) > maxSession: // (5)
		return Logout{}, fail(LogoutInvalid, "sub or sid is missing, empty or not text")
	case said.ID == "" || len(said.ID) > maxTokenID || claims["jti"] != any(said.ID):
		return Logout{}, fail(LogoutInvalid, "jti is missing or oversized")
	case said.Issued.IsZero() || said.Expires.IsZero(): // (4)
		return Logout{}, fail(LogoutInvalid, "iat or exp is no number")
	case said.Issued.After(latest) || secondsClaim(claims, "nbf").After(latest):
		return Logout{}, fail(TokenNotYet, "iat or nbf is in the future")
	case said.Expires.Sub(said.Issued) > LogoutLifetime:
		return Logout{}, fail(LogoutInvalid, "good for more than %s", LogoutLifetime)
	}
	if said.Subject == "" {
		return said, nil
	}
	who, err := authn.New(authn.Identity{Kind: authn.User, Provider: p.cfg.Name, Subject: said.Subject, Person: p.among.People[said.Subject]})
	if err != nil {
		return Logout{}, fail(LogoutInvalid, "%w", err)
	}
	said.Person = who.ID()
	return said, nil
}

// absentOrText reads a claim that is text if it is there; then it is not empty.
func absentOrText(claims map[string]any, name string) (value string, ok bool) {
	raw, present := claims[name]
	if !present {
		return "", true
	}
	value, ok = raw.(string)
	return value, ok && value != ""
}
