// Package http1 is the lean HTTP/1.1 leg to one address of an app.
//
// A Transport is an http.RoundTripper for plain requests, those that [Fits] accepts: the goroutine that asks writes the
// request, head and small body in one piece, and reads the answer, on a connection nobody else uses meanwhile. Nothing
// runs beside it, and nothing is handed from goroutine to goroutine; that is what http.Transport spends most of its time
// on. Answers are parsed by http.ReadResponse, and what http.Transport refuses is refused here.
//
// A connection carries another request only after its last answer was framed without doubt and read to its end, and
// when it is silent at that moment: neither closed nor with bytes waiting that nobody asked for, in the socket or in
// TLS. Those would be taken for the answer to the next request, which is another person's (response queue poisoning).
//
// The package speaks no HTTP/2, tunnels nothing, sends no Expect and no trailers: such requests go by http.Transport.
// It balances nothing and follows no redirect, has no proxy, no cookies and no compression, and calls no httptrace.
package http1

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// maxBody bounds a request body that is sent in one piece with its head: the sockets of both sides take that much in
	// even when the app does not read, so that writing before reading cannot lock up with an app that does the same.
	maxBody = 64 << 10

	defaultMaxHead     = 256 << 10
	defaultMaxIdle     = 256
	defaultIdleTimeout = 90 * time.Second
)

// Transport carries requests to one address. Its fields are set before the first request; it is used by many goroutines
// at once and must not be copied.
type Transport struct {
	// Dial opens a connection, without TLS. A connection that is not a syscall.Conn, and says through NetConn of none, is
	// used for one request only: its silence cannot be proven. Required.
	Dial func(ctx context.Context) (net.Conn, error)
	// TLS is spoken when it is set; it names the server (ServerName) and says how it is verified. The only protocol it
	// may offer is http/1.1.
	TLS *tls.Config
	// ConnectTimeout bounds dialling and the TLS handshake. 0 = no limit but the request's context.
	ConnectTimeout time.Duration
	// ResponseTimeout bounds sending the request and waiting for the head of the answer. It may be exceeded by an eighth.
	// 0 = no limit but the request's context.
	ResponseTimeout time.Duration
	// IdleTimeout is how long a connection is kept unused. 0 = 90 s.
	IdleTimeout time.Duration
	// MaxIdle bounds the connections kept unused. 0 = 256.
	MaxIdle int
	// MaxHead bounds the head of an answer in bytes, all 1xx answers before it included. 0 = 256 KiB.
	MaxHead int

	idle     idleConns
	messages sync.Pool // of *message
	copies   sync.Pool // of *[copySize]byte

	// trusting is for tests: the mutant that takes every kept connection for silent.
	trusting bool
}

// Fits reports whether a request is plain: no CONNECT, no upgrade, no Expect, no Connection header, no trailers, and
// either no body or one of known length up to 64 KiB that is at hand (GetBody is set). The others are refused by
// RoundTrip, before anything is sent.
func Fits(req *http.Request) bool {
	if req.Method == http.MethodConnect || req.Close || len(req.TransferEncoding) != 0 || len(req.Trailer) != 0 || !fitsBody(req) {
		return false
	}
	for _, name := range notPlain {
		if _, there := req.Header[name]; there {
			return false
		}
	}
	return true
}

func fitsBody(req *http.Request) bool {
	if !hasBody(req) {
		return req.ContentLength == 0
	}
	return req.GetBody != nil && 0 < req.ContentLength && req.ContentLength <= maxBody
}

func hasBody(req *http.Request) bool { return req.Body != nil && req.Body != http.NoBody }

// RoundTrip sends the request and returns the answer once its head is there. Errors are an [*Error] that says how far
// the request came. A kept connection that turns out to be closed is replaced by a fresh one, once, if not a byte of the
// request left, or if no byte of an answer came and the method is safe (RFC 9110 §9.2.2).
//
// The end of the request's context interrupts sending, waiting and the reading of the body. The body must be closed.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	message, err := t.compose(req)
	if err != nil {
		return nil, &Error{Unsent, err}
	}
	defer t.release(message)
	if req.Context().Err() != nil {
		return nil, &Error{Unsent, ended(req.Context())}
	}
	if c := t.takeIdle(); c != nil {
		res, err := t.exchange(c, req, message)
		if err == nil || !mayRepeat(req, err) {
			return res, err
		}
	}
	c, err := t.dial(req.Context())
	if err != nil {
		return nil, &Error{Unsent, err}
	}
	return t.exchange(c, req, message)
}

// mayRepeat holds for requests whose kept connection failed them and that cannot have had an effect. It is stricter than
// http.Transport, which repeats a POST whose client sent an Idempotency-Key.
func mayRepeat(req *http.Request, err error) bool {
	if req.Context().Err() != nil {
		return false
	}
	switch reached(err) {
	case Unsent:
		return true
	case Stale:
		return isSafe(req.Method)
	}
	return false
}

func isSafe(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// CloseIdle closes the connections that are kept unused; those in use are closed when their answers end. The Transport
// goes on working, with new connections.
func (t *Transport) CloseIdle() { t.idle.clear() }

var _ http.RoundTripper = (*Transport)(nil)
