package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/audit"
	"sallyport/authn/personal"
	"sallyport/gateway/signin"
	"sallyport/gateway/ui"
)

// createAge is how long ago a person may have proved themselves to make a token. A token outlives the session: whoever
// finds an unlocked screen, or takes a session's cookie, must not turn it into access for months. An hour is short against
// that and long enough that nobody who has just signed in is asked again.
const createAge = time.Hour

const (
	day = 24 * time.Hour
	// maxTokenName is what the page's field takes, in characters.
	maxTokenName = 60
)

// The codes of the control records. Their detail is the token without its secret.
const (
	codeTokenCreated = "token_created"
	codeTokenRevoked = "token_revoked"
)

// The choices of methods.
const (
	readOnly      = "read"
	everyMethod   = "all"
	chosenMethods = "chosen"
)

var (
	readingMethods = []string{"GET", "HEAD", "OPTIONS"}
	methodChoices  = []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
	lifetimes      = []int{1, 7, 30, 60, 90, 180, 365} // days
)

// serveTokens shows people their access tokens, makes new ones and revokes them.
func (x *exchange) serveTokens() error {
	if in, err := x.enterPortal(signin.TokensPath); !in {
		return err
	}
	if x.reads() {
		return x.readTokens()
	}
	if err := x.portalForm(signin.TokensPath); err != nil {
		return err
	}
	switch x.r.PostForm.Get("do") {
	case "create":
		return x.createToken()
	case "revoke":
		return x.revokeToken(x.r.PostForm.Get("token"))
	}
	return x.unreadable(signin.TokensPath)
}

func (x *exchange) readTokens() error {
	query := x.r.URL.Query()
	if query.Has("confirm") && !x.provedLately() { // with time left to fill in the form
		return x.snap.SignIn.Start(x.w, x.r, x.snap.AuthHost, signin.TokensPath, signin.Need{MaxAge: createAge / 2})
	}
	page := ui.Tokens{Form: x.tokenForm(tokenWish{methods: readOnly, lifetime: 30})}
	if query.Get("done") == "revoked" {
		page.Notice = "The token is revoked: it stops working within seconds."
	}
	return x.showTokens(http.StatusOK, page)
}

// showTokens completes a page with what is there.
func (x *exchange) showTokens(status int, page ui.Tokens) error {
	list, err := x.server.portal.Tokens.List(x.ctx, personal.Filter{Owner: x.session.Identity.ID()})
	if err != nil {
		return tokensUnavailable(err)
	}
	page.Frame, page.Action = x.frame(signin.TokensPath), signin.TokensPath
	for _, t := range list {
		page.List = append(page.List, x.tokenRow(&t))
	}
	if !x.provedLately() {
		page.Confirm = signin.TokensPath + "?confirm=1"
	}
	x.server.pages.Render(x.w, status, page)
	return nil
}

// provedLately reports whether the person proved themselves within createAge. A provider that does not say when has not
// been asked for it: then the sign-in counts.
func (x *exchange) provedLately() bool {
	at := x.session.Identity.AuthTime
	if at.IsZero() {
		at = x.session.Raised
	}
	return x.start.Sub(at) <= createAge
}

// tokenWish is what a person asks for.
type tokenWish struct {
	name     string
	apps     []string
	methods  string // one of the choices
	chosen   []string
	lifetime int // days
}

func wishOf(form map[string][]string) tokenWish {
	one := func(name string) string {
		return strings.TrimSpace(strings.Join(form[name][:min(1, len(form[name]))], ""))
	}
	days, _ := strconv.Atoi(one("lifetime")) // what is no number is none of the choices
	return tokenWish{name: one("name"), apps: form["app"], methods: one("methods"), chosen: form["method"], lifetime: days}
}

// createToken makes a token and shows it this once. The answer to the POST is the page itself: a secret that a second
// request could fetch would have to be kept somewhere, readable.
func (x *exchange) createToken() error {
	if !x.provedLately() {
		return x.portalRefusal(http.StatusForbidden, "confirmation_needed", "Confirm that it is you",
			"You proved who you are more than an hour ago, so no token was made.", ui.Action{Label: "Confirm that it is you", URL: signin.TokensPath + "?confirm=1"})
	}
	wish := wishOf(x.r.PostForm)
	open := x.openApps()
	request, problem := wish.request(x.server.portal.Tokens.Config(), open)
	if problem != "" {
		return x.tokenProblem(wish, problem)
	}
	request.Record = func(ctx context.Context, t personal.Token) error { return x.recordToken(codeTokenCreated, &t) }
	secret, made, err := x.server.portal.Tokens.Create(x.ctx, x.session.Identity, request)
	switch {
	case errors.Is(err, personal.ErrTooMany):
		return x.tokenProblem(wish, "You have as many tokens as you may. Revoke one first.")
	case errors.Is(err, personal.ErrNameTaken):
		return x.tokenProblem(wish, "You have a token of this name. Choose another name, or revoke that one first.")
	case errors.Is(err, personal.ErrInvalid):
		return x.tokenProblem(wish, "Such a token cannot be made. Choose fewer apps or another name.")
	case errors.Is(err, personal.ErrUnavailable):
		return tokensUnavailable(err)
	case err != nil:
		return err
	}
	return x.showTokens(http.StatusOK, ui.Tokens{Made: ui.NewToken{Name: made.Name, Secret: secret, URL: x.exampleURL(made.Apps)},
		Form: x.tokenForm(tokenWish{methods: readOnly, lifetime: 30})})
}

// request is what the wish comes to, or what is wrong with it.
func (t tokenWish) request(limits personal.Config, open []*App) (r personal.Request, problem string) {
	r = personal.Request{Name: t.name, Apps: t.apps, Lifetime: time.Duration(t.lifetime) * day}
	switch {
	case t.name == "" || len([]rune(t.name)) > maxTokenName:
		return r, "Give it a name of at most 60 characters."
	case len(t.apps) == 0:
		return r, "Choose at least one app."
	case !slices.Contains(lifetimesWithin(limits.MaxLifetime), t.lifetime):
		return r, "Choose after how many days it ends."
	}
	for _, name := range t.apps {
		if !slices.ContainsFunc(open, func(a *App) bool { return string(a.Name) == name }) {
			return r, "Choose among the apps that are open to you."
		}
	}
	switch t.methods {
	case readOnly:
		r.Methods = readingMethods
	case everyMethod:
		r.Methods = []string{personal.Any}
	case chosenMethods:
		r.Methods = t.chosen
	}
	if len(r.Methods) == 0 {
		return r, "Choose at least one method."
	}
	for _, m := range t.chosen {
		if !slices.Contains(methodChoices, m) {
			return r, "Choose among the methods that are listed."
		}
	}
	return r, ""
}

func (x *exchange) tokenProblem(wish tokenWish, problem string) error {
	form := x.tokenForm(wish)
	form.Problem = problem
	return x.showTokens(http.StatusUnprocessableEntity, ui.Tokens{Form: form})
}

// tokenForm is the form with a wish filled in.
func (x *exchange) tokenForm(wish tokenWish) ui.TokenForm {
	form := ui.TokenForm{Name: wish.name, Methods: wish.methods}
	for _, app := range x.openApps() {
		form.Apps = append(form.Apps, ui.Option{Value: string(app.Name), Label: app.DisplayName(), Chosen: slices.Contains(wish.apps, string(app.Name))})
	}
	for _, m := range methodChoices {
		form.Chosen = append(form.Chosen, ui.Option{Value: m, Label: m, Chosen: slices.Contains(wish.chosen, m)})
	}
	for _, days := range lifetimesWithin(x.server.portal.Tokens.Config().MaxLifetime) {
		form.Lifetimes = append(form.Lifetimes, ui.Option{Value: strconv.Itoa(days), Label: inDays(days), Chosen: days == wish.lifetime})
	}
	return form
}

// lifetimesWithin are the choices up to the longest that the operator allows, which is one of them.
func lifetimesWithin(longest time.Duration) []int {
	most := int(longest / day)
	within := slices.DeleteFunc(slices.Clone(lifetimes), func(d int) bool { return d >= most })
	if most > 0 {
		within = append(within, most)
	}
	return within
}

func inDays(n int) string {
	if n == 1 {
		return "1 day"
	}
	return strconv.Itoa(n) + " days"
}

func (x *exchange) revokeToken(id string) error {
	owner := x.session.Identity.ID()
	found, err := x.server.portal.Tokens.List(x.ctx, personal.Filter{ID: id, Owner: owner})
	if err != nil {
		return tokensUnavailable(err)
	}
	if id == "" || len(found) != 1 || found[0].Owner != owner || found[0].State(x.start) != personal.Active {
		return x.notYours(signin.TokensPath, "token")
	}
	if err := x.recordToken(codeTokenRevoked, &found[0]); err != nil {
		return err
	}
	if _, err := x.server.portal.Tokens.Revoke(x.ctx, personal.Filter{ID: id, Owner: owner}); err != nil {
		return tokensUnavailable(err)
	}
	return x.changed(signin.TokensPath, "revoked")
}

// recordToken writes down what is about to happen to a token.
func (x *exchange) recordToken(code string, t *personal.Token) error {
	return x.recordOwn(audit.Record{Code: code, Session: x.session.ID}, struct {
		ID      string    `json:"id"`
		Owner   string    `json:"owner"`
		Name    string    `json:"name"`
		Apps    []string  `json:"apps"`
		Methods []string  `json:"methods"`
		Expires time.Time `json:"expires"`
	}{t.ID, t.Owner, t.Name, t.Apps, t.Methods, t.Expires.UTC().Truncate(time.Second)})
}

func tokensUnavailable(err error) *Refusal {
	return &Refusal{Status: http.StatusServiceUnavailable, Effect: audit.Reject, Reason: "tokens_unavailable",
		Public: "The gateway cannot look up your tokens at the moment.", Err: err}
}

// tokenRow is a token as its owner sees it.
func (x *exchange) tokenRow(t *personal.Token) ui.Token {
	state := t.State(x.start)
	row := ui.Token{ID: t.ID, Name: t.Name, Methods: methodsInWords(t.Methods), State: "works", Live: state == personal.Active,
		Created: ui.MomentOf(t.Created, x.start), Used: ui.MomentOf(t.Used, x.start), Expires: ui.MomentOf(t.Expires, x.start)}
	if !row.Live {
		row.State = string(state)
	}
	for _, name := range t.Apps {
		row.Apps = append(row.Apps, x.appTitle(name))
	}
	return row
}

func methodsInWords(methods []string) string {
	switch {
	case slices.Contains(methods, personal.Any):
		return "all"
	case slices.Equal(methods, readingMethods):
		return "read only"
	}
	return strings.Join(methods, ", ")
}

// appTitle is what people read for an app's name, also for one that is gone.
func (x *exchange) appTitle(name string) string {
	for _, app := range x.snap.apps {
		if string(app.Name) == name {
			return app.DisplayName()
		}
	}
	if name == personal.Any {
		return "all"
	}
	return name
}

// exampleURL is the address of an app that a token opens.
func (x *exchange) exampleURL(apps []string) string {
	for _, app := range x.openApps() {
		if slices.Contains(apps, string(app.Name)) {
			return x.snap.URL(app.Host, app.Path)
		}
	}
	return x.snap.portalURL()
}
