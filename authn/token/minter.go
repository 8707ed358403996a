package token

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sallyport/authn"
	"sallyport/authn/session"
)

const (
	// Lifetime is how long an assertion holds: exp = iat + 60 s.
	Lifetime = time.Minute
	// reuseUntil is how much of its lifetime an assertion must have left to be handed out again, so that what an app
	// receives does not run out on the way.
	reuseUntil = 20 * time.Second
	// lastResort is how much it must have left to be handed out when no new one can be had.
	lastResort = 2 * time.Second
	// signTimeout bounds one signature.
	signTimeout = 2 * time.Second
	// defaultCapacity bounds what a Minter remembers: at 2 KiB each, 64 MiB.
	defaultCapacity = 32 << 10
)

// MinterConfig is what a [Minter] needs.
type MinterConfig struct {
	Issuer   string           // https://auth.<domain>[:port]
	Signer   Signer           // the key of purpose assertion; it may be [Rotating], and then see [Minter.Publish]
	Further  []Signer         // keys that are published beside it, because they signed before or will
	Capacity int              // how many assertions are remembered; 0: 32,768
	Now      func() time.Time // nil: time.Now
}

// Minter makes the assertions that tell apps who is asking. An assertion is reused for the same session, app and version
// of the identity until 20 s of its minute are left; a new one is signed once however many requests wait for it. While
// no signature can be had, what was signed before is used until it expires, and then there is none. Its methods may be
// called at once from many goroutines; those that find what they need take no lock.
type Minter struct {
	issuer string
	signer Signer
	jwks   atomic.Pointer[[]byte]
	now    func() time.Time
	half   int64 // entries of one generation

	recent atomic.Pointer[generation]
	older  atomic.Pointer[generation]
	rotate sync.Mutex
}

// generation is half of what is remembered. When the recent one is full it becomes the older one, and what was not asked
// for meanwhile goes.
type generation struct {
	entries sync.Map // key → *entry
	count   atomic.Int64
}

// entry is one assertion being reused.
type entry struct {
	latest  atomic.Pointer[minted]
	signing chan struct{} // holds one element while somebody signs
}

type minted struct {
	token   string
	expires time.Time
}

// NewMinter returns a Minter. A key that cannot sign ES256 is an error.
func NewMinter(cfg MinterConfig) (*Minter, error) {
	if cfg.Issuer == "" {
		return nil, errors.New("assertions need an issuer")
	}
	if cfg.Capacity == 0 {
		cfg.Capacity = defaultCapacity
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	m := &Minter{issuer: cfg.Issuer, signer: cfg.Signer, now: cfg.Now, half: max(int64(cfg.Capacity)/2, 1)}
	if err := m.Publish(append([]Signer{cfg.Signer}, cfg.Further...)...); err != nil {
		return nil, err
	}
	m.recent.Store(&generation{})
	m.older.Store(&generation{})
	return m, nil
}

type key struct {
	session, audience string
	version           int64
}

// Claims are the content of an assertion.
type Claims struct {
	jwt.RegisteredClaims
	Email            string   `json:"email,omitempty"`
	EmailVerified    bool     `json:"email_verified,omitempty"`
	Name             string   `json:"name,omitempty"`
	Groups           []string `json:"groups"`
	GroupsIncomplete bool     `json:"groups_incomplete,omitempty"`
}

// JWKS is the document by which apps check assertions.
func (m *Minter) JWKS() []byte { return *m.jwks.Load() }

// Publish makes these the keys of JWKS: those that sign, signed lately or will. Assertions that are remembered stay in use
// until they expire, so a key must be among them for a minute after its last signature.
func (m *Minter) Publish(keys ...Signer) error {
	jwks, err := JWKS(keys...)
	if err != nil {
		return err
	}
	m.jwks.Store(&jwks)
	return nil
}

// Assertion tells the app at audience, an origin such as https://wiki.corp.example, whose session s is, in a token that
// still holds for a while. It fails when none can be signed and none that was signed before is left.
func (m *Minter) Assertion(ctx context.Context, s *session.Session, audience string) (string, error) {
	e := m.entry(key{s.ID, audience, s.Version})
	have := e.latest.Load()
	if have.left(m.now()) > reuseUntil {
		return have.token, nil
	}
	return m.renew(ctx, e, s.Identity, audience)
}

// left is how long t still holds; nothing holds for no time.
func (t *minted) left(now time.Time) time.Duration {
	if t == nil {
		return 0
	}
	return t.expires.Sub(now)
}

// entry finds or makes the entry of k and keeps it among the recent ones.
func (m *Minter) entry(k key) *entry {
	recent := m.recent.Load()
	if e, ok := recent.entries.Load(k); ok {
		return e.(*entry)
	}
	fresh := &entry{signing: make(chan struct{}, 1)}
	if e, ok := m.older.Load().entries.Load(k); ok {
		fresh = e.(*entry)
	}
	e, known := recent.entries.LoadOrStore(k, fresh)
	if !known && recent.count.Add(1) >= m.half {
		m.forget(recent)
	}
	return e.(*entry)
}

// forget starts a new generation, once per generation that is full.
func (m *Minter) forget(full *generation) {
	m.rotate.Lock()
	defer m.rotate.Unlock()
	if m.recent.Load() == full {
		m.older.Store(full)
		m.recent.Store(&generation{})
	}
}

// renew signs a new assertion, one caller at a time. Those who still have one that holds do not wait.
func (m *Minter) renew(ctx context.Context, e *entry, who *authn.Identity, audience string) (string, error) {
	have := e.latest.Load()
	usable := have.left(m.now()) > lastResort
	select {
	case e.signing <- struct{}{}:
		defer func() { <-e.signing }()
	default:
		if usable {
			return have.token, nil
		}
		select {
		case e.signing <- struct{}{}:
			defer func() { <-e.signing }()
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	if again := e.latest.Load(); again.left(m.now()) > reuseUntil { // another caller signed while we waited
		return again.token, nil
	}
	fresh, err := m.sign(ctx, who, audience)
	switch {
	case err == nil:
		e.latest.Store(fresh)
		return fresh.token, nil
	case usable:
		return have.token, nil
	}
	return "", err
}

func (m *Minter) sign(ctx context.Context, who *authn.Identity, audience string) (*minted, error) {
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	now := m.now().Truncate(time.Second)
	claims := Claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    m.issuer,
			Audience:  jwt.ClaimStrings{audience},
			Subject:   who.ID(),
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(Lifetime)),
		},
		Email: who.Email, EmailVerified: who.EmailVerified, Name: who.Name,
		Groups: who.Groups, GroupsIncomplete: who.GroupsIncomplete,
	}
	if claims.Groups == nil {
		claims.Groups = []string{}
	}
	token, err := Sign(ctx, m.signer, claims)
	if err != nil {
		return nil, err
	}
	return &minted{token, now.Add(Lifetime)}, nil
}
