package canon

import (
	"net/http"
	"strings"

	"sallyport/gateway/headers"
)

// readHeader bounds the header and keeps what a client may say to an app.
func (q *Request) readHeader(r *http.Request, rules *Rules) *Reject {
	fields, size := 0, 0
	for name, values := range r.Header {
		if fields += len(values); len(values) > 1 && isSingular(name) {
			return reject(RepeatedField, name)
		}
		for _, value := range values {
			size += len(name) + len(value)
		}
	}
	if fields > rules.limits.Fields || size > rules.limits.Header {
		return reject(HeaderTooLarge, "")
	}
	for _, name := range headers.NamedByConnection(r.Header) {
		if isForAll(name) {
			return reject(BadConnection, name)
		}
	}
	q.Header = headers.FromClient(r.Header)
	return nil
}

// isForAll tells fields that are said to everybody on the way, so that Connection may not name them (RFC 9110 §7.6.1): a
// client could take away what its request is judged by, such as where it comes from, before anybody has read it. What
// belongs to a connection, and what nobody reads but the app, goes silently.
func isForAll(name string) bool {
	switch name {
	case "Cache-Control", "Depth", "Overwrite", "Pragma", "X-Requested-With":
		return true
	case "Content-Length":
		return false // is none of the client's business either way: see package headers
	}
	for _, family := range [...]string{"Accept", "Access-Control-", "Content-", "If-", "Sec-", "X-Amz-Copy-Source"} {
		if strings.HasPrefix(name, family) {
			return true
		}
	}
	return isSingular(name)
}

// isSingular tells fields that a request has one of at most, and that policy, limits or shield read: of two, they and the
// app could take different ones (RFC 9110 §5.3). Gateway credentials have refusals of their own.
func isSingular(name string) bool {
	switch name {
	case "Authorization", "Content-Type", "Destination", "Origin", "Range", "Referer", "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "User-Agent":
		return true
	}
	return false
}

// Origin is the Origin field, or empty.
func (q *Request) Origin() string { return q.Header.Get("Origin") }

// FetchSite is Sec-Fetch-Site: same-origin, same-site, cross-site, none, or empty from what is no modern browser.
func (q *Request) FetchSite() string { return q.Header.Get("Sec-Fetch-Site") }

// FetchMode is Sec-Fetch-Mode.
func (q *Request) FetchMode() string { return q.Header.Get("Sec-Fetch-Mode") }

// FetchDest is Sec-Fetch-Dest.
func (q *Request) FetchDest() string { return q.Header.Get("Sec-Fetch-Dest") }

// UserAgent is what the client calls itself: foreign bytes.
func (q *Request) UserAgent() string { return q.Header.Get("User-Agent") }

// ContentType is the type the client gives its body: foreign bytes.
func (q *Request) ContentType() string { return q.Header.Get("Content-Type") }
