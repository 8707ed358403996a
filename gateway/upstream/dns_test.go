package upstream

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// nameserver is a real DNS server with one name in it, over UDP and TCP.
type nameserver struct {
	address string
	mu      sync.Mutex
	ttl     uint32
	ips     []string
	fails   bool
	large   bool // answers over UDP are cut short
	asked   int
}

func newNameserver(t *testing.T, ttl uint32, ips ...string) *nameserver {
	t.Helper()
	packets, streams := bothPorts(t)
	s := &nameserver{address: packets.LocalAddr().String(), ttl: ttl, ips: ips}
	var all sync.WaitGroup
	all.Go(func() {
		buffer := make([]byte, 1500)
		for {
			n, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			packets.WriteTo(s.answer(buffer[:n], true), from)
		}
	})
	all.Go(func() {
		for {
			c, err := streams.Accept()
			if err != nil {
				return
			}
			buffer := make([]byte, 1500)
			n, _ := c.Read(buffer)
			answer := s.answer(buffer[2:n], false)
			c.Write([]byte{byte(len(answer) >> 8)}) // in pieces, as streams come
			c.Write(append([]byte{byte(len(answer))}, answer...))
			c.Close()
		}
	})
	t.Cleanup(func() { packets.Close(); streams.Close(); all.Wait() })
	return s
}

// bothPorts listens on one port that is free in both protocols.
func bothPorts(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 50 {
		streams, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		packets, err := net.ListenPacket("udp", streams.Addr().String())
		if err == nil {
			return packets, streams
		}
		streams.Close()
	}
	t.Fatal("no port is free in both protocols")
	return nil, nil
}

func (s *nameserver) set(change func()) { s.mu.Lock(); defer s.mu.Unlock(); change() }

func (s *nameserver) questions() int { s.mu.Lock(); defer s.mu.Unlock(); return s.asked }

func (s *nameserver) answer(question []byte, overUDP bool) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	var parser dnsmessage.Parser
	header, err := parser.Start(question)
	if err != nil {
		panic(err)
	}
	q, err := parser.Question()
	if err != nil {
		panic(err)
	}
	reply := dnsmessage.Message{Header: dnsmessage.Header{ID: header.ID, Response: true, RecursionAvailable: true}, Questions: []dnsmessage.Question{q}}
	switch {
	case s.fails:
		reply.RCode = dnsmessage.RCodeServerFailure
	case s.large && overUDP:
		reply.Truncated = true
	case q.Type == dnsmessage.TypeA:
		for _, ip := range s.ips {
			reply.Answers = append(reply.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: s.ttl},
				Body:   &dnsmessage.AResource{A: netip.MustParseAddr(ip).As4()},
			})
		}
	}
	packed, err := reply.Pack()
	if err != nil {
		panic(err)
	}
	return packed
}

// onAll is an app that listens on several loopback addresses with one port, and says on which it was asked.
func onAll(t *testing.T, ips ...string) (port string) {
	t.Helper()
	for _, ip := range ips {
		listener, err := net.Listen("tcp", net.JoinHostPort(ip, port))
		if err != nil {
			t.Fatal(err)
		}
		if port == "" {
			_, port, _ = net.SplitHostPort(listener.Addr().String())
		}
		s := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(fine)}}
		s.Start()
		t.Cleanup(s.Close)
	}
	return port
}

func resolvedAddresses(p *Pool) (list []string) {
	for _, e := range p.Endpoints() {
		if e.State != Leaving {
			list = append(list, e.Resolved)
		}
	}
	slices.Sort(list)
	return list
}

func TestNamesAreFollowed(t *testing.T) {
	port := onAll(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	dns := newNameserver(t, 1, "127.0.0.1", "127.0.0.2")
	cfg := config(t, "http://app.internal.test:"+port)
	cfg.Nameserver = dns.address
	p := poolOf(t, cfg)
	p.Start()
	at := func(ips ...string) func() bool {
		for i := range ips {
			ips[i] += ":" + port
		}
		return func() bool { return slices.Equal(resolvedAddresses(p), ips) }
	}
	eventually(t, "each address is an endpoint", at("127.0.0.1", "127.0.0.2"))
	hint := &Hint{}
	for range 10 {
		mustGet(t, p, hint)
	}
	if got := p.Endpoints(); got[0].Requests != 5 || got[1].Requests != 5 || got[0].Address != "http://app.internal.test:"+port {
		t.Errorf("got %+v, want five requests each", got)
	}
	first := p.Endpoints()[0]
	dns.set(func() { dns.ips = []string{"127.0.0.3", "127.0.0.1"} })
	eventually(t, "the new address is one", at("127.0.0.1", "127.0.0.3"))
	if got := p.Endpoints()[0]; got.ID != first.ID || got.Requests != first.Requests {
		t.Errorf("the address that stays is %+v, was %+v", got, first)
	}
	dns.set(func() { dns.fails = true })
	asked := dns.questions()
	eventually(t, "the name is asked for again", func() bool { return dns.questions() > asked+2 })
	if !at("127.0.0.1", "127.0.0.3")() {
		t.Error("the addresses are gone with the name server")
	}
	mustGet(t, p, nil)
}

func TestTTLBoundsHowLongANameHolds(t *testing.T) {
	dns := newNameserver(t, 120, "127.0.0.1", "127.0.0.2")
	for ttl, want := range map[uint32]time.Duration{0: minTTL, 120: 2 * time.Minute, 1 << 30: maxTTL} {
		for _, large := range []bool{false, true} {
			dns.set(func() { dns.ttl, dns.large = ttl, large })
			ips, got, err := lookup(t.Context(), "app.internal.test", dns.address, egress{})
			if err != nil || got != want || len(ips) != 2 {
				t.Errorf("TTL %d, truncated %v: got %v, %v, %v; want %v", ttl, large, ips, got, err, want)
			}
		}
	}
	if _, ttl, err := lookup(t.Context(), "localhost", dns.address, egress{}); err != nil || ttl != plainTTL {
		t.Errorf("localhost: got %v, %v; want %v", ttl, err, plainTTL)
	}
}

// SSRF-02: a name that comes to stand for a metadata service (DNS rebinding) leads nowhere.
func TestNamesDoNotLeadToForbiddenAddresses(t *testing.T) {
	dns := newNameserver(t, 1, "169.254.169.254", "127.0.0.1", "0.0.0.0")
	ips, _, err := lookup(t.Context(), "app.internal.test", dns.address, egress{})
	if err != nil || !slices.Equal(ips, []netip.Addr{netip.MustParseAddr("127.0.0.1")}) {
		t.Errorf("got %v, %v", ips, err)
	}
	dns.set(func() { dns.ips = []string{"169.254.169.254"} })
	if ips, _, err := lookup(t.Context(), "app.internal.test", dns.address, egress{}); err != ErrForbiddenAddress {
		t.Errorf("got %v, %v; want ErrForbiddenAddress", ips, err)
	}
}

func TestDrainingAnAddressHoldsForWhatItResolvesTo(t *testing.T) {
	port := onAll(t, "127.0.0.1", "127.0.0.2")
	dns := newNameserver(t, 1, "127.0.0.1")
	address := "http://app.internal.test:" + port
	cfg := config(t, address)
	cfg.Nameserver = dns.address
	p := poolOf(t, cfg)
	p.Start()
	if !p.Drain(address, true) {
		t.Fatal("there is no such address")
	}
	dns.set(func() { dns.ips = []string{"127.0.0.2"} })
	eventually(t, "the new address is known", func() bool { return slices.Equal(resolvedAddresses(p), []string{"127.0.0.2:" + port}) })
	if _, err := get(t.Context(), p, nil); err != ErrNoEndpoint {
		t.Errorf("got %v, want ErrNoEndpoint", err)
	}
	p.Drain(address, false)
	mustGet(t, p, nil)
}
