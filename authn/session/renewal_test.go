package session_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/authn/session"
	"sallyport/authn/session/sessiontest"
)

// OIDC-08: what a browser held before its person proved more is worth nothing after, in every process.
func TestHandleFromBeforeAStepUpIsDead(t *testing.T) {
	if wrong := fixation(t, func() session.Store { return sessiontest.NewMemory() }); wrong != "" {
		t.Error(wrong)
	}
	if wrong := fixation(t, func() session.Store { return lasting{sessiontest.NewMemory()} }); wrong == "" {
		t.Error("nobody notices a store in which the old handle lives on")
	}
}

// lasting is a store that gives a raised session one more handle and takes none.
type lasting struct{ session.Store }

func (s lasting) Raise(ctx context.Context, e session.Entry, _ session.Hash, parent session.Handle) error {
	return errors.Join(s.Renew(ctx, e), s.Attach(ctx, e.ID, parent))
}

// fixation says what is wrong after a step-up in a browser whose handle an attacker knows.
func fixation(t *testing.T, open func() session.Store) (wrong string) {
	synctest.Test(t, func(t *testing.T) {
		store := open()
		here, there := keeper(t, store), keeper(t, store)
		run(t, here)
		run(t, there)
		synctest.Wait()
		fixed, s := signIn(t, here, "ada")
		onWiki := child(t, here, s.ID, wiki)
		for _, k := range []*session.Keeper{here, there} {
			if _, err := k.SignedIn(t.Context(), fixed); err != nil {
				t.Fatal(err)
			}
			expectIn(t, k, wiki, onWiki, s.ID)
		}
		raised, after, err := here.Raise(t.Context(), s.ID, fixed, session.Renewal{Identity: person(t, "ada", "audit")})
		if err != nil || raised == fixed || after.ID != s.ID || after.Version != 2 || !after.Created.Equal(s.Created) {
			t.Fatalf("Raise = %+v, %v", after, err)
		}
		for i, k := range []*session.Keeper{here, there} {
			time.Sleep(time.Duration(i) * 2 * time.Second)
			if got, err := k.SignedIn(t.Context(), fixed); !errors.Is(err, session.ErrNoSession) {
				wrong = fmt.Sprintf("keeper %d takes the old handle for %v, %v", i, got, err)
			}
			if got, err := k.SignedIn(t.Context(), raised); err != nil || got.Identity.Groups[0] != "audit" {
				t.Errorf("keeper %d: the new handle is %+v, %v", i, got, err)
			}
			if got := expectIn(t, k, wiki, onWiki, s.ID); got.Version != 2 {
				t.Errorf("keeper %d: on app hosts the session is of version %d", i, got.Version)
			}
		}
	})
	return wrong
}

func TestRaiseWantsTheSamePersonWithTheirOwnHandle(t *testing.T) {
	k := keeper(t, sessiontest.NewMemory())
	mine, s := signIn(t, k, "ada")
	theirs, other := signIn(t, k, "bob")
	ada := session.Renewal{Identity: person(t, "ada")}
	for name, c := range map[string]struct {
		id, handle string
		r          session.Renewal
		want       error
	}{
		"another person":       {s.ID, mine, session.Renewal{Identity: person(t, "mallory")}, nil},
		"nobody":               {s.ID, mine, session.Renewal{}, nil},
		"another's handle":     {s.ID, theirs, ada, session.ErrNoSession},
		"an app host's handle": {s.ID, child(t, k, s.ID, wiki), ada, session.ErrNoSession},
		"no handle":            {s.ID, "", ada, session.ErrNoSession},
		"an unknown session":   {"nobody", mine, ada, session.ErrNoSession},
		"another session":      {other.ID, mine, session.Renewal{Identity: person(t, "bob")}, session.ErrNoSession},
	} {
		handle, got, err := k.Raise(t.Context(), c.id, c.handle, c.r)
		if err == nil || handle != "" || got != nil || (c.want != nil && !errors.Is(err, c.want)) {
			t.Errorf("with %s: Raise = %v, %v; want %v", name, got, err, c.want)
		}
	}
	if got, err := k.SignedIn(t.Context(), mine); err != nil || got.Version != 1 {
		t.Errorf("after refused raises: %+v, %v", got, err)
	}
	if _, _, err := k.Raise(t.Context(), s.ID, mine, ada); err != nil {
		t.Error(err)
	}
	if _, _, err := k.Raise(t.Context(), s.ID, mine, ada); !errors.Is(err, session.ErrNoSession) {
		t.Errorf("raising a dead handle: %v, want ErrNoSession", err)
	}
}

// TestRaiseIsNotUndoneByRenewals: a person who has just proved themselves is not told to try again because of what goes
// on in the background.
func TestRaiseIsNotUndoneByRenewals(t *testing.T) {
	store := &renewing{Memory: sessiontest.NewMemory()}
	k := keeper(t, store)
	handle, s := signIn(t, k, "ada")
	store.meanwhile = func() {
		_, version, err := k.Secrets(t.Context(), s.ID)
		if err == nil {
			_, err = k.Renew(t.Context(), s.ID, version, session.Renewal{Identity: person(t, "ada"), Secrets: session.Secrets{RefreshToken: "background"}})
		}
		if err != nil {
			t.Error(err)
		}
	}
	_, after, err := k.Raise(t.Context(), s.ID, handle, session.Renewal{Identity: person(t, "ada"), Secrets: session.Secrets{RefreshToken: "step-up"}})
	if err != nil || after.Version != 4 {
		t.Fatalf("Raise during two renewals = %+v, %v", after, err)
	}
	if got, _, err := k.Secrets(t.Context(), s.ID); err != nil || got.RefreshToken != "step-up" {
		t.Errorf("the refresh token is %q, %v; want the one of the step-up", got.RefreshToken, err)
	}
}

// renewing is a store in which something happens just before each of the first two raises.
type renewing struct {
	*sessiontest.Memory
	meanwhile func()
	times     int
}

func (s *renewing) Raise(ctx context.Context, e session.Entry, old session.Hash, parent session.Handle) error {
	if s.times++; s.times <= 2 {
		s.meanwhile()
	}
	return s.Memory.Raise(ctx, e, old, parent)
}

func TestRenewalReplacesWhatItBrings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := sessiontest.NewMemory()
		k := keeper(t, store)
		_, s, err := k.SignIn(t.Context(), session.NewSession{
			Identity: person(t, "ada"), Secrets: session.Secrets{RefreshToken: "r1", IDToken: "id1"}, ProviderSession: "sid1",
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range []struct {
			r       session.Renewal
			secrets session.Secrets
			sid     string
		}{
			{session.Renewal{Secrets: session.Secrets{RefreshToken: "r2"}}, session.Secrets{RefreshToken: "r2", IDToken: "id1"}, "sid1"},
			{session.Renewal{Secrets: session.Secrets{IDToken: "id2"}, ProviderSession: "sid2"}, session.Secrets{IDToken: "id2"}, "sid2"},
			{session.Renewal{}, session.Secrets{IDToken: "id2"}, "sid2"},
		} {
			time.Sleep(time.Minute)
			c.r.Identity, c.r.At = person(t, "ada"), time.Now().Add(-time.Second)
			got, err := k.Renew(t.Context(), s.ID, int64(i+1), c.r)
			if err != nil || got.ProviderSession != c.sid || !got.Checked.Equal(c.r.At) || got.Refreshable != (c.secrets.RefreshToken != "") ||
				!got.Raised.Equal(s.Created) || got.Version != int64(i+2) {
				t.Errorf("renewal %d = %+v, %v", i, got, err)
			}
			if secrets, _, err := k.Secrets(t.Context(), s.ID); err != nil || secrets != c.secrets {
				t.Errorf("after renewal %d: %v, %v", i, secrets == c.secrets, err)
			}
			if now, err := k.Current(t.Context(), s.ID); err != nil || now.Version != got.Version || !now.Checked.Equal(got.Checked) {
				t.Errorf("after renewal %d Current = %+v, %v", i, now, err)
			}
		}
		if _, err := k.Current(t.Context(), "nobody"); !errors.Is(err, session.ErrNoSession) {
			t.Errorf("Current of nobody: %v", err)
		}
		for _, e := range stored(t, store) {
			if text := string(e.Secrets); strings.Contains(text, "id2") || text == "" {
				t.Errorf("an ID token is stored as %q", text)
			}
		}
	})
}

func stored(t *testing.T, store session.Store) []session.Entry {
	t.Helper()
	all, err := store.List(t.Context(), session.Match{}, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestSecretsDoNotPrint(t *testing.T) {
	s := session.Secrets{RefreshToken: "hunter2", IDToken: "hunter3"}
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s", s, s, s, s), fmt.Sprintf("%+v", session.Renewal{Secrets: s}),
		fmt.Sprintf("%#v", session.NewSession{Secrets: s}), s.LogValue().String()} {
		if strings.Contains(text, "hunter") {
			t.Errorf("secrets print as %s", text)
		}
	}
}

func TestWhatProvidersSayIsBounded(t *testing.T) {
	k := keeper(t, sessiontest.NewMemory())
	in := session.NewSession{Identity: person(t, "ada"), Bound: session.Bound{Certificate: strings.Repeat("c", 1<<20), UserAgent: "a\x1bb"}}
	_, s, err := k.SignIn(t.Context(), in)
	if err != nil || len(s.Bound.Certificate) > 1<<10 || s.Bound.UserAgent != "ab" {
		t.Errorf("bound to %d bytes and %q, %v", len(s.Bound.Certificate), s.Bound.UserAgent, err)
	}
	for name, n := range map[string]session.NewSession{
		"session": {Identity: in.Identity, ProviderSession: strings.Repeat("s", 1025)},
		"token":   {Identity: in.Identity, Secrets: session.Secrets{RefreshToken: strings.Repeat("r", 32<<10+1)}},
	} {
		if _, _, err := k.SignIn(t.Context(), n); err == nil {
			t.Errorf("a %s of any size is stored", name)
		}
	}
	_, s, err = k.SignIn(t.Context(), session.NewSession{Identity: in.Identity, Secrets: session.Secrets{RefreshToken: "r", IDToken: strings.Repeat("i", 32<<10)}})
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := k.Secrets(t.Context(), s.ID); err != nil || got != (session.Secrets{RefreshToken: "r"}) {
		t.Errorf("an ID token of any size is stored, or refused: %v", err)
	}
}

// TestPausesAreRemembered: the longest pause is known in the request after it, survives restarts, and ends with a
// step-up, even when it is written down only after that.
func TestPausesAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := sessiontest.NewMemory()
		k := keeper(t, store)
		stop := run(t, k)
		synctest.Wait()
		home, s := signIn(t, k, "ada")
		handle := child(t, k, s.ID, wiki)
		away := func(k *session.Keeper) time.Duration {
			t.Helper()
			return expectIn(t, k, wiki, handle, s.ID).Away.Round(time.Minute)
		}
		if got := away(k); got != 0 {
			t.Errorf("after a sign-in the longest pause is %v", got)
		}
		time.Sleep(40 * time.Minute)
		expectIn(t, k, wiki, handle, s.ID)
		if got := away(k); got != 40*time.Minute {
			t.Errorf("after a pause of 40m it is %v", got)
		}
		if _, err := k.Renew(t.Context(), s.ID, 1, session.Renewal{Identity: s.Identity}); err != nil { // which drops it from memory before it is written
			t.Fatal(err)
		}
		if got := away(k); got != 40*time.Minute {
			t.Errorf("after a renewal it is %v", got)
		}
		time.Sleep(10 * time.Minute)
		expectIn(t, k, wiki, handle, s.ID)
		stop()
		again := keeper(t, store)
		run(t, again)
		synctest.Wait()
		if got := away(again); got != 40*time.Minute {
			t.Errorf("after a restart it is %v", got)
		}
		time.Sleep(50 * time.Minute)
		expectIn(t, again, wiki, handle, s.ID) // ends the pause; not yet written
		if _, _, err := again.Raise(t.Context(), s.ID, home, session.Renewal{Identity: s.Identity}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if got := away(again); got != 0 {
				t.Errorf("after a step-up it is %v", got)
			}
			time.Sleep(20 * time.Second)
		}
	})
}

// TestUseElsewhereIsNoPause: whoever was busy at another gateway was not away.
func TestUseElsewhereIsNoPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := sessiontest.NewMemory()
		here, there := keeper(t, store), keeper(t, store)
		run(t, here)
		run(t, there)
		synctest.Wait()
		_, s := signIn(t, here, "ada")
		handle := child(t, here, s.ID, wiki)
		expectIn(t, there, wiki, handle, s.ID)
		for range 60 {
			time.Sleep(time.Minute)
			expectIn(t, here, wiki, handle, s.ID)
		}
		time.Sleep(10 * time.Second)
		for range 2 {
			if got := expectIn(t, there, wiki, handle, s.ID); time.Since(got.Seen) > 2*time.Minute || got.Away > 2*time.Minute {
				t.Errorf("a session in use elsewhere was seen %v ago and away for %v", time.Since(got.Seen), got.Away)
			}
		}
		time.Sleep(30 * time.Minute)
		for _, k := range []*session.Keeper{here, there} { // the second learns of the pause that ended at the first
			expectIn(t, k, wiki, handle, s.ID)
			time.Sleep(6 * time.Second)
		}
		if got := expectIn(t, there, wiki, handle, s.ID); got.Away < 29*time.Minute {
			t.Errorf("a pause that ended elsewhere is %v long", got.Away)
		}
	})
}

func TestOneOfManyClaimsAName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := sessiontest.NewMemory()
		keepers := []*session.Keeper{keeper(t, store), keeper(t, store)}
		var mine atomic.Int64
		var release func()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				got, done, err := keepers[i%2].Claim(t.Context(), "refresh", time.Minute)
				if err != nil {
					t.Error(err)
				}
				if got {
					mine.Add(1)
					release = done
				} else {
					done() // which is nobody's
				}
			})
		}
		wg.Wait()
		if mine.Load() != 1 {
			t.Fatalf("%d of 20 have the name, want 1", mine.Load())
		}
		claim := func() bool {
			t.Helper()
			got, _, err := keepers[0].Claim(t.Context(), "refresh", time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		if time.Sleep(time.Minute - 1); claim() {
			t.Error("a claim ends before its time")
		}
		if time.Sleep(time.Nanosecond); !claim() {
			t.Error("a claim does not end in its time")
		}
		if release(); claim() {
			t.Error("who had the name once releases it from others")
		}
		_, release, err := keepers[1].Claim(t.Context(), "another", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		release()
		release()
		if got, _, err := keepers[0].Claim(t.Context(), "another", time.Minute); !got || err != nil {
			t.Errorf("a released name: %v, %v", got, err)
		}
	})
}

func TestSessionsEndInEveryWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeper(t, sessiontest.NewMemory())
		run(t, k)
		synctest.Wait()
		var told ends
		k.OnEnd(told.add)
		in := func(who, agent, sid string) string {
			_, s, err := k.SignIn(t.Context(), session.NewSession{Identity: person(t, who), UserAgent: agent, ProviderSession: sid})
			if err != nil {
				t.Fatal(err)
			}
			return s.ID
		}
		old := in("ada", "Firefox", "sid1")
		time.Sleep(time.Hour)
		names := map[string]string{"old": old, "phone": in("ada", "Safari", "sid2"), "here": in("ada", "Firefox", "sid1"), "bob": in("bob", "Firefox", "sid1")}
		for _, c := range []struct {
			f      session.Filter
			reason string
			want   string
		}{
			{session.Filter{IdleFor: 30 * time.Minute}, session.Revoked, "old"},
			{session.Filter{Subject: "corp|ada", UserAgent: "Safari"}, session.SignedOut, "phone"},
			{session.Filter{Subject: "corp|ada", Except: names["here"]}, session.SignedOut, ""},
			{session.Filter{ProviderSession: "sid1", Except: names["bob"]}, session.ProviderSignedOut, "here"},
			{session.Filter{Subject: "corp|bob"}, session.AccountDisabled, "bob"},
		} {
			gone, err := k.End(t.Context(), c.f, c.reason)
			if err != nil || (c.want == "" && len(gone) != 0) || (c.want != "" && (len(gone) != 1 || gone[0].ID != names[c.want])) {
				t.Errorf("End(%+v) = %v, %v; want %s", c.f, idsOf(gone), err, c.want)
			}
			synctest.Wait()
			if got := told.take(); c.want != "" && (len(got) != 1 || got[0] != session.Ended{SessionID: names[c.want], Reason: c.reason}) {
				t.Errorf("End(%+v) told %v", c.f, got)
			}
		}
		for _, f := range []session.Filter{{}, {Except: old}} {
			if _, err := k.End(t.Context(), f, session.Revoked); !errors.Is(err, session.ErrEmptyFilter) {
				t.Errorf("End(%+v): %v, want ErrEmptyFilter", f, err)
			}
		}
		if n, err := k.Count(t.Context()); n != 0 || err != nil {
			t.Errorf("Count = %d, %v", n, err)
		}
	})
}

func TestLeavingAHostByItsSession(t *testing.T) {
	k := keeper(t, sessiontest.NewMemory())
	_, s := signIn(t, k, "ada")
	onWiki, onPayroll := child(t, k, s.ID, wiki), child(t, k, s.ID, payroll)
	if got, err := k.Hosts(t.Context(), s.ID); err != nil || fmt.Sprint(got) != fmt.Sprint([]string{payroll, wiki}) {
		t.Errorf("Hosts = %v, %v", got, err)
	}
	if err := k.Leave(t.Context(), s.ID, wiki); err != nil {
		t.Error(err)
	}
	expectOut(t, k, wiki, onWiki)
	expectIn(t, k, payroll, onPayroll, s.ID)
	for _, host := range []string{wiki, ""} {
		if err := k.Leave(t.Context(), s.ID, host); !errors.Is(err, session.ErrNoSession) {
			t.Errorf("leaving %q: %v, want ErrNoSession", host, err)
		}
	}
}
