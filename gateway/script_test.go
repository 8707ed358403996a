package gateway

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"sallyport/gateway/headers"
)

// What a page's script is refused it can read: a status, JSON, and, of a page of another origin that the app admits, the
// fields without which browsers make a network error of it. Never a redirect. Where the app admits no other origin, which is
// the mutant, the fields are missing.
func TestScriptsReadWhyTheyWereRefused(t *testing.T) {
	fields := func(pairs ...string) func(*http.Request) {
		return func(r *http.Request) {
			for i := 0; i < len(pairs); i += 2 {
				r.Header.Set(pairs[i], pairs[i+1])
			}
		}
	}
	for name, c := range map[string]struct {
		with   func(*http.Request)
		method string
		status int
	}{
		"fetch":                      {fields("Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Sec-Fetch-Site", "same-site"), "GET", 401},
		"fetch that accepts HTML":    {fields("Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Sec-Fetch-Site", "same-origin", "Accept", "text/html"), "GET", 401},
		"fetch that sends":           {fields("Sec-Fetch-Mode", "same-origin", "Sec-Fetch-Dest", "empty", "Sec-Fetch-Site", "same-origin", "Content-Type", "text/plain"), "POST", 401},
		"EventSource":                {fields("Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty", "Accept", "text/event-stream"), "GET", 401},
		"XMLHttpRequest, old":        {fields("X-Requested-With", "XMLHttpRequest", "Accept", "text/html, */*; q=0.01"), "GET", 401},
		"htmx, old":                  {fields("Hx-Request", "true", "Accept", "text/html"), "GET", 401},
		"WebSocket":                  {fields("Connection", "Upgrade", "Upgrade", "websocket", "Sec-Websocket-Version", "13", "Sec-Websocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-Fetch-Mode", "websocket"), "GET", 401},
		"fetch of who may not":       {fields("Sec-Fetch-Mode", "cors", "Cookie", "__Host-sallyport=bob"), "GET", 403},
		"fetch of what is ambiguous": {fields("Sec-Fetch-Mode", "cors", "Cookie", "__Host-sallyport=bob", "Content-Length", "0"), "GET", 403},
	} {
		t.Run(name, func(t *testing.T) {
			for _, mutant := range []bool{false, true} {
				b := newBed(t, func(http.ResponseWriter, *http.Request) { t.Error("the app was asked") })
				b.sessions.put("bob", "finance")
				app := wiki(t, b.origin, "staff")
				if !mutant {
					app.CORS = headers.CORS{Origins: []string{intranet}, Credentials: true, Expose: []string{"X-Count"}}
				}
				b.server.Swap(snapshot(t, app))
				r := b.request(t, c.method, "/page", "", nil)
				r.Header.Set("Origin", intranet)
				c.with(r)
				res := sent(t, b, r)
				if res.StatusCode != c.status || res.Header.Get("Location") != "" || res.Header.Get("Content-Type") != "application/json" {
					t.Errorf("got %d %s to %q", res.StatusCode, res.Header.Get("Content-Type"), res.Header.Get("Location"))
				}
				if (res.Header.Get("WWW-Authenticate") != "") != (c.status == 401) {
					t.Errorf("got %d with the challenge %q", res.StatusCode, res.Header.Get("WWW-Authenticate"))
				}
				reads := res.Header.Get("Access-Control-Allow-Origin") == intranet && res.Header.Get("Access-Control-Allow-Credentials") == "true" &&
					strings.Contains(strings.Join(res.Header["Access-Control-Expose-Headers"], ","), "WWW-Authenticate") && slices.Contains(res.Header["Vary"], "Origin")
				if reads == mutant {
					t.Errorf("mutant %v: the page may read it: %v (%v)", mutant, reads, res.Header)
				}
			}
		})
	}
}

// Nothing is said to pages of origins that the app does not admit.
func TestOtherOriginsReadNoRefusal(t *testing.T) {
	b := newBed(t, func(http.ResponseWriter, *http.Request) {})
	app := wiki(t, b.origin, "staff")
	app.CORS = headers.CORS{Origins: []string{intranet}, Credentials: true}
	b.server.Swap(snapshot(t, app))
	for _, origin := range []string{"", "null", "https://evil.example", intranet + ".evil.example"} {
		r := b.request(t, "GET", "/page", "", nil)
		r.Header.Set("Sec-Fetch-Mode", "cors")
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		if res := sent(t, b, r); res.StatusCode != 401 || res.Header.Get("Access-Control-Allow-Origin") != "" || res.Header.Get("Access-Control-Expose-Headers") != "" {
			t.Errorf("%q: got %d %v", origin, res.StatusCode, res.Header)
		}
	}
}
