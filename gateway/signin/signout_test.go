package signin_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sallyport/authn/session"
	"sallyport/gateway/signin"
)

func TestSignOutOfOneAppKeepsTheOthers(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	br.open(wikiOrigin + "/")
	br.open(payOrigin + "/")
	first := br.cookies(wikiOrigin)[signin.SessionCookie]
	a := br.post(wikiOrigin+signin.SignOutPath, "")
	a.want(t, http.StatusOK, "signed_out")
	if !strings.Contains(a.body, "Wiki") || br.cookies(wikiOrigin)[signin.SessionCookie] != "" {
		t.Errorf("page %s, cookies %v", a.body, br.cookies(wikiOrigin))
	}
	if _, err := b.keeper.Lookup(t.Context(), "wiki.corp.example", first); !errors.Is(err, session.ErrNoSession) {
		t.Errorf("the handle works on: %v", err)
	}
	br.open(payOrigin+"/").wantUser(t, "alice-1", payOrigin+"/")
	br.open(wikiOrigin+"/").wantUser(t, "alice-1", wikiOrigin+"/") // silently, since the sign-in goes on
	if n := b.idp.Calls("authorize"); n != 1 {
		t.Errorf("the provider was asked %d times", n)
	}
	if diff := cmp.Diff([]string{"sign_in", "sign_in_app", "sign_in_app", "sign_out_app", "sign_in_app"}, b.records.codes()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

func TestSignOutEverywhereEndsEveryApp(t *testing.T) {
	for name, to := range map[string]string{
		"app, form":    wikiOrigin + signin.SignOutPath,
		"app, query":   wikiOrigin + signin.SignOutPath + "?scope=everywhere",
		"sign-in host": authOrigin + signin.SignOutPath,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			br := b.browser()
			br.open(wikiOrigin + "/")
			br.open(payOrigin + "/")
			form := ""
			if name == "app, form" {
				form = "scope=everywhere"
			}
			br.post(to, form).want(t, http.StatusOK, "signed_out")
			if left, err := b.keeper.List(t.Context(), session.Filter{}); err != nil || len(left) != 0 {
				t.Errorf("sessions left: %v, %v", left, err)
			}
			br.open(payOrigin+"/").wantUser(t, "alice-1", payOrigin+"/")
			if n := b.idp.Calls("authorize"); n != 2 {
				t.Errorf("the provider was asked %d times, want again", n)
			}
			if b.records.count("sign_out") != 1 {
				t.Errorf("records %q", b.records.codes())
			}
		})
	}
}

func TestSignOutIsTheHostsOwnToAsk(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	br.open(wikiOrigin + "/")
	for name, headers := range map[string][]string{
		"other site":     {"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"},
		"sibling host":   {"Sec-Fetch-Site", "same-site", "Origin", payOrigin},
		"old browser":    {"Sec-Fetch-Site", "", "Origin", "https://evil.example"},
		"opaque origin":  {"Sec-Fetch-Site", "", "Origin", "null"},
		"port of others": {"Sec-Fetch-Site", "", "Origin", "https://wiki.corp.example"},
	} {
		t.Run(name, func(t *testing.T) {
			br.post(wikiOrigin+signin.SignOutPath, "", headers...).want(t, http.StatusForbidden, "cross_origin")
		})
	}
	a := br.open(wikiOrigin + signin.SignOutPath)
	a.want(t, http.StatusMethodNotAllowed, "confirm_sign_out")
	if a.act != "POST "+signin.SignOutPath {
		t.Errorf("action %q, want a button", a.act)
	}
	br.do(request(t, http.MethodPut, wikiOrigin+signin.SignOutPath, nil), br.client).want(t, http.StatusMethodNotAllowed, "method_not_allowed")
	br.post(wikiOrigin+signin.SignOutPath, strings.Repeat("x", 5000)).want(t, http.StatusBadRequest, "request_invalid")
	br.open(wikiOrigin+"/").wantUser(t, "alice-1", wikiOrigin+"/")
	if n := b.idp.Calls("authorize"); n != 1 || b.records.count("sign_out_app") != 0 {
		t.Errorf("something was ended: %q", b.records.codes())
	}
	br.post(wikiOrigin+signin.SignOutPath, "", "Sec-Fetch-Site", "", "Origin", wikiOrigin).want(t, http.StatusOK, "signed_out")
}

func TestSignOutWithoutASessionIsNoError(t *testing.T) {
	b := newBed(t)
	br := b.browser()
	br.post(wikiOrigin+signin.SignOutPath, "").want(t, http.StatusOK, "signed_out")
	br.post(authOrigin+signin.SignOutPath, "").want(t, http.StatusOK, "signed_out")
	if got := b.records.codes(); len(got) != 0 {
		t.Errorf("records %q of nothing", got)
	}
}

// What cannot be recorded does not happen.
func TestNothingTakesEffectWithoutItsRecord(t *testing.T) {
	only := func(codes ...string) func(string) bool {
		return func(code string) bool { return strings.Contains(" "+strings.Join(codes, " ")+" ", " "+code+" ") }
	}
	t.Run("sign-in", func(t *testing.T) {
		b := newBed(t)
		br := b.browser()
		b.records.failing(only("sign_in"))
		br.open(wikiOrigin+"/").want(t, http.StatusServiceUnavailable, "audit_unavailable")
		if br.cookies(authOrigin)[signin.SessionCookie] != "" {
			t.Error("a session cookie was set")
		}
		if left, err := b.keeper.List(t.Context(), session.Filter{}); err != nil || len(left) != 0 {
			t.Errorf("sessions left: %v, %v", left, err)
		}
		b.records.failing(nil)
		br.open(wikiOrigin+"/").wantUser(t, "alice-1", wikiOrigin+"/")
	})
	t.Run("app host", func(t *testing.T) {
		b := newBed(t)
		br := b.browser()
		b.records.failing(only("sign_in_app"))
		br.open(wikiOrigin+"/").want(t, http.StatusServiceUnavailable, "audit_unavailable")
		if br.cookies(wikiOrigin)[signin.SessionCookie] != "" {
			t.Error("a session cookie was set")
		}
	})
	t.Run("failed sign-in", func(t *testing.T) {
		b := newBed(t)
		b.records.failing(only("sign_in_failed"))
		b.browser().open(authOrigin+"/.sallyport/callback/corp").want(t, http.StatusServiceUnavailable, "audit_unavailable")
	})
	t.Run("sign-out", func(t *testing.T) {
		b := newBed(t)
		br := b.browser()
		br.open(wikiOrigin + "/")
		b.records.failing(only("sign_out", "sign_out_app"))
		br.post(wikiOrigin+signin.SignOutPath, "").want(t, http.StatusServiceUnavailable, "audit_unavailable")
		br.post(authOrigin+signin.SignOutPath, "").want(t, http.StatusServiceUnavailable, "audit_unavailable")
		br.open(wikiOrigin+"/").wantUser(t, "alice-1", wikiOrigin+"/")
	})
	t.Run("replaced session", func(t *testing.T) {
		b := newBed(t)
		mallory, alice := b.browser(), b.browser()
		mallory.open(wikiOrigin + "/")
		b.idp.SetPerson(map[string]any{"sub": "alice-2"})
		callback := alice.until(wikiOrigin+"/", "/callback/")
		alice.plant(authOrigin, signin.SessionCookie, mallory.cookies(authOrigin)[signin.SessionCookie])
		b.records.failing(only("sign_out"))
		alice.open(callback).want(t, http.StatusServiceUnavailable, "audit_unavailable")
		left, err := b.keeper.List(t.Context(), session.Filter{})
		if err != nil || len(left) != 1 || left[0].Identity.Subject != "alice-1" {
			t.Errorf("sessions left: %v, %v: want the old one alone", left, err)
		}
	})
}

// brokenSessions is a store that fails one way of use.
type brokenSessions struct {
	signin.Sessions
	method string
}

var errStore = errors.New("disk I/O error")

func (b brokenSessions) SignedIn(ctx context.Context, handle string) (*session.Session, error) {
	if b.method == "SignedIn" {
		return nil, errStore
	}
	return b.Sessions.SignedIn(ctx, handle)
}

func (b brokenSessions) SignIn(ctx context.Context, n session.NewSession) (string, *session.Session, error) {
	if b.method == "SignIn" {
		return "", nil, errStore
	}
	return b.Sessions.SignIn(ctx, n)
}

func (b brokenSessions) HandOff(ctx context.Context, id, host, hash string) (string, error) {
	if b.method == "HandOff" {
		return "", errStore
	}
	return b.Sessions.HandOff(ctx, id, host, hash)
}

func (b brokenSessions) Redeem(ctx context.Context, code, host, verifier string) (string, *session.Session, error) {
	if b.method == "Redeem" {
		return "", nil, errStore
	}
	return b.Sessions.Redeem(ctx, code, host, verifier)
}

func TestStoreThatFailsSignsNobodyIn(t *testing.T) {
	for _, method := range []string{"SignedIn", "SignIn", "HandOff", "Redeem"} {
		t.Run(method, func(t *testing.T) {
			b := newBed(t)
			br := b.browser()
			if method == "SignedIn" {
				br.open(authOrigin + "/")
			}
			b.serve(brokenSessions{b.keeper, method}, b.provider("corp", b.idp))
			br.open(wikiOrigin+"/").want(t, http.StatusServiceUnavailable, "sessions_down")
			if br.cookies(wikiOrigin)[signin.SessionCookie] != "" {
				t.Error("a session cookie was set")
			}
		})
	}
}
