package test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/gateway/admin"
	"sallyport/test/harness"
	"sallyport/test/rfc9111"
)

// cachedApps share a cache: two hosts for staff, one for everybody. APP is the app behind them. What they say stays as it is, for the
// suite to read.
const cachedApps = `
  - name: wiki
    host: wiki.corp.test
    upstreams: ["APP"]
    access: { groups: [staff] }
    security_headers: { nosniff: false, frame: any, referrer: any, opener: any, resource: any, deny: [] }
    cache:
      enabled: true
      shared: true
      paths: [{ path: /free/, identity_free: true }, { path: /own/, shared: false }, { path: /cookies/, store_set_cookie: true }, { path: /never/, enabled: false }]
  - name: payroll
    host: payroll.corp.test
    upstreams: ["APP"]
    access: { groups: [finance] }
    security_headers: { nosniff: false, frame: any, referrer: any, opener: any, resource: any, deny: [] }
    cache: { enabled: true, shared: true }
  - name: public
    host: public.corp.test
    upstreams: ["APP"]
    access: { public: true }
    security_headers: { nosniff: false, frame: any, referrer: any, opener: any, resource: any, deny: [] }
    cache: { enabled: true, shared: true }
`

// optionalFloor is how many of the optional cases must pass. Not done: ranges pieced together from partial answers, a POST
// whose answer is one to GET; not let through by the gateway: methods that nobody registered, interim answers, and cookies without
// Secure and HttpOnly.
const optionalFloor = 254

// TestRFC9111 plays the suite through the real gateway: every exchange is authenticated, decided and recorded.
func TestRFC9111(t *testing.T) {
	origin := rfc9111.NewOrigin(t)
	house := openHouse(t, origin.URL, "cache: { memory: 64MiB, max_entry: 8MiB }")
	for _, person := range []string{"ada", "bob", "eve"} {
		house.enter(t, person, "staff", "finance")
	}
	score := rfc9111.Run(t, house, origin, rfc9111.Cases(t))
	t.Log(score)
	if score.Passed[rfc9111.Optional] < optionalFloor {
		t.Errorf("%d optional cases pass, want %d", score.Passed[rfc9111.Optional], optionalFloor)
	}
}

// house is a gateway with a cache, and the people who come to it.
type house struct {
	*harness.Stand
	gateway   *harness.Process
	transport *http.Transport
	apps      string
	uncached  bool // the gateway's cache has no memory
	staff     bool // whom the wiki is for at the moment, unless a test says otherwise

	mu       sync.Mutex
	sessions map[string]*http.Cookie // by person and app
}

// openHouse starts a gateway before an app. extra are top-level lines of the configuration.
func openHouse(t *testing.T, app, extra string) *house {
	t.Helper()
	h := &house{uncached: strings.Contains(extra, "memory: 0"), staff: true, apps: strings.ReplaceAll(cachedApps, "APP", app), sessions: map[string]*http.Cookie{}}
	h.Stand = harness.New(t, h.apps, extra)
	h.gateway = h.Start(t)
	h.transport = h.Transport()
	h.transport.DisableCompression = true
	t.Cleanup(h.transport.CloseIdleConnections)
	return h
}

// enter signs a person in at every app. Signed in again, the person has new sessions.
func (h *house) enter(t *testing.T, person string, groups ...string) {
	t.Helper()
	h.enterAs(t, person, person, groups...)
}

// enterAs signs a person in under a name of the test's own, so that one person can be there twice.
func (h *house) enterAs(t *testing.T, name, person string, groups ...string) {
	t.Helper()
	browser := h.Browser()
	for _, app := range []string{"wiki", "payroll"} {
		h.SignIn(t, browser, app, person, groups...)
		cookie := h.Cookie(t, browser, app)
		h.mu.Lock()
		h.sessions[name+"@"+app] = cookie
		h.mu.Unlock()
	}
}

// Send asks as a person.
func (h *house) Send(person, app string, r *http.Request) (*http.Response, error) {
	public, err := r.URL.Parse(h.URL(app, r.URL.RequestURI()))
	if err != nil {
		return nil, err
	}
	r.URL, r.Host = public, public.Host
	h.mu.Lock()
	cookie := h.sessions[person+"@"+app]
	h.mu.Unlock()
	if cookie != nil {
		r.AddCookie(cookie)
	}
	return h.transport.RoundTrip(r)
}

// Base is an app's origin.
func (h *house) Base(app string) string { return h.URL(app, "") }

// page is what somebody got.
type page struct {
	status int
	header http.Header
	body   string
}

func (p page) String() string {
	return fmt.Sprintf("%d %.300q (Age %s, Cache-Status %s)", p.status, p.body, p.header.Get("Age"), p.header.Get("Cache-Status"))
}

// get asks for a page; lines are header fields.
func (h *house) get(t testing.TB, person, app, path string, lines ...string) page {
	t.Helper()
	return h.ask(t, http.MethodGet, person, app, path, lines...)
}

func (h *house) ask(t testing.TB, method, person, app, path string, lines ...string) page {
	t.Helper()
	p, err := h.try(method, person, app, path, lines...)
	if err != nil {
		t.Fatalf("%s %s %s as %s: %v", method, app, path, person, err)
	}
	return p
}

func (h *house) try(method, person, app, path string, lines ...string) (page, error) {
	r, err := http.NewRequest(method, path, http.NoBody)
	if err != nil {
		return page{}, err
	}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	res, err := h.Send(person, app, r)
	if err != nil {
		return page{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return page{res.StatusCode, res.Header, string(body)}, err
}

// shelf is an app whose pages say who they were made for. What it says about a path beside that is the test's matter.
type shelf struct {
	*httptest.Server

	mu     sync.Mutex
	says   map[string]http.Header
	held   map[string]chan struct{} // answers to these paths wait
	served []serving
}

// serving is one answer of the shelf.
type serving struct {
	path   string
	at     time.Time
	header http.Header // of the request
}

func newShelf(t *testing.T) *shelf {
	s := &shelf{says: map[string]http.Header{}, held: map[string]chan struct{}{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// say sets what answers to a path say from now on: lines of header fields.
func (s *shelf) say(path string, lines ...string) {
	header := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		header.Add(name, value)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.says[path] = header
}

// hold makes answers to a path wait until release.
func (s *shelf) hold(path string) (release func()) {
	gate := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[path] = gate
	return sync.OnceFunc(func() { close(gate) })
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	n := len(s.served)
	s.served = append(s.served, serving{r.URL.Path, time.Now(), r.Header.Clone()})
	says, gate := s.says[r.URL.Path], s.held[r.URL.Path]
	s.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-r.Context().Done():
			return
		}
	}
	maps.Copy(w.Header(), says)
	fmt.Fprintf(w, "page %d for %s of %s", n, r.Header.Get("X-Sallyport-Email"), r.Header.Get("X-Sallyport-Groups"))
}

// asked is how often the app was asked for a path.
func (s *shelf) asked(path string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.served {
		if one.path == path {
			n++
		}
	}
	return n
}

// openShelf is a house with a shelf and two people: ada of staff and finance, bob of staff.
func openShelf(t *testing.T) (*house, *shelf) {
	t.Helper()
	app := newShelf(t)
	h := openHouse(t, app.URL, "cache: { memory: 64MiB, max_entry: 8MiB }")
	h.enter(t, "ada", "staff", "finance")
	h.enter(t, "bob", "staff")
	return h, app
}

// wantAsked fails when the app was asked more or less often.
func wantAsked(t *testing.T, app *shelf, path string, want int, why string) {
	t.Helper()
	if n := app.asked(path); n != want {
		t.Errorf("%s: the app was asked %d times for %s, want %d", why, n, path, want)
	}
}

// CACHE-01, CACHE-12, CACHE-20: what is stored is for those whom the gateway lets in, each time.
func TestCacheStandsBehindTheDecision(t *testing.T) {
	h, app := openShelf(t)
	const asset = "/asset.css"
	app.say(asset, "Cache-Control: public, max-age=3600")
	first := h.get(t, "ada", "wiki", asset)
	if second := h.get(t, "bob", "wiki", asset); second.body != first.body {
		t.Fatalf("bob got %s, want ada's %s", second, first)
	}
	t.Run("CACHE-01 a stranger", func(t *testing.T) {
		for _, lines := range [][]string{nil, {"Range: bytes=0-0"}, {"If-None-Match: *"}, {"Cache-Control: only-if-cached"},
			{"Cookie: __Host-sallyport=made-up"}, {"Accept: text/css"}} {
			if got := h.get(t, "nobody", "wiki", asset, lines...); got.status != http.StatusUnauthorized || strings.Contains(got.body, "page") {
				t.Errorf("with %q a stranger got %s", lines, got)
			}
		}
	})
	t.Run("CACHE-12 a range leaves the whole alone", func(t *testing.T) {
		if got := h.get(t, "ada", "wiki", asset, "Range: bytes=0-0"); got.status != http.StatusPartialContent || got.body != first.body[:1] {
			t.Errorf("the first byte is %s", got)
		}
		if got := h.get(t, "ada", "wiki", asset); got.status != http.StatusOK || got.body != first.body {
			t.Errorf("the whole is %s", got)
		}
	})
	t.Run("CACHE-16 another host has its own entries and its own policy", func(t *testing.T) {
		if got := h.get(t, "bob", "payroll", asset); got.status != http.StatusForbidden || strings.Contains(got.body, "page") {
			t.Errorf("bob got %s of payroll", got)
		}
		if got := h.get(t, "ada", "payroll", asset); got.status != http.StatusOK || got.body == first.body {
			t.Errorf("ada got %s of payroll", got)
		}
	})
	t.Run("CACHE-20 a policy that changes", func(t *testing.T) {
		before := app.asked(asset)
		h.Write(t, strings.Replace(h.apps, "groups: [staff]", "groups: [finance]", 1))
		if out, code := h.Sallyport(t, "reload"); code != 0 {
			t.Fatalf("reload: exit %d: %s", code, out)
		}
		if got := h.get(t, "bob", "wiki", asset); got.status != http.StatusForbidden || strings.Contains(got.body, "page") {
			t.Errorf("bob got %s after the policy forbade it", got)
		}
		if got := h.get(t, "ada", "wiki", asset); got.body != first.body {
			t.Errorf("ada got %s after a reload that allows her, want the stored page", got)
		}
		wantAsked(t, app, asset, before, "CACHE-20")
	})
	t.Run("a session that is revoked", func(t *testing.T) {
		revoke(t, h.Stand, "ada")
		harness.Eventually(t, revocationFelt, "the revocation to be felt", func() bool {
			return h.get(t, "ada", "wiki", asset).status == http.StatusUnauthorized
		})
		if got := h.get(t, "ada", "wiki", asset); got.status != http.StatusUnauthorized || strings.Contains(got.body, "page") {
			t.Errorf("a revoked session got %s", got)
		}
	})
	t.Run("every hit is on record", func(t *testing.T) { hitsAreRecorded(t, h) })
}

// hitsAreRecorded holds outcome records against the decisions they name: only what was allowed comes out of the cache.
func hitsAreRecorded(t *testing.T, h *house) {
	t.Helper()
	waitForOutcome(t, h.Stand, func(r audit.Record) bool { return r.Outcome != nil && r.Outcome.Cache == "hit" })
	list := records(t, h.Stand)
	gapless(t, list)
	decisions := decisionsByRequest(t, list)
	for _, r := range list {
		if r.Type != audit.TypeOutcome || r.Outcome.Cache == "" {
			continue
		}
		if d := decisions[r.RequestID]; d.Effect != audit.Allow || d.ID != r.Outcome.Of || d.Seq > r.Seq {
			t.Errorf("the cache answered %s, decided as %s %s", r.RequestID, d.Effect, d.Reason)
		}
	}
	if out, code := h.Sallyport(t, "audit", "query", "--json", "--type", "outcome"); code != 0 || !strings.Contains(out, `"cache":"hit"`) {
		t.Errorf("audit query shows no hit: exit %d, %.500s", code, out)
	}
}

// CACHE-02, CACHE-03, CACHE-05, CACHE-06, CACHE-07: what an app does not clearly give to everybody is given to nobody
// else, whatever the path looks like.
func TestCacheSharesOnlyWhatTheAppGivesToEverybody(t *testing.T) {
	h, app := openShelf(t)
	for name, c := range map[string]struct {
		path string
		says []string
		asks []string
	}{
		"CACHE-02 a profile that ends in .css":      {path: "/profile/x.css"},
		"CACHE-02 a profile below a folder":         {path: "/static/profile/x.js"},
		"CACHE-03 max-age alone":                    {path: "/max-age", says: []string{"Cache-Control: max-age=60"}},
		"CACHE-03 must-revalidate alone":            {path: "/must-revalidate", says: []string{"Cache-Control: max-age=60, must-revalidate"}},
		"CACHE-03 Expires":                          {path: "/expires", says: []string{"Expires: Thu, 18 Aug 2050 02:01:18 GMT"}},
		"CACHE-03 a guess":                          {path: "/guess", says: []string{"Last-Modified: Thu, 18 Aug 2005 02:01:18 GMT"}},
		"CACHE-05 private":                          {path: "/private", says: []string{"Cache-Control: private, max-age=60"}},
		"CACHE-05 private and public":               {path: "/both", says: []string{"Cache-Control: public, private, s-maxage=60"}},
		"CACHE-06 no-store":                         {path: "/no-store", says: []string{"Cache-Control: no-store, public, max-age=60"}},
		"CACHE-07 a cookie":                         {path: "/cookie", says: []string{"Cache-Control: public, max-age=60", "Set-Cookie: sid=secret"}},
		"a request with a cookie":                   {path: "/with-cookie", says: []string{"Cache-Control: public, max-age=60"}, asks: []string{"Cookie: a=b"}},
		"a request with Authorization":              {path: "/with-authorization", says: []string{"Cache-Control: s-maxage=60"}, asks: []string{"Authorization: Basic YTpi"}},
		"an answer that varies by user":             {path: "/by-user", says: []string{"Cache-Control: public, max-age=60", "Vary: X-Sallyport-User"}},
		"an answer that varies by groups":           {path: "/by-groups", says: []string{"Cache-Control: public, max-age=60", "Vary: Accept, x-sallyport-GROUPS"}},
		"an answer that varies by cookie":           {path: "/by-cookie", says: []string{"Cache-Control: public, max-age=60", "Vary: Cookie"}},
		"an answer where the operator shares none":  {path: "/own/page", says: []string{"Cache-Control: public, max-age=60"}},
		"an answer where the operator caches none":  {path: "/never/page", says: []string{"Cache-Control: public, max-age=60"}},
		"an identity-free answer that says private": {path: "/free/private", says: []string{"Cache-Control: private, max-age=60"}},
	} {
		t.Run(name, func(t *testing.T) {
			app.say(c.path, c.says...)
			ada := h.get(t, "ada", "wiki", c.path, c.asks...)
			bob := h.get(t, "bob", "wiki", c.path)
			if ada.status != http.StatusOK || bob.status != http.StatusOK || ada.body == bob.body || bob.header.Get("Age") != "" {
				t.Errorf("ada got %s, bob got %s", ada, bob)
			}
			wantAsked(t, app, c.path, 2, name)
			if got := h.get(t, "nobody", "wiki", c.path); got.status != http.StatusUnauthorized {
				t.Errorf("a stranger got %s", got)
			}
		})
	}
}

// An app hears nothing of anybody on paths that the operator declared identity-free, and answers once for all.
func TestCacheSharesIdentityFreePaths(t *testing.T) {
	h, app := openShelf(t)
	const path = "/free/logo.svg"
	app.say(path, "Cache-Control: max-age=60")
	first := h.get(t, "ada", "wiki", path, "Cookie: theme=dark", "Authorization: Basic YTpi")
	second := h.get(t, "bob", "wiki", path, "Cookie: theme=light")
	if first.status != http.StatusOK || second.body != first.body {
		t.Errorf("ada got %s, bob got %s", first, second)
	}
	wantAsked(t, app, path, 1, "identity-free")
	app.mu.Lock()
	defer app.mu.Unlock()
	for _, one := range app.served {
		if one.path != path {
			continue
		}
		for name, values := range one.header {
			if text := strings.Join(values, ","); name == "Cookie" || name == "Authorization" || name == "X-Sallyport-Assertion" || strings.Contains(text, "ada") || strings.Contains(text, "staff") {
				t.Errorf("the app was told %s: %s", name, text)
			}
		}
	}
}

// What the gateway tells the app about a person decides whose entries are whose: the same person in other groups is
// another partition.
func TestCacheForgetsWhenThePersonChanges(t *testing.T) {
	h, app := openShelf(t)
	const path = "/dashboard"
	app.say(path, "Cache-Control: max-age=3600")
	before := h.get(t, "ada", "wiki", path)
	if again := h.get(t, "ada", "wiki", path); again.body != before.body {
		t.Errorf("ada got %s, then %s", before, again)
	}
	h.enter(t, "ada", "staff")
	after := h.get(t, "ada", "wiki", path)
	if after.body == before.body || strings.Contains(after.body, "finance") {
		t.Errorf("ada, who left finance, got %s", after)
	}
	h.enter(t, "ada", "staff")
	if again := h.get(t, "ada", "wiki", path); again.body != after.body {
		t.Errorf("ada with a new session and the same groups got %s, want %s", again, after)
	}
}

// Strangers on a public app are one partition of their own: they get nothing that was made for somebody, nor somebody
// what was made for them, unless the app gives it to everybody.
func TestCacheKeepsStrangersApart(t *testing.T) {
	h, app := openShelf(t)
	app.say("/mine", "Cache-Control: max-age=3600")
	app.say("/everybody", "Cache-Control: public, max-age=3600")
	one, two := h.get(t, "nobody", "public", "/mine"), h.get(t, "nobody", "public", "/mine")
	if one.status != http.StatusOK || two.body != one.body {
		t.Errorf("strangers got %s and %s", one, two)
	}
	wantAsked(t, app, "/mine", 1, "strangers")
	shared := h.get(t, "nobody", "public", "/everybody")
	if got := h.get(t, "nobody", "public", "/everybody"); got.body != shared.body {
		t.Errorf("strangers got %s and %s", shared, got)
	}
	if got := h.get(t, "ada", "wiki", "/mine"); got.body == one.body {
		t.Errorf("another app has the strangers' page: %s", got)
	}
}

// CACHE-19: one request to the app serves all who wait for the same answer, once it is known to be for all of them; each
// was decided before it began to wait.
func TestCacheCollapsesWhatIsForEverybody(t *testing.T) {
	h, app := openShelf(t)
	h.enter(t, "eve", "visitors")
	t.Run("an answer for everybody", func(t *testing.T) {
		app.say("/slow", "Cache-Control: public, max-age=3600")
		pages := inFlight(t, h, app, "/slow")
		if pages["ada"].body != pages["bob"].body || pages["ada"].status != http.StatusOK {
			t.Errorf("ada got %s, bob got %s", pages["ada"], pages["bob"])
		}
		wantAsked(t, app, "/slow", 1, "CACHE-19")
	})
	for name, says := range map[string][]string{
		"max-age":  {"Cache-Control: max-age=3600"},
		"private":  {"Cache-Control: private, max-age=3600"},
		"no-store": {"Cache-Control: no-store"},
		"a cookie": {"Cache-Control: public, max-age=3600", "Set-Cookie: sid=secret"},
		"vary":     {"Cache-Control: public, max-age=3600", "Vary: X-Sallyport-User"},
		"nothing":  {},
		"all":      {"Cache-Control: public, max-age=3600", "Vary: *"},
	} {
		t.Run("an answer for one: "+name, func(t *testing.T) {
			path := "/slow/" + strings.Trim(strings.ReplaceAll(name, " ", "-"), "*")
			app.say(path, says...)
			pages := inFlight(t, h, app, path)
			if !strings.Contains(pages["ada"].body, "ada@") || !strings.Contains(pages["bob"].body, "bob@") {
				t.Errorf("ada got %s, bob got %s", pages["ada"], pages["bob"])
			}
		})
	}
}

// inFlight lets ada, bob and eve, whom the policy denies, ask for the same page while the app still thinks.
func inFlight(t *testing.T, h *house, app *shelf, path string) map[string]page {
	t.Helper()
	release := app.hold(path)
	defer release()
	var group sync.WaitGroup
	var mu sync.Mutex
	pages := map[string]page{}
	for _, person := range []string{"ada", "bob"} {
		group.Go(func() {
			p, err := h.try(http.MethodGet, person, "wiki", path)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			pages[person] = p
		})
	}
	harness.Eventually(t, 2*time.Minute, "both to be decided", func() bool { return allowed(t, h, path) == 2 })
	if denied := h.get(t, "eve", "wiki", path); denied.status != http.StatusForbidden {
		t.Errorf("eve got %s while others waited", denied)
	}
	release()
	group.Wait()
	return pages
}

// allowed counts allow records for a path.
func allowed(t *testing.T, h *house, path string) (n int) {
	for _, r := range records(t, h.Stand) {
		if r.Type == audit.TypeDecision && r.Effect == audit.Allow && strings.Contains(string(r.Input), `"path":"`+path+`"`) {
			n++
		}
	}
	return n
}

// What one person changes is changed for all.
func TestCacheForgetsWhatSomebodyChanged(t *testing.T) {
	h, app := openShelf(t)
	app.say("/page", "Cache-Control: max-age=3600")
	app.say("/shared", "Cache-Control: public, max-age=3600")
	before := map[string]page{}
	for _, person := range []string{"ada", "bob"} {
		before[person] = h.get(t, person, "wiki", "/page")
		h.get(t, person, "wiki", "/shared")
	}
	wantAsked(t, app, "/shared", 1, "shared")
	h.ask(t, http.MethodPost, "ada", "wiki", "/page")
	h.ask(t, http.MethodPut, "bob", "wiki", "/shared")
	for _, person := range []string{"ada", "bob"} {
		if got := h.get(t, person, "wiki", "/page"); got.body == before[person].body {
			t.Errorf("%s got %s after ada's POST", person, got)
		}
	}
	h.get(t, "ada", "wiki", "/shared")
	wantAsked(t, app, "/shared", 3, "after bob's PUT")
}

// An operator drops what is stored, by URL, by prefix and by app, and is on record.
func TestCacheIsPurgedByTheOperator(t *testing.T) {
	h, app := openShelf(t)
	paths := []string{"/docs/a", "/docs/b", "/docsearch", "/other"}
	for _, path := range paths {
		app.say(path, "Cache-Control: max-age=3600")
	}
	asked := func() (n []int) {
		for _, path := range paths {
			h.get(t, "ada", "wiki", path)
			h.get(t, "bob", "wiki", path)
			n = append(n, app.asked(path))
		}
		return n
	}
	if got := fmt.Sprint(asked(), asked()); got != "[2 2 2 2] [2 2 2 2]" {
		t.Fatalf("the app was asked %s times before any purge", got)
	}
	for _, step := range []struct {
		args []string
		want string
	}{
		{[]string{"--url", h.URL("wiki", "/docs/a")}, "[4 2 2 2]"},
		{[]string{"--prefix", h.URL("wiki", "/docs/")}, "[6 4 2 2]"},
		{[]string{"--app", "wiki"}, "[8 6 4 4]"},
	} {
		if out, code := h.Sallyport(t, append([]string{"cache", "purge"}, step.args...)...); code != 0 {
			t.Errorf("purge %q: exit %d: %s", step.args, code, out)
		}
		if got := fmt.Sprint(asked()); got != step.want {
			t.Errorf("after purge %q the app was asked %s times, want %s", step.args, got, step.want)
		}
	}
	for _, code := range []string{admin.CodePurge, admin.CodePurged} {
		list := readLog(t, h.Stand, audit.ControlLog, audit.Filter{Code: code})
		if len(list) != 3 {
			t.Errorf("%d records say %s, want 3", len(list), code)
		}
		for _, r := range list {
			if r.Actor == nil || r.Actor.Kind != "os" || len(r.Detail) == 0 {
				t.Errorf("%s is recorded without saying who or what: %+v", code, r)
			}
		}
	}
}

// CACHE-23: however much apps give to store, memory stays within its bound, and the gateway answers.
func TestCacheIsBoundedByBytes(t *testing.T) {
	const size, pages, workers = 64 << 10, 5000, 8 // 312 MiB through a cache of 16 MiB
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=3600")
		io.WriteString(w, strings.Repeat(r.URL.Path[len(r.URL.Path)-1:], size))
	}))
	t.Cleanup(app.Close)
	h := openHouse(t, app.URL, "cache: { memory: 16MiB, max_entry: 1MiB }")
	h.enter(t, "ada", "staff")
	before := residentMemory(t, h.gateway.Pid())
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for n := w; n < pages; n += workers {
				p, err := h.try(http.MethodGet, "ada", "wiki", fmt.Sprintf("/%d", n))
				if err != nil || p.status != http.StatusOK || len(p.body) != size {
					t.Errorf("page %d: %d, %d bytes, %v", n, p.status, len(p.body), err)
					return
				}
			}
		})
	}
	group.Wait()
	after := residentMemory(t, h.gateway.Pid())
	t.Logf("%d MiB before, %d MiB after %d MiB", before>>20, after>>20, pages*size>>20)
	// The rest is the collector's: it lets garbage grow by tens of megabytes before it works.
	if grown := after - before; grown > 180<<20 {
		t.Errorf("CACHE-23: the gateway grew by %d MiB", grown>>20)
	}
}

// residentMemory is how much of a process is in memory, in bytes.
func residentMemory(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
