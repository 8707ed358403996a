// Package listen is the front door before TLS: sockets that are bound here or inherited from a service manager, and the
// PROXY protocol of load balancers that are trusted to say who the client is.
//
// Inherited takes the sockets of a service manager, which keeps them open across a restart of the gateway, so that
// connections wait in its backlog and none is refused. Listen makes one door of an address, or of an inherited socket, and
// the trusted peers. What it accepts has a RemoteAddr that is the client's: the kernel's word, or a trusted peer's, and
// nobody else's.
//
// It speaks neither TLS nor HTTP, and limits no number of connections.
package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Options say what a door is made of.
type Options struct {
	// Key is the name of the setting that Address comes from, for errors: listen or listen_http.
	Key string
	// Address is where to listen, such as ":443". Required, also with an inherited socket, which must fit it.
	Address string
	// Inherited is the socket that a service manager made for this door, or nil to bind one. It becomes the listener's,
	// unless Listen fails.
	Inherited net.Listener
	// Proxy says whose PROXY protocol headers are believed.
	Proxy ProxyProtocol
	// OnReject is told of each connection from a trusted peer that was dropped because of its header: why (one of the
	// Reason constants), and the peer's own address, never a claimed one. It is called from many goroutines. Nil is
	// allowed.
	OnReject func(reason string, peer netip.Addr)
}

// Listen opens a door. The listener's Accept never waits for a client to say something, and its connections know their
// RemoteAddr without waiting. Close drops connections whose header has not arrived and waits for what they had running.
//
// Sockets keep Go's settings, bound and inherited alike. TCP_NODELAY is on: every layer above writes whole messages.
// Keep-alive probes find a silent peer dead after 150 s (15 s, then nine times 15 s). The backlog is the system's
// somaxconn, or what the service manager chose. TCP_USER_TIMEOUT stays off: it would also end clients that read slowly or
// pause, which keep a window of zero and are well. What the kernel holds unsent is bounded (maxUnsent).
func Listen(ctx context.Context, o Options) (net.Listener, error) {
	if err := o.Proxy.Check(); err != nil {
		return nil, fmt.Errorf("proxy_protocol: %w", err)
	}
	l := o.Inherited
	if l == nil {
		bound, err := bind(ctx, o.Address)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Key, err)
		}
		l = bound
	} else if err := fits(ctx, l, o.Address); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Key, err)
	}
	if err := boundUnsent(l); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", o.Key, err), l.Close())
	}
	if len(o.Proxy.Trusted) == 0 {
		return l, nil
	}
	return newProxyListener(l, o.Proxy, o.OnReject), nil
}

// maxUnsent bounds what the kernel holds for a client that has not even been sent yet. Without it each slow client would
// be given megabytes that were encrypted for nothing.
const maxUnsent = 256 << 10

// boundUnsent sets the bound for a listener; connections inherit it.
func boundUnsent(l net.Listener) error {
	socket, ok := l.(syscall.Conn)
	if !ok {
		return nil // a test's own
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsent)
	})
	return errors.Join(err, failed)
}

// bind makes a plain TCP socket: Go's default is Multipath TCP, which sandboxes cannot confine by port.
func bind(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is taken by another program", address)
	}
	return l, err
}

// fits holds an inherited socket against the configured address. Another port would make every URL we print wrong; more
// addresses than were configured would open the gateway where nobody meant to.
func fits(ctx context.Context, l net.Listener, address string) error {
	if address == "" {
		return fmt.Errorf("the service manager passed the socket %s, which nothing is configured to serve", l.Addr())
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return err
	}
	have, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("the inherited socket %s is not TCP", l.Addr())
	}
	if port != 0 && port != have.Port {
		return fmt.Errorf("the inherited socket is %s, and the configuration says %s: the ports differ", have, address)
	}
	if want, err := netip.ParseAddr(host); err == nil && !want.IsUnspecified() && want.Unmap() != have.AddrPort().Addr().Unmap() {
		return fmt.Errorf("the inherited socket is %s, and the configuration says %s: the addresses differ", have, address)
	}
	return nil
}
