package gateway

import (
	"context"
	"errors"
	"net/http"

	"sallyport/audit"
	"sallyport/authn/session"
	"sallyport/gateway/signin"
)

// Rechecker keeps sessions true to what their providers say of people. Of the methods' errors, session.ErrNoSession says
// that the session has ended and ErrPassByProvider that only the browser can go on; all others that nobody can tell, which
// refuses.
type Rechecker interface {
	// Current returns the session as it is now. It waits only where a request must not pass before the provider was asked.
	Current(ctx context.Context, s *session.Session) (*session.Session, error)
	// Look is Current for those who cannot wait; SessionRechecked says when to look again.
	Look(s *session.Session) (*session.Session, error)
}

// ErrPassByProvider: the provider is to speak of the person again, and only their browser can make it do so.
var ErrPassByProvider = errors.New("recheck")

// recheck lets the provider of a session have its say. A session that it ended makes its browser a stranger. Tokens and
// certificates have no handle, and other ways of ending.
func (x *exchange) recheck() error {
	if x.session == nil || x.handle == "" || x.server.rechecker == nil {
		return nil
	}
	current, err := x.server.rechecker.Current(x.ctx, x.session)
	switch {
	case err == nil:
		x.session = current
		return nil
	case errors.Is(err, session.ErrNoSession):
		x.session, x.handle = nil, ""
		return x.stranger()
	case errors.Is(err, ErrPassByProvider):
		return &Refusal{Status: http.StatusUnauthorized, Effect: audit.Reject, Reason: "recheck", SignIn: true, Need: signin.Need{Recheck: true},
			Public: "Your identity provider has to confirm your session again. Open the page in a browser, which does it by itself."}
	}
	return &Refusal{Status: http.StatusServiceUnavailable, Effect: audit.Reject, Reason: "recheck_unavailable",
		Public: "Your identity provider has not answered for too long, so the gateway cannot tell whether you may still come in.",
		Advice: []string{"Try again in a moment."}, Err: err}
}

// recheckOpen is recheck for what is open: it waits for nothing.
func (x *exchange) recheckOpen(found *session.Session) (*session.Session, error) {
	if x.server.rechecker == nil {
		return found, nil
	}
	return x.server.rechecker.Look(found)
}

// SessionRechecked has everything that a session has open decided again: its provider was asked.
func (s *Server) SessionRechecked(id string) {
	shard := s.streams.shard(id)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	for x := range shard.open {
		if x.sessionID() == id {
			x.decided.Store(0)
		}
	}
}
