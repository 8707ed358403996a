package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// attempt is one request to one endpoint, from its turn there to the end of the answer. It is the body of that answer: the
// endpoint counts the request as under way until the body is closed.
type attempt struct {
	io.ReadCloser // of the answer

	pool  *Pool
	view  *view
	e     *endpoint
	ctx   context.Context // the caller's
	start int64
	timed bool // the time to the head of the answer is the endpoint's: no stream of the client's is part of it
	url   url.URL
	sent  *sentBody

	cancel context.CancelCauseFunc // where a try is timed
	timer  *time.Timer

	closed atomic.Bool
	broken atomic.Bool // the answer's end failed, and that is noted
}

// send makes one try. On an error the attempt is over.
func (x *exchange) send(e *endpoint, sent *sentBody) (*http.Response, error) {
	a := &attempt{pool: x.pool, view: x.view, e: e, ctx: x.ctx, start: x.now, url: *x.req.URL, sent: sent}
	a.timed = sent == nil || x.req.GetBody != nil
	out, leg := x.outgoing(a)
	e.requests.Add(1)
	if a.timed {
		e.began(x.now)
	}
	e.legs.hold()
	res, err := leg.RoundTrip(out)
	if a.timer != nil && !a.timer.Stop() && err == nil {
		res.Body.Close() // the answer came when its time was over
		err = context.Cause(out.Context())
	}
	if err != nil {
		err = a.failed(out, err)
	} else {
		a.answered(res)
	}
	x.unclaim(e)
	if err != nil {
		a.end()
		return nil, err
	}
	return a.give(res, x.req), nil
}

// outgoing is the request as it goes to the endpoint, a shallow copy, and the leg that carries it.
func (x *exchange) outgoing(a *attempt) (*http.Request, http.RoundTripper) {
	leg, ctx := a.e.legs.carrier(x.ctx, x.req)
	if limit, why := x.patience(); limit > 0 {
		ctx, a.cancel = context.WithCancelCause(ctx)
		a.timer = time.AfterFunc(limit, func() { a.cancel(why) })
	}
	out := x.req.WithContext(ctx)
	a.e.legs.target(&a.url)
	out.URL = &a.url
	if x.pool.cfg.HostUpstream {
		out.Host = a.e.legs.host
	}
	if a.sent != nil {
		out.Body = a.sent
	}
	if leg != a.e.legs.lean {
		withoutRepetition(out)
	}
	return out, leg
}

// patience is how long this try may take to the head of its answer, and what it means when it takes longer.
func (x *exchange) patience() (time.Duration, error) {
	t := &x.pool.cfg.Timeouts
	if t.Total <= 0 {
		return t.Attempt, errAttemptTimeout
	}
	left := max(t.Total-time.Duration(x.now-x.start), 1)
	if t.Attempt <= 0 || left < t.Attempt {
		return left, errTotalTimeout
	}
	return t.Attempt, errAttemptTimeout
}

// withoutRepetition keeps net/http from sending a request again by itself that an app may have seen: any that has a
// GetBody, and any with a field by which the client says that it may be. The client's word is not enough for that, not
// every app knows the field; net/http looks up its canonical spelling only.
func withoutRepetition(out *http.Request) {
	out.GetBody = nil
	if isIdempotent(out.Method) {
		return
	}
	for _, name := range [...]string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, there := out.Header[name]; there {
			out.Header = out.Header.Clone()
			delete(out.Header, name)
			out.Header[strings.ToLower(name)] = values
		}
	}
}

// failed notes why there was no answer, unless that is not the endpoint's fault, and returns the reason.
func (a *attempt) failed(out *http.Request, err error) error {
	now := a.pool.clock.nanos()
	if a.timed {
		a.e.ended(now, false)
	}
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	if theirs := a.sent.failure(); theirs != nil {
		return theirs
	}
	if out.Context().Err() != nil {
		err = context.Cause(out.Context())
	}
	if a.e.legs.disagreed(err) {
		return err
	}
	if isStale(err) || a.e.legs.scheme == "http" && neverSent(err) && !neverConnected(err) {
		return err // the app closed a connection for being unused, or the request cannot be sent to anybody
	}
	a.blame(classOf(err), now, neverConnected(err))
	a.e.latency.observe(max(now-a.start, int64(failurePenalty)), now)
	return err
}

// answered notes the head of an answer.
func (a *attempt) answered(res *http.Response) {
	now := a.pool.clock.nanos()
	if a.timed {
		a.e.ended(now, true)
	}
	took := now - a.start
	switch {
	case !failed(res.StatusCode):
		if a.timed {
			a.e.latency.observe(took, now)
		}
		if a.e.breaker.succeeded(now) {
			a.pool.returned(a.e, now)
		}
		return
	case res.StatusCode == http.StatusInternalServerError:
		took = max(took, int64(errorPenalty))
	default:
		took = max(took, int64(failurePenalty))
	}
	a.e.latency.observe(took, now)
	a.blame(statusClass(res.StatusCode), now, false)
}

// blame counts a failure of the endpoint and ejects it when that was one too many.
func (a *attempt) blame(class string, now int64, connecting bool) {
	a.e.note(class, now)
	rules := &a.pool.cfg.Ejection
	if a.e.breaker.failed(now, rules, connecting) && a.pool.ejections.eject(a.view, a.e, now, rules) {
		a.pool.ejected(a.e, class)
	}
}

// give makes the attempt the body of its answer. An upgraded connection keeps its other half.
func (a *attempt) give(res *http.Response, asked *http.Request) *http.Response {
	if a.sent != nil {
		a.sent.keep()
	}
	a.ReadCloser = res.Body
	res.Request = asked
	if both, ok := res.Body.(io.ReadWriteCloser); ok {
		res.Body = &tunnel{a, both}
	} else {
		res.Body = a
	}
	return res
}

// Read notes an answer that breaks off. A reader who closed it, or whose request was cancelled, broke it off himself.
func (a *attempt) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if err != nil && err != io.EOF && a.ctx.Err() == nil && !a.closed.Load() && !a.broken.Swap(true) {
		now := a.pool.clock.nanos()
		a.blame("body_"+classOf(err), now, false)
	}
	return n, err
}

// Close ends the attempt.
func (a *attempt) Close() error {
	if a.closed.Swap(true) {
		return nil
	}
	err := a.ReadCloser.Close()
	a.end()
	return err
}

func (a *attempt) end() {
	if a.cancel != nil {
		a.cancel(context.Canceled)
	}
	a.e.legs.release()
	a.e.gate.leave()
}

// tunnel is the body of a 101 answer: both directions of a connection.
type tunnel struct {
	*attempt
	both io.ReadWriteCloser
}

func (t *tunnel) Write(p []byte) (int, error) { return t.both.Write(p) }

// CloseWrite ends our direction, if the connection can.
func (t *tunnel) CloseWrite() error {
	if half, ok := t.both.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
