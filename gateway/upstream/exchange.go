package upstream

import (
	"context"
	"errors"
	"net/http"
	"slices"
)

// exchange is one request and the endpoints that were asked for its answer.
type exchange struct {
	pool *Pool
	view *view
	req  *http.Request
	ctx  context.Context
	hint *Hint

	start, now int64
	repeatable bool // also when an app has seen it
	probe      bool // the endpoint in hand is half open, and this request its probe
	taken      bool // the body was handed out: the next try takes another copy

	tried [maxAttempts]*endpoint
	tries int
	sent  int  // tries in which something may have been sent
	free  bool // the last try sent nothing: the next one costs nobody anything
	stale bool // the last try met a connection that the app was closing: the same endpoint may be asked again
	over  bool // nothing more is to be tried

	held   *http.Response // an answer that is given if no other try succeeds
	holder *endpoint      // whose answer that is
	err    error          // why there is no answer so far
}

// RoundTrip sends the request to one endpoint, and to others as long as it failed and that is safe. The request's URL
// carries path and query only; scheme, host and, if so configured, the Host header are the endpoint's. The body is sent
// again if GetBody is set. Safe for concurrent use.
//
// Errors: ErrNoEndpoint, ErrOverloaded, the cause of the request's context, what reading the request's body failed with,
// or why the last endpoint gave no answer, which is a net.Error that says Timeout when time ran out.
func (p *Pool) RoundTrip(req *http.Request) (*http.Response, error) {
	if !p.started.Load() {
		p.Start()
	}
	now := p.clock.nanos()
	x := exchange{pool: p, view: p.view.Load(), req: req, ctx: req.Context(), start: now, now: now}
	x.hint = hintOf(x.ctx)
	x.repeatable = p.cfg.Retry.Attempts > 0 && isIdempotent(req.Method) && (!hasBody(req) || req.GetBody != nil)
	p.traffic.add(now, 1, 0)
	for !x.over {
		if e := x.next(); e != nil {
			x.try(e)
		} else {
			x.over = true
		}
	}
	return x.outcome()
}

// next is the endpoint for the next try, or nil if there is none or no further try is due.
func (x *exchange) next() *endpoint {
	if x.tries == 0 {
		return x.choose(lastResort)
	}
	if x.tries == maxAttempts || x.sent > x.pool.cfg.Retry.Attempts {
		return nil
	}
	x.now = x.pool.clock.nanos()
	if x.free {
		return x.choose(lastResort)
	}
	e := x.choose(busySpare) // of an ejected one another failure is likelier than an answer
	if e == nil && x.stale {
		e = x.tried[x.tries-1]
	}
	if e != nil && !x.pool.mayRepeat(x.now) {
		x.unclaim(e)
		return nil
	}
	return e
}

// choose takes an endpoint and, if it is half open, its probe. When others take that first there may be no better one.
func (x *exchange) choose(last tier) (e *endpoint) {
	for range 3 {
		e = x.pick(last)
		if e == nil || !e.breaker.halfOpen(x.now) {
			return e
		}
		if x.probe = e.breaker.claim(); x.probe {
			return e
		}
	}
	return e
}

func (x *exchange) unclaim(e *endpoint) {
	if x.probe {
		e.breaker.unclaim()
		x.probe = false
	}
}

func (x *exchange) wasTried(e *endpoint) bool { return slices.Contains(x.tried[:x.tries], e) }

// try asks one endpoint and weighs the outcome.
func (x *exchange) try(e *endpoint) {
	x.tried[x.tries] = e
	x.tries++
	if err := e.gate.enter(x.ctx, &x.pool.cfg.Limits); err != nil {
		x.unclaim(e)
		x.free, x.stale, x.err = true, false, err
		x.over = err != ErrOverloaded
		return
	}
	if x.pool.cfg.Limits.MaxConnections > 0 {
		x.now = x.pool.clock.nanos() // it may have waited
	}
	body, err := x.body()
	if err != nil {
		x.unclaim(e)
		e.gate.leave()
		x.err, x.over = err, true
		return
	}
	if x.tries > 1 {
		e.retries.Add(1)
	}
	if res, err := x.send(e, body); err != nil {
		x.failed(err, body)
	} else {
		x.answered(e, res)
	}
}

// failed decides whether the request may be sent again after a try without an answer.
func (x *exchange) failed(err error, body *sentBody) {
	untouched := body == nil || body.abandon()
	x.free, x.stale, x.err = neverSent(err), isStale(err), err
	if !x.free {
		x.sent++
	}
	switch {
	case x.ctx.Err() != nil, body.failure() != nil, errors.Is(err, errTotalTimeout):
		x.over = true
	case x.req.GetBody == nil && !untouched:
		x.over = true
	case !x.free:
		x.over = x.pool.cfg.Retry.Attempts == 0 || !isIdempotent(x.req.Method)
	}
}

// answered decides whether an answer is final. One that is not is kept until there is a better one.
func (x *exchange) answered(e *endpoint, res *http.Response) {
	x.drop()
	x.held, x.holder = res, e
	x.free, x.stale = false, false
	x.sent++
	x.over = !x.repeatable || !slices.Contains(x.pool.cfg.Retry.Status, res.StatusCode)
}

func (x *exchange) drop() {
	if x.held != nil {
		x.held.Body.Close()
	}
}

// outcome is the best that came of all tries.
func (x *exchange) outcome() (*http.Response, error) {
	if x.held != nil && x.ctx.Err() != nil {
		x.drop()
		x.held, x.err = nil, context.Cause(x.ctx)
	}
	x.tell()
	switch {
	case x.held != nil:
		return x.held, nil
	case x.err == nil:
		x.err = ErrNoEndpoint
	}
	if hasBody(x.req) {
		x.req.Body.Close()
	}
	return nil, x.err
}

// tell says what was chosen.
func (x *exchange) tell() {
	if x.hint == nil {
		return
	}
	x.hint.Attempts, x.hint.Sent = x.tries, x.sent > 0
	asked := x.holder
	if asked == nil && x.tries > 0 {
		asked = x.tried[x.tries-1]
	}
	if asked != nil {
		x.hint.Chosen, x.hint.Address = asked.id, asked.address
	}
}

// isIdempotent: RFC 9110 §9.2.2. Methods that are not registered there may do anything.
func isIdempotent(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// retryFloor is how many repetitions of the last ten seconds no budget forbids: with few requests a share of them would
// be none.
const retryFloor = 3 * windowSeconds

// mayRepeat takes a repetition from the budget.
func (p *Pool) mayRepeat(now int64) bool {
	all, repeated := p.traffic.sum(now)
	if float64(repeated) >= retryFloor+p.cfg.Retry.Budget*float64(all) {
		return false
	}
	p.traffic.add(now, 0, 1)
	return true
}
