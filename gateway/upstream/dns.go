package upstream

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	minTTL = time.Second
	maxTTL = 5 * time.Minute
	// plainTTL is for addresses that say nothing about how long they hold, such as those of /etc/hosts, and for names
	// that could not be resolved.
	plainTTL = 30 * time.Second
	// firstRetry is how soon a name is asked for again that has never been resolved. It doubles up to plainTTL.
	firstRetry = time.Second
	// lookupTimeout bounds one resolution.
	lookupTimeout = 10 * time.Second
)

// follow resolves the name of a target as often as its records ask for, until ctx ends. While it cannot be resolved the
// addresses of the last time hold; before the first time, connections are made to the name.
func (p *Pool) follow(ctx context.Context, t *target) {
	retry := firstRetry
	for {
		ips, ttl, err := lookup(ctx, t.name, p.cfg.Nameserver, egress{allow: t.Allow})
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			p.log.Warn("upstream name not resolved", "upstream", t.URL.String(), "error", err)
			ttl, retry = retry, min(2*retry, plainTTL)
		} else {
			p.resolved(t, ips)
			retry = firstRetry
		}
		if !wait(ctx, ttl) {
			return
		}
	}
}

// lookup resolves a name the way net does, hosts file and search list included, and reads from the answers that pass how
// long they hold.
func lookup(ctx context.Context, name, nameserver string, where egress) ([]netip.Addr, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var seen ttls
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if nameserver != "" {
			address = nameserver
		}
		inner, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return seen.listen(inner), nil
	}}
	found, err := resolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil, 0, err
	}
	ips := usable(found, where)
	if len(ips) == 0 {
		return nil, 0, ErrForbiddenAddress
	}
	return ips, seen.shortest(), nil
}

// usable are the addresses an app can live at, each once and always in the same order.
func usable(found []netip.Addr, where egress) []netip.Addr {
	var ips []netip.Addr
	for _, ip := range found {
		if ip = ip.Unmap(); where.permits(ip) {
			ips = append(ips, ip)
		}
	}
	slices.SortFunc(ips, netip.Addr.Compare)
	return slices.Compact(ips)
}

// ttls collects how long the records of a resolution hold. The resolver asks for several types at once.
type ttls struct {
	mu    sync.Mutex
	least uint32
	any   bool
}

func (t *ttls) shortest() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.any {
		return plainTTL
	}
	return min(max(time.Duration(t.least)*time.Second, minTTL), maxTTL)
}

// read takes in one DNS message. Whether it is an answer to our question the resolver decides; a forged one can only make
// us ask again sooner or later, within bounds.
func (t *ttls) read(message []byte) {
	var parser dnsmessage.Parser
	if _, err := parser.Start(message); err != nil || parser.SkipAllQuestions() != nil {
		return
	}
	for {
		header, err := parser.AnswerHeader()
		if err != nil {
			return
		}
		t.note(header.TTL)
		if parser.SkipAnswer() != nil {
			return
		}
	}
}

func (t *ttls) note(ttl uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.any || ttl < t.least {
		t.any, t.least = true, ttl
	}
}

// listen reads along on a connection to a DNS server. The resolver tells datagrams from streams by the connection's type.
func (t *ttls) listen(inner net.Conn) net.Conn {
	if udp, ok := inner.(*net.UDPConn); ok {
		return &datagrams{udp, t}
	}
	return &stream{Conn: inner, ttls: t}
}

// datagrams is a connection of which each Read is a message.
type datagrams struct {
	*net.UDPConn
	ttls *ttls
}

func (d *datagrams) Read(p []byte) (int, error) {
	n, err := d.UDPConn.Read(p)
	d.ttls.read(p[:n])
	return n, err
}

// stream is a connection on which each message follows its length (RFC 1035 §4.2.2).
type stream struct {
	net.Conn
	ttls   *ttls
	buffer []byte
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.buffer = append(s.buffer, p[:n]...)
	for len(s.buffer) >= 2 {
		end := 2 + int(binary.BigEndian.Uint16(s.buffer))
		if len(s.buffer) < end {
			break
		}
		s.ttls.read(s.buffer[2:end])
		s.buffer = s.buffer[end:]
	}
	return n, err
}
