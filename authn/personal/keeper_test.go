package personal_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/authn"
	"sallyport/authn/personal"
	"sallyport/authn/session"
	"sallyport/authn/session/sqlite"
	"sallyport/authn/token"
)

// people are who their provider confirmed last.
type people struct {
	mu    sync.Mutex
	known map[string]session.Person
	down  error
}

func (p *people) Person(_ context.Context, subject string) (session.Person, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if found, ok := p.known[subject]; ok && p.down == nil {
		return found, nil
	}
	if p.down != nil {
		return session.Person{}, p.down
	}
	return session.Person{}, session.ErrNoPerson
}

func (p *people) put(who *authn.Identity, change func(*session.Person)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	made := p.known[who.ID()]
	made.Identity = who
	change(&made)
	p.known[who.ID()] = made
}

// counted counts the look-ups of a store.
type counted struct {
	personal.Store
	reads atomic.Int64
	down  atomic.Bool
}

func (c *counted) Token(ctx context.Context, hash personal.Hash) (personal.Token, error) {
	c.reads.Add(1)
	if c.down.Load() {
		return personal.Token{}, errors.New("disk gone")
	}
	return c.Store.Token(ctx, hash)
}

type world struct {
	*personal.Keeper
	store  *counted
	people *people
	ada    *authn.Identity
	now    atomic.Int64
	ended  []string
}

var enabled = personal.Config{Enabled: true, MaxLifetime: 90 * 24 * time.Hour, Confirm: 14 * 24 * time.Hour, MaxPerPerson: 3}

func newWorld(t *testing.T) *world {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	w := &world{store: &counted{Store: store.Tokens()}, people: &people{known: map[string]session.Person{}}}
	w.now.Store(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixNano())
	w.Keeper = personal.New(enabled, w.store, w.people, w.clock, slog.New(slog.DiscardHandler))
	w.OnEnd(func(id string) { w.ended = append(w.ended, id) })
	w.ada, err = authn.New(authn.Identity{Kind: authn.User, Provider: "corp", Subject: "ada", Email: "ada@corp.example", EmailVerified: true, Groups: []string{"staff"},
		MFA: true, ACR: "gold", AMR: []string{"otp"}, AuthTime: w.clock()})
	if err != nil {
		t.Fatal(err)
	}
	w.people.put(w.ada, func(p *session.Person) { p.Confirmed = w.clock() })
	return w
}

func (w *world) clock() time.Time     { return time.Unix(0, w.now.Load()) }
func (w *world) pass(d time.Duration) { w.now.Add(int64(d)) }

func (w *world) make(t *testing.T, name string) (string, personal.Token) {
	t.Helper()
	secret, made, err := w.Create(t.Context(), w.ada, personal.Request{Name: name, Apps: []string{"wiki", "api"}, Methods: []string{"GET"}, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return secret, made
}

func (w *world) refused(t *testing.T, secret, code string, is error) {
	t.Helper()
	_, _, err := w.Find(t.Context(), secret)
	if refused, ok := errors.AsType[*token.Refused](err); !ok || refused.Code != code || !errors.Is(err, is) {
		t.Errorf("got %v, want %s", err, code)
	}
}

func TestTokenStandsForItsOwner(t *testing.T) {
	w := newWorld(t)
	secret, made := w.make(t, "build")
	if !strings.HasPrefix(secret, "sallyport_pat_") || strings.Contains(secret, made.ID) || !slices.Equal(made.Apps, []string{"api", "wiki"}) {
		t.Errorf("%q, %+v", secret, made)
	}
	found, who, err := w.Find(t.Context(), secret)
	if err != nil || found.ID != made.ID || who.ID() != "corp|ada" || !slices.Equal(who.Groups, []string{"staff"}) {
		t.Fatalf("%+v, %+v, %v", found, who, err)
	}
	if who.MFA || who.ACR != "" || who.AMR != nil || !who.AuthTime.IsZero() {
		t.Errorf("a token has the strength of its owner's sign-in: %+v", who)
	}
	// What the store has leads to no token.
	list, err := w.List(t.Context(), personal.Filter{Owner: "corp|ada"})
	if err != nil || len(list) != 1 || strings.Contains(fmt.Sprintf("%+v", list), secret[len(personal.Prefix):]) {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestTokensThatAreNotGood(t *testing.T) {
	w := newWorld(t)
	secret, made := w.make(t, "build")
	other, _ := w.make(t, "other")
	for i := len(personal.Prefix); i < len(secret); i++ { // one letter otherwise, at any place
		letter := "a"
		if secret[i] == 'a' {
			letter = "b"
		}
		w.refused(t, secret[:i]+letter+secret[i+1:], personal.CodeUnknown, personal.ErrNoToken)
	}
	for _, guess := range []string{"", personal.Prefix, secret[:len(secret)-1], secret + "a", strings.ToUpper(secret), " " + secret} {
		w.refused(t, guess, personal.CodeUnknown, personal.ErrNoToken)
	}
	if w.store.reads.Load() != 0 {
		t.Errorf("what we did not make was looked up %d times", w.store.reads.Load())
	}
	if _, _, err := w.Find(t.Context(), secret); err != nil { // the control
		t.Fatal(err)
	}
	if _, err := w.Revoke(t.Context(), personal.Filter{Owner: "corp|ada", ID: made.ID}); err != nil {
		t.Fatal(err)
	}
	w.refused(t, secret, personal.CodeRevoked, personal.ErrRevoked)
	if !slices.Equal(w.ended, []string{made.ID}) {
		t.Errorf("told of %v", w.ended)
	}
	if _, _, err := w.Find(t.Context(), other); err != nil {
		t.Errorf("another token went with it: %v", err)
	}
	w.pass(time.Hour)
	w.refused(t, other, personal.CodeExpired, personal.ErrExpired)
}

func TestTokenRestsWithItsOwner(t *testing.T) {
	w := newWorld(t)
	secret, _, err := w.Create(t.Context(), w.ada, personal.Request{Name: "long", Apps: []string{"*"}, Methods: []string{"*"}, Lifetime: 60 * 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	w.people.put(w.ada, func(p *session.Person) { p.Disabled = true })
	w.refused(t, secret, personal.CodeDisabled, personal.ErrResting)
	w.people.put(w.ada, func(p *session.Person) { p.Disabled = false })
	w.pass(2 * time.Second)
	if _, _, err := w.Find(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	w.people.put(w.ada, func(p *session.Person) { p.Disabled = true })
	w.pass(2 * time.Second)
	w.refused(t, secret, personal.CodeDisabled, personal.ErrResting)
	w.people.put(w.ada, func(p *session.Person) { p.Disabled = false })
	w.pass(14 * 24 * time.Hour)
	w.refused(t, secret, personal.CodeUnconfirmed, personal.ErrResting)
	w.people.put(w.ada, func(p *session.Person) { p.Confirmed = w.clock() })
	w.pass(2 * time.Second)
	if _, _, err := w.Find(t.Context(), secret); err != nil {
		t.Errorf("after another sign-in: %v", err)
	}
	config := enabled
	config.Enabled = false
	w.Configure(config)
	w.refused(t, secret, personal.CodeOff, personal.ErrDisabled)
}

// A token in use is read once in two seconds, however many ask; groups follow the owner's.
func TestTokenInUseIsReadSeldom(t *testing.T) {
	w := newWorld(t)
	secret, _ := w.make(t, "build")
	first, err := w.Bearer(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if b, err := w.Bearer(t.Context(), secret); err != nil || b != first {
				t.Errorf("%v, %v", b, err)
			}
		})
	}
	wg.Wait()
	if got := w.store.reads.Load(); got != 1 {
		t.Errorf("read %d times", got)
	}
	w.pass(2 * time.Second)
	if b, err := w.Bearer(t.Context(), secret); err != nil || b != first || w.store.reads.Load() != 2 {
		t.Errorf("an owner who stays the same is made anew: %v", err)
	}
	demoted := *w.ada
	demoted.Groups = []string{"guests"}
	w.people.put(&demoted, func(*session.Person) {})
	w.pass(2 * time.Second)
	b, err := w.Bearer(t.Context(), secret)
	if err != nil || b.Session.Version <= first.Session.Version || !slices.Equal(b.Session.Identity.Groups, []string{"guests"}) {
		t.Errorf("%+v, %v", b, err)
	}
}

func TestStoreThatDoesNotAnswerRefuses(t *testing.T) {
	w := newWorld(t)
	secret, _ := w.make(t, "build")
	w.store.down.Store(true)
	if _, err := w.Bearer(t.Context(), secret); !errors.Is(err, personal.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	w.store.down.Store(false)
	w.people.down = errors.New("disk gone")
	if _, err := w.Bearer(t.Context(), secret); !errors.Is(err, personal.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestWhatCanBeAskedFor(t *testing.T) {
	w := newWorld(t)
	ok := personal.Request{Name: "a", Apps: []string{"wiki"}, Methods: []string{"GET"}, Lifetime: time.Hour}
	many := make([]string, 21)
	for i := range many {
		many[i] = fmt.Sprint("app-", i)
	}
	for name, change := range map[string]func(*personal.Request){
		"no name":     func(r *personal.Request) { r.Name = "" },
		"long name":   func(r *personal.Request) { r.Name = strings.Repeat("n", 65) },
		"escape":      func(r *personal.Request) { r.Name = "a\x1b[31m" },
		"override":    func(r *personal.Request) { r.Name = "a\u202e" },
		"no apps":     func(r *personal.Request) { r.Apps = nil },
		"empty app":   func(r *personal.Request) { r.Apps = []string{""} },
		"all and one": func(r *personal.Request) { r.Apps = []string{"*", "wiki"} },
		"many":        func(r *personal.Request) { r.Apps = many },
		"no methods":  func(r *personal.Request) { r.Methods = nil },
		"lower case":  func(r *personal.Request) { r.Methods = []string{"get"} },
		"short":       func(r *personal.Request) { r.Lifetime = time.Second },
		"long":        func(r *personal.Request) { r.Lifetime = 91 * 24 * time.Hour },
	} {
		bad := ok
		change(&bad)
		if _, _, err := w.Create(t.Context(), w.ada, bad); !errors.Is(err, personal.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	program := *w.ada
	program.Kind = authn.Service
	if _, _, err := w.Create(t.Context(), &program, ok); !errors.Is(err, personal.ErrInvalid) {
		t.Errorf("a program: %v", err)
	}
	for i := range 3 {
		ok.Name = fmt.Sprint("n", i)
		if _, _, err := w.Create(t.Context(), w.ada, ok); err != nil {
			t.Fatal(err)
		}
	}
	recorded := false
	ok.Record = func(context.Context, personal.Token) error { recorded = true; return nil }
	if _, _, err := w.Create(t.Context(), w.ada, ok); !errors.Is(err, personal.ErrNameTaken) {
		t.Errorf("got %v", err)
	}
	ok.Name = "one more"
	if _, _, err := w.Create(t.Context(), w.ada, ok); !errors.Is(err, personal.ErrTooMany) || recorded {
		t.Errorf("got %v, recorded %v", err, recorded)
	}
	w.pass(time.Hour) // they have expired
	failing := errors.New("log is full")
	ok.Record = func(context.Context, personal.Token) error { return failing }
	if _, _, err := w.Create(t.Context(), w.ada, ok); !errors.Is(err, failing) {
		t.Errorf("got %v", err)
	}
	if list, err := w.List(t.Context(), personal.Filter{}); err != nil || len(list) != 3 || list[0].State(w.clock()) != personal.Expired {
		t.Errorf("a token without its record: %+v, %v", list, err)
	}
}

// Of many who ask at once for the last place, one gets it.
func TestLastPlaceIsGivenOnce(t *testing.T) {
	w := newWorld(t)
	w.make(t, "a")
	w.make(t, "b")
	var made atomic.Int64
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			_, _, err := w.Create(t.Context(), w.ada, personal.Request{Name: fmt.Sprint("n", i), Apps: []string{"*"}, Methods: []string{"*"}, Lifetime: time.Hour})
			if err == nil {
				made.Add(1)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 {
		t.Errorf("%d were made", made.Load())
	}
}

func TestRevokeNeedsAFilter(t *testing.T) {
	w := newWorld(t)
	secret, made := w.make(t, "build")
	if _, err := w.Revoke(t.Context(), personal.Filter{}); !errors.Is(err, personal.ErrEmptyFilter) {
		t.Errorf("got %v", err)
	}
	if gone, err := w.Revoke(t.Context(), personal.Filter{ID: made.ID, Owner: "corp|eve"}); err != nil || len(gone) != 0 {
		t.Errorf("somebody else's token: %v, %v", gone, err)
	}
	if _, _, err := w.Find(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	gone, err := w.Revoke(t.Context(), personal.Filter{All: true})
	if err != nil || len(gone) != 1 || gone[0].State(w.clock()) != personal.Revoked {
		t.Errorf("%+v, %v", gone, err)
	}
	if gone, err := w.Revoke(t.Context(), personal.Filter{All: true}); err != nil || len(gone) != 0 {
		t.Errorf("twice: %v, %v", gone, err)
	}
}

// Operators revoke by what a list says, so it must not leave out anybody's tokens, however many others were made since: also
// not among those that were made at the same time.
func TestListsLeaveNothingOut(t *testing.T) {
	w := newWorld(t)
	const people = 2100
	made := w.clock()
	for i := range people {
		if i%700 == 0 {
			made = made.Add(time.Second)
		}
		owned := personal.Token{ID: fmt.Sprintf("pat_%04d", i), Owner: fmt.Sprint("corp|", i), Name: "n", Apps: []string{"*"}, Methods: []string{"*"}, Created: made, Expires: made.Add(time.Hour)}
		if err := w.store.PutToken(t.Context(), personal.Hash{byte(i), byte(i >> 8)}, owned, 1); err != nil {
			t.Fatal(err)
		}
	}
	list, err := w.List(t.Context(), personal.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for i, one := range list {
		listed[one.Owner] = true
		if i > 0 && one.Created.After(list[i-1].Created) {
			t.Fatalf("%s comes after an older one", one.ID)
		}
	}
	if len(list) != people || len(listed) != people {
		t.Errorf("%d of %d tokens are listed, of %d people", len(list), people, len(listed))
	}
}

// What another process revokes is felt here, too: two keepers, one store.
func TestRevocationReachesOtherProcesses(t *testing.T) {
	w := newWorld(t)
	secret, made := w.make(t, "build")
	if _, _, err := w.Find(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 10)
	other := personal.New(enabled, w.store, w.people, w.clock, slog.New(slog.DiscardHandler))
	other.OnEnd(func(id string) { told <- id })
	if _, _, err := other.Find(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- other.Run(ctx) }()
	if _, err := w.Revoke(t.Context(), personal.Filter{ID: made.ID}); err != nil {
		t.Fatal(err)
	}
	select {
	case id := <-told:
		if id != made.ID {
			t.Errorf("told of %s", id)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("a revocation is not felt within five seconds")
	}
	if _, _, err := other.Find(t.Context(), secret); !errors.Is(err, personal.ErrRevoked) {
		t.Errorf("got %v", err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	list, err := w.List(t.Context(), personal.Filter{ID: made.ID})
	if err != nil || len(list) != 1 || list[0].Used.IsZero() { // written down when the keeper stopped
		t.Errorf("%+v, %v", list, err)
	}
	w.pass(31 * 24 * time.Hour)
	if err := w.store.SweepTokens(t.Context(), w.clock().Add(-30*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if list, err := w.List(t.Context(), personal.Filter{}); err != nil || len(list) != 0 {
		t.Errorf("old tokens stay: %v, %v", list, err)
	}
}
