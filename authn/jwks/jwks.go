// Package jwks keeps the public keys that an issuer publishes (RFC 7517) and finds the one that a token names.
//
// A [Set] belongs to one issuer and one URL: keys of different issuers never meet, whatever they are called. It is fetched
// when it is needed and never because a token says so: addresses and keys inside a token are not looked at. What it costs
// and how far it believes is bounded by the constants below. Looking up a key that is known takes no lock.
//
// The package checks no claims: issuer, audience and times are the caller's.
package jwks

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a set.
const (
	// Refresh is how old keys may be when they are used: older ones are fetched again first. A key that the issuer
	// withdraws is refused after Refresh and one fetch.
	Refresh = 5 * time.Minute
	// early is how long before that a lookup begins the fetch without waiting for it.
	early = time.Minute
	// UnknownKey is how often, at most, a key that is not known makes the set be fetched. A new key works after that time
	// and one fetch at the latest.
	UnknownKey = 30 * time.Second
	// Retry is how often, at most, the set is fetched while the issuer does not answer.
	Retry = 30 * time.Second
	// Outage is how long keys are believed while the issuer does not answer.
	Outage = 24 * time.Hour
	// MaxKeys is how many keys a set may hold.
	MaxKeys = 100
	// fetchTimeout bounds one fetch.
	fetchTimeout = 10 * time.Second
)

// The errors of a lookup.
var (
	// ErrUnknownKey: the issuer publishes no such key, as far as we may ask.
	ErrUnknownKey = errors.New("no such key at the issuer")
	// ErrUnavailable: the issuer's keys are not known, so nothing can be said about a token.
	ErrUnavailable = errors.New("keys of the issuer are not available")
)

// Config says whose keys a set holds.
type Config struct {
	// Issuer is the issuer's URL, by which its keys are found when URL is empty (OpenID Connect Discovery §4), anew at each
	// fetch. It also names the set in the log.
	Issuer string
	// URL is where the keys are.
	URL string
	// Client is bounded in time and size; see package remote.
	Client *http.Client
	Now    func() time.Time // nil: time.Now
	Log    *slog.Logger     // nil: nothing is logged
}

// Set is the keys of one issuer. Its methods may be called at once from many goroutines.
type Set struct {
	cfg Config

	held atomic.Pointer[snapshot] // nil until the first fetch succeeded

	mu      sync.Mutex
	current *fetch    // the fetch under way; nil: none
	tried   time.Time // when the latest fetch began
	unknown time.Time // when the latest one for an unknown key began
	failure error     // what became of the latest that ended
}

// snapshot is what one fetch found. It is replaced as a whole, so that what the issuer withdrew is gone.
type snapshot struct {
	keys map[string][]key // by key id
	at   time.Time        // when the fetch began
}

// fetch is one call that many may wait for.
type fetch struct {
	done chan struct{}
	err  error // set before done is closed
}

// New returns a set that has not been fetched yet.
func New(cfg Config) *Set {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Set{cfg: cfg}
}

// URL is where the set was told that its keys are.
func (s *Set) URL() string { return s.cfg.URL }

// Key returns the key that verifies tokens which name it by kid and alg: an *rsa.PublicKey, *ecdsa.PublicKey or
// ed25519.PublicKey of the kind that alg needs. Without a kid there must be no choice. The errors wrap [ErrUnknownKey] or
// [ErrUnavailable].
func (s *Set) Key(ctx context.Context, kid, alg string) (crypto.PublicKey, error) {
	if _, known := algorithms[alg]; !known {
		return nil, fmt.Errorf("algorithm is not one that public keys verify: %w", ErrUnknownKey)
	}
	held, err := s.fresh(ctx)
	if err != nil {
		return nil, err
	}
	if found := held.find(kid, alg); found != nil {
		return found, nil
	}
	if held, err = s.look(ctx, held); err != nil {
		return nil, err
	}
	if found := held.find(kid, alg); found != nil {
		return found, nil
	}
	return nil, ErrUnknownKey
}

// fresh returns keys that are young enough to be used, or as good as can be had while the issuer does not answer.
func (s *Set) fresh(ctx context.Context) (*snapshot, error) {
	held, now := s.held.Load(), s.cfg.Now()
	if held != nil && now.Sub(held.at) < Refresh-early && !now.Before(held.at) {
		return held, nil
	}
	s.mu.Lock()
	running := s.begin(now, s.tried, Retry)
	down := s.failure != nil && now.Sub(s.tried) < Refresh
	s.mu.Unlock()
	switch {
	case held != nil && now.Sub(held.at) < Refresh, held != nil && down && now.Sub(held.at) < Outage:
		return held, nil // the fetch goes on without us
	case running != nil:
		if err := running.wait(ctx); err != nil && ctx.Err() != nil {
			return nil, unavailable(err)
		}
	}
	return s.believed(now)
}

// believed returns what is held unless it is too old for that.
func (s *Set) believed(now time.Time) (*snapshot, error) {
	if held := s.held.Load(); held != nil && now.Sub(held.at) < Outage {
		return held, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return nil, unavailable(s.failure)
}

func unavailable(cause error) error {
	if cause == nil {
		return ErrUnavailable
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, cause)
}

// look fetches the keys once more for one that seen does not have, as often as UnknownKey allows.
func (s *Set) look(ctx context.Context, seen *snapshot) (*snapshot, error) {
	now := s.cfg.Now()
	s.mu.Lock()
	running := s.begin(now, s.unknown, UnknownKey)
	if running != nil {
		s.unknown = now
	}
	s.mu.Unlock()
	if running == nil {
		return s.held.Load(), nil
	}
	if err := running.wait(ctx); err != nil { // whether there is such a key now, nobody knows
		return nil, unavailable(err)
	}
	return s.held.Load(), nil
}

// begin returns the fetch under way, or begins one unless the last was less than pause ago, and then returns nil. It needs
// s.mu.
func (s *Set) begin(now, last time.Time, pause time.Duration) *fetch {
	if s.current != nil {
		return s.current
	}
	if since := now.Sub(last); !last.IsZero() && since >= 0 && since < pause {
		return nil
	}
	f := &fetch{done: make(chan struct{})}
	s.current, s.tried = f, now
	// Nobody's leaving cancels what others wait for; the client's deadline ends it.
	go s.run(f, now)
	return f
}

func (s *Set) run(f *fetch, began time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	keys, err := s.download(ctx)
	if err == nil {
		s.held.Store(&snapshot{keys: keys, at: began})
	}
	s.mu.Lock()
	s.noteLocked(err)
	s.current, f.err = nil, err
	s.mu.Unlock()
	close(f.done)
}

// noteLocked logs a change between reachable and not.
func (s *Set) noteLocked(err error) {
	switch {
	case err != nil && s.failure == nil:
		s.cfg.Log.Warn("keys of an issuer cannot be fetched", "issuer", s.cfg.Issuer, "error", err)
	case err == nil && s.failure != nil:
		s.cfg.Log.Info("keys of an issuer are fetched again", "issuer", s.cfg.Issuer)
	}
	s.failure = err
}

func (f *fetch) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
