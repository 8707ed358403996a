package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"sallyport/gateway/headers"
	"sallyport/policy"
)

// connections notices what never becomes a request: handshakes that fail and heads that net/http's own parser
// refuses. Nothing of those was forwarded and no handler sees them, so they are counted: when bytes arrived, the
// connection fell idle or closed again, and no request had reached the handler in between. In HTTP/2 a single malformed
// head among others, or one that does not even open a stream, ends without a trace here.
type connections struct {
	open    sync.Map // net.Conn → *connection
	refused func(reason string, peer netip.Addr)
}

// connection is one client connection.
type connection struct {
	conn    net.Conn
	peer    headers.Peer
	address netip.AddrPort
	ip      string // of address, as the policy knows it
	secured atomic.Pointer[policy.TLS]
	shown   atomic.Pointer[shownCert] // what its client certificate came to when it was verified last
	facts   atomic.Pointer[facts]     // of the client, as they were last
	known   atomic.Bool               // a session was found on it
	handled atomic.Int64              // requests that reached the handler; several at once in HTTP/2
	guard   guard

	// The rest belongs to the server's goroutine for the connection, in which net/http reports its states.
	active  bool
	before  int64 // handled, when the connection became active
	greeted bool  // an HTTP/2 connection became active and idle once without a request, for its preface
}

// guard holds a connection to its limits (listen.Conn). All of it may be called at once.
type guard interface {
	Asked()          // a request is being answered
	Answered()       // and is no more
	Delivered(n int) // bytes of what the client sends reached whom they are for
	TakenBack()      // the client took it back
	Identified()     // a session was found: strangers' limits are not for it any more
	WasCut() bool    // a limit closed it, and has been counted
}

// unguarded is a connection without limits, as tests have them.
type unguarded struct{}

func (unguarded) Asked()        {}
func (unguarded) Answered()     {}
func (unguarded) Delivered(int) {}
func (unguarded) TakenBack()    {}
func (unguarded) Identified()   {}
func (unguarded) WasCut() bool  { return false }

func guardOf(conn net.Conn) guard {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	if guarded, ok := conn.(guard); ok {
		return guarded
	}
	return unguarded{}
}

type connectionKey struct{}

// context is http.Server.ConnContext.
func (c *connections) context(ctx context.Context, conn net.Conn) context.Context {
	address, _ := netip.ParseAddrPort(conn.RemoteAddr().String()) // invalid where it is no IP address
	info := &connection{conn: conn, peer: headers.NewPeer(address.Addr()), address: address, ip: address.Addr().Unmap().WithZone("").String(), guard: guardOf(conn)}
	c.open.Store(conn, info)
	return context.WithValue(ctx, connectionKey{}, info)
}

// silent reports whether there is a connection on which nobody has asked for anything yet.
func (c *connections) silent() (found bool) {
	c.open.Range(func(_, info any) bool {
		found = info.(*connection).handled.Load() == 0
		return !found
	})
	return found
}

// state is http.Server.ConnState.
func (c *connections) state(conn net.Conn, state http.ConnState) {
	known, ok := c.open.Load(conn)
	if !ok {
		return
	}
	info := known.(*connection)
	switch state {
	case http.StateActive:
		info.active, info.before = true, info.handled.Load()
		return
	case http.StateHijacked:
		c.open.Delete(conn)
		return
	case http.StateClosed:
		c.open.Delete(conn)
	}
	if reason := info.refusal(conn, state); reason != "" && !info.guard.WasCut() {
		c.refused(reason, peerOf(conn))
	}
	info.active = false
}

// refusal is why a connection that fell idle or closed did so without a request, or empty.
func (info *connection) refusal(conn net.Conn, state http.ConnState) string {
	secured, isTLS := conn.(*tls.Conn)
	switch {
	case isTLS && state == http.StateClosed && !secured.ConnectionState().HandshakeComplete:
		return "tls_handshake"
	case !info.active || info.handled.Load() > info.before:
		return ""
	case isTLS && !info.greeted && secured.ConnectionState().NegotiatedProtocol == "h2":
		info.greeted = true
		return ""
	}
	return "malformed_request"
}

// handled notes that a request reached the handler, and returns its connection.
func (c *connections) handled(r *http.Request) *connection {
	info := r.Context().Value(connectionKey{}).(*connection)
	info.handled.Add(1)
	info.guard.Asked()
	return info
}

// identified notes that a session was found on the connection: strangers' limits are not for it any more.
func (info *connection) identified() {
	if !info.known.Load() { // most requests come on connections that are known
		info.known.Store(true)
		info.guard.Identified()
	}
}

// leaveConnection gives the connection back to its client's next request.
func (x *exchange) leaveConnection() {
	if x.r.ProtoMajor == 2 && x.r.Context().Err() != nil {
		x.conn.guard.TakenBack()
	}
	x.conn.guard.Answered()
}

// cut closes the connection under TLS, without a word.
func (info *connection) cut() {
	if secured, ok := info.conn.(*tls.Conn); ok {
		secured.NetConn().Close()
		return
	}
	info.conn.Close()
}

// tls is what the policy may know of the connection's TLS, which is the same for all of its requests.
func (info *connection) tls(state *tls.ConnectionState) *policy.TLS {
	if known := info.secured.Load(); known != nil {
		return known
	}
	made := &policy.TLS{Version: strings.TrimPrefix(tls.VersionName(state.Version), "TLS "), Cipher: tls.CipherSuiteName(state.CipherSuite),
		SNI: state.ServerName, ALPN: state.NegotiatedProtocol}
	info.secured.Store(made)
	return made
}

func peerOf(conn net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
