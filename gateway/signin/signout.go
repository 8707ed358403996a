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

// AtProvider is the parameter, in the form or in the query, that with the value "1" signs out at the provider as well.
const AtProvider = "provider"

// SignOut answers /.sallyport/signout on an app host and on the sign-in host. Only a POST of the host's own pages ends
// anything; opened as a link it is a page that asks. It returns a [*Problem], after a sign-out one with [CodeSignedOut],
// unless it sends the browser to the provider to be signed out there.
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
	ended, err := h.signOut(r, host, app, everywhere)
	if err != nil {
		return err
	}
	clearCookie(w, SessionCookie)
	clearCookie(w, loopCookie) // what comes now is no loop
	if everywhere && r.Form.Get(AtProvider) == "1" {
		return h.signOutAtProvider(w, r, ended)
	}
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

// ended is what a sign-out at the provider needs to know of a session that is no more.
type ended struct{ provider, idToken string }

// signOut ends every session that the request holds a handle of, and returns the first.
func (h *Handler) signOut(r *http.Request, host string, app App, everywhere bool) (first ended, err error) {
	for _, handle := range handles(r) {
		s, err := h.holder(r, host, handle)
		if errors.Is(err, session.ErrNoSession) {
			continue
		}
		if err != nil {
			return ended{}, h.sessionsDown(err)
		}
		if first.provider == "" {
			first = h.rememberEnd(r, s, everywhere)
		}
		if everywhere {
			err = h.endEverywhere(r, app, s)
		} else {
			err = h.endHere(r, app, handle, s, "")
		}
		if err != nil {
			return ended{}, err
		}
	}
	return first, nil
}

// rememberEnd reads the hint before it is gone with the session. Without one the provider asks the person who they are.
func (h *Handler) rememberEnd(r *http.Request, s *session.Session, everywhere bool) ended {
	e := ended{provider: s.Identity.Provider}
	if !everywhere || r.Form.Get(AtProvider) != "1" {
		return e
	}
	secrets, _, err := h.sessions.Secrets(r.Context(), s.ID)
	if err != nil {
		h.log.WarnContext(r.Context(), "signing out at the provider without a hint", "error", err)
	}
	e.idToken = secrets.IDToken
	return e
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
