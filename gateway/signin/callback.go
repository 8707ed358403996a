package signin

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/http"

	"sallyport/audit"
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
	a, err := h.flowOf(w, r, p, cb)
	if err != nil {
		return err
	}
	if h.limits != nil {
		if err := h.limits.Return(); err != nil {
			return h.limited(r, name, nil, err)
		}
	}
	switch first, err := h.sessions.Spend(r.Context(), "flow "+a.ID, a.Started.Add(attemptTime)); {
	case err != nil:
		return h.sessionsDown(err)
	case !first:
		return h.refuse(r, name, h.flowProblem(CodeFlowSpent, a))
	}
	result, err := p.Finish(r.Context(), a.Flow, cb)
	if err != nil && a.Demand.Silent && isLoginRequired(err) {
		return h.askAloud(w, r, p, a)
	}
	if err != nil {
		return h.failed(r, p, a, err)
	}
	return h.welcome(w, r, a, result)
}

func isLoginRequired(err error) bool {
	failure, ok := errors.AsType[*oidc.Failure](err)
	return ok && failure.Code == oidc.LoginRequired
}

// askAloud begins again where a provider that was not to ask anything has to: it has forgotten the person. Since the new
// attempt is not silent, this happens once.
func (h *Handler) askAloud(w http.ResponseWriter, r *http.Request, p *oidc.Provider, before *attempt) error {
	if h.limits == nil || !h.limits.Counted(string(oidc.LoginRequired)) {
		d := detail{Provider: p.Name(), Address: address(r), Silent: true}
		if err := h.record(r, audit.Record{Code: RecordSignInFailed, Reason: string(oidc.LoginRequired)}, d); err != nil {
			return err
		}
	}
	a := &attempt{Flow: p.NewFlow(), Raises: before.Raises}
	a.ReturnHost, a.ReturnPath, a.Back = before.ReturnHost, before.ReturnPath, before.Back
	a.Demand = before.Demand
	a.Demand.Silent = false
	return h.send(w, r, p, a, h.again(a).URL)
}

// flowOf returns the flow that this browser started and this callback belongs to.
func (h *Handler) flowOf(w http.ResponseWriter, r *http.Request, p *oidc.Provider, cb oidc.Callback) (*attempt, error) {
	id := oidc.FlowID(cb.State)
	switch {
	case cb.State == "":
		return nil, h.failed(r, p, nil, &oidc.Failure{Code: oidc.StateMissing})
	case id == "":
		return nil, h.failed(r, p, nil, &oidc.Failure{Code: oidc.StateMismatch})
	}
	a, err := h.takeFlow(w, r, id)
	switch {
	case err != nil:
		return nil, h.refuse(r, p.Name(), h.flowProblem(CodeFlowMissing, nil))
	case a.Provider != p.Name() || subtle.ConstantTimeCompare([]byte(a.State), []byte(cb.State)) != 1:
		return nil, h.failed(r, p, a, &oidc.Failure{Code: oidc.StateMismatch})
	case h.now().Sub(a.Started) > attemptTime:
		return nil, h.refuse(r, p.Name(), h.flowProblem(CodeFlowExpired, a))
	}
	return a, nil
}

// failed records a failure and makes its page.
func (h *Handler) failed(r *http.Request, p *oidc.Provider, a *attempt, err error) error {
	failure, ok := errors.AsType[*oidc.Failure](err)
	if !ok {
		return err
	}
	action := h.again(a)
	if failure.Code == oidc.AssuranceUnmet {
		action.URL = h.anew(a)
	}
	return h.refuse(r, p.Name(), h.providerProblem(failure, p.Title(), action))
}

// welcome gives a person who proved who they are a session and sends them to where they wanted to go.
//
// The session and its handle are new, and a session of anybody else in this browser ends: whatever was planted before
// the sign-in is worth nothing after it. There are two exceptions. The session that this very sign-in was to raise goes on
// under a new handle. And of one person who signs in in many tabs at once, the session of the tab that was fastest serves
// all of them, so that signing out ends all of it.
func (h *Handler) welcome(w http.ResponseWriter, r *http.Request, a *attempt, result *oidc.Result) error {
	others := h.otherFlows(r, a)
	if len(others) > 0 {
		defer h.siblings.hold(result.Identity.ID())()
	}
	before, handle, err := h.signedIn(r)
	if err != nil {
		return err
	}
	if before == nil {
		s, err := h.sibling(r, others, result)
		if err != nil {
			return err
		}
		if s != nil && meets(s, a.Demand, a.Started, h.now()) {
			return h.join(w, r, a, s)
		}
	}
	if before != nil && sameAccount(before, result) && !before.Created.Before(a.Started) && meets(before, a.Demand, a.Started, h.now()) {
		return h.join(w, r, a, before)
	}
	raised, err := h.toRaise(r, a, before, result)
	if err != nil {
		return err
	}
	if raised != nil && raisedMeanwhile(raised, a, h.now()) {
		return h.join(w, r, a, raised)
	}
	if h.limits != nil {
		if err := h.limits.Account(result.Identity.ID()); err != nil {
			return h.limited(r, a.Provider, actor(r, result.Identity), err)
		}
	}
	if raised != nil && before != nil {
		done, err := h.raise(w, r, a, raised, handle, result)
		if done || err != nil {
			return err
		}
	}
	s, err := h.begin(w, r, a, result, before, raised)
	if err != nil {
		return err
	}
	if len(others) > 0 {
		h.siblings.add(a.ID, s.ID, h.now())
	}
	return h.onward(w, r, a, s)
}

// sameAccount: a session is of the account that came back, and of the same person as before. A linked account of the same
// person is another one, and so is an account that was linked since.
func sameAccount(s *session.Session, result *oidc.Result) bool {
	was, is := s.Identity, result.Identity
	return was.Provider == is.Provider && was.Subject == is.Subject && was.ID() == is.ID()
}

// join lets a tab use the session of a faster one.
func (h *Handler) join(w http.ResponseWriter, r *http.Request, a *attempt, s *session.Session) error {
	if err := h.recordSignIn(r, a, s, true); err != nil {
		return err
	}
	return h.onward(w, r, a, s)
}

// begin makes a new session and ends those that it takes the place of.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request, a *attempt, result *oidc.Result, before ...*session.Session) (*session.Session, error) {
	handle, s, err := h.sessions.SignIn(r.Context(), session.NewSession{
		Identity: result.Identity, Secrets: session.Secrets{RefreshToken: result.RefreshToken, IDToken: result.IDToken},
		ProviderSession: result.Session, UserAgent: r.UserAgent(), Address: address(r), Bound: h.boundOf(),
	})
	if err != nil {
		return nil, h.sessionsDown(err)
	}
	if err := h.introduce(r, a, s, before); err != nil {
		h.undone(r, h.sessions.SignOut(context.WithoutCancel(r.Context()), s.ID))
		return nil, err
	}
	setCookie(w, SessionCookie, handle, 0)
	return s, nil
}

// introduce makes the record that must precede the cookie, and ends what was there before.
func (h *Handler) introduce(r *http.Request, a *attempt, s *session.Session, before []*session.Session) error {
	if err := h.recordSignIn(r, a, s, false); err != nil {
		return err
	}
	ended := map[string]bool{}
	for _, old := range before {
		if old == nil || ended[old.ID] {
			continue
		}
		if err := h.end(r, old, "replaced"); err != nil {
			return err
		}
		ended[old.ID] = true
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

func (h *Handler) recordSignIn(r *http.Request, a *attempt, s *session.Session, joined bool) error {
	app, _ := h.apps(a.ReturnHost)
	id := s.Identity
	return h.recordSession(r, RecordSignIn, "", app.Name, s,
		detail{Provider: id.Provider, Host: a.ReturnHost, ACR: id.ACR, AMR: id.AMR, MFA: id.MFA, Joined: joined})
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
func (h *Handler) onward(w http.ResponseWriter, r *http.Request, a *attempt, s *session.Session) error {
	h.remember(w, a.Provider)
	app, _ := h.apps(a.ReturnHost)
	if app.Host == "" {
		h.countReturn(w, r)
		return redirect(w, r, h.authOrigin+portalTarget(a.ReturnPath))
	}
	return h.handOff(w, r, s, app, Target(a.ReturnPath), a.Back)
}
