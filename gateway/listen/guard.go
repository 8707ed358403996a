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
	ReasonFull      = "connections_full"    // all are of people who are signed in
	ReasonStrangers = "strangers_full"      // a stranger's made room for a new one
	ReasonAddress   = "address_full"        // the same, for a new one of its address
	ReasonUnasked   = "unasked_bytes"       // it sent more than belongs to requests
	ReasonResets    = "requests_taken_back" // a stranger's requests, again and again
)

// Guard keeps connections within their limits. Those of strangers make room for others; those on which a session was found
// are only counted. What a connection does for a request of somebody known takes no lock.
type Guard struct {
	// Set once.
	limits Connections
	onCut  func(reason string, peer netip.Addr)
	turns  *turns
	now    func() time.Time
	choose func(*queue, time.Time) *Conn // who makes room; tests try worse

	mu        sync.Mutex
	open      int
	strangers queue
	addresses map[netip.Addr]*address
	cut       int64 // so far
}

// address is what is open from one address, and is forgotten with its last connection.
type address struct {
	strangers queue
	known     int // connections on which a session was found
}

// NewGuard makes a Guard. It tells onCut of each connection that it closes, from many goroutines: why (one of the Reason
// constants), and the client's address.
func NewGuard(limits Connections, onCut func(reason string, peer netip.Addr)) *Guard {
	return &Guard{limits: limits, onCut: onCut, turns: newTurns(limits.Handshakes), now: time.Now, choose: (*queue).leastPromising,
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
		victim, reason = g.choose(&from.strangers, c.since), ReasonAddress
	case g.strangers.len() >= g.limits.Strangers:
		victim, reason = g.choose(&g.strangers, c.since), ReasonStrangers
	case g.open >= g.limits.Total && g.strangers.len() > 0:
		victim, reason = g.choose(&g.strangers, c.since), ReasonStrangers
	case g.open >= g.limits.Total:
		victim, reason = c, ReasonFull
	}
	g.open++
	c.placeLocked(silent)
	if victim != nil {
		g.leaveLocked(victim)
	}
	return victim, reason
}

// leaveLocked counts a connection out. It may have left before.
func (g *Guard) leaveLocked(c *Conn) {
	if c.left {
		return
	}
	c.left = true
	g.open--
	if c.known.Load() {
		c.address.known--
	} else {
		c.unplaceLocked()
	}
	if c.address.known == 0 && c.address.strangers.len() == 0 {
		delete(g.addresses, c.from)
	}
}

// familiar reports whether somebody is signed in from an address now.
func (g *Guard) familiar(c *Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return c.address.known > 0
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

// leastPromising is the connection to close for another, or nil when there is none.
func (q *queue) leastPromising(now time.Time) *Conn {
	if c := q.first(silent); c != nil && now.Sub(c.since) >= headStart {
		return c
	}
	for _, at := range [...]place{idle, silent, busy} {
		if c := q.first(at); c != nil {
			return c
		}
	}
	return nil
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
	unasked  atomic.Int64 // bytes since the last of them
	taken    atomic.Int64 // requests that were taken back
	computes atomic.Bool  // has a turn to compute its handshake
	closing  sync.Once
	wasCut   atomic.Bool

	// Guarded by guard.mu.
	address *address
	at      place
	global  *list.Element // in guard.strangers
	local   *list.Element // in address.strangers
	left    bool
}

// Asked notes that a request of the connection is being answered.
func (c *Conn) Asked() {
	if c.asking.Add(1) == 1 {
		c.move(busy)
	}
}

// Answered notes that one is no more. What is read from now on belongs to none, until the next.
func (c *Conn) Answered() {
	c.unasked.Store(0)
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

// Identified notes that a session was found: the connection is no stranger's any more, for good.
func (c *Conn) Identified() {
	if c.known.Load() { // as for most requests
		return
	}
	c.guard.mu.Lock()
	defer c.guard.mu.Unlock()
	if c.left || c.known.Load() {
		return
	}
	c.unplaceLocked()
	c.known.Store(true)
	c.address.known++
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
}

func (c *Conn) unplaceLocked() {
	c.guard.strangers.lists[c.at].Remove(c.global)
	c.address.strangers.lists[c.at].Remove(c.local)
}

// errCut is what reading from a connection returns that was closed for what it sent.
var errCut = errors.New("the client sent more than belongs to requests")

// Read counts what belongs to no request.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.asking.Load() == 0 && c.unasked.Add(int64(n)) > int64(c.guard.limits.Unasked) {
		c.Cut(ReasonUnasked)
		return 0, errCut
	}
	return n, err
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
