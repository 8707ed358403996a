// Package canon turns what net/http parsed into the one request that everything else reads: the policy decides on it,
// the cache keys on it, the audit log records it and the upstream gets it. Nobody reads the *http.Request for any of
// that.
//
// [Parse] never repairs. Where two servers could read a request differently, it is refused with a [Reject], so the only
// change between what came in and what goes out is spelling: percent-encoding is written in one form. The reasons, and
// what each stands for, are the constants of type [Reason].
//
// Reading the bytes off the wire stays with net/http, whose parser already refuses conflicting lengths, bad chunks,
// control bytes and duplicate Host fields. Three things it hides are settled here for that reason: it ignores
// Transfer-Encoding in HTTP/1.0, so HTTP/1.0 is refused; it drops a Content-Length beside chunked, so a chunked
// HTTP/1.1 request is the last on its connection (RFC 9112 §6.3 wants that of the pair); and it joins folded header
// lines with one space, as RFC 9112 §5.2 allows, so that is what an app sees.
//
// Parse does not touch the body, look up sessions or know any app.
package canon

import (
	"net/http"
	"net/netip"
)

// Request is one request as it is decided on and as it is forwarded. Its fields are to be read, not written; Header
// and Token change only through [Request.ClaimAuthorization].
type Request struct {
	Method   string // one that [KnownMethod] knows
	Protocol string // "HTTP/1.1" or "HTTP/2.0"

	Host      string // lower-case, no port; equal to SNI
	Authority string // lower-case, as the client addressed us: host or host:port

	// Path is decoded and begins with "/"; no segment is empty, "." or ".."; it is valid UTF-8; a last "/" stays. Only
	// where an app relaxes that may segments be empty and hold ";", and "%", which then always begins one of the escapes
	// %2F, %25 and %3B: they stay written, so that no two requests have the same path.
	Path        string
	EscapedPath string // what goes upstream: EscapePath(Path)

	// Destination is where COPY and MOVE write to, in the form of Path; empty: the request names no such place. Destination
	// in Header says the same.
	Destination string

	Query string // exactly what goes upstream, without "?"; see Params

	Header  http.Header // what a client may say to an app (package headers), without Sallyport's cookies
	Handles []string    // distinct values of the session cookie, in order; see Handle
	Token   string      // gateway token from Sallyport-Authorization, or claimed from Authorization

	Upgrade       string // "websocket" or empty
	ContentLength int64  // -1 when unknown: chunked, or HTTP/2 without content-length
	Close         bool   // the connection must end with this exchange, so its answer says "Connection: close"

	Peer      netip.AddrPort // where the connection came from; invalid when that is no IP address
	SNI       string         // lower-case
	RawTarget string         // path as received, escaped, cut to 1 KiB: for records, never for decisions. The query stays out: it may hold secrets

	oneHandle [1]string // room for Handles: more than one is rare, and refused
}

// Rules are what requests are parsed by. They do not change.
type Rules struct {
	limits  Limits
	relaxed Relaxed
}

// NewRules makes rules of limits, in which a zero means the default, and of what apps relax.
func NewRules(limits Limits, relaxed Relaxed) *Rules { return &Rules{limits.orDefaults(), relaxed} }

// Parse reads r, which came from peer, and refuses it with a *Reject when it can be read in more than one way. r stays as
// it was; the result shares strings and header values with it. Several goroutines may parse different requests.
func Parse(peer netip.AddrPort, r *http.Request, rules *Rules) (*Request, error) {
	q := &Request{Method: r.Method, Protocol: r.Proto, ContentLength: r.ContentLength, Peer: peer}
	for _, stage := range stages {
		if reject := stage(q, r, rules); reject != nil {
			return nil, reject
		}
	}
	return q, nil
}

// stages are what a request has to pass, in this order: what decides about the connection comes first.
var stages = [...]func(*Request, *http.Request, *Rules) *Reject{
	(*Request).readMethod,
	(*Request).readFraming,
	(*Request).readAuthority,
	(*Request).readTarget,
	(*Request).readHeader,
	(*Request).readDestination,
	(*Request).readUpgrade,
	(*Request).readCookies,
	(*Request).readCredential,
}
