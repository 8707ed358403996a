package canon

import "net/http"

// readMethod admits the methods of HTTP, PATCH and WebDAV by name, spelt as registered (RFC 9110 §9.1: methods are
// case-sensitive). A policy tells reading from writing by method, so one that nobody defined has no safe reading.
func (q *Request) readMethod(r *http.Request, _ *Rules) *Reject {
	switch {
	case r.Method == "CONNECT" || r.Method == "TRACE" || r.Method == "TRACK" || r.RequestURI == "*":
		// CONNECT would open a tunnel or, proxied over HTTP/2, smuggle its body as a request (CVE-2026-71324);
		// TRACE reflects credentials; "*" asks about the server, and the server is not theirs to ask about.
		return reject(MethodNotAllowed, r.Method)
	case !KnownMethod(r.Method):
		return reject(BadMethod, r.Method)
	}
	return nil
}

// KnownMethod reports whether requests with this method are admitted.
func KnownMethod(method string) bool {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS": // RFC 9110 §9.3, RFC 5789
		return true
	case "PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK": // RFC 4918
		return true
	case "REPORT", "MKCALENDAR", "ACL", "SEARCH", "QUERY": // RFC 3253, 4791, 3744, 5323; HTTP QUERY
		return true
	}
	return false
}
