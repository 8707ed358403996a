package signin

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/http"

	"sallyport/authn/oidc"
	"sallyport/authn/session"
)

// serveCallback finishes a flow: it is taken out of the browser and spent before its code is redeemed, so that of any
// number of equal callbacks one is finished and the others never reach the provider.
func (h *Handler) serveCallback(w http.ResponseWriter, r *http.Request, name string) error {
	if err := allowOnly(w, r, http.MethodGet); err != nil {
		return err
	}
	p := h.provider(name)
	if p == nil {
		return h.notFound()
	}
	cb, err := oidc.ParseCallback(r.URL.RawQuery)
	if err != nil {
		return h.failed(r, p, nil, err)
	}
	f, err := h.flowOf(w, r, p, cb)
	if err != nil {
		return err
	}
	if h.limits != nil {
		if err := h.limits.Return(); err != nil {
			return h.limited(r, name, nil, err)
		}
	}
	switch first, err := h.sessions.Spend(r.Context(), "flow "+f.ID, f.Started.Add(attemptTime)); {
	case err != nil:
		return h.sessionsDown(err)
	case !first:
		return h.refuse(r, name, h.flowProblem(CodeFlowSpent, f))
	}
	result, err := p.Finish(r.Context(), f, cb)
	if err != nil {
		return h.failed(r, p, f, err)
	}
	return h.welcome(w, r, f, result)
}

// flowOf returns the flow that this browser started and this callback belongs to.
func (h *Handler) flowOf(w http.ResponseWriter, r *http.Request, p *oidc.Provider, cb oidc.Callback) (*oidc.Flow, error) {
	id := oidc.FlowID(cb.State)
	switch {
	case cb.State == "":
		return nil, h.failed(r, p, nil, &oidc.Failure{Code: oidc.StateMissing})
	case id == "":
		return nil, h.failed(r, p, nil, &oidc.Failure{Code: oidc.StateMismatch})
	}
	f, err := h.takeFlow(w, r, id)
	switch {
	case err != nil:
		return nil, h.refuse(r, p.Name(), h.flowProblem(CodeFlowMissing, nil))
	case f.Provider != p.Name() || subtle.ConstantTimeCompare([]byte(f.State), []byte(cb.State)) != 1:
		return nil, h.failed(r, p, f, &oidc.Failure{Code: oidc.StateMismatch})
	case h.now().Sub(f.Started) > attemptTime:
		return nil, h.refuse(r, p.Name(), h.flowProblem(CodeFlowExpired, f))
	}
	return f, nil
}

// failed records a failure and makes its page.
func (h *Handler) failed(r *http.Request, p *oidc.Provider, f *oidc.Flow, err error) error {
	failure, ok := errors.AsType[*oidc.Failure](err)
	if !ok {
		return err
	}
	return h.refuse(r, p.Name(), h.providerProblem(failure, p.Title(), h.again(f)))
}

// welcome gives a person who proved who they are a session and sends them to where they wanted to go.
//
// The session and its handle are new, and a session of anybody else in this browser ends: whatever was planted before
// the sign-in is worth nothing after it. The exception is the same person signing in in two tabs at once: the session of
// the one that was faster serves both, so that signing out ends all of it.
func (h *Handler) welcome(w http.ResponseWriter, r *http.Request, f *oidc.Flow, result *oidc.Result) error {
	before, err := h.signedIn(r)
	if err != nil {
		return err
	}
	if before != nil && before.Identity.ID() == result.Identity.ID() && !before.Created.Before(f.Started) {
		if err := h.recordSignIn(r, f, before, true); err != nil {
			return err
		}
		return h.onward(w, r, f, before)
	}
	if h.limits != nil {
		if err := h.limits.Account(result.Identity.ID()); err != nil {
			return h.limited(r, f.Provider, actor(r, result.Identity), err)
		}
	}
	handle, s, err := h.sessions.SignIn(r.Context(), session.NewSession{
		Identity: result.Identity, Secrets: session.Secrets{RefreshToken: result.RefreshToken, IDToken: result.IDToken}, ProviderSession: result.Session, UserAgent: r.UserAgent(), Address: address(r),
	})
	if err != nil {
		return h.sessionsDown(err)
	}
	if err := h.introduce(r, f, s, before); err != nil {
		h.undone(r, h.sessions.SignOut(context.WithoutCancel(r.Context()), s.ID))
		return err
	}
	setCookie(w, SessionCookie, handle, 0)
	return h.onward(w, r, f, s)
}

// introduce makes the record that must precede the cookie, and ends what was there before.
func (h *Handler) introduce(r *http.Request, f *oidc.Flow, s, before *session.Session) error {
	if err := h.recordSignIn(r, f, s, false); err != nil {
		return err
	}
	if err := h.replace(r, before); err != nil {
		return err
	}
	return h.endSurplus(r, s)
}

// endSurplus ends the oldest sessions of a person who has more than one person may have, so that nobody fills the store.
func (h *Handler) endSurplus(r *http.Request, s *session.Session) error {
	surplus, err := h.sessions.Surplus(r.Context(), s.Identity.ID())
	if err != nil {
		return h.sessionsDown(err)
	}
	for _, old := range surplus {
		if old.ID == s.ID {
			continue
		}
		if err := h.end(r, &old, "too_many_sessions"); err != nil {
			return err
		}
	}
	return nil
}

// undone logs a session that could not be taken back. Nobody holds its handle, so it ends by itself.
func (h *Handler) undone(r *http.Request, err error) {
	if err != nil {
		h.log.WarnContext(r.Context(), "session of an unfinished sign-in stays until it is idle", "error", err)
	}
}

func (h *Handler) recordSignIn(r *http.Request, f *oidc.Flow, s *session.Session, joined bool) error {
	app, _ := h.apps(f.ReturnHost)
	id := s.Identity
	return h.recordSession(r, RecordSignIn, "", app.Name, s,
		detail{Provider: id.Provider, Host: f.ReturnHost, ACR: id.ACR, AMR: id.AMR, MFA: id.MFA, Joined: joined})
}

// replace ends the session that the browser had before.
func (h *Handler) replace(r *http.Request, before *session.Session) error {
	if before == nil {
		return nil
	}
	return h.end(r, before, "replaced")
}

// end puts the end of a session on record, and ends it.
func (h *Handler) end(r *http.Request, s *session.Session, reason string) error {
	if err := h.recordSession(r, RecordSignOut, reason, "", s, detail{Provider: s.Identity.Provider}); err != nil {
		return err
	}
	if err := h.sessions.SignOut(r.Context(), s.ID); err != nil {
		return h.sessionsDown(err)
	}
	return nil
}

// onward leaves the sign-in host. An app that is gone since the start leaves the portal.
func (h *Handler) onward(w http.ResponseWriter, r *http.Request, f *oidc.Flow, s *session.Session) error {
	app, _ := h.apps(f.ReturnHost)
	if app.Host == "" {
		h.countSignIn(w, r)
	}
	return h.handOff(w, r, s, app, Target(f.ReturnPath), f.Back)
}
