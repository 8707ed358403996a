package listen

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// roomy are limits that no test meets by accident.
func roomy() Connections {
	return Connections{Total: 100, Strangers: 50, PerAddress: 40, KnownPerAddress: 100, Handshakes: 4, Head: 10 * time.Second, Idle: time.Minute, Ping: time.Minute,
		Streams: 100, Resets: 5, Unasked: leastUnasked, Requests: 10}
}

// yard is a Guard whose connections are in memory.
type yard struct {
	*Guard
	mu   sync.Mutex
	cuts []string
}

func newYard(limits Connections) *yard {
	y := &yard{}
	y.Guard = NewGuard(limits, func(reason string, _ netip.Addr) {
		y.mu.Lock()
		defer y.mu.Unlock()
		y.cuts = append(y.cuts, reason)
	})
	return y
}

// come is a new connection from an address.
func (y *yard) come(t testing.TB, from string) *Conn {
	c, _ := y.comeWithPeer(t, from)
	return c
}

func (y *yard) comeWithPeer(t testing.TB, from string) (*Conn, net.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return y.admit(&clientConn{Conn: ours, client: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 1))}), theirs
}

// makingRoom are three connections of strangers that did this and that, and the one that goes for a fourth; -1 is nobody that
// was there before. known is how a session is found on one.
var makingRoom = map[string]struct {
	prepare func(c []*Conn, known func(*Conn))
	want    int
}{
	"the oldest that never asked":              {func([]*Conn, func(*Conn)) { time.Sleep(headStart) }, 0},
	"not one that asked":                       {func(c []*Conn, _ func(*Conn)) { time.Sleep(headStart); serveOnce(c[0]) }, 1},
	"not one that is being answered":           {func(c []*Conn, _ func(*Conn)) { time.Sleep(headStart); c[0].Asked() }, 1},
	"not one that is signed in":                {func(c []*Conn, known func(*Conn)) { time.Sleep(headStart); known(c[0]) }, -1},
	"an idle one before new ones":              {func(c []*Conn, _ func(*Conn)) { serveOnce(c[1]) }, 1},
	"the one that is idle for the longest":     {func(c []*Conn, _ func(*Conn)) { serveOnce(c...); serveOnce(c[0]) }, 1},
	"an idle one before one that is answered":  {func(c []*Conn, _ func(*Conn)) { c[0].Asked(); serveOnce(c[1:]...) }, 1},
	"one that is answered when there are none": {func(c []*Conn, _ func(*Conn)) { asked(c...) }, 0},
	"one that is answered before new ones":     {func(c []*Conn, _ func(*Conn)) { asked(c[2], c[1]) }, 2},
	"a new one when there is none else":        {func([]*Conn, func(*Conn)) {}, 0},
}

// whoGoes plays a case of makingRoom against a guard, made worse if need be.
func whoGoes(t *testing.T, name string, known func(*Conn), worsen func(*Guard)) (got int) {
	synctest.Test(t, func(t *testing.T) {
		limits := roomy()
		limits.Strangers, limits.PerAddress = 3, 3
		y := newYard(limits)
		worsen(y.Guard)
		var there []*Conn
		for i := range 3 {
			there = append(there, y.come(t, fmt.Sprintf("192.0.2.%d", i)))
		}
		makingRoom[name].prepare(there, known)
		newcomer := y.come(t, "192.0.2.9")
		got = slices.IndexFunc(there, (*Conn).WasCut)
		if s := y.Stats(); newcomer == nil || s.Strangers > 3 || s.Strangers+s.Known > 4 {
			t.Errorf("%s: %+v are open, the new one is: %t", name, s, newcomer != nil)
		}
	})
	return got
}

// Who goes for a new connection: those that never asked before those that are idle, each in the order in which they came to
// it, before those that are being answered; new ones have a head start before all of these; somebody who is signed in never
// goes.
func TestWhoMakesRoom(t *testing.T) {
	for name, c := range makingRoom {
		t.Run(name, func(t *testing.T) {
			if got := whoGoes(t, name, (*Conn).Identified, func(*Guard) {}); got != c.want {
				t.Errorf("connection %d was closed for the new one, want %d", got, c.want)
			}
		})
	}
}

// Guards that are worse are found by the cases above.
func TestWorseGuardsAreFound(t *testing.T) {
	inOrder := func(order ...place) func(*Guard) {
		return func(g *Guard) {
			g.choose = func(_ *Guard, q *queue, _ time.Time) *Conn {
				for _, at := range order {
					if c := q.first(at); c != nil {
						return c
					}
				}
				return nil
			}
		}
	}
	for name, worse := range map[string]struct {
		known  func(*Conn)
		worsen func(*Guard)
	}{
		"without a head start":           {(*Conn).Identified, inOrder(silent, idle, busy)},
		"idle ones always first":         {(*Conn).Identified, inOrder(idle, silent, busy)},
		"answered ones before idle ones": {(*Conn).Identified, inOrder(silent, busy, idle)},
		"new ones before answered ones": {(*Conn).Identified, func(g *Guard) {
			g.choose = func(g *Guard, q *queue, now time.Time) *Conn {
				if c := q.first(silent); c != nil && (now.Sub(c.since) >= headStart || q.first(idle) == nil) {
					return c
				}
				return g.leastPromising(q, now)
			}
		}},
		"the newest first": {(*Conn).Identified, func(g *Guard) {
			g.choose = func(g *Guard, q *queue, now time.Time) *Conn {
				if c := g.leastPromising(q, now); c != nil {
					return q.lists[c.at].Back().Value.(*Conn)
				}
				return nil
			}
		}},
		"people who are signed in too": {func(*Conn) {}, func(*Guard) {}},
	} {
		t.Run(name, func(t *testing.T) {
			for which, c := range makingRoom {
				if whoGoes(t, which, worse.known, worse.worsen) != c.want {
					return
				}
			}
			t.Error("no case finds it")
		})
	}
}

func serveOnce(list ...*Conn) {
	for _, c := range list {
		c.Asked()
		c.Answered()
	}
}

func asked(list ...*Conn) {
	for _, c := range list {
		c.Asked()
	}
}

// One address takes from itself, and IPv6 clients are one by their /64.
func TestAnAddressTakesFromItself(t *testing.T) {
	limits := roomy()
	limits.PerAddress = 2
	if wrong := crowdOneAddress(t, newYard(limits)); len(wrong) > 0 {
		t.Error(wrong)
	}
	if wrong := crowdOneAddress(t, newYard(roomy())); len(wrong) == 0 {
		t.Error("a guard without a bound for an address is not found")
	}
}

// crowdOneAddress tells what is wrong when three come from an address that has room for two.
func crowdOneAddress(t *testing.T, y *yard) (wrong []string) {
	other := y.come(t, "198.51.100.1")
	for _, from := range []string{"192.0.2.1", "2001:db8::1"} {
		first := y.come(t, from)
		y.come(t, from)
		if from == "2001:db8::1" {
			from = "2001:db8::ffff"
		}
		y.come(t, from)
		if !first.WasCut() {
			wrong = append(wrong, from+": the first of three is open")
		}
	}
	if other.WasCut() || !slices.Equal(y.cuts, []string{ReasonAddress, ReasonAddress}) {
		wrong = append(wrong, fmt.Sprintf("cut for %q, another address's: %v", y.cuts, other.WasCut()))
	}
	return wrong
}

// When all are of people who are signed in and are being answered, the new one has no room; when one is not, it has its.
func TestTotalNeverTakesFromTheSignedIn(t *testing.T) {
	limits := roomy()
	limits.Total = 3
	y := newYard(limits)
	var people []*Conn
	for range 3 {
		people = append(people, y.come(t, "192.0.2.1"))
	}
	for _, c := range people[:2] {
		c.Asked()
		c.Identified()
	}
	if y.come(t, "192.0.2.2") == nil || !people[2].WasCut() {
		t.Error("a stranger made no room")
	}
	third := y.come(t, "192.0.2.3")
	third.Asked()
	third.Identified()
	if y.come(t, "192.0.2.4") != nil {
		t.Error("there was room for a fourth")
	}
	if slices.ContainsFunc(people[:2], (*Conn).WasCut) {
		t.Error("somebody who is signed in was cut")
	}
	if want := []string{ReasonStrangers, ReasonStrangers, ReasonFull}; !slices.Equal(y.cuts, want) {
		t.Errorf("cut for %q, want %q", y.cuts, want)
	}
}

// DOS-16: strangers' places are full of answers that nobody takes, and new connections come all the time. Each address that
// holds many loses some; who comes is not closed before it has had the time to say who it is.
func TestNewcomersGoBeforeAnswersThatNobodyTakes(t *testing.T) {
	if wrong := takeAllPlaces(t, func(*Guard) {}); wrong != "" {
		t.Error(wrong)
	}
	for name, worse := range map[string]func(*Guard, *queue, time.Time) *Conn{
		"new ones before answered ones": func(_ *Guard, q *queue, _ time.Time) *Conn {
			return cmp.Or(q.first(idle), q.first(silent), q.first(busy))
		},
		"the longest of all addresses": func(_ *Guard, q *queue, _ time.Time) *Conn { return cmp.Or(q.first(busy), q.first(silent)) },
	} {
		if takeAllPlaces(t, func(g *Guard) { g.choose = worse }) == "" {
			t.Errorf("not found: %s", name)
		}
	}
}

// takeAllPlaces tells what is wrong when four addresses have sixteen connections each that are being answered, one has a
// single one for longer than these, and people come from others.
func takeAllPlaces(t *testing.T, worsen func(*Guard)) (wrong string) {
	synctest.Test(t, func(t *testing.T) {
		limits := roomy()
		limits.Strangers, limits.PerAddress = 65, 16
		y := newYard(limits)
		worsen(y.Guard)
		reader := y.come(t, "203.0.113.1")
		reader.Asked()
		for n := range 64 {
			y.come(t, fmt.Sprintf("192.0.2.%d", n%4)).Asked()
		}
		var people []*Conn
		for n := range 20 {
			people = append(people, y.come(t, fmt.Sprintf("198.51.100.%d", n)))
			y.come(t, "192.0.2.200")
		}
		for n, c := range people {
			c.Asked()
			c.Identified()
			if c.WasCut() {
				wrong = fmt.Sprintf("person %d of %d was closed", n, len(people))
			}
		}
		if reader.WasCut() {
			wrong = "the only one of its address was closed"
		}
		for from, a := range y.addresses {
			if n := a.strangers.lists[busy].Len(); n < 6 && from != reader.from && from != netip.MustParseAddr("192.0.2.200") && a.known.Len() == 0 {
				wrong = fmt.Sprintf("%d are left of %v, which has lost more than others", n, from)
			}
		}
	})
	return wrong
}

// One address of the signed in has so many connections; it takes from itself what nobody asks on. One for which there is
// nothing to take stays among strangers and is served, and other addresses have nothing to do with it.
func TestConnectionsOfTheSignedInFromOneAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := roomy()
		limits.KnownPerAddress = 3
		y := newYard(limits)
		signIn := func(from string) *Conn {
			time.Sleep(time.Second)
			c := y.come(t, from)
			c.Asked()
			c.Identified()
			return c
		}
		other := signIn("192.0.2.2")
		other.Answered()
		var c []*Conn
		for range 3 {
			c = append(c, signIn("192.0.2.1"))
		}
		if beyond := signIn("192.0.2.1"); beyond.WasCut() || beyond.known.Load() || y.Stats() != (Guarded{Strangers: 1, Known: 4}) {
			t.Errorf("with all being answered: %+v, one more is open %t and counts as known %t", y.Stats(), !beyond.WasCut(), beyond.known.Load())
		}
		c[2].Answered()
		time.Sleep(time.Second)
		c[0].Answered()
		if next := signIn("192.0.2.1"); !next.known.Load() || !c[2].WasCut() || c[0].WasCut() || c[1].WasCut() || other.WasCut() {
			t.Errorf("cut: %v %v %v of the address, %v of another, want the one that has been idle for the longest", c[0].WasCut(), c[1].WasCut(), c[2].WasCut(), other.WasCut())
		}
		if !slices.Equal(y.cuts, []string{ReasonKnown}) {
			t.Errorf("cut for %q", y.cuts)
		}
	})
}

// One person takes all connections that there may be: who comes is let in for those on which that person does not ask.
func TestTotalOfOnePerson(t *testing.T) {
	if wrong := takeTotal(t, roomy().KnownPerAddress, (*Conn).Answered); wrong != "" {
		t.Error(wrong)
	}
	if takeTotal(t, roomy().KnownPerAddress, func(*Conn) {}) == "" {
		t.Error("nobody gives way, which is not found")
	}
	if wrong := takeTotal(t, 20, func(*Conn) {}); wrong != "" {
		t.Errorf("with a bound for an address: %s", wrong)
	}
}

// takeTotal tells what is wrong when one address has taken all connections, after of each was answered what rest says.
func takeTotal(t *testing.T, ofAddress int, rest func(*Conn)) (wrong string) {
	synctest.Test(t, func(t *testing.T) {
		limits := roomy()
		limits.Total, limits.Strangers, limits.PerAddress, limits.KnownPerAddress = 40, 10, 10, ofAddress
		y := newYard(limits)
		bob := y.come(t, "192.0.2.2")
		bob.Asked()
		bob.Identified()
		bob.Answered()
		for range 39 {
			time.Sleep(time.Second)
			c := y.come(t, "192.0.2.1")
			c.Asked()
			c.Identified()
			rest(c)
		}
		for n := range 5 {
			c := y.come(t, "198.51.100.1")
			if c == nil {
				wrong = fmt.Sprintf("the new one %d has no room", n)
				return
			}
			c.Asked()
			c.Identified()
		}
		if bob.WasCut() {
			wrong = "one of an address that has few gave way"
		}
	})
	return wrong
}

// What is open is counted exactly, whatever happens at once, and nothing is left of it.
func TestGuardForgets(t *testing.T) {
	limits := roomy()
	limits.Strangers, limits.Total, limits.PerAddress = 20, 30, 7
	y := newYard(limits)
	var clients sync.WaitGroup
	for i := range 16 {
		clients.Go(func() {
			for n := range 50 {
				c := y.come(t, fmt.Sprintf("192.0.2.%d", (i+n)%5))
				if c == nil {
					continue
				}
				c.Asked()
				if n%3 == 0 {
					c.Identified()
				}
				c.TakenBack()
				c.Answered()
				if n%2 == 0 {
					c.AwaitTurn()
				}
				if s := y.Stats(); s.Strangers > 20 || s.Strangers+s.Known > 30 {
					t.Errorf("%+v are open", s)
				}
				c.Close()
			}
		})
	}
	clients.Wait()
	s := y.Stats()
	if s.Strangers != 0 || s.Known != 0 || len(y.addresses) != 0 || y.turns.free != limits.Handshakes {
		t.Errorf("left: %+v, %d addresses, %d turns of %d", s, len(y.addresses), y.turns.free, limits.Handshakes)
	}
}

// Bytes that belong to no request have a bound, which each request begins anew; those of its body have none here.
func TestBytesBetweenRequests(t *testing.T) {
	y := newYard(roomy())
	c, peer := y.comeWithPeer(t, "192.0.2.1")
	buf := make([]byte, leastUnasked)
	pass := func(n int) error {
		go peer.Write(make([]byte, n))
		_, err := io.ReadFull(c, buf[:n])
		return err
	}
	for range 3 {
		if err := pass(leastUnasked); err != nil {
			t.Fatalf("up to the bound: %v", err)
		}
		c.Asked()
		for range 3 * meanwhile {
			if err := pass(leastUnasked); err != nil {
				t.Fatalf("a body: %v", err)
			}
			c.Delivered(leastUnasked * 9 / 10) // the rest is frames
		}
		c.Answered()
	}
	pass(leastUnasked)
	if err := pass(1); !errors.Is(err, errCut) || !c.WasCut() {
		t.Errorf("beyond the bound: %v", err)
	}
}

// DOS-02: what reaches nobody has a bound while a request is open too, in each minute; for those who are signed in it has none.
func TestBytesBesideRequests(t *testing.T) {
	for _, known := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			y := newYard(roomy())
			c := y.come(t, "192.0.2.1")
			c.Asked()
			if known {
				c.Identified()
			}
			for minute := range 3 {
				for range meanwhile {
					if c.tooMuch(leastUnasked) {
						t.Fatalf("signed in %v, minute %d: cut within the bound", known, minute)
					}
				}
				time.Sleep(time.Minute)
			}
			for range meanwhile {
				c.tooMuch(leastUnasked)
			}
			if got := c.tooMuch(1); got == known {
				t.Errorf("signed in %v: cut beyond the bound: %v", known, got)
			}
		})
	}
}

// DOS-01: strangers may take back so many requests; people who are signed in as many as they like.
func TestRequestsTakenBack(t *testing.T) {
	y := newYard(roomy())
	for _, known := range []bool{false, true} {
		c := y.come(t, "192.0.2.1")
		if known {
			c.Identified()
		}
		n := 0
		for ; n < 100 && !c.WasCut(); n++ {
			c.Asked()
			c.TakenBack()
			c.Answered()
		}
		if want := map[bool]int{false: roomy().Resets + 1, true: 100}[known]; n != want {
			t.Errorf("signed in %v: cut after %d, want %d", known, n, want)
		}
	}
}

// Handshakes go so many at once, those from where somebody is signed in first; whoever leaves gives its turn on.
func TestHandshakesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := roomy()
		limits.Handshakes = 1
		y := newYard(limits)
		y.come(t, "192.0.2.1").Identified()
		first := y.come(t, "198.51.100.1")
		if err := first.AwaitTurn(); err != nil {
			t.Fatal(err)
		}
		order := make(chan string, 3)
		wait := func(name, from string) *Conn {
			c := y.come(t, from)
			go func() {
				if c.AwaitTurn() == nil {
					order <- name
				}
			}()
			synctest.Wait()
			return c
		}
		leaver := wait("leaver", "198.51.100.2")
		strange := wait("strange", "198.51.100.3")
		familiar := wait("familiar", "192.0.2.1")
		leaver.Close()
		end := func(c *Conn) { // as a handshake's answer does
			c.endTurn()
			synctest.Wait()
		}
		end(first)
		end(familiar)
		end(strange)
		close(order)
		var got []string
		for name := range order {
			got = append(got, name)
		}
		if want := []string{"familiar", "strange"}; !slices.Equal(got, want) {
			t.Errorf("turns went to %q, want %q", got, want)
		}
		if y.turns.free != 1 {
			t.Errorf("%d turns are free, want 1", y.turns.free)
		}
	})
}

// A handshake whose turn does not come ends.
func TestTurnThatDoesNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := roomy()
		limits.Handshakes = 1
		y := newYard(limits)
		if err := y.come(t, "192.0.2.1").AwaitTurn(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := y.come(t, "192.0.2.2").AwaitTurn(); !errors.Is(err, errNoTurn) || time.Since(start) != limits.Head {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
	})
}

// A door that is guarded goes on when it closes connections, and lets go of all of them.
func TestGuardedDoor(t *testing.T) {
	limits := roomy()
	limits.Strangers, limits.PerAddress = 5, 5
	y := newYard(limits)
	l := y.Watch(open(t, ProxyProtocol{}, nil))
	var served sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	served.Go(func() {
		for ctx.Err() == nil {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer c.Close()
				io.Copy(io.Discard, c)
			})
		}
	})
	var clients []net.Conn
	for range 50 {
		clients = append(clients, dial(t, l, "127.0.0.1"))
	}
	eventually(t, "45 of 50 connections are cut", func() error {
		if s := y.Stats(); s.Cut != 45 || s.Strangers != 5 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	for _, c := range clients {
		c.Close()
	}
	eventually(t, "nothing is left", func() error {
		if s := y.Stats(); s.Strangers+s.Known != 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	cancel()
	l.Close()
	served.Wait()
}

func TestConnectionSettings(t *testing.T) {
	if err := roomy().Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Connections){
		"more strangers than connections":   func(c *Connections) { c.Strangers = c.Total + 1 },
		"more of an address than of all":    func(c *Connections) { c.PerAddress = c.Strangers + 1 },
		"nobody signed in":                  func(c *Connections) { c.KnownPerAddress = 0 },
		"no handshakes":                     func(c *Connections) { c.Handshakes = 0 },
		"a head that arrives at once":       func(c *Connections) { c.Head = time.Millisecond },
		"a head that arrives next week":     func(c *Connections) { c.Head = 7 * 24 * time.Hour },
		"connections that are never idle":   func(c *Connections) { c.Idle = 0 },
		"no ping":                           func(c *Connections) { c.Ping = 0 },
		"no streams":                        func(c *Connections) { c.Streams = 0 },
		"no request may be taken back":      func(c *Connections) { c.Resets = 0 },
		"less than a head between requests": func(c *Connections) { c.Unasked = 1 << 10 },
		"no stranger's request":             func(c *Connections) { c.Requests = 0 },
	} {
		c := roomy()
		change(&c)
		if c.Check() == nil {
			t.Errorf("accepted: %s", name)
		}
	}
}
