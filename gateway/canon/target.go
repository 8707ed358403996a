package canon

import (
	"net/http"
	"strings"
)

// readTarget reads the target as it came over the wire. r.URL is left alone: net/url has read it in its own way, for
// instance "//admin/x" as a host.
func (q *Request) readTarget(r *http.Request, rules *Rules) *Reject {
	lim := rules.limits
	target := r.RequestURI
	path, query, _ := strings.Cut(target, "?")
	q.RawTarget = Escape(path)
	if path == "" || path[0] != '/' {
		return reject(TargetForm, path) // RFC 9112 §3.2.1: origin-form only
	}
	if len(path) > 3*lim.Path || len(query) > lim.Query {
		return reject(TargetTooLong, "")
	}
	if refused := q.readPath(path, lim.Path, rules.relaxed); refused != nil {
		return refused
	}
	return q.readQuery(query, lim.Params, rules.relaxed)
}

// isTargetByte admits visible ASCII. "#" would start a fragment, which no request has (RFC 9112 §3.2), and a backslash
// is a slash to browsers and to some servers. Characters beyond ASCII must come percent-encoded: raw ones are read
// as UTF-8 here and as Latin-1 there.
func isTargetByte(c byte) bool {
	return '!' <= c && c <= '~' && c != '#' && c != '\\'
}
