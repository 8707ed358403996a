package signin_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"sallyport/authn/session"
	"sallyport/gateway/signin"
	"sallyport/test/fakeidp"
)

func TestSignInReturnsToThePageThatWasAskedFor(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	br.open(wikiOrigin+"/page?q=1&r=%C3%A4").wantUser(t, "alice-1", wikiOrigin+"/page?q=1&r=%C3%A4")
	br.open(wikiOrigin+"/other").wantUser(t, "alice-1", wikiOrigin+"/other")
	br.open(payOrigin+"/").wantUser(t, "alice-1", payOrigin+"/")
	br.open(authOrigin+"/").wantUser(t, "alice-1", authOrigin+"/")
	if n := b.idp.Calls("authorize"); n != 1 {
		t.Errorf("the provider was asked %d times, want once for all apps", n)
	}
	if diff := cmp.Diff([]string{"sign_in", "sign_in_app", "sign_in_app"}, b.records.codes()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if text := b.records.text(); !strings.Contains(text, `"id":"corp|alice-1"`) || !strings.Contains(text, `"address":"192.0.2.7"`) {
		t.Errorf("records do not say who and where from: %s", text)
	}
}

func TestSignInForThePortal(t *testing.T) {
	b := newBed(t)
	b.browser().open(authOrigin+"/").wantUser(t, "alice-1", authOrigin+"/")
	if diff := cmp.Diff([]string{"sign_in"}, b.records.codes()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

func TestHEADStartsASignInAndFinishesNone(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	callback := br.until(wikiOrigin+"/", "/callback/")
	br.do(request(t, http.MethodHead, callback, nil), br.client).want(t, http.StatusMethodNotAllowed, "method_not_allowed")
	back := br.until(callback, signin.ReturnPath)
	br.do(request(t, http.MethodHead, back, nil), br.client).want(t, http.StatusMethodNotAllowed, "method_not_allowed")
	br.open(back).wantUser(t, "alice-1", wikiOrigin+"/")
	other := b.browser()
	other.do(request(t, http.MethodHead, wikiOrigin+"/", nil), other.client)
}

// OIDC-01: a callback without state ends before the provider hears of it.
func TestOIDC01CallbackWithoutStateSendsNoTokenRequest(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	callback, err := url.Parse(br.until(wikiOrigin+"/", "/callback/"))
	if err != nil {
		t.Fatal(err)
	}
	code := callback.Query().Get("code")
	for query, want := range map[string]string{
		"code=" + code:                      "state_missing",
		"code=" + code + "&state=":          "state_missing",
		"code=" + code + "&state=x":         "state_mismatch",
		"code=" + code + "&state=a&state=b": "callback_invalid",
		"":                                  "state_missing",
	} {
		br.open(authOrigin+"/.sallyport/callback/corp?"+query).want(t, http.StatusBadRequest, want)
	}
	if n := b.idp.Calls("token"); n != 0 {
		t.Errorf("%d token requests", n)
	}
	if got := b.records.count("sign_in_failed:state_missing"); got != 3 {
		t.Errorf("%d records of missing state, want 3", got)
	}
}

// OIDC-02: an attacker's callback is worth nothing in a browser that did not start it.
func TestOIDC02CallbackOfAnotherBrowserIsRefused(t *testing.T) {
	b := newBed(t)
	attacker, victim := b.browser(), b.browser()
	callback := attacker.until(wikiOrigin+"/", "/callback/")
	victim.until(wikiOrigin+"/", "/callback/") // has a flow of their own
	victim.open(callback).want(t, http.StatusBadRequest, "flow_missing")
	if victim.cookies(authOrigin)[signin.SessionCookie] != "" || b.idp.Calls("token") != 0 {
		t.Error("the attacker's code was redeemed")
	}
	// A flow cookie planted under the right name opens no other flow.
	for name, value := range attacker.cookies(authOrigin) {
		if strings.Contains(name, "-flow-") {
			victim.plant(authOrigin, name[:len(name)-1]+"7", value)
		}
	}
	victim.open(strings.Replace(callback, "state=", "state=Z", 1)).want(t, http.StatusBadRequest, "state_mismatch")
}

// OIDC-03: one callback, one sign-in: also when it is sent fifty times at once with the cookie it needs.
func TestOIDC03ReplayedCallbackSignsInOnce(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	callback := br.until(wikiOrigin+"/", "/callback/")
	var cookie string
	for name, value := range br.cookies(authOrigin) {
		cookie = name + "=" + value
	}
	br.header.Set("Cookie", cookie) // a jar would have dropped it

	var mu sync.Mutex
	got := map[string]int{}
	var running sync.WaitGroup
	for range 50 {
		running.Go(func() {
			a := br.step(callback)
			mu.Lock()
			defer mu.Unlock()
			got[fmt.Sprint(a.status, " ", a.code)]++
		})
	}
	running.Wait()
	if diff := cmp.Diff(map[string]int{"302 ": 1, "400 flow_spent": 49}, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	if n := b.idp.Calls("token"); n != 1 {
		t.Errorf("%d token requests, want one", n)
	}
	br.step(callback).want(t, http.StatusBadRequest, "flow_spent")
}

// OIDC-08: what was planted before the sign-in is worth nothing after it.
func TestOIDC08SessionIsNewAtSignIn(t *testing.T) {
	b := newBed(t)
	mallory := b.browser()
	b.idp.SetPerson(map[string]any{"sub": "mallory"})
	mallory.open(wikiOrigin+"/").wantUser(t, "mallory", wikiOrigin+"/")
	planted := mallory.cookies(authOrigin)[signin.SessionCookie]
	plantedChild := mallory.cookies(wikiOrigin)[signin.SessionCookie]

	b.idp.SetPerson(map[string]any{"sub": "alice-1"})
	alice := b.browser()
	callback := alice.until(wikiOrigin+"/doc", "/callback/")
	alice.plant(authOrigin, signin.SessionCookie, planted)
	back := alice.until(callback, signin.ReturnPath)
	alice.plant(wikiOrigin, signin.SessionCookie, plantedChild)
	alice.open(back).wantUser(t, "alice-1", wikiOrigin+"/doc")

	for origin, old := range map[string]string{authOrigin: planted, wikiOrigin: plantedChild} {
		if now := alice.cookies(origin)[signin.SessionCookie]; now == old || now == "" {
			t.Errorf("%s: handle is %q, planted was %q", origin, now, old)
		}
	}
	if _, err := b.keeper.SignedIn(t.Context(), planted); !errors.Is(err, session.ErrNoSession) {
		t.Errorf("the planted session lives on: %v", err)
	}
	if got := b.records.count("sign_out:replaced"); got != 1 {
		t.Errorf("%d records of the replaced session, want 1", got)
	}

	fixed := b.browser()
	fixed.plant(authOrigin, signin.SessionCookie, strings.Repeat("A", 43))
	fixed.open(wikiOrigin+"/").wantUser(t, "alice-1", wikiOrigin+"/")
	if fixed.cookies(authOrigin)[signin.SessionCookie] == strings.Repeat("A", 43) {
		t.Error("a made-up handle was adopted")
	}
}

// A session of the same person from before the sign-in began may have been planted as well: its handle dies.
func TestOIDC08OlderSessionOfTheSamePersonIsReplaced(t *testing.T) {
	b := newBed(t)
	elsewhere, br := b.browser(), b.browser()
	elsewhere.open(authOrigin + "/")
	planted := elsewhere.cookies(authOrigin)[signin.SessionCookie]
	b.later(time.Second)
	callback := br.until(wikiOrigin+"/", "/callback/")
	br.plant(authOrigin, signin.SessionCookie, planted)
	br.open(callback).wantUser(t, "alice-1", wikiOrigin+"/")
	if _, err := b.keeper.SignedIn(t.Context(), planted); !errors.Is(err, session.ErrNoSession) || br.cookies(authOrigin)[signin.SessionCookie] == planted {
		t.Errorf("the older session lives on: %v", err)
	}
}

func TestOtherPersonsSessionOnAnAppHostEndsWhenTheHostIsEnteredAnew(t *testing.T) {
	b := newBed(t)
	mallory, alice := b.browser(), b.browser()
	b.idp.SetPerson(map[string]any{"sub": "mallory"})
	mallory.open(wikiOrigin + "/")
	child := mallory.cookies(wikiOrigin)[signin.SessionCookie]
	b.idp.SetPerson(map[string]any{"sub": "alice-1"})
	back := alice.until(wikiOrigin+"/", signin.ReturnPath)
	alice.plant(wikiOrigin, signin.SessionCookie, child)
	alice.open(back).wantUser(t, "alice-1", wikiOrigin+"/")
	if _, err := b.keeper.Lookup(t.Context(), "wiki.corp.example", child); !errors.Is(err, session.ErrNoSession) {
		t.Errorf("the planted handle works on: %v", err)
	}
}

// OIDC-09: tabs finish in any order, each where it began, and share one session.
func TestOIDC09TabsFinishInAnyOrder(t *testing.T) {
	for name, order := range map[string][]int{"as started": {0, 1, 2}, "backwards": {2, 1, 0}, "mixed": {1, 2, 0}} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			br := b.browser()
			pages := []string{wikiOrigin + "/one", wikiOrigin + "/two?x=2", payOrigin + "/three"}
			var callbacks []string
			for _, page := range pages {
				callbacks = append(callbacks, br.until(page, "/callback/"))
			}
			sessions := map[string]bool{}
			for _, i := range order {
				a := br.open(callbacks[i])
				a.wantUser(t, "alice-1", pages[i])
				sessions[a.session] = true
			}
			for _, page := range pages {
				sessions[br.open(page).session] = true
			}
			if len(sessions) != 1 {
				t.Errorf("%d sessions in one browser, want one to sign out of", len(sessions))
			}
			for _, origin := range []string{authOrigin, wikiOrigin, payOrigin} {
				for name := range br.cookies(origin) {
					if name != signin.SessionCookie && name != "__Host-sallyport-back-loop" {
						t.Errorf("cookie %s was left", name)
					}
				}
			}
		})
	}
}

func TestTabThatReturnsLateStillReturns(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	first := br.until(wikiOrigin+"/one", signin.ReturnPath)
	second := br.until(wikiOrigin+"/two", signin.ReturnPath)
	br.open(second).wantUser(t, "alice-1", wikiOrigin+"/two")
	br.open(first).wantUser(t, "alice-1", wikiOrigin+"/one")
}

// However many tabs are opened, their cookies stay few; the newest work.
func TestAttemptsInOneBrowserAreBounded(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	var callbacks []string
	for i := range 25 {
		callbacks = append(callbacks, br.until(fmt.Sprintf("%s/%d?%s", wikiOrigin, i, strings.Repeat("&", 1000)), "/callback/"))
		for _, origin := range []string{authOrigin, wikiOrigin} {
			size, count := 0, 0
			for name, value := range br.cookies(origin) {
				size, count = size+len(name)+len(value), count+1
			}
			if count > 11 || size > 16<<10 {
				t.Fatalf("%s: %d cookies of %d bytes", origin, count, size)
			}
		}
		b.later(time.Second)
	}
	br.open(callbacks[0]).want(t, http.StatusBadRequest, "flow_missing")
	for _, i := range []int{24, 22} {
		if a := br.open(callbacks[i]); a.user != "alice-1" || !strings.HasPrefix(a.url, fmt.Sprintf("%s/%d?", wikiOrigin, i)) {
			t.Errorf("tab %d ended with %d %q at %s", i, a.status, a.code, a.url)
		}
	}
}

func TestTargetTooLongForACookieReturnsToTheStart(t *testing.T) {
	b := newBed(t)
	for _, target := range []string{"/?" + strings.Repeat("q", 3000), "/?" + strings.Repeat(`"`, 1500)} {
		a := b.browser().open(wikiOrigin + target)
		if a.user != "alice-1" {
			t.Errorf("%d bytes: got %d %q", len(target), a.status, a.code)
		}
	}
}

// OIDC-11: nothing that the provider says is shown or recorded.
func TestOIDC11ProviderErrorIsAFixedPage(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	b.idp.Do(fakeidp.Script{Callback: func(v url.Values) {
		v.Del("code")
		v.Set("error", "access_denied")
		v.Set("error_description", "<script>alert(1)</script>")
		v.Set("error_uri", "https://evil.example")
	}})
	a := br.open(wikiOrigin + "/page")
	a.want(t, http.StatusForbidden, "access_denied")
	if a.act != " "+wikiOrigin+"/page" {
		t.Errorf("action %q, want to begin again at the page", a.act)
	}
	b.idp.Do(fakeidp.Script{Callback: func(v url.Values) { v.Del("code"); v.Set("error", "<b>made up</b>") }})
	br.open(wikiOrigin+"/page").want(t, http.StatusBadRequest, "provider_error")
	for _, text := range []string{br.pages.String(), b.records.text()} {
		for _, foreign := range []string{"script", "evil.example", "made up"} {
			if strings.Contains(text, foreign) {
				t.Errorf("%q is repeated in %s", foreign, text)
			}
		}
	}
	if got := b.records.codes(); cmp.Diff([]string{"sign_in_failed:access_denied", "sign_in_failed:provider_error"}, got) != "" {
		t.Errorf("records %q", got)
	}
	b.idp.Do(fakeidp.Script{})
	br.open(wikiOrigin+"/page").wantUser(t, "alice-1", wikiOrigin+"/page")
}

// looksLikeToken is a JWT: random text may begin like one, and has no second part that does.
var looksLikeToken = regexp.MustCompile(`eyJ[\w-]+\.eyJ`)

// Every refusal: no session, no cookie kept, a record with a fixed code.
func TestRefusedSignInsLeaveNothingBehind(t *testing.T) {
	for want, script := range map[string]fakeidp.Script{
		"nonce_mismatch":          {Claims: func(c jwt.MapClaims) { c["nonce"] = "other" }},
		"id_token_wrong_audience": {Claims: func(c jwt.MapClaims) { c["aud"] = "other" }},
		"id_token_expired":        {Claims: func(c jwt.MapClaims) { c["exp"] = 1 }},
		"iss_mismatch":            {Callback: func(v url.Values) { v.Set("iss", "https://evil.example") }},
		"iss_missing":             {Callback: func(v url.Values) { v.Del("iss") }},
		"code_rejected":           {Callback: func(v url.Values) { v.Set("code", "guessed") }},
		"code_missing":            {Callback: func(v url.Values) { v.Del("code") }},
		"provider_invalid_answer": {Token: func(w http.ResponseWriter, _ *http.Request) bool { fmt.Fprint(w, "<html>"); return true }},
		"provider_unreachable":    {Token: func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true }},
	} {
		t.Run(want, func(t *testing.T) {
			b := newBed(t)
			br := b.browser()
			b.idp.Do(script)
			if a := br.open(wikiOrigin + "/page"); a.code != want || a.status < 400 || !strings.HasSuffix(a.act, wikiOrigin+"/page") {
				t.Errorf("got %d %q, action %q", a.status, a.code, a.act)
			}
			if left := br.cookies(authOrigin); len(left) != 0 {
				t.Errorf("cookies left: %v", left)
			}
			if diff := cmp.Diff([]string{"sign_in_failed:" + want}, b.records.codes()); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			if looksLikeToken.MatchString(b.records.text() + br.pages.String()) {
				t.Error("a token shows")
			}
		})
	}
}

func TestExpiredBookmarkedAndRepeatedCallbacksAreExplained(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	late := br.until(wikiOrigin+"/late", "/callback/")
	b.later(10*time.Minute + time.Second)
	a := br.open(late)
	if a.code != "flow_expired" && a.code != "flow_missing" { // the browser may have dropped the cookie by itself
		t.Errorf("late callback: got %d %q", a.status, a.code)
	}
	b.ahead.Store(0)
	callback := br.until(wikiOrigin+"/page", "/callback/")
	br.open(callback).wantUser(t, "alice-1", wikiOrigin+"/page")
	again := br.open(callback) // back button, bookmark
	again.want(t, http.StatusBadRequest, "flow_missing")
	if again.act != " "+authOrigin+"/" {
		t.Errorf("action %q, want the portal", again.act)
	}
	if n := b.idp.Calls("token"); n != 1 {
		t.Errorf("%d token requests, want one", n)
	}
}

// OIDC-28: no page, header or record shows a token of the provider.
func TestOIDC28TokensAreNeverShown(t *testing.T) {
	b := newBed(t)
	var tokens []string
	b.idp.Do(fakeidp.Script{TokenBody: func(body map[string]any) {
		for _, name := range []string{"access_token", "refresh_token", "id_token"} {
			tokens = append(tokens, body[name].(string))
		}
	}})
	br := b.browser()
	br.open(wikiOrigin+"/").wantUser(t, "alice-1", wikiOrigin+"/")
	br.post(wikiOrigin+"/.sallyport/signout", "")
	if len(tokens) != 3 {
		t.Fatalf("%d tokens were given out", len(tokens))
	}
	for _, token := range append(tokens, "s3cret") {
		if strings.Contains(br.pages.String(), token) || strings.Contains(b.records.text(), token) {
			t.Errorf("token %.20s… shows", token)
		}
	}
}

// OIDC-29: only the browser that started can finish on the app host.
func TestOIDC29HandOffIsBoundToTheBrowserThatStarted(t *testing.T) {
	b := newBed(t)
	attacker, victim := b.browser(), b.browser()
	back := attacker.until(wikiOrigin+"/", signin.ReturnPath)
	victim.until(wikiOrigin+"/", "/callback/") // has a back cookie of their own
	victim.open(back).want(t, http.StatusBadRequest, "back_missing")
	for name, value := range victim.cookies(wikiOrigin) {
		id := strings.TrimPrefix(name, "__Host-sallyport-back-")
		u := mustURL(t, back)
		q := u.Query()
		q.Set("back", id)
		u.RawQuery = q.Encode()
		victim.open(u.String()).want(t, http.StatusBadRequest, "handoff_invalid")
		victim.plant(wikiOrigin, name, value)
	}
	if victim.cookies(wikiOrigin)[signin.SessionCookie] != "" {
		t.Error("the victim is signed in as the attacker")
	}
	elsewhere := strings.Replace(back, wikiOrigin, payOrigin, 1)
	for name, value := range attacker.cookies(wikiOrigin) {
		attacker.plant(payOrigin, name, value)
	}
	attacker.open(elsewhere).want(t, http.StatusBadRequest, "handoff_invalid")

	cookies := attacker.cookies(wikiOrigin)
	attacker.open(back).wantUser(t, "alice-1", wikiOrigin+"/")
	for name, value := range cookies {
		attacker.plant(wikiOrigin, name, value)
	}
	attacker.open(back).want(t, http.StatusBadRequest, "handoff_spent")

	late := attacker.until(payOrigin+"/", signin.ReturnPath)
	b.later(31 * time.Second)
	a := attacker.open(late)
	a.want(t, http.StatusBadRequest, "handoff_expired")
	attacker.open(strings.TrimSpace(a.act)).wantUser(t, "alice-1", payOrigin+"/")
}

func TestReturnAfterTheSessionEndedSignsInAgain(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	back := br.until(wikiOrigin+"/page", signin.ReturnPath)
	if _, err := b.keeper.Revoke(t.Context(), session.Filter{All: true}); err != nil {
		t.Fatal(err)
	}
	a := br.open(back)
	a.want(t, http.StatusBadRequest, "handoff_ended")
	br.open(strings.TrimSpace(a.act)).wantUser(t, "alice-1", wikiOrigin+"/page")
}

// COOK-15: every cookie, in every answer.
func TestCOOK15CookieAttributes(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	br.open(wikiOrigin + "/")
	br.post(wikiOrigin+"/.sallyport/signout", "scope=everywhere")
	seen := map[string]bool{}
	for _, c := range br.set {
		kind := strings.TrimRight(c.Name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
		seen[kind] = true
		if !strings.HasPrefix(c.Name, "__Host-sallyport") || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
			t.Errorf("cookie %s: %+v", c.Name, c)
		}
		if kind == signin.SessionCookie && c.Value != "" && (c.MaxAge != 0 || !c.Expires.IsZero()) {
			t.Errorf("session cookie outlives the browser: %+v", c)
		}
		if strings.HasSuffix(kind, "-") && c.Value != "" && c.MaxAge != 600 {
			t.Errorf("cookie %s lasts %d s, want 600", c.Name, c.MaxAge)
		}
	}
	for _, kind := range []string{"__Host-sallyport", "__Host-sallyport-flow-", "__Host-sallyport-back-"} {
		if !seen[kind] {
			t.Errorf("no cookie %s was set", kind)
		}
	}
}

// A browser without cookies reaches a page, not a loop, whichever cookies it blocks.
func TestBlockedCookiesEndOnAPage(t *testing.T) {
	for name, tc := range map[string]struct {
		blocks func(*http.Cookie) bool
		want   string
	}{
		"all":     {func(*http.Cookie) bool { return true }, "flow_missing"},
		"back":    {func(c *http.Cookie) bool { return strings.Contains(c.Name, "-back-") }, "back_missing"},
		"session": {func(c *http.Cookie) bool { return c.Name == signin.SessionCookie }, "sign_in_loop"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			br := b.browser()
			br.blocks = tc.blocks
			br.open(wikiOrigin+"/").want(t, http.StatusBadRequest, tc.want)
			br.blocks = nil
			br.open(wikiOrigin+"/").wantUser(t, "alice-1", wikiOrigin+"/")
		})
	}
	t.Run("session on the portal", func(t *testing.T) {
		b := newBed(t)
		br := b.browser()
		br.blocks = func(c *http.Cookie) bool { return c.Name == signin.SessionCookie }
		br.open(authOrigin+"/").want(t, http.StatusBadRequest, "sign_in_loop")
	})
}

func TestProviderDownIsAPageThatTriesAgain(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	callback := br.until(wikiOrigin+"/page", "/callback/")
	b.idp.Do(fakeidp.Script{Down: true})
	a := br.open(callback)
	a.want(t, http.StatusBadGateway, "provider_unreachable")
	b.idp.Do(fakeidp.Script{})
	br.open(strings.TrimSpace(a.act)).wantUser(t, "alice-1", wikiOrigin+"/page")
}

func TestSeveralProvidersAreAChoice(t *testing.T) {
	partner := fakeidp.Start(t, fakeidp.Client{ID: "sallyport", Secret: "x", RedirectURI: signin.CallbackURL(authOrigin, "partner")})
	partner.SetPerson(map[string]any{"sub": "paula"})
	b := newBed(t, partner)
	br := b.browser()
	a := br.open(wikiOrigin + "/page")
	a.want(t, http.StatusOK, "choose_provider")
	if len(a.choices) != 2 {
		t.Fatalf("choices %q", a.choices)
	}
	br.open(a.choices[1]).wantUser(t, "paula", wikiOrigin+"/page")

	// Mix-up: an answer of one provider at the callback of the other.
	other := b.browser()
	callback := other.until(other.open(wikiOrigin + "/").choices[0], "/callback/corp")
	other.open(strings.Replace(callback, "/callback/corp", "/callback/partner", 1)).want(t, http.StatusBadRequest, "state_mismatch")
	other.open(authOrigin+"/.sallyport/callback/nobody").want(t, http.StatusNotFound, "not_found")
}

func TestUnknownPathsAndAppsAreNotFound(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	br.open(authOrigin+"/.sallyport/nothing").want(t, http.StatusNotFound, "not_found")
	br.open(authOrigin+"/other").want(t, http.StatusNotFound, "not_found")
	br.open(authOrigin+"/.sallyport/start?app=evil.example&rd=/").want(t, http.StatusNotFound, "unknown_app")
	br.open(authOrigin+"/.sallyport/start?app=a&app=b").want(t, http.StatusBadRequest, "request_invalid")
	br.open("https://unknown.corp.example/").want(t, http.StatusNotFound, "unknown_app")
	br.open(wikiOrigin+"/.sallyport/return").want(t, http.StatusBadRequest, "back_missing")
}

// A start link that somebody wrote begins at the app, where the browser gets its back cookie.
func TestStartLinkWithoutBackBeginsAtTheApp(t *testing.T) {
	b := newBed(t)
	for _, back := range []string{"", "x", strings.Repeat("A", 26) + "." + strings.Repeat("!", 43)} {
		b.browser().open(authOrigin+"/.sallyport/start?"+url.Values{"app": {"wiki.corp.example"}, "rd": {"/page"}, "back": {back}}.Encode()).
			wantUser(t, "alice-1", wikiOrigin+"/page")
	}
}

func mustURL(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
