package canon

import (
	"net/http"
	"slices"
	"strings"

	"sallyport/gateway/headers"
)

// SessionCookie is the name of the cookie that carries a session's handle. The cookies of a sign-in under way begin
// with the same name and a hyphen; their values stay in the *http.Request, for the sign-in alone.
const SessionCookie = headers.CookiePrefix

// readCookies takes the gateway's cookies out of the Cookie field and leaves the others in their order and with their
// bytes, joined into one field by "; " (RFC 9113 §8.2.3 asks for that; RFC 6265 §5.4 knows one field only). A cookie
// that mentions our name anywhere goes: parsers disagree about quotes, commas and case, and no app's cookie holds it.
func (q *Request) readCookies(r *http.Request, rules *Rules) *Reject {
	fields := r.Header["Cookie"]
	if len(fields) == 0 {
		return nil
	}
	count, ours := 0, false
	for _, field := range fields {
		count += 1 + strings.Count(field, ";")
		ours = ours || headers.MentionsCookie(field)
	}
	if count > rules.limits.Cookies {
		return reject(TooManyCookies, "")
	}
	if !ours && len(fields) == 1 {
		return nil
	}
	q.Handles = q.oneHandle[:0]
	q.collectHandles(fields)
	if _, passes := q.Header["Cookie"]; !passes {
		return nil // a Connection field named it: ours to read, not the app's
	}
	delete(q.Header, "Cookie")
	if theirs := othersCookies(fields); theirs != "" {
		q.Header["Cookie"] = []string{theirs}
	}
	return nil
}

// collectHandles notes the distinct values of the session cookie, in order. Its name counts exactly as we set it; one
// pair of quotes around the value belongs to the value's syntax (RFC 6265 §4.1.1).
func (q *Request) collectHandles(fields []string) {
	for _, field := range fields {
		for pair := range strings.SplitSeq(field, ";") {
			name, value, found := strings.Cut(strings.Trim(pair, " \t"), "=")
			if !found || name != SessionCookie {
				continue
			}
			if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
				value = value[1 : n-1]
			}
			if value != "" && !slices.Contains(q.Handles, value) {
				q.Handles = append(q.Handles, value)
			}
		}
	}
}

// othersCookies is what is left for the app.
func othersCookies(fields []string) string {
	if len(fields) == 1 {
		if theirs, whole := othersInPlace(fields[0]); whole {
			return theirs
		}
	}
	var b strings.Builder
	b.Grow(len(fields[0]))
	for _, field := range fields {
		for pair := range strings.SplitSeq(field, ";") {
			pair = strings.Trim(pair, " \t")
			if pair == "" || headers.MentionsCookie(pair) {
				continue
			}
			if b.Len() > 0 {
				b.WriteString("; ")
			}
			b.WriteString(pair)
		}
	}
	return b.String()
}

// othersInPlace is the same where it stands in the field in one piece already: as a rule our cookie is the first or the
// last one, or the only one.
func othersInPlace(field string) (theirs string, whole bool) {
	begin, end := 0, 0 // of theirs
	for at := 0; at < len(field); {
		pair := field[at:]
		if i := strings.IndexByte(pair, ';'); i >= 0 {
			pair = pair[:i]
		}
		next := at + len(pair) + len(";")
		at += len(pair) - len(strings.TrimLeft(pair, " \t"))
		pair = strings.Trim(pair, " \t")
		switch {
		case pair == "" || headers.MentionsCookie(pair):
		case begin == end:
			begin, end = at, at+len(pair)
		case field[end:at] != "; ":
			return "", false
		default:
			end = at + len(pair)
		}
		at = next
	}
	return field[begin:end], true
}

// Handle is the session handle the client presents. Two different ones are none: browsers keep one cookie with a
// __Host- prefix per host, so a second one was planted by something that is not the browser, and which of them is
// the person's cannot be told.
func (q *Request) Handle() (handle string, ok bool) {
	if len(q.Handles) != 1 {
		return "", false
	}
	return q.Handles[0], true
}
