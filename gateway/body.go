package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"sallyport/audit"
	"sallyport/gateway/route"
	"sallyport/gateway/spool"
)

// takeBody readies the request's body for the app. Ordinarily it is read to its end first, so that a slow upload holds no
// app and a request whose first address fails can be sent to another; a stream goes through as it comes. What inspect has
// read is what the app gets.
func (x *exchange) takeBody(out *http.Request) (release func(), err error) {
	if x.req.ContentLength == 0 { // HTTP/2 has a Body all the same
		return func() {}, nil
	}
	if x.streaming {
		x.receiveBody()
		out.Body, out.ContentLength = x.bodyIn, x.req.ContentLength
		if x.r.ProtoMajor == 1 {
			// An app may answer before it has read the whole body. Without this net/http would throw the rest of the body
			// away at the first byte of the answer. The error says that the connection cannot, which none of ours is.
			_ = http.NewResponseController(x.w).EnableFullDuplex()
		}
		return x.interruptReads(), nil
	}
	if x.body == nil {
		if err := x.takeWhole(); err != nil {
			return nil, x.bodyRefusal(err)
		}
	}
	delete(out.Header, "Expect") // RFC 9110 §10.1.1: nothing is left to wait for
	if x.body.Size() == 0 {
		return x.dropBody, nil
	}
	out.ContentLength, out.GetBody = x.body.Size(), x.body.Open
	if out.Body, err = x.body.Open(); err != nil {
		x.dropBody()
		return nil, x.bodyRefusal(err)
	}
	return x.dropBody, nil
}

// receiveBody is the client's body as it arrives, within the app's limit.
func (x *exchange) receiveBody() {
	x.bodyIn = &clientBody{ReadCloser: http.MaxBytesReader(x.w, x.r.Body, int64(x.app.MaxBody)), x: x}
}

// takeWhole reads the body to its end. The end of the exchange's context interrupts a client that does not send.
func (x *exchange) takeWhole() (err error) {
	x.receiveBody()
	stop := x.interruptReads()
	x.body, err = x.server.spool.Request(x.ctx, x.bodyIn, x.req.ContentLength, int64(x.app.MaxBody))
	stop()
	if err == nil {
		x.bodyIn.done()
	}
	return err
}

// dropBody frees what a body takes, also that of a request that was refused after its inspection.
func (x *exchange) dropBody() {
	if x.body != nil {
		x.body.Close()
	}
}

// interruptReads makes the end of the exchange's context end a read that waits for the client: net/http's transports notice
// that a request is over only when they have read from its body.
func (x *exchange) interruptReads() (stop func()) {
	controller := http.NewResponseController(x.w)
	return x.interrupt(func() { _ = controller.SetReadDeadline(time.Unix(1, 0)) }) // every connection of ours can
}

// hurryBody bounds the reading of a form of ours, which strangers send too.
func (x *exchange) hurryBody() {
	if x.req.ContentLength != 0 {
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(x.server.answering)) // every connection of ours can
	}
}

// bodyRefusal says why a body did not arrive.
func (x *exchange) bodyRefusal(err error) *Refusal {
	tooLarge, isTooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case isTooLarge:
		return bodyTooLarge(tooLarge)
	case isTimeout(err) && (x.ctx.Err() == nil || context.Cause(x.ctx) == context.Canceled): // net/http takes it for the client's end
		return &Refusal{Status: http.StatusRequestTimeout, Effect: audit.Reject, Reason: "body_timeout", Err: err, Close: true,
			Public: "The request took too long to arrive."}
	case x.ctx.Err() != nil:
		return x.interrupted()
	case errors.Is(err, spool.ErrTooLarge):
		return bodyTooLarge(err)
	case errors.Is(err, spool.ErrFull):
		return &Refusal{Status: http.StatusServiceUnavailable, Effect: audit.Reject, Reason: "spool_full", Err: err, Close: true,
			Public: "The gateway has no room for this request at the moment."}
	}
	return &Refusal{Status: http.StatusBadRequest, Effect: audit.Reject, Reason: "body_broke_off", Err: err, Close: true,
		Public: "The request ended before all of it had arrived."}
}

func isTimeout(err error) bool {
	netErr, ok := errors.AsType[net.Error](err)
	return ok && netErr.Timeout()
}

func bodyTooLarge(err error) *Refusal {
	return &Refusal{Status: http.StatusRequestEntityTooLarge, Effect: audit.Reject, Reason: "body_too_large", Err: err,
		Public: "The request is larger than this app accepts.", Close: true}
}

// clientBody counts what the client sent, lets it pause no longer than the app's timeouts.client, and wants
// timeouts.upload_rate of it on average.
type clientBody struct {
	io.ReadCloser
	x        *exchange
	began    time.Time // to be read
	got      int64     // bytes
	deadline time.Time // that is set
	failed   atomic.Pointer[error]
}

func (b *clientBody) Read(p []byte) (int, error) {
	b.extend()
	n, err := b.ReadCloser.Read(p)
	b.got += int64(n)
	b.x.read.Add(int64(n))
	if n > 0 {
		b.x.conn.guard.Delivered(n)
	}
	if err != nil && err != io.EOF {
		b.failed.CompareAndSwap(nil, &err)
	}
	return n, err
}

// brokeOff reports whether an exchange failed because the client's body did.
func (b *clientBody) brokeOff(err error) bool {
	if b == nil {
		return false
	}
	failed := b.failed.Load()
	return failed != nil && errors.Is(err, *failed)
}

// extend moves the deadline when a good part of the time is over: a deadline costs more than a read.
func (b *clientBody) extend() {
	patience := b.x.app.Timeouts.Client
	now := time.Now()
	if patience <= 0 || b.x.streaming || b.deadline.Sub(now) > patience/2 {
		return
	}
	if b.began.IsZero() {
		b.began = now
	}
	b.deadline = now.Add(patience)
	if last, ok := lastByte(b.began, b.got, b.x.app.Timeouts); ok && last.Before(b.deadline) {
		b.deadline = last
	}
	if last := b.began.Add(longestBody); b.x.awaited && last.Before(b.deadline) {
		b.deadline = last
	}
	_ = http.NewResponseController(b.x.w).SetReadDeadline(b.deadline)
}

// lastByte is until when more must have come of a body that has so many bytes, if there is a bound: each second's worth of
// them buys a second, after the first pause.
func lastByte(began time.Time, got int64, t route.Timeouts) (until time.Time, bounded bool) {
	if t.UploadRate <= 0 {
		return time.Time{}, false
	}
	const decades = 1 << 30 // seconds, which a Duration can hold
	return began.Add(t.Client + time.Duration(min(got/int64(t.UploadRate), decades))*time.Second), true
}

// done takes the deadline back: net/http watches the connection on, and would take it for the client's end.
func (b *clientBody) done() {
	if !b.deadline.IsZero() {
		_ = http.NewResponseController(b.x.w).SetReadDeadline(time.Time{})
	}
}
