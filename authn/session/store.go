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
// Each method takes effect as a whole or not at all. All but Touch and Release are durable when they return nil:
// they survive the end of the process and of the machine. After an error the effect is unknown but still whole. Errors
// other than those that a method names mean that the store is not working; the caller refuses service and may try
// again. Times are kept to the nanosecond. The store has no clock: callers say what time it is.
//
// What Detach, Delete, Expire, Renew and Raise change is news: it reaches every Watch of every process in order of
// commit, within a second.
//
// No method but List may take longer because there are many sessions.
type Store interface {
	// SealingKeys returns the keys of Seal, newest first, and makes the first one if there is none yet.
	SealingKeys(ctx context.Context) ([]SealingKey, error)

	// Put stores a new session with its sign-in handle, and its identity as the Person's, as of e.Checked. An id or handle
	// that exists is an error.
	Put(ctx context.Context, e Entry, parent Hash) error

	// Attach gives a session a child handle on an app host. ErrNoSession when the session is gone. Of the handles on one
	// host only the newest MaxChildren stay.
	Attach(ctx context.Context, id string, child Handle) error

	// Renew replaces what Checked, Identity, ProviderSession, Refreshable, Secrets and Version say of a session whose
	// version is still e.Version-1; otherwise ErrConflict, or ErrNoSession when it is gone. The identity becomes the
	// Person's, as of e.Checked.
	Renew(ctx context.Context, e Entry) error

	// Raise is Renew that also sets Raised, moves Seen forward, sets Away to nothing, and puts one sign-in handle of the
	// session in the place of another. ErrNoSession when the old one is not a sign-in handle of this session; then
	// nothing is renewed either.
	Raise(ctx context.Context, e Entry, old Hash, parent Handle) error

	// Get returns the session of a handle and the handle's host ("" for the sign-in host), or ErrNoSession. It sees
	// everything committed before the call.
	Get(ctx context.Context, handle Hash) (Entry, string, error)

	// List returns up to limit sessions that match, in order of id, beginning after the id after, with their Hosts.
	List(ctx context.Context, m Match, after string, limit int) ([]Entry, error)

	// Count returns how many sessions are stored, expired ones that are not yet removed among them.
	Count(ctx context.Context) (int, error)

	// Touch moves the last-seen times of sessions forward, never back, and makes Away as long as the longest such move; ids
	// that are gone are ignored. It need not be durable and is not news.
	Touch(ctx context.Context, seen map[string]time.Time) error

	// Detach ends all handles of a session on one app host. ErrNoSession when there are none.
	Detach(ctx context.Context, id, host, reason string) error

	// Delete ends up to limit sessions that match, with all their handles, and returns them.
	Delete(ctx context.Context, m Match, reason string, limit int) ([]Entry, error)

	// Expire is Delete for the reason Expired, after which Past knows the handles of what ended: for PastTime after now, and
	// the newest MaxPast of all.
	Expire(ctx context.Context, m Match, now time.Time, limit int) ([]Entry, error)

	// Past returns what Expire left of a handle, or ErrNoSession.
	Past(ctx context.Context, handle Hash) (Trace, error)

	// Lease gives the name to a holder until a time, unless another has it beyond now; holder may be the one who has it.
	// Of any number of holders, in any number of processes, one has it at a time.
	Lease(ctx context.Context, name, holder string, now, until time.Time) (bool, error)

	// Release ends the lease of a name, if the holder has it.
	Release(ctx context.Context, name, holder string) error

	// KeepForm stores a form under its id. ErrConflict when one of the same session was kept before, even if it has been
	// taken since; ErrFormRefused when MaxForms are held.
	KeepForm(ctx context.Context, f Form) error

	// Form returns what is held under an id, or ErrNoForm.
	Form(ctx context.Context, id Hash) (Form, error)

	// TakeForm is Form for the last time: of any number of calls, exactly one returns the form, all others ErrNoForm.
	TakeForm(ctx context.Context, id Hash) (Form, error)

	// Person returns what the last Put, Renew or Raise with an identity of this subject said, or ErrNoPerson.
	Person(ctx context.Context, subject string) (Person, error)

	// Disable marks a person until the provider confirms them at a later time than this. An unknown one is ErrNoPerson.
	Disable(ctx context.Context, subject string, at time.Time) error

	// Spend remembers an id at least until the given time and returns true, or returns false because it was remembered
	// before. Of any number of calls with one id, in any number of processes, exactly one returns true.
	Spend(ctx context.Context, id string, until time.Time) (bool, error)

	// Sweep forgets some of what is no longer needed at the time now: spent ids, forms and leases past their time, what
	// Past no longer tells, persons not confirmed for PersonTime, old news. It does a bounded amount of work and returns
	// whether there is more.
	Sweep(ctx context.Context, now time.Time) (more bool, err error)

	// Watch calls report with what happened after the position, and then again and again, several times a second, until
	// ctx ends (it returns nil) or the store cannot be followed (it returns why). After "" it begins with the present.
	// Calls of report do not overlap.
	Watch(ctx context.Context, after Position, report func(News)) error
}

// MaxChildren bounds the handles that one session holds on one app host: enough for many tabs that finish signing in
// at once, each with a handle of its own.
const MaxChildren = 16

const (
	// PastTime is how long after its end an expired session is known by its handles.
	PastTime = time.Hour

	// MaxPast bounds the handles of expired sessions that are known: the newest.
	MaxPast = 1 << 16

	// FormTime is how long a kept form is held.
	FormTime = time.Hour

	// MaxForm bounds a kept form, before it is sealed.
	MaxForm = 96 << 10

	// MaxForms bounds the forms held at once, together about 128 MiB.
	MaxForms = 1 << 10

	// PersonTime is how long after their last confirmation a person is known: longer than any personal token lives.
	PersonTime = 366 * 24 * time.Hour
)

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
	ID              string
	Identity        *authn.Identity
	ProviderSession string
	Secrets         []byte // what the provider handed over, sealed by Keeper; nil when there is nothing
	Refreshable     bool   // a refresh token is among them
	UserAgent       string
	Address         string
	Bound           Bound
	Created         time.Time
	Seen            time.Time
	Checked         time.Time
	Raised          time.Time
	Away            time.Duration
	Version         int64

	Hosts []string // app hosts with a handle, sorted, each once; only in what List returns
}

// Match selects stored sessions; the fields that are set must all hold.
type Match struct {
	ID              string
	Except          string // not this id
	Subject         string // Identity.ID
	Email           string // compared without regard to the case of ASCII letters
	Provider        string
	ProviderSession string
	Host            string // has a handle on this app host
	UserAgent       string
	CreatedBefore   time.Time // at this time or before
	SeenBefore      time.Time // at this time or before
}

// Trace is what is left of a session that expired, found by one of its handles.
type Trace struct {
	SessionID string
	Subject   string
	Host      string // of the handle; "" for the sign-in host
	Created   time.Time
	Seen      time.Time
}

// Form is one form as stored.
type Form struct {
	ID      Hash // of the id that the browser gets
	Session string
	Sealed  []byte
	Until   time.Time // held until then
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
	Reason    string // why it ended: Revoked, SignedOut, Expired, …; "" when it was renewed and lives on
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
