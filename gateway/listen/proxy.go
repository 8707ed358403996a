package listen

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// proxyListener reads the header of each trusted peer's connection before it hands the connection out. Each waits in a
// goroutine of its own, bounded by the timeout, so that a slow peer holds up nobody; that is what a TLS handshake costs a
// moment later anyway. Connections of others pass untouched.
type proxyListener struct {
	net.Listener
	cfg      ProxyProtocol
	onReject func(reason string, peer netip.Addr)
	ready    chan accepted
	closed   chan struct{}
	running  sync.WaitGroup

	mu       sync.Mutex
	started  bool
	stopping bool
	waiting  map[net.Conn]bool // for a header
}

// accepted is what one call of Accept returns.
type accepted struct {
	conn net.Conn
	err  error
}

func newProxyListener(l net.Listener, cfg ProxyProtocol, onReject func(string, netip.Addr)) *proxyListener {
	if onReject == nil {
		onReject = func(string, netip.Addr) {}
	}
	return &proxyListener{Listener: l, cfg: cfg, onReject: onReject,
		ready: make(chan accepted), closed: make(chan struct{}), waiting: map[net.Conn]bool{}}
}

// Accept returns the next connection that is a client's. Until its first call connections wait in the socket's backlog.
func (l *proxyListener) Accept() (net.Conn, error) {
	l.start()
	select {
	case a := <-l.ready:
		return a.conn, a.err
	case <-l.closed:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
}

func (l *proxyListener) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.started && !l.stopping {
		l.started = true
		l.running.Go(l.accept)
	}
}

// Close stops accepting, drops what waits for a header and returns when nothing runs any more.
func (l *proxyListener) Close() error {
	l.mu.Lock()
	if !l.stopping {
		l.stopping = true
		close(l.closed)
	}
	for conn := range l.waiting {
		conn.Close()
	}
	l.mu.Unlock()
	err := l.Listener.Close()
	l.running.Wait()
	return err
}

func (l *proxyListener) accept() {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			// The caller decides whether to go on, and when.
			if !l.hand(accepted{err: err}) || errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		peer := addressOf(conn)
		if !l.cfg.trusts(peer) {
			l.handOrClose(conn)
			continue
		}
		l.running.Go(func() { l.greet(conn, peer) })
	}
}

// greet turns a trusted peer's connection into its client's.
func (l *proxyListener) greet(conn net.Conn, peer netip.Addr) {
	if !l.wait(conn) {
		conn.Close()
		return
	}
	conn.SetReadDeadline(time.Now().Add(l.cfg.Timeout))
	client, err := readHeader(conn)
	conn.SetReadDeadline(time.Time{})
	l.waitOver(conn)
	if err != nil {
		if why := reason(err); why != "" {
			l.onReject(why, peer)
		}
		conn.Close()
		return
	}
	if client.IsValid() {
		conn = &clientConn{Conn: conn, client: net.TCPAddrFromAddrPort(client)}
	}
	l.handOrClose(conn)
}

// wait notes that a header is awaited, unless the listener is closing.
func (l *proxyListener) wait(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopping {
		return false
	}
	l.waiting[conn] = true
	return true
}

func (l *proxyListener) waitOver(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, conn)
}

// hand gives a to Accept, or reports false when the listener closes first.
func (l *proxyListener) hand(a accepted) bool {
	select {
	case l.ready <- a:
		return true
	case <-l.closed:
		return false
	}
}

func (l *proxyListener) handOrClose(conn net.Conn) {
	if !l.hand(accepted{conn: conn}) {
		conn.Close()
	}
}

// clientConn is a connection whose client a trusted peer named. LocalAddr stays the socket's own: what the peer says
// about it has no use here.
type clientConn struct {
	net.Conn
	client *net.TCPAddr
}

// RemoteAddr is the client's address.
func (c *clientConn) RemoteAddr() net.Addr { return c.client }

// NetConn is the connection to the peer. Nothing of what the client sent is missing from it.
func (c *clientConn) NetConn() net.Conn { return c.Conn }

// SyscallConn is the socket of NetConn.
func (c *clientConn) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// addressOf is the address of the peer at the socket. One that is not IP is the zero Addr, which nobody trusts.
func addressOf(conn net.Conn) netip.Addr {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap()
}
