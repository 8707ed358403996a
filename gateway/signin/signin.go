// Package signin is the HTTP of signing in and out, on the sign-in host and on the hosts of apps.
//
// The way of a browser, and the method that answers it:
//
//	app host    any page, no session         Start        back cookie; to start, with its hash
//	auth host   /.sallyport/start            ServeAuth    signed in already: to return. Else flow cookie; to the provider
//	auth host   /.sallyport/callback/<name>  ServeAuth    flow spent, code redeemed, session made; to return
//	app host    /.sallyport/return           ServeReturn  hand-off code and back cookie for a session on this host; to the page
//	either      /.sallyport/signout          ServeAuth, SignOut
//	auth host   /.sallyport/signedout        ServeAuth    back from signing out at the provider
//
// A session that falls short of a [Need] takes the same way and is raised. Providers themselves call, without a browser:
//
//	auth host   /.sallyport/backchannel/<name>  ServeAuth  sessions end that the provider signed out (Back-Channel Logout 1.0)
//
// Nothing is kept on the server before the callback: until then the browser carries everything, sealed. Every URL is made
// from the configuration, never from a request. What goes wrong is a [*Problem]; the caller renders it. Every sign-in,
// failed sign-in and sign-out is recorded before it takes effect.
package signin

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/authn/oidc"
	"sallyport/authn/session"
)

// Paths of the endpoints.
const (
	Prefix       = "/.sallyport/"
	StartPath    = Prefix + "start"
	CallbackPath = Prefix + "callback/" // and the provider's name
	ReturnPath   = Prefix + "return"
	SignOutPath  = Prefix + "signout"
	// SignedOutPath is where a provider sends browsers after it signed them out, registered with it as
	// post_logout_redirect_uri.
	SignedOutPath = Prefix + "signedout"
	// BackChannelPath and the provider's name is where a provider says that it signed somebody out, registered with it as
	// backchannel_logout_uri.
	BackChannelPath = Prefix + "backchannel/"
	// ResendPath is where an app host offers to send a kept form. It is the one endpoint of an app host that a sign-in may
	// return to.
	ResendPath = Prefix + "resend"
	// SessionsPath and TokensPath are pages of the portal, which a sign-in for the sign-in host may return to.
	SessionsPath = Prefix + "sessions"
	TokensPath   = Prefix + "tokens"
)

// Sessions keeps sessions and seals what browsers carry; [session.Keeper] does and states the errors.
type Sessions interface {
	SignIn(ctx context.Context, n session.NewSession) (handle string, s *session.Session, err error)
	SignedIn(ctx context.Context, handle string) (*session.Session, error)
	Lookup(ctx context.Context, host, handle string) (*session.Session, error)
	HandOff(ctx context.Context, sessionID, host, backHash string) (code string, err error)
	Redeem(ctx context.Context, code, host, backVerifier string) (handle string, s *session.Session, err error)
	SignOutHost(ctx context.Context, host, handle string) (*session.Session, error)
	SignOut(ctx context.Context, sessionID string) error
	Seal(purpose string, plaintext []byte) string
	Open(purpose, sealed string) ([]byte, error)
	Spend(ctx context.Context, id string, until time.Time) (bool, error)
	// Current is a session as it is stored now.
	Current(ctx context.Context, sessionID string) (*session.Session, error)
	Raise(ctx context.Context, sessionID, oldHandle string, r session.Renewal) (handle string, s *session.Session, err error)
	Secrets(ctx context.Context, sessionID string) (session.Secrets, int64, error)
	List(ctx context.Context, f session.Filter) ([]session.Session, error)
	End(ctx context.Context, f session.Filter, reason string) ([]session.Session, error)
	// Claim lets one of many have a name for a time, or until it is released.
	Claim(ctx context.Context, name string, hold time.Duration) (mine bool, release func(), err error)
	// Surplus are the person's sessions, oldest first, beyond as many as one person may have.
	Surplus(ctx context.Context, person string) ([]session.Session, error)
}

// Limits bound what sign-ins may cost. An error is the answer to the browser in place of going on.
type Limits interface {
	// Return is asked when a browser comes back from a provider with a sign-in that it began, before that is remembered as
	// spent.
	Return() error
	// Account is asked when a person (provider|subject) proved who they are, before they get a session.
	Account(person string) error
	// Counted reports whether a sign-in that failed, of nobody knows whom, was counted, so that it needs no record of its
	// own.
	Counted(reason string) bool
}

// Recorder writes control records. The record is durable when Record returns nil; after an error what it records must not
// happen. It may be called at once from many goroutines.
type Recorder interface {
	Record(ctx context.Context, r *audit.Record) error
}

// App is an app as people reach it.
type App struct {
	Name   string // as records name it
	Title  string // as people read it; empty: Name
	Host   string
	Origin string // https://host[:port]
	// Providers are the names of the providers whose people the app is for, in the order to offer them; empty: all.
	Providers []string
}

// Options are what a Handler needs. All but Log and Now are required.
type Options struct {
	// AuthOrigin is the origin of the sign-in host, https://auth.<domain>[:port].
	AuthOrigin string
	// Providers are offered in this order; there is no choice to make when it is one.
	Providers []*oidc.Provider
	Sessions  Sessions
	// Apps finds the app of a host; false when there is none.
	Apps   func(host string) (App, bool)
	Record Recorder
	Log    *slog.Logger     // nil: nothing is logged
	Now    func() time.Time // nil: time.Now
}

// Handler answers the endpoints of sign-in. It is immutable; its methods may be called at once from many goroutines.
type Handler struct {
	authOrigin string
	authHost   string
	providers  []*oidc.Provider
	sessions   Sessions
	apps       func(host string) (App, bool)
	recorder   Recorder
	log        *slog.Logger
	now        func() time.Time
	crossSite  *http.CrossOriginProtection
	siblings   *siblings
	limits     Limits               // nil: none
	seen       func() session.Bound // nil: sessions are bound to nothing
}

// New returns a Handler.
func New(opts Options) *Handler {
	h := &Handler{
		authOrigin: opts.AuthOrigin, authHost: hostOf(opts.AuthOrigin), providers: opts.Providers, sessions: opts.Sessions,
		apps: opts.Apps, recorder: opts.Record, log: opts.Log, now: opts.Now, crossSite: http.NewCrossOriginProtection(),
		siblings: newSiblings(),
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.now == nil {
		h.now = time.Now
	}
	return h
}

// Within is the handler with limits.
func (h *Handler) Within(limits Limits) *Handler {
	within := *h
	within.limits = limits
	return &within
}

// Seeing is the handler that binds new sessions to what seen returns of the browser.
func (h *Handler) Seeing(seen func() session.Bound) *Handler {
	seeing := *h
	seeing.seen = seen
	return &seeing
}

func (h *Handler) boundOf() session.Bound {
	if h.seen == nil {
		return session.Bound{}
	}
	return h.seen()
}

// CallbackURL is where a provider sends browsers back to: what is registered with it and what [oidc.Options] wants.
func CallbackURL(authOrigin, provider string) string {
	return authOrigin + CallbackPath + provider
}

// ServeAuth answers every path of the sign-in host except the portal and the key set.
func (h *Handler) ServeAuth(w http.ResponseWriter, r *http.Request) error {
	switch path := r.URL.Path; {
	case path == StartPath:
		return h.serveStart(w, r)
	case strings.HasPrefix(path, CallbackPath):
		return h.serveCallback(w, r, strings.TrimPrefix(path, CallbackPath))
	case path == SignOutPath:
		return h.SignOut(w, r, h.authHost)
	case path == SignedOutPath:
		return h.serveSignedOut(w, r)
	case strings.HasPrefix(path, BackChannelPath):
		return h.serveBackChannel(w, r, strings.TrimPrefix(path, BackChannelPath))
	}
	return h.notFound()
}

func (h *Handler) provider(name string) *oidc.Provider {
	for _, p := range h.providers {
		if p.Name() == name {
			return p
		}
	}
	return nil
}

// redirect sends the browser on, from a form with a GET (RFC 9110 §15.4.4). The address may hold a code, so it is neither
// stored nor passed on as a referrer.
func redirect(w http.ResponseWriter, r *http.Request, to string) error {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Location", to)
	if r.Method == http.MethodPost {
		w.WriteHeader(http.StatusSeeOther)
		return nil
	}
	w.WriteHeader(http.StatusFound)
	return nil
}

// allowOnly refuses other methods.
func allowOnly(w http.ResponseWriter, r *http.Request, methods ...string) error {
	if slices.Contains(methods, r.Method) {
		return nil
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	return &Problem{Status: http.StatusMethodNotAllowed, Code: CodeMethod, Title: "That does not work here",
		Text: "This address does not take that kind of request."}
}

func hostOf(origin string) string {
	u, err := url.Parse(origin)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

func (a App) title() string {
	if a.Title == "" {
		return a.Name
	}
	return a.Title
}
