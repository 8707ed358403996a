package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"sallyport/audit"
	"sallyport/gateway/canon"
	"sallyport/gateway/headers"
	"sallyport/gateway/signin"
	"sallyport/gateway/ui"
	"sallyport/gateway/upstream"
)

// statusClientClosed is what nginx calls 499: the client left before the answer; for records only.
const statusClientClosed = 499

// forward sends the decided request to the app, by way of the cache where the app has one, and its answer to the client.
// It runs after the allow record is durable and nowhere else.
func (x *exchange) forward() error {
	header, err := x.outgoingHeader()
	if err != nil {
		return &Refusal{Status: http.StatusServiceUnavailable, Effect: audit.Reject, Reason: "assertion_unavailable",
			Public: "The gateway cannot vouch for you to the app at the moment.", Err: err}
	}
	x.noteRequestKind()
	x.server.streams.add(x)
	defer x.server.streams.remove(x)
	x.noticeChanges()
	if x.ctx.Err() != nil {
		return x.interrupted()
	}
	out := x.outgoing(header)
	release, err := x.takeBody(out)
	if err != nil {
		return err
	}
	defer release()
	x.served = true
	res, err := x.app.transport.RoundTrip(out)
	if err != nil {
		x.upstreamErr = err
		return x.unavailable(err)
	}
	return x.relay(res)
}

// outgoing is the request as the app gets it, written from the canonical one that was decided on.
func (x *exchange) outgoing(header http.Header) *http.Request {
	out := blank.WithContext(x.caching(x.forwarding()))
	out.Method, out.Host, out.Header = x.req.Method, x.app.authority, header
	out.URL = &url.URL{Path: canon.URLPath(x.path), RawPath: x.escapedPath, RawQuery: x.req.Query}
	return out
}

// blank is what outgoing requests begin as: net/http sets a request's context only by copying it.
var blank = &http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}

// noteRequestKind is what can be told before there is an answer.
func (x *exchange) noteRequestKind() {
	if x.streamsCall() {
		x.kind.Store(kindGRPC)
	}
	x.streaming = x.req.Upgrade != "" || x.kind.Load() == kindGRPC || x.app.Streams.Declared(x.path)
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
	free := x.app.Cache.For(x.path).IdentityFree
	from := x.conn.peer
	if free {
		from = headers.Peer{} // an address tells people apart, too
	}
	x.app.site.SetForwarded(out, from)
	out["X-Request-Id"] = []string{x.id}
	if x.destination.path != "" {
		out["Destination"] = []string{x.destination.escaped}
	}
	if x.req.Upgrade != "" {
		headers.SetUpgrade(out, x.req.Upgrade)
	}
	if x.isCall() {
		out.Set("Te", "trailers") // the call's status is in the trailer
	}
	x.credentials = out["Cookie"] != nil || out["Authorization"] != nil
	if free {
		delete(out, "Cookie")
		delete(out, "Authorization")
		x.app.headers.Hush(out)
		return out, nil
	}
	return out, x.setIdentity(out)
}

// setIdentity says who is asking, to apps that are to know, in our words and in theirs.
func (x *exchange) setIdentity(out http.Header) error {
	ours, theirs := x.app.SendsIdentity(), x.app.headers.Tells()
	if !ours && !theirs {
		return nil
	}
	assertion := ""
	if x.session != nil && (ours || x.app.headers.TellsAssertion()) {
		var err error
		if assertion, err = x.server.assertions.Assertion(x.ctx, x.session, x.app.origin); err != nil {
			return err
		}
	}
	who := told(x.session)
	if ours {
		who.Set(out, assertion)
	}
	x.app.headers.Tell(out, who, assertion)
	return nil
}

// unavailable says that the app gave no answer; the text names no address and no error.
func (x *exchange) unavailable(err error) *Refusal {
	if hint := x.hint.Load(); hint != nil && !hint.Sent {
		x.served = false // nobody was asked
	}
	if x.ctx.Err() != nil {
		return x.interrupted()
	}
	r := &Refusal{Status: http.StatusBadGateway, Effect: audit.Allow, Reason: "upstream_failed", Err: err,
		Public: "The app did not give an answer.",
		Page:   ui.Unavailable{App: x.app.DisplayName(), Reference: x.id, Retry: x.returnTarget(), Portal: x.snap.portalURL()}}
	switch {
	case x.bodyIn.brokeOff(err):
		return x.bodyRefusal(err)
	case errors.Is(err, upstream.ErrNoEndpoint):
		r.Status, r.Reason = http.StatusServiceUnavailable, "no_endpoint"
	case errors.Is(err, upstream.ErrOverloaded):
		r.Status, r.Reason = http.StatusServiceUnavailable, "upstream_overloaded"
	case isTimeout(err):
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
	case errors.Is(cause, ErrStale):
		r.Status, r.SignIn, r.Public, r.Need = http.StatusUnauthorized, true, "You signed in too long ago.", signin.Need{Fresh: true}
	case errors.Is(cause, ErrPolicyChanged), errors.Is(cause, ErrReauthorize):
		r.Status, r.Public = http.StatusForbidden, "The access policy does not allow this any more."
	case errors.Is(cause, context.Canceled):
		r.Status, r.Reason = statusClientClosed, "client_closed"
	}
	return r
}
