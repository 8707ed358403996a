package recheck_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/authn/oidc"
	"sallyport/authn/recheck"
	"sallyport/authn/session"
	"sallyport/authn/session/sqlite"
	"sallyport/test/fakeidp"
)

const redirectURL = "https://auth.corp.example/.sallyport/callback/corp"

// world is a provider that speaks HTTP and rotates its tokens, a store on disk, and a clock of its own.
type world struct {
	t       *testing.T
	idp     *fakeidp.Provider
	keeper  *session.Keeper
	recheck *recheck.Rechecker
	late    atomic.Int64 // how far the clock is ahead
	calls   *counting
	ended   []string
	changed []recheck.Change
}

// counting counts what the store is asked.
type counting struct {
	session.Store
	n atomic.Int64
}

func (c *counting) Get(ctx context.Context, h session.Hash) (session.Entry, string, error) {
	c.n.Add(1)
	return c.Store.Get(ctx, h)
}

func (c *counting) List(ctx context.Context, m session.Match, after string, limit int) ([]session.Entry, error) {
	c.n.Add(1)
	return c.Store.List(ctx, m, after, limit)
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.late.Load())) }

func newWorld(t *testing.T) *world {
	w := &world{t: t, idp: fakeidp.Start(t, fakeidp.Client{ID: "sallyport", Secret: rand.Text(), RedirectURI: redirectURL})}
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	w.calls = &counting{Store: store}
	limits := session.Config{Idle: 8 * time.Hour, Absolute: 24 * time.Hour, Recheck: 15 * time.Minute, Grace: time.Hour}
	if w.keeper, err = session.NewKeeper(limits, w.calls, w.now, nil); err != nil {
		t.Fatal(err)
	}
	provider := w.provider()
	w.recheck = recheck.New(recheck.Config{Sessions: w.keeper, Limits: w.keeper.Limits, Now: w.now,
		Provider: func(string) recheck.Provider { return provider },
		Ended: func(_ context.Context, _ *session.Session, reason string) error {
			w.ended = append(w.ended, reason)
			return nil
		},
		Renewed: func(_ context.Context, _ *session.Session, c recheck.Change) error {
			w.changed = append(w.changed, c)
			return nil
		},
	})
	ctx, stop := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { w.keeper.Run(ctx) })
	group.Go(func() { w.recheck.Run(ctx) })
	t.Cleanup(func() { stop(); group.Wait(); store.Close() })
	return w
}

func (w *world) provider() *oidc.Provider {
	p, err := oidc.New(oidc.Config{
		Name: "corp", Issuer: w.idp.Issuer, ClientID: w.idp.Client.ID, ClientSecret: oidc.Secret(w.idp.Client.Secret),
		AssertionAudience: oidc.AudienceIssuer, Scopes: []string{"openid", "profile", "email"}, Skew: time.Minute,
		Claims: oidc.Claims{Groups: "groups", Email: "email", EmailVerified: "email_verified", Name: "name"},
	}, oidc.Options{RedirectURL: redirectURL})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := p.Discover(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// signIn is a person's way through the provider.
func (w *world) signIn() (handle string) {
	w.t.Helper()
	p := w.provider()
	f := p.NewFlow()
	to, err := p.AuthCodeURL(w.t.Context(), f)
	if err != nil {
		w.t.Fatal(err)
	}
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := browser.Get(to)
	if err != nil {
		w.t.Fatal(err)
	}
	res.Body.Close()
	back, err := url.Parse(res.Header.Get("Location"))
	if err != nil {
		w.t.Fatal(err)
	}
	cb, err := oidc.ParseCallback(back.RawQuery)
	if err != nil {
		w.t.Fatal(err)
	}
	result, err := p.Finish(w.t.Context(), f, cb)
	if err != nil {
		w.t.Fatal(err)
	}
	handle, _, err = w.keeper.SignIn(w.t.Context(), session.NewSession{Identity: result.Identity, ProviderSession: result.Session,
		Secrets: session.Secrets{RefreshToken: result.RefreshToken, IDToken: result.IDToken}})
	if err != nil {
		w.t.Fatal(err)
	}
	return handle
}

func (w *world) ask(handle string) (*session.Session, error) {
	s, err := w.keeper.SignedIn(w.t.Context(), handle)
	if err != nil {
		return nil, err
	}
	return w.recheck.Current(w.t.Context(), s)
}

// OIDC-22, OIDC-23: through a real token endpoint, again and again.
func TestSessionsFollowAProviderThatRotatesItsTokens(t *testing.T) {
	w := newWorld(t)
	handle := w.signIn()
	for round, groups := range [][]string{{"staff", "wiki"}, {"staff"}, nil, {"wiki"}} {
		w.idp.SetPerson(map[string]any{"groups": groups})
		w.late.Add(int64(15 * time.Minute))
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if s, err := w.ask(handle); err != nil || !slices.Equal(s.Identity.Groups, groups) {
					t.Errorf("round %d: got %v and %v, want groups %v", round, s, err, groups)
				}
			})
		}
		wg.Wait()
		if asked := w.idp.Calls("refresh"); asked != round+1 {
			t.Fatalf("round %d: %d refreshes, want %d", round, asked, round+1)
		}
	}
	if len(w.changed) != 3 || !slices.Equal(w.changed[0].Removed, []string{"wiki"}) {
		t.Errorf("got records of changes %+v, want 3, the first of which removes wiki", w.changed)
	}
	w.idp.Disable("alice-1")
	w.late.Add(int64(15 * time.Minute))
	if _, err := w.ask(handle); !errors.Is(err, session.ErrNoSession) || !slices.Equal(w.ended, []string{session.AccountDisabled}) {
		t.Errorf("got %v and records %v, want an end because of the account", err, w.ended)
	}
}

func TestAHotSessionAsksTheStoreForNothing(t *testing.T) {
	w := newWorld(t)
	handle := w.signIn()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := w.ask(handle); err != nil {
			t.Fatal(err)
		}
		before := w.calls.n.Load()
		for range 10_000 {
			if _, err := w.ask(handle); err != nil {
				t.Fatal(err)
			}
		}
		if w.calls.n.Load() == before { // the store is followed from a moment after the start
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("10,000 requests of one session asked the store %d times", w.calls.n.Load()-before)
		}
	}
	if asked := w.idp.Calls("refresh"); asked != 0 {
		t.Errorf("%d refreshes", asked)
	}
}
