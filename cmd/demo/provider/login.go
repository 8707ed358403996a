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
	people []Person
	finish func(ctx context.Context, id string) string // where the browser goes after the password was right
}

func (l *login) show(w http.ResponseWriter, r *http.Request) {
	id := r.FormValue("id")
	if !l.store.known(id) {
		l.render(w, http.StatusNotFound, view{Problem: "This sign-in is not known, or too old. Go back to the app and open it again."})
		return
	}
	l.render(w, http.StatusOK, view{ID: id})
}

func (l *login) submit(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	id, username := r.PostFormValue("id"), r.PostFormValue("username")
	err := l.store.prove(id, username, r.PostFormValue("password"))
	switch {
	case errors.Is(err, errWrongPassword):
		l.render(w, http.StatusForbidden, view{ID: id, Username: username, Problem: "That user name and password do not go together."})
	case err != nil:
		l.render(w, http.StatusNotFound, view{Problem: "This sign-in is not known, or too old. Go back to the app and open it again."})
	default:
		http.Redirect(w, r, l.finish(r.Context(), id), http.StatusSeeOther)
	}
}

// home says what this is to somebody who types the address.
func (l *login) home(w http.ResponseWriter, _ *http.Request) {
	l.render(w, http.StatusOK, view{})
}

type view struct {
	ID, Username, Problem string
}

func (l *login) render(w http.ResponseWriter, status int, v view) {
	var b bytes.Buffer
	err := loginPage.Execute(&b, struct {
		view
		People []Person
		Style  template.CSS
	}{v, l.people, template.CSS(loginCSS)})
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
