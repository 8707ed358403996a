package session

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

const (
	// maxProviderSession bounds what a provider may call its session. A longer name refuses the sign-in: cut short it
	// would not be found when the provider ends that session.
	maxProviderSession = 1 << 10

	// maxSecrets bounds what is sealed with a session. An ID token that does not fit is left out: it is a hint.
	maxSecrets = 32 << 10

	// raiseTries is how often a sign-in is tried again when the session is renewed in the background meanwhile.
	raiseTries = 4
)

// Secrets returns what the provider handed over with a session, and the session's version, which Renew wants back.
func (k *Keeper) Secrets(ctx context.Context, sessionID string) (Secrets, int64, error) {
	e, err := k.entry(ctx, sessionID)
	if err != nil {
		return Secrets{}, 0, err
	}
	s, err := k.disclose(&e)
	if err != nil {
		return Secrets{}, 0, err
	}
	return s, e.Version, nil
}

// Renew gives a session what its provider said anew, if its version is still the given one: of several renewals that
// began with one refresh token, one is kept and the others get ErrConflict. Requests see the new identity at once in
// this process and within two seconds in others. What Renew stored is durable when it returns.
func (k *Keeper) Renew(ctx context.Context, sessionID string, version int64, r Renewal) (*Session, error) {
	e, err := k.entry(ctx, sessionID)
	if err != nil {
		return nil, err
	}
	if e.Version != version {
		return nil, ErrConflict
	}
	if err := k.renew(&e, r); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := k.store.Renew(ctx, e); err != nil {
		return nil, unavailable("renewing a session", err)
	}
	k.cache.drop(e.ID)
	return e.session(), nil
}

// Raise is what becomes of a session when its person has proved themselves to the provider again: it is renewed,
// whatever its version, and the browser gets a new handle on the sign-in host, because a handle from before more was
// proved must not be worth more afterwards. The old one is dead. The handles on app hosts live on, and Created stays:
// the absolute limit holds. ErrNoSession when oldHandle is not the session's on the sign-in host.
func (k *Keeper) Raise(ctx context.Context, sessionID, oldHandle string, r Renewal) (handle string, s *Session, err error) {
	old, ok := hashHandle(oldHandle)
	if !ok {
		return "", nil, ErrNoSession
	}
	for range raiseTries {
		handle, s, err = k.raise(ctx, sessionID, old, r)
		if !errors.Is(err, ErrConflict) {
			break
		}
	}
	return handle, s, err
}

func (k *Keeper) raise(ctx context.Context, sessionID string, old Hash, r Renewal) (string, *Session, error) {
	e, err := k.entry(ctx, sessionID)
	if err != nil {
		return "", nil, err
	}
	if err := k.renew(&e, r); err != nil {
		return "", nil, err
	}
	now := k.now().UTC().Round(0)
	e.Raised, e.Away = now, 0
	if now.After(e.Seen) { // so that a pause that ended just before is not written down after
		e.Seen = now
	}
	handle, hash := k.newHandle()
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := k.store.Raise(ctx, e, old, Handle{Hash: hash, Made: now}); err != nil {
		return "", nil, unavailable("raising a session", err)
	}
	k.cache.drop(e.ID)
	return handle, e.session(), nil
}

// renew makes the entry that follows another. It keeps the ID token when the provider gave no other one.
func (k *Keeper) renew(e *Entry, r Renewal) error {
	if r.Identity == nil || r.Identity.ID() != e.Identity.ID() {
		return errors.New("session: renewal for another identity")
	}
	if r.Secrets.IDToken == "" {
		before, err := k.disclose(e)
		if err != nil {
			return err
		}
		r.Secrets.IDToken = before.IDToken
	}
	if r.ProviderSession == "" {
		r.ProviderSession = e.ProviderSession
	}
	if r.At.IsZero() {
		r.At = k.now()
	}
	k.catchUp(e)
	e.Identity, e.Version, e.Checked, e.Hosts = r.Identity, e.Version+1, r.At.UTC().Round(0), nil
	return k.enclose(e, r.Secrets, r.ProviderSession)
}

// enclose puts into an entry what the provider handed over, sealed and bound to the session, so that it cannot be moved
// to another row.
func (k *Keeper) enclose(e *Entry, s Secrets, providerSession string) error {
	if len(providerSession) > maxProviderSession {
		return fmt.Errorf("session: the provider's name of its session is %d bytes long, at most %d are kept", len(providerSession), maxProviderSession)
	}
	if len(s.RefreshToken) > maxSecrets {
		return fmt.Errorf("session: a refresh token of %d bytes, at most %d are kept", len(s.RefreshToken), maxSecrets)
	}
	if len(s.RefreshToken)+len(s.IDToken) > maxSecrets {
		s.IDToken = ""
	}
	e.ProviderSession, e.Refreshable, e.Secrets = providerSession, s.RefreshToken != "", nil
	if s == (Secrets{}) {
		return nil
	}
	plain, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("session: sealing secrets: %w", err)
	}
	e.Secrets = []byte(k.Seal(secretsPurpose(e.ID), plain))
	return nil
}

// disclose opens what enclose sealed, or the refresh token alone that was sealed before there was more.
func (k *Keeper) disclose(e *Entry) (Secrets, error) {
	if e.Secrets == nil {
		return Secrets{}, nil
	}
	if token, err := k.Open(refreshPurpose(e.ID), string(e.Secrets)); err == nil {
		return Secrets{RefreshToken: string(token)}, nil
	}
	plain, err := k.Open(secretsPurpose(e.ID), string(e.Secrets))
	if err != nil {
		return Secrets{}, fmt.Errorf("session: what the provider handed over: %w", err)
	}
	var s Secrets
	if err := json.Unmarshal(plain, &s); err != nil {
		return Secrets{}, fmt.Errorf("session: what the provider handed over: %w", ErrSealed)
	}
	return s, nil
}

func secretsPurpose(id string) string { return "session secrets " + id }

func refreshPurpose(id string) string { return "session refresh token " + id }

// clip bounds what a browser or its certificate said.
func (b Bound) clip() Bound {
	return Bound{
		Certificate: clip(b.Certificate, maxBound), UserAgent: clip(b.UserAgent, maxBound),
		Network: clip(b.Network, maxBound), Country: clip(b.Country, maxBound),
	}
}

const maxBound = 1 << 10

// Claim takes a name for a time, for work that one process must do alone, such as asking the provider with a refresh
// token that works once: mine says whether it was free. release gives it back early and is never nil. A process that
// dies keeps the name for no longer than the time.
func (k *Keeper) Claim(ctx context.Context, name string, hold time.Duration) (mine bool, release func(), err error) {
	holder, now := rand.Text(), k.now()
	call, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	mine, err = k.store.Lease(call, name, holder, now, now.Add(hold))
	if err != nil {
		return false, func() {}, unavailable("claiming a name", err)
	}
	if !mine {
		return false, func() {}, nil
	}
	return true, func() { k.release(context.WithoutCancel(ctx), name, holder) }, nil
}

// release need not succeed: the claim ends by itself.
func (k *Keeper) release(ctx context.Context, name, holder string) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := k.store.Release(ctx, name, holder); err != nil {
		k.log.WarnContext(ctx, "a claim is held until its time is over", "error", err)
	}
}
