package signin

import (
	"errors"
	"net/http"
	"time"

	"sallyport/authn/oidc"
	"sallyport/authn/session"
)

// toRaise returns the session that an attempt was to raise, as it is now: nil when there was none, when it has ended, when
// somebody else came back, and when the browser holds another session by now.
func (h *Handler) toRaise(r *http.Request, a *attempt, before *session.Session, result *oidc.Result) (*session.Session, error) {
	if a.Raises == "" || before != nil && before.ID != a.Raises {
		return nil, nil
	}
	s, err := h.sessions.Current(r.Context(), a.Raises)
	if errors.Is(err, session.ErrNoSession) {
		return nil, nil
	}
	if err != nil {
		return nil, h.sessionsDown(err)
	}
	if !sameAccount(s, result) {
		return nil, nil
	}
	return s, nil
}

// raisedMeanwhile: another tab of the browser brought the session to what this attempt was for.
func raisedMeanwhile(s *session.Session, a *attempt, now time.Time) bool {
	return !s.Checked.Before(a.Started) && meets(s, a.Demand, a.Started, now)
}

// raise lets a session go on with what its person proved now, under a new handle: whoever knew the old one gains nothing.
// It is not done when the handle died meanwhile.
func (h *Handler) raise(w http.ResponseWriter, r *http.Request, a *attempt, s *session.Session, handle string, result *oidc.Result) (done bool, err error) {
	renewal, err := h.renewal(r, s, result)
	if err != nil {
		return false, err
	}
	app, _ := h.apps(a.ReturnHost)
	id := result.Identity
	d := detail{Provider: id.Provider, Host: a.ReturnHost, ACR: id.ACR, AMR: id.AMR, MFA: id.MFA}
	if err := h.recordSession(r, RecordRaised, "", app.Name, s, d); err != nil {
		return false, err
	}
	raisedHandle, raised, err := h.sessions.Raise(r.Context(), s.ID, handle, renewal)
	switch {
	case errors.Is(err, session.ErrNoSession):
		return h.raisedElsewhere(w, r, a, s.ID)
	case err != nil:
		return false, h.sessionsDown(err)
	}
	setCookie(w, SessionCookie, raisedHandle, 0)
	return true, h.onward(w, r, a, raised)
}

// raisedElsewhere is a tab whose handle another one replaced this instant: it goes along with that.
func (h *Handler) raisedElsewhere(w http.ResponseWriter, r *http.Request, a *attempt, id string) (done bool, err error) {
	s, err := h.sessions.Current(r.Context(), id)
	if err == nil && raisedMeanwhile(s, a, h.now()) {
		return true, h.join(w, r, a, s)
	}
	if err != nil && !errors.Is(err, session.ErrNoSession) {
		return false, h.sessionsDown(err)
	}
	return false, nil
}

// renewal is what the session takes over. A provider that gave no refresh token this time does not take back the old one.
func (h *Handler) renewal(r *http.Request, s *session.Session, result *oidc.Result) (session.Renewal, error) {
	renewal := session.Renewal{Identity: result.Identity, ProviderSession: result.Session, At: h.now(),
		Secrets: session.Secrets{RefreshToken: result.RefreshToken, IDToken: result.IDToken}}
	if result.RefreshToken != "" || !s.Refreshable {
		return renewal, nil
	}
	before, _, err := h.sessions.Secrets(r.Context(), s.ID)
	if err != nil && !errors.Is(err, session.ErrNoSession) {
		return renewal, h.sessionsDown(err)
	}
	renewal.Secrets.RefreshToken = before.RefreshToken
	return renewal, nil
}
