package session

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"time"

	"sallyport/authn"
)

// Store keeps sessions, handles, spent ids and sealing keys, for one gateway or for several that share it. Keeper is its
// one user. All methods may be called at once from many goroutines and processes.
//
// Each method takes effect as a whole or not at all. Put, Attach, Renew, Detach, Delete and Spend are durable when they
// return nil: they survive the end of the process and of the machine. After an error the effect is unknown but still
// whole. Errors other than ErrNoSession and ErrConflict mean that the store is not working; the caller refuses service
// and may try again. Times are kept to the nanosecond.
//
// What Detach, Delete and Renew change is news: it reaches every Watch of every process in order of commit, within a
// second.
type Store interface {
	// SealingKeys returns the keys of Seal, newest first, and makes the first one if there is none yet.
	SealingKeys(ctx context.Context) ([]SealingKey, error)

	// Put stores a new session with its sign-in handle. An id or handle that exists is an error.
	Put(ctx context.Context, e Entry, parent Hash) error

	// Attach gives a session a child handle on an app host. ErrNoSession when the session is gone. Of the handles on one
	// host only the newest MaxChildren stay.
	Attach(ctx context.Context, id string, child Handle) error

	// Renew replaces identity, refresh token and version of a session whose version is still e.Version-1; otherwise
	// ErrConflict, or ErrNoSession when it is gone.
	Renew(ctx context.Context, e Entry) error

	// Get returns the session of a handle and the handle's host ("" for the sign-in host), or ErrNoSession. It sees
	// everything committed before the call.
	Get(ctx context.Context, handle Hash) (Entry, string, error)

	// List returns up to limit sessions that match, in order of id, beginning after the id after.
	List(ctx context.Context, m Match, after string, limit int) ([]Entry, error)

	// Touch moves the last-seen times of sessions forward, never back; ids that are gone are ignored. It need not be
	// durable and is not news.
	Touch(ctx context.Context, seen map[string]time.Time) error

	// Detach ends all handles of a session on one app host. ErrNoSession when there are none.
	Detach(ctx context.Context, id, host, reason string) error

	// Delete ends up to limit sessions that match, with all their handles, and returns them.
	Delete(ctx context.Context, m Match, reason string, limit int) ([]Entry, error)

	// Spend remembers an id at least until the given time and returns true, or returns false because it was remembered
	// before. Of any number of calls with one id, in any number of processes, exactly one returns true.
	Spend(ctx context.Context, id string, until time.Time) (bool, error)

	// Sweep forgets some of what is no longer needed at the time now: spent ids past their time, old news. It does a
	// bounded amount of work and returns whether there is more.
	Sweep(ctx context.Context, now time.Time) (more bool, err error)

	// Watch calls report with what happened after the position, and then again and again, several times a second, until
	// ctx ends (it returns nil) or the store cannot be followed (it returns why). After "" it begins with the present.
	// Calls of report do not overlap.
	Watch(ctx context.Context, after Position, report func(News)) error
}

// MaxChildren bounds the handles that one session holds on one app host: enough for many tabs that finish signing in
// at once, each with a handle of its own.
const MaxChildren = 16

// Hash is all that is stored of a handle: its SHA-256. Handles are random, so a plain hash cannot be turned back.
type Hash [sha256.Size]byte

// Handle is one cookie of a session on one app host.
type Handle struct {
	Hash Hash
	Host string
	Made time.Time
}

// Entry is a session as stored.
type Entry struct {
	ID        string
	Identity  *authn.Identity
	Refresh   []byte // the provider's refresh token, sealed by Keeper; nil when there is none
	UserAgent string
	Address   string
	Created   time.Time
	Seen      time.Time
	Version   int64
}

// Match selects stored sessions; the fields that are set must all hold.
type Match struct {
	ID            string
	Subject       string // Identity.ID
	Email         string // compared without regard to the case of ASCII letters
	Provider      string
	Host          string    // has a handle on this app host
	CreatedBefore time.Time // at this time or before
	SeenBefore    time.Time // at this time or before
}

// Position is a place in a store's news, opaque to all but the store.
type Position string

// News is what a store reports to its watchers.
type News struct {
	// AsOf: all that was committed before this moment is in this or in earlier news. Read from the monotonic clock.
	AsOf time.Time

	// Position is where to begin a later Watch in order to miss nothing.
	Position Position

	// Lost says that changes before this moment may be missing: the watch began with the present, or the store no longer
	// knows what happened since the position. Nothing remembered from before may be trusted.
	Lost bool

	Changes []Change // in order of commit
}

// Change is one piece of news about a session.
type Change struct {
	SessionID string
	Host      string // the one app host concerned, "" for the whole session
	Reason    string // why it ended: Revoked, SignedOut or Expired; "" when it was renewed and lives on
}

// SealingKey is one key of Seal and Open.
type SealingKey struct {
	ID     uint32 // unique in the store, never reused
	Secret Secret
	Made   time.Time
}

// Secret is key material that does not print itself.
type Secret [32]byte

// String keeps the key out of messages.
func (Secret) String() string { return "[redacted]" }

// GoString keeps the key out of %#v.
func (Secret) GoString() string { return "[redacted]" }

// LogValue keeps the key out of logs.
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// MarshalText keeps the key out of JSON.
func (Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }
