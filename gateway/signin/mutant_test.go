package signin_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/authn/session"
	"sallyport/gateway/signin"
)

// What follows runs the attacks of threats section 7 twice: against what is, and against a gateway that lacks the one
// defence, where each must succeed. An attack that fails against both proves nothing.

// unspent is a store that forgets what was spent.
type unspent struct{ *session.Keeper }

func (unspent) Spend(context.Context, string, time.Time) (bool, error) { return true, nil }

// immortal is a store that ends nothing.
type immortal struct{ *session.Keeper }

func (immortal) SignOut(context.Context, string) error { return nil }

// unbound is a store whose hand-off codes belong to any browser.
type unbound struct{ *session.Keeper }

func (u unbound) HandOff(ctx context.Context, id, host, _ string) (string, error) {
	return u.Keeper.HandOff(ctx, id, host, session.BackHash("anybody"))
}

func (u unbound) Redeem(ctx context.Context, code, host, _ string) (string, *session.Session, error) {
	return u.Keeper.Redeem(ctx, code, host, "anybody")
}

func attack(t *testing.T, name string, run func(b *bed, shared bool) bool, mutant func(b *bed) signin.Sessions) {
	t.Helper()
	b := newBed(t)
	if run(b, false) {
		t.Errorf("%s: the attack succeeds", name)
	}
	b = newBed(t)
	if mutant != nil {
		b.serve(mutant(b), b.provider("corp", b.idp))
	}
	if !run(b, mutant == nil) {
		t.Errorf("%s: the attack does not notice that the defence is gone", name)
	}
}

func TestAttacksNoticeAMissingDefence(t *testing.T) {
	// Login CSRF. The mutant is a browser in which flow cookies of others count, as if they were not checked.
	attack(t, "OIDC-02", func(b *bed, shared bool) bool {
		attacker, victim := b.browser(), b.browser()
		callback := attacker.until(wikiOrigin+"/", "/callback/")
		victim.until(wikiOrigin+"/", "/callback/")
		if shared {
			for name, value := range attacker.cookies(authOrigin) {
				victim.plant(authOrigin, name, value)
			}
		}
		victim.step(callback)
		return victim.cookies(authOrigin)[signin.SessionCookie] != ""
	}, nil)

	attack(t, "OIDC-01", func(b *bed, stateful bool) bool {
		br := b.browser()
		callback := mustURL(t, br.until(wikiOrigin+"/", "/callback/"))
		q := callback.Query()
		if !stateful {
			q.Del("state")
		}
		callback.RawQuery = q.Encode()
		br.step(callback.String())
		return b.idp.Calls("token") > 0
	}, nil)

	attack(t, "OIDC-03", func(b *bed, _ bool) bool {
		br := b.browser()
		callback := br.until(wikiOrigin+"/", "/callback/")
		for name, value := range br.cookies(authOrigin) {
			br.header.Set("Cookie", name+"="+value)
		}
		var running sync.WaitGroup
		for range 50 {
			running.Go(func() { br.step(callback) })
		}
		running.Wait()
		return b.idp.Calls("token") > 1
	}, func(b *bed) signin.Sessions { return unspent{b.keeper} })

	attack(t, "OIDC-08", func(b *bed, _ bool) bool {
		mallory, alice := b.browser(), b.browser()
		b.idp.SetPerson(map[string]any{"sub": "mallory"})
		mallory.open(wikiOrigin + "/")
		planted := mallory.cookies(authOrigin)[signin.SessionCookie]
		b.idp.SetPerson(map[string]any{"sub": "alice-1"})
		callback := alice.until(wikiOrigin+"/", "/callback/")
		alice.plant(authOrigin, signin.SessionCookie, planted)
		alice.open(callback)
		_, err := b.keeper.SignedIn(t.Context(), planted)
		return !errors.Is(err, session.ErrNoSession)
	}, func(b *bed) signin.Sessions { return immortal{b.keeper} })

	attack(t, "OIDC-29", func(b *bed, _ bool) bool {
		attacker, victim := b.browser(), b.browser()
		b.idp.SetPerson(map[string]any{"sub": "mallory"})
		back := mustURL(t, attacker.until(wikiOrigin+"/", signin.ReturnPath))
		victim.until(wikiOrigin+"/", "/callback/")
		for name := range victim.cookies(wikiOrigin) {
			q := back.Query()
			q.Set("back", strings.TrimPrefix(name, "__Host-sallyport-back-"))
			back.RawQuery = q.Encode()
		}
		return victim.open(back.String()).user == "mallory"
	}, func(b *bed) signin.Sessions { return unbound{b.keeper} })

	// A replayed return, in a browser that still has its back cookie.
	attack(t, "OIDC-29, replayed", func(b *bed, again bool) bool {
		br := b.browser()
		back := br.until(wikiOrigin+"/", signin.ReturnPath)
		if again { // the mutant is a code that nobody has used
			return br.open(back).user == "alice-1"
		}
		cookies := br.cookies(wikiOrigin)
		br.open(back)
		thief := b.browser()
		for name, value := range cookies {
			thief.plant(wikiOrigin, name, value)
		}
		return thief.open(back).user != ""
	}, nil)
}

// cookieProblem says what is wrong with one of our cookies (COOK-15, RFC 6265bis §4.1.3.2).
func cookieProblem(c *http.Cookie) string {
	switch {
	case !strings.HasPrefix(c.Name, "__Host-sallyport"):
		return "name"
	case !c.Secure:
		return "not Secure"
	case !c.HttpOnly:
		return "not HttpOnly"
	case c.SameSite != http.SameSiteLaxMode && c.SameSite != http.SameSiteStrictMode:
		return "SameSite"
	case c.Path != "/" || c.Domain != "":
		return "Path or Domain"
	case len(c.Name)+len(c.Value) > 3900:
		return "too large for browsers"
	}
	return ""
}

// COOK-15 and COOK-21: every cookie of every answer of every endpoint, whatever becomes of the request. A cookie with the
// prefix __Host- is neither taken from nor sent over plain HTTP.
func TestCOOK15EverySetCookie(t *testing.T) {
	b := twoProviders(t)
	br := b.browser()
	page := br.open(wikiOrigin + "/")
	br.open(page.choices[0])
	b.needs = mfaFor("payroll.corp.example")
	withFactors(b)
	br.open(payOrigin + "/")
	b.needs = func(string, *session.Session) signin.Need { return signin.Need{MaxAge: time.Nanosecond} }
	br.open(wikiOrigin + "/loop")
	b.needs = nil
	for i := range 25 {
		other := b.browser()
		other.open(fmt.Sprintf("%s/%d", wikiOrigin, i))
		for range i {
			other.step(fmt.Sprintf("%s/%d", wikiOrigin, i))
		}
		br.set = append(br.set, other.set...)
	}
	for _, path := range []string{signin.StartPath, signin.CallbackPath + "corp", signin.ReturnPath, signin.SignedOutPath, signin.SignOutPath, signin.BackChannelPath + "corp", signin.ResendPath} {
		for _, origin := range []string{authOrigin, wikiOrigin} {
			br.step(origin + path + "?state=x&code=x&back=x&rd=x&app=x")
			br.post(origin+path, "scope=everywhere&provider=1&logout_token=x")
		}
	}
	kinds := map[string]bool{}
	for _, c := range br.set {
		kinds[strings.TrimRight(c.Name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")] = true
		if problem := cookieProblem(c); problem != "" {
			t.Errorf("%s: %s: %+v", c.Name, problem, c)
		}
	}
	for _, kind := range []string{"__Host-sallyport", "__Host-sallyport-flow-", "__Host-sallyport-back-", "__Host-sallyport-back-loop", "__Host-sallyport-last"} {
		if !kinds[kind] {
			t.Errorf("no cookie %s was set", kind)
		}
	}
	good := http.Cookie{Name: signin.SessionCookie, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, Path: "/"}
	for name, spoil := range map[string]func(c *http.Cookie){
		"prefix": func(c *http.Cookie) { c.Name = "sallyport" }, "Secure": func(c *http.Cookie) { c.Secure = false },
		"HttpOnly": func(c *http.Cookie) { c.HttpOnly = false }, "SameSite": func(c *http.Cookie) { c.SameSite = http.SameSiteNoneMode },
		"Path": func(c *http.Cookie) { c.Path = "/.sallyport" }, "Domain": func(c *http.Cookie) { c.Domain = "corp.example" },
	} {
		bad := good
		if spoil(&bad); cookieProblem(&bad) == "" {
			t.Errorf("the test does not notice %s", name)
		}
	}
}
