package cache

import (
	"net/http"
	"strings"
)

// verdict says whether an answer is stored, and for whom.
type verdict struct {
	store bool
	scope Scope
}

// storable decides about an answer to GET. It is the security argument of this package: what it lets into a scope is seen
// by everyone in that scope.
func (x *exchange) storable(status int, h http.Header) verdict {
	d, targeted := policyOf(h)
	if !x.mayStore(status, h, &d, targeted) {
		return verdict{}
	}
	scope := x.scopeOf(h, &d)
	return verdict{scope != Own || x.hasOwn(), scope}
}

// mayStore is RFC 9111 §3, and what safety asks for beyond it.
func (x *exchange) mayStore(status int, h http.Header, d *directives, targeted bool) bool {
	switch {
	case x.ask.noStore, d.malformed, d.private:
		return false
	case d.noStore && !(d.mustUnderstand && understood(status)): // RFC 9111 §5.2.2.3
		return false
	case d.mustUnderstand && !understood(status):
		return false
	case status < 200, status == http.StatusPartialContent, status == http.StatusNotModified:
		return false
	case h["Set-Cookie"] != nil && !x.viewer.Rule.StoreSetCookie:
		return false
	case x.r.Header["Authorization"] != nil && !(d.public || d.mustRevalidate || d.sMaxAge != absent): // RFC 9111 §3.5
		return false
	case neverEnds(h):
		return false
	}
	if _, any := varyOf(h); any {
		return false
	}
	validator := single(h, "Etag") != "" || single(h, "Last-Modified") != ""
	if d.noCache {
		return validator
	}
	return isExplicit(h, d, targeted) || validator && (d.public || heuristicallyCacheable(status))
}

// scopeOf decides who may see an answer that is stored.
func (x *exchange) scopeOf(h http.Header, d *directives) Scope {
	switch {
	case x.viewer.Rule.IdentityFree && !x.saysWho():
		return Free
	case x.cache.shares(sharing{vouched: x.viewer.Rule.Shared, anonymous: !x.credentials,
		declared: d.public || d.sMaxAge != absent, impartial: !x.variesByPerson(h)}):
		return Shared
	}
	return Own
}

// hasOwn reports whether the person has a partition. Strangers have one between them, so those whom the app may know by
// their cookies have none.
func (x *exchange) hasOwn() bool { return x.viewer.Person != "" || !x.credentials }

// sharing is what must hold for people to share an entry: all of it.
type sharing struct {
	vouched   bool // the operator said that such answers carry nobody's data
	anonymous bool // the request carried neither the app's cookies nor Authorization
	declared  bool // the answer says public or s-maxage; must-revalidate, which RFC 9111 §3.5 accepts too, is not enough
	impartial bool // Vary names nothing that tells who asks
}

func (s sharing) allowed() bool { return s.vouched && s.anonymous && s.declared && s.impartial }

// mayShare reports whether the answer to this request could be shared, whatever it will say.
func (x *exchange) mayShare() bool {
	return x.cache.shares(sharing{vouched: x.viewer.Rule.Shared, anonymous: !x.credentials, declared: true, impartial: true})
}

// saysWho reports whether a request that should carry nobody's credentials does so all the same. That would be a mistake
// of our caller's; its answer stays with the person.
func (x *exchange) saysWho() bool {
	return x.r.Header["Cookie"] != nil || x.r.Header["Authorization"] != nil
}

func (x *exchange) tellsWho(name string) bool {
	return x.viewer.IdentityHeaders != nil && x.viewer.IdentityHeaders(name)
}

func (x *exchange) variesByPerson(h http.Header) bool {
	names, any := varyOf(h)
	for _, name := range names {
		any = any || x.tellsWho(name)
	}
	return any
}

// understood holds for registered status codes: none of those asks more of a cache than we do.
func understood(status int) bool { return http.StatusText(status) != "" }

// neverEnds holds for answers that are conversations: they are for the one who asked.
func neverEnds(h http.Header) bool {
	kind := strings.ToLower(h.Get("Content-Type"))
	return strings.HasPrefix(kind, "text/event-stream") || strings.HasPrefix(kind, "application/grpc") ||
		strings.HasPrefix(kind, "multipart/x-mixed-replace")
}
