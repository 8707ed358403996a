package provider

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
)

const (
	loginPath = "/login"
	maxForm   = 4 << 10
)

//go:embed login.html
var loginHTML string

//go:embed login.css
var loginCSS string

// login is the page where people prove who they are.
type login struct {
	store  *store
	opts   Options
	finish func(ctx context.Context, id string) string // where the browser goes after all was proved
}

const unknownSignIn = "This sign-in is not known, or too old. Go back to the app and open it again."

func (l *login) show(w http.ResponseWriter, r *http.Request) {
	asked, err := l.store.AuthRequestByID(r.Context(), r.FormValue("id"))
	if err != nil {
		l.render(w, r, http.StatusNotFound, view{Problem: unknownSignIn})
		return
	}
	if asked.Done() {
		http.Redirect(w, r, l.finish(r.Context(), asked.GetID()), http.StatusSeeOther)
		return
	}
	l.render(w, r, http.StatusOK, l.ask(r, asked.(*request)))
}

// ask is the page for what is missing.
func (l *login) ask(r *http.Request, asked *request) view {
	v := view{ID: asked.id}
	if asked.person != "" {
		v.Code, v.Username = secondFactor, asked.person
		return v
	}
	known := l.store.signedIn(r.Context())
	switch {
	case asked.admits(known):
		v.Known = l.store.people[known.person].Name
	case known.person != "":
		v.Username, v.Again = known.person, true
	}
	return v
}

func (l *login) submit(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	id, username := r.PostFormValue("id"), r.PostFormValue("username")
	err := l.prove(w, r, id, username)
	if errors.Is(err, errUnknownRequest) {
		l.render(w, r, http.StatusNotFound, view{Problem: unknownSignIn})
		return
	}
	if err != nil {
		v := view{ID: id, Username: username, Problem: problems[err]}
		if errors.Is(err, errWrongCode) {
			v.Code = secondFactor
		}
		l.render(w, r, http.StatusForbidden, v)
		return
	}
	asked, err := l.store.AuthRequestByID(r.Context(), id)
	if err != nil {
		l.render(w, r, http.StatusNotFound, view{Problem: unknownSignIn})
		return
	}
	if !asked.Done() {
		l.render(w, r, http.StatusOK, l.ask(r, asked.(*request)))
		return
	}
	http.Redirect(w, r, l.finish(r.Context(), id), http.StatusSeeOther)
}

var problems = map[error]string{
	errWrongPassword: "That user name and password do not go together.",
	errWrongCode:     "That is not the code.",
	errDisabled:      "This account is disabled.",
}

// prove takes one of the page's three forms.
func (l *login) prove(w http.ResponseWriter, r *http.Request, id, username string) error {
	switch {
	case r.PostForm.Has("code"):
		return l.store.second(id, r.PostFormValue("code"))
	case r.PostForm.Has("continue"):
		return l.store.goOn(r.Context(), id)
	}
	sid, err := l.store.password(r.Context(), id, username, r.PostFormValue("password"))
	if err == nil {
		l.store.setCookie(w, sid)
	}
	return err
}

// home says what this is to somebody who types the address, and lets them sign out here and disable accounts.
func (l *login) home(w http.ResponseWriter, r *http.Request) {
	l.render(w, r, http.StatusOK, view{})
}

func (l *login) disable(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	l.store.disable(r.PostFormValue("username"))
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

type view struct {
	ID, Username, Problem, Notice string

	Known string // who may go on without a password
	Again bool   // somebody known has to prove it anew
	Code  string // the second factor, where it is asked for
}

// account is a person on the page.
type account struct {
	Person
	Disabled bool
}

func (l *login) render(w http.ResponseWriter, r *http.Request, status int, v view) {
	var accounts []account
	for _, p := range l.opts.People {
		accounts = append(accounts, account{p, l.store.isDisabled(p.Username)})
	}
	var b bytes.Buffer
	err := loginPage.Execute(&b, struct {
		view
		Title    string
		SignedIn string
		People   []account
		Style    template.CSS
	}{v, l.opts.Title, l.store.people[l.store.signedIn(r.Context()).person].Name, accounts, template.CSS(loginCSS)})
	if err != nil {
		panic("BUG: rendering the login page: " + err.Error())
	}
	sum := sha256.Sum256([]byte(loginCSS))
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	// No form-action: Chromium holds it against every redirect that follows, through the gateway and on to an app.
	h.Set("Content-Security-Policy", "default-src 'none'; img-src data:; base-uri 'none'; frame-ancestors 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "same-origin")
	w.WriteHeader(status)
	w.Write(b.Bytes()) // the client may have gone; there is nobody else to tell
}

var loginPage = template.Must(template.New("login").Parse(loginHTML))
