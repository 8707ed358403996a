package table

import (
	"errors"
	"slices"
	"strings"
	"time"
)

// When is a moment: of a certain day, or of a day of the week. The week is one of January 2026, so that a row means the
// same whenever it is tried.
type When struct {
	Text string `yaml:"-"` // as it was written

	exact time.Time // with a zone of its own, unless zero
	local time.Time // to be read in the policy's zone
}

// noon is the moment of rows that name none: when nearly everybody works.
var noon = When{Text: "wed 12:00", local: day(3).Add(12 * time.Hour)}

// weekdays are the names of days; the first day of the week in which rows are tried is a Sunday.
var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func day(n int) time.Time { return time.Date(2026, time.January, 4+n, 0, 0, 0, 0, time.UTC) }

var errWhen = errors.New(`write a moment such as "mon 10:00", "10:00", "2026-11-30 10:00" or 2026-11-30T10:00:00Z`)

// UnmarshalText reads a moment.
func (w *When) UnmarshalText(text []byte) error {
	w.Text = string(text)
	if at, err := time.Parse(time.RFC3339, w.Text); err == nil {
		w.exact = at
		return nil
	}
	if at, err := time.Parse("2006-01-02 15:04", w.Text); err == nil {
		w.local = at
		return nil
	}
	name, clock, both := strings.Cut(w.Text, " ")
	n := slices.Index(weekdays, name)
	switch {
	case n < 0 && !both: // a time of day alone
		n, clock = 3, name
	case n >= 0 && !both: // a day alone
		clock = "12:00"
	}
	at, err := time.Parse("15:04", clock)
	if n < 0 || err != nil {
		return errWhen
	}
	w.local = day(n).Add(time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute)
	return nil
}

// In is the moment, where clocks show the time of that zone.
func (w *When) In(zone *time.Location) time.Time {
	if !w.exact.IsZero() {
		return w.exact
	}
	l := w.local
	return time.Date(l.Year(), l.Month(), l.Day(), l.Hour(), l.Minute(), 0, 0, zone)
}
