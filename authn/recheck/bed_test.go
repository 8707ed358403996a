package recheck

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/authn"
	"sallyport/authn/oidc"
	"sallyport/authn/session"
	"sallyport/authn/session/sessiontest"
)

// idp is a provider that rotates its refresh tokens, and takes the second use of one for a theft.
type idp struct {
	mu       sync.Mutex
	issuer   string
	families map[string]*family // by refresh token, used ones as well
	groups   []string
	subject  string // answers for somebody else; empty: for the one who is asked about
	disabled map[string]time.Time
	unsaid   bool   // hands out tokens and says nothing about anybody
	person   string // what the identities are linked to
	slow     time.Duration
	fail     func() (*oidc.Failure, when) // nil, or a failure of the next refresh
	down     error
	asked    int
	most     int // refreshes under way at once
	now      int
	reused   []string
}

type family struct {
	subject string
	current string
	revoked bool
}

// when says what a failing provider had done before it failed.
type when int

const (
	never  when = iota // the request did not arrive
	after              // it rotated the token, and the answer was lost
	beside             // tokens arrived, and what they said of the person could not be read
)

func newIDP() *idp {
	return &idp{issuer: "https://corp.example", families: map[string]*family{}, groups: []string{"staff"}, disabled: map[string]time.Time{}}
}

func (p *idp) Issuer() string { return p.issuer }

func (p *idp) LinkedTo(string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.person
}

func (p *idp) Ready() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down
}

// grant begins a family of refresh tokens.
func (p *idp) grant(subject string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	token := "rt-" + rand.Text()
	p.families[token] = &family{subject: subject, current: token}
	return token
}

func (p *idp) disable(subject string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.disabled[subject] = at
}

func (p *idp) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *idp) counts() (asked, most int, reused []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked, p.most, p.reused
}

func (p *idp) Refresh(ctx context.Context, before *authn.Identity, token string) (*oidc.Result, error) {
	p.mu.Lock()
	p.asked++
	p.now++
	p.most = max(p.most, p.now)
	slow, fail := p.slow, p.fail
	p.mu.Unlock()
	defer p.set(func() { p.now-- })
	var failure *oidc.Failure
	var at when
	if fail != nil {
		failure, at = fail()
	}
	if failure != nil && at == never {
		return nil, failure
	}
	result, refused := p.exchange(before, token)
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return nil, &oidc.Failure{Code: oidc.ProviderUnreachable, Err: ctx.Err()}
		}
	}
	switch {
	case failure != nil && at == after:
		return nil, failure
	case refused != nil:
		return nil, refused
	case failure != nil:
		return &oidc.Result{RefreshToken: result.RefreshToken}, failure
	}
	return result, nil
}

func (p *idp) exchange(before *authn.Identity, token string) (*oidc.Result, *oidc.Failure) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rejected := &oidc.Failure{Code: oidc.RefreshRejected, Reported: "invalid_grant", Err: errors.New("refused")}
	f := p.families[token]
	if f == nil || f.revoked {
		return nil, rejected
	}
	if f.current != token {
		f.revoked = true
		p.reused = append(p.reused, f.subject)
		return nil, rejected
	}
	if _, gone := p.disabled[f.subject]; gone {
		f.revoked = true
		return nil, rejected
	}
	f.current = "rt-" + rand.Text()
	p.families[f.current] = f
	subject := f.subject
	if p.subject != "" {
		subject = p.subject
	}
	if p.unsaid {
		return &oidc.Result{Identity: before, RefreshToken: f.current, Unsaid: true}, nil
	}
	id := *person(subject, p.groups...)
	id.Person = p.person
	return &oidc.Result{Identity: &id, RefreshToken: f.current}, nil
}

func person(subject string, groups ...string) *authn.Identity {
	id, err := authn.New(authn.Identity{Kind: authn.User, Provider: "corp", Subject: subject, Email: subject + "@corp.example", Groups: groups})
	if err != nil {
		panic(err)
	}
	return id
}

// ended is a session end that was put on record.
type ended struct{ id, reason string }

// bed is one gateway process on a store.
type bed struct {
	t       testing.TB
	idp     *idp
	store   session.Store
	keeper  *session.Keeper
	recheck *Rechecker
	names   map[string]Provider

	mu       sync.Mutex
	records  []ended
	changes  []Change
	settled  []string
	audit    error                                    // of the log
	recorded func(code string, s *session.Session)    // called before each record
	wrap     func(sessions Sessions) (other Sessions) // between the rechecker and the keeper
}

var limits = session.Config{Idle: 8 * time.Hour, Absolute: 24 * time.Hour, Recheck: 15 * time.Minute, RecheckInBrowser: time.Hour, Grace: time.Hour}

// newBed must be called in a bubble, whose end waits for what it starts.
func newBed(t testing.TB, p *idp, store session.Store, cfg session.Config, change func(*bed)) *bed {
	t.Helper()
	b := &bed{t: t, idp: p, store: store, names: map[string]Provider{"corp": p}}
	if change != nil {
		change(b)
	}
	var err error
	if b.keeper, err = session.NewKeeper(cfg, store, nil, nil); err != nil {
		t.Fatal(err)
	}
	var sessions Sessions = b.keeper
	if b.wrap != nil {
		sessions = b.wrap(sessions)
	}
	b.recheck = New(Config{Sessions: sessions, Limits: b.keeper.Limits, Ended: b.ended, Renewed: b.renewed,
		Provider: func(name string) Provider {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.names[name]
		},
		Settled: func(id string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.settled = append(b.settled, id)
		}})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { b.keeper.Run(ctx) })
	wg.Go(func() { b.recheck.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return b
}

func (b *bed) ended(_ context.Context, s *session.Session, reason string) error {
	return b.write("ended", s, func() { b.records = append(b.records, ended{s.ID, reason}) })
}

func (b *bed) renewed(_ context.Context, s *session.Session, c Change) error {
	return b.write("renewed", s, func() { b.changes = append(b.changes, c) })
}

func (b *bed) write(code string, s *session.Session, then func()) error {
	if b.recorded != nil {
		b.recorded(code, s)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.audit != nil {
		return b.audit
	}
	then()
	return nil
}

func (b *bed) do(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// signIn makes a session with a refresh token, and a handle for it.
func (b *bed) signIn(subject string) (handle string, s *session.Session) {
	b.t.Helper()
	return b.signInWith(session.NewSession{Identity: person(subject, "staff"), Secrets: session.Secrets{RefreshToken: b.idp.grant(subject)}})
}

func (b *bed) signInWith(n session.NewSession) (string, *session.Session) {
	b.t.Helper()
	handle, s, err := b.keeper.SignIn(b.t.Context(), n)
	if err != nil {
		b.t.Fatal(err)
	}
	return handle, s
}

// ask is a request with a handle.
func (b *bed) ask(handle string) (*session.Session, error) {
	s, err := b.keeper.SignedIn(b.t.Context(), handle)
	if err != nil {
		return nil, err
	}
	return b.recheck.Current(b.t.Context(), s)
}

func (b *bed) mustAsk(handle string) *session.Session {
	b.t.Helper()
	s, err := b.ask(handle)
	if err != nil {
		b.t.Fatalf("request at %v: %v", time.Now(), err)
	}
	return s
}

func (b *bed) wantError(handle string, want error) {
	b.t.Helper()
	if s, err := b.ask(handle); !errors.Is(err, want) {
		b.t.Fatalf("got session %v and error %v, want %v", s, err, want)
	}
}

// inBubble runs a test on one gateway with a store in memory.
func inBubble(t *testing.T, cfg session.Config, test func(t *testing.T, b *bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newBed(t, newIDP(), sessiontest.NewMemory(), cfg, nil)) })
}

func away(unsent bool) *oidc.Failure {
	return &oidc.Failure{Code: oidc.ProviderUnreachable, Unsent: unsent, Err: fmt.Errorf("no answer")}
}
