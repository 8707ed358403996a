package gateway

import (
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/authn"
	"sallyport/authn/session"
	"sallyport/authn/session/sqlite"
	"sallyport/gateway/route"
)

// keeperBed is a formBed whose sessions and forms are in a real store, under a clock that can be moved.
type keeperBed struct {
	*formBed
	keeper *session.Keeper
	ahead  atomic.Int64
}

func newKeeperBed(t *testing.T) *keeperBed {
	t.Helper()
	k := &keeperBed{formBed: newFormBed(t)}
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	now := func() time.Time { return time.Now().Add(time.Duration(k.ahead.Load())) }
	if k.keeper, err = session.NewKeeper(session.Config{Idle: time.Hour, Absolute: 24 * time.Hour}, store, now, nil); err != nil {
		t.Fatal(err)
	}
	k.server.sessions, k.server.forms, k.server.custody, k.server.now = k.keeper, k.keeper, k.keeper, now
	return k
}

// signIn is a handle on the wiki's host for somebody who signs in now.
func (k *keeperBed) signIn(t *testing.T, who string, bound session.Bound) (handle string) {
	t.Helper()
	_, s, err := k.keeper.SignIn(t.Context(), session.NewSession{Bound: bound,
		Identity: &authn.Identity{Kind: authn.User, Provider: "corp", Subject: who, Groups: []string{"staff"}}})
	if err != nil {
		t.Fatal(err)
	}
	code, err := k.keeper.HandOff(t.Context(), s.ID, wikiHost, session.BackHash("verifier"))
	if err != nil {
		t.Fatal(err)
	}
	if handle, _, err = k.keeper.Redeem(t.Context(), code, wikiHost, "verifier"); err != nil {
		t.Fatal(err)
	}
	return handle
}

// A form of a session that the store knows to have expired less than an hour ago is kept and sent; one of a session that
// expired before that, lives, or was ended is not.
func TestFormsFollowTheStore(t *testing.T) {
	for name, c := range map[string]struct {
		pause  time.Duration // since the sign-in, whose idle limit is an hour
		ended  bool
		status int
		kept   bool
	}{
		"alive": {time.Minute, false, 200, false}, "expired": {70 * time.Minute, false, 401, true}, "long expired": {121 * time.Minute, false, 401, false},
		"revoked": {time.Minute, true, 401, false},
	} {
		k := newKeeperBed(t)
		handle := k.signIn(t, "ada", session.Bound{})
		if c.ended {
			if _, err := k.keeper.Revoke(t.Context(), session.Filter{All: true}); err != nil {
				t.Fatal(err)
			}
		}
		k.ahead.Store(int64(c.pause))
		status, body := answerTo(t, k.client(t, "h2"), k.form(t, handle, "a=b"))
		page := strings.ReplaceAll(between(body, `href="/.sallyport/resend`, `"`), "&amp;", "&")
		if status != c.status || (page != "") != c.kept {
			t.Errorf("%s: got %d, kept %v: %s", name, status, page != "", body)
		}
		if !c.kept {
			continue
		}
		page = "/.sallyport/resend" + page
		if status, _ := answerTo(t, k.client(t, "h2"), navigation(k.request(t, "GET", page, k.signIn(t, "eve", session.Bound{}), nil))); status != 403 {
			t.Errorf("%s: another person gets %d", name, status)
		}
		again := k.signIn(t, "ada", session.Bound{})
		if status, body := k.press(t, again, page, "send"); status != 200 || body != "thanks" || len(k.apps()) != 1 {
			t.Errorf("%s: sent with %d %s", name, status, body)
		}
		if status, _ := k.press(t, again, page, "send"); status != 404 || len(k.apps()) != 1 {
			t.Errorf("%s: sent again with %d", name, status)
		}
	}
}

// An app's idle limit is not undone by loading the page again, or by opening another app first. REV-05.
func TestPauseCountsUntilTheNextSignIn(t *testing.T) {
	k := newKeeperBed(t)
	k.serveFresh(t, route.Session{Idle: 15 * time.Minute}, 0, "")
	handle := k.signIn(t, "ada", session.Bound{})
	if status, _ := answerTo(t, k.client(t, "h2"), k.request(t, "GET", "/", handle, nil)); status != 200 {
		t.Fatalf("got %d at first", status)
	}
	k.ahead.Store(int64(20 * time.Minute))
	if _, err := k.keeper.Lookup(t.Context(), wikiHost, handle); err != nil { // as another app would
		t.Fatal(err)
	}
	for range 3 {
		if status, _ := answerTo(t, k.client(t, "h2"), k.request(t, "GET", "/", handle, nil)); status != 401 {
			t.Errorf("got %d after a pause", status)
		}
	}
}

// A breach ends the session in the store.
func TestBreachEndsTheStoredSession(t *testing.T) {
	k := newKeeperBed(t)
	next := k.server.Snapshot()
	next.Bind = session.Bind{UserAgent: true}
	handle := k.signIn(t, "ada", session.Bound{UserAgent: "Firefox on Linux", Network: "127.0.0.0/24"})
	if status, _ := answerTo(t, k.client(t, "h2"), k.as(t, handle, newerFirefox)); status != 200 {
		t.Fatalf("got %d at first", status)
	}
	if status, _ := answerTo(t, k.client(t, "h2"), k.as(t, handle, chrome)); status != http.StatusUnauthorized {
		t.Errorf("got %d elsewhere", status)
	}
	if _, err := k.keeper.Lookup(t.Context(), wikiHost, handle); err == nil {
		t.Error("the session lives")
	}
}
