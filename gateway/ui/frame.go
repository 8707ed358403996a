package ui

import (
	"strconv"
	"time"
)

// Frame is what surrounds the pages of a signed-in person.
type Frame struct {
	Person  string // name as the identity provider gives it; empty: Email is shown in its place
	Email   string // may be empty
	Places  []Place
	SignOut string // URL that the sign-out button posts to; empty: no such button
	// FormAction lists further origins that the answer to a form may redirect to; browsers hold form-action against
	// redirects too.
	FormAction []string
}

// Place is a page of the same person.
type Place struct {
	Label, URL string
	Here       bool // it is the one that is shown
}

// Moment is a time in words, such as "2 hours ago", and exactly, as RFC 3339 has it. Without words it is not shown.
type Moment struct{ Words, Exact string }

// MomentOf puts a time into words, seen from now; the zero time has none.
func MomentOf(t, now time.Time) Moment {
	if t.IsZero() {
		return Moment{}
	}
	return Moment{Words: words(t, now), Exact: t.UTC().Format(time.RFC3339)}
}

// answering bounds how long a page takes: what is later than its beginning by less happened while it was made.
const answering = 10 * time.Second

// words are coarse on purpose: what matters is whether a person recognises the moment.
func words(t, now time.Time) string {
	d := now.Sub(t)
	if -d > answering { // what was given 30 days a moment ago has 30 days
		return "in " + span(time.Minute-d)
	}
	if d < time.Minute {
		return "just now"
	}
	return span(d) + " ago"
}

func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Hour:
		return count(d, time.Minute, "minute")
	case d < 2*day:
		return count(d, time.Hour, "hour")
	default:
		return count(d, day, "day")
	}
}

// count is a number of whole units, in English.
func count(d, unit time.Duration, name string) string {
	n := int(d / unit)
	if n == 1 {
		return "1 " + name
	}
	return strconv.Itoa(n) + " " + name + "s"
}
