package recheck

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/authn/oidc"
	"sallyport/authn/session"
	"sallyport/authn/session/sqlite"
)

// TestNoTokenIsUsedTwiceAndNoBoundIsBroken plays random schedules of requests from many tabs at two gateways on one store,
// of outages of every kind, disabled accounts and visits at the provider.
func TestNoTokenIsUsedTwiceAndNoBoundIsBroken(t *testing.T) {
	seed := rand.Uint64()
	if text := os.Getenv("SALLYPORT_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	for round := range uint64(rounds()) {
		if broken := play(t, seed+round, rules{}); broken != "" {
			t.Fatalf("SALLYPORT_SEED=%d: %s", seed+round, broken)
		}
	}
	for name, mutant := range map[string]rules{
		"no claim": {noClaim: true}, "neither claim nor single flight": {noClaim: true, manyFlights: true},
		"sent again": {sendAgain: true}, "no bound": {noBound: true},
	} {
		caught := false
		for round := range uint64(80) {
			if caught = play(t, seed+round, mutant) != ""; caught {
				break
			}
		}
		if !caught {
			t.Errorf("SALLYPORT_SEED=%d: the mutant %q was not caught", seed, name)
		}
	}
}

// rounds is how many schedules are played.
func rounds() int {
	if n, err := strconv.Atoi(os.Getenv("SALLYPORT_ROUNDS")); err == nil {
		return max(n, 1)
	}
	return 20
}

// Stores are polled by the second: hours of intervals would take minutes of the test.
const (
	shortRecheck = 100 * time.Second
	shortGrace   = 150 * time.Second
)

// game is one schedule.
type game struct {
	*idp
	rng       *rand.Rand
	beds      [2]*bed
	tabs      []*tab
	trouble   time.Time // the provider was last known to be in trouble
	broken    string
	wg        sync.WaitGroup
	failing   *oidc.Failure
	failingAt when
}

// tab is a person with a session.
type tab struct {
	name     string
	mu       sync.Mutex
	handle   string
	session  *session.Session
	disabled time.Time
}

func play(t *testing.T, seed uint64, mutant rules) (broken string) {
	synctest.Test(t, func(t *testing.T) {
		store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { store.Close() })
		g := &game{idp: newIDP(), rng: rand.New(rand.NewPCG(seed, 0))}
		g.idp.fail = func() (*oidc.Failure, when) {
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.failing, g.failingAt
		}
		cfg := limits
		cfg.Recheck, cfg.Grace = shortRecheck, shortGrace
		for i := range g.beds {
			g.beds[i] = newBed(t, g.idp, store, cfg, nil)
			g.beds[i].recheck.rules = mutant
		}
		for i := range 3 {
			p := &tab{name: fmt.Sprint("person", i)}
			p.handle, p.session = g.beds[0].signIn(p.name)
			g.tabs = append(g.tabs, p)
		}
		for range 10 + g.rng.IntN(30) {
			g.step(t)
		}
		g.wg.Wait()
		g.set(func() { g.failing, g.slow = nil, 0 })
		if _, _, reused := g.counts(); len(reused) > 0 {
			g.fault("%v: a refresh token was used twice", reused)
		}
		broken = g.broken
	})
	return broken
}

func (g *game) step(t *testing.T) {
	time.Sleep(time.Duration(g.rng.Int64N(int64(20 * time.Second))))
	switch g.rng.IntN(12) {
	case 0: // the weather changes
		failures := []*oidc.Failure{nil, nil, away(true), away(false), {Code: oidc.TokenKey, Err: errors.New("keys")}}
		at := []when{never, never, never, after, beside}
		i := g.rng.IntN(len(failures))
		g.set(func() {
			g.failing, g.failingAt, g.slow = failures[i], at[i], time.Duration(g.rng.IntN(15))*time.Second
			g.trouble = time.Now()
		})
	case 1:
		g.set(func() { g.groups = []string{fmt.Sprint("group", g.rng.IntN(3))} })
	case 2:
		if p := g.tabs[g.rng.IntN(len(g.tabs))]; p.disabled.IsZero() && g.rng.IntN(3) == 0 {
			p.mu.Lock()
			p.disabled = time.Now()
			p.mu.Unlock()
			g.disable(p.name, time.Now())
		}
	default:
		for range 1 + g.rng.IntN(6) {
			p, b := g.tabs[g.rng.IntN(len(g.tabs))], g.beds[g.rng.IntN(2)]
			g.wg.Go(func() { g.visit(t, p, b) })
		}
	}
}

// visit is a request of a person, who passes by the provider when told to.
func (g *game) visit(t *testing.T, p *tab, b *bed) {
	p.mu.Lock()
	handle := p.handle
	p.mu.Unlock()
	s, err := b.ask(handle)
	p.mu.Lock()
	defer p.mu.Unlock()
	var trouble time.Time
	var failing bool
	g.set(func() { trouble, failing = g.trouble, g.failing != nil || g.slow >= requestWait })
	switch {
	case err == nil:
		if bound := g.bound(trouble, failing, p); !p.disabled.IsZero() && time.Since(p.disabled) > bound {
			g.fault("%s was let in %v after the account was disabled, at most %v", p.name, time.Since(p.disabled), bound)
		}
		if age := time.Since(s.Checked); age > shortRecheck+shortGrace+requestWait {
			g.fault("%s was let in %v after the provider spoke", p.name, age)
		}
	case p.handle != handle: // another tab was faster
	case errors.Is(err, ErrBrowser) && p.disabled.IsZero():
		if raised, _, err := b.keeper.Raise(t.Context(), p.session.ID, handle, session.Renewal{Identity: person(p.name, "staff"),
			Secrets: session.Secrets{RefreshToken: g.grant(p.name)}}); err == nil {
			p.handle = raised
		}
	case errors.Is(err, session.ErrNoSession) && p.disabled.IsZero():
		g.fault("%s was thrown out", p.name)
	case trouble.IsZero() && p.disabled.IsZero():
		g.fault("%s was refused though nothing ever failed: %v", p.name, err)
	}
}

// bound is how long a disabled account may live: the interval, unless the provider was in trouble since.
func (g *game) bound(trouble time.Time, failing bool, p *tab) time.Duration {
	if failing || trouble.Add(2*longestPause).After(p.disabled) {
		return shortRecheck + shortGrace + requestWait
	}
	return shortRecheck + requestWait
}

func (g *game) fault(format string, args ...any) {
	g.set(func() {
		if g.broken == "" {
			g.broken = fmt.Sprintf(format, args...)
		}
	})
}
