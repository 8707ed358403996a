// Package ui renders the pages that people see when the gateway itself answers: the portal of their apps, a refusal, a
// problem with signing in, a finished sign-out, an app that does not answer, and plain messages.
//
// Use: build one [Pages] with [New] and answer with [Pages.Render]; it is safe for concurrent use. Everything a page needs
// travels inside it (stylesheet, mark and icon), so that a refusal on an app's host causes no second request. Pages run no
// scripts and load nothing; whatever a client, an app or an identity provider wrote is shown as inert text.
//
// The package decides nothing and knows no status codes: what happened, and how much of it a person may learn, is for the
// caller to say. Answers for programs are not made here.
package ui

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"strconv"
	"strings"
)

//go:embed templates
var files embed.FS

// Options names what the pages say about the installation.
type Options struct {
	// Product is the name in the page's head and title. Default: "Sallyport".
	Product string
}

// Pages renders every page. Make it with [New].
type Pages struct {
	product   string
	style     template.CSS
	styleHash string // CSP source expression of the one inline stylesheet
	icon      template.URL
	templates *template.Template
}

// New parses the embedded templates.
func New(opts Options) *Pages {
	style := embedded("templates/style.css")
	sum := sha256.Sum256([]byte(style))
	p := &Pages{
		product:   opts.Product,
		style:     template.CSS(style),
		styleHash: "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'",
		icon:      template.URL("data:image/svg+xml;base64," + base64.StdEncoding.EncodeToString([]byte(embedded("templates/icon.svg")))),
	}
	if p.product == "" {
		p.product = "Sallyport"
	}
	funcs := template.FuncMap{"show": show, "plain": plain, "initial": initial, "tint": tint}
	p.templates = template.Must(template.New("").Funcs(funcs).ParseFS(files, "templates/*.html"))
	return p
}

// Render answers with page. The response must be untouched except for headers that the caller adds, such as Retry-After or
// Set-Cookie. For a HEAD request net/http drops the body and keeps its length.
func (p *Pages) Render(w http.ResponseWriter, status int, page Page) {
	s := page.sheet()
	var body bytes.Buffer
	err := p.templates.ExecuteTemplate(&body, "page.html", struct {
		sheet
		Product string
		Style   template.CSS
		Icon    template.URL
	}{s, p.product, p.style, p.icon})
	if err != nil {
		panic("BUG: rendering a page: " + err.Error())
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	h.Set("Content-Security-Policy", p.contentPolicy(s))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	// Not "no-referrer": with it browsers send "Origin: null" on a form's POST, and our own sign-out would look foreign to
	// http.CrossOriginProtection in browsers without Sec-Fetch-Site (Fetch Standard, "append a request Origin header").
	h.Set("Referrer-Policy", "same-origin")
	w.WriteHeader(status)
	w.Write(body.Bytes()) // the client may have gone; there is nobody else to tell
}

// contentPolicy allows the inline stylesheet by hash, the icon, and forms to this host and the page's own list.
func (p *Pages) contentPolicy(s sheet) string {
	directives := []string{
		"default-src 'none'",
		"style-src " + p.styleHash,
		"img-src data:",
		strings.Join(append([]string{"form-action 'self'"}, origins(s.FormAction)...), " "),
		"base-uri 'none'",
	}
	if !s.Framed {
		directives = append(directives, "frame-ancestors 'none'")
	}
	return strings.Join(directives, "; ")
}

func embedded(name string) string {
	data, err := files.ReadFile(name)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return strings.TrimSpace(string(data))
}
