// Package apps holds the demo's apps: a wiki with a live side, a payroll with a restricted part, and an app that shows what
// an app receives. Each is an http.Handler that believes one thing only about who is asking: the gateway's assertion,
// checked against the gateway's published keys. Everything lives in memory.
package apps

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"

	"github.com/coreos/go-oidc/v3/oidc"
)

// Visitor is who the gateway says is asking.
type Visitor struct {
	Subject string // provider|sub
	Name    string
	Email   string
	Groups  []string
}

// Shown is the visitor's name, or else the e-mail address, or else the subject.
func (v *Visitor) Shown() string {
	for _, s := range []string{v.Name, v.Email} {
		if s != "" {
			return s
		}
	}
	return v.Subject
}

// Gatekeeper checks the gateway's assertions for one app.
type Gatekeeper struct{ verifier *oidc.IDTokenVerifier }

// NewGatekeeper makes the Gatekeeper of the app whose public origin is given. Keys come from the issuer's
// /.sallyport/jwks.json through client, when the first visitor arrives and when a key is not known yet.
func NewGatekeeper(client *http.Client, issuer, origin string) *Gatekeeper {
	keys := oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), client), issuer+"/.sallyport/jwks.json")
	return &Gatekeeper{oidc.NewVerifier(issuer, keys, &oidc.Config{ClientID: origin, SupportedSigningAlgs: []string{oidc.ES256}})}
}

var errNoAssertion = errors.New("there is no X-Sallyport-Assertion: the request did not come through the gateway")

// Visitor returns who is asking; an error means that the request proves nothing.
func (g *Gatekeeper) Visitor(r *http.Request) (*Visitor, error) {
	assertion := r.Header.Get("X-Sallyport-Assertion")
	if assertion == "" {
		return nil, errNoAssertion
	}
	token, err := g.verifier.Verify(r.Context(), assertion)
	if err != nil {
		return nil, err
	}
	v := &Visitor{Subject: token.Subject}
	return v, token.Claims(v)
}

// admit serves requests of visitors only: other programs on this machine can reach the app's port too.
func (g *Gatekeeper) admit(serve func(http.ResponseWriter, *http.Request, *Visitor)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		visitor, err := g.Visitor(r)
		if err != nil {
			http.Error(w, "This app is reached through the gateway only: "+err.Error(), http.StatusUnauthorized)
			return
		}
		serve(w, r, visitor)
	}
}

//go:embed page.html
var pageHTML string

//go:embed style.css
var styleCSS string

// page renders an app's pages: a common frame around the app's own templates.
type page struct {
	app       string
	script    string // path of the app's one script; empty: none
	templates *template.Template
}

func newPage(app, script, templates string) *page {
	all := template.Must(template.New("page").Parse(pageHTML))
	return &page{app, script, template.Must(all.Parse(templates))}
}

// show answers with the template name, which reads data.
func (p *page) show(w http.ResponseWriter, status int, name string, visitor *Visitor, data any) {
	var content, whole bytes.Buffer
	err := p.templates.ExecuteTemplate(&content, name, data)
	if err == nil {
		err = p.templates.ExecuteTemplate(&whole, "page", struct {
			App, Script string
			Visitor     *Visitor
			Style       template.CSS
			Content     template.HTML
		}{p.app, p.script, visitor, template.CSS(styleCSS), template.HTML(content.String())})
	}
	if err != nil {
		panic("BUG: rendering a page of " + p.app + ": " + err.Error())
	}
	sum := sha256.Sum256([]byte(styleCSS))
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; img-src data:; script-src 'self'; connect-src 'self'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(whole.Bytes()) // the client may have gone; there is nobody else to tell
}
