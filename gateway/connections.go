package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
)

// connections notices what never becomes a request: handshakes that fail and heads that net/http's own parser
// refuses. Nothing of those was forwarded, and no handler sees them, so they are counted when their connection
// closes.
type connections struct {
	open    sync.Map // net.Conn → *connection
	refused func(reason string, peer netip.Addr)
}

// connection is one client connection. Its fields are touched by the server's goroutine for it and by its handlers.
type connection struct {
	started atomic.Int64 // requests whose first byte arrived (HTTP/1.1), or 1 (HTTP/2)
	handled atomic.Int64 // requests that reached the handler
}

type connectionKey struct{}

// context is http.Server.ConnContext.
func (c *connections) context(ctx context.Context, conn net.Conn) context.Context {
	info := &connection{}
	c.open.Store(conn, info)
	return context.WithValue(ctx, connectionKey{}, info)
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
		info.started.Add(1)
	case http.StateHijacked:
		c.open.Delete(conn)
	case http.StateClosed:
		c.open.Delete(conn)
		if reason := info.refusal(conn); reason != "" {
			c.refused(reason, peerOf(conn))
		}
	}
}

// refusal is why a closed connection ended without its last request reaching the handler, or empty.
func (info *connection) refusal(conn net.Conn) string {
	secured, isTLS := conn.(*tls.Conn)
	switch {
	case isTLS && !secured.ConnectionState().HandshakeComplete:
		return "tls_handshake"
	case info.started.Load() > info.handled.Load():
		return "malformed_request"
	}
	return ""
}

// handled notes that a request reached the handler.
func (c *connections) handled(r *http.Request) {
	if info, ok := r.Context().Value(connectionKey{}).(*connection); ok {
		info.handled.Add(1)
	}
}

func peerOf(conn net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
