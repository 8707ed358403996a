package signin

import (
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"sallyport/authn/oidc"
	"sallyport/authn/session"
)

// Start sends a navigation without a session to sign in and have it return to target, a path with or without a query on
// host. On the sign-in host itself target is "/", the portal. Errors are [*Problem].
func (h *Handler) Start(w http.ResponseWriter, r *http.Request, host, target string, need Need) error {
	if host == h.authHost {
		if h.looping(w, r) {
			return h.loopProblem(h.toPortal())
		}
		return redirect(w, h.authOrigin+StartPath)
	}
	app, ok := h.apps(host)
	if !ok {
		return h.unknownApp()
	}
	target = Target(target)
	if h.looping(w, r) {
		return h.loopProblem(&Action{Label: "Try again", URL: app.Origin + target})
	}
	id := rand.Text()
	verifier := h.carryBack(w, r, id, rand.Text())
	return redirect(w, h.authOrigin+StartPath+"?"+url.Values{
		"app": {app.Host}, "rd": {target}, "back": {id + "." + session.BackHash(verifier)},
	}.Encode())
}

// startRequest is what the sign-in host is asked to start.
type startRequest struct {
	app      App    // zero: the portal
	target   string // path on the app's host
	back     string // id of the back cookie, a dot, and the hash of its verifier
	provider string // empty: not chosen yet
}

func (q startRequest) forPortal() bool { return q.app.Host == "" }

// url is the request again, for links on pages.
func (q startRequest) url(origin, provider string) string {
	values := url.Values{}
	if !q.forPortal() {
		values = url.Values{"app": {q.app.Host}, "rd": {q.target}, "back": {q.back}}
	}
	if provider != "" {
		values.Set("provider", provider)
	}
	if len(values) == 0 {
		return origin + StartPath
	}
	return origin + StartPath + "?" + values.Encode()
}

func (h *Handler) serveStart(w http.ResponseWriter, r *http.Request) error {
	if err := allowOnly(w, r, http.MethodGet, http.MethodHead); err != nil {
		return err
	}
	q, err := h.parseStart(r)
	if err != nil {
		return err
	}
	if !q.forPortal() && !validBack(q.back) { // a link that somebody wrote: the app host starts properly
		return redirect(w, q.app.Origin+q.target)
	}
	s, err := h.signedIn(r)
	switch {
	case err != nil:
		return err
	case s != nil:
		return h.handOff(w, r, s, q.app, q.target, q.back)
	}
	return h.toProvider(w, r, q)
}

func (h *Handler) parseStart(r *http.Request) (startRequest, error) {
	values, err := singleValues(r.URL.RawQuery, "app", "rd", "back", "provider")
	if err != nil {
		return startRequest{}, h.requestInvalid(err)
	}
	q := startRequest{target: Target(values.Get("rd")), back: values.Get("back"), provider: values.Get("provider")}
	if host := values.Get("app"); host != "" {
		app, ok := h.apps(host)
		if !ok {
			return startRequest{}, h.unknownApp()
		}
		q.app = app
	}
	return q, nil
}

// toProvider begins a flow at the one provider or at the one that was chosen.
func (h *Handler) toProvider(w http.ResponseWriter, r *http.Request, q startRequest) error {
	p := h.provider(q.provider)
	if p == nil && len(h.providers) == 1 {
		p = h.providers[0]
	}
	if p == nil {
		return h.choose(q)
	}
	f := p.NewFlow()
	f.ReturnHost, f.ReturnPath, f.Back = q.app.Host, q.target, q.back
	to, err := p.AuthCodeURL(r.Context(), f)
	if failure, ok := errors.AsType[*oidc.Failure](err); ok {
		return h.providerProblem(failure, p.Title(), &Action{Label: "Try again", URL: q.url(h.authOrigin, p.Name())})
	}
	if err != nil {
		return err
	}
	h.carryFlow(w, r, f)
	return redirect(w, to)
}

func (h *Handler) choose(q startRequest) *Problem {
	p := &Problem{Status: http.StatusOK, Code: CodeChooseProvider, Title: "Sign in",
		Text: "Choose where you have your account."}
	for _, provider := range h.providers {
		p.Choices = append(p.Choices, Action{Label: provider.Title(), URL: q.url(h.authOrigin, provider.Name())})
	}
	return p
}

// handOff sends a browser that is signed in on to the app, with a code that only this browser can redeem there, or to the
// portal.
func (h *Handler) handOff(w http.ResponseWriter, r *http.Request, s *session.Session, app App, target, back string) error {
	if app.Host == "" {
		return redirect(w, h.authOrigin+"/")
	}
	id, hash, _ := strings.Cut(back, ".")
	code, err := h.sessions.HandOff(r.Context(), s.ID, app.Host, hash)
	if errors.Is(err, session.ErrNoSession) {
		return h.handOffProblem(CodeHandOffEnded, app, target, err)
	}
	if err != nil {
		return h.sessionsDown(err)
	}
	return redirect(w, app.Origin+ReturnPath+"?"+url.Values{"back": {id}, "code": {code}, "rd": {target}}.Encode())
}

// validBack accepts an id as [rand.Text] makes it, a dot, and a SHA-256 in base64url.
func validBack(back string) bool {
	id, hash, found := strings.Cut(back, ".")
	return found && validID(id) && len(hash) == 43 && strings.Trim(hash, base64url) == ""
}

const (
	base32Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	base64url      = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
)

func validID(id string) bool { return len(id) == 26 && strings.Trim(id, base32Alphabet) == "" }

const maxQuery = 8 << 10

// singleValues parses a query in which the named parameters must not repeat.
func singleValues(rawQuery string, names ...string) (url.Values, error) {
	if len(rawQuery) > maxQuery {
		return nil, errors.New("query is too long")
	}
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, errors.New("query cannot be parsed")
	}
	for _, name := range names {
		if len(values[name]) > 1 {
			return nil, errors.New("parameter " + name + " repeats")
		}
	}
	return values, nil
}

func (h *Handler) requestInvalid(err error) *Problem {
	return &Problem{Status: http.StatusBadRequest, Code: CodeRequestInvalid, Title: "This link does not work",
		Text: "Its address is damaged or was changed.", Action: h.toPortal(), Err: err}
}
