package canon

import (
	"net/http"
	"strings"
)

// readDestination reads where COPY and MOVE write to (RFC 4918 §10.3). It is a second target, so it is held to the rules
// of the first, and is of this very origin. It is kept as a path, the form that means the same to an app whatever it
// knows of TLS and of names in front of it (RFC 4918 §8.3). Of the methods that are admitted no other has the field, so
// with them nobody reads it.
func (q *Request) readDestination(_ *http.Request, rules *Rules) *Reject {
	if q.namesSource() {
		return reject(SecondTarget, "copies from another resource")
	}
	field := q.Header["Destination"]
	if field == nil {
		return nil
	}
	delete(q.Header, "Destination")
	if q.Method != "COPY" && q.Method != "MOVE" {
		return nil
	}
	raw, ok := q.ownPath(field[0])
	if !ok || len(raw) > 3*rules.limits.Path {
		return reject(SecondTarget, RedactTarget(field[0]))
	}
	path, refused := rules.relaxed.read(q.Host, raw)
	if refused != nil || len(path) > rules.limits.Path {
		return reject(SecondTarget, RedactTarget(field[0]))
	}
	q.Destination = path
	q.Header["Destination"] = []string{EscapePath(path)}
	return nil
}

// ownPath is the path of a Simple-ref (RFC 4918 §8.3) that names this origin, without a query.
func (q *Request) ownPath(ref string) (path string, ok bool) {
	if !strings.HasPrefix(ref, "/") {
		scheme, rest, _ := strings.Cut(ref, "://")
		authority, after, absolute := strings.Cut(rest, "/")
		if !absolute || lower(scheme) != "https" || withoutPort443(lower(authority)) != withoutPort443(q.Authority) {
			return "", false
		}
		ref = "/" + after
	}
	return ref, strings.IndexByte(ref, '?') < 0
}

func withoutPort443(authority string) string { return strings.TrimSuffix(authority, ":443") }

// namesSource finds the fields by which object stores copy from another object into the one of the target. They are no
// paths, cannot be written anew because signatures cover them, and without them an empty object would be stored: so such
// a request is refused.
func (q *Request) namesSource() bool {
	if q.Method != "PUT" && q.Method != "POST" {
		return false
	}
	for _, name := range copySources {
		if q.Header[name] != nil {
			return true
		}
	}
	return false
}

var copySources = [...]string{
	"X-Amz-Copy-Source", "X-Copy-From", "X-Cos-Copy-Source", "X-Goog-Copy-Source", "X-Ms-Copy-Source", "X-Ms-Rename-Source", "X-Obs-Copy-Source", "X-Oss-Copy-Source",
}

// StripDestination is StripPrefix of the destination.
func (q *Request) StripDestination(prefix string) (path, escaped string, ok bool) {
	return stripPrefix(q.Destination, prefix)
}
