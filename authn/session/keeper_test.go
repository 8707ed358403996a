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

	"sallyport/authn"
	"sallyport/authn/session"
	"sallyport/authn/session/sessiontest"
)

var limits = session.Config{Idle: 8 * time.Hour, Absolute: 24 * time.Hour}

const (
	wiki    = "wiki.example.test"
	payroll = "payroll.example.test"
)

// counted is a store in memory that counts, and breaks or stops when told.
type counted struct {
	*sessiontest.Memory
	gets, touched atomic.Int64
	broken        atomic.Bool // every call fails
	deaf          atomic.Bool // Watch fails
	forgetful     bool        // Watch begins anew each time
	afterGet      func()      // called between reading and returning
}

var errBroken = errors.New("disk on fire")

func newCounted() *counted { return &counted{Memory: sessiontest.NewMemory()} }

func (s *counted) Get(ctx context.Context, h session.Hash) (session.Entry, string, error) {
	s.gets.Add(1)
	if s.broken.Load() {
		return session.Entry{}, "", errBroken
	}
	e, host, err := s.Memory.Get(ctx, h)
	if s.afterGet != nil {
		s.afterGet()
	}
	return e, host, err
}

func (s *counted) Touch(ctx context.Context, seen map[string]time.Time) error {
	if s.broken.Load() {
		return errBroken
	}
	s.touched.Add(int64(len(seen)))
	return s.Memory.Touch(ctx, seen)
}

func (s *counted) Watch(ctx context.Context, after session.Position, report func(session.News)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if s.forgetful {
		after = ""
	}
	err := s.Memory.Watch(ctx, after, func(n session.News) {
		if s.deaf.Load() || s.broken.Load() {
			cancel(errBroken)
			return
		}
		report(n)
	})
	if errors.Is(context.Cause(ctx), errBroken) {
		return errBroken
	}
	return err
}

func keeper(t testing.TB, store session.Store) *session.Keeper {
	t.Helper()
	k, err := session.NewKeeper(limits, store, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// run runs the keeper until stop or the end of the test, and returns when it has begun to follow the store.
func run(t testing.TB, k *session.Keeper) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := k.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

func person(t interface {
	Helper()
	Fatal(...any)
}, name string, groups ...string) *authn.Identity {
	t.Helper()
	id, err := authn.New(authn.Identity{
		Kind: authn.User, Provider: "corp", Subject: name, Email: name + "@example.test", EmailVerified: true, Groups: groups,
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func signIn(t testing.TB, k *session.Keeper, name string) (string, *session.Session) {
	t.Helper()
	handle, s, err := k.SignIn(t.Context(), session.NewSession{
		Identity: person(t, name, "staff"), Secrets: session.Secrets{RefreshToken: "refresh-" + name}, UserAgent: "Browser/1.0", Address: "192.0.2.1",
	})
	if err != nil {
		t.Fatal(err)
	}
	return handle, s
}

func child(t testing.TB, k *session.Keeper, sessionID, host string) string {
	t.Helper()
	code, err := k.HandOff(t.Context(), sessionID, host, session.BackHash("verifier"))
	if err != nil {
		t.Fatal(err)
	}
	handle, _, err := k.Redeem(t.Context(), code, host, "verifier")
	if err != nil {
		t.Fatal(err)
	}
	return handle
}

func expectIn(t testing.TB, k *session.Keeper, host, handle, sessionID string) *session.Session {
	t.Helper()
	s, err := k.Lookup(t.Context(), host, handle)
	if err != nil || s.ID != sessionID {
		t.Fatalf("Lookup on %s = %+v, %v; want session %s", host, s, err, sessionID)
	}
	return s
}

func expectOut(t testing.TB, k *session.Keeper, host, handle string) {
	t.Helper()
	if s, err := k.Lookup(t.Context(), host, handle); !errors.Is(err, session.ErrNoSession) {
		t.Fatalf("Lookup on %s = %+v, %v; want ErrNoSession", host, s, err)
	}
}

func TestSignInMakesNewHandlesThatWorkOnlyAtHome(t *testing.T) {
	k := keeper(t, sessiontest.NewMemory())
	parent, s := signIn(t, k, "ada")
	again, other := signIn(t, k, "ada")
	if parent == again || s.ID == other.ID {
		t.Fatal("two sign-ins share a handle or an id")
	}
	if strings.Contains(parent, s.ID) || len(s.ID) < 26 || len(parent) < 43 {
		t.Fatalf("handle %q and id %q: want both long and unrelated", parent, s.ID)
	}
	got, err := k.SignedIn(t.Context(), parent)
	if err != nil || got.ID != s.ID || got.Identity.ID() != "corp|ada" || got.Version != 1 || got.Address != "192.0.2.1" {
		t.Fatalf("SignedIn = %+v, %v", got, err)
	}
	onWiki := child(t, k, s.ID, wiki)
	expectIn(t, k, wiki, onWiki, s.ID)
	expectOut(t, k, payroll, onWiki)
	expectOut(t, k, wiki, parent)
	expectOut(t, k, "", parent)
	expectOut(t, k, "", onWiki)
	if _, err := k.SignedIn(t.Context(), onWiki); !errors.Is(err, session.ErrNoSession) {
		t.Fatalf("a child handle signs in on the sign-in host: %v", err)
	}
}

func TestAlteredHandlesFindNothing(t *testing.T) {
	k := keeper(t, sessiontest.NewMemory())
	_, s := signIn(t, k, "ada")
	handle := child(t, k, s.ID, wiki)
	for i := range handle {
		altered := []byte(handle)
		altered[i] ^= 1
		expectOut(t, k, wiki, string(altered))
	}
	for _, bad := range []string{"", " ", handle + "=", handle + " ", `"` + handle + `"`, handle[1:], strings.Repeat("A", 43), strings.Repeat("é", 22)} {
		expectOut(t, k, wiki, bad)
	}
	expectIn(t, k, wiki, handle, s.ID)
}

func TestSessionInUseCostsNoRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newCounted()
		k := keeper(t, store)
		run(t, k)
		synctest.Wait()
		_, s := signIn(t, k, "ada")
		handle := child(t, k, s.ID, wiki)
		expectIn(t, k, wiki, handle, s.ID)
		before := store.gets.Load()
		for range 100 {
			expectIn(t, k, wiki, handle, s.ID)
			time.Sleep(100 * time.Millisecond)
		}
		if reads := store.gets.Load() - before; reads != 0 {
			t.Errorf("100 lookups of a session in use read the store %d times", reads)
		}
	})
}

// DOS-14: cookies that we never made, or that have ended, must not reach the store again and again.
func TestStrangersCookiesDoNotReachTheStore(t *testing.T) {
	store := newCounted()
	k := keeper(t, store)
	stranger := keeper(t, sessiontest.NewMemory()) // makes handles of the right form
	for range 300 {
		handle, _ := signIn(t, stranger, "mallory")
		expectOut(t, k, wiki, handle)
		if _, err := k.SignedIn(t.Context(), handle); !errors.Is(err, session.ErrNoSession) {
			t.Fatal(err)
		}
	}
	if reads := store.gets.Load(); reads != 0 {
		t.Errorf("600 lookups of handles we never made read the store %d times", reads)
	}
	ended, s := signIn(t, k, "ada")
	if err := k.SignOut(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	for range 300 {
		expectOut(t, k, wiki, ended)
	}
	if reads := store.gets.Load(); reads != 1 {
		t.Errorf("300 lookups of an ended handle read the store %d times, want once", reads)
	}
}

func TestKeeperThatDoesNotRunStillTellsTheTruth(t *testing.T) {
	store := sessiontest.NewMemory()
	k, other := keeper(t, store), keeper(t, store)
	_, s := signIn(t, k, "ada")
	handle := child(t, k, s.ID, wiki)
	expectIn(t, k, wiki, handle, s.ID)
	if _, err := other.Revoke(t.Context(), session.Filter{ID: s.ID}); err != nil {
		t.Fatal(err)
	}
	expectOut(t, k, wiki, handle)
}

// ends collects what OnEnd tells.
type ends struct {
	mu  sync.Mutex
	all []session.Ended
}

func (e *ends) add(x session.Ended) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, x)
}

func (e *ends) take() []session.Ended {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.all
	e.all = nil
	return all
}

// WS-04, REV-01: every end is felt at once where it was made and within two seconds elsewhere, and told once.
func TestEveryEndIsFeltByEveryKeeper(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(t *testing.T, k *session.Keeper, s *session.Session, handle string)
		want session.Ended
	}{
		{"revoked", func(t *testing.T, k *session.Keeper, s *session.Session, _ string) {
			gone, err := k.Revoke(t.Context(), session.Filter{Subject: "corp|ada"})
			if err != nil || len(gone) != 1 || gone[0].ID != s.ID {
				t.Errorf("Revoke = %v, %v", gone, err)
			}
		}, session.Ended{Reason: session.Revoked}},
		{"signed out", func(t *testing.T, k *session.Keeper, s *session.Session, _ string) {
			if err := errors.Join(k.SignOut(t.Context(), s.ID), k.SignOut(t.Context(), s.ID)); err != nil {
				t.Errorf("SignOut, twice: %v", err)
			}
		}, session.Ended{Reason: session.SignedOut}},
		{"signed out of one host", func(t *testing.T, k *session.Keeper, s *session.Session, handle string) {
			if got, err := k.SignOutHost(t.Context(), wiki, handle); err != nil || got.ID != s.ID {
				t.Errorf("SignOutHost = %v, %v", got, err)
			}
		}, session.Ended{Host: wiki, Reason: session.SignedOut}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := sessiontest.NewMemory()
				here, there := keeper(t, store), keeper(t, store)
				run(t, here)
				run(t, there)
				synctest.Wait()
				var toldHere, toldThere ends
				here.OnEnd(toldHere.add)
				there.OnEnd(toldThere.add)
				there.OnEnd(func(session.Ended) { t.Error("told after stop") })()
				_, s := signIn(t, here, "ada")
				handle, onPayroll := child(t, here, s.ID, wiki), child(t, here, s.ID, payroll)
				for _, k := range []*session.Keeper{here, there} {
					expectIn(t, k, wiki, handle, s.ID)
					expectIn(t, k, payroll, onPayroll, s.ID)
				}
				c.end(t, here, s, handle)
				expectOut(t, here, wiki, handle)
				time.Sleep(2 * time.Second)
				expectOut(t, there, wiki, handle)
				c.want.SessionID = s.ID
				for _, told := range []*ends{&toldHere, &toldThere} {
					if got := told.take(); len(got) != 1 || got[0] != c.want {
						t.Errorf("told %v, want %v once", got, c.want)
					}
				}
				if c.want.Host == wiki {
					expectIn(t, here, payroll, onPayroll, s.ID)
				} else {
					expectOut(t, there, payroll, onPayroll)
				}
			})
		})
	}
}

// REV-05: a session ends at the absolute limit however busy, and then streams are told.
func TestBusySessionEndsAtTheAbsoluteLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeper(t, sessiontest.NewMemory())
		run(t, k)
		var told ends
		k.OnEnd(told.add)
		_, s := signIn(t, k, "ada")
		handle := child(t, k, s.ID, wiki)
		for range int(limits.Absolute / time.Minute) {
			expectIn(t, k, wiki, handle, s.ID)
			time.Sleep(time.Minute)
		}
		expectOut(t, k, wiki, handle)
		time.Sleep(2 * time.Second)
		if got := told.take(); len(got) != 1 || got[0] != (session.Ended{SessionID: s.ID, Reason: session.Expired}) {
			t.Errorf("told %v, want expired once", got)
		}
	})
}

func TestIdleSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newCounted()
		k := keeper(t, store)
		run(t, k)
		var told ends
		k.OnEnd(told.add)
		_, s := signIn(t, k, "ada")
		handle := child(t, k, s.ID, wiki)
		time.Sleep(limits.Idle - time.Second)
		expectIn(t, k, wiki, handle, s.ID)
		time.Sleep(30 * time.Second) // not written down, but seen
		expectIn(t, k, wiki, handle, s.ID)
		time.Sleep(limits.Idle - time.Second)
		expectIn(t, k, wiki, handle, s.ID)
		time.Sleep(limits.Idle)
		expectOut(t, k, wiki, handle)
		if left, err := k.List(t.Context(), session.Filter{}); err != nil || len(left) != 0 {
			t.Errorf("List after the idle limit = %v, %v", left, err)
		}
		time.Sleep(3 * time.Minute)
		if got := told.take(); len(got) != 1 || got[0].Reason != session.Expired {
			t.Errorf("told %v, want expired once", got)
		}
	})
}

// A handle shown on a host where it is not valid says nothing about whether its owner is still there.
func TestHandleOnTheWrongHostKeepsNothingAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeper(t, sessiontest.NewMemory())
		run(t, k)
		_, s := signIn(t, k, "ada")
		handle := child(t, k, s.ID, wiki)
		time.Sleep(limits.Idle - time.Minute)
		expectOut(t, k, payroll, handle)
		time.Sleep(time.Minute)
		expectOut(t, k, wiki, handle)
	})
}

func TestSeenIsKnownBeforeItIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeper(t, sessiontest.NewMemory())
		run(t, k)
		time.Sleep(2500 * time.Millisecond) // in the middle of two writings, which are 5 s apart
		_, s := signIn(t, k, "ada")
		handle := child(t, k, s.ID, wiki)
		time.Sleep(limits.Idle - time.Second)
		expectIn(t, k, wiki, handle, s.ID)
		if _, err := k.Renew(t.Context(), s.ID, 1, session.Renewal{Identity: s.Identity}); err != nil { // which drops it from memory
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		expectIn(t, k, wiki, handle, s.ID)
	})
}

func TestLimitsChangeForSessionsThatExist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeper(t, sessiontest.NewMemory())
		_, s := signIn(t, k, "ada")
		handle := child(t, k, s.ID, wiki)
		time.Sleep(time.Hour)
		if err := k.Configure(session.Config{Idle: -1, Absolute: time.Hour}); err == nil {
			t.Error("a negative limit is accepted")
		}
		if err := k.Configure(session.Config{Idle: 30 * time.Minute, Absolute: 24 * time.Hour}); err != nil {
			t.Fatal(err)
		}
		expectOut(t, k, wiki, handle)
	})
}

func TestSeenIsWrittenOnceAMinuteAndSurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newCounted()
		k := keeper(t, store)
		stop := run(t, k)
		_, s := signIn(t, k, "ada")
		handle := child(t, k, s.ID, wiki)
		for range 10 * 60 {
			expectIn(t, k, wiki, handle, s.ID)
			time.Sleep(time.Second)
		}
		if n := store.touched.Load(); n < 8 || n > 10 {
			t.Errorf("last-seen time written %d times in ten busy minutes, want about 9", n)
		}
		last := expectIn(t, k, wiki, handle, s.ID).Seen
		stop()
		again, err := keeper(t, store).List(t.Context(), session.Filter{ID: s.ID})
		if err != nil || len(again) != 1 || again[0].Seen.Before(last) {
			t.Errorf("after a restart seen = %v, %v; want not before %v", again, err, last)
		}
	})
}

// A store that cannot be followed must not leave sessions in memory that have ended elsewhere.
func TestDeafKeeperReadsThenRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newCounted()
		k, other := keeper(t, store), keeper(t, store.Memory)
		run(t, k)
		synctest.Wait()
		_, s := signIn(t, k, "ada")
		_, s2 := signIn(t, k, "bob")
		revoked, kept := child(t, k, s.ID, wiki), child(t, k, s2.ID, wiki)
		expectIn(t, k, wiki, revoked, s.ID)
		expectIn(t, k, wiki, kept, s2.ID)

		store.deaf.Store(true)
		if _, err := other.Revoke(t.Context(), session.Filter{ID: s.ID}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		expectOut(t, k, wiki, revoked)
		expectIn(t, k, wiki, kept, s2.ID)
		time.Sleep(10 * time.Second)
		if _, err := k.Lookup(t.Context(), wiki, kept); !errors.Is(err, session.ErrUnavailable) {
			t.Fatalf("Lookup after 12 s without news: %v, want ErrUnavailable", err)
		}

		store.deaf.Store(false)
		time.Sleep(time.Second)
		expectIn(t, k, wiki, kept, s2.ID)
		expectOut(t, k, wiki, revoked)
	})
}

// When the store has forgotten what happened meanwhile, the keeper asks about each session that it knew.
func TestEndsMissedAreToldWhenNewsIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newCounted()
		store.forgetful = true
		k, other := keeper(t, store), keeper(t, store.Memory)
		run(t, k)
		synctest.Wait()
		var told ends
		k.OnEnd(told.add)
		_, gone := signIn(t, k, "ada")
		_, stays := signIn(t, k, "bob")
		for _, s := range []*session.Session{gone, stays} {
			expectIn(t, k, wiki, child(t, k, s.ID, wiki), s.ID)
		}
		store.deaf.Store(true)
		time.Sleep(time.Second)
		if err := other.SignOut(t.Context(), gone.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		store.deaf.Store(false)
		time.Sleep(time.Second)
		if got := told.take(); len(got) != 1 || got[0].SessionID != gone.ID {
			t.Errorf("told %v, want the end of %s once", got, gone.ID)
		}
	})
}

func TestBrokenStoreLetsNobodyIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newCounted()
		k := keeper(t, store)
		run(t, k)
		synctest.Wait()
		_, s := signIn(t, k, "ada")
		handle := child(t, k, s.ID, wiki)
		expectIn(t, k, wiki, handle, s.ID)
		store.broken.Store(true)
		for range 60 {
			time.Sleep(2 * time.Second)
			_, err := k.Lookup(t.Context(), wiki, handle)
			if !errors.Is(err, session.ErrUnavailable) || errors.Is(err, session.ErrNoSession) {
				t.Fatalf("Lookup with a broken store: %v, want ErrUnavailable", err)
			}
		}
		store.broken.Store(false)
		time.Sleep(time.Second)
		expectIn(t, k, wiki, handle, s.ID)
	})
}

// What was read before a revocation must not be remembered after it.
func TestReadThatCrossesARevocationIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newCounted()
		k := keeper(t, store)
		run(t, k)
		synctest.Wait()
		_, s := signIn(t, k, "ada")
		handle := child(t, k, s.ID, wiki)
		store.afterGet = func() {
			store.afterGet = nil
			if err := k.SignOut(t.Context(), s.ID); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		expectIn(t, k, wiki, handle, s.ID) // was true when it was read
		expectOut(t, k, wiki, handle)
	})
}

func TestRunOnlyOnceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeper(t, sessiontest.NewMemory())
		stop := run(t, k)
		synctest.Wait()
		if err := k.Run(t.Context()); err == nil {
			t.Error("a second Run at the same time succeeded")
		}
		stop()
		run(t, k)
	})
}

func TestListAndRevokeByFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeper(t, sessiontest.NewMemory())
		_, old := signIn(t, k, "ada")
		child(t, k, old.ID, wiki)
		time.Sleep(time.Hour)
		_, young := signIn(t, k, "ada")
		_, bob := signIn(t, k, "bob")
		for _, c := range []struct {
			name string
			f    session.Filter
			want []*session.Session
		}{
			{"nothing said", session.Filter{}, []*session.Session{old, young, bob}},
			{"all", session.Filter{All: true}, []*session.Session{old, young, bob}},
			{"id", session.Filter{ID: bob.ID}, []*session.Session{bob}},
			{"subject", session.Filter{Subject: "corp|ada"}, []*session.Session{old, young}},
			{"subject without its provider", session.Filter{Subject: "ada"}, nil},
			{"e-mail", session.Filter{Email: "Bob@example.test"}, []*session.Session{bob}},
			{"provider", session.Filter{Provider: "corp"}, []*session.Session{old, young, bob}},
			{"host", session.Filter{Host: wiki}, []*session.Session{old}},
			{"older than", session.Filter{OlderThan: time.Hour}, []*session.Session{old}},
			{"all and a subject", session.Filter{All: true, Subject: "corp|bob"}, []*session.Session{bob}},
		} {
			got, err := k.List(t.Context(), c.f)
			if err != nil || fmt.Sprint(idsOf(got)) != fmt.Sprint(idsOfPointers(c.want)) {
				t.Errorf("List by %s = %v, %v; want %v", c.name, idsOf(got), err, idsOfPointers(c.want))
			}
		}
		if _, err := k.Revoke(t.Context(), session.Filter{}); !errors.Is(err, session.ErrEmptyFilter) {
			t.Errorf("Revoke of nothing in particular: %v", err)
		}
		if gone, err := k.Revoke(t.Context(), session.Filter{All: true}); err != nil || len(gone) != 3 {
			t.Errorf("Revoke of all = %d, %v", len(gone), err)
		}
	})
}

// OIDC-22: of several renewals that began with one refresh token one is kept.
func TestRenewalIsSeenAndOnlyOneWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := sessiontest.NewMemory()
		k, other := keeper(t, store), keeper(t, store)
		run(t, k)
		run(t, other)
		synctest.Wait()
		_, s := signIn(t, k, "ada")
		handle := child(t, k, s.ID, wiki)
		expectIn(t, k, wiki, handle, s.ID)
		expectIn(t, other, wiki, handle, s.ID)
		secrets, version, err := k.Secrets(t.Context(), s.ID)
		if err != nil || secrets.RefreshToken != "refresh-ada" || version != 1 {
			t.Fatalf("Secrets = %q, %d, %v", secrets.RefreshToken, version, err)
		}
		var kept atomic.Int64
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				_, err := k.Renew(t.Context(), s.ID, version, session.Renewal{Identity: person(t, "ada", "audit"), Secrets: session.Secrets{RefreshToken: fmt.Sprint("next-", i)}})
				if err == nil {
					kept.Add(1)
				} else if !errors.Is(err, session.ErrConflict) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := kept.Load(); n != 1 {
			t.Errorf("%d of 20 renewals kept, want 1", n)
		}
		if got := expectIn(t, k, wiki, handle, s.ID); got.Version != 2 || got.Identity.Groups[0] != "audit" {
			t.Errorf("after a renewal Lookup = version %d, groups %v", got.Version, got.Identity.Groups)
		}
		time.Sleep(2 * time.Second)
		if got := expectIn(t, other, wiki, handle, s.ID); got.Version != 2 {
			t.Errorf("two seconds after a renewal elsewhere Lookup = version %d", got.Version)
		}
		if _, err := k.Renew(t.Context(), s.ID, 2, session.Renewal{Identity: person(t, "mallory")}); err == nil {
			t.Error("a session was renewed for somebody else")
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	k := keeper(t, sessiontest.NewMemory())
	run(t, k)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				_, s := signIn(t, k, fmt.Sprint("person", i))
				handle := child(t, k, s.ID, wiki)
				var readers sync.WaitGroup
				for range 4 {
					readers.Go(func() {
						if _, err := k.Lookup(t.Context(), wiki, handle); err != nil {
							t.Error(err)
						}
					})
				}
				readers.Wait()
				if err := k.SignOut(t.Context(), s.ID); err != nil {
					t.Error(err)
				}
				if _, err := k.Lookup(t.Context(), wiki, handle); !errors.Is(err, session.ErrNoSession) {
					t.Errorf("Lookup after sign-out: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

func idsOf(all []session.Session) map[string]bool {
	ids := make(map[string]bool)
	for _, s := range all {
		ids[s.ID] = true
	}
	return ids
}

func idsOfPointers(all []*session.Session) map[string]bool {
	ids := make(map[string]bool)
	for _, s := range all {
		ids[s.ID] = true
	}
	return ids
}
