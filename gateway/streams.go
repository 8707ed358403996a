package gateway

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/authn/session"
)

// Causes with which an exchange's context ends before the exchange does.
var (
	ErrSessionRevoked      = errors.New(session.Revoked)
	ErrSignedOut           = errors.New(session.SignedOut)
	ErrSessionExpired      = errors.New(session.Expired)
	ErrTokenRevoked        = errors.New("token_revoked")
	ErrSessionsUnavailable = errors.New("sessions_unavailable")
	ErrPolicyChanged       = errors.New("policy_changed")
	ErrReauthorize         = errors.New("reauthorize")
	ErrStale               = errors.New(reasonStale) // the sign-in is too long ago for it
	ErrAuditUnavailable    = errors.New("audit_unavailable")
	ErrShutdown            = errors.New("shutdown")
	ErrIdle                = errors.New("idle")           // nothing moved for the app's streams.idle
	ErrTooLong             = errors.New("too_long")       // open for the app's streams.max
	ErrClientStalled       = errors.New("client_stalled") // the client took nothing for the app's timeouts.client
)

// sessionCause is the cause that goes with the reason for which a session ended.
func sessionCause(reason string) error {
	switch reason {
	case session.SignedOut:
		return ErrSignedOut
	case session.Expired:
		return ErrSessionExpired
	}
	return ErrSessionRevoked
}

const (
	// defaultReauthorize is the age from which an exchange counts as long, unless the snapshot says otherwise: it is
	// decided again each time it passes.
	defaultReauthorize = 30 * time.Second
	// watchTick is how often open exchanges are looked at.
	watchTick = time.Second
	// unrecordedGrace is how long open exchanges may outlive a failing audit log.
	unrecordedGrace = 10 * time.Second
	// healthTick is how often the audit log is asked whether it can be written.
	healthTick = time.Second
	// redecideAtOnce is how many re-decisions wait for the log together: they share its commits.
	redecideAtOnce = 64
	streamShards   = 64
)

// streams knows every exchange that is being forwarded, by session, so that it can be ended.
type streams struct {
	seed   maphash.Seed
	shards [streamShards]streamShard
}

type streamShard struct {
	mu   sync.Mutex
	open map[*exchange]struct{}
}

func newStreams() *streams {
	s := &streams{seed: maphash.MakeSeed()}
	for i := range s.shards {
		s.shards[i].open = make(map[*exchange]struct{})
	}
	return s
}

func (s *streams) shard(session string) *streamShard {
	return &s.shards[maphash.String(s.seed, session)%streamShards]
}

func (s *streams) add(x *exchange) {
	shard := s.shard(x.sessionID())
	shard.mu.Lock()
	shard.open[x] = struct{}{}
	shard.mu.Unlock()
}

func (s *streams) remove(x *exchange) {
	shard := s.shard(x.sessionID())
	shard.mu.Lock()
	delete(shard.open, x)
	shard.mu.Unlock()
}

// endSession cancels what one session has open, on one host or, with an empty host, on all.
func (s *streams) endSession(session, host string, cause error) {
	shard := s.shard(session)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	for x := range shard.open {
		if x.sessionID() == session && (host == "" || host == x.req.Host) {
			x.cancel(cause)
		}
	}
}

// endAll cancels every open exchange.
func (s *streams) endAll(cause error) {
	for _, x := range s.all() {
		x.cancel(cause)
	}
}

func (s *streams) all() []*exchange {
	var list []*exchange
	for i := range s.shards {
		shard := &s.shards[i]
		shard.mu.Lock()
		for x := range shard.open {
			list = append(list, x)
		}
		shard.mu.Unlock()
	}
	return list
}

// watchStreams decides long exchanges again until ctx ends: each when it has passed another redecideAfter, and all
// at once when the snapshot changes.
func (s *Server) watchStreams(ctx context.Context) {
	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.swapped:
			s.redecide(func(*exchange) bool { return true })
		case <-tick.C:
			now := s.now()
			s.endOverdue(now)
			s.redecide(func(x *exchange) bool { return now.Sub(x.decidedAt()) >= time.Duration(x.every.Load()) })
		}
	}
}

// endOverdue ends exchanges that stood still, or stayed open, for longer than their app allows.
func (s *Server) endOverdue(now time.Time) {
	for _, x := range s.streams.all() {
		if err := x.overdue(now); err != nil {
			x.cancel(err)
		}
	}
}

// overdue is why an exchange may not go on, or nil.
func (x *exchange) overdue(now time.Time) error {
	if x.expired(now) {
		return ErrSessionExpired
	}
	limits := x.app.Streams
	if limits.Max > 0 && now.Sub(x.start) >= limits.Max {
		return ErrTooLong
	}
	if moved := x.w.bytesOut.Load() + x.bytesIn(); moved != x.moved || x.movedAt.IsZero() {
		x.moved, x.movedAt = moved, now
		return nil
	}
	still := now.Sub(x.movedAt)
	switch patience := x.app.Timeouts.Client; {
	case x.writing.Load() && patience > 0 && still >= patience:
		return ErrClientStalled
	case limits.Idle > 0 && still >= limits.Idle:
		return ErrIdle
	}
	return nil
}

func (s *Server) redecide(due func(*exchange) bool) {
	var group errgroup.Group
	group.SetLimit(redecideAtOnce)
	for _, x := range s.streams.all() {
		if due(x) {
			group.Go(func() error { x.redecide(); return nil })
		}
	}
	group.Wait()
}

// watchLog ends what is open once the audit log has been failing for the grace period, until ctx ends. It waits for
// nothing else, least of all for the log.
func (s *Server) watchLog(ctx context.Context) {
	tick := time.NewTicker(healthTick)
	defer tick.Stop()
	var failing time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		switch {
		case s.decisions.Healthy() == nil:
			failing = time.Time{}
		case failing.IsZero():
			failing = time.Now()
		case time.Since(failing) >= unrecordedGrace:
			s.streams.endAll(ErrAuditUnavailable)
		}
	}
}
