package upstream

import (
	"sync"
	"sync/atomic"
	"time"
)

// rateSample is the fewest requests of which a share of failures says anything.
const rateSample = 20

// breaker takes an endpoint out of service whose requests fail. It is closed (in service), open (ejected) until a time,
// and from then on half open: one request at a time goes through, and its outcome closes the breaker or opens it again.
type breaker struct {
	until   atomic.Int64 // 0 = closed
	length  atomic.Int64 // of the last time out
	closed  atomic.Int64 // when it closed
	probing atomic.Bool
	row     atomic.Int32 // failures in a row
	recent  window       // all requests, and those that failed
}

// admits reports whether a request may be sent there. One that could not be repeated elsewhere probes only an endpoint
// that nobody else probed for as long again as it was out.
func (b *breaker) admits(now int64, repeatable bool) bool {
	until := b.until.Load()
	if until == 0 {
		return true
	}
	if !repeatable {
		until += b.length.Load()
	}
	return now >= until && !b.probing.Load()
}

func (b *breaker) ejected(now int64) bool { return now < b.until.Load() }

func (b *breaker) halfOpen(now int64) bool {
	until := b.until.Load()
	return until != 0 && now >= until
}

// claim takes the probe of a half-open breaker, unless somebody else has it.
func (b *breaker) claim() bool { return b.probing.CompareAndSwap(false, true) }

func (b *breaker) unclaim() { b.probing.Store(false) }

// succeeded counts a success; it reports whether it closed the breaker.
func (b *breaker) succeeded(now int64) (closed bool) {
	b.recent.add(now, 1, 0)
	if b.row.Load() != 0 {
		b.row.Store(0)
	}
	until := b.until.Load()
	if until == 0 || now < until || !b.until.CompareAndSwap(until, 0) {
		return false
	}
	b.closed.Store(now)
	return true
}

// failed counts a failure; it reports whether that is reason to eject.
func (b *breaker) failed(now int64, rules *Ejection, connecting bool) bool {
	b.recent.add(now, 1, 1)
	row := b.row.Add(1)
	switch {
	case rules.Failures == 0:
		return false
	case connecting, int(row) >= rules.Failures, b.until.Load() != 0:
		return true
	case rules.Rate == 0:
		return false
	}
	all, failed := b.recent.sum(now)
	return all >= rateSample && float64(failed) >= rules.Rate*float64(all)
}

// remember is how long an endpoint must have been well for its next time out to be short again.
const remember = time.Minute

// open ejects, for twice as long as the last time when that is not long ago.
func (b *breaker) open(now int64, rules *Ejection) {
	length := int64(rules.Time)
	if b.until.Load() != 0 || now-b.closed.Load() < int64(remember) {
		length = max(length, 2*b.length.Load())
	}
	length = min(length, int64(max(rules.MaxTime, rules.Time)))
	b.length.Store(length)
	b.until.Store(now + length)
}

// reset closes the breaker because the endpoint showed in another way that it is well.
func (b *breaker) reset() {
	b.until.Store(0)
	b.row.Store(0)
}

// ejections keeps the share of a pool's endpoints that are out within its bound. Ejecting is rare, so it may be exact.
type ejections struct{ mu sync.Mutex }

func (x *ejections) eject(v *view, e *endpoint, now int64, rules *Ejection) (ejected bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e.breaker.ejected(now) {
		return false
	}
	out, all := 0, 0
	for _, other := range v.all {
		if other.draining.Load() {
			continue
		}
		all++
		if other != e && other.breaker.until.Load() != 0 {
			out++
		}
	}
	if all < 2 || out > 0 && float64(out+1) > rules.MaxShare*float64(all) || rules.MaxShare == 0 {
		return false
	}
	e.breaker.open(now, rules)
	return true
}
