package session

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxCached bounds the sessions kept in memory; the handles kept are at most four times as many. A session of a
	// person in 40 groups is about 2 KiB.
	maxCached = 1 << 16

	shardCount = 64 // a power of two
	sampled    = 8  // how many entries are looked at to find one to evict
)

// cache holds the sessions in use, found by handle. It is a copy of the store that is dropped piece by piece as news
// of changes arrives. The handles and the sessions are split over shards with a lock each; a lookup takes one read
// lock that only 1 in 64 other sessions share.
//
// A session read from the store while news about it arrives must not be cached after the news: so a reader takes a
// mark before it reads, and add refuses to keep what was read when anything was dropped since the mark.
type cache struct {
	drops    atomic.Uint64
	handles  [shardCount]handleShard
	sessions [shardCount]sessionShard
}

type handleShard struct {
	mu  sync.RWMutex
	m   map[Hash]cachedHandle
	max int
}

type sessionShard struct {
	mu  sync.Mutex
	m   map[string]*live
	max int
}

type cachedHandle struct {
	host string
	live *live
}

// live is a session in memory, shared by its handles.
type live struct {
	id      string
	session atomic.Pointer[Session] // nil once dropped: whoever still points here must ask the store
	seen    atomic.Int64            // last request here, Unix nanoseconds, to the second
	touched atomic.Int64            // what was last written down of it
}

func newCache(most int) *cache {
	c := new(cache)
	for i := range shardCount {
		c.handles[i] = handleShard{m: make(map[Hash]cachedHandle), max: 4 * most / shardCount}
		c.sessions[i] = sessionShard{m: make(map[string]*live), max: most / shardCount}
	}
	return c
}

// get returns the session of a handle and the handle's host, or nil.
func (c *cache) get(hash Hash) (*live, string) {
	shard := c.handleShard(hash)
	shard.mu.RLock()
	h := shard.m[hash]
	shard.mu.RUnlock()
	return h.live, h.host
}

// mark is what add needs to know of the time before the session was read.
func (c *cache) mark() uint64 { return c.drops.Load() }

// add keeps what was read from the store, and returns what to use for the request that read it. That is good for one
// request even if it is not kept, or dropped again meanwhile: it was true when it was read.
func (c *cache) add(mark uint64, hash Hash, host string, s *Session) (*live, *Session) {
	l, s, kept := c.addSession(mark, s)
	if kept {
		c.addHandle(hash, cachedHandle{host, l})
	}
	return l, s
}

func (c *cache) addSession(mark uint64, s *Session) (l *live, current *Session, kept bool) {
	shard := c.sessionShard(s.ID)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	l, known := shard.m[s.ID]
	if c.drops.Load() != mark {
		return newLive(s, l), s, false
	}
	if !known {
		shard.makeRoomLocked()
		l = newLive(s, nil)
		shard.m[s.ID] = l
		return l, s, true
	}
	advance(&l.seen, s.Seen.UnixNano())
	old := l.session.Load()
	if old.Version < s.Version {
		l.session.Store(s)
		return l, s, true
	}
	if later := *old; s.Seen.After(old.Seen) { // in another gateway
		later.Seen, later.Away = s.Seen, max(old.Away, s.Away)
		l.session.CompareAndSwap(old, &later)
	}
	return l, l.session.Load(), true
}

// newLive takes over what is known here of the session's last use.
func newLive(s *Session, known *live) *live {
	l := &live{id: s.ID}
	l.session.Store(s)
	l.seen.Store(s.Seen.UnixNano())
	l.touched.Store(s.Seen.UnixNano())
	if known != nil {
		advance(&l.seen, known.seen.Load())
		advance(&l.touched, known.touched.Load())
	}
	return l
}

func advance(to *atomic.Int64, t int64) {
	for old := to.Load(); old < t && !to.CompareAndSwap(old, t); old = to.Load() {
	}
}

func (c *cache) addHandle(hash Hash, h cachedHandle) {
	shard := c.handleShard(hash)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if _, known := shard.m[hash]; !known {
		shard.makeRoomLocked()
	}
	shard.m[hash] = h
}

// forget removes a handle that the store does not know.
func (c *cache) forget(hash Hash) {
	shard := c.handleShard(hash)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	delete(shard.m, hash)
}

// drop forgets a session: the next request with any of its handles asks the store.
func (c *cache) drop(id string) {
	c.drops.Add(1)
	shard := c.sessionShard(id)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if l := shard.m[id]; l != nil {
		shard.removeLocked(l)
	}
}

// dropAll forgets everything and returns the ids of the sessions it held.
func (c *cache) dropAll() []string {
	c.drops.Add(1)
	var ids []string
	for i := range c.sessions {
		shard := &c.sessions[i]
		shard.mu.Lock()
		for id, l := range shard.m {
			ids = append(ids, id)
			shard.removeLocked(l)
		}
		shard.mu.Unlock()
	}
	return ids
}

// seen returns when the session was last seen, here or as stored.
func (c *cache) seen(id string, stored time.Time) time.Time {
	shard := c.sessionShard(id)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if l := shard.m[id]; l != nil && l.seen.Load() > stored.UnixNano() {
		return time.Unix(0, l.seen.Load()).UTC()
	}
	return stored
}

func (s *sessionShard) removeLocked(l *live) {
	l.session.Store(nil)
	delete(s.m, l.id)
}

// makeRoomLocked evicts the longest unused of a few sessions, picked by the random order of map iteration.
func (s *sessionShard) makeRoomLocked() {
	if len(s.m) < s.max {
		return
	}
	var oldest *live
	left := sampled
	for _, l := range s.m {
		if oldest == nil || l.seen.Load() < oldest.seen.Load() {
			oldest = l
		}
		if left--; left == 0 {
			break
		}
	}
	s.removeLocked(oldest)
}

func (s *handleShard) makeRoomLocked() {
	if len(s.m) < s.max {
		return
	}
	var victim Hash
	var oldest *live
	left := sampled
	for hash, h := range s.m {
		if oldest == nil || h.live.session.Load() == nil || h.live.seen.Load() < oldest.seen.Load() {
			victim, oldest = hash, h.live
		}
		if left--; left == 0 || oldest.session.Load() == nil {
			break
		}
	}
	delete(s.m, victim)
}

func (c *cache) handleShard(hash Hash) *handleShard { return &c.handles[hash[0]%shardCount] }

// sessionShard uses the last letters of the id, which is random text.
func (c *cache) sessionShard(id string) *sessionShard {
	n := 0
	for i := max(0, len(id)-3); i < len(id); i++ {
		n = n*31 + int(id[i])
	}
	return &c.sessions[n%shardCount]
}

// absent remembers some handles that we made and that have ended, so that a browser that keeps sending one costs the
// store nothing. Such a handle never comes back. Each slot holds one; a newer one takes its place.
type absent [1 << 12]atomic.Pointer[Hash]

func (a *absent) slot(hash Hash) *atomic.Pointer[Hash] {
	return &a[(int(hash[1])<<8|int(hash[2]))%len(a)]
}

func (a *absent) add(hash Hash) { a.slot(hash).Store(&hash) }

func (a *absent) has(hash Hash) bool {
	h := a.slot(hash).Load()
	return h != nil && *h == hash
}
