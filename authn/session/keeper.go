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

	"sallyport/authn"
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
		ID: rand.Text(), Identity: n.Identity, Version: 1, Created: now, Seen: now,
		UserAgent: clip(n.UserAgent, maxUserAgent), Address: clip(n.Address, maxAddress),
	}
	e.Refresh = k.sealRefresh(e.ID, n.Secrets.RefreshToken)
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
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := k.store.Detach(ctx, s.ID, host, SignedOut); err != nil {
		return nil, unavailable("signing out of a host", err)
	}
	k.cache.drop(s.ID)
	return s, nil
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
			s := e.session()
			s.Seen = k.seen(e)
			if !limits.expired(now, s.Created, s.Seen) {
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
	if f == (Filter{}) {
		return nil, ErrEmptyFilter
	}
	return k.end(ctx, f.match(k.now()), Revoked)
}

// RefreshToken returns the provider's refresh token of a session, "" when there is none, and the session's version,
// which Renew wants back.
func (k *Keeper) RefreshToken(ctx context.Context, sessionID string) (token string, version int64, err error) {
	e, err := k.entry(ctx, sessionID)
	if err != nil {
		return "", 0, err
	}
	if e.Refresh == nil {
		return "", e.Version, nil
	}
	plain, err := k.Open(refreshPurpose(e.ID), string(e.Refresh))
	if err != nil {
		return "", 0, fmt.Errorf("session: refresh token: %w", err)
	}
	return string(plain), e.Version, nil
}

// Renew gives a session a new identity (of the same person) and refresh token, if its version is still the given one:
// of several renewals that began with one refresh token, one is kept and the others get ErrConflict. Requests see the
// new identity at once in this process and within two seconds in others.
func (k *Keeper) Renew(ctx context.Context, sessionID string, version int64, id *authn.Identity, refreshToken string) (*Session, error) {
	e, err := k.entry(ctx, sessionID)
	if err != nil {
		return nil, err
	}
	if id == nil || id.ID() != e.Identity.ID() {
		return nil, errors.New("session: renewal for another identity")
	}
	e.Identity, e.Version = id, version+1
	e.Refresh = k.sealRefresh(e.ID, refreshToken)
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := k.store.Renew(ctx, e); err != nil {
		return nil, unavailable("renewing a session", err)
	}
	k.cache.drop(e.ID)
	return e.session(), nil
}

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

// seen is when a session was last seen: here, if it is in memory, or as stored.
func (k *Keeper) seen(e Entry) time.Time {
	return k.cache.seen(e.ID, k.touches.latest(e.ID, e.Seen))
}

// sealRefresh binds the token to its session, so that it cannot be moved to another row.
func (k *Keeper) sealRefresh(id, token string) []byte {
	if token == "" {
		return nil
	}
	return []byte(k.Seal(refreshPurpose(id), []byte(token)))
}

func refreshPurpose(id string) string { return "session refresh token " + id }

func (e *Entry) session() *Session {
	return &Session{
		ID: e.ID, Identity: e.Identity, Created: e.Created, Seen: e.Seen,
		UserAgent: e.UserAgent, Address: e.Address, Version: e.Version, derived: new(derived),
	}
}

func (f *Filter) match(now time.Time) Match {
	m := Match{ID: f.ID, Subject: f.Subject, Email: f.Email, Provider: f.Provider, Host: f.Host}
	if f.OlderThan > 0 {
		m.CreatedBefore = now.Add(-f.OlderThan)
	}
	return m
}

// unavailable says what failed, and keeps apart what the store knows from what it cannot do.
func unavailable(doing string, err error) error {
	if errors.Is(err, ErrNoSession) || errors.Is(err, ErrConflict) {
		return err
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
