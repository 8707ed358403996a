package http1

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// readSize is the size of a connection's read buffer: most heads, and small answers as a whole, come with one read.
const readSize = 8 << 10

// conn is a connection to the app. One exchange has it at a time, or nobody while it is kept unused.
type conn struct {
	net.Conn          // what requests are written to: inner, or TLS over it
	inner    net.Conn // what Dial returned
	socket   *socket  // under inner; without one the connection is never used again
	records  *records // between TLS and inner; nil without TLS
	state    *tls.ConnectionState

	// Owned by the exchange.
	br       *bufio.Reader // reads from the conn itself
	deadline time.Time     // as set last; zero = none
	used     bool
	body     *exchange // whose body is being read

	generation uint64    // set once: of the idle connections, when this one was dialled
	idleSince  time.Time // guarded by the mutex of the idle connections
}

// dial opens a connection, with TLS where that is configured.
func (t *Transport) dial(ctx context.Context) (*conn, error) {
	generation := t.idle.current()
	connecting := ctx
	if t.ConnectTimeout > 0 {
		var cancel context.CancelFunc
		connecting, cancel = context.WithTimeout(ctx, t.ConnectTimeout)
		defer cancel()
	}
	inner, err := t.Dial(connecting)
	if err != nil {
		return nil, connectError(ctx, err)
	}
	c := &conn{Conn: inner, inner: inner, socket: socketOf(inner), generation: generation}
	if t.TLS != nil {
		if err := c.secure(connecting, t.TLS); err != nil {
			inner.Close()
			return nil, connectError(ctx, fmt.Errorf("tls handshake: %w", err))
		}
	}
	c.br = bufio.NewReaderSize(c, readSize)
	return c, nil
}

// connectError prefers the reason for which the request was given up to what that did to the connection.
func connectError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ended(ctx)
	}
	return err
}

func (c *conn) secure(ctx context.Context, config *tls.Config) error {
	c.records = &records{Conn: c.inner, socket: c.socket}
	secured := tls.Client(c.records, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return err
	}
	state := secured.ConnectionState()
	if p := state.NegotiatedProtocol; p != "" && p != "http/1.1" {
		return fmt.Errorf("the app chose the protocol %q", p)
	}
	c.Conn, c.state = secured, &state
	return nil
}

// Read is called when the buffer is empty. Only then does a body need the deadline of the head to be gone.
func (c *conn) Read(p []byte) (int, error) {
	if c.body != nil {
		c.body.unlimit()
	}
	return c.Conn.Read(p)
}

// cut closes the connection without ceremony, from any goroutine: whatever waits on it fails at once.
func (c *conn) cut() { c.inner.Close() }

// quit closes a connection nobody waits on; in TLS the app is told (RFC 8446 §6.1).
func (c *conn) quit() { c.Conn.Close() }

// grow makes room for a head larger than the buffer. What is buffered stays in the old one, which nobody writes to again,
// until the new one has taken it.
func (c *conn) grow(limit int) {
	buffered, _ := c.br.Peek(c.br.Buffered())
	both := io.MultiReader(bytes.NewReader(buffered), c)
	c.br = bufio.NewReaderSize(both, min(4*c.br.Size(), limit))
	c.br.Peek(len(buffered))
}

// shrink gives a grown buffer back. There is nothing in it.
func (c *conn) shrink() {
	if c.br.Size() > readSize {
		c.br = bufio.NewReaderSize(c, readSize)
	}
}

// silent reports whether the connection can carry another request: it is open, and everything the app ever sent was
// asked for and used up. In TLS that includes records that were received and not looked at yet.
func (c *conn) silent() bool {
	if c.socket == nil || c.br.Buffered() > 0 {
		return false
	}
	if c.records == nil {
		_, err := c.socket.receive(nil)
		return err == errNothing
	}
	return c.records.silent(c.Conn)
}

// errNothing says that nothing is waiting in a socket. TLS takes it for a timeout, after which it can be used again.
var errNothing net.Error = nothing{}

type nothing struct{}

func (nothing) Error() string   { return "nothing to read" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }

// records watches what TLS reads from the socket, so that it can be known whether all of it has been looked at.
//
// crypto/tls reads ahead: bytes of a next record may wait in it, where neither the socket nor the reader above TLS
// shows them. Whole ones come out by reading; the beginning of one shows in the count here.
type records struct {
	net.Conn
	socket  *socket
	probing bool // Read takes only what is there

	header [5]byte // of the record that is being read: type, version, length (RFC 8446 §5.1)
	got    int     // bytes of header
	left   int     // bytes of the record behind its header
}

func (r *records) Read(p []byte) (n int, err error) {
	if r.probing {
		n, err = r.socket.receive(p)
	} else {
		n, err = r.Conn.Read(p)
	}
	r.count(p[:n])
	return n, err
}

// count follows the borders of records.
func (r *records) count(p []byte) {
	for len(p) > 0 {
		if r.left > 0 {
			n := min(r.left, len(p))
			r.left, p = r.left-n, p[n:]
			continue
		}
		n := copy(r.header[r.got:], p)
		r.got, p = r.got+n, p[n:]
		if r.got == len(r.header) {
			r.got, r.left = 0, int(r.header[3])<<8|int(r.header[4])
		}
	}
}

// silent reads from TLS what is there: session tickets and the like are used up, data or an end is a no.
func (r *records) silent(secured net.Conn) bool {
	r.probing = true
	defer func() { r.probing = false }()
	var one [1]byte
	n, err := secured.Read(one[:])
	return n == 0 && errors.Is(err, errNothing) && r.got == 0 && r.left == 0
}
