package cache

import (
	"net/http"
	"strings"
	"time"
)

// dateOf is when an answer was made: its Date, or else when it was received (RFC 9110 §6.6.1).
func dateOf(h http.Header, received time.Time) time.Time {
	if t, ok := parseDate(single(h, "Date"), received); ok {
		return t
	}
	return received
}

// initialAge is how old an answer is when it is received (RFC 9111 §4.2.3).
func initialAge(a Answer, date time.Time) time.Duration {
	apparent := max(0, a.Received.Truncate(time.Second).Sub(date))
	delay := max(0, a.Received.Sub(a.Asked))
	return max(apparent, ageField(a.Header)+delay)
}

// ageField is the Age that the answer came with. Of a list the first member counts; what is no number is ignored
// (RFC 9111 §5.1).
func ageField(h http.Header) time.Duration {
	lines := h["Age"]
	if len(lines) == 0 {
		return 0
	}
	first, _, _ := strings.Cut(lines[0], ",")
	n, _ := parseSeconds(strings.TrimSpace(first))
	return n.duration()
}

func (s seconds) duration() time.Duration { return time.Duration(s) * time.Second }

// age is how old the entry is (RFC 9111 §4.2.3).
func (e *Entry) age(now time.Time) time.Duration {
	return e.initialAge + max(0, now.Sub(e.received))
}

const (
	// heuristicShare of the time since an answer's last change is how long it is good when nobody says (RFC 9111 §4.2.2).
	heuristicShare = 10
	// heuristicLimit: RFC 9111 §4.2.2 wants care beyond a day.
	heuristicLimit = 24 * time.Hour
)

// lifetime is how long an answer is good from its making (RFC 9111 §4.2.1), as a shared cache reads it.
func lifetime(a Answer, d *directives, targeted bool, date time.Time) time.Duration {
	switch {
	case d.sMaxAge != absent:
		return d.sMaxAge.duration()
	case d.maxAge != absent:
		return d.maxAge.duration()
	case !targeted && a.Header["Expires"] != nil:
		return expires(a.Header, date, a.Received)
	case heuristicallyCacheable(a.Status) || d.public:
		if modified, ok := parseDate(single(a.Header, "Last-Modified"), a.Received); ok {
			return min(max(0, date.Sub(modified)/heuristicShare), heuristicLimit)
		}
	}
	return 0
}

// expires reads Expires. A date that is none, or several, is in the past (RFC 9111 §5.3).
func expires(h http.Header, date, now time.Time) time.Duration {
	t, ok := parseDate(single(h, "Expires"), now)
	if !ok {
		return 0
	}
	return max(0, t.Sub(date))
}

// isExplicit reports whether the answer says itself how long it is good.
func isExplicit(h http.Header, d *directives, targeted bool) bool {
	return d.sMaxAge != absent || d.maxAge != absent || !targeted && h["Expires"] != nil
}

// heuristicallyCacheable holds for the status codes of RFC 9110 §15.1.
func heuristicallyCacheable(status int) bool {
	switch status {
	case 200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// use says what may be done with an entry that matches a request.
type use uint8

const (
	mustAsk      use = iota // only after the app has confirmed it
	fresh                   // as it is
	staleRefresh            // as it is, while it is refreshed
	staleAllowed            // as it is: the client said so
)

// judge says how an entry may be used for a request, and why it may not, in the words of Cache-Status.
func (e *Entry) judge(ask *directives, now time.Time) (use, string) {
	age := e.age(now)
	left := e.lifetime - age // negative: stale for so long
	switch {
	case e.policy.noCache:
		return mustAsk, fwdStale
	case ask.noCache,
		ask.maxAge == 0, ask.maxAge != absent && age > ask.maxAge.duration(),
		ask.minFresh != absent && left < ask.minFresh.duration():
		return mustAsk, fwdRequest
	case left > 0:
		return fresh, ""
	case e.policy.restrictsStale():
	case ask.maxStale != absent && -left <= ask.maxStale.duration():
		return staleAllowed, ""
	case e.policy.staleWhileRevalidate != absent && -left < e.policy.staleWhileRevalidate.duration():
		return staleRefresh, ""
	}
	return mustAsk, fwdStale
}

// mayCoverError reports whether an entry may be given in place of an error of the app (RFC 5861 §4).
func (e *Entry) mayCoverError(ask *directives, now time.Time) bool {
	if e.policy.restrictsStale() || ask.noCache || ask.maxAge == 0 {
		return false
	}
	window := max(e.policy.staleIfError, ask.staleIfError)
	return window != absent && e.age(now)-e.lifetime < window.duration()
}
