// Package recheck keeps the sessions in use true to what their identity providers say.
//
// [Rechecker.Current] stands behind every look-up of a session. While the provider has spoken of the person recently, it
// costs nothing: no lock, no access to the store. When that is nearly too long ago, one refresh begins in the background;
// when it is too long ago, requests wait for that one refresh. What comes of it, a new identity or the end of the
// session, reaches every request and every open stream through the session store. [Rechecker.Look] is the same for those
// who cannot wait.
//
// Refresh tokens are used once. Many providers hand out a new one with each refresh and take the second use of an old one
// for a theft, upon which they end everything. So there is one refresh at a time for each session in a process; across
// processes a token is claimed in the store before it is sent; and the new one is stored before anything else is done with
// the answer. A token that was sent and whose answer never arrived, because the connection broke or this process died
// between the answer and the store, stays claimed: nobody sends it again, and the person passes by the provider with their
// browser ([ErrBrowser]).
//
// The package makes no records and speaks no HTTP: see [Config].
package recheck

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"sallyport/authn"
	"sallyport/authn/oidc"
	"sallyport/authn/session"
)

// What Current and Look fail with, besides session.ErrNoSession and the errors of a context that ended.
var (
	// ErrBrowser: only the person's browser can have the provider speak of them again. The session lives on until then.
	ErrBrowser = errors.New("the browser must pass by the provider again")

	// ErrUnavailable: nobody can tell whether the person may still come in, for longer than they are believed meanwhile.
	ErrUnavailable = errors.New("the provider cannot be asked about the person")
)

// The reasons for which a session is ended here; they are what Config.Ended is told.
const (
	AccountDisabled = session.AccountDisabled // the provider refused to speak of the person any more
	SubjectMismatch = "subject_mismatch"      // it spoke of somebody else
	AccountLinked   = "account_linked"        // the configuration takes the account for another person's since the sign-in
	ProviderRemoved = "provider_removed"      // it is not configured any more, or another one bears its name
)

// Sessions is what the store of sessions does for us; [session.Keeper] does and states the errors.
type Sessions interface {
	Current(ctx context.Context, sessionID string) (*session.Session, error)
	Secrets(ctx context.Context, sessionID string) (session.Secrets, int64, error)
	// Renew is durable when it returns nil; session.ErrConflict when the version is not the session's any more.
	Renew(ctx context.Context, sessionID string, version int64, r session.Renewal) (*session.Session, error)
	// Claim takes a name for a time, among all processes on the store.
	Claim(ctx context.Context, name string, hold time.Duration) (mine bool, release func(), err error)
	Disable(ctx context.Context, subject string) error
	End(ctx context.Context, f session.Filter, reason string) ([]session.Session, error)
}

// Provider is an identity provider; [oidc.Provider] is one.
type Provider interface {
	Issuer() string
	// LinkedTo is the person whom the configuration links an account to, as "provider|sub"; empty for none.
	LinkedTo(subject string) string
	// Ready is nil while the provider can be reached.
	Ready() error
	// Refresh fails with an *oidc.Failure. A result beside a failure says that the provider answered with tokens, of which
	// the refresh token must be kept.
	Refresh(ctx context.Context, before *authn.Identity, refreshToken string) (*oidc.Result, error)
}

// Config is what a Rechecker needs. All but Settled, Now and Log are required.
type Config struct {
	Sessions Sessions
	// Provider returns the provider of a name, nil when none is configured. It is called by each request and takes no lock.
	Provider func(name string) Provider
	// Limits are the limits of sessions as they are now. Called by each request as well.
	Limits func() session.Config
	// Ended puts the end of a session on record, before it happens; after an error it does not happen yet.
	Ended func(ctx context.Context, s *session.Session, reason string) error
	// Renewed puts on record what the provider changed about the person of a session, before it takes effect.
	Renewed func(ctx context.Context, s *session.Session, c Change) error
	// Settled is told of each session whose recheck is over, unless all stays as it was. It must return quickly. Nil: nobody.
	Settled func(sessionID string)

	Now func() time.Time // nil: time.Now
	Log *slog.Logger     // nil: nothing is logged
}

// Rechecker rechecks sessions. Its methods may be called from any number of goroutines.
type Rechecker struct {
	sessions Sessions
	provider func(string) Provider
	limits   func() session.Config
	ended    func(context.Context, *session.Session, string) error
	renewed  func(context.Context, *session.Session, Change) error
	settled  func(string)
	now      func() time.Time
	log      *slog.Logger

	seed    maphash.Seed
	shards  [shardCount]shard
	lines   lines
	results results

	life   context.Context // of refreshes: they outlive the requests that set them off
	cancel context.CancelFunc
	group  closingGroup
	rules  rules
}

// rules are protections that tests take away, to see that they miss them.
type rules struct {
	manyFlights bool // several refreshes of one session at a time
	noClaim     bool // tokens are not claimed
	lateStore   bool // the new token is stored after what it was got for
	noBound     bool // nobody waits for a recheck that is overdue
	sendAgain   bool // a token is sent again whose fate is unknown
}

const (
	// requestWait is how long a request waits for a recheck that is overdue.
	requestWait = 10 * time.Second

	// flightTime bounds a recheck up to the provider's answer, which itself takes up to 20 seconds.
	flightTime = 30 * time.Second

	// storeTime is how long a new refresh token is tried to be stored before it is given up.
	storeTime = 20 * time.Second

	// settleTime bounds what is recorded and ended after an answer.
	settleTime = 10 * time.Second

	// lastFlights is how long rechecks under way may take when the gateway stops.
	lastFlights = 5 * time.Second

	// forgetEvery is how often what is known of failed rechecks is looked through.
	forgetEvery = time.Minute
)

// New returns a Rechecker.
func New(cfg Config) *Rechecker {
	r := &Rechecker{
		sessions: cfg.Sessions, provider: cfg.Provider, limits: cfg.Limits, ended: cfg.Ended, renewed: cfg.Renewed,
		settled: cfg.Settled, now: cfg.Now, log: cfg.Log, seed: maphash.MakeSeed(),
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.settled == nil {
		r.settled = func(string) {}
	}
	r.life, r.cancel = context.WithCancel(context.Background())
	return r
}

// Run forgets what is no longer needed until ctx ends, waits for the rechecks under way, and returns nil. After that no
// recheck begins. Sessions that nobody uses are not rechecked.
func (r *Rechecker) Run(ctx context.Context) error {
	tick := time.NewTicker(forgetEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.forget()
		case <-ctx.Done():
			r.stop()
			return nil
		}
	}
}

// stop lets rechecks that are under way finish: one that is cut off costs a refresh token.
func (r *Rechecker) stop() {
	impatient := time.AfterFunc(lastFlights, r.cancel)
	defer impatient.Stop()
	r.group.closeAndWait()
	r.cancel()
}

// Current returns the session as its provider lets it be: s itself in nearly all cases. It waits, at most requestWait,
// only for a recheck that is overdue.
func (r *Rechecker) Current(ctx context.Context, s *session.Session) (*session.Session, error) {
	v := r.view(s)
	switch v.standing() {
	case fresh:
		return s, nil
	case due:
		return r.soon(s, &v)
	case atBrowser:
		return v.byBrowser(s)
	}
	f, known := r.begin(s, &v)
	if f == nil {
		return v.meanwhile(s, known)
	}
	if v.provider != nil && known == failing && v.believed() {
		return s, nil // the provider was away a moment ago: not everybody waits to learn that it still is
	}
	return r.await(ctx, s, &v, f)
}

// Look is Current for those who cannot wait: while a recheck that is overdue is under way, it returns s. Settled tells
// when to look again.
func (r *Rechecker) Look(s *session.Session) (*session.Session, error) {
	v := r.view(s)
	switch v.standing() {
	case fresh:
		return s, nil
	case due:
		return r.soon(s, &v)
	case atBrowser:
		return v.byBrowser(s)
	}
	f, known := r.begin(s, &v)
	if f == nil || known != nothing {
		return v.meanwhile(s, known)
	}
	return s, nil
}

// soon begins a recheck that nobody needs to wait for.
func (r *Rechecker) soon(s *session.Session, v *view) (*session.Session, error) {
	if _, known := r.begin(s, v); known == condemned {
		return nil, fmt.Errorf("%w: the session is to end and cannot be ended", ErrUnavailable)
	}
	return s, nil
}

// await waits for a flight, but no longer than a request should.
func (r *Rechecker) await(ctx context.Context, s *session.Session, v *view, f *flight) (*session.Session, error) {
	if r.rules.noBound {
		return s, nil
	}
	timer := time.NewTimer(requestWait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return v.meanwhile(s, failing)
	case <-f.done:
	}
	switch {
	case f.err == nil:
		return asOf(f.session, s), nil
	case errors.Is(f.err, session.ErrNoSession):
		return nil, session.ErrNoSession
	case f.known == failing && errors.Is(f.err, session.ErrUnavailable):
		return nil, f.err
	}
	return v.meanwhile(s, f.known)
}

// asOf is a session as it is now, used as it was when this request found it: what is stored of that may be a minute old.
func asOf(now, found *session.Session) *session.Session {
	same := *now
	same.Seen = found.Seen
	if now.Raised.Equal(found.Raised) {
		same.Away = max(now.Away, found.Away)
	}
	return &same
}

// closingGroup waits for goroutines, of which none begin once that has begun.
type closingGroup struct {
	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

func (g *closingGroup) goUnlessClosed(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.wg.Go(f)
	return true
}

func (g *closingGroup) closeAndWait() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.wg.Wait()
}
