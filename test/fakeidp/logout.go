package fakeidp

import (
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// LogoutEvent is the event of a logout token (Back-Channel Logout 1.0 §2.4).
const LogoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// Sessions are the sids of the sessions at the provider.
func (p *Provider) Sessions() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.sessions))
}

// LogoutClaims are the claims of a good logout token for a person, a session or both; empty ones are left out.
func (p *Provider) LogoutClaims(sub, sid string) jwt.MapClaims {
	now := time.Now()
	claims := jwt.MapClaims{"iss": p.Issuer, "aud": p.Client.ID, "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(),
		"jti": rand.Text(), "events": map[string]any{LogoutEvent: map[string]any{}}}
	if sub != "" {
		claims["sub"] = sub
	}
	if sid != "" {
		claims["sid"] = sid
	}
	return claims
}

// LogoutToken is a good logout token.
func (p *Provider) LogoutToken(sub, sid string) string { return p.SignLogout(p.LogoutClaims(sub, sid)) }

// SignLogout signs claims of the test's choice as a logout token.
func (p *Provider) SignLogout(claims jwt.MapClaims) string {
	key := p.Keys()[0]
	return SignWith(key.Method, map[string]any{"kid": key.ID, "typ": "logout+jwt"}, claims, key.Private)
}

// SendLogout posts a logout token to the client, as the provider does when a session ends, and returns the status of the
// answer. A nil HTTP client is [http.DefaultClient].
func (p *Provider) SendLogout(client *http.Client, token string) (int, error) {
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.PostForm(p.Client.BackchannelURI, url.Values{"logout_token": {token}})
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// endSession signs a browser out (RP-Initiated Logout 1.0 §2): the session that the hint or the cookie names ends, with its
// refresh tokens. Logout tokens are the test's to send.
func (p *Provider) endSession(_ Script, w http.ResponseWriter, r *http.Request) {
	q := r.FormValue
	claims := jwt.MapClaims{}
	if hint := q("id_token_hint"); hint != "" {
		if _, _, err := jwt.NewParser().ParseUnverified(hint, claims); err != nil || claims["iss"] != p.Issuer || claims["aud"] != p.Client.ID {
			http.Error(w, "bad id_token_hint", http.StatusBadRequest)
			return
		}
	}
	if id := q("client_id"); id != "" && id != p.Client.ID {
		http.Error(w, "unknown client", http.StatusBadRequest)
		return
	}
	back := q("post_logout_redirect_uri")
	if back != "" && back != p.Client.PostLogoutURI {
		http.Error(w, "unknown post_logout_redirect_uri", http.StatusBadRequest)
		return
	}
	sid, _ := claims["sid"].(string)
	if c, err := r.Cookie(p.cookie()); err == nil && sid == "" {
		sid = c.Value
	}
	p.EndSession(sid)
	if back == "" {
		fmt.Fprintln(w, "You are signed out.")
		return
	}
	http.Redirect(w, r, back+"?"+url.Values{"state": {q("state")}}.Encode(), http.StatusFound)
}

// EndSession ends a session at the provider and the refresh tokens that grew out of it.
func (p *Provider) EndSession(sid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sessions, sid)
	for _, f := range p.refresh {
		if f.grant.login.sid == sid {
			f.current = ""
		}
	}
}
