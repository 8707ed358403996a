package cache

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

const (
	// grace is how long an answer that could be stored goes on to be fetched when nobody waits for it any more.
	grace = 10 * time.Second
	// refreshTimeout bounds a refresh in the background.
	refreshTimeout = 60 * time.Second
)

var (
	errAbandoned = errors.New("cache: nobody waits for the answer any more")
	errShutdown  = errors.New("cache: closed")
	errTooLong   = errors.New("cache: the refresh took too long")
)

// flight is one request to the app, on behalf of the one who started it and of everyone who waits for the same answer.
// It runs on a goroutine of its own, so that whoever leaves, the others get their answer.
type flight struct {
	cache       *Cache
	x           *exchange // of the one who started it, detached
	found       found
	conditional bool // the app is asked about found.entry
	background  bool // nobody waits
	key         flightKey
	cancel      context.CancelCauseFunc

	ready chan struct{} // closed when the outcome is known
	outcome

	// guarded by Cache.flightsMu
	users      int // who waits or reads
	leaderGone bool
	timer      *time.Timer
}

// flightKey names what requests may wait for together: one partition's answer to a URL, for one variant as far as known.
type flightKey struct {
	Key
	variant string
}

// outcome is what came of a flight: an error, an answer for its leader alone, an entry that is all there, or one whose
// body is arriving.
type outcome struct {
	err    error
	res    *http.Response
	entry  *Entry
	fill   *fill
	header http.Header // what the leader is told instead of the stored fields
	reader *reader     // the leader's
	how    served
	key    Key  // the partition that may see the entry
	shared bool // those who may see it may have it without asking the app again
}

// fetch asks the app, or waits for somebody who is doing so.
func (x *exchange) fetch(f found) (*http.Response, Result, error) {
	conditional := f.entry != nil && f.entry.hasValidator()
	plain := x.ask.plain() && (conditional || !isConditional(x.r.Header)) && len(x.scopes()) > 0
	fl, following := x.cache.board(x, f, conditional, plain)
	switch {
	case fl == nil:
		return x.pass(fwdBypass)
	case following:
		return x.follow(fl, f)
	}
	return x.lead(fl)
}

// plain reports whether the request says nothing about caching.
func (d *directives) plain() bool {
	return !d.noCache && !d.noStore && !d.onlyIfCached && !d.malformed && d.maxAge == absent && d.minFresh == absent &&
		d.maxStale == absent && d.staleIfError == absent
}

// board joins a flight under way, or starts one. It returns nil when the cache is closed.
func (c *Cache) board(x *exchange, f found, conditional, plain bool) (fl *flight, following bool) {
	var key flightKey
	if plain {
		key = x.flightKey()
	}
	c.flightsMu.Lock()
	defer c.flightsMu.Unlock()
	if c.closed {
		return nil, false
	}
	if plain {
		// A request that follows a change does not get what was asked for before it.
		if fl := c.flights[key]; fl != nil && fl.x.moment == x.moment {
			fl.joinLocked()
			return fl, true
		}
	}
	return c.startLocked(x, f, conditional, key, false), false
}

// startLocked starts a flight; one with a key can be joined.
func (c *Cache) startLocked(x *exchange, f found, conditional bool, key flightKey, background bool) *flight {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(x.r.Context()))
	fl := &flight{cache: c, x: x.detached(ctx), found: f, conditional: conditional, key: key, background: background,
		cancel: cancel, ready: make(chan struct{}), users: 1}
	if background {
		fl.x.r.Method = http.MethodGet
		fl.timer = time.AfterFunc(refreshTimeout, func() { cancel(errTooLong) })
	}
	if key != (flightKey{}) {
		c.flights[key] = fl
	}
	c.live[fl] = struct{}{}
	c.work.Go(func() { fl.run(ctx) })
	return fl
}

// flightKey is where others may look for the same answer: among all who may share it or, where the last such answer
// turned out not to be for sharing, among the person's own requests.
func (x *exchange) flightKey() flightKey {
	k := flightKey{Key: x.viewer.key(x.scopes()[0])}
	if k.Scope != Own && x.cache.solitary.has(k.Key) {
		k.Key = x.viewer.key(Own)
	}
	if known := x.cache.store.Get(k.Key); len(known) > 0 {
		k.variant = string(digestLong(appendVariant(nil, known[0].vary, x.r.Header)))
	}
	return k
}

// follow waits for somebody else's flight. Its answer is used only if it went into a partition that this request may be
// answered from, and Vary selects it; otherwise not a byte of it is seen, and the request goes to the app itself.
func (x *exchange) follow(fl *flight, f found) (*http.Response, Result, error) {
	select {
	case <-fl.ready:
	case <-x.r.Context().Done():
		fl.leave(errAbandoned)
		return nil, Miss, context.Cause(x.r.Context())
	}
	how := served{result: Hit, fwd: f.why, collapsed: true}
	if fl.how.result == Stale {
		how.result = Stale
	}
	switch {
	case fl.err != nil:
		fl.leave(errAbandoned)
		return nil, Miss, fl.err
	case !x.maySee(fl):
	case fl.fill == nil:
		fl.leave(errAbandoned)
		return x.respond(fl.entry, nil, nil, how), how.result, nil
	default:
		if r := fl.fill.attach(); r != nil {
			return x.respond(fl.entry, r, nil, how), how.result, nil
		}
	}
	fl.leave(errAbandoned)
	x.cache.flightsMu.Lock()
	if x.cache.closed {
		x.cache.flightsMu.Unlock()
		return x.pass(fwdBypass)
	}
	own := x.cache.startLocked(x, f, f.entry != nil && f.entry.hasValidator(), flightKey{}, false)
	x.cache.flightsMu.Unlock()
	return x.lead(own)
}

// maySee reports whether a flight's answer is for this request too.
func (x *exchange) maySee(fl *flight) bool {
	if !fl.shared || !fl.entry.matches(x.r.Header) {
		return false
	}
	for _, scope := range x.scopes() {
		if fl.outcome.key == x.viewer.key(scope) {
			return true
		}
	}
	return false
}

// lead waits for one's own flight.
func (x *exchange) lead(fl *flight) (*http.Response, Result, error) {
	ctx := x.r.Context()
	select {
	case <-fl.ready:
	case <-ctx.Done():
		if fl.leaderLeaves() {
			return nil, Miss, context.Cause(ctx)
		}
	}
	how := fl.how
	switch {
	case fl.err != nil:
		fl.leave(errAbandoned)
		return nil, Miss, fl.err
	case fl.res != nil:
		return x.passOn(fl), Miss, nil
	case fl.fill != nil:
		return x.respond(fl.entry, fl.reader, fl.header, how), how.result, nil
	}
	fl.leave(errAbandoned)
	return x.respond(fl.entry, nil, fl.header, how), how.result, nil
}

// passOn gives the leader an answer that is not stored. From here the request to the app ends with the leader's.
func (x *exchange) passOn(fl *flight) *http.Response {
	res := fl.res
	res.Request = x.r
	ctx := x.r.Context()
	stop := context.AfterFunc(ctx, func() { fl.cancel(context.Cause(ctx)) })
	res.Body = &onlyBody{res.Body, fl, stop}
	return res
}

// onlyBody is the body of an answer that belongs to one request.
type onlyBody struct {
	io.ReadCloser
	flight *flight
	stop   func() bool
}

// Close ends the request to the app.
func (b *onlyBody) Close() error {
	err := b.ReadCloser.Close()
	b.stop()
	b.flight.cancel(errAbandoned)
	return err
}

// joinLocked adds somebody who waits.
func (f *flight) joinLocked() {
	f.users++
	if f.timer != nil && !f.background {
		f.timer.Stop()
		f.timer = nil
	}
}

// leaderLeaves is called when the leader's request ends first. It reports false when the outcome came at the same time;
// then the leader has to take it.
func (f *flight) leaderLeaves() bool {
	f.cache.flightsMu.Lock()
	select {
	case <-f.ready:
		f.cache.flightsMu.Unlock()
		return false
	default:
	}
	f.leaderGone = true
	f.cache.flightsMu.Unlock()
	f.leave(errAbandoned)
	return true
}

// leave takes away somebody who waited or read. The last one to leave ends the flight; if it may yet be stored, not at
// once.
func (f *flight) leave(why error) {
	c := f.cache
	c.flightsMu.Lock()
	defer c.flightsMu.Unlock()
	if f.users--; f.users > 0 {
		return
	}
	if f.fillingLocked() {
		f.timer = time.AfterFunc(grace, func() { f.abandon(why) })
		return
	}
	f.endLocked(why)
}

// fillingLocked reports whether an answer that may be stored is arriving.
func (f *flight) fillingLocked() bool {
	select {
	case <-f.ready:
	default:
		return false
	}
	if f.fill == nil {
		return false
	}
	f.fill.mu.Lock()
	defer f.fill.mu.Unlock()
	return f.fill.first != nil && !f.fill.ended
}

func (f *flight) abandon(why error) {
	f.cache.flightsMu.Lock()
	defer f.cache.flightsMu.Unlock()
	if f.users == 0 {
		f.endLocked(why)
	}
}

// endLocked keeps others from joining and cancels the request to the app.
func (f *flight) endLocked(why error) {
	f.retireLocked()
	f.cancel(why)
}

func (f *flight) retireLocked() {
	if f.cache.flights[f.key] == f {
		delete(f.cache.flights, f.key)
	}
	if f.timer != nil {
		f.timer.Stop()
		f.timer = nil
	}
}
