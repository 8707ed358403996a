package cache

import (
	"context"
	"net/http"
	"time"
)

// run asks the app and sees the answer home.
func (f *flight) run(ctx context.Context) {
	defer f.retire()
	res, out := f.ask()
	f.settle(out)
	if out.fill != nil {
		out.fill.pump(ctx, res)
	}
}

// retire is the end of the flight. An answer that its leader alone reads may go on.
func (f *flight) retire() {
	f.cache.flightsMu.Lock()
	defer f.cache.flightsMu.Unlock()
	f.retireLocked()
	delete(f.cache.live, f)
	if f.background {
		f.cache.refreshing.Add(-1)
	}
	if f.res == nil {
		f.cancel(errAbandoned)
	}
}

// settle makes the outcome known. What was meant for a leader who has left is thrown away.
func (f *flight) settle(out outcome) {
	c := f.cache
	f.noteSolitude(out)
	if out.fill != nil {
		out.reader = out.fill.attach()
	}
	c.flightsMu.Lock()
	f.outcome = out
	gone := f.leaderGone || f.background
	close(f.ready)
	c.flightsMu.Unlock()
	switch {
	case !gone:
	case out.res != nil:
		out.res.Body.Close()
		f.cancel(errAbandoned)
	case out.reader != nil:
		out.reader.detach()
	}
}

// noteSolitude remembers whether requests for the same should wait for each other.
func (f *flight) noteSolitude(out outcome) {
	if out.err != nil {
		return
	}
	if out.shared && out.key.Scope != Own {
		f.cache.solitary.note(out.key, false)
	} else if f.key.Scope != Own {
		f.cache.solitary.note(f.key.Key, true)
	}
}

// ask sends the request, with the entry's validators if it has any, and decides what the answer means.
func (f *flight) ask() (*http.Response, outcome) {
	x := f.x
	asked := x.cache.opts.Now()
	res, err := x.next.RoundTrip(f.outgoing(f.conditional))
	if err == nil && f.conditional && res.StatusCode == http.StatusNotModified {
		if f.found.entry.confirmedBy(res.Header) {
			res.Body.Close()
			return nil, f.confirmed(res, asked)
		}
		// RFC 9111 §4.3.4: it is about something else than what we have.
		res.Body.Close()
		asked = x.cache.opts.Now()
		res, err = x.next.RoundTrip(f.outgoing(false))
	}
	if failed(res, err) && f.found.entry != nil && f.found.entry.mayCoverError(&x.ask, x.cache.opts.Now()) {
		return nil, f.covered(res, err)
	}
	if err != nil {
		return nil, outcome{err: err}
	}
	return res, f.arrived(res, asked)
}

// outgoing is the request to the app. Where the cache asks on its own behalf, the client's conditions are judged by what
// comes back (RFC 9111 §4.3.1).
func (f *flight) outgoing(conditional bool) *http.Request {
	r := f.x.r
	if !f.conditional && !f.background {
		return r
	}
	r = r.WithContext(r.Context())
	r.Header = r.Header.Clone()
	for _, name := range clientConditions {
		delete(r.Header, name)
	}
	if conditional {
		if e := f.found.entry; e.etag != "" {
			r.Header["If-None-Match"] = []string{e.etag}
		}
		if e := f.found.entry; e.lastModified != "" {
			r.Header["If-Modified-Since"] = []string{e.lastModified}
		}
	}
	return r
}

// failed holds for what stale-if-error covers (RFC 5861 §4).
func failed(res *http.Response, err error) bool {
	if err != nil {
		return true
	}
	switch res.StatusCode {
	case 500, 502, 503, 504:
		return true
	}
	return false
}

// covered is the stale entry in place of an error.
func (f *flight) covered(res *http.Response, err error) outcome {
	how := served{result: Stale, fwd: f.found.why}
	if err == nil {
		how.fwdStatus = res.StatusCode
		res.Body.Close()
	}
	return outcome{entry: f.found.entry, how: how, key: f.found.key, shared: true}
}

// confirmedBy reports whether a 304 is about the entry: validators it names are the ones we asked with.
func (e *Entry) confirmedBy(h http.Header) bool {
	if h["Etag"] != nil {
		return e.etag == "" || matchesAny(h["Etag"], e.etag)
	}
	return true
}

// confirmed is the entry with what a 304 says about it (RFC 9111 §4.3.4).
func (f *flight) confirmed(res *http.Response, asked time.Time) outcome {
	x, old := f.x, f.found.entry
	h := old.freshened(res.Header, x.viewer.Rule)
	e := x.newEntry(old, h, asked)
	out := outcome{entry: e, header: h, how: served{result: Revalidated, fwd: f.found.why, fwdStatus: http.StatusNotModified}}
	out.key, out.how.stored = x.confirm(f.found, e, res.Header)
	out.shared = out.how.stored && e.mayBeSharedNow(x.cache.opts.Now())
	if cookies := res.Header["Set-Cookie"]; cookies != nil { // for the one who asked
		h["Set-Cookie"] = cookies
	}
	return out
}

// mayBeSharedNow reports whether requests that waited may have the answer without asking again.
func (e *Entry) mayBeSharedNow(now time.Time) bool {
	use, _ := e.judge(&noDirectives, now)
	return use == fresh
}

// arrived is an answer with a body of its own.
func (f *flight) arrived(res *http.Response, asked time.Time) outcome {
	x := f.x
	received := x.cache.opts.Now()
	if single(res.Header, "Date") == "" {
		res.Header["Date"] = []string{formatDate(received)} // RFC 9110 §6.6.1
	}
	how := served{result: Miss, fwd: f.found.why}
	if f.conditional {
		how.fwdStatus = res.StatusCode
	}
	v := x.storable(res.StatusCode, res.Header)
	if !v.store || res.ContentLength > x.cache.opts.MaxEntry {
		if f.found.entry != nil && replaces(res.StatusCode) {
			x.cache.store.Replace(f.found.key, f.found.entry, nil)
		}
		how.tell(res.Header, received)
		return outcome{res: res, how: how}
	}
	head := NewEntry(Answer{Status: res.StatusCode, Header: res.Header, Request: x.r.Header, Asked: asked, Received: received})
	head.generation = x.moment.generation
	how.stored = true
	key := x.viewer.key(v.scope)
	body := newFill(f, res, func(b Body, trailer http.Header) { f.complete(key, head, b, trailer) })
	return outcome{entry: head, fill: body, header: res.Header, how: how, key: key, shared: head.mayBeSharedNow(received)}
}

// replaces holds for answers that say what the resource is now, rather than that something went wrong or that a condition
// of the client's holds.
func replaces(status int) bool {
	switch status {
	case http.StatusPartialContent, http.StatusNotModified, http.StatusRequestedRangeNotSatisfiable:
		return false
	}
	return status < 500
}

// complete stores an answer that arrived whole, in the place of the one that was asked about.
func (f *flight) complete(key Key, head *Entry, body Body, trailer http.Header) {
	if f.found.entry != nil {
		f.x.cache.store.Replace(f.found.key, f.found.entry, nil)
	}
	f.x.store(key, head.whole(body, trailer))
}

// refresh asks the app about a stale entry while it is being used (RFC 5861 §3). When there are too many refreshes, or
// one is under way already, another request will try.
func (x *exchange) refresh(f found) {
	c := x.cache
	if c.refreshing.Add(1) > int64(c.opts.Refreshes) {
		c.refreshing.Add(-1)
		return
	}
	bg := *x
	bg.ask = noDirectives
	key := bg.flightKey()
	c.flightsMu.Lock()
	defer c.flightsMu.Unlock()
	if c.closed || c.flights[key] != nil {
		c.refreshing.Add(-1)
		return
	}
	f.why = fwdStale
	c.startLocked(&bg, f, f.entry.hasValidator(), key, true)
}
