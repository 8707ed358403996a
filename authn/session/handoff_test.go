package session_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/authn/session"
	"sallyport/authn/session/sessiontest"
)

// OIDC-29: a code is good for one host, one browser, once and for 30 seconds.
func TestHandOffIsBoundToHostAndBrowser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeper(t, sessiontest.NewMemory())
		_, s := signIn(t, k, "ada")
		code, err := k.HandOff(t.Context(), s.ID, wiki, session.BackHash("verifier"))
		if err != nil {
			t.Fatal(err)
		}
		stranger := keeper(t, sessiontest.NewMemory())
		_, theirs := signIn(t, stranger, "mallory")
		forged, err := stranger.HandOff(t.Context(), theirs.ID, wiki, session.BackHash("verifier"))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ name, code, host, verifier string }{
			{"in another browser", code, wiki, "another"},
			{"in a browser without the cookie", code, wiki, ""},
			{"with the hash for a verifier", code, wiki, session.BackHash("verifier")},
			{"on another host", code, payroll, "verifier"},
			{"on no host", code, "", "verifier"},
			{"sealed by another store", forged, wiki, "verifier"},
			{"altered", strings.ToUpper(code), wiki, "verifier"},
			{"cut", code[:len(code)-1], wiki, "verifier"},
			{"empty", "", wiki, "verifier"},
			{"sealed for another purpose", k.Seal("flow", []byte(`{}`)), wiki, "verifier"},
		} {
			if handle, _, err := k.Redeem(t.Context(), c.code, c.host, c.verifier); handle != "" || !errors.Is(err, session.ErrCodeInvalid) {
				t.Errorf("code redeemed %s: %v, want ErrCodeInvalid", c.name, err)
			}
		}
		time.Sleep(29 * time.Second)
		handle, got, err := k.Redeem(t.Context(), code, wiki, "verifier")
		if err != nil || got.ID != s.ID {
			t.Fatalf("Redeem by its owner = %v, %v", got, err)
		}
		expectIn(t, k, wiki, handle, s.ID)
		if _, _, err := k.Redeem(t.Context(), code, wiki, "verifier"); !errors.Is(err, session.ErrCodeSpent) {
			t.Errorf("second Redeem: %v, want ErrCodeSpent", err)
		}
	})
}

func TestHandOffExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeper(t, sessiontest.NewMemory())
		_, s := signIn(t, k, "ada")
		code, err := k.HandOff(t.Context(), s.ID, wiki, session.BackHash("verifier"))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(session.HandOffTime)
		if _, _, err := k.Redeem(t.Context(), code, wiki, "verifier"); !errors.Is(err, session.ErrCodeExpired) {
			t.Errorf("Redeem after 30 s: %v, want ErrCodeExpired", err)
		}
	})
}

// A clock that is set back must not make codes live long: their ids may have been forgotten.
func TestHandOffFromTheFutureHasExpired(t *testing.T) {
	now := time.Now()
	k, err := session.NewKeeper(limits, sessiontest.NewMemory(), func() time.Time { return now }, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, s := signIn(t, k, "ada")
	code, err := k.HandOff(t.Context(), s.ID, wiki, session.BackHash("verifier"))
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(-time.Hour)
	if _, _, err := k.Redeem(t.Context(), code, wiki, "verifier"); !errors.Is(err, session.ErrCodeExpired) {
		t.Errorf("Redeem an hour before it was made: %v, want ErrCodeExpired", err)
	}
}

func TestHandOffOfAnEndedSession(t *testing.T) {
	k := keeper(t, sessiontest.NewMemory())
	_, s := signIn(t, k, "ada")
	code, err := k.HandOff(t.Context(), s.ID, wiki, session.BackHash("verifier"))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.SignOut(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.Redeem(t.Context(), code, wiki, "verifier"); !errors.Is(err, session.ErrNoSession) {
		t.Errorf("Redeem after sign-out: %v, want ErrNoSession", err)
	}
	for _, id := range []string{s.ID, "", "nobody"} {
		if _, err := k.HandOff(t.Context(), id, wiki, "hash"); !errors.Is(err, session.ErrNoSession) {
			t.Errorf("HandOff of session %q: %v, want ErrNoSession", id, err)
		}
	}
}

func TestOfFiftyRedemptionsOneWins(t *testing.T) {
	store := sessiontest.NewMemory()
	keepers := []*session.Keeper{keeper(t, store), keeper(t, store)}
	_, s := signIn(t, keepers[0], "ada")
	code, err := keepers[0].HandOff(t.Context(), s.ID, wiki, session.BackHash("verifier"))
	if err != nil {
		t.Fatal(err)
	}
	var won atomic.Int64
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			_, _, err := keepers[i%2].Redeem(t.Context(), code, wiki, "verifier")
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, session.ErrCodeSpent) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := won.Load(); n != 1 {
		t.Errorf("%d of 50 redeemed one code, want 1", n)
	}
}

func TestSpentIDOutlivesItsTimeByTheMargin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeper(t, sessiontest.NewMemory())
		run(t, k)
		until := time.Now().Add(time.Minute)
		if first, err := k.Spend(t.Context(), "flow", until); !first || err != nil {
			t.Fatalf("Spend = %v, %v", first, err)
		}
		time.Sleep(90 * time.Second)
		if again, err := k.Spend(t.Context(), "flow", until); again || err != nil {
			t.Errorf("Spend half a minute after its time = %v, %v; want still spent", again, err)
		}
		time.Sleep(time.Hour)
		if _, err := k.Spend(t.Context(), "flow", until); err == nil {
			t.Error("Spend an hour after its time succeeded")
		}
	})
}
