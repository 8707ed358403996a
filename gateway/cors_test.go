package gateway

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/gateway/canon"
	"sallyport/gateway/headers"
	"sallyport/gateway/route"
	"sallyport/policy"
)

const intranet = "https://intranet.corp.test"

// METH-04: a preflight is no way past the policy. Nobody's Origin is repeated that is not configured, and no app is asked by
// a stranger.
func TestPreflightsAreNoBypass(t *testing.T) {
	for _, c := range []struct {
		name       string
		cors       headers.CORS
		public     bool
		origin     string
		handle     string
		status     int
		reason     string
		allowed    string
		reachesApp bool
	}{
		{name: "undeclared", origin: "https://evil.example", status: 401, reason: "unauthenticated"},
		{name: "undeclared, null", origin: "null", status: 401, reason: "unauthenticated"},
		{name: "undeclared, public app", public: true, origin: "https://evil.example", status: 200, reason: "rule", allowed: "", reachesApp: true},
		{name: "declared", cors: headers.CORS{Origins: []string{intranet}}, origin: intranet, status: 204, reason: "cors_preflight", allowed: intranet},
		{name: "declared, another", cors: headers.CORS{Origins: []string{intranet}}, origin: "https://evil.example", status: 401, reason: "cors_origin"},
		{name: "declared, a part of the name", cors: headers.CORS{Origins: []string{intranet}}, origin: intranet + ".evil.example", status: 401, reason: "cors_origin"},
		{name: "declared, null", cors: headers.CORS{Origins: []string{intranet}}, origin: "null", status: 401, reason: "cors_origin"},
		{name: "declared, another, public app", public: true, cors: headers.CORS{Origins: []string{intranet}}, origin: "https://evil.example", status: 401, reason: "cors_origin"},
		{name: "declared, another, signed in", cors: headers.CORS{Origins: []string{intranet}}, origin: "https://evil.example", handle: "ada", status: 403, reason: "cors_origin"},
	} {
		app := &heard{}
		b := newBed(t, app.ServeHTTP)
		cfg := wiki(t, b.origin, "staff")
		cfg.CORS = c.cors
		if c.public {
			cfg.Access = policy.Access{{Public: true}}
		}
		b.server.Swap(snapshot(t, cfg))
		r := b.request(t, "OPTIONS", "/page", c.handle, nil)
		r.Header.Set("Origin", c.origin)
		r.Header.Set("Access-Control-Request-Method", "DELETE")
		res, err := b.client(t, "h2").Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != c.status || res.Header.Get("Access-Control-Allow-Origin") != c.allowed {
			t.Errorf("%s: got %d %v", c.name, res.StatusCode, res.Header)
		}
		if _, count := app.last(); (count == 1) != c.reachesApp {
			t.Errorf("%s: the app was asked %d times", c.name, count)
		}
		if list := b.log.of(audit.TypeDecision); len(list) != 1 || c.reason != "rule" && list[0].Reason != c.reason || c.status == 204 && list[0].Effect != audit.Reject {
			t.Errorf("%s: on record is %+v", c.name, list)
		}
		if c.status == 204 && (res.Header.Get("Access-Control-Allow-Methods") != "GET, HEAD, POST" || !strings.Contains(res.Header.Get("Vary"), "Origin")) {
			t.Errorf("%s: %v", c.name, res.Header)
		}
	}
}

// What listed pages may read is said to them, to each by its name, whoever's answer is in the cache; what the app says of it
// does not count.
func TestSharingIsSaidBehindTheCache(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=600")
		w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
		w.Header().Set("Access-Control-Allow-Credentials", "true")
	})
	const second = "https://second.corp.test"
	b.cached(t, func(app *route.App) {
		app.CORS = headers.CORS{Origins: []string{intranet, second}, Expose: []string{"X-Total"}, MaxAge: time.Minute}
	})
	for _, origin := range []string{intranet, "https://evil.example", second, "", "null", intranet} {
		r := b.request(t, "GET", "/page", "ada", nil)
		want := ""
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		if origin == intranet || origin == second {
			want = origin
		}
		res, err := b.client(t, "h2").Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		h := res.Header
		if h.Get("Access-Control-Allow-Origin") != want || h["Access-Control-Allow-Credentials"] != nil || !slices.Contains(h["Vary"], "Origin") || (h["Access-Control-Expose-Headers"] != nil) != (want != "") {
			t.Errorf("%q: %v", origin, h)
		}
	}
}

// Without cors, what the app says of it passes.
func TestOwnSharingOfAppsPasses(t *testing.T) {
	b := newBed(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Access-Control-Allow-Origin", intranet) })
	res, err := b.client(t, "h2").Do(b.request(t, "GET", "/page", "ada", nil))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got := res.Header.Get("Access-Control-Allow-Origin"); got != intranet {
		t.Errorf("got %q", got)
	}
}

// crossSite are requests as browsers and others send them, and whether another site's page is behind them.
var crossSite = []struct {
	method, origin, site string
	want                 bool
}{
	{"POST", "", "", false}, // no browser
	{"POST", "https://" + wikiHost, "", false},
	{"POST", "https://" + wikiHost, "same-origin", false},
	{"POST", "null", "same-origin", false}, // a page without referrers, to its own app
	{"POST", "", "none", false},
	{"POST", "https://evil.example", "cross-site", true},
	{"POST", "https://evil.example", "", true},
	{"POST", "https://git.corp.test", "same-site", true}, // another app
	{"POST", "https://git.corp.test", "", true},
	{"POST", "http://" + wikiHost, "", true},
	{"POST", "https://" + wikiHost + ":8443", "", true},
	{"POST", "null", "", true},
	{"POST", "null", "cross-site", true},
	{"POST", "", "cross-site", true},
	{"POST", "", "made-up", true},
	{"POST", "https://evil.example", "same-origin", true}, // contradicts itself
	{"POST", "https://" + wikiHost + " https://evil.example", "", true},
	{"POST", intranet, "same-site", false}, // listed
	{"POST", intranet, "", false},
	{"POST", "https://sockets.corp.test", "same-site", true}, // listed for WebSockets only
	{"PUT", "https://evil.example", "cross-site", true},
	{"DELETE", "https://evil.example", "cross-site", true},
	{"PATCH", "https://evil.example", "cross-site", true},
	{"MKCOL", "https://evil.example", "cross-site", true},
	{"GET", "https://evil.example", "cross-site", false},
	{"HEAD", "https://evil.example", "cross-site", false},
	{"OPTIONS", "https://evil.example", "cross-site", false},
}

func (b *bed) exchangeOf(t *testing.T, method, origin, site string) *exchange {
	t.Helper()
	header := http.Header{}
	if origin != "" {
		header["Origin"] = []string{origin}
	}
	if site != "" {
		header["Sec-Fetch-Site"] = []string{site}
	}
	return &exchange{server: b.server, snap: b.server.Snapshot(), req: &canon.Request{Method: method, Header: header}}
}

func TestCrossSiteRequestsThatChangeSomething(t *testing.T) {
	b := newBed(t, nil)
	app := wiki(t, b.origin, "staff")
	app.CORS.Origins, app.WebSocketOrigins = []string{intranet}, []string{"https://sockets.corp.test"}
	b.server.Swap(snapshot(t, app))
	judge := func(rule func(x *exchange, app *App) bool) (wrong []string) {
		for _, c := range crossSite {
			x := b.exchangeOf(t, c.method, c.origin, c.site)
			if got := rule(x, x.snap.apps["wiki"]); got != c.want {
				wrong = append(wrong, fmt.Sprintf("%s %q %q: %t", c.method, c.origin, c.site, got))
			}
		}
		return wrong
	}
	if wrong := judge((*exchange).crossSiteUnsafe); wrong != nil {
		t.Errorf("wrong: %q", wrong)
	}
	for name, mutant := range map[string]func(x *exchange, app *App) bool{
		"the site alone":       func(x *exchange, app *App) bool { return x.req.FetchSite() == "cross-site" && x.crossSiteUnsafe(app) },
		"the origin alone":     func(x *exchange, app *App) bool { return x.crossSiteUnsafe(app) && x.req.Origin() != "" },
		"whatever the method":  func(x *exchange, app *App) bool { return x.req.FetchSite() == "cross-site" || x.crossSiteUnsafe(app) },
		"siblings are friends": func(x *exchange, app *App) bool { return x.crossSiteUnsafe(app) && x.req.FetchSite() != "same-site" },
		"null is harmless":     func(x *exchange, app *App) bool { return x.crossSiteUnsafe(app) && x.req.Origin() != "null" },
		"a beginning is enough": func(x *exchange, app *App) bool {
			return x.crossSiteUnsafe(app) && !strings.HasPrefix(x.req.Origin(), app.origin)
		},
		"sockets' origins count": func(x *exchange, app *App) bool {
			return x.crossSiteUnsafe(app) && !app.admitsOrigin(x.req.Header["Origin"])
		},
	} {
		if judge(mutant) == nil {
			t.Errorf("%s: not found", name)
		}
	}
}
