package cache

import (
	"net/http"
	"strings"
	"time"
)

// notModified reports whether the client's copy is as good as the entry (RFC 9111 §4.3.2, RFC 9110 §13.2.2).
// If-None-Match decides alone where there is one.
func (e *Entry) notModified(h http.Header, now time.Time) bool {
	if e.Status < 200 || e.Status > 299 { // RFC 9110 §13.2.1
		return false
	}
	if lines := h["If-None-Match"]; lines != nil {
		return matchesAny(lines, e.etag)
	}
	since, ok := parseDate(h.Get("If-Modified-Since"), now)
	return ok && !e.modified(now).After(since)
}

// modified is when the content last changed, as far as we know.
func (e *Entry) modified(now time.Time) time.Time {
	if t, ok := parseDate(e.lastModified, now); ok {
		return t
	}
	return e.date
}

// matchesAny is the weak comparison (RFC 9110 §8.8.3.2) with a list of entity tags or "*".
func matchesAny(lines []string, etag string) bool {
	for _, line := range lines {
		for rest := line; rest != ""; {
			var tag string
			tag, rest = nextTag(rest)
			if tag == "*" || etag != "" && strings.TrimPrefix(tag, "W/") == strings.TrimPrefix(etag, "W/") {
				return true
			}
		}
	}
	return false
}

// nextTag reads one element of a list of entity tags, whose quotes may hold commas. What is no entity tag is returned as
// it stands, so that it equals an ETag that is none either.
func nextTag(s string) (tag, rest string) {
	s = strings.TrimLeft(s, " \t,")
	start := 0
	if strings.HasPrefix(s, "W/") {
		start = 2
	}
	if len(s) > start && s[start] == '"' {
		if end := strings.IndexByte(s[start+1:], '"'); end >= 0 {
			end += start + 2
			return s[:end], s[end:]
		}
	}
	tag, rest, _ = strings.Cut(s, ",")
	return strings.TrimRight(tag, " \t"), rest
}

// inRange reports whether a Range field holds in view of If-Range (RFC 9110 §13.1.5): only for the very same bytes.
func (e *Entry) inRange(h http.Header, now time.Time) bool {
	condition := h.Get("If-Range")
	switch {
	case condition == "":
		return true
	case strings.HasPrefix(condition, `"`):
		return condition == e.etag
	case strings.HasPrefix(condition, "W/"):
		return false
	}
	// RFC 9110 §8.8.2.2: a date is a strong validator only if the answer was made clearly after it.
	at, ok := parseDate(condition, now)
	modified, known := parseDate(e.lastModified, now)
	return ok && known && at.Equal(modified) && !e.date.Before(modified.Add(time.Second))
}

// clientConditions are fields that make a request conditional on what the client has.
var clientConditions = [...]string{"If-None-Match", "If-Modified-Since", "Range", "If-Range"}

func isConditional(h http.Header) bool {
	for _, name := range clientConditions {
		if h[name] != nil {
			return true
		}
	}
	return false
}

// forOrigin reports whether a request has conditions that only the app can judge (RFC 9111 §4.3.2).
func forOrigin(h http.Header) bool { return h["If-Match"] != nil || h["If-Unmodified-Since"] != nil }
