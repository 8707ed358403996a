package provider

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// logoutEvent is what a logout token is about: OpenID Connect Back-Channel Logout 1.0 §2.4.
const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// tellTime bounds how long the gateway may take to hear of a sign-out.
const tellTime = 5 * time.Second

// TerminateSessionFromRequest ends the session that an ID token came from, when the gateway sends the browser here to sign
// out. The gateway knows that already and is not told.
func (s *store) TerminateSessionFromRequest(_ context.Context, asked *op.EndSessionRequest) (string, error) {
	if asked.IDTokenHintClaims != nil {
		sid, _ := asked.IDTokenHintClaims.Claims["sid"].(string)
		s.endSession(sid)
	}
	return asked.RedirectURI, nil
}

func (s *store) endSession(sid string) proof {
	s.mu.Lock()
	defer s.mu.Unlock()
	ended := s.sessions[sid]
	delete(s.sessions, sid)
	s.endGrantsLocked(sid)
	return ended
}

// signOut ends the browser's session here, and tells the gateway.
func (l *login) signOut(w http.ResponseWriter, r *http.Request) {
	ended := l.store.endSession(sessionOf(r.Context()))
	v := view{Notice: "You are signed out here. You were not signed in to anything."}
	if ended.person != "" {
		v.Notice = "You are signed out here, and Sallyport was told."
		if !l.store.tell(r.Context(), ended) {
			v.Notice, v.Problem = "", "You are signed out here, but Sallyport could not be told."
		}
	}
	l.render(w, r, http.StatusOK, v)
}

// tell sends the gateway a logout token: §2.5.
func (s *store) tell(ctx context.Context, ended proof) bool {
	token, err := s.logoutToken(ended)
	if err != nil || s.opts.BackChannel == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellTime)
	defer cancel()
	body := strings.NewReader(url.Values{"logout_token": {token}}.Encode())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.opts.BackChannelURL, body)
	if err != nil {
		return false
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := s.opts.BackChannel.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	io.Copy(io.Discard, io.LimitReader(response.Body, 4<<10)) // so that the connection can be used again
	return response.StatusCode == http.StatusOK
}

func (s *store) logoutToken(ended proof) (string, error) {
	now := time.Now()
	claims, err := json.Marshal(map[string]any{"iss": s.opts.Issuer, "aud": s.opts.ClientID, "sub": ended.person, "sid": ended.session,
		"iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(), "jti": rand.Text(), "events": map[string]any{logoutEvent: struct{}{}}})
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: s.key.private, KeyID: s.key.id}},
		(&jose.SignerOptions{}).WithType("logout+jwt"))
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}
