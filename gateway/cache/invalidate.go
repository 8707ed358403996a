package cache

import (
	"net/http"
	"net/url"
	"strings"
)

// isSafe holds for methods that change nothing (RFC 9110 §9.2.1, and the IANA registry). What is unknown may change
// something.
func isSafe(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY":
		return true
	}
	return false
}

// invalidate makes entries useless that a change has overtaken (RFC 9111 §4.4): those of the request's own URL and of the
// ones that the answer names, for everyone, unless the app refused the change.
func (x *exchange) invalidate(res *http.Response) {
	if isSafe(x.r.Method) || res.StatusCode < 200 || res.StatusCode > 399 {
		return
	}
	x.app.invalidate(x.viewer.URL)
	for _, name := range [...]string{"Location", "Content-Location"} {
		if at := single(res.Header, name); at != "" {
			if changed, ok := sameOrigin(x.viewer.URL, at); ok {
				x.app.invalidate(changed)
			}
		}
	}
}

func (a *app) invalidate(url string) {
	a.generation(url).Add(1)
	a.invalidated.Add(1)
}

// sameOrigin resolves a reference and reports whether it stays on the origin: nobody invalidates another's entries.
func sameOrigin(base, reference string) (string, bool) {
	from, err := url.Parse(base)
	if err != nil {
		return "", false
	}
	to, err := from.Parse(reference)
	if err != nil || to.Scheme != from.Scheme || authority(to) != authority(from) || to.User != nil {
		return "", false
	}
	to.Host = from.Host
	to.Fragment, to.RawFragment = "", ""
	if to.Path == "" {
		to.Path = "/"
	}
	return to.String(), true
}

// authority is host and port, the latter always written.
func authority(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return strings.ToLower(u.Hostname()) + ":" + port
}
