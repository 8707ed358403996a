package canon

import (
	"net/http"
	"strings"
)

// Navigation reports whether a person is opening a page, which is when a redirect to the sign-in makes sense. framed
// says that the page would open inside another one, where no sign-in may be shown.
func (q *Request) Navigation() (navigation, framed bool) {
	if q.Method != http.MethodGet && q.Method != http.MethodHead {
		return false, false
	}
	return q.ReadsPages()
}

// ReadsPages reports whether a person will read the answer: a navigation, or a form that was sent. Programs, scripts of
// a page and the parts of a page read something else.
//
// Browsers say so by Sec-Fetch-Mode and Sec-Fetch-Dest (https://www.w3.org/TR/fetch-metadata/). From a client that
// sends neither, a request that names text/html in Accept and brings no Authorization is taken for one.
func (q *Request) ReadsPages() (page, framed bool) {
	if q.Upgrade != "" {
		return false, false
	}
	if q.FetchMode() == "" && q.FetchDest() == "" && q.FetchSite() == "" {
		return q.Header["Authorization"] == nil && q.Token == "" && !q.byScript() && acceptsHTML(q.Header["Accept"]), false
	}
	if q.FetchMode() != "navigate" {
		return false, false
	}
	switch q.FetchDest() {
	case "document", "empty":
		// A service worker that fetches the page on behalf of the browser has no destination any more. Only browsers can
		// make a navigation of a fetch: scripts cannot (https://fetch.spec.whatwg.org/#dom-request).
		return true, false
	case "iframe", "frame", "embed", "object", "fencedframe":
		return true, true
	}
	return false, false
}

// byScript reports whether a library says that a page's script asks, which older browsers do not tell: its redirect to a
// sign-in would be an error without a word. htmx asks for text/html.
func (q *Request) byScript() bool {
	return q.Header["X-Requested-With"] != nil || q.Header["Hx-Request"] != nil
}

// acceptsHTML wants text/html by name: "*/*" is what programs send.
func acceptsHTML(accept []string) bool {
	for _, list := range accept {
		for media := range strings.SplitSeq(list, ",") {
			kind, _, _ := strings.Cut(media, ";")
			if strings.EqualFold(strings.Trim(kind, " \t"), "text/html") {
				return true
			}
		}
	}
	return false
}
