// Package session keeps who is signed in.
//
// One sign-in in one browser is a Session, the parent. The browser holds a handle for it on the sign-in host and one
// child handle for each app host it visited; a handle is a random cookie value, works only on the host it was made
// for, and is stored only as a hash. Idle and absolute limits and revocation belong to the parent, so that ending it
// ends every child with it.
//
// Keeper is all that the gateway uses. Behind it a Store keeps the sessions: package sqlite on one machine. Package
// sessiontest is the suite that every Store passes.
//
// The package sets no cookies and speaks no HTTP.
package session

import (
	"errors"
	"fmt"
	"time"

	"sallyport/authn"
)

// What Keeper's methods fail with, besides the errors of a context that ended; ask with errors.Is.
var (
	// ErrNoSession: the handle or session id is unknown, ended, expired or belongs to another host. Signing in helps.
	ErrNoSession = errors.New("no such session")

	// ErrUnavailable: the store cannot be read, written or followed. Nobody may be let in meanwhile.
	ErrUnavailable = errors.New("session store unavailable")

	// ErrConflict: the session has changed since the version that an update was based on.
	ErrConflict = errors.New("session was changed meanwhile")

	// ErrCodeInvalid: a hand-off code that is not ours, or is for another host or another browser.
	ErrCodeInvalid = errors.New("hand-off code is not valid here")
	// ErrCodeExpired: a hand-off code older than HandOffTime.
	ErrCodeExpired = errors.New("hand-off code has expired")
	// ErrCodeSpent: a hand-off code that was redeemed before.
	ErrCodeSpent = errors.New("hand-off code was used before")

	// ErrSealed: a sealed text that we did not seal, or not for this purpose, or with a key that is gone.
	ErrSealed = errors.New("sealed text cannot be opened")

	// ErrEmptyFilter: Revoke was asked to end nothing in particular.
	ErrEmptyFilter = errors.New("nothing says which sessions to revoke")
)

// Config sets how long a sign-in lasts.
type Config struct {
	// Idle is how long a session lives without a request. Default 8h. A request is written down at most once a minute,
	// so after a restart of the gateway a session may end up to a minute early.
	Idle time.Duration `yaml:"idle" default:"8h"`

	// Absolute is how long a session lives from sign-in, however busy it is. Default 24h.
	Absolute time.Duration `yaml:"absolute" default:"24h"`

	// MaxPerPerson is how many sessions one person may have, in all browsers together. A sign-in beyond it ends the oldest.
	// Default 100; 0 is no limit.
	MaxPerPerson int `yaml:"max_per_person" default:"100"`
}

// Check refuses limits that no one can mean.
func (c *Config) Check() error {
	if c.Idle < time.Second {
		return fmt.Errorf("idle: %v is shorter than a second", c.Idle)
	}
	if c.Absolute < time.Second {
		return fmt.Errorf("absolute: %v is shorter than a second", c.Absolute)
	}
	if c.MaxPerPerson < 0 {
		return fmt.Errorf("max_per_person: %d is negative", c.MaxPerPerson)
	}
	return nil
}

// expired says whether a session made and last used at these times has reached a limit.
func (c *Config) expired(now, created, seen time.Time) bool {
	return now.Sub(created) >= c.Absolute || now.Sub(seen) >= c.Idle
}

// Session is one sign-in in one browser. It is an immutable snapshot, shared between goroutines.
type Session struct {
	ID       string          // public id for records and lists: random, tells nothing about any handle
	Identity *authn.Identity // who signed in
	Created  time.Time       // when they signed in
	Seen     time.Time       // when the browser was last seen before this request, to the minute

	UserAgent string // of the browser at sign-in, cut to 256 bytes
	Address   string // of the browser at sign-in

	Version int64 // 1 at sign-in, one more with each change of Identity

	derived *derived // see Derived
}

// NewSession is what a finished sign-in brings.
type NewSession struct {
	Identity     *authn.Identity
	RefreshToken string // of the provider; "" when there is none. Stored sealed.
	UserAgent    string
	Address      string
}

// Filter selects sessions; the fields that are set must all hold. The zero Filter lists everything and revokes nothing.
type Filter struct {
	ID        string        // the session with this public id
	Subject   string        // sessions of this identity: provider|subject
	Email     string        // sessions of this e-mail address, whatever its case
	Provider  string        // sessions signed in with this provider
	Host      string        // sessions with a child handle on this app host; revoking ends the whole session
	OlderThan time.Duration // sessions that signed in at least this long ago
	All       bool          // every session: must be said to revoke without any other field
}

// The reasons for which a session ends.
const (
	Revoked   = "session_revoked" // an operator or a provider ended it
	SignedOut = "signed_out"      // the person ended it
	Expired   = "expired"         // idle or absolute limit
)

// Ended tells that a session, or its part on one host, is over.
type Ended struct {
	SessionID string
	Host      string // the one app host on which it ended; "" everywhere
	Reason    string // Revoked, SignedOut or Expired
}
