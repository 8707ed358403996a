package gateway

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"sallyport/gateway/compress"
	"sallyport/gateway/headers"
)

// copyBufferSize is what one read of an answer takes. An answer that fits is taken from the app as a whole before the
// client gets a byte, so that the app is free again whatever the client does.
const copyBufferSize = 32 << 10

// relay hands the app's answer to the client. The app is held no longer than it takes to say it: what a slow client has
// not taken yet waits in the spool, except for answers that are streams.
func (x *exchange) relay(res *http.Response) error {
	if res.StatusCode == http.StatusSwitchingProtocols {
		return x.tunnel(res)
	}
	defer res.Body.Close()
	x.noteKind(res)
	if x.endless() && x.server.draining.Load() {
		x.cancel(ErrShutdown)
		return x.interrupted()
	}
	header := x.w.Header()
	maps.Copy(header, res.Header)
	x.app.headers.Promise(header, res.StatusCode)
	x.app.headers.Share(header, x.req.Header["Origin"])
	x.stick(header)
	if x.kind.Load() == kindGRPC && res.Body == http.NoBody {
		x.w.WriteHeader(res.StatusCode) // grpc-go's Trailers-Only: header and end are one frame, so nothing is flushed
		return nil
	}
	if x.req.Method == http.MethodHead || hasNoBody(res) {
		x.compresses(res) // the header that GET would have
		x.w.WriteHeader(res.StatusCode)
		return nil
	}
	announceTrailer(header, res.Trailer)
	return x.relayBody(res)
}

// hasNoBody reports whether nothing follows the head: HTTP/2 takes even a write of no bytes amiss then.
func hasNoBody(res *http.Response) bool {
	return res.Body == http.NoBody || res.StatusCode == http.StatusNoContent || res.StatusCode == http.StatusNotModified
}

// kind is what an answer turns out to be, as far as its end is concerned.
const (
	kindPlain  int32 = iota
	kindEvents       // text/event-stream: goes on until somebody ends it
	kindGRPC         // its status is in the trailer
)

func (x *exchange) noteKind(res *http.Response) {
	contentType := res.Header.Get("Content-Type")
	switch {
	case isGRPC(contentType):
		x.kind.Store(kindGRPC)
	case strings.HasPrefix(contentType, "text/event-stream"):
		x.kind.Store(kindEvents)
	default:
		x.kind.Store(kindPlain)
	}
}

// streams reports whether the answer must reach the client as the app says it, byte by byte.
func (x *exchange) streams(res *http.Response) bool {
	return x.kind.Load() != kindPlain || x.streaming || strings.EqualFold(res.Header.Get("X-Accel-Buffering"), "no")
}

// relayBody copies the body in one of three ways: as a whole when it fits a buffer, as it comes when it is a stream, by
// way of the spool otherwise.
func (x *exchange) relayBody(res *http.Response) error {
	buf := x.server.buffers.Get()
	streams := x.streams(res)
	if !streams && res.ContentLength >= 0 && res.ContentLength <= copyBufferSize {
		return x.relaySmall(res, buf)
	}
	out := x.output(res)
	var err error
	if streams {
		err = x.relayLong(out, res.Body, buf, func() bool { return true })
	} else {
		spooled := x.server.spool.Response(x.ctx, res.Body)
		defer spooled.Close()
		err = x.relayLong(out, spooled, buf, spooled.Idle)
	}
	x.lendAgain(buf, err)
	return x.end(res, out, err)
}

// lendAgain gives a copy buffer back after a write that succeeded. Not after a failure: net/http may still be about to send
// from it, over HTTP/2, when a write fails because its stream has ended. What the next exchange puts there is another
// person's.
func (x *exchange) lendAgain(buf []byte, err error) {
	if err == nil {
		x.server.buffers.Put(buf)
	}
}

// output is where the body is written to: the client, or a compressor before it. The head is on its way then.
func (x *exchange) output(res *http.Response) flushWriter {
	zipped := x.compresses(res)
	x.w.WriteHeader(res.StatusCode)
	if zipped {
		return compress.NewWriter(clientWriter{x.w})
	}
	return clientWriter{x.w}
}

// compresses decides whether the answer is compressed, and if so makes its header say so.
func (x *exchange) compresses(res *http.Response) bool {
	return x.app.Compression && compress.Apply(compress.Request{Method: x.req.Method, Header: x.req.Header}, res.StatusCode, res.ContentLength, x.w.Header())
}

type flushWriter interface {
	io.WriteCloser
	Flush() error
}

// clientWriter is the client as a flushWriter. Its end is the handler's.
type clientWriter struct{ *response }

func (clientWriter) Close() error   { return nil }
func (w clientWriter) Flush() error { return http.NewResponseController(w.response).Flush() }

// relaySmall takes all of an answer before the client gets any of its body: the app is free whatever the client does.
func (x *exchange) relaySmall(res *http.Response, buf []byte) error {
	body := buf[:res.ContentLength]
	out := x.output(res)
	_, err := io.ReadFull(res.Body, body)
	if err == nil {
		err = drained(res.Body)
	}
	if err != nil {
		x.server.buffers.Put(buf)
		return x.end(res, out, readError{err})
	}
	if len(body) > heldBack {
		stop := x.interruptWrites()
		defer stop()
	}
	err = x.pass(out, body, false)
	x.lendAgain(buf, err)
	return x.end(res, out, err)
}

// heldBack is what net/http does not write before its handler has returned: 2 KiB in HTTP/1.1, 4 KiB in HTTP/2.
const heldBack = 2 << 10

// drained reads what ends a body after its last byte, which makes its connection free and its trailer known.
func drained(body io.Reader) error {
	var one [1]byte
	switch n, err := body.Read(one[:]); {
	case n > 0:
		return errors.New("the app said more than it announced")
	case err != nil && err != io.EOF:
		return err
	}
	return nil
}

// relayLong copies as long as it takes and flushes when idle says that the app pauses. The end of the exchange's context
// interrupts it also where the client takes nothing any more.
func (x *exchange) relayLong(out flushWriter, body io.Reader, buf []byte, idle func() bool) error {
	stop := x.interruptWrites()
	defer stop()
	if idle() {
		if err := out.Flush(); err != nil { // the head: the body may be long in coming
			return err
		}
	}
	for {
		n, err := body.Read(buf)
		if n > 0 {
			if err := x.pass(out, buf[:n], idle()); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return readError{err}
		}
	}
}

// pass writes what the client is to take now.
func (x *exchange) pass(out flushWriter, p []byte, flush bool) error {
	x.writing.Store(true)
	defer x.writing.Store(false)
	if _, err := out.Write(p); err != nil {
		return err
	}
	if flush {
		return out.Flush()
	}
	return nil
}

// interruptWrites makes the end of the exchange's context end a write that the client does not take: at once, or after the
// time for last words.
func (x *exchange) interruptWrites() (stop func()) {
	controller := http.NewResponseController(x.w)
	var late *time.Timer
	done := x.interrupt(func() {
		if !x.endsCleanly() {
			x.breakOff(controller)
			return
		}
		_ = controller.SetWriteDeadline(time.Now().Add(partingTime)) // every connection of ours can
		late = time.AfterFunc(partingTime, func() { x.breakOff(nil) })
	})
	return func() {
		done()
		if late != nil {
			late.Stop()
		}
	}
}

// breakOff ends a write that the client does not take. Over HTTP/1.1 the connection goes with it: past a deadline, TLS would
// wait five seconds more to say goodbye to somebody who does not listen.
func (x *exchange) breakOff(controller *http.ResponseController) {
	switch {
	case x.r.ProtoMajor == 1:
		x.conn.cut()
	case controller != nil:
		_ = controller.SetWriteDeadline(time.Unix(1, 0)) // resets the stream
	}
}

// interrupt calls end when the exchange's context ends. stop returns when that can happen no more: net/http's answer to
// HTTP/2 must not be touched once its handler has returned.
func (x *exchange) interrupt(end func()) (stop func()) {
	interrupted := make(chan struct{})
	stopped := context.AfterFunc(x.ctx, func() {
		defer close(interrupted)
		end()
	})
	return func() {
		if !stopped() {
			<-interrupted
		}
	}
}

// partingTime is how long a client may take to accept the end of its stream.
const partingTime = 2 * time.Second

// readError is what went wrong on the app's side.
type readError struct{ error }

func (e readError) Unwrap() error { return e.error }

// end closes the answer: as a whole, with a last word where the protocol has one, or broken off, so that nobody takes a
// part of an answer for all of it.
func (x *exchange) end(res *http.Response, out flushWriter, err error) error {
	if err == nil {
		err = out.Close()
	}
	if err == nil {
		sendTrailer(x.w, res.Trailer)
		return nil
	}
	_, fromApp := errors.AsType[readError](err)
	if fromApp {
		x.upstreamErr = err
	}
	switch x.kind.Load() {
	case kindGRPC:
		x.endGRPC()
		return nil
	case kindEvents:
		if x.ctx.Err() != nil {
			return nil // RFC 9112 §7.1: the last chunk; browsers then ask again, and are told why not
		}
	}
	if fromApp && x.ctx.Err() == nil {
		x.sayWhatWasSaid(out)
	}
	panic(http.ErrAbortHandler)
}

// sayWhatWasSaid sends what the app said before it broke off. A client that got nothing at all on a connection that it had
// used before would take the connection for the fault, and ask again.
func (x *exchange) sayWhatWasSaid(out flushWriter) {
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(partingTime)) // every connection of ours can
	_ = out.Flush()                                                                   // it is broken off in any case
}

// endsCleanly reports whether the answer is of a kind that has last words.
func (x *exchange) endsCleanly() bool { return x.kind.Load() != kindPlain }

// announceTrailer names the fields that will follow the body (RFC 9110 §6.6.2), as far as they may pass.
func announceTrailer(header, trailer http.Header) {
	for name := range trailer {
		if headers.MayTrail(name) {
			header["Trailer"] = append(header["Trailer"], name)
		}
	}
}

// sendTrailer writes the app's trailer fields as far as they may pass. Those that were not announced net/http has to be
// told by the prefix, and that the answer is not to be sent in one piece.
func sendTrailer(w *response, trailer http.Header) {
	if len(trailer) == 0 {
		return
	}
	header := w.Header()
	flushed := false
	for name, values := range trailer {
		if len(values) == 0 || !headers.MayTrail(name, values...) {
			continue
		}
		if !flushed {
			_ = http.NewResponseController(w).Flush() // a client that has gone gets no trailer either
			flushed = true
		}
		if slices.Contains(header["Trailer"], name) {
			header[name] = values // and no longer what the head said under that name
			continue
		}
		header[http.TrailerPrefix+name] = values
	}
}

// bufferPool lends copy buffers to all exchanges.
type bufferPool struct{ pool sync.Pool }

func newBufferPool() *bufferPool {
	return &bufferPool{sync.Pool{New: func() any { return new([copyBufferSize]byte) }}}
}

func (p *bufferPool) Get() []byte  { return p.pool.Get().(*[copyBufferSize]byte)[:] }
func (p *bufferPool) Put(b []byte) { p.pool.Put((*[copyBufferSize]byte)(b)) }
