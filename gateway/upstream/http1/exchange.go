package http1

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// exchange is one request and its answer on one connection, and the answer's body.
//
// It has the connection until it is over. Whoever ends it, the reader that came to the end, a failure or Close, decides
// what becomes of the connection, and nobody touches it afterwards: a body that is closed late must not reach into the
// next person's exchange.
type exchange struct {
	t   *Transport
	c   *conn
	ctx context.Context

	stop        func() bool // ends the watch over ctx
	interrupted atomic.Bool // ctx is over: the connection's deadline may be in the past at any time
	over        atomic.Bool

	sent  bool // the whole request
	reuse bool // the answer was framed without doubt, and neither side wants to close

	mu   sync.Mutex // held by whoever reads the body; guards the following
	left int64      // of a body of known length
	src  io.Reader  // a body of another kind
	res  *http.Response
	err  error // sticky
}

// exchange sends the request and reads the head of the answer.
func (t *Transport) exchange(c *conn, req *http.Request, m *message) (*http.Response, error) {
	x := &exchange{t: t, c: c, ctx: req.Context()}
	if x.ctx.Done() != nil {
		x.stop = context.AfterFunc(x.ctx, x.interrupt)
	}
	res, err := x.roundTrip(req, m)
	c.used = true
	if err != nil {
		if x.ctx.Err() != nil {
			err.Err = ended(x.ctx)
		}
		x.drop()
		return nil, err
	}
	return res, nil
}

func (x *exchange) roundTrip(req *http.Request, m *message) (*http.Response, *Error) {
	x.limit()
	n, failed := x.c.Write(m.buf)
	if failed != nil && n == 0 {
		return nil, &Error{Unsent, failed}
	}
	x.sent = failed == nil
	// An app may answer and close without reading the whole request: RFC 9112 §9.5. Its answer counts.
	res, err := x.answer(req)
	if err != nil && failed != nil && err.Stage != Broken {
		err.Err = failed
	}
	return res, err
}

// interrupt makes everything that waits on the connection fail at once.
func (x *exchange) interrupt() {
	x.interrupted.Store(true)
	x.c.inner.SetDeadline(time.Unix(1, 0))
}

// limit bounds the time until the head of the answer. Setting a deadline is not free, so one that is still far enough
// away is left as it is.
func (x *exchange) limit() {
	timeout := x.t.ResponseTimeout
	if timeout <= 0 {
		x.unlimit()
		return
	}
	now := time.Now()
	if x.c.deadline.Sub(now) < timeout {
		x.setDeadline(now.Add(timeout + timeout/8))
	}
}

// unlimit gives the body the time it needs.
func (x *exchange) unlimit() {
	if !x.c.deadline.IsZero() {
		x.setDeadline(time.Time{})
	}
}

func (x *exchange) setDeadline(when time.Time) {
	x.c.deadline = when
	x.c.inner.SetDeadline(when)
	if x.interrupted.Load() { // before or while the deadline was set: that must not undo it
		x.interrupt()
	}
}

// settle ends an exchange whose answer was read to its end. The connection is kept if nothing speaks against it. When the
// watch over the context cannot be called off, its interruption may come at any time, and would hit the next exchange.
func (x *exchange) settle() {
	if !x.over.CompareAndSwap(false, true) {
		return
	}
	undisturbed := x.stop == nil || x.stop()
	if undisturbed && x.reuse && x.sent && x.c.br.Buffered() == 0 {
		x.t.keep(x.c)
		return
	}
	x.c.cut()
}

// drop ends an exchange that failed or that nobody wants to see the end of.
func (x *exchange) drop() {
	if !x.over.CompareAndSwap(false, true) {
		return
	}
	if x.stop != nil {
		x.stop()
	}
	x.c.cut()
}
