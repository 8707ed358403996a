package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// freshFor is how old the latest news may be for the cache to be believed. Together with the moment that a store
	// takes to report, a revocation is felt within two seconds however slow this process is.
	freshFor = 1500 * time.Millisecond

	// lostAfter is how old it may be for anybody to be let in at all: until then requests read the store themselves,
	// afterwards they fail, since nobody could tell open streams that their session has ended.
	lostAfter = 10 * time.Second

	// askAfter is how long a session may go unused here until the store is asked whether it was used in another gateway:
	// how long somebody was away must not depend on who answers. A session in use never comes to it.
	askAfter = 2 * touchEvery

	// maxReads bounds the reads of the store under way at once on behalf of requests; others wait.
	maxReads = 16

	// touchEvery is how often at most a session's last-seen time is written down.
	touchEvery = time.Minute

	// maxTouches bounds the sessions whose last-seen time waits to be written; the times of others wait a minute more.
	maxTouches = 1 << 17
)

// Lookup finds the session of an app host's handle. It is what each request calls; a session in use costs no access to
// the store. ErrNoSession for a handle that is unknown, ended, expired or of another host; an error that is
// ErrUnavailable when the store can neither be followed nor read, and then nobody may be let in.
func (k *Keeper) Lookup(ctx context.Context, host, handle string) (*Session, error) {
	if host == "" {
		return nil, ErrNoSession
	}
	return k.lookup(ctx, host, handle)
}

// SignedIn finds the session of a handle of the sign-in host; errors as Lookup.
func (k *Keeper) SignedIn(ctx context.Context, handle string) (*Session, error) {
	return k.lookup(ctx, "", handle)
}

func (k *Keeper) lookup(ctx context.Context, host, handle string) (*Session, error) {
	hash, ok := hashHandle(handle)
	if !ok {
		return nil, ErrNoSession
	}
	fresh, err := k.news.fresh()
	if err != nil {
		return nil, err
	}
	if fresh {
		l, at := k.cache.get(hash)
		if l != nil && at != host {
			return nil, ErrNoSession // a handle never moves: nobody makes the store read again by showing it elsewhere
		}
		if l != nil {
			if s := l.session.Load(); s != nil && k.now().UnixNano()-l.seen.Load() < int64(askAfter) && k.use(l, s) {
				return s, nil
			}
		}
	}
	return k.lookupStored(ctx, host, handle, hash)
}

// lookupStored asks the store, where the cache has no answer or cannot be believed.
func (k *Keeper) lookupStored(ctx context.Context, host, handle string, hash Hash) (*Session, error) {
	if k.absent.has(hash) || !k.made(handle) {
		return nil, ErrNoSession
	}
	mark := k.cache.mark()
	e, at, err := k.get(ctx, hash)
	if errors.Is(err, ErrNoSession) {
		k.absent.add(hash)
		k.cache.forget(hash)
		return nil, ErrNoSession
	}
	if err != nil {
		return nil, unavailable("reading a session", err)
	}
	seen := k.touches.latest(e.ID, e.Seen)
	e.Away, e.Seen = max(e.Away, seen.Sub(e.Seen)), seen
	l, s := k.cache.add(mark, hash, at, e.session())
	if at != host || !k.use(l, s) { // on another host it does not count as seen
		return nil, ErrNoSession
	}
	return s, nil
}

func (k *Keeper) get(ctx context.Context, hash Hash) (Entry, string, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	select {
	case k.reads <- struct{}{}:
		defer func() { <-k.reads }()
	case <-ctx.Done():
		return Entry{}, "", fmt.Errorf("waiting for a read: %w", ctx.Err())
	}
	return k.store.Get(ctx, hash)
}

// use counts a request of the session, unless it has expired. The caller's snapshot is from before the request: its
// Seen tells how long the person was away.
func (k *Keeper) use(l *live, s *Session) bool {
	now := k.now()
	t := now.UnixNano()
	seen := l.seen.Load()
	if k.limits.Load().expired(now, s.Created, time.Unix(0, seen)) {
		return false
	}
	if t-seen >= int64(time.Second) { // to the second, so that a busy session is not written by every request
		advance(&l.seen, t)
	}
	if old := l.touched.Load(); t-old >= int64(touchEvery) && l.touched.CompareAndSwap(old, t) {
		k.touches.add(l.id, now)
		later := *s
		later.Seen = now.UTC().Round(0)
		later.Away = max(s.Away, later.Seen.Sub(s.Seen))
		l.session.CompareAndSwap(s, &later)
	}
	return true
}

// touches are the last-seen times that wait to be written. Until they are, they are known here.
type touches struct {
	mu      sync.Mutex
	waiting map[string]time.Time
	writing map[string]time.Time // taken by the one writer
}

func (t *touches) add(id string, seen time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting == nil {
		t.waiting = make(map[string]time.Time)
	}
	if len(t.waiting) < maxTouches && t.waiting[id].Before(seen) {
		t.waiting[id] = seen
	}
}

// latest returns when a session was last seen: as waits here, or as stored.
func (t *touches) latest(id string, stored time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, seen := range []time.Time{t.waiting[id], t.writing[id]} {
		if seen.After(stored) {
			stored = seen.UTC()
		}
	}
	return stored
}

// take returns at most n times to be written; done must follow.
func (t *touches) take(n int) map[string]time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writing = make(map[string]time.Time, min(n, len(t.waiting)))
	for id, seen := range t.waiting {
		if len(t.writing) == n {
			break
		}
		t.writing[id] = seen
		delete(t.waiting, id)
	}
	return t.writing
}

// done ends what take began; what could not be written waits again.
func (t *touches) done(written bool) {
	t.mu.Lock()
	unwritten := t.writing
	t.writing = nil
	t.mu.Unlock()
	if written {
		return
	}
	for id, seen := range unwritten {
		t.add(id, seen)
	}
}
