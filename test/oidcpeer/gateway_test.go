package oidcpeer

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/audit"
	"sallyport/test/harness"
)

// patience is for what must come, on a machine that is busy.
const patience = time.Minute

// company is an installation whose people are at a company's provider.
type company struct {
	*harness.Stand
	peer *Peer
	gw   *harness.Process
}

// companyApps: the wiki is for staff, payroll wants a second factor.
const companyApps = `
  - { name: wiki, host: wiki.corp.test, upstreams: ["ORIGIN"], access: { groups: [staff] } }
  - { name: payroll, host: payroll.corp.test, upstreams: ["ORIGIN"], sensitivity: high, access: { groups: [staff], acr: [two] } }
`

// newCompany starts one. Settings are further top-level lines of the configuration.
func newCompany(t *testing.T, settings string, changes ...func(*Options)) *company {
	t.Helper()
	s := harness.New(t, companyApps, settings)
	c := &company{Stand: s, peer: For(t, s, changes...)}
	c.gw = s.Start(t)
	return c
}

var (
	ada = Login{Name: "ada", Code: "123456"}
	ben = Login{Name: "ben", Code: "123456"}
)

// signedIn is a browser in which somebody has the wiki open.
func (c *company) signedIn(t *testing.T, as Login) *http.Client {
	t.Helper()
	browser := c.Browser()
	if page := c.peer.Open(t, browser, c.URL("wiki", "/here?x=1"), as); page.Status != http.StatusOK || page.URL.RequestURI() != "/here?x=1" {
		t.Fatalf("signing in as %s ended at %s with %d: %.2000s", as.Name, page.URL, page.Status, page.Body)
	}
	return browser
}

// program asks with a browser's cookies and follows nothing.
func (c *company) program(browser *http.Client) *http.Client {
	return &http.Client{Transport: c.Transport(), Jar: browser.Jar, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// status is what a program with the browser's cookies gets.
func (c *company) status(t *testing.T, browser *http.Client, label string) int {
	t.Helper()
	status, _ := harness.Get(t, c.program(browser), c.URL(label, "/"))
	return status
}

// control are the control records with a code.
func (c *company) control(t *testing.T, code string) (list []audit.Record) {
	t.Helper()
	reader, err := audit.OpenReader(filepath.Join(c.Dir, "audit"), audit.ControlLog)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for entry, err := range reader.All(t.Context(), audit.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if entry.Record.Code == code {
			list = append(list, *entry.Record)
		}
	}
	return list
}

// told waits for a control record with a code and a reason about a person's session.
func (c *company) told(t *testing.T, code, reason string) (found audit.Record) {
	t.Helper()
	harness.Eventually(t, patience, code+" "+reason+" to be on record", func() bool {
		for _, r := range c.control(t, code) {
			if r.Reason == reason {
				found = r
				return true
			}
		}
		return false
	})
	return found
}

// A person comes by a link, signs in and is where the link led; the provider's second answer needs no password.
func TestGatewaySignsInAtOIDCProvider(t *testing.T) {
	t.Parallel()
	c := newCompany(t, "")
	browser := c.signedIn(t, ada)
	for _, seen := range c.Origin.Seen() {
		if got := seen.Header.Get("X-Sallyport-User"); got != "corp|ada" {
			t.Errorf("the app was told %q", got)
		}
	}
	if got := c.peer.Calls(t, "refused"); got != 0 {
		t.Errorf("the provider refused %d token requests", got)
	}
	params := c.peer.Sessions(t)[0].Params
	if params["code_challenge_method"] != "S256" || params["nonce"] == "" || params["prompt"] != "" {
		t.Errorf("the authorization request was %v", params)
	}
	if page := c.peer.Open(t, browser, c.URL("auth", "/"), ada); page.Status != http.StatusOK || len(page.Visited) > 0 {
		t.Errorf("the portal of somebody who is signed in: %d after %q", page.Status, page.Visited)
	}
	if page := c.peer.Open(t, c.Browser(), c.URL("wiki", "/"), Login{Name: "ben"}); page.Status != http.StatusOK {
		t.Errorf("another person, without a second factor: %d", page.Status)
	}
}

// OIDC-22: many tabs ask at once when the session is due, and again. The provider, which takes back the whole grant when a
// refresh token comes twice, hears of one refresh each time, and nobody is signed out.
func TestGatewayRefreshesOnceForManyTabs(t *testing.T) {
	t.Parallel()
	c := newCompany(t, "session: { recheck: 2s }")
	browser := c.signedIn(t, ada)
	c.peer.Delay(t, 300)
	for round := 1; round <= 3; round++ {
		began, before := time.Now(), c.peer.Calls(t, "refresh_token")
		harness.Eventually(t, patience, "the session to be due", func() bool { return time.Since(began) > 2100*time.Millisecond })
		var tabs sync.WaitGroup
		answers := make([]int, 40)
		client := c.program(browser)
		for i := range answers {
			tabs.Go(func() {
				res, err := client.Get(c.URL("wiki", fmt.Sprintf("/tab/%d", i)))
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
				answers[i] = res.StatusCode
			})
		}
		tabs.Wait()
		if slices.ContainsFunc(answers, func(status int) bool { return status != http.StatusOK }) {
			t.Errorf("round %d: the tabs got %v", round, answers)
		}
		if n := c.peer.Calls(t, "refresh_token") - before; n != 1 {
			t.Errorf("round %d: %d refreshes, want 1", round, n)
		}
	}
	if n := c.peer.Calls(t, "refused"); n != 0 {
		t.Errorf("the provider refused %d token requests", n)
	}
}

// endedWithin is how soon what was promised within a bound must have happened on a busy machine.
const endedWithin = 15 * time.Second

// A disabled account is out within recheck, what it has open ends, and the record says why; other people stay.
func TestGatewayEndsTheSessionOfADisabledAccount(t *testing.T) {
	t.Parallel()
	c := newCompany(t, "session: { recheck: 2s }\nreauthorize: 1s")
	browser, other := c.signedIn(t, ada), c.signedIn(t, ben)
	stream := c.events(t, browser)
	c.peer.Disable(t, "ada")
	disabled := time.Now()
	if _, err := io.Copy(io.Discard, stream); err != nil {
		t.Logf("the stream ended with %v", err)
	}
	harness.Eventually(t, patience, "the session to end", func() bool { return c.status(t, browser, "wiki") == http.StatusUnauthorized })
	if took := time.Since(disabled); took > endedWithin {
		t.Errorf("it took %s", took)
	}
	ended := c.told(t, "session_ended", "account_disabled")
	if ended.Actor == nil && ended.Session == "" {
		t.Errorf("the record names neither person nor session: %+v", ended)
	}
	if got := c.status(t, other, "wiki"); got != http.StatusOK {
		t.Errorf("the other person got %d", got)
	}
	page := c.peer.Open(t, c.Browser(), c.URL("wiki", "/"), Login{Name: "ben"})
	if page.Status != http.StatusOK {
		t.Errorf("another sign-in got %d", page.Status)
	}
}

// events is an open stream of the wiki from which something has come.
func (c *company) events(t *testing.T, browser *http.Client) io.Reader {
	t.Helper()
	client := c.program(browser)
	client.Timeout = 0
	res, err := client.Get(c.URL("wiki", "/events"))
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("opening the stream: %v %v", res, err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if _, err := res.Body.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return res.Body
}

// OIDC-23: groups that somebody lost at the provider are lost here within recheck, and groups that they got are had.
func TestGatewayFollowsGroups(t *testing.T) {
	t.Parallel()
	c := newCompany(t, "session: { recheck: 2s }")
	browser := c.signedIn(t, ada)
	staff := Person{Email: "ada@corp.test", EmailVerified: true, Name: "Ada", Groups: []string{"staff"}}
	for _, step := range []struct {
		groups []string
		status int
	}{{[]string{}, http.StatusForbidden}, {[]string{"staff"}, http.StatusOK}} {
		staff.Groups = step.groups
		c.peer.Change(t, "ada", staff)
		changed := time.Now()
		harness.Eventually(t, patience, fmt.Sprintf("groups %q to count", step.groups), func() bool { return c.status(t, browser, "wiki") == step.status })
		if took := time.Since(changed); took > endedWithin {
			t.Errorf("groups %q: it took %s", step.groups, took)
		}
	}
	if renewed := c.control(t, "session_renewed"); len(renewed) != 2 {
		t.Errorf("%d changes of identity are on record, want 2", len(renewed))
	}
}

// While the provider is away people work on, within grace; when it is back, nobody has to sign in.
func TestGatewayBelievesSessionsWhileTheProviderIsAway(t *testing.T) {
	t.Parallel()
	c := newCompany(t, "session: { recheck: 1s, grace: 1h }")
	browser := c.signedIn(t, ada)
	c.peer.Down(t, true)
	away := time.Now()
	harness.Eventually(t, patience, "the session to be overdue", func() bool {
		if got := c.status(t, browser, "wiki"); got != http.StatusOK {
			t.Fatalf("got %d while the provider is away", got)
		}
		return time.Since(away) > 3*time.Second
	})
	before := c.peer.Calls(t, "refresh_token")
	c.peer.Down(t, false)
	harness.Eventually(t, patience, "a refresh", func() bool {
		return c.status(t, browser, "wiki") == http.StatusOK && c.peer.Calls(t, "refresh_token") > before
	})
	if n := c.peer.Calls(t, "refused"); n != 0 {
		t.Errorf("the provider refused %d token requests", n)
	}
}

// A refresh whose answer was lost is not sent again, because a provider takes that for a theft. The person's browser passes
// by the provider in its place, and is asked nothing; a program is told.
func TestGatewaySendsNoRefreshTokenTwice(t *testing.T) {
	t.Parallel()
	c := newCompany(t, "session: { recheck: 2s }")
	browser := c.signedIn(t, ada)
	c.peer.Cut(t, true)
	cut := time.Now()
	harness.Eventually(t, patience, "a refresh to be lost", func() bool { c.status(t, browser, "wiki"); return time.Since(cut) > 3*time.Second })
	c.peer.Cut(t, false)
	harness.Eventually(t, patience, "the program to be told", func() bool { return c.status(t, browser, "wiki") == http.StatusUnauthorized })
	page := c.peer.Open(t, browser, c.URL("wiki", "/deep?x=1"), ada)
	if page.Status != http.StatusOK || page.URL.RequestURI() != "/deep?x=1" || len(page.Visited) > 0 {
		t.Errorf("the browser got %d at %s, and was asked at %q", page.Status, page.URL, page.Visited)
	}
	if n := c.peer.Calls(t, "refused"); n != 0 {
		t.Errorf("the provider refused %d token requests", n)
	}
}

// After grace nobody is believed any more.
func TestGatewayBelievesNobodyAfterGrace(t *testing.T) {
	t.Parallel()
	c := newCompany(t, "session: { recheck: 1s, grace: 1s }")
	browser := c.signedIn(t, ada)
	c.peer.Down(t, true)
	harness.Eventually(t, patience, "the session to be refused", func() bool { return c.status(t, browser, "wiki") != http.StatusOK })
	c.peer.Down(t, false)
	harness.Eventually(t, patience, "the session to be believed again", func() bool { return c.status(t, browser, "wiki") == http.StatusOK })
}

// The provider's keys change while the gateway runs: sign-ins and refreshes go on, whether the old key stays or not.
func TestGatewayFollowsTheProvidersKeys(t *testing.T) {
	t.Parallel()
	c := newCompany(t, "session: { recheck: 2s }")
	browser := c.signedIn(t, ada)
	for _, keep := range []bool{true, false} {
		c.peer.Rotate(t, keep)
		before := c.peer.Calls(t, "refresh_token")
		harness.Eventually(t, patience, "a refresh", func() bool {
			return c.status(t, browser, "wiki") == http.StatusOK && c.peer.Calls(t, "refresh_token") > before
		})
		// A key that nobody has seen may wait for the next look at the set, half a minute after the one before (JWT-36).
		harness.Eventually(t, patience, "a sign-in with the new key", func() bool {
			return c.peer.Open(t, c.Browser(), c.URL("wiki", "/"), ben).Status == http.StatusOK
		})
	}
}

// post sends a logout token as a provider does.
func (c *company) post(t *testing.T, form url.Values) *http.Response {
	t.Helper()
	client := &http.Client{Transport: c.Transport(), Timeout: patience}
	res, err := client.PostForm(c.URL("auth", "/.sallyport/backchannel/corp"), form)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res
}

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// OIDC-25: the provider's own logout tokens end exactly the sessions that they name, by sid or by sub; everything else that
// it signs, for others or for other purposes, and every replay is 400 and ends nothing.
func TestGatewayTakesLogoutsOfTheProvider(t *testing.T) {
	t.Parallel()
	c := newCompany(t, "")
	first, second, other := c.signedIn(t, ada), c.signedIn(t, ada), c.signedIn(t, ben)
	var sids []string
	for _, s := range c.peer.Sessions(t) {
		if s.Subject == "ada" {
			sids = append(sids, s.SID)
		}
	}
	if len(sids) != 2 || sids[0] == sids[1] {
		t.Fatalf("the provider knows sessions %q", sids)
	}
	events := map[string]any{logoutEvent: map[string]any{}}
	for name, token := range map[string]string{
		"for another client":    c.peer.Token(t, Another, "ada", "logout", map[string]any{"events": events, "jti": "bad-1", "sid": sids[0]}),
		"an ID token":           c.peer.Token(t, Gateway, "ada", "idtoken", map[string]any{"events": events, "jti": "bad-2", "sid": sids[0], "nonce": "n"}),
		"with a nonce":          c.peer.Token(t, Gateway, "ada", "logout", map[string]any{"events": events, "jti": "bad-3", "sid": sids[0], "nonce": "n"}),
		"without events":        c.peer.Token(t, Gateway, "ada", "logout", map[string]any{"jti": "bad-4", "sid": sids[0]}),
		"of another event":      c.peer.Token(t, Gateway, "ada", "logout", map[string]any{"events": map[string]any{"https://example.test/other": map[string]any{}}, "jti": "bad-5", "sid": sids[0]}),
		"with events as text":   c.peer.Token(t, Gateway, "ada", "logout", map[string]any{"events": logoutEvent, "jti": "bad-6", "sid": sids[0]}),
		"without sub and sid":   c.peer.Token(t, Gateway, "", "logout", map[string]any{"events": events, "jti": "bad-7"}),
		"no token":              "",
		"three words":           "a.b.c",
		"without its signature": unsigned(c.peer.Token(t, Gateway, "ada", "logout", map[string]any{"events": events, "jti": "bad-8", "sid": sids[0]})),
	} {
		if res := c.post(t, url.Values{"logout_token": {token}}); res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: got %d, want 400", name, res.StatusCode)
		}
	}
	if res := c.post(t, url.Values{}); res.StatusCode != http.StatusBadRequest {
		t.Errorf("an empty form: got %d, want 400", res.StatusCode)
	}
	for who, browser := range map[string]*http.Client{"first": first, "second": second, "other": other} {
		if got := c.status(t, browser, "wiki"); got != http.StatusOK {
			t.Errorf("after all that was refused the %s browser got %d", who, got)
		}
	}

	stream := c.events(t, first)
	token := c.peer.Token(t, Gateway, "ada", "logout", map[string]any{"events": events, "jti": "good-1", "sid": sids[0]})
	res := c.post(t, url.Values{"logout_token": {token}})
	if res.StatusCode != http.StatusOK || !strings.Contains(res.Header.Get("Cache-Control"), "no-store") {
		t.Errorf("the good one: got %d, Cache-Control %q", res.StatusCode, res.Header.Get("Cache-Control"))
	}
	ended := time.Now()
	if got := c.status(t, first, "wiki"); got != http.StatusUnauthorized {
		t.Errorf("by sid: the first browser got %d, want 401", got)
	}
	io.Copy(io.Discard, stream)
	if took := time.Since(ended); took > endedWithin {
		t.Errorf("its stream lived for %s", took)
	}
	if got := c.status(t, second, "wiki"); got != http.StatusOK {
		t.Errorf("by sid: the second browser got %d, want 200", got)
	}
	if res := c.post(t, url.Values{"logout_token": {token}}); res.StatusCode != http.StatusBadRequest {
		t.Errorf("a replay: got %d, want 400", res.StatusCode)
	}
	if got := len(c.control(t, "provider_signed_out")); got != 1 {
		t.Errorf("%d logouts are on record, want 1", got)
	}

	third := c.signedIn(t, ada)
	if res := c.post(t, url.Values{"logout_token": {c.peer.Token(t, Gateway, "ada", "logout", map[string]any{"events": events, "jti": "good-2"})}}); res.StatusCode != http.StatusOK {
		t.Errorf("by sub: got %d", res.StatusCode)
	}
	for who, want := range map[*http.Client]int{second: 401, third: 401, other: 200} {
		if got := c.status(t, who, "wiki"); got != want {
			t.Errorf("by sub: got %d, want %d", got, want)
		}
	}
}

// unsigned is a token with alg none and no signature.
func unsigned(token string) string {
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	return "eyJhbGciOiJub25lIiwidHlwIjoibG9nb3V0K2p3dCJ9." + payload + "."
}

// Somebody signs out at the provider itself, which tells the gateway, and everything of that browser ends; other browsers
// of theirs stay.
func TestGatewayFollowsASignOutAtTheProvider(t *testing.T) {
	t.Parallel()
	c := newCompany(t, "")
	browser, elsewhere := c.signedIn(t, ada), c.signedIn(t, ada)
	stream := c.events(t, browser)
	c.peer.Open(t, browser, c.peer.Issuer+"/session/end", ada)
	if n := c.peer.Calls(t, "backchannel.success"); n != 1 {
		t.Fatalf("the provider told %d clients, and %d did not listen", n, c.peer.Calls(t, "backchannel.error"))
	}
	io.Copy(io.Discard, stream)
	if got := c.status(t, browser, "wiki"); got != http.StatusUnauthorized {
		t.Errorf("got %d, want 401", got)
	}
	if got := c.status(t, elsewhere, "wiki"); got != http.StatusOK {
		t.Errorf("another browser got %d, want 200", got)
	}
	if page := c.peer.Open(t, browser, c.URL("wiki", "/again"), ada); page.Status != http.StatusOK || len(page.Visited) == 0 {
		t.Errorf("afterwards: %d, and the provider asked at %q", page.Status, page.Visited)
	}
}

// signOut posts the form of the sign-out page.
func (c *company) signOut(t *testing.T, label, query string) *http.Request {
	t.Helper()
	target, body, _ := strings.Cut("/.sallyport/signout?"+query, "?")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.URL(label, target), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Origin", c.URL(label, ""))
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	return request
}

// Signing out at the provider, too: the gateway sends the browser there with what the provider needs to know, and it comes
// back to a page of ours. Then a password is asked for again.
func TestGatewaySignsOutAtTheProvider(t *testing.T) {
	t.Parallel()
	c := newCompany(t, "")
	browser := c.signedIn(t, ada)
	page := c.peer.Follow(t, browser, c.signOut(t, "auth", "provider=1"), ada)
	if page.Status != http.StatusOK || !strings.HasPrefix(page.URL.String(), c.URL("auth", "/.sallyport/signedout")) {
		t.Errorf("signing out ended at %s with %d: %.2000s", page.URL, page.Status, page.Body)
	}
	if got := c.status(t, browser, "wiki"); got != http.StatusUnauthorized {
		t.Errorf("got %d, want 401", got)
	}
	if page := c.peer.Open(t, browser, c.URL("wiki", "/again"), ada); page.Status != http.StatusOK || len(page.Visited) == 0 {
		t.Errorf("afterwards: %d, and the provider asked at %q", page.Status, page.Visited)
	}

	// The control: without it the provider still knows who they are.
	c.peer.Follow(t, browser, c.signOut(t, "auth", ""), ada)
	if page := c.peer.Open(t, browser, c.URL("wiki", "/again"), ada); page.Status != http.StatusOK || len(page.Visited) != 0 {
		t.Errorf("after signing out here only: %d, and the provider asked at %q", page.Status, page.Visited)
	}
}

// An app that wants a second factor sends people to the provider for it, and back to the page that they asked for; the
// session is the same one, raised. Who cannot is told so and is not let in, and keeps what they had.
func TestGatewayStepsUp(t *testing.T) {
	t.Parallel()
	c := newCompany(t, "")
	browser := c.signedIn(t, ada)
	before := c.Cookie(t, browser, "wiki").Value
	page := c.peer.Open(t, browser, c.URL("payroll", "/salaries?month=11"), Login{Name: "ada"})
	if page.Status == http.StatusOK || !strings.HasPrefix(page.URL.String(), c.URL("auth", "/")) {
		t.Errorf("without a second factor: %d at %s", page.Status, page.URL)
	}
	if failed := c.control(t, "sign_in_failed"); len(failed) != 1 || failed[0].Reason != "assurance_unmet" {
		t.Errorf("on record: %+v", failed)
	}
	if got := c.status(t, browser, "wiki"); got != http.StatusOK {
		t.Errorf("what was open before got %d", got)
	}

	page = c.peer.Open(t, browser, c.URL("payroll", "/salaries?month=11"), ada)
	if page.Status != http.StatusOK || page.URL.String() != c.URL("payroll", "/salaries?month=11") || len(page.Visited) != 1 {
		t.Fatalf("with a second factor: %d at %s after %q: %.2000s", page.Status, page.URL, page.Visited, page.Body)
	}
	last := c.peer.Sessions(t)
	if got := last[len(last)-1].Params["acr_values"]; got != "two" {
		t.Errorf("the provider was asked for %q", got)
	}
	if raised := c.control(t, "session_raised"); len(raised) != 1 {
		t.Errorf("%d sessions were raised, want 1", len(raised))
	}
	if got := c.Cookie(t, browser, "wiki").Value; got != before || c.status(t, browser, "wiki") != http.StatusOK {
		t.Error("the wiki's session is another")
	}
	if got := c.status(t, browser, "payroll"); got != http.StatusOK {
		t.Errorf("the next request got %d", got)
	}
}

// RFC 9470: a program is told what is missing, and not redirected.
func TestGatewayTellsProgramsToStepUp(t *testing.T) {
	t.Parallel()
	c := newCompany(t, "")
	browser := c.signedIn(t, ben)
	c.peer.Open(t, browser, c.URL("payroll", "/"), Login{Name: "ben"}) // who is known there now, and not well enough
	c.Cookie(t, browser, "payroll")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.URL("payroll", "/api"), nil)
	if err != nil {
		t.Fatal(err)
	}
	page := read(t, c.program(browser), request)
	challenge := page.Header.Get("WWW-Authenticate")
	if page.Status != http.StatusUnauthorized || !strings.Contains(challenge, `error="insufficient_user_authentication"`) || !strings.Contains(challenge, `acr_values="two"`) {
		t.Errorf("got %d, and the challenge %q", page.Status, challenge)
	}
}
