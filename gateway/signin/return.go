package signin

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"sallyport/authn/session"
)

// ServeReturn answers /.sallyport/return on an app host: the code is redeemed for a session on this host by the browser
// whose back cookie it is bound to, and by no other. Errors are [*Problem].
func (h *Handler) ServeReturn(w http.ResponseWriter, r *http.Request, host string) error {
	if err := allowOnly(w, r, http.MethodGet); err != nil {
		return err
	}
	app, ok := h.apps(host)
	if !ok {
		return h.unknownApp()
	}
	values, err := singleValues(r.URL.RawQuery, maxQuery, "back", "code", "rd")
	if err != nil {
		return h.refuse(r, "", h.requestInvalid(err))
	}
	target := Target(values.Get("rd"))
	verifier, found := takeBack(w, r, values)
	if !found {
		return h.refuse(r, "", h.handOffProblem(CodeBackMissing, app, target, nil))
	}
	handle, s, err := h.sessions.Redeem(r.Context(), values.Get("code"), app.Host, verifier)
	if err != nil {
		return h.notRedeemed(r, app, target, err)
	}
	if err := h.settle(r, app, s); err != nil {
		_, failed := h.sessions.SignOutHost(context.WithoutCancel(r.Context()), app.Host, handle)
		h.undone(r, failed)
		return err
	}
	setCookie(w, SessionCookie, handle, 0)
	h.countReturn(w, r)
	return redirect(w, r, app.Origin+target)
}

// takeBack reads the back cookie that the address names and takes it away.
func takeBack(w http.ResponseWriter, r *http.Request, values url.Values) (verifier string, found bool) {
	id := values.Get("back")
	if !validID(id) {
		return "", false
	}
	cookie, err := r.Cookie(backCookie + id)
	if err != nil {
		return "", false
	}
	clearCookie(w, cookie.Name)
	return cookie.Value, cookie.Value != ""
}

func (h *Handler) notRedeemed(r *http.Request, app App, target string, err error) error {
	var code string
	switch {
	case errors.Is(err, session.ErrCodeInvalid):
		code = CodeHandOffInvalid
	case errors.Is(err, session.ErrCodeExpired):
		code = CodeHandOffExpired
	case errors.Is(err, session.ErrCodeSpent):
		code = CodeHandOffSpent
	case errors.Is(err, session.ErrNoSession):
		code = CodeHandOffEnded
	default:
		return h.sessionsDown(err)
	}
	return h.refuse(r, "", h.handOffProblem(code, app, target, err))
}

// settle records the session on this host and ends what another session had here: its handle is about to be overwritten.
func (h *Handler) settle(r *http.Request, app App, s *session.Session) error {
	d := detail{Provider: s.Identity.Provider, Host: app.Host}
	if err := h.recordSession(r, RecordSignInApp, "", app.Name, s, d); err != nil {
		return err
	}
	for _, handle := range handles(r) {
		old, err := h.sessions.Lookup(r.Context(), app.Host, handle)
		if err != nil || old.ID == s.ID {
			continue
		}
		if err := h.endHere(r, app, handle, old, "replaced"); err != nil {
			return err
		}
	}
	return nil
}
