package session_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/authn/session"
	"sallyport/authn/session/sessiontest"
)

// What is derived from a session lasts as long as its version: through the minutes, which bring new snapshots, and not
// beyond a change of identity, which must be felt by the next request.
func TestDerivedLastsAsLongAsTheVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := keeper(t, sessiontest.NewMemory())
		run(t, k)
		_, s := signIn(t, k, "ada")
		handle := child(t, k, s.ID, wiki)
		type groups []string
		made := 0
		derive := func() groups {
			found, err := k.Lookup(t.Context(), wiki, handle)
			if err != nil {
				t.Fatal(err)
			}
			return *session.Derived(found, func(s *session.Session) *groups {
				made++
				g := groups(slices.Clone(s.Identity.Groups))
				return &g
			})
		}
		for range 10 {
			if got := derive(); !slices.Equal(got, []string{"staff"}) {
				t.Fatalf("derived from %q", got)
			}
			time.Sleep(time.Minute)
		}
		if made > 2 { // a session that is read from the store again begins anew
			t.Errorf("one version was derived from %d times in ten", made)
		}
		before := made
		if _, err := k.Renew(t.Context(), s.ID, 1, session.Renewal{Identity: person(t, "ada", "audit")}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := derive(); !slices.Equal(got, []string{"audit"}) || made == before {
			t.Errorf("after the identity changed, derived from %q, %d times in all, %d before", got, made, before)
		}
	})
}

func TestDerivedIsOneValueForAll(t *testing.T) {
	k := keeper(t, sessiontest.NewMemory())
	_, s := signIn(t, k, "ada")
	var next atomic.Int64
	values := make([]int64, 64)
	var wg sync.WaitGroup
	for i := range values {
		wg.Go(func() {
			values[i] = *session.Derived(s, func(*session.Session) *int64 { n := next.Add(1); return &n })
		})
	}
	wg.Wait()
	if got := slices.Compact(slices.Sorted(slices.Values(values))); len(got) != 1 {
		t.Errorf("goroutines were given %d different values", len(got))
	}
	if got := *session.Derived(s, func(*session.Session) *string { word := "other type"; return &word }); got != "other type" {
		t.Errorf("a value of another type is %q", got)
	}
}

func BenchmarkDerived(b *testing.B) {
	k := keeper(b, sessiontest.NewMemory())
	_, s, err := k.SignIn(b.Context(), session.NewSession{Identity: person(b, "ada")})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		session.Derived(s, func(*session.Session) *int { return new(int) })
	}
}
