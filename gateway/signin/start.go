package signin

import (
	"crypto/rand"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"sallyport/authn/oidc"
	"sallyport/authn/session"
)

// Start sends a navigation that lacks a session, or one that meets the need, to sign in and have it return to target: a
// path with or without a query on host. On the sign-in host itself target is a page of the portal. Errors are [*Problem].
func (h *Handler) Start(w http.ResponseWriter, r *http.Request, host, target string, need Need) error {
	values := url.Values{}
	if sealed := h.sealNeed(need); sealed != "" {
		values.Set("need", sealed)
	}
	if host == h.authHost {
		target = portalTarget(target)
		if h.looping(w, r, need) {
			return h.loopProblem(need, &Action{Label: "Try again", URL: h.authOrigin + target})
		}
		if target != "/" {
			values.Set("rd", target)
		}
		return redirect(w, r, startURL(h.authOrigin, values))
	}
	app, ok := h.apps(host)
	if !ok {
		return h.unknownApp()
	}
	target = Target(target)
	again := &Action{Label: "Try again", URL: app.Origin + target}
	if h.looping(w, r, need) {
		return h.loopProblem(need, again)
	}
	id := rand.Text()
	verifier, fits := h.carryBack(w, r, id, rand.Text())
	if !fits {
		return h.manyTabs(again.URL)
	}
	values.Set("app", app.Host)
	values.Set("rd", target)
	values.Set("back", id+"."+session.BackHash(verifier))
	return redirect(w, r, startURL(h.authOrigin, values))
}

func startURL(origin string, values url.Values) string {
	if len(values) == 0 {
		return origin + StartPath
	}
	return origin + StartPath + "?" + values.Encode()
}

// portalTarget is the page of the portal to return to.
func portalTarget(rd string) string {
	if rd == SessionsPath || rd == TokensPath {
		return rd
	}
	return "/"
}

// startRequest is what the sign-in host is asked to start.
type startRequest struct {
	app      App    // zero: the portal
	target   string // path on the app's host
	back     string // id of the back cookie, a dot, and the hash of its verifier
	need     needed
	sealed   string // need as it came
	provider string // empty: not chosen yet
	email    string // what the person said in place of choosing
}

func (q startRequest) forPortal() bool { return q.app.Host == "" }

// what people are about to open.
func (q startRequest) what() string {
	if q.forPortal() {
		return "this page"
	}
	return q.app.title()
}

func (q startRequest) values() url.Values {
	values := url.Values{"rd": {q.target}}
	if !q.forPortal() {
		values.Set("app", q.app.Host)
		values.Set("back", q.back)
	}
	if q.forPortal() && q.target == "/" {
		values.Del("rd")
	}
	if q.sealed != "" {
		values.Set("need", q.sealed)
	}
	return values
}

// url is the request again, for links on pages.
func (q startRequest) url(origin, provider string) string {
	values := q.values()
	if provider != "" {
		values.Set("provider", provider)
	}
	return startURL(origin, values)
}

// fields is the request again, for forms on pages.
func (q startRequest) fields() []Field {
	var fields []Field
	values := q.values()
	for _, name := range slices.Sorted(maps.Keys(values)) {
		fields = append(fields, Field{name, values.Get(name)})
	}
	return fields
}

func (h *Handler) serveStart(w http.ResponseWriter, r *http.Request) error {
	if err := allowOnly(w, r, http.MethodGet, http.MethodHead, http.MethodPost); err != nil {
		return err
	}
	q, err := h.parseStart(w, r)
	if err != nil {
		return err
	}
	if !q.forPortal() && !validBack(q.back) { // a link that somebody wrote: the app host starts properly
		return redirect(w, r, q.app.Origin+q.target)
	}
	s, _, err := h.signedIn(r)
	if err != nil {
		return err
	}
	if s != nil && named(h.candidates(q), s.Identity.Provider) != nil && q.need.metBy(s, h.now()) {
		return h.handOff(w, r, s, q.app, q.target, q.back)
	}
	return h.toProvider(w, r, q, s)
}

// maxStartForm bounds the form in which people say their address: the request's target, escaped, is most of it.
const maxStartForm = 16 << 10

func (h *Handler) parseStart(w http.ResponseWriter, r *http.Request) (startRequest, error) {
	values, err := startValues(w, r)
	if err != nil {
		return startRequest{}, h.requestInvalid(err)
	}
	if r.Method == http.MethodPost {
		if err := h.checkOrigin(r); err != nil {
			return startRequest{}, &Problem{Status: http.StatusForbidden, Code: CodeCrossOrigin, Title: "This form does not work here",
				Text: "Another site sent it.", Action: h.toPortal(), Err: err}
		}
	}
	q := startRequest{target: Target(values.Get("rd")), back: values.Get("back"), provider: values.Get("provider"), sealed: values.Get("need")}
	if q.need = h.openNeed(q.sealed); q.need.isZero() {
		q.sealed = ""
	}
	if email := strings.TrimSpace(values.Get("email")); r.Method == http.MethodPost && validEmail(email) {
		q.email = email
	}
	host := values.Get("app")
	if host == "" {
		q.target = portalTarget(values.Get("rd"))
		return q, nil
	}
	app, ok := h.apps(host)
	if !ok {
		return startRequest{}, h.unknownApp()
	}
	q.app = app
	return q, nil
}

func startValues(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	raw := r.URL.RawQuery
	if r.Method == http.MethodPost {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxStartForm))
		if err != nil {
			return nil, err
		}
		raw = string(body)
	}
	return singleValues(raw, maxStartForm, "app", "rd", "back", "provider", "need", "email")
}

// toProvider begins a flow.
func (h *Handler) toProvider(w http.ResponseWriter, r *http.Request, q startRequest, s *session.Session) error {
	p, err := h.choose(r, q, s)
	if err != nil {
		return err
	}
	a := &attempt{Flow: p.NewFlow(), Raises: ""}
	a.ReturnHost, a.ReturnPath, a.Back = q.app.Host, q.target, q.back
	a.Demand = q.need.demand()
	a.Demand.Login = q.email
	if s != nil && s.Identity.Provider == p.Name() {
		a.Raises, a.Demand.Login = s.ID, s.Identity.Email
		a.Demand.Silent = q.need.Recheck && meets(s, a.Demand, q.need.Since, h.now())
	}
	return h.send(w, r, p, a, q.url(h.authOrigin, p.Name()))
}

// send carries an attempt to its provider. What fails begins again at the address.
func (h *Handler) send(w http.ResponseWriter, r *http.Request, p *oidc.Provider, a *attempt, again string) error {
	to, err := p.AuthCodeURL(r.Context(), a.Flow)
	if failure, ok := errors.AsType[*oidc.Failure](err); ok {
		return h.providerProblem(failure, p.Title(), &Action{Label: "Try again", URL: again})
	}
	if err != nil {
		return err
	}
	if !h.carryFlow(w, r, a) {
		return h.manyTabs(again)
	}
	return redirect(w, r, to)
}

// anew is where an attempt that fell short begins again. The provider is to ask this time, whatever it remembers: asked the
// same way it would answer the same, and nobody could choose the stronger way.
func (h *Handler) anew(a *attempt) string {
	q := startRequest{target: a.ReturnPath, back: a.Back}
	q.app, _ = h.apps(a.ReturnHost)
	q.sealed = h.sealNeed(Need{MFA: a.Demand.MFA, ACR: a.Demand.ACR, MaxAge: time.Duration(a.Demand.MaxAge) * time.Second, Fresh: true})
	return q.url(h.authOrigin, a.Provider)
}

// handOff sends a browser that is signed in on to the app, with a code that only this browser can redeem there, or to the
// portal.
func (h *Handler) handOff(w http.ResponseWriter, r *http.Request, s *session.Session, app App, target, back string) error {
	if app.Host == "" {
		return redirect(w, r, h.authOrigin+portalTarget(target))
	}
	id, hash, _ := strings.Cut(back, ".")
	code, err := h.sessions.HandOff(r.Context(), s.ID, app.Host, hash)
	if errors.Is(err, session.ErrNoSession) {
		return h.handOffProblem(CodeHandOffEnded, app, target, err)
	}
	if err != nil {
		return h.sessionsDown(err)
	}
	return redirect(w, r, app.Origin+ReturnPath+"?"+url.Values{"back": {id}, "code": {code}, "rd": {target}}.Encode())
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

// singleValues parses a query, or a form, of up to so many bytes in which the named parameters must not repeat.
func singleValues(rawQuery string, most int, names ...string) (url.Values, error) {
	if len(rawQuery) > most {
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
