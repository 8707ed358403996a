package signin_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/authn/session"
	"sallyport/gateway/signin"
	"sallyport/test/fakeidp"
)

// rounds is how often a randomised test is run, and seeded a source that it can be run with again.
func rounds(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("SALLYPORT_ROUNDS"))
	if err != nil {
		return 3
	}
	return n
}

func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// tab is one tab of a browser: a page that was asked for, and how far its sign-in has come.
type tab struct {
	page, next string // next: the address to go to; empty: arrived
	clicks     int
}

// OIDC-09: ten tabs opened at once on a session that has expired all arrive where they were opened, whatever the order of
// their steps, in one session.
func TestOIDC09TenTabsOnAnExpiredSessionAllArrive(t *testing.T) {
	random := seeded(t)
	for range rounds(t) {
		b := newBed(t)
		br := b.browser()
		br.open(wikiOrigin + "/")
		br.open(payOrigin + "/")
		if _, err := b.keeper.End(t.Context(), session.Filter{All: true}, session.Expired); err != nil {
			t.Fatal(err)
		}
		var tabs []*tab
		for i := range 10 {
			origin := []string{wikiOrigin, payOrigin}[i%2]
			page := fmt.Sprintf("%s/deep/%d?%s", origin, i, strings.Repeat("q=%C3%A4&", 40))
			tabs = append(tabs, &tab{page: page, next: page})
		}
		arrive(t, br, random, tabs)
		if all := b.sessions(); len(all) != 1 {
			t.Errorf("%d sessions, want one to sign out of", len(all))
		}
	}
}

// arrive takes steps of tabs in random order until all have arrived, and clicks the one button of each page that comes
// instead once nothing else moves.
func arrive(t *testing.T, br *browser, random *rand.Rand, tabs []*tab) {
	t.Helper()
	waiting := map[*tab]string{}
	open := slices.Clone(tabs)
	for len(open) > 0 || len(waiting) > 0 {
		if len(open) == 0 {
			for which, button := range waiting {
				which.next = button
				which.clicks++
				open = append(open, which)
			}
			clear(waiting)
		}
		at := random.IntN(len(open))
		which := open[at]
		a := br.step(which.next)
		switch {
		case a.location != "":
			which.next = a.location
			continue
		case a.user == "" && which.clicks < 5:
			waiting[which] = strings.TrimSpace(a.act)
		case a.user != "alice-1" || a.url != which.page:
			t.Fatalf("a tab for %s ended at %s with %d %q", which.page, a.url, a.status, a.code)
		}
		open = slices.Delete(open, at, at+1)
	}
}

// Tabs that come back at the very same moment, each without the cookie that another one is just given, share one session as
// well, and another browser of the same person does not.
func TestTabsThatReturnAtOnceShareOneSession(t *testing.T) {
	atOnce := func(handlers int) int {
		b := newBed(t)
		p := b.provider("corp", b.idp)
		var all []*signin.Handler
		for range handlers {
			b.serve(b.keeper, p)
			all = append(all, b.handler)
		}
		br := b.browser()
		var callbacks []string
		for i := range 10 {
			callbacks = append(callbacks, br.until(fmt.Sprintf("%s/%d", wikiOrigin, i), "/callback/"))
		}
		other := b.browser()
		elsewhere := other.until(wikiOrigin+"/", "/callback/")
		other.until(wikiOrigin+"/", "/callback/")
		var cookies []string
		for name, value := range br.cookies(authOrigin) {
			cookies = append(cookies, name+"="+value)
		}
		var running sync.WaitGroup
		for i, callback := range callbacks {
			running.Go(func() {
				r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, callback, nil)
				r.Header.Set("Cookie", strings.Join(cookies, "; "))
				w := httptest.NewRecorder()
				if err := all[i%handlers].ServeAuth(w, r); err != nil || w.Code != http.StatusFound {
					t.Errorf("tab %d: %d, %v", i, w.Code, err)
				}
			})
		}
		running.Wait()
		made := len(b.sessions())
		other.step(elsewhere)
		if n := len(b.sessions()); n != made+1 {
			t.Errorf("%d sessions with another browser, want %d", n, made+1)
		}
		return made
	}
	if n := atOnce(1); n != 1 {
		t.Errorf("%d sessions in one browser, want one to sign out of", n)
	}
	// The mutant: handlers that do not know of each other.
	if n := atOnce(10); n == 1 {
		t.Error("the test does not notice tabs that know nothing of each other")
	}
}

// Twenty tabs, as a browser restores them, arrive as well, each after one click at most.
func TestTwentyTabsNeedOneClickAtMost(t *testing.T) {
	random := seeded(t)
	twenty := func(pause time.Duration) (lost int, clicks int) {
		b := newBed(t)
		br := b.browser()
		var tabs []*tab
		for i := range 20 {
			a := &tab{page: fmt.Sprintf("%s/deep/%d?q=%d", []string{wikiOrigin, payOrigin}[i%2], i, i)}
			at := br.step(a.page) // all are opened before any goes on
			if a.next = at.location; a.next != "" {
				at = br.step(a.next)
				if a.next = at.location; a.next == "" {
					a.next, a.clicks = strings.TrimSpace(at.act), 1
				}
			} else {
				a.next, a.clicks = strings.TrimSpace(at.act), 1
			}
			tabs = append(tabs, a)
			b.later(pause)
		}
		random.Shuffle(len(tabs), func(i, j int) { tabs[i], tabs[j] = tabs[j], tabs[i] })
		slices.SortStableFunc(tabs, func(a, b *tab) int { return a.clicks - b.clicks }) // people sign in before they click
		for _, a := range tabs {
			end := br.open(a.next)
			for end.user == "" && a.clicks < 3 {
				a.clicks++
				end = br.open(strings.TrimSpace(end.act))
			}
			if clicks = max(clicks, a.clicks); end.url != a.page {
				lost++
			}
		}
		return lost, clicks
	}
	for range rounds(t) {
		if lost, clicks := twenty(0); lost != 0 || clicks > 1 {
			t.Errorf("%d of 20 tabs lost where they were going, some after %d clicks", lost, clicks)
		}
	}
	// The mutant: tabs so far apart that the young push out the old.
	if lost, _ := twenty(6 * time.Second); lost == 0 {
		t.Error("the test does not notice tabs that are pushed out")
	}
}

// Deep links of up to 2 KiB survive the whole way; longer ones end at the start page.
func TestDeepLinksSurvive(t *testing.T) {
	b := newBed(t)
	for _, n := range []int{100, 1000, 2047, 2048, 2049, 6000} {
		path := "/search?q=" + strings.Repeat("%2F", 10)
		path += strings.Repeat("x", n-len(path))
		want := wikiOrigin + path
		if n > 2048 {
			want = wikiOrigin + "/"
		}
		b.browser().open(wikiOrigin+path).wantUser(t, "alice-1", want)
	}
}

// Signing in and out again and again is no loop.
func TestSigningInOftenIsNoLoop(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	for range 8 {
		br.open(wikiOrigin+"/").wantUser(t, "alice-1", wikiOrigin+"/")
		br.post(wikiOrigin+signin.SignOutPath, "").want(t, http.StatusOK, "signed_out")
	}
}

// OIDC-11: every error that a provider can report has a page in our words, with what happened and one button that helps, and
// is on record by its code alone.
func TestOIDC11EveryProviderErrorHasItsPage(t *testing.T) {
	for code, want := range map[string]int{
		"access_denied": 403, "invalid_request": 400, "unauthorized_client": 400, "unsupported_response_type": 400, "invalid_scope": 400,
		"server_error": 400, "temporarily_unavailable": 400, "interaction_required": 400, "login_required": 400,
		"account_selection_required": 400, "consent_required": 400, "invalid_request_uri": 400, "invalid_request_object": 400,
		"request_not_supported": 400, "request_uri_not_supported": 400, "registration_not_supported": 400,
		"made_up": 400, "<script>alert(1)</script>": 400, strings.Repeat("x", 3000): 400,
	} {
		b := newBed(t)
		br := b.browser()
		b.idp.Do(fakeidp.Script{Callback: func(v url.Values) { v.Del("code"); v.Set("error", code); v.Set("error_description", "d€scription") }})
		a := br.open(wikiOrigin + "/page?q=1")
		if a.status != want || a.act != " "+wikiOrigin+"/page?q=1" || len(a.choices) != 0 {
			t.Errorf("%.40s: %d with action %q, want %d and the page", code, a.status, a.act, want)
		}
		if problem := reflected(br.pages.String()+b.records.text(), code); problem != "" {
			t.Errorf("%.40s: %s", code, problem)
		}
		known := code != "made_up" && len(code) < 40 && !strings.HasPrefix(code, "<")
		if has := strings.Contains(b.records.text(), `"reported":"`+code+`"`); has != known {
			t.Errorf("%.40s: on record %t, want %t: %s", code, has, known, b.records.text())
		}
		b.idp.Do(fakeidp.Script{})
		br.open(strings.TrimSpace(a.act)).wantUser(t, "alice-1", wikiOrigin+"/page?q=1")
	}
	if reflected("<p>made_up</p>", "made_up") == "" || reflected("d€scription", "x") == "" {
		t.Error("the test does not notice what is repeated")
	}
}

// reflected says what of a provider's words is repeated; standard codes are ours as well.
func reflected(text, code string) string {
	switch {
	case strings.Contains(text, "scription"):
		return "the description is repeated"
	case (code == "made_up" || len(code) > 40 || strings.HasPrefix(code, "<")) && strings.Contains(text, code):
		return "the code is repeated"
	}
	return ""
}
