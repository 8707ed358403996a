package upstream

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// maxCheckBody bounds what is read of the answer to a health check.
const maxCheckBody = 4 << 10

// checkHealth has a checker for each endpoint there is, until ctx ends.
func (p *Pool) checkHealth(ctx context.Context) {
	checkers := map[string]context.CancelFunc{}
	var running sync.WaitGroup
	defer running.Wait()
	for {
		v := p.view.Load()
		for _, e := range v.all {
			if checkers[e.id] == nil {
				checking, stop := context.WithCancel(ctx)
				checkers[e.id] = stop
				running.Go(func() { p.checkEndpoint(checking, e) })
			}
		}
		for id, stop := range checkers {
			if v.byID[id] == nil || ctx.Err() != nil {
				stop()
				delete(checkers, id)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-p.changed:
		}
	}
}

// checkEndpoint checks one endpoint again and again. The first checks of several endpoints do not come at once.
func (p *Pool) checkEndpoint(ctx context.Context, e *endpoint) {
	c := newChecker(e, p.settings, &p.cfg.Health)
	defer c.legs.closeIdle()
	pause := time.Duration(rand.Float64() * float64(min(c.rules.Interval/4, time.Second)))
	for wait(ctx, pause) {
		began := time.Now()
		err := c.check(ctx)
		if ctx.Err() != nil {
			return
		}
		p.judge(e, c, err)
		pause = c.rules.Interval
		if c.undecided() {
			pause /= 2
		}
		pause -= time.Since(began)
	}
}

// wait reports whether ctx still lives after the pause.
func wait(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(max(pause, 0))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// judge takes one result in. An endpoint that is up again is so in every respect: the failures of its requests are past.
func (p *Pool) judge(e *endpoint, c *checker, err error) {
	now := p.clock.nanos()
	if err == nil {
		c.failures, c.successes = 0, c.successes+1
		if e.down.Load() && c.successes >= c.rules.Rise {
			e.breaker.reset()
			e.back.Store(now)
			e.down.Store(false)
			p.log.Info("upstream healthy", "upstream", e.address, "resolved", e.resolved)
		}
		return
	}
	c.failures, c.successes = c.failures+1, 0
	e.last.Store(&failure{"health_" + classOf(err), now})
	if c.failures >= c.rules.Fall && !e.down.Swap(true) {
		p.log.Warn("upstream unhealthy", "upstream", e.address, "resolved", e.resolved, "error", err)
	}
}

// checker checks one endpoint, on connections of its own: the kept ones say nothing about whether a new one can be made.
type checker struct {
	rules *Health
	legs  *legs
	host  string

	failures, successes int // in a row
}

func newChecker(e *endpoint, s *settings, rules *Health) *checker {
	c := &checker{rules: rules, legs: newLegs(&e.url, e.ip, e.allow, s), host: rules.Host}
	c.legs.lean = nil
	c.legs.http1.DisableKeepAlives, c.legs.h2.DisableKeepAlives = true, true
	if c.host == "" {
		c.host = c.legs.host
	}
	return c
}

// undecided holds while the latest results contradict those before, and too few of them to change anything.
func (c *checker) undecided() bool {
	return c.failures > 0 && c.failures < c.rules.Fall || c.successes > 0 && c.successes < c.rules.Rise
}

func (c *checker) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.rules.Timeout)
	defer cancel()
	if c.rules.kind() == HealthTCP {
		return c.connect(ctx)
	}
	return c.ask(ctx)
}

func (c *checker) connect(ctx context.Context) error {
	dial := c.legs.dialer.watched
	if c.legs.scheme == "https" {
		dial = c.legs.dialer.watchedTLS
	}
	connection, err := dial(ctx, "", "")
	if err != nil {
		return err
	}
	return connection.Close()
}

// ask sends a request that nobody is behind: it carries no identity.
func (c *checker) ask(ctx context.Context) error {
	target, err := url.ParseRequestURI(c.rules.Path)
	if err != nil {
		return err
	}
	c.legs.target(target)
	req := (&http.Request{Method: http.MethodGet, URL: target, Host: c.host, ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"User-Agent": {"sallyport-health"}, "Accept": {"*/*"}}})
	leg, ctx := c.legs.carrier(ctx, req)
	res, err := leg.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.CopyN(io.Discard, res.Body, maxCheckBody); err != nil && err != io.EOF {
		return err
	}
	if !c.well(res.StatusCode) {
		return statusError(res.StatusCode)
	}
	return nil
}

func (c *checker) well(status int) bool {
	if len(c.rules.Status) > 0 {
		return slices.Contains(c.rules.Status, status)
	}
	return 200 <= status && status < 400
}

// statusError is an answer that says the app is not well.
type statusError int

func (s statusError) Error() string { return fmt.Sprintf("the app answered %d", int(s)) }
