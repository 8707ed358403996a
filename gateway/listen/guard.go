package listen

import (
	"container/list"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Why a Guard closes a connection.
const (
	ReasonFull      = "connections_full"    // all are of people who are signed in, and are being answered
	ReasonStrangers = "strangers_full"      // a stranger's made room for a new one
	ReasonAddress   = "address_full"        // the same, for a new one of its address
	ReasonKnown     = "known_full"          // one of somebody who is signed in, on which nobody asks, made room
	ReasonUnasked   = "unasked_bytes"       // it sent more than belongs to requests
	ReasonResets    = "requests_taken_back" // a stranger's requests, again and again
)

// Guard keeps connections within their limits. Those of strangers make room for others; those on which a session was found
// only while nobody asks on them, and when there are too many from one address or in all. What a connection does for a
// request of somebody known takes no lock.
type Guard struct {
	// Set once.
	limits Connections
	onCut  func(reason string, peer netip.Addr)
	turns  *turns
	now    func() time.Time
	choose func(*Guard, *queue, time.Time) *Conn // which stranger makes room; tests try worse

	mu        sync.Mutex
	open      int
	strangers queue
	addresses map[netip.Addr]*address
	answered  ranking // addresses by their strangers' connections that are being answered
	signedIn  ranking // addresses by their connections on which a session was found
	cut       int64   // so far
}

// address is what is open from one address, and is forgotten with its last connection.
type address struct {
	strangers queue
	known     list.List // connections on which a session was found
	answered  rank
	signedIn  rank
}

// NewGuard makes a Guard. It tells onCut of each connection that it closes, from many goroutines: why (one of the Reason
// constants), and the client's address.
func NewGuard(limits Connections, onCut func(reason string, peer netip.Addr)) *Guard {
	return &Guard{limits: limits, onCut: onCut, turns: newTurns(limits.Handshakes), now: time.Now, choose: (*Guard).leastPromising,
		addresses: map[netip.Addr]*address{}}
}

// Watch makes a listener's connections guarded ones: each is a *Conn.
func (g *Guard) Watch(l net.Listener) net.Listener { return guarded{l, g} }

// Guarded is what is open.
type Guarded struct {
	Strangers, Known int
	Cut              int64 // connections closed so far
}

// Stats counts what is open now.
func (g *Guard) Stats() Guarded {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Guarded{Strangers: g.strangers.len(), Known: g.open - g.strangers.len(), Cut: g.cut}
}

type guarded struct {
	net.Listener
	guard *Guard
}

// Accept returns the next connection for which there is room, if need be by closing a stranger's.
func (l guarded) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.guard.admit(conn); c != nil {
			return c, nil
		}
	}
}

// admit takes a connection in, or closes it and returns nil.
func (g *Guard) admit(conn net.Conn) *Conn {
	c := &Conn{Conn: conn, guard: g, from: keyOf(conn), since: g.now(), gone: make(chan struct{})}
	if victim, reason := g.enter(c); victim != nil {
		victim.Cut(reason)
		if victim == c {
			return nil
		}
	}
	return c
}

// enter counts a connection in and names the one that must go for it.
func (g *Guard) enter(c *Conn) (victim *Conn, reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	from := g.addresses[c.from]
	if from == nil {
		from = &address{}
		g.addresses[c.from] = from
	}
	c.address = from
	switch {
	case from.strangers.len() >= g.limits.PerAddress:
		victim, reason = g.choose(g, &from.strangers, c.since), ReasonAddress
	case g.strangers.len() >= g.limits.Strangers:
		victim, reason = g.choose(g, &g.strangers, c.since), ReasonStrangers
	case g.open >= g.limits.Total:
		victim, reason = g.forTotalLocked(c)
	}
	g.open++
	c.placeLocked(silent)
	if victim != nil {
		g.leaveLocked(victim)
	}
	return victim, reason
}

// forTotalLocked is who goes when there are as many connections as there may be. Newcomers, who may be about to show who
// they are, stay before connections of the signed in on which nobody asks; those are opened again by the next request.
func (g *Guard) forTotalLocked(c *Conn) (victim *Conn, reason string) {
	stranger := g.choose(g, &g.strangers, c.since)
	if stranger != nil && (stranger.at != silent || c.since.Sub(stranger.since) >= headStart) {
		return stranger, ReasonStrangers
	}
	if known := g.idleKnownLocked(); known != nil {
		return known, ReasonKnown
	}
	if stranger != nil {
		return stranger, ReasonStrangers
	}
	return c, ReasonFull
}

// mostLooked bounds the search for one of the signed in who does not ask.
const mostLooked = 4096

// idleKnownLocked is the connection on which somebody signed in has asked for nothing for the longest, of the address that
// has most of those that have one.
func (g *Guard) idleKnownLocked() *Conn {
	looked := 0
	for a := range g.signedIn.fromMost() {
		if c := a.idleKnown(); c != nil {
			return c
		}
		if looked += a.known.Len(); looked >= mostLooked {
			break
		}
	}
	return nil
}

// idleKnown is the one on which nobody has asked for the longest, or nil when all are being answered.
func (a *address) idleKnown() (longest *Conn) {
	for e := a.known.Front(); e != nil; e = e.Next() {
		c := e.Value.(*Conn)
		if c.asking.Load() == 0 && (longest == nil || c.rested.Load() < longest.rested.Load()) {
			longest = c
		}
	}
	return longest
}

// leaveLocked counts a connection out. It may have left before.
func (g *Guard) leaveLocked(c *Conn) {
	if c.left {
		return
	}
	c.left = true
	g.open--
	if c.known.Load() {
		c.address.known.Remove(c.local)
		g.signedIn.put(&c.address.signedIn, c.address, c.address.known.Len())
	} else {
		c.unplaceLocked()
	}
	if c.address.known.Len() == 0 && c.address.strangers.len() == 0 {
		delete(g.addresses, c.from)
	}
}

// familiar reports whether somebody is signed in from an address now.
func (g *Guard) familiar(c *Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return c.address.known.Len() > 0
}

// keyOf is what counts as one address. An IPv6 client has a /64 at least (RFC 6177 §2).
func keyOf(conn net.Conn) netip.Addr {
	a := addressOf(conn).WithZone("")
	if !a.Is6() {
		return a
	}
	p, _ := a.Prefix(64) // which every IPv6 address has
	return p.Addr()
}

// place is where a stranger's connection waits to be closed for another.
type place int

const (
	silent place = iota // has asked for nothing yet: half a handshake, half a head
	idle                // asked, and was answered
	busy                // is being answered
	places
)

// queue are strangers' connections; each of its lists is ordered by how long they have been there.
type queue struct{ lists [places]list.List }

func (q *queue) len() (n int) {
	for i := range q.lists {
		n += q.lists[i].Len()
	}
	return n
}

// headStart is how long a new connection goes before those that are idle: closing those harms nobody, who ask again on
// another, and a flood of connections that say nothing has passed it long since.
const headStart = 2 * time.Second

// leastPromising is the connection to close for another, or nil when there is none. One that is being answered goes before
// a newcomer: answers that nobody takes would hold their places for a minute and longer, and keep everybody else out.
func (g *Guard) leastPromising(q *queue, now time.Time) *Conn {
	if c := q.first(silent); c != nil && now.Sub(c.since) >= headStart {
		return c
	}
	if c := q.first(idle); c != nil {
		return c
	}
	if c := g.longestAnswered(q); c != nil {
		return c
	}
	return q.first(silent)
}

// longestAnswered is the one that has been answered for the longest: among those of all strangers, of the address that has
// most of them, so that whoever opens many takes from nobody who has few.
func (g *Guard) longestAnswered(q *queue) *Conn {
	if q == &g.strangers {
		for a := range g.answered.fromMost() {
			return a.strangers.first(busy)
		}
	}
	return q.first(busy)
}

func (q *queue) first(at place) *Conn {
	if e := q.lists[at].Front(); e != nil {
		return e.Value.(*Conn)
	}
	return nil
}

// Conn is a guarded connection. Its methods may be called at once.
type Conn struct {
	net.Conn
	guard *Guard
	from  netip.Addr
	since time.Time
	gone  chan struct{} // closed with the connection

	known    atomic.Bool
	asking   atomic.Int64 // requests that are being answered
	rested   atomic.Int64 // Unix nanoseconds of when somebody signed in was last answered
	unasked  atomic.Int64 // bytes since the last of them
	overhead overhead
	taken    atomic.Int64 // requests that were taken back
	computes atomic.Bool  // has a turn to compute its handshake
	closing  sync.Once
	wasCut   atomic.Bool

	// Guarded by guard.mu.
	address *address
	at      place
	global  *list.Element // in guard.strangers, of a stranger
	local   *list.Element // in address.strangers or address.known
	left    bool
}

// Asked notes that a request of the connection is being answered.
func (c *Conn) Asked() {
	c.Delivered(headBytes)
	if c.asking.Add(1) == 1 {
		c.move(busy)
	}
}

// Answered notes that one is no more. What is read from now on belongs to none, until the next.
func (c *Conn) Answered() {
	c.unasked.Store(0)
	if c.known.Load() {
		c.rested.Store(c.guard.now().UnixNano())
	}
	if c.asking.Add(-1) == 0 {
		c.move(idle)
	}
}

// TakenBack notes that the client took a request back; a stranger may do that so often.
func (c *Conn) TakenBack() {
	if c.taken.Add(1) > int64(c.guard.limits.Resets) && !c.known.Load() {
		c.Cut(ReasonResets)
	}
}

// Delivered notes that so many bytes of what was read reached whom they are for, such as a request's body.
func (c *Conn) Delivered(n int) {
	if !c.known.Load() {
		c.overhead.deliver(int64(n))
	}
}

// Identified notes that a session was found: the connection is no stranger's any more, for good. Where an address has as
// many as it may have, one of them on which nobody asks goes; while all are being answered, this one stays among strangers.
func (c *Conn) Identified() {
	if c.known.Load() { // as for most requests
		return
	}
	if victim := c.becomeKnown(); victim != nil {
		victim.Cut(ReasonKnown)
	}
}

func (c *Conn) becomeKnown() (victim *Conn) {
	g := c.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.left || c.known.Load() {
		return nil
	}
	if c.address.known.Len() >= g.limits.KnownPerAddress {
		if victim = c.address.idleKnown(); victim == nil {
			return nil
		}
		g.leaveLocked(victim)
	}
	c.unplaceLocked()
	c.rested.Store(g.now().UnixNano())
	c.known.Store(true)
	c.local = c.address.known.PushBack(c)
	g.signedIn.put(&c.address.signedIn, c.address, c.address.known.Len())
	return victim
}

// move puts a stranger's connection where it belongs by what it does.
func (c *Conn) move(to place) {
	if c.known.Load() {
		return
	}
	c.guard.mu.Lock()
	defer c.guard.mu.Unlock()
	if c.left || c.known.Load() {
		return
	}
	c.unplaceLocked()
	c.placeLocked(to)
}

func (c *Conn) placeLocked(at place) {
	c.at = at
	c.global = c.guard.strangers.lists[at].PushBack(c)
	c.local = c.address.strangers.lists[at].PushBack(c)
	c.rankLocked(at)
}

func (c *Conn) unplaceLocked() {
	c.guard.strangers.lists[c.at].Remove(c.global)
	c.address.strangers.lists[c.at].Remove(c.local)
	c.rankLocked(c.at)
}

func (c *Conn) rankLocked(changed place) {
	if changed == busy {
		c.guard.answered.put(&c.address.answered, c.address, c.address.strangers.lists[busy].Len())
	}
}

// errCut is what reading from a connection returns that was closed for what it sent.
var errCut = errors.New("the client sent more than belongs to requests")

// Read counts what belongs to no request.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.tooMuch(int64(n)) {
		c.Cut(ReasonUnasked)
		return 0, errCut
	}
	return n, err
}

// tooMuch counts bytes that were read, and reports whether they are more than may belong to no request. While one is open
// they may be its body: then what counts is what of them reaches nobody, and of strangers only.
func (c *Conn) tooMuch(n int64) bool {
	unasked := int64(c.guard.limits.Unasked)
	if c.asking.Load() == 0 {
		return c.unasked.Add(n) > unasked
	}
	return !c.known.Load() && c.overhead.read(n, c.guard.now()) > meanwhile*unasked
}

// Write ends the turn of a handshake: what it computed is in p.
func (c *Conn) Write(p []byte) (int, error) {
	c.endTurn()
	return c.Conn.Write(p)
}

// Close closes the connection, and what waits for it.
func (c *Conn) Close() error {
	c.closing.Do(func() {
		close(c.gone)
		c.endTurn()
		c.guard.mu.Lock()
		c.guard.leaveLocked(c)
		c.guard.mu.Unlock()
	})
	return c.Conn.Close()
}

// Cut closes the connection at once, without a word and without what the kernel still holds for it.
func (c *Conn) Cut(reason string) {
	if !c.wasCut.CompareAndSwap(false, true) {
		return
	}
	g := c.guard
	g.mu.Lock()
	g.cut++
	g.mu.Unlock()
	under := c.Conn
	if proxied, ok := under.(*clientConn); ok {
		under = proxied.NetConn()
	}
	if tcp, ok := under.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // it is closed in any case
	}
	c.Close()
	g.onCut(reason, addressOf(c))
}

// WasCut reports whether a limit closed the connection, which has been counted then.
func (c *Conn) WasCut() bool { return c.wasCut.Load() }

// NetConn is the connection below.
func (c *Conn) NetConn() net.Conn { return c.Conn }
