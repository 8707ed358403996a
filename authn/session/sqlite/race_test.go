package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sallyport/authn/session"
)

// TestRenewalsRaisesAndEndsMeet lets three gateways on one file renew, raise, use and at last end the same sessions at
// once. Whatever comes first: each session has one sign-in handle that lives, no end is undone, and every gateway agrees.
func TestRenewalsRaisesAndEndsMeet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	random := rand.New(rand.NewPCG(seeded(t), 1))
	var keepers []*session.Keeper
	for range 3 {
		k := keeper(t, open(t, path))
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { k.Run(ctx) })
		t.Cleanup(func() { cancel(); wg.Wait() })
		keepers = append(keepers, k)
	}
	for round := range 4 {
		first, s := signIn(t, keepers[0])
		made := newHandles(first)
		var wg sync.WaitGroup
		for i := range 9 {
			k, seed := keepers[i%3], random.Uint64()
			wg.Go(func() { struggle(t, k, s, made, rand.New(rand.NewPCG(seed, 0))) })
		}
		wg.Wait()
		var last string
		eventually(t, func() error {
			alive := made.alive(t, keepers[0])
			if len(alive) != 1 {
				return fmt.Errorf("round %d: of %d sign-in handles %d live, want 1", round, len(made.all), len(alive))
			}
			last = alive[0]
			return agree(t, keepers, made)
		})
		wg.Go(func() {
			if _, err := keepers[1].End(t.Context(), session.Filter{Subject: "corp|ada"}, session.Revoked); err != nil {
				t.Error(err)
			}
		})
		for i := range 6 {
			wg.Go(func() {
				raised, _, err := keepers[i%3].Raise(t.Context(), s.ID, last, session.Renewal{Identity: s.Identity})
				if err == nil {
					made.add(raised)
				} else if !errors.Is(err, session.ErrNoSession) && !errors.Is(err, session.ErrConflict) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		eventually(t, func() error {
			for i, k := range keepers {
				if alive := made.alive(t, k); len(alive) > 0 {
					return fmt.Errorf("round %d: gateway %d still takes %d handles of a session that was revoked", round, i, len(alive))
				}
			}
			return nil
		})
	}
}

// struggle renews, raises and uses a session with whatever is there at the time.
func struggle(t *testing.T, k *session.Keeper, s *session.Session, made *handles, random *rand.Rand) {
	for range 8 {
		var err error
		switch random.IntN(3) {
		case 0:
			var version int64
			if _, version, err = k.Secrets(t.Context(), s.ID); err == nil {
				_, err = k.Renew(t.Context(), s.ID, version, session.Renewal{Identity: s.Identity})
			}
		case 1:
			var raised string
			if raised, _, err = k.Raise(t.Context(), s.ID, made.newest(), session.Renewal{Identity: s.Identity}); err == nil {
				made.add(raised)
			}
		default:
			_, err = k.SignedIn(t.Context(), made.newest())
		}
		if err != nil && !errors.Is(err, session.ErrConflict) && !errors.Is(err, session.ErrNoSession) {
			t.Error(err)
		}
	}
}

// agree says which gateway takes other handles than the first.
func agree(t *testing.T, keepers []*session.Keeper, made *handles) error {
	want := fmt.Sprint(made.alive(t, keepers[0]))
	for i, k := range keepers[1:] {
		if got := fmt.Sprint(made.alive(t, k)); got != want {
			return fmt.Errorf("gateway %d takes %d bytes of handles, the first %d", i+1, len(got), len(want))
		}
	}
	return nil
}

func eventually(t *testing.T, ask func() error) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

type handles struct {
	mu  sync.Mutex
	all []string
}

func newHandles(first string) *handles { return &handles{all: []string{first}} }

func (h *handles) add(handle string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, handle)
}

func (h *handles) newest() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.all[len(h.all)-1]
}

func (h *handles) alive(t *testing.T, k *session.Keeper) (alive []string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, handle := range h.all {
		if _, err := k.SignedIn(t.Context(), handle); err == nil {
			alive = append(alive, handle)
		} else if !errors.Is(err, session.ErrNoSession) {
			t.Error(err)
		}
	}
	return alive
}
