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
	"log/slog"
	"time"

	"sallyport/authn"
)

// What Keeper's methods fail with, besides the errors of a context that ended; ask with errors.Is.
var (
	// ErrNoSession: the handle or session id is unknown, ended, expired or belongs to another host. Signing in helps.
	ErrNoSession = errors.New("no such session")

	// ErrUnavailable: the store cannot be read, written or followed. Nobody may be let in meanwhile.
	ErrUnavailable = errors.New("session store unavailable")

	// ErrConflict: the session has changed since the version that an update was based on, or has kept its one form.
	ErrConflict = errors.New("session was changed meanwhile")

	// ErrNoForm: a kept form that is unknown, was taken before or is older than FormTime.
	ErrNoForm = errors.New("no such form")
	// ErrFormRefused: a form that is too large, or one too many: MaxForms are kept.
	ErrFormRefused = errors.New("form cannot be kept")

	// ErrNoPerson: nobody of this name ever signed in, or not for PersonTime.
	ErrNoPerson = errors.New("no such person")

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

	// Reauthenticate is how long ago people may have proved themselves to their provider; then they are sent there again and
	// must do so anew, even while they are busy. Apps may ask for less. Default: no limit but absolute.
	Reauthenticate time.Duration `yaml:"reauthenticate"`

	// Recheck is how often the provider is asked about the person of a session in use: groups and other claims follow it,
	// and the session of an account that is disabled ends within this time. 0 never asks. Default 15m.
	Recheck time.Duration `yaml:"recheck" default:"15m"`

	// RecheckInBrowser takes the place of recheck for sessions whose provider gave no refresh token: browsers pass by the
	// provider again, which asks nothing of people it still knows. 0 believes such a session until it ends. Default 1h.
	RecheckInBrowser time.Duration `yaml:"recheck_in_browser" default:"1h"`

	// Grace is how much longer than recheck a session is believed while its provider cannot be reached. Default 1h.
	Grace time.Duration `yaml:"grace" default:"1h"`

	// Bind ties sessions to what was seen at sign-in: a request with a session's cookie that differs ends the session.
	Bind Bind `yaml:"bind"`
}

// Bind says what must stay as it was when a session began. Each may be used with the others.
type Bind struct {
	// ClientCertificate: the certificate that the browser showed at sign-in, or a newer one for the same subject of the same
	// authority. Sessions that began without one stay without. Default false.
	ClientCertificate bool `yaml:"client_certificate"`
	// UserAgent: the family of the browser and the kind of its system, whatever their versions. Default false.
	UserAgent bool `yaml:"user_agent"`
	// Network: the named network that the browser was in or, outside of all, its /24 or, of IPv6, its /48. Default false.
	Network bool `yaml:"network"`
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
	for name, d := range map[string]time.Duration{
		"reauthenticate": c.Reauthenticate, "recheck": c.Recheck, "recheck_in_browser": c.RecheckInBrowser,
	} {
		if d != 0 && d < time.Second {
			return fmt.Errorf("%s: %v is shorter than a second", name, d)
		}
	}
	if c.Grace < 0 {
		return fmt.Errorf("grace: %v is negative", c.Grace)
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

	ProviderSession string    // the provider's own id of its session (sid); "" when it names none
	Bound           Bound     // what the browser was at sign-in
	Checked         time.Time // when the provider last spoke of the person: sign-in or refresh
	Refreshable     bool      // there is a refresh token

	Raised time.Time     // when the person last passed by the provider in this browser: sign-in or Raise
	Away   time.Duration // the longest pause between requests since then, to the minute and never too short by more

	Version int64 // 1 at sign-in, one more with each renewal

	Hosts []string // the app hosts that the session has handles on, sorted; only List fills it in

	derived *derived // see Derived
}

// NewSession is what a finished sign-in brings.
type NewSession struct {
	Identity        *authn.Identity
	Secrets         Secrets // stored sealed
	ProviderSession string
	UserAgent       string
	Address         string
	Bound           Bound
}

// Bound is what a session can be bound to, as it was at sign-in; empty where nothing was seen.
type Bound struct {
	Certificate string `json:"certificate,omitzero"` // issuer and subject of the client's certificate
	UserAgent   string `json:"user_agent,omitzero"`  // family and system
	Network     string `json:"network,omitzero"`     // the named network or the prefix
	Country     string `json:"country,omitzero"`     // ISO 3166-1 alpha-2; never bound to, but a change is recorded
}

// Secrets are what the provider handed over with a sign-in. They print as [redacted].
type Secrets struct {
	RefreshToken string `json:"refresh_token,omitzero"`
	IDToken      string `json:"id_token,omitzero"` // the hint for signing out at the provider
}

// String keeps the secrets out of messages.
func (Secrets) String() string { return "[redacted]" }

// GoString keeps the secrets out of %#v.
func (Secrets) GoString() string { return "[redacted]" }

// LogValue keeps the secrets out of logs.
func (Secrets) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// Renewal is what a provider said of a session's person after the sign-in.
type Renewal struct {
	Identity        *authn.Identity // of the same person
	Secrets         Secrets         // the refresh token is replaced as given; an ID token only by another one
	ProviderSession string          // "" keeps the old one
	At              time.Time       // when the provider was asked; the zero time is now
}

// Filter selects sessions; the fields that are set must all hold. The zero Filter lists everything and revokes nothing.
type Filter struct {
	ID              string        // the session with this public id
	Except          string        // not the session with this public id; alone it selects nothing
	Subject         string        // sessions of this identity: provider|subject
	Email           string        // sessions of this e-mail address, whatever its case
	Provider        string        // sessions signed in with this provider
	ProviderSession string        // sessions of this session of the provider's (sid); providers may use equal ones
	Host            string        // sessions with a child handle on this app host; revoking ends the whole session
	UserAgent       string        // sessions of exactly this browser
	OlderThan       time.Duration // sessions that signed in at least this long ago
	IdleFor         time.Duration // sessions not seen for at least this long, to the minute
	All             bool          // every session: must be said to revoke without any other field
}

func (f Filter) empty() bool {
	f.Except = ""
	return f == Filter{}
}

// The reasons for which a session ends.
const (
	Revoked           = "session_revoked"     // an operator ended it
	SignedOut         = "signed_out"          // the person ended it
	Expired           = "expired"             // idle or absolute limit
	ProviderSignedOut = "provider_signed_out" // the provider ended its own session
	AccountDisabled   = "account_disabled"    // the provider knows the person no more
	BindingBroken     = "session_binding"     // its cookie came from somewhere else than Config.Bind allows
	Replaced          = "replaced"            // its browser signed in anew, or the person in too many
)

// Ended tells that a session, or its part on one host, is over.
type Ended struct {
	SessionID string
	Host      string // the one app host on which it ended; "" everywhere
	Reason    string // Revoked, SignedOut, Expired, …
}

// Past is what is left of a session that expired less than PastTime ago.
type Past struct {
	SessionID string
	Subject   string    // provider|subject
	Ended     time.Time // when it reached its limit
}

// Person is somebody who signed in, as last confirmed by their provider.
type Person struct {
	Identity  *authn.Identity
	Confirmed time.Time // when the provider last spoke of them
	Disabled  bool      // the provider has refused to speak of them since
}
