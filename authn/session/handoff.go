package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// HandOffTime is how long a hand-off code can be redeemed: the time of one redirect.
const HandOffTime = 30 * time.Second

const handOffPurpose = "session hand-off"

// handOff is what a code holds. It is sealed, so the server remembers nothing until a code is redeemed.
type handOff struct {
	ID      string    `json:"id"` // spent by the first redemption
	Session string    `json:"session"`
	Host    string    `json:"host"`
	Back    string    `json:"back"` // BackHash of the verifier in the browser's back cookie on that host
	Expires time.Time `json:"expires"`
}

// BackHash is the hash by which a hand-off is bound to the back cookie's verifier: SHA-256 in base64url, as in RFC
// 7636 §4.2. The app host sends it to the sign-in host, the verifier never leaves the browser and the app host.
func BackHash(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// HandOff makes the one-time code that carries a session from the sign-in host to an app host. Only a browser on that
// host that holds the verifier of backHash can redeem it, once, within HandOffTime: a code that an attacker obtained
// for a session of their own is of no use in anybody else's browser.
func (k *Keeper) HandOff(ctx context.Context, sessionID, host, backHash string) (code string, err error) {
	if host == "" || backHash == "" {
		return "", fmt.Errorf("session: hand-off to host %q needs a host and a hash", host)
	}
	if _, err := k.entry(ctx, sessionID); err != nil {
		return "", err
	}
	plain, err := json.Marshal(handOff{
		ID: rand.Text(), Session: sessionID, Host: host, Back: backHash, Expires: k.now().UTC().Add(HandOffTime),
	})
	if err != nil {
		return "", fmt.Errorf("session: making a hand-off code: %w", err)
	}
	return k.Seal(handOffPurpose, plain), nil
}

// Redeem exchanges a code for a handle on the app host. It fails with ErrCodeInvalid, ErrCodeExpired, ErrCodeSpent, or
// with ErrNoSession when the session ended since. A code shown by the wrong browser or on the wrong host is not spent:
// its owner can still use it.
func (k *Keeper) Redeem(ctx context.Context, code, host, backVerifier string) (handle string, s *Session, err error) {
	h, err := k.openHandOff(code, host, backVerifier)
	if err != nil {
		return "", nil, err
	}
	e, err := k.entry(ctx, h.Session)
	if err != nil {
		return "", nil, err
	}
	first, err := k.Spend(ctx, "hand-off "+h.ID, h.Expires)
	if err != nil {
		return "", nil, err
	}
	if !first {
		return "", nil, ErrCodeSpent
	}
	handle, hash := k.newHandle()
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := k.store.Attach(ctx, h.Session, Handle{Hash: hash, Host: host, Made: k.now().UTC().Round(0)}); err != nil {
		return "", nil, unavailable("storing a handle", err)
	}
	return handle, e.session(), nil
}

func (k *Keeper) openHandOff(code, host, backVerifier string) (*handOff, error) {
	plain, err := k.Open(handOffPurpose, code)
	if err != nil {
		return nil, ErrCodeInvalid
	}
	var h handOff
	if err := json.Unmarshal(plain, &h); err != nil {
		return nil, ErrCodeInvalid
	}
	if h.Host != host || subtle.ConstantTimeCompare([]byte(BackHash(backVerifier)), []byte(h.Back)) != 1 {
		return nil, ErrCodeInvalid
	}
	left := h.Expires.Sub(k.now())
	if left <= 0 || left > HandOffTime+spentMargin { // too far ahead: the clock was set back, the id may be forgotten
		return nil, ErrCodeExpired
	}
	return &h, nil
}
