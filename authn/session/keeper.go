package session

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
)

const (
	// storeTimeout bounds each call of the store: a request waits no longer for a store that hangs.
	storeTimeout = 5 * time.Second

	// pageSize is how many sessions a list or a revocation takes from the store at once, so that nobody else waits long.
	pageSize = 500

	maxUserAgent = 256
	maxAddress   = 64
)

// Keeper makes, finds and ends sessions. Lookups of sessions in use touch neither the store nor a lock that all
// requests share; Run keeps them true. Its methods may be called from any number of goroutines.
type Keeper struct {
	store Store
	keys  keyring
	now   func() time.Time
	log   *slog.Logger

	limits  atomic.Pointer[Config]
	cache   *cache
	absent  absent
	reads   chan struct{} // one token for each read of the store under way on behalf of a request
	touches touches
	news    *news
	ends    listeners
}

// NewKeeper returns the keeper of the sessions in store, which it does not close. now is the wall clock by which
// sessions and codes expire (nil means time.Now), log receives changes of state (nil means none).
func NewKeeper(cfg Config, store Store, now func() time.Time, log *slog.Logger) (*Keeper, error) {
	if now == nil {
		now = time.Now
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	keys, err := store.SealingKeys(ctx)
	if err != nil {
		return nil, unavailable("reading the sealing keys", err)
	}
	ring, err := newKeyring(keys)
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	k := &Keeper{
		store: store, keys: ring, now: now, log: log,
		cache: newCache(maxCached), reads: make(chan struct{}, maxReads), news: newNews(),
	}
	return k, k.Configure(cfg)
}

// Configure changes the limits, for sessions that exist as well. On an error the old ones stay.
func (k *Keeper) Configure(cfg Config) error {
	if err := cfg.Check(); err != nil {
		return fmt.Errorf("session: %w", err)
	}
	k.limits.Store(&cfg)
	return nil
}

// SignIn makes a session and the handle for it on the sign-in host. Both are always new: whatever the browser sent
// before the sign-in has no part in them. The session is durable when SignIn returns.
func (k *Keeper) SignIn(ctx context.Context, n NewSession) (handle string, s *Session, err error) {
	if n.Identity == nil {
		return "", nil, errors.New("session: sign-in without an identity")
	}
	now := k.now().UTC().Round(0)
	e := Entry{
		ID: rand.Text(), Identity: n.Identity, Version: 1, Created: now, Seen: now, Checked: now, Raised: now,
		UserAgent: clip(n.UserAgent, maxUserAgent), Address: clip(n.Address, maxAddress), Bound: n.Bound.clip(),
	}
	if err := k.enclose(&e, n.Secrets, n.ProviderSession); err != nil {
		return "", nil, err
	}
	handle, hash := k.newHandle()
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := k.store.Put(ctx, e, hash); err != nil {
		return "", nil, unavailable("storing a session", err)
	}
	return handle, e.session(), nil
}

// SignOut ends a session on all hosts. One that is gone already is no error.
func (k *Keeper) SignOut(ctx context.Context, sessionID string) error {
	if sessionID == "" {
		return ErrNoSession
	}
	_, err := k.end(ctx, Match{ID: sessionID}, SignedOut)
	return err
}

// SignOutHost ends the session's part on one app host, whose handle it takes: every handle that the session has there.
// It returns the session, which lives on. ErrNoSession when the handle is not valid on that host.
func (k *Keeper) SignOutHost(ctx context.Context, host, handle string) (*Session, error) {
	s, err := k.Lookup(ctx, host, handle)
	if err != nil {
		return nil, err
	}
	return s, k.Leave(ctx, s.ID, host)
}

// Leave is SignOutHost for whoever knows the session and not its handle there. ErrNoSession when it has none.
func (k *Keeper) Leave(ctx context.Context, sessionID, host string) error {
	if sessionID == "" || host == "" {
		return ErrNoSession
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := k.store.Detach(ctx, sessionID, host, SignedOut); err != nil {
		return unavailable("signing out of a host", err)
	}
	k.cache.drop(sessionID)
	return nil
}

// Hosts returns the app hosts that a living session has handles on, sorted.
func (k *Keeper) Hosts(ctx context.Context, sessionID string) ([]string, error) {
	e, err := k.entry(ctx, sessionID)
	if err != nil {
		return nil, err
	}
	return e.Hosts, nil
}

// List returns the living sessions that match, in order of id; Seen is exact to a minute. The zero Filter lists all.
func (k *Keeper) List(ctx context.Context, f Filter) ([]Session, error) {
	now, limits := k.now(), k.limits.Load()
	var found []Session
	for after := ""; ; {
		page, err := k.page(ctx, f.match(now), after)
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			k.catchUp(&e)
			s := e.session()
			if !limits.expired(now, s.Created, s.Seen) && now.Sub(s.Seen) >= f.IdleFor {
				found = append(found, *s)
			}
		}
		if len(page) < pageSize {
			return found, nil
		}
		after = page[len(page)-1].ID
	}
}

// Surplus returns a person's (provider|subject) living sessions beyond as many as one person may have, oldest first.
func (k *Keeper) Surplus(ctx context.Context, person string) ([]Session, error) {
	most := k.limits.Load().MaxPerPerson
	if most == 0 || person == "" {
		return nil, nil
	}
	all, err := k.List(ctx, Filter{Subject: person})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b Session) int { return a.Created.Compare(b.Created) })
	return all[:max(len(all)-most, 0)], nil
}

// Revoke ends the sessions that match, on all hosts, and returns them. When it returns, no lookup in this process
// finds them; other processes follow within two seconds. After an error the sessions returned have ended and others
// may not have. A zero Filter is ErrEmptyFilter.
func (k *Keeper) Revoke(ctx context.Context, f Filter) ([]Session, error) {
	return k.End(ctx, f, Revoked)
}

// End is Revoke for another reason, which those who listen by OnEnd are told.
func (k *Keeper) End(ctx context.Context, f Filter, reason string) ([]Session, error) {
	if f.empty() {
		return nil, ErrEmptyFilter
	}
	if f.IdleFor > 0 { // what this process knows of last uses must count
		if err := k.flush(ctx); err != nil {
			return nil, unavailable("ending sessions", err)
		}
	}
	return k.end(ctx, f.match(k.now()), reason)
}

// Count returns how many sessions are stored. Some of them may have reached a limit in the last minutes.
func (k *Keeper) Count(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	n, err := k.store.Count(ctx)
	if err != nil {
		return 0, unavailable("counting sessions", err)
	}
	return n, nil
}

// Current returns a living session as it is stored now, for those who waited for somebody else's renewal.
func (k *Keeper) Current(ctx context.Context, sessionID string) (*Session, error) {
	e, err := k.entry(ctx, sessionID)
	if err != nil {
		return nil, err
	}
	k.catchUp(&e)
	return e.session(), nil
}

// Limits returns the limits in force.
func (k *Keeper) Limits() Config { return *k.limits.Load() }

// Spend remembers an id until the given time and returns true the first time, false ever after: in all processes on
// the store, durably. An id that is spent a minute after its time is refused with an error, since it may have been
// forgotten.
func (k *Keeper) Spend(ctx context.Context, id string, until time.Time) (bool, error) {
	if k.now().Sub(until) > time.Minute {
		return false, errors.New("session: spending an id past its time")
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	first, err := k.store.Spend(ctx, id, until.Add(spentMargin))
	if err != nil {
		return false, unavailable("spending an id", err)
	}
	return first, nil
}

// spentMargin is how much longer than asked ids stay spent, so that a clock set back revives none of them.
const spentMargin = 5 * time.Minute

// end deletes all that match, page by page, and forgets each page before the next.
func (k *Keeper) end(ctx context.Context, m Match, reason string) ([]Session, error) {
	var ended []Session
	for {
		page, err := k.endPage(ctx, m, reason)
		for _, e := range page {
			ended = append(ended, *e.session())
		}
		if err != nil || len(page) < pageSize {
			return ended, err
		}
	}
}

func (k *Keeper) endPage(ctx context.Context, m Match, reason string) ([]Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	page, err := k.store.Delete(ctx, m, reason, pageSize)
	if err != nil {
		return nil, unavailable("ending sessions", err)
	}
	for _, e := range page {
		k.cache.drop(e.ID)
	}
	return page, nil
}

func (k *Keeper) page(ctx context.Context, m Match, after string) ([]Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	page, err := k.store.List(ctx, m, after, pageSize)
	if err != nil {
		return nil, unavailable("listing sessions", err)
	}
	return page, nil
}

// entry reads a living session by its public id.
func (k *Keeper) entry(ctx context.Context, id string) (Entry, error) {
	if id == "" {
		return Entry{}, ErrNoSession
	}
	page, err := k.page(ctx, Match{ID: id}, "")
	if err != nil {
		return Entry{}, err
	}
	if len(page) == 0 || k.limits.Load().expired(k.now(), page[0].Created, k.seen(page[0])) {
		return Entry{}, ErrNoSession
	}
	return page[0], nil
}

// catchUp adds to what is stored what is not yet written.
func (k *Keeper) catchUp(e *Entry) {
	seen := k.seen(*e)
	e.Away = max(e.Away, seen.Sub(e.Seen))
	e.Seen = seen
}

// seen is when a session was last seen: here, if it is in memory, or as stored.
func (k *Keeper) seen(e Entry) time.Time {
	return k.cache.seen(e.ID, k.touches.latest(e.ID, e.Seen))
}

func (e *Entry) session() *Session {
	return &Session{
		ID: e.ID, Identity: e.Identity, Created: e.Created, Seen: e.Seen, UserAgent: e.UserAgent, Address: e.Address,
		ProviderSession: e.ProviderSession, Bound: e.Bound, Checked: e.Checked, Refreshable: e.Refreshable,
		Raised: e.Raised, Away: e.Away, Version: e.Version, Hosts: e.Hosts, derived: new(derived),
	}
}

func (f *Filter) match(now time.Time) Match {
	m := Match{
		ID: f.ID, Except: f.Except, Subject: f.Subject, Email: f.Email, Provider: f.Provider, ProviderSession: f.ProviderSession,
		Host: f.Host, UserAgent: clip(f.UserAgent, maxUserAgent),
	}
	if f.OlderThan > 0 {
		m.CreatedBefore = now.Add(-f.OlderThan)
	}
	if f.IdleFor > 0 {
		m.SeenBefore = now.Add(-f.IdleFor)
	}
	return m
}

// unavailable says what failed, and keeps apart what the store knows from what it cannot do.
func unavailable(doing string, err error) error {
	for _, known := range []error{ErrNoSession, ErrConflict, ErrNoForm, ErrFormRefused, ErrNoPerson} {
		if errors.Is(err, known) {
			return err
		}
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, doing, err)
}

// clip makes what a browser said fit for a list: valid UTF-8, no control characters, bounded.
func clip(s string, most int) string {
	s = strings.ToValidUTF8(s[:min(len(s), most)], "")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
}
