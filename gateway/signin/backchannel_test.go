package signin_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sallyport/authn/session"
	"sallyport/gateway/signin"
	"sallyport/test/fakeidp"
)

const logoutEvent = "http://schemas.openid.net/event/backchannel-logout"

// logoutToken is a token of the provider's, changed.
func (b *bed) logoutToken(idp *fakeidp.Provider, change func(header map[string]any, claims jwt.MapClaims)) string {
	b.t.Helper()
	key, kid := idp.Key()
	now := b.now()
	claims := jwt.MapClaims{"iss": idp.Issuer, "aud": idp.Client.ID, "iat": now.Unix(), "exp": now.Add(2 * time.Minute).Unix(),
		"jti": fmt.Sprint("jti-", now.UnixNano()), "sub": "alice-1", "events": map[string]any{logoutEvent: map[string]any{}}}
	token := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	token.Header["kid"], token.Header["typ"] = kid, "logout+jwt"
	if change != nil {
		change(token.Header, claims)
	}
	signed, err := token.SignedString(key)
	if err != nil {
		b.t.Fatal(err)
	}
	return signed
}

// tell is a call of a provider's.
func (b *bed) tell(to, token string, headers ...string) answer {
	b.t.Helper()
	provider := b.browser()
	return provider.post(authOrigin+signin.BackChannelPath+to, "logout_token="+token, append([]string{"Sec-Fetch-Site", ""}, headers...)...)
}

// OIDC-25: a valid token ends exactly the sessions that it speaks of.
func TestOIDC25BackChannelEndsExactlyTheSessionsMeant(t *testing.T) {
	sid := func(b *bed, id string) {
		b.idp.Do(fakeidp.Script{Claims: func(c jwt.MapClaims) {
			if delete(c, "sid"); id != "" {
				c["sid"] = id
			}
		}})
	}
	for name, tc := range map[string]struct {
		change func(c jwt.MapClaims)
		ended  []string
	}{
		"by sid":               {func(c jwt.MapClaims) { delete(c, "sub"); c["sid"] = "one" }, []string{"one"}},
		"by sub":               {func(c jwt.MapClaims) {}, []string{"one", "two", "none"}},
		"by both":              {func(c jwt.MapClaims) { c["sid"] = "two" }, []string{"two", "none"}}, // of none nobody knows where it began
		"sid of another":       {func(c jwt.MapClaims) { c["sid"] = "bobs" }, []string{"none"}},
		"sid nobody has":       {func(c jwt.MapClaims) { delete(c, "sub"); c["sid"] = "x" }, nil},
		"person nobody knows":  {func(c jwt.MapClaims) { c["sub"] = "alice-11" }, nil},
		"sid that is a filter": {func(c jwt.MapClaims) { delete(c, "sub"); c["sid"] = "%" }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			ids := map[string]string{}
			for _, id := range []string{"one", "two", "none"} {
				if sid(b, id); id == "none" {
					sid(b, "")
				}
				ids[b.browser().open(wikiOrigin+"/").session] = id
			}
			b.idp.SetPerson(map[string]any{"sub": "bob-2"})
			sid(b, "bobs")
			ids[b.browser().open(wikiOrigin+"/").session] = "bobs"
			a := b.tell("corp", b.logoutToken(b.idp, func(_ map[string]any, c jwt.MapClaims) { tc.change(c) }))
			if a.status != http.StatusOK || a.body != "" {
				t.Errorf("answer %d %s", a.status, a.body)
			}
			left := maps.Clone(ids)
			for id, name := range ids {
				for _, ended := range tc.ended {
					if name == ended {
						delete(left, id)
					}
				}
			}
			for _, s := range b.sessions() {
				if _, ok := left[s.ID]; !ok {
					t.Errorf("session %s lives on", ids[s.ID])
				}
				delete(left, s.ID)
			}
			if len(left) != 0 {
				t.Errorf("ended too many: %v", left)
			}
			if text := b.records.text(); b.records.count("provider_signed_out") != 1 || !strings.Contains(text, fmt.Sprintf(`"count":%d`, len(tc.ended))) {
				t.Errorf("records %s", text)
			}
		})
	}
}

// badLogouts are the tokens and calls of OIDC-25 that must end nothing.
func badLogouts(b *bed) map[string]string {
	other := func(change func(header map[string]any, claims jwt.MapClaims)) string {
		return b.logoutToken(b.idp, change)
	}
	stranger := fakeidp.Start(b.t, b.idp.Client)
	foreign := b.logoutToken(stranger, func(_ map[string]any, c jwt.MapClaims) { c["iss"] = b.idp.Issuer })
	good := other(nil)
	return map[string]string{
		"nonce":          other(func(_ map[string]any, c jwt.MapClaims) { c["nonce"] = "x" }),
		"no events":      other(func(_ map[string]any, c jwt.MapClaims) { delete(c, "events") }),
		"another event":  other(func(_ map[string]any, c jwt.MapClaims) { c["events"] = map[string]any{"x": map[string]any{}} }),
		"no sub and sid": other(func(_ map[string]any, c jwt.MapClaims) { delete(c, "sub") }),
		"other aud":      other(func(_ map[string]any, c jwt.MapClaims) { c["aud"] = "other" }),
		"other iss":      other(func(_ map[string]any, c jwt.MapClaims) { c["iss"] = "https://evil.example" }),
		"no jti":         other(func(_ map[string]any, c jwt.MapClaims) { delete(c, "jti") }),
		"expired":        other(func(_ map[string]any, c jwt.MapClaims) { c["exp"] = b.now().Add(-time.Hour).Unix() }),
		"from tomorrow": other(func(_ map[string]any, c jwt.MapClaims) {
			c["iat"] = b.now().Add(24 * time.Hour).Unix()
			c["exp"] = b.now().Add(25 * time.Hour).Unix()
		}),
		"for years":     other(func(_ map[string]any, c jwt.MapClaims) { c["exp"] = b.now().AddDate(9, 0, 0).Unix() }),
		"an id_token":   other(func(h map[string]any, _ jwt.MapClaims) { h["typ"] = "JWT" }),
		"alg none":      "eyJhbGciOiJub25lIiwidHlwIjoibG9nb3V0K2p3dCJ9." + strings.Split(good, ".")[1] + ".",
		"no signature":  strings.Join(strings.Split(good, ".")[:2], ".") + ".",
		"another's key": foreign,
		"empty":         "",
		"twice":         good + "&logout_token=" + good,
		"not a token":   "x",
		"dots":          strings.Repeat(".", 1000),
		"huge":          strings.Repeat("A", 70<<10),
	}
}

// OIDC-25: everything else is 400, ends nothing and is on record.
func TestOIDC25BadLogoutTokensEndNothing(t *testing.T) {
	b := newBed(t)
	b.browser().open(wikiOrigin + "/")
	bad := badLogouts(b)
	for name, token := range bad {
		a := b.tell("corp", token)
		if a.status != http.StatusBadRequest || a.body != `{"error":"invalid_request"}`+"\n" || len(b.sessions()) != 1 {
			t.Errorf("%s: answer %d %q, %d sessions", name, a.status, a.body, len(b.sessions()))
		}
	}
	good := b.logoutToken(b.idp, nil)
	for name, a := range map[string]answer{
		"other provider": b.tell("nobody", good),
		"as JSON":        b.tell("corp", good, "Content-Type", "application/json"),
		"by GET":         b.browser().open(authOrigin + signin.BackChannelPath + "corp?logout_token=" + good),
	} {
		if a.status < 400 || len(b.sessions()) != 1 {
			t.Errorf("%s: answer %d, %d sessions", name, a.status, len(b.sessions()))
		}
	}
	failed := 0
	for _, code := range b.records.codes() {
		if strings.HasPrefix(code, "provider_sign_out_failed:") {
			failed++
		}
	}
	if failed != len(bad)+1 || b.records.count("provider_signed_out") != 0 {
		t.Errorf("%d records of failures, want %d: %q", failed, len(bad)+1, b.records.codes())
	}
	if looksLikeToken.MatchString(b.records.text()) {
		t.Error("a token is on record")
	}
	if a := b.tell("corp", good); a.status != http.StatusOK || len(b.sessions()) != 0 {
		t.Errorf("the good one: answer %d, %d sessions", a.status, len(b.sessions()))
	}
}

// forgetful is a store that lets every caller have a name: the mutant of what follows.
type forgetful struct{ *session.Keeper }

func (forgetful) Claim(context.Context, string, time.Duration) (bool, func(), error) {
	return true, func() {}, nil
}

// OIDC-25: a token that is sent again, or fifty times at once, ends nothing new.
func TestOIDC25ReplayedLogoutTokenEndsNothingNew(t *testing.T) {
	replayed := func(serve func(b *bed)) (ok, refused, left int) {
		b := newBed(t)
		serve(b)
		b.browser().open(wikiOrigin + "/")
		token := b.logoutToken(b.idp, nil)
		var mu sync.Mutex
		var running sync.WaitGroup
		send := func() {
			status := b.tell("corp", token).status
			mu.Lock()
			defer mu.Unlock()
			switch status {
			case http.StatusOK:
				ok++
			case http.StatusBadRequest:
				refused++
			}
		}
		for range 50 {
			running.Go(send)
		}
		running.Wait()
		b.browser().open(wikiOrigin+"/").wantUser(t, "alice-1", wikiOrigin+"/")
		send()
		return ok, refused, len(b.sessions())
	}
	if ok, refused, left := replayed(func(*bed) {}); ok != 1 || refused != 50 || left != 1 {
		t.Errorf("%d accepted, %d refused, %d sessions left; want 1, 50 and 1", ok, refused, left)
	}
	mutant := func(b *bed) { b.serve(forgetful{b.keeper}, b.provider("corp", b.idp)) }
	if ok, _, left := replayed(mutant); ok == 1 || left == 1 {
		t.Error("the test does not notice that ids are forgotten")
	}
}

// flaky is a store that fails in one way, for a while.
type flaky struct {
	*session.Keeper
	fails *string
}

func (f flaky) Claim(ctx context.Context, name string, hold time.Duration) (bool, func(), error) {
	if *f.fails == "claim" {
		return false, func() {}, errStore
	}
	return f.Keeper.Claim(ctx, name, hold)
}

func (f flaky) List(ctx context.Context, filter session.Filter) ([]session.Session, error) {
	if *f.fails == "list" {
		return nil, errStore
	}
	return f.Keeper.List(ctx, filter)
}

func (f flaky) End(ctx context.Context, filter session.Filter, reason string) ([]session.Session, error) {
	if *f.fails == "end" {
		return nil, errStore
	}
	return f.Keeper.End(ctx, filter, reason)
}

// A token that could not be carried out is 503, and good for another try.
func TestLogoutThatFailedMayBeSaidAgain(t *testing.T) {
	for _, fails := range []string{"claim", "list", "end", "record", "keys"} {
		t.Run(fails, func(t *testing.T) {
			b := newBed(t)
			now := fails
			b.browser().open(wikiOrigin + "/")
			b.serve(flaky{b.keeper, &now}, b.provider("corp", b.idp))
			b.records.failing(func(code string) bool { return now == "record" && code == "provider_signed_out" })
			token := b.logoutToken(b.idp, nil)
			if fails == "keys" {
				b.idp.Do(fakeidp.Script{Down: true})
			}
			a := b.tell("corp", token)
			if a.status != http.StatusServiceUnavailable || len(b.sessions()) != 1 {
				t.Errorf("answer %d %s, %d sessions", a.status, a.body, len(b.sessions()))
			}
			now = ""
			b.idp.Do(fakeidp.Script{})
			b.later(time.Minute) // keys are asked for at most twice a minute
			if a := b.tell("corp", token); a.status != http.StatusOK || len(b.sessions()) != 0 {
				t.Errorf("said again: answer %d %s, %d sessions", a.status, a.body, len(b.sessions()))
			}
		})
	}
}

// Every app's handle is dead, not just the sign-in host's.
func TestBackChannelEndsEveryApp(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	br.open(wikiOrigin + "/")
	br.open(payOrigin + "/")
	var reasons []string
	b.keeper.OnEnd(func(e session.Ended) { reasons = append(reasons, e.Reason) })
	b.tell("corp", b.logoutToken(b.idp, nil))
	for origin, host := range map[string]string{wikiOrigin: "wiki.corp.example", payOrigin: "payroll.corp.example"} {
		if _, err := b.keeper.Lookup(t.Context(), host, br.cookies(origin)[signin.SessionCookie]); !errors.Is(err, session.ErrNoSession) {
			t.Errorf("%s: %v", host, err)
		}
	}
}
