package recheck

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/authn/session/sessiontest"
)

// OIDC-22, across processes.
func TestGatewaysOnOneStoreRefreshOnce(t *testing.T) {
	storm := func(t *testing.T, mutant rules) (asked int, reused []string) {
		synctest.Test(t, func(t *testing.T) {
			store, p := sessiontest.NewMemory(), newIDP()
			beds := []*bed{newBed(t, p, store, limits, nil), newBed(t, p, store, limits, nil)}
			handle, _ := beds[0].signIn("alice")
			p.set(func() { p.slow = time.Second })
			time.Sleep(limits.Recheck)
			var wg sync.WaitGroup
			for _, b := range beds {
				b.recheck.rules = mutant
				for range 50 {
					wg.Go(func() {
						if s, err := b.ask(handle); mutant == (rules{}) && (err != nil || time.Since(s.Checked) > time.Minute) {
							t.Errorf("got %v and %v", s, err)
						}
					})
				}
			}
			wg.Wait()
			asked, _, reused = p.counts()
		})
		return asked, reused
	}
	if asked, reused := storm(t, rules{}); asked != 1 || len(reused) > 0 {
		t.Errorf("the provider was asked %d times, reused %v; want once", asked, reused)
	}
	if _, reused := storm(t, rules{noClaim: true}); len(reused) == 0 {
		t.Error("the mutant was not caught")
	}
}

// A process that dies between the answer and the store takes the token with it. The others do not send it again, and have
// the browser pass by the provider.
func TestAGatewayThatDiesCostsATokenAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, p := sessiontest.NewMemory(), newIDP()
		dying := &flakyStore{}
		dying.failures.Store(1 << 40)
		first := newBed(t, p, store, limits, func(b *bed) {
			b.wrap = func(s Sessions) Sessions { dying.Sessions = s; return dying }
		})
		second := newBed(t, p, store, limits, nil)
		handle, _ := first.signIn("alice")
		time.Sleep(limits.Recheck - time.Minute)
		first.mustAsk(handle)
		synctest.Wait() // it is the first that has the token
		for range 5 {   // while nobody knows better, it is believed no longer than the interval
			second.mustAsk(handle)
			time.Sleep(10 * time.Second)
		}
		time.Sleep(time.Minute)
		second.wantError(handle, ErrBrowser)
		if asked, _, reused := p.counts(); asked != 1 || len(reused) > 0 {
			t.Errorf("asked %d times, reused %v; want once", asked, reused)
		}
		if s, err := second.keeper.SignedIn(t.Context(), handle); err != nil {
			t.Errorf("the session ended: %v", err)
		} else if _, err := second.recheck.Look(s); !errors.Is(err, ErrBrowser) {
			t.Errorf("an open stream got %v, want %v", err, ErrBrowser)
		}
	})
}
