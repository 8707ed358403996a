package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"sallyport/audit"
	"sallyport/authn"
	"sallyport/authn/personal"
	"sallyport/authn/session"
	"sallyport/gateway/signin"
	"sallyport/gateway/ui"
)

// The portal is what people have on the sign-in host: their apps, where they are signed in, and their access tokens. Each
// page shows and changes what belongs to the person of the session alone; what belongs to others is not there, whoever
// asks for it by its id.

// maxPortalForm bounds what a form of the portal may send.
const maxPortalForm = 16 << 10

// Portal is what people's own pages work with.
type Portal struct {
	Sessions OwnSessions // nil: they see their apps only
	Tokens   OwnTokens   // nil: nobody has personal tokens
}

// OwnSessions finds and ends people's sessions; session.Keeper does and states the errors.
type OwnSessions interface {
	// List tells the app hosts on which each session was used.
	List(ctx context.Context, f session.Filter) ([]session.Session, error)
	End(ctx context.Context, f session.Filter, reason string) ([]session.Session, error)
	// Leave ends what a session has on one app host.
	Leave(ctx context.Context, sessionID, host string) error
}

// OwnTokens makes, finds and revokes people's personal tokens; personal.Keeper does and states the errors.
type OwnTokens interface {
	Config() personal.Config
	Create(ctx context.Context, owner *authn.Identity, r personal.Request) (secret string, t personal.Token, err error)
	List(ctx context.Context, f personal.Filter) ([]personal.Token, error)
	Revoke(ctx context.Context, f personal.Filter) ([]personal.Token, error)
}

// makesTokens reports whether people may make tokens.
func (p Portal) makesTokens() bool { return p.Tokens != nil && p.Tokens.Config().Enabled }

// enterPortal finds out whose pages they are. A stranger is sent to sign in when they read, which false says; what they
// send is refused unread.
func (x *exchange) enterPortal(target string) (bool, error) {
	if handle, ok := x.req.Handle(); ok {
		found, err := x.server.sessions.SignedIn(x.ctx, handle)
		if err != nil && !errors.Is(err, session.ErrNoSession) {
			return false, sessionsUnavailable(err)
		}
		if x.session = found; found != nil {
			x.handle = handle
		}
	}
	if err := x.recheck(); err != nil {
		return false, err
	}
	// A cookie that was taken elsewhere ends here like on an app's host: it must not make tokens or end sessions.
	if err := x.hold(); err != nil {
		return false, err
	}
	if x.session != nil {
		x.conn.identified()
		return true, nil
	}
	if x.reads() {
		return false, x.snap.SignIn.Start(x.w, x.r, x.snap.AuthHost, target, signin.Need{})
	}
	return false, x.portalRefusal(http.StatusUnauthorized, "no_session", "You are not signed in any more",
		"Your session had ended, so nothing was changed.", ui.Action{Label: "Sign in", URL: target})
}

func (x *exchange) reads() bool {
	return x.req.Method == http.MethodGet || x.req.Method == http.MethodHead
}

// portalForm reads what a page of the portal sent. It must have been one of our own pages.
func (x *exchange) portalForm(page string) error {
	if x.req.Method != http.MethodPost {
		x.w.Header().Set("Allow", "GET, HEAD, POST")
		return &Refusal{Status: http.StatusMethodNotAllowed, Effect: audit.Reject, Reason: "method_not_allowed", Public: "This address does not take that kind of request."}
	}
	if err := x.checkSameOrigin(); err != nil {
		refusal := x.portalRefusal(http.StatusForbidden, "cross_origin", "Nothing was changed",
			"Another site asked for a change that only you can make.", ui.Action{Label: "Go back", URL: page})
		refusal.Err = err
		return refusal
	}
	x.r.Body = http.MaxBytesReader(x.w, x.r.Body, maxPortalForm)
	if err := x.r.ParseForm(); err != nil {
		refusal := x.unreadable(page)
		refusal.Err = err
		return refusal
	}
	return nil
}

var errPlainOrigin = errors.New("a page that came without TLS asks")

// checkSameOrigin refuses what pages of other origins send. Of browsers without Fetch Metadata, http.CrossOriginProtection
// compares hosts only: a page of our own host over plain http, which anybody on the way can write, would pass.
func (x *exchange) checkSameOrigin() error {
	if x.r.Header.Get("Sec-Fetch-Site") == "" && strings.HasPrefix(x.r.Header.Get("Origin"), "http:") {
		return errPlainOrigin
	}
	return x.server.crossSite.Check(x.r)
}

func (x *exchange) unreadable(page string) *Refusal {
	return x.portalRefusal(http.StatusBadRequest, "request_invalid", "Nothing was changed",
		"What was sent is not what the page asks for.", ui.Action{Label: "Go back", URL: page})
}

// notYours answers for what is not there, and for what belongs to somebody else: nobody can tell the two apart.
func (x *exchange) notYours(page, what string) *Refusal {
	return x.portalRefusal(http.StatusNotFound, "not_found", "It is not there any more",
		"You have no such "+what+". It may have ended meanwhile.", ui.Action{Label: "Go back", URL: page})
}

func (x *exchange) portalRefusal(status int, reason, title, text string, help ui.Action) *Refusal {
	return &Refusal{Status: status, Effect: audit.Reject, Reason: reason, Public: text,
		Page: ui.Message{Tone: ui.Problem, Label: http.StatusText(status), Title: title, Text: text, Reference: x.id, Actions: []ui.Action{help}}}
}

// frame is what surrounds the pages of the person.
func (x *exchange) frame(here string) ui.Frame {
	who := x.session.Identity
	places := []ui.Place{{Label: "Your apps", URL: "/"}, {Label: "Where you are signed in", URL: signin.SessionsPath}}
	if x.server.portal.makesTokens() {
		places = append(places, ui.Place{Label: "Access tokens", URL: signin.TokensPath})
	}
	for i := range places {
		places[i].Here = places[i].URL == here
	}
	return ui.Frame{Person: who.Name, Email: who.Email, Places: places, SignOut: signin.SignOutPath, FormAction: x.snap.SignIn.FormOrigins()}
}

// changed sends the browser back to the page, so that loading it again changes nothing again.
func (x *exchange) changed(page, done string) error {
	header := x.w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Location", page+"?done="+done)
	x.w.WriteHeader(http.StatusSeeOther)
	return nil
}

// recordOwn writes down what the person is about to change of their own. Without a record nothing is changed.
func (x *exchange) recordOwn(r audit.Record, detail any) error {
	raw, err := json.Marshal(detail)
	if err != nil {
		panic("BUG: detail of a control record: " + err.Error())
	}
	who := x.session.Identity
	r.Type, r.Detail = audit.TypeControl, raw
	r.Actor = &audit.Actor{Kind: string(who.Kind), ID: who.ID(), Name: who.Email, Address: x.conn.ip}
	if err := x.server.control.Record(x.ctx, &r); err != nil {
		return unrecorded(err)
	}
	return nil
}
