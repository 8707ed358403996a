package signin_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
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

// mfaFor asks for a second factor on one app.
func mfaFor(host string) func(string, *session.Session) signin.Need {
	return func(h string, s *session.Session) signin.Need {
		if h == host && !s.Identity.MFA {
			return signin.Need{MFA: true}
		}
		return signin.Need{}
	}
}

// withFactors has the provider say that two factors were used when it is asked for more.
func withFactors(b *bed) {
	b.idp.Do(fakeidp.Script{Claims: func(c jwt.MapClaims) { c["amr"] = []string{"pwd", "mfa"}; c["auth_time"] = b.now().Unix() }})
}

// A step-up goes to the provider and back to the page; the session goes on under a new handle, and so do the other apps.
func TestStepUpRaisesTheSessionAndReturnsToThePage(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	before := br.open(wikiOrigin + "/notes").session
	old, wiki := br.cookies(authOrigin)[signin.SessionCookie], br.cookies(wikiOrigin)[signin.SessionCookie]
	created := b.sessions()[0].Created
	b.needs = mfaFor("payroll.corp.example")
	withFactors(b)
	b.later(time.Minute)
	a := br.open(payOrigin + "/slips?year=2026")
	a.wantUser(t, "alice-1", payOrigin+"/slips?year=2026")
	all := b.sessions()
	if len(all) != 1 || all[0].ID != before || a.session != before || !all[0].Identity.MFA || !all[0].Created.Equal(created) {
		t.Errorf("sessions are %+v, want the one of before, raised", all)
	}
	if now := br.cookies(authOrigin)[signin.SessionCookie]; now == old {
		t.Error("the handle of before the step-up is still in use")
	}
	if _, err := b.keeper.SignedIn(t.Context(), old); !errors.Is(err, session.ErrNoSession) {
		t.Errorf("the handle of before the step-up works on: %v", err)
	}
	if _, err := b.keeper.Lookup(t.Context(), "wiki.corp.example", wiki); err != nil {
		t.Errorf("the other app's handle is dead: %v", err)
	}
	if diff := cmp.Diff([]string{"sign_in", "sign_in_app", "sign_in_app", "session_raised", "sign_in_app"}, b.records.codes()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

func (b *bed) sessions() []session.Session {
	b.t.Helper()
	all, err := b.keeper.List(b.t.Context(), session.Filter{})
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}

// keptHandle is a store whose Raise forgets to change the handle: OIDC-08's mutant.
type keptHandle struct{ *session.Keeper }

func (k keptHandle) Raise(ctx context.Context, id, old string, r session.Renewal) (string, *session.Session, error) {
	_, version, err := k.Secrets(ctx, id)
	if err != nil {
		return "", nil, err
	}
	s, err := k.Renew(ctx, id, version, r)
	return old, s, err
}

// OIDC-08: who knew the handle of before a step-up gains nothing by it.
func TestOIDC08HandleOfBeforeTheStepUpIsDead(t *testing.T) {
	stolenWorks := func(serve func(b *bed)) bool {
		b := newBed(t)
		serve(b)
		br := b.browser()
		br.open(wikiOrigin + "/")
		stolen := br.cookies(authOrigin)[signin.SessionCookie]
		b.needs = mfaFor("wiki.corp.example")
		withFactors(b)
		br.open(wikiOrigin+"/").wantUser(t, "alice-1", wikiOrigin+"/")
		s, err := b.keeper.SignedIn(t.Context(), stolen)
		return err == nil && s.Identity.MFA
	}
	if stolenWorks(func(*bed) {}) {
		t.Error("the stolen handle has the second factor")
	}
	if !stolenWorks(func(b *bed) { b.serve(keptHandle{b.keeper}, b.provider("corp", b.idp)) }) {
		t.Error("the test does not notice a handle that is kept")
	}
}

// Somebody else who comes back from a step-up gets a session of their own, and the one of before ends.
func TestStepUpByAnotherPersonReplacesTheSession(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	before := br.open(wikiOrigin + "/").session
	wiki := br.cookies(wikiOrigin)[signin.SessionCookie]
	b.needs = mfaFor("payroll.corp.example")
	withFactors(b)
	b.idp.SetPerson(map[string]any{"sub": "bob-2"})
	a := br.open(payOrigin + "/")
	a.wantUser(t, "bob-2", payOrigin+"/")
	if a.session == before || len(b.sessions()) != 1 {
		t.Errorf("sessions are %+v, want bob's alone", b.sessions())
	}
	if _, err := b.keeper.Lookup(t.Context(), "wiki.corp.example", wiki); !errors.Is(err, session.ErrNoSession) {
		t.Errorf("alice's session lives on in the wiki: %v", err)
	}
	if b.records.count("sign_out:replaced") != 1 || b.records.count("session_raised") != 0 {
		t.Errorf("records %q", b.records.codes())
	}
}

// What the provider does not confirm is a page with one button, and the session stays what it was.
func TestStepUpThatFallsShortIsAPage(t *testing.T) {
	for want, need := range map[string]signin.Need{
		"assurance_unmet": {MFA: true},
		"auth_too_old":    {Fresh: true},
	} {
		t.Run(want, func(t *testing.T) {
			b := newBed(t)
			br := b.browser()
			br.open(wikiOrigin + "/")
			b.idp.Do(fakeidp.Script{Claims: func(c jwt.MapClaims) { c["auth_time"] = time.Now().Add(-time.Hour).Unix() }})
			b.needs = func(string, *session.Session) signin.Need { return need }
			b.later(2 * time.Second)
			a := br.open(wikiOrigin + "/page")
			a.want(t, http.StatusForbidden, want)
			if want == "auth_too_old" && a.act != " "+wikiOrigin+"/page" {
				t.Errorf("action %q", a.act)
			}
			if all := b.sessions(); len(all) != 1 || all[0].Identity.MFA || b.records.count("sign_in_failed:"+want) != 1 {
				t.Errorf("sessions %+v, records %q", all, b.records.codes())
			}
		})
	}
	t.Run("the button has the provider ask", func(t *testing.T) {
		b := newBed(t)
		br := b.browser()
		br.open(wikiOrigin + "/")
		b.needs = mfaFor("wiki.corp.example")
		b.later(2 * time.Second)
		a := br.open(wikiOrigin + "/page?q=1")
		a.want(t, http.StatusForbidden, "assurance_unmet")
		withFactors(b)
		to := br.until(strings.TrimSpace(a.act), "/authorize")
		if got := mustURL(t, to).Query().Get("prompt"); got != "login" {
			t.Errorf("prompt %q, want login", got)
		}
		br.open(to).wantUser(t, "alice-1", wikiOrigin+"/page?q=1")
	})
	t.Run("another class", func(t *testing.T) {
		b := newBed(t)
		br := b.browser()
		br.open(wikiOrigin + "/")
		b.needs = func(string, *session.Session) signin.Need { return signin.Need{ACR: []string{"urn:gold"}} }
		b.idp.Do(fakeidp.Script{Claims: func(c jwt.MapClaims) { c["acr"] = "urn:silver" }})
		to := br.until(wikiOrigin+"/page", "/authorize")
		if got := mustURL(t, to).Query().Get("acr_values"); got != "urn:gold" {
			t.Errorf("asked for class %q", got)
		}
		br.open(to).want(t, http.StatusForbidden, "assurance_unmet")
	})
}

// An app that is content with nothing ends on a page, and so do programs of redirects.
func TestStepUpThatNeverSufficesEndsOnAPage(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	br.open(wikiOrigin + "/")
	b.needs = func(string, *session.Session) signin.Need { return signin.Need{MaxAge: time.Nanosecond} }
	a := br.open(wikiOrigin + "/page")
	a.want(t, http.StatusForbidden, "step_up_loop")
	if n := b.idp.Calls("authorize"); n > 5 || a.act != " "+wikiOrigin+"/page" {
		t.Errorf("the person was sent to the provider %d times, action %q", n, a.act)
	}
	b.needs = nil
	br.open(wikiOrigin+"/page").wantUser(t, "alice-1", wikiOrigin+"/page")
}

// A session that has to pass by the provider does so without a question, and with one only when the provider insists.
func TestRecheckAsksThePersonOnlyIfTheProviderMust(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	first := br.open(wikiOrigin + "/").session
	due := func(_ string, s *session.Session) signin.Need {
		return signin.Need{Recheck: b.now().Sub(s.Checked) > time.Minute}
	}
	b.needs = due
	b.later(2 * time.Minute)
	to := br.until(wikiOrigin+"/page", "/authorize")
	if got := mustURL(t, to).Query().Get("prompt"); got != "none" {
		t.Errorf("prompt %q, want none", got)
	}
	if a := br.open(to); a.session != first {
		t.Errorf("ended with %d %q in session %q, want %q", a.status, a.code, a.session, first)
	}
	b.later(2 * time.Minute)
	var prompts []string
	b.idp.Do(fakeidp.Script{Callback: func(v url.Values) {
		if prompts = append(prompts, ""); len(prompts) == 1 {
			v.Del("code")
			v.Set("error", "login_required")
		}
	}})
	a := br.open(wikiOrigin + "/page")
	a.wantUser(t, "alice-1", wikiOrigin+"/page")
	if len(prompts) != 2 || a.session != first || b.records.count("sign_in_failed:login_required") != 1 {
		t.Errorf("%d visits, session %q, records %q", len(prompts), a.session, b.records.codes())
	}
	// A provider that always insists is no loop.
	b.later(2 * time.Minute)
	b.idp.Do(fakeidp.Script{Callback: func(v url.Values) { v.Del("code"); v.Set("error", "login_required") }})
	calls := b.idp.Calls("authorize")
	br.open(wikiOrigin+"/page").want(t, http.StatusBadRequest, "provider_error")
	if n := b.idp.Calls("authorize") - calls; n != 2 {
		t.Errorf("%d visits, want a silent one and another", n)
	}
}

// Ten tabs that need more finish in any order, in the one session.
func TestTenTabsStepUpTogether(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	id := br.open(wikiOrigin + "/").session
	b.needs = mfaFor("wiki.corp.example")
	withFactors(b)
	var callbacks []string
	for i := range 10 {
		callbacks = append(callbacks, br.until(fmt.Sprintf("%s/%d", wikiOrigin, i), "/callback/"))
	}
	for i := range 10 {
		at := (i*7 + 3) % 10
		a := br.open(callbacks[at])
		a.wantUser(t, "alice-1", fmt.Sprintf("%s/%d", wikiOrigin, at))
		if a.session != id {
			t.Errorf("tab %d has session %q, want %q", at, a.session, id)
		}
	}
	if n := b.records.count("session_raised"); n != 1 {
		t.Errorf("raised %d times: %q", n, b.records.codes())
	}
	// At once, with the handle of before in each.
	b.needs = func(string, *session.Session) signin.Need { return signin.Need{Recheck: true} }
	b.later(time.Minute)
	callbacks = nil
	for i := range 10 {
		callbacks = append(callbacks, br.until(fmt.Sprintf("%s/%d", wikiOrigin, i), "/callback/"))
	}
	held := br.cookies(authOrigin)
	var header []string
	for name, value := range held {
		header = append(header, name+"="+value)
	}
	br.header.Set("Cookie", strings.Join(header, "; "))
	br.jar.SetCookies(mustURL(t, authOrigin), nil)
	var running sync.WaitGroup
	var mu sync.Mutex
	failed := map[string]int{}
	for _, callback := range callbacks {
		running.Go(func() {
			if a := br.step(callback); !strings.HasPrefix(a.location, wikiOrigin+signin.ReturnPath) {
				mu.Lock()
				defer mu.Unlock()
				failed[fmt.Sprint(a.status, a.code, a.location)]++
			}
		})
	}
	running.Wait()
	if len(failed) > 0 || len(b.sessions()) != 1 || b.sessions()[0].ID != id {
		t.Errorf("failed %v; sessions %+v, want %q alone", failed, b.sessions(), id)
	}
}

// A need that somebody made up, took from elsewhere or left out opens nothing: the app says it again.
func TestNeedIsNothingWithoutTheApp(t *testing.T) {
	b := newBed(t)
	withFactors(b)
	for name, need := range map[string]string{"left out": "", "made up": "AAAA", "long": strings.Repeat("A", 5000)} {
		br := b.browser()
		br.open(wikiOrigin + "/")
		b.needs = func(string, *session.Session) signin.Need { return signin.Need{ACR: []string{"urn:gold"}} }
		start := mustURL(t, br.until(wikiOrigin+"/page", signin.StartPath))
		q := start.Query()
		q.Set("need", need)
		start.RawQuery = q.Encode()
		to := br.until(start.String(), "/authorize") // by way of the app, which asks again
		if !strings.HasPrefix(to, b.idp.Issuer) {
			t.Errorf("%s: %s", name, to)
		}
		b.needs = nil
	}
}

// What cannot be recorded or stored raises nothing.
func TestStepUpTakesNoEffectWithoutItsRecord(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	br.open(wikiOrigin + "/")
	b.needs = mfaFor("wiki.corp.example")
	withFactors(b)
	b.records.failing(func(code string) bool { return code == "session_raised" })
	br.open(wikiOrigin+"/page").want(t, http.StatusServiceUnavailable, "audit_unavailable")
	if all := b.sessions(); len(all) != 1 || all[0].Identity.MFA {
		t.Errorf("sessions %+v", all)
	}
}

// The token endpoint of a step-up may leave the refresh token out; the one of before stays good.
func TestStepUpKeepsTheRefreshTokenThatItGotNone(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	id := br.open(wikiOrigin + "/").session
	before, _, err := b.keeper.Secrets(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	b.needs = mfaFor("wiki.corp.example")
	b.idp.Do(fakeidp.Script{TokenBody: func(body map[string]any) { delete(body, "refresh_token") },
		Claims: func(c jwt.MapClaims) { c["amr"] = []string{"mfa"} }})
	br.open(wikiOrigin+"/").wantUser(t, "alice-1", wikiOrigin+"/")
	after, _, err := b.keeper.Secrets(t.Context(), id)
	if err != nil || after.RefreshToken != before.RefreshToken || after.IDToken == before.IDToken {
		t.Errorf("the refresh token is gone, or the ID token is the old one (%v)", err)
	}
}
