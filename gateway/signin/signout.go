package signin

import (
	"errors"
	"net/http"
	"strings"

	"sallyport/authn/session"
)

// maxForm bounds the body of a sign-out, which holds a word at most.
const maxForm = 4 << 10

// ScopeEverywhere is the value of the parameter "scope", in the form or in the query, that signs out of everything; on
// the sign-in host it is what sign-out means. Without it an app's sign-out ends the session on that host only, and since
// the sign-in goes on, opening the app signs in again without asking.
const ScopeEverywhere = "everywhere"

// SignOut answers /.sallyport/signout on an app host and on the sign-in host. Only a POST of the host's own pages ends
// anything; opened as a link it is a page that asks. It always returns a [*Problem]: after a sign-out one with
// [CodeSignedOut].
func (h *Handler) SignOut(w http.ResponseWriter, r *http.Request, host string) error {
	app, isApp := h.apps(host)
	if !isApp && host != h.authHost {
		return h.unknownApp()
	}
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return confirmSignOut(w)
	}
	if err := allowOnly(w, r, http.MethodPost); err != nil {
		return err
	}
	if err := h.checkOrigin(r); err != nil {
		return &Problem{Status: http.StatusForbidden, Code: CodeCrossOrigin, Title: "You are still signed in",
			Text: "Another site asked to sign you out, which only you can do.", Action: h.toPortal(), Err: err}
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return h.requestInvalid(err)
	}
	everywhere := !isApp || r.Form.Get("scope") == ScopeEverywhere
	if err := h.signOut(r, host, app, everywhere); err != nil {
		return err
	}
	clearCookie(w, SessionCookie)
	return h.signedOut(app, everywhere)
}

var errPlainOrigin = errors.New("a page that came without TLS asks")

// checkOrigin refuses what pages of other origins ask. Of browsers without Fetch Metadata, http.CrossOriginProtection
// compares hosts only: a page of our own host over plain http, which anybody on the way can write, would pass.
func (h *Handler) checkOrigin(r *http.Request) error {
	if r.Header.Get("Sec-Fetch-Site") == "" && strings.HasPrefix(r.Header.Get("Origin"), "http:") {
		return errPlainOrigin
	}
	return h.crossSite.Check(r)
}

func confirmSignOut(w http.ResponseWriter) *Problem {
	w.Header().Set("Allow", http.MethodPost)
	return &Problem{Status: http.StatusMethodNotAllowed, Code: CodeConfirmSignOut, Title: "Sign out?",
		Text: "You are still signed in.", Action: &Action{Label: "Sign out", URL: SignOutPath, Method: http.MethodPost}}
}

// signOut ends every session that the request holds a handle of.
func (h *Handler) signOut(r *http.Request, host string, app App, everywhere bool) error {
	for _, handle := range handles(r) {
		s, err := h.holder(r, host, handle)
		if errors.Is(err, session.ErrNoSession) {
			continue
		}
		if err != nil {
			return h.sessionsDown(err)
		}
		if everywhere {
			err = h.endEverywhere(r, app, s)
		} else {
			err = h.endHere(r, app, handle, s, "")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *Handler) holder(r *http.Request, host, handle string) (*session.Session, error) {
	if host == h.authHost {
		return h.sessions.SignedIn(r.Context(), handle)
	}
	return h.sessions.Lookup(r.Context(), host, handle)
}

func (h *Handler) endEverywhere(r *http.Request, app App, s *session.Session) error {
	if err := h.recordSession(r, RecordSignOut, "", app.Name, s, detail{Provider: s.Identity.Provider, Host: app.Host}); err != nil {
		return err
	}
	if err := h.sessions.SignOut(r.Context(), s.ID); err != nil {
		return h.sessionsDown(err)
	}
	return nil
}

// endHere ends a session's part on one app host.
func (h *Handler) endHere(r *http.Request, app App, handle string, s *session.Session, reason string) error {
	if err := h.recordSession(r, RecordSignOutApp, reason, app.Name, s, detail{Provider: s.Identity.Provider, Host: app.Host}); err != nil {
		return err
	}
	if _, err := h.sessions.SignOutHost(r.Context(), app.Host, handle); err != nil && !errors.Is(err, session.ErrNoSession) {
		return h.sessionsDown(err)
	}
	return nil
}

func (h *Handler) signedOut(app App, everywhere bool) *Problem {
	p := &Problem{Status: http.StatusOK, Code: CodeSignedOut, Title: "You are signed out"}
	if everywhere {
		p.Text = "Your session has ended in all apps."
		p.Advice = "Your identity provider may still know you in this browser: sign out there as well on a shared device."
		p.Action = &Action{Label: "Sign in again", URL: h.authOrigin + "/"}
		return p
	}
	p.App = app.title()
	p.Text = "Your session has ended in " + app.title() + ". In other apps you are still signed in."
	p.Advice = "To end it everywhere, sign out on the page of your apps."
	p.Action = h.toPortal()
	return p
}
