package session_test

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/authn"
	"sallyport/authn/session"
	"sallyport/authn/session/sessiontest"
)

// A handle never moves to another host, so whoever shows it there makes the store read once at most, whatever was known
// of it before: nobody turns one handle into a flood of reads.
func TestHandleShownElsewhereIsNotReadAgain(t *testing.T) {
	for name, first := range map[string]string{"known at home": wiki, "first seen elsewhere": payroll} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { showElsewhere(t, first) })
		})
	}
}

func showElsewhere(t *testing.T, first string) {
	store := newCounted()
	k := keeper(t, store)
	run(t, k)
	synctest.Wait()
	_, s := signIn(t, k, "ada")
	handle := child(t, k, s.ID, wiki)
	if _, err := k.Lookup(t.Context(), first, handle); (err == nil) != (first == wiki) {
		t.Fatal(err)
	}
	before := store.gets.Load()
	for range 100 {
		expectOut(t, k, payroll, handle)
		if _, err := k.SignedIn(t.Context(), handle); !errors.Is(err, session.ErrNoSession) {
			t.Fatalf("on the sign-in host: %v", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if n := store.gets.Load() - before; n != 0 {
		t.Errorf("the store was read %d times", n)
	}
	expectIn(t, k, wiki, handle, s.ID)
}

// Sign-ins at the same moment each end what is too much by their own list, and never themselves: what they leave is
// bounded by how many they are, the next one puts it right, and nobody else's session ends.
func TestSignInsAtOnceLeaveAsManyAsOneMayHave(t *testing.T) {
	const most, signIns = 5, 40
	k := keeper(t, sessiontest.NewMemory())
	few := limits
	few.MaxPerPerson = most
	if err := k.Configure(few); err != nil {
		t.Fatal(err)
	}
	_, other := signIn(t, k, "bob")
	ada := person(t, "ada")
	var all sync.WaitGroup
	for range signIns {
		all.Go(func() { signInWithin(t, k, ada) })
	}
	all.Wait()
	if n := living(t, k, ada); n < most {
		t.Errorf("%d sessions are left, fewer than the %d that one may have", n, most)
	}
	last := signInWithin(t, k, ada)
	if n := living(t, k, ada); n != most {
		t.Errorf("%d sessions are left after one more, want %d", n, most)
	}
	if found, err := k.List(t.Context(), session.Filter{ID: last.ID}); err != nil || len(found) != 1 {
		t.Errorf("the newest session is not among them (%v)", err)
	}
	if n := living(t, k, other.Identity); n != 1 {
		t.Errorf("bob has %d sessions, want 1", n)
	}
}

// signInWithin signs in as the gateway does: what is too much ends, but for the new session.
func signInWithin(t *testing.T, k *session.Keeper, who *authn.Identity) *session.Session {
	_, s, err := k.SignIn(t.Context(), session.NewSession{Identity: who})
	if err != nil {
		t.Error(err)
		return nil
	}
	surplus, err := k.Surplus(t.Context(), who.ID())
	if err != nil {
		t.Error(err)
	}
	for _, old := range surplus {
		if old.ID == s.ID {
			continue
		}
		if err := k.SignOut(t.Context(), old.ID); err != nil {
			t.Error(err)
		}
	}
	return s
}

func living(t *testing.T, k *session.Keeper, who *authn.Identity) int {
	t.Helper()
	list, err := k.List(t.Context(), session.Filter{Subject: who.ID()})
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
