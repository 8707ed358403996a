package session_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/authn/session"
	"sallyport/authn/session/sessiontest"
)

func TestExpiredSessionIsKnownForAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := sessiontest.NewMemory()
		k := keeper(t, store)
		home, s := signIn(t, k, "ada")
		onWiki := child(t, k, s.ID, wiki)
		began := time.Now()
		known := func(host, handle string) bool {
			t.Helper()
			p, err := k.Past(t.Context(), host, handle)
			if err != nil && !errors.Is(err, session.ErrNoSession) {
				t.Error(err)
			}
			want := session.Past{SessionID: s.ID, Subject: "corp|ada", Ended: began.Add(limits.Idle).UTC()}
			if err == nil && (p.SessionID != want.SessionID || p.Subject != want.Subject || !p.Ended.Equal(want.Ended)) {
				t.Errorf("Past = %+v, want %+v", p, want)
			}
			return err == nil
		}
		time.Sleep(limits.Idle - time.Second)
		if known(wiki, onWiki) {
			t.Error("a session that lives is past")
		}
		time.Sleep(2 * time.Second)
		for _, removed := range []bool{false, true} {
			if removed {
				stop := run(t, k)
				time.Sleep(5 * time.Minute)
				stop()
				if len(stored(t, store)) != 0 {
					t.Fatal("an expired session is not removed")
				}
			}
			if !known(wiki, onWiki) || !known("", home) || known(payroll, onWiki) || known("", onWiki) || known(wiki, home) {
				t.Errorf("removed %v: a handle is not known on its host, or is on another", removed)
			}
			if _, err := k.Lookup(t.Context(), wiki, onWiki); !errors.Is(err, session.ErrNoSession) {
				t.Errorf("removed %v: an expired handle signs in: %v", removed, err)
			}
		}
		time.Sleep(session.PastTime - 5*time.Minute)
		if known(wiki, onWiki) {
			t.Error("an expired session is known for more than an hour")
		}
		if known(wiki, "") || known(wiki, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx") {
			t.Error("a handle that we never made is known")
		}
	})
}

// TestSleepMakesNothingYounger: a gateway that was stopped overnight removes what expired long ago.
func TestSleepMakesNothingYounger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeper(t, sessiontest.NewMemory())
		home, _ := signIn(t, k, "ada")
		time.Sleep(limits.Idle + session.PastTime)
		run(t, k)
		time.Sleep(time.Minute)
		if p, err := k.Past(t.Context(), "", home); !errors.Is(err, session.ErrNoSession) {
			t.Errorf("Past = %+v, %v", p, err)
		}
	})
}

// TestOnlyExpiryLeavesATrace: whoever was signed out or revoked has nothing kept for them.
func TestOnlyExpiryLeavesATrace(t *testing.T) {
	if left := traceOfTheRevoked(t, func() session.Store { return sessiontest.NewMemory() }); left {
		t.Error("a session that was ended leaves a trace")
	}
	if left := traceOfTheRevoked(t, func() session.Store { return tracing{sessiontest.NewMemory()} }); !left {
		t.Error("nobody notices a store in which every end leaves a trace")
	}
}

// tracing is a store that forgets why sessions end.
type tracing struct{ session.Store }

func (s tracing) Delete(ctx context.Context, m session.Match, _ string, limit int) ([]session.Entry, error) {
	return s.Expire(ctx, m, time.Now(), limit)
}

func traceOfTheRevoked(t *testing.T, open func() session.Store) (left bool) {
	synctest.Test(t, func(t *testing.T) {
		k := keeper(t, open())
		for _, reason := range []string{session.Revoked, session.SignedOut, session.AccountDisabled, session.BindingBroken} {
			home, s := signIn(t, k, "ada")
			time.Sleep(limits.Idle - time.Minute)
			if _, err := k.End(t.Context(), session.Filter{ID: s.ID}, reason); err != nil {
				t.Error(err)
			}
			time.Sleep(2 * time.Minute) // it would have expired by now
			if _, err := k.Past(t.Context(), "", home); !errors.Is(err, session.ErrNoSession) {
				left = true
			}
		}
	})
	return left
}

func TestFormIsKeptOnceAndTakenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := sessiontest.NewMemory()
		k, other := keeper(t, store), keeper(t, store)
		form := bytes.Repeat([]byte("secret word "), session.MaxForm/12)
		id, err := k.KeepForm(t.Context(), "s1", form)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.KeepForm(t.Context(), "s1", form); !errors.Is(err, session.ErrConflict) {
			t.Errorf("a second form of a session: %v, want ErrConflict", err)
		}
		if _, err := k.KeepForm(t.Context(), "s2", make([]byte, session.MaxForm+1)); !errors.Is(err, session.ErrFormRefused) {
			t.Errorf("a form that is too large: %v, want ErrFormRefused", err)
		}
		if _, err := k.KeepForm(t.Context(), "", form); err == nil {
			t.Error("a form of no session is kept")
		}
		for range 2 {
			if got, err := other.Form(t.Context(), id); err != nil || !bytes.Equal(got, form) {
				t.Errorf("Form = %d bytes, %v", len(got), err)
			}
		}
		var taken atomic.Int64
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				got, err := []*session.Keeper{k, other}[i%2].TakeForm(t.Context(), id)
				if err == nil && bytes.Equal(got, form) {
					taken.Add(1)
				} else if !errors.Is(err, session.ErrNoForm) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if taken.Load() != 1 {
			t.Errorf("%d of 20 took one form, want 1", taken.Load())
		}
		if _, err := k.KeepForm(t.Context(), "s1", form); !errors.Is(err, session.ErrConflict) {
			t.Errorf("a form of a session whose first was taken: %v, want ErrConflict", err)
		}
		for _, id := range []string{"", "unknown", id} {
			if _, err := k.Form(t.Context(), id); !errors.Is(err, session.ErrNoForm) {
				t.Errorf("Form of %q: %v, want ErrNoForm", id, err)
			}
		}
	})
}

func TestFormIsHeldForAnHourAndSealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &peeking{Memory: sessiontest.NewMemory()}
		k := keeper(t, store)
		first, err := k.KeepForm(t.Context(), "s1", []byte("secret word"))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(store.kept.Sealed, []byte("secret")) {
			t.Errorf("a form is stored as %q", store.kept.Sealed)
		}
		stolen := store.kept.Sealed
		second, err := k.KeepForm(t.Context(), "s2", []byte("other word"))
		if err != nil {
			t.Fatal(err)
		}
		store.instead = stolen // in the row of another
		if got, err := k.Form(t.Context(), second); !errors.Is(err, session.ErrSealed) {
			t.Errorf("a form that was moved to another row opens: %q, %v", got, err)
		}
		store.instead = nil
		if time.Sleep(session.FormTime - 1); err == nil {
			_, err = k.Form(t.Context(), first)
		}
		if err != nil {
			t.Errorf("just before its time is over: %v", err)
		}
		time.Sleep(time.Nanosecond)
		for _, read := range []func(context.Context, string) ([]byte, error){k.Form, k.TakeForm} {
			if _, err := read(t.Context(), first); !errors.Is(err, session.ErrNoForm) {
				t.Errorf("after an hour: %v, want ErrNoForm", err)
			}
		}
	})
}

type peeking struct {
	*sessiontest.Memory
	kept    session.Form
	instead []byte
}

func (s *peeking) KeepForm(ctx context.Context, f session.Form) error {
	s.kept = f
	return s.Memory.KeepForm(ctx, f)
}

func (s *peeking) Form(ctx context.Context, id session.Hash) (session.Form, error) {
	f, err := s.Memory.Form(ctx, id)
	if s.instead != nil {
		f.Sealed = s.instead
	}
	return f, err
}

func TestDisabledPersonIsDisabledUntilConfirmedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeper(t, sessiontest.NewMemory())
		_, err := k.Person(t.Context(), "corp|ada")
		if !errors.Is(err, session.ErrNoPerson) {
			t.Errorf("Person nobody knows: %v", err)
		}
		if err := k.Disable(t.Context(), "corp|ada"); err != nil {
			t.Errorf("Disable nobody: %v", err)
		}
		_, s := signIn(t, k, "ada")
		asked := time.Now()
		time.Sleep(time.Second)
		if err := k.Disable(t.Context(), "corp|ada"); err != nil {
			t.Fatal(err)
		}
		disabled := func() bool {
			t.Helper()
			p, err := k.Person(t.Context(), "corp|ada")
			if err != nil || p.Identity.Email != "ada@example.test" {
				t.Fatalf("Person = %+v, %v", p, err)
			}
			return p.Disabled
		}
		if !disabled() {
			t.Error("a disabled person is not")
		}
		if _, err := k.Renew(t.Context(), s.ID, 1, session.Renewal{Identity: s.Identity, At: asked}); err != nil {
			t.Fatal(err)
		}
		if !disabled() {
			t.Error("an answer from before enables a disabled person")
		}
		time.Sleep(time.Second)
		signIn(t, k, "ada")
		if disabled() {
			t.Error("a person who signs in again stays disabled")
		}
		time.Sleep(session.PersonTime)
		if _, err := k.Person(t.Context(), "corp|ada"); !errors.Is(err, session.ErrNoPerson) {
			t.Errorf("a person not confirmed for %v: %v", session.PersonTime, err)
		}
	})
}
