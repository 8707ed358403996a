package cache

import (
	"context"
	"net/http"
	"time"
)

// exchange is one request on its way through the cache.
type exchange struct {
	cache  *Cache
	next   http.RoundTripper
	r      *http.Request
	viewer *Viewer
	app    *app
	now    time.Time
	moment moment
	ask    directives // what the request says
	// credentials says that the request carried cookies or Authorization.
	credentials bool
}

// RoundTrip answers a request from the cache or the app.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	v := viewerOf(r.Context())
	if v == nil {
		return t.next.RoundTrip(r)
	}
	x := &exchange{cache: t.cache, next: t.next, r: r, viewer: v, app: t.cache.appOf(v.App), now: t.cache.opts.Now()}
	x.moment = x.app.moment(v.URL)
	x.credentials = v.Credentials || r.Header["Cookie"] != nil || r.Header["Authorization"] != nil
	res, how, err := x.roundTrip()
	v.Result = how
	x.app.count(how)
	return res, err
}

func (x *exchange) roundTrip() (*http.Response, Result, error) {
	if why := x.bypasses(); why != "" {
		return x.pass(why)
	}
	x.ask = askOf(x.r.Header)
	if x.ask.noStore { // RFC 9111 §5.2.1.5: neither stored nor, here, answered from what is
		return x.pass(fwdRequest)
	}
	found := x.lookup()
	if found.use != mustAsk {
		return x.answerStored(found)
	}
	if x.ask.onlyIfCached {
		return x.gatewayTimeout(found)
	}
	if x.r.Method == http.MethodHead {
		return x.head(found)
	}
	return x.fetch(found)
}

// bypasses says why the cache has nothing to do with a request, or nothing.
func (x *exchange) bypasses() string {
	r := x.r
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return fwdMethod
	case !x.viewer.Rule.Enabled, r.Body != nil && r.Body != http.NoBody, r.Header["Upgrade"] != nil, forOrigin(r.Header),
		len(r.Header["Range"]) > 1:
		return fwdBypass
	case r.Header["Range"] != nil:
		if _, verdict := parseRange(r.Header["Range"][0], 0); verdict == rangeSeveral {
			return fwdBypass
		}
	}
	return ""
}

// askOf reads the request's Cache-Control, or else its Pragma (RFC 9111 §5.4).
func askOf(h http.Header) directives {
	if lines := h["Cache-Control"]; lines != nil {
		d := parseDirectives(lines)
		d.noCache = d.noCache || d.malformed
		return d
	}
	d := noDirectives
	if lines := h["Pragma"]; lines != nil {
		d.noCache = parseDirectives(lines).noCache
	}
	return d
}

// pass hands the request to the app and the answer back.
func (x *exchange) pass(why string) (*http.Response, Result, error) {
	res, err := x.next.RoundTrip(x.r)
	if err != nil {
		return nil, Bypass, err
	}
	x.invalidate(res)
	served{result: Bypass, fwd: why}.tell(res.Header, x.now)
	return res, Bypass, nil
}

// found is what a look-up came to.
type found struct {
	key   Key
	entry *Entry // the one to use or to ask about; nil if there is none
	use   use
	why   string // why the app must be asked
}

// scopes are the partitions that a request may be answered from, in the order they are tried: never more than those it
// may be stored in. A request with credentials is answered from what all share only where the app never sees any.
func (x *exchange) scopes() []Scope {
	switch own := x.hasOwn(); {
	case x.viewer.Rule.IdentityFree && own:
		return freeThenOwn[:]
	case x.viewer.Rule.IdentityFree:
		return freeThenOwn[:1]
	case x.mayShare(): // without credentials, so everyone has their own
		return sharedThenOwn[:]
	case own:
		return sharedThenOwn[1:]
	}
	return nil
}

var (
	freeThenOwn   = [...]Scope{Free, Own}
	sharedThenOwn = [...]Scope{Shared, Own}
)

// lookup looks for an entry: the first fresh one, or else the first that the app can be asked about.
func (x *exchange) lookup() found {
	best := found{use: mustAsk, why: fwdURIMiss}
	for _, scope := range x.scopes() {
		key := x.viewer.key(scope)
		entries := x.cache.store.Get(key)
		if len(entries) == 0 {
			continue
		}
		e := x.choose(key, entries)
		if e == nil {
			if best.entry == nil {
				best.why = fwdVaryMiss
			}
			continue
		}
		use, why := e.judge(&x.ask, x.now)
		if use != mustAsk {
			return found{key, e, use, ""}
		}
		if best.entry == nil {
			best = found{key, e, use, why}
		}
	}
	return best
}

// choose is the newest entry that the request selects (RFC 9111 §4.1) and no change has overtaken.
func (x *exchange) choose(key Key, entries []*Entry) *Entry {
	for _, e := range entries {
		if e.generation != x.moment.generation {
			x.cache.store.Replace(key, e, nil)
			continue
		}
		if e.matches(x.r.Header) {
			return e
		}
	}
	return nil
}

// answerStored answers without asking the app, or before it is asked.
func (x *exchange) answerStored(f found) (*http.Response, Result, error) {
	how := served{result: Hit}
	if f.use != fresh {
		how.result = Stale
	}
	if f.use == staleRefresh {
		x.refresh(f)
	}
	return x.respond(f.entry, nil, nil, how), how.result, nil
}

// gatewayTimeout is the answer to only-if-cached when nothing is (RFC 9111 §5.2.1.7).
func (x *exchange) gatewayTimeout(f found) (*http.Response, Result, error) {
	h := http.Header{"Cache-Status": {"sallyport; detail=only-if-cached"}, "Date": {formatDate(x.now)}, "Content-Length": {"0"}}
	return &http.Response{
		Status: "504 Gateway Timeout", StatusCode: http.StatusGatewayTimeout, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: http.NoBody, Request: x.r,
	}, Miss, nil
}

// head asks the app, and uses the answer to confirm or to give up what is stored for GET (RFC 9111 §4.3.5).
func (x *exchange) head(f found) (*http.Response, Result, error) {
	asked := x.now
	res, err := x.next.RoundTrip(x.r)
	if err != nil {
		return nil, Miss, err
	}
	if f.entry != nil {
		x.compare(f, res, asked)
	}
	served{result: Miss, fwd: f.why}.tell(res.Header, x.now)
	return res, Miss, nil
}

func (x *exchange) compare(f found, res *http.Response, asked time.Time) {
	switch {
	case res.StatusCode == http.StatusNotFound, res.StatusCode == http.StatusGone:
		x.cache.store.Replace(f.key, f.entry, nil)
	case res.StatusCode != f.entry.Status || f.entry.Status != http.StatusOK:
	case !f.entry.describes(res):
		x.cache.store.Replace(f.key, f.entry, f.entry.spoiled())
	default:
		h := f.entry.freshened(res.Header, x.viewer.Rule)
		x.confirm(f, x.newEntry(f.entry, h, asked), res.Header)
	}
}

// describes reports whether an answer to HEAD is about the content we have.
func (e *Entry) describes(res *http.Response) bool {
	same := func(name, have string) bool { return res.Header[name] == nil || single(res.Header, name) == have }
	return same("Etag", e.etag) && same("Last-Modified", e.lastModified) &&
		(res.Header["Content-Length"] == nil || res.ContentLength == e.body.Size())
}

// newEntry is an entry with the content of an old one and a newer head.
func (x *exchange) newEntry(old *Entry, h http.Header, asked time.Time) *Entry {
	e := NewEntry(Answer{Status: old.Status, Header: h, Trailer: old.trailer, Body: old.body, Request: x.r.Header,
		Asked: asked, Received: x.cache.opts.Now()})
	e.generation = x.moment.generation
	return e
}

// confirm puts a confirmed entry in the place of the old one. What the app now wants seen by fewer moves there, and nothing
// moves to more: a confirmation has no content, so it cannot say whom the content was made for. said is what the app said
// just now, since only that can make an entry that all share newer: what one person was told in words of its own is not
// put into others' mouths.
func (x *exchange) confirm(f found, e *Entry, said http.Header) (Key, bool) {
	h := e.Header()
	v := x.storable(e.Status, h)
	if v.store && v.scope == Shared {
		d, _ := policyOf(said)
		v.scope = x.scopeOf(said, &d)
	}
	if f.key.Scope == Own {
		v.scope = Own
	}
	if !v.store {
		x.cache.store.Replace(f.key, f.entry, nil)
		return f.key, false
	}
	if key := x.viewer.key(v.scope); key != f.key {
		if f.key.Scope != Shared {
			x.cache.store.Replace(f.key, f.entry, nil)
		}
		return key, x.store(key, e)
	}
	return f.key, x.keep(func() bool { return x.cache.store.Replace(f.key, f.entry, e) }, f.key, e)
}

// store adds an entry, unless the URL changed or was purged since the request left.
func (x *exchange) store(key Key, e *Entry) bool {
	return x.keep(func() bool { x.cache.store.Put(key, e); return true }, key, e)
}

// keep looks at the moment before and after an entry is put: a purge in between would miss it.
func (x *exchange) keep(put func() bool, key Key, e *Entry) bool {
	if x.app.moment(x.viewer.URL) != x.moment || !put() {
		return false
	}
	if x.app.moment(x.viewer.URL) != x.moment {
		x.cache.store.Replace(key, e, nil)
		return false
	}
	x.app.stored.Add(1)
	return true
}

// detached is the exchange as background work sees it: it outlives the request, whose header and viewer may be used again
// by their owners.
func (x *exchange) detached(ctx context.Context) *exchange {
	d := *x
	d.r = x.r.WithContext(ctx)
	d.r.Header = x.r.Header.Clone()
	viewer := *x.viewer
	d.viewer = &viewer
	return &d
}
