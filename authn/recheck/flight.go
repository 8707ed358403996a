package recheck

import (
	"context"
	"errors"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"time"

	"sallyport/authn/session"
)

const (
	shardCount = 64

	// maxTroubles bounds what is known of failed rechecks, in each shard: more than 200,000 sessions in all.
	maxTroubles = 4096

	// troubleLife is how long a failed recheck is remembered that nobody asks about.
	troubleLife = time.Hour
)

// shard holds what is going on with the sessions of its part. Only sessions that are due come here.
type shard struct {
	mu       sync.Mutex
	flights  map[string]*flight // by session id
	troubles map[string]trouble
}

// flight is one recheck of one session. What it came to is set before done is closed.
type flight struct {
	done    chan struct{}
	session *session.Session
	err     error
	known   knowledge // what err says
}

// knowledge is what came of the last recheck of a session, of the same version, unless it succeeded.
type knowledge int

const (
	nothing   knowledge = iota
	failing             // it failed, and may be tried again
	unread              // the provider answered with what says nothing usable about the person; it may be tried again
	spent               // its refresh token is used up
	condemned           // it must end, and ending it failed
)

type trouble struct {
	known    knowledge
	version  int64 // of the session
	reason   string
	failures int
	at       time.Time
	retry    time.Time
}

func (r *Rechecker) shard(id string) *shard {
	return &r.shards[maphash.String(r.seed, id)%shardCount]
}

// begin returns the recheck of a session that is under way, or begins one, or returns nil when that would be too soon or
// too much; and what is known of the last one. Session ids are ours and random: no two sessions share a flight.
func (r *Rechecker) begin(s *session.Session, v *view) (*flight, knowledge) {
	now, sh := v.now, r.shard(s.ID)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	before, known := sh.troubles[s.ID], nothing
	if before.version == s.Version {
		known = before.known
	}
	if f := sh.flights[s.ID]; f != nil && !r.rules.manyFlights {
		return f, known
	}
	if known == spent || known != nothing && now.Before(before.retry) {
		return nil, known
	}
	l := v.outage
	if known == condemned || v.provider == nil || v.another {
		l = nil // the provider is not asked
	}
	if l.away() {
		known = max(known, failing)
	}
	probe, ok := false, true
	if l != nil {
		if ok, probe = l.may(now, v.age >= v.limit); !ok {
			return nil, max(known, failing)
		}
	}
	f := &flight{done: make(chan struct{})}
	run := func() { r.fly(s, f, l, probe, before) }
	if !r.group.goUnlessClosed(run) {
		if l != nil {
			l.done(now, notAsked, probe)
		}
		return nil, max(known, failing)
	}
	sh.putLocked(s.ID, f)
	return f, known
}

func (sh *shard) putLocked(id string, f *flight) {
	if sh.flights == nil {
		sh.flights, sh.troubles = map[string]*flight{}, map[string]trouble{}
	}
	sh.flights[id] = f
}

// fly is the whole of a recheck. It belongs to nobody's request.
func (r *Rechecker) fly(s *session.Session, f *flight, l *line, probe bool, before trouble) {
	t := &task{Rechecker: r}
	if before.known == condemned && before.version == s.Version {
		f.err = t.end(s, before.reason)
	} else {
		f.session, f.err = t.recheck(s)
	}
	if l != nil {
		l.done(r.now(), t.outcome, probe)
	}
	r.land(s, f, t, before)
	t.result(f.err).Add(1)
	close(f.done)
	if f.err != nil || t.changed || t.outcome == notAsked {
		r.settled(s.ID)
	}
}

// land notes what came of a flight, in time for whoever asks next.
func (r *Rechecker) land(s *session.Session, f *flight, t *task, before trouble) {
	sh := r.shard(s.ID)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	delete(sh.flights, s.ID)
	if f.err == nil || errors.Is(f.err, session.ErrNoSession) {
		delete(sh.troubles, s.ID)
		return
	}
	now := r.now()
	after := trouble{known: failing, version: max(s.Version, t.kept), failures: 1, at: now}
	if t.kept > 0 {
		after.known = unread
	}
	if before.version == s.Version {
		after.failures += before.failures
	}
	after.retry = now.Add(pause(after.failures))
	if c, ok := errors.AsType[*condemnation](f.err); ok {
		after.known, after.reason = condemned, c.reason
	}
	if errors.Is(f.err, ErrBrowser) {
		after.known = spent
	}
	f.known = after.known
	sh.makeRoomLocked()
	sh.troubles[s.ID] = after
}

// makeRoomLocked forgets one trouble, picked by the random order of map iteration, where there are too many.
func (sh *shard) makeRoomLocked() {
	if len(sh.troubles) < maxTroubles {
		return
	}
	for id := range sh.troubles {
		delete(sh.troubles, id)
		return
	}
}

// forget drops troubles of sessions that nobody uses any more.
func (r *Rechecker) forget() {
	now := r.now()
	for i := range r.shards {
		sh := &r.shards[i]
		sh.mu.Lock()
		for id, t := range sh.troubles {
			if now.Sub(t.at) > troubleLife {
				delete(sh.troubles, id)
			}
		}
		sh.mu.Unlock()
	}
}

// rest waits a moment that grows from call to call, and reports whether ctx still lasts.
func rest(ctx context.Context, tries int) bool {
	d := min(100*time.Millisecond<<min(tries, 4), time.Second)
	timer := time.NewTimer(d*3/4 + rand.N(d/2+1))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}
