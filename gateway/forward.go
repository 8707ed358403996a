package gateway

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"sallyport/audit"
	"sallyport/gateway/headers"
	"sallyport/gateway/ui"
	"sallyport/gateway/upstream"
)

const (
	copyBufferSize = 32 << 10
	// statusClientClosed is what nginx calls 499: the client left before the answer; for records only.
	statusClientClosed = 499
)

type exchangeKey struct{}

// forwarding is the context of an exchange on its way to the app.
func (x *exchange) forwarding() context.Context { return context.WithValue(x.ctx, exchangeKey{}, x) }

// forward sends the decided request to the app and its answer to the client. It runs after the allow record is
// durable and nowhere else.
func (x *exchange) forward() error {
	outgoing, err := x.outgoingHeader()
	if err != nil {
		return &Refusal{Status: http.StatusServiceUnavailable, Effect: audit.Reject, Reason: "assertion_unavailable",
			Public: "The gateway cannot vouch for you to the app at the moment.", Err: err}
	}
	x.outgoing = outgoing
	x.limitBody()
	x.server.streams.add(x)
	defer x.server.streams.remove(x)
	x.noticeChanges()
	if x.ctx.Err() != nil {
		return x.interrupted()
	}
	x.served = true
	x.app.proxy.ServeHTTP(x.w, x.r.WithContext(x.forwarding()))
	if x.upstreamErr != nil && x.w.status == 0 {
		return x.unavailable(x.upstreamErr)
	}
	return nil
}

// noticeChanges catches what happened between the decision and the moment from which changes find the exchange by
// themselves: the end of its session, another policy.
func (x *exchange) noticeChanges() {
	if _, err := x.currentSession(); err != nil {
		x.cancel(lookupCause(err))
		return
	}
	if x.endless() && x.server.draining.Load() {
		x.cancel(ErrShutdown)
		return
	}
	if x.server.snapshot.Load() != x.snap {
		x.redecide()
	}
}

// outgoingHeader is what the app sees: what the client may say, and what the gateway vouches for.
func (x *exchange) outgoingHeader() (http.Header, error) {
	out := x.req.Header
	headers.SetForwarded(out, headers.Forwarded{For: x.req.Peer.Addr(), Host: x.app.authority, Proto: "https", Port: uint16(x.snap.PublicPort)})
	out.Set("X-Request-Id", x.id)
	if x.req.Upgrade != "" {
		headers.SetUpgrade(out, x.req.Upgrade)
	}
	if !x.app.SendsIdentity() {
		return out, nil
	}
	if x.session == nil {
		headers.SetIdentity(out, headers.Identity{})
		return out, nil
	}
	who := x.session.Identity
	assertion, err := x.server.assertions.Assertion(x.ctx, x.session, x.app.origin)
	if err != nil {
		return nil, err
	}
	email := who.Email
	if !who.EmailVerified {
		email = ""
	}
	headers.SetIdentity(out, headers.Identity{User: who.ID(), Email: email, Groups: who.Groups, Assertion: assertion})
	return out, nil
}

// limitBody makes a body that grows past the app's limit an error on both sides.
func (x *exchange) limitBody() {
	if x.r.Body == nil || x.r.Body == http.NoBody {
		return
	}
	x.bodyIn = &countedBody{ReadCloser: http.MaxBytesReader(x.w, x.r.Body, int64(x.app.MaxBody))}
	x.r.Body = x.bodyIn
	if x.r.ProtoMajor == 1 {
		// An app may answer before it has read the whole body. Without this net/http would throw the rest of the body away
		// at the first byte of the answer. The error says that the connection cannot, which none of ours is.
		_ = http.NewResponseController(x.w).EnableFullDuplex()
	}
}

// countedBody counts what the client sent.
type countedBody struct {
	io.ReadCloser
	n atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

// newProxy is the leg to one app. Rewrite, unlike Director, runs after the hop-by-hop headers are gone, so that no
// client can name our headers in Connection and have them removed.
func newProxy(app *App, pool *upstream.Pool, buffers *bufferPool, quiet *log.Logger) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport:  leg{pool},
		BufferPool: buffers,
		ErrorLog:   quiet,
		Rewrite: func(pr *httputil.ProxyRequest) {
			x := pr.In.Context().Value(exchangeKey{}).(*exchange)
			pr.Out.URL = &url.URL{Path: x.path, RawPath: x.escapedPath, RawQuery: x.req.Query}
			pr.Out.Host = app.authority
			pr.Out.Header = x.outgoing
		},
		ModifyResponse: func(res *http.Response) error {
			x := res.Request.Context().Value(exchangeKey{}).(*exchange)
			return x.cleanResponse(res, app)
		},
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) {
			r.Context().Value(exchangeKey{}).(*exchange).upstreamErr = err
		},
	}
}

// leg is the pool without ReverseProxy's trace, which would relay informational answers (1xx), whose headers nobody has
// checked, and with that lift the pool's bound on them.
type leg struct{ pool *upstream.Pool }

func (l leg) RoundTrip(r *http.Request) (*http.Response, error) {
	x := r.Context().Value(exchangeKey{}).(*exchange)
	return l.pool.RoundTrip(r.WithContext(x.forwarding()))
}

// cleanResponse removes what an app may not say.
func (x *exchange) cleanResponse(res *http.Response, app *App) error {
	if res.StatusCode == http.StatusSwitchingProtocols && x.req.Upgrade == "" {
		return errors.New("the app switched protocols without being asked")
	}
	x.blockedCookies = headers.FromApp(res.Header, res.StatusCode, headers.App{Origin: app.origin, Upstreams: app.upstreamOrigins})
	if res.StatusCode != http.StatusSwitchingProtocols {
		res.Trailer, res.Body = nil, trailerless{res.Body, res}
	}
	x.eventStream.Store(strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream"))
	if x.endless() && x.server.draining.Load() {
		x.cancel(ErrShutdown)
		return ErrShutdown
	}
	return nil
}

// trailerless drops the trailer fields that arrive with the end of an app's answer: nobody has checked them, and RFC 9110
// §6.5.1 lets an intermediary discard them.
type trailerless struct {
	io.ReadCloser
	res *http.Response
}

func (b trailerless) Close() error {
	err := b.ReadCloser.Close()
	b.res.Trailer = nil
	return err
}

// unavailable says that the app gave no answer; the text names no address and no error.
func (x *exchange) unavailable(err error) *Refusal {
	if x.ctx.Err() != nil {
		return x.interrupted()
	}
	r := &Refusal{Status: http.StatusBadGateway, Effect: audit.Allow, Reason: "upstream_failed", Err: err,
		Public: "The app did not give an answer.",
		Page:   ui.Unavailable{App: x.app.DisplayName(), Reference: x.id, Retry: x.returnTarget(), Portal: x.snap.portalURL()}}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &Refusal{Status: http.StatusRequestEntityTooLarge, Effect: audit.Reject, Reason: "body_too_large", Err: tooLarge,
			Public: "The request is larger than this app accepts.", Close: true}
	}
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
		r.Status, r.Reason = http.StatusGatewayTimeout, "upstream_timeout"
	}
	return r
}

// interrupted says why the exchange was ended from our side before the app answered.
func (x *exchange) interrupted() *Refusal {
	cause := context.Cause(x.ctx)
	r := &Refusal{Status: http.StatusServiceUnavailable, Effect: audit.Reject, Reason: cause.Error(),
		Public: "The request was ended before it was answered.", Close: true}
	switch {
	case errors.Is(cause, ErrSessionRevoked), errors.Is(cause, ErrSignedOut), errors.Is(cause, ErrSessionExpired):
		r.Status, r.SignIn, r.Public = http.StatusUnauthorized, true, "You are not signed in any more."
	case errors.Is(cause, ErrPolicyChanged), errors.Is(cause, ErrReauthorize):
		r.Status, r.Public = http.StatusForbidden, "The access policy does not allow this any more."
	case errors.Is(cause, context.Canceled):
		r.Status, r.Reason = statusClientClosed, "client_closed"
	}
	return r
}

// bufferPool lends copy buffers to all proxies.
type bufferPool struct{ pool sync.Pool }

func newBufferPool() *bufferPool {
	return &bufferPool{sync.Pool{New: func() any { return new([copyBufferSize]byte) }}}
}

func (p *bufferPool) Get() []byte  { return p.pool.Get().(*[copyBufferSize]byte)[:] }
func (p *bufferPool) Put(b []byte) { p.pool.Put((*[copyBufferSize]byte)(b)) }
