package cache

import (
	"strings"
	"time"
)

const (
	imfFixdate = "Mon, 02 Jan 2006 15:04:05 GMT"
	rfc850     = "Monday, 02-Jan-06 15:04:05 GMT"
	asctime    = "Mon Jan _2 15:04:05 2006"
)

// parseDate reads an HTTP date in one of the three formats of RFC 9110 §5.6.7, without regard to case (RFC 9111 §4.2).
// It is strict otherwise: what only resembles a date, or names a zone other than GMT, is none.
func parseDate(s string, now time.Time) (time.Time, bool) {
	if t, ok := parseExactly(imfFixdate, s); ok {
		return t, true
	}
	if t, ok := parseExactly(asctime, s); ok {
		return t, true
	}
	t, ok := parseExactly(rfc850, s)
	if !ok {
		return time.Time{}, false
	}
	// RFC 9110 §5.6.7: two digits that seem more than 50 years ahead are in the past.
	for t.Before(now.AddDate(-50, 0, 0)) {
		t = t.AddDate(100, 0, 0)
	}
	for t.After(now.AddDate(50, 0, 0)) {
		t = t.AddDate(-100, 0, 0)
	}
	return t, true
}

// parseExactly parses s if it is written as the layout says: time.Parse takes one digit for two, and spaces more freely.
func parseExactly(layout, s string) (time.Time, bool) {
	if head, tail := s[:max(0, len(s)-4)], s[max(0, len(s)-4):]; tail != " GMT" && strings.EqualFold(tail, " GMT") {
		s = head + " GMT"
	}
	t, err := time.Parse(layout, s)
	return t, err == nil && strings.EqualFold(t.Format(layout), s)
}

func formatDate(t time.Time) string { return t.UTC().Format(imfFixdate) }
