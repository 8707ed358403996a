package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"net/http/httptrace"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// conn is a connection to an app that is known to be silent before it is used again.
//
// An app that sends more than the answer it was asked for would have the rest taken for the answer to the next request,
// which is another person's (response queue poisoning). net/http closes a connection on which something arrives that
// nobody asked for, but looks only after it has offered the connection for reuse.
type conn struct {
	net.Conn

	mu      sync.Mutex
	changed sync.Cond
	reading bool // net/http waits for bytes: all that arrived before is used up
	closed  bool
}

func newConn(inner net.Conn) *conn {
	c := &conn{Conn: inner}
	c.changed.L = &c.mu
	return c
}

func (c *conn) Read(p []byte) (int, error) {
	c.set(&c.reading, true)
	n, err := c.Conn.Read(p)
	c.set(&c.reading, false)
	return n, err
}

func (c *conn) Close() error {
	c.set(&c.closed, true)
	return c.Conn.Close()
}

func (c *conn) set(what *bool, to bool) {
	c.mu.Lock()
	*what = to
	c.mu.Unlock()
	if to {
		c.changed.Broadcast()
	}
}

// silence returns when nothing more of the last answer can be waiting: net/http has used up what it had read, and nothing
// is in the socket. Otherwise the connection is closed, and net/http takes another one.
func (c *conn) silence() {
	c.mu.Lock()
	for !c.reading && !c.closed {
		c.changed.Wait()
	}
	c.mu.Unlock()
	if c.waiting() {
		c.Close()
	}
}

// waiting reports whether the socket holds bytes. The connection is being read from, so they are looked at past Read.
func (c *conn) waiting() bool {
	inner, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := inner.SyscallConn()
	if err != nil {
		return false
	}
	var one [1]byte
	n := 0
	raw.Control(func(fd uintptr) { n, _, _ = unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT) })
	return n > 0
}

// reuse is called with a connection that is about to carry a request.
var reuse = &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
	inner := info.Conn
	if secured, ok := inner.(*tls.Conn); ok {
		inner = secured.NetConn()
	}
	if c, ok := inner.(*conn); ok && info.Reused {
		c.silence()
	}
}}

// watching is a context whose request waits for the silence of the connection it is given.
func watching(ctx context.Context) context.Context {
	if httptrace.ContextClientTrace(ctx) == nil {
		return httptrace.WithClientTrace(ctx, reuse)
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: reuse.GotConn}) // is changed to call the other too
}
