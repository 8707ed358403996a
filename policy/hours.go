package policy

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Hours are hours of the week, in policy.timezone. A span that crosses midnight (from 22:00 to 06:00) belongs to the
// day on which it begins.
type Hours struct {
	// Days are mon, tue, wed, thu, fri, sat, sun, or spans of them such as mon-fri. Absent: every day.
	Days []string `yaml:"days" config:"single"`

	// From is the time of day from which access is open, such as "08:00". Absent together with To: all day.
	From string `yaml:"from"`

	// To is the time of day from which access is closed, at most "24:00".
	To string `yaml:"to"`
}

const (
	minutesPerDay = 24 * 60
	daysPerWeek   = 7
)

// Check reports what is wrong with the hours.
func (h *Hours) Check() error {
	_, err := h.windows()
	return err
}

// window is a span of minutes of one day, its end excluded.
type window struct{ from, to int }

// windows are the spans in which access is open, by time.Weekday.
func (h *Hours) windows() (week [daysPerWeek][]window, err error) {
	days, err := h.days()
	if err != nil {
		return week, err
	}
	from, to, err := h.span()
	if err != nil {
		return week, err
	}
	for _, d := range days {
		if from < to {
			week[d] = append(week[d], window{from, to})
			continue
		}
		week[d] = append(week[d], window{from, minutesPerDay})
		if to > 0 {
			next := (d + 1) % daysPerWeek
			week[next] = append(week[next], window{0, to})
		}
	}
	return week, nil
}

// days are the days' numbers, each once.
func (h *Hours) days() ([]int, error) {
	if len(h.Days) == 0 {
		return []int{0, 1, 2, 3, 4, 5, 6}, nil
	}
	var days []int
	for _, name := range h.Days {
		first, last, span := strings.Cut(name, "-")
		a, b := slices.Index(weekdays[:], first), slices.Index(weekdays[:], last)
		if !span {
			b = a
		}
		if a < 0 || b < 0 {
			return nil, fmt.Errorf("day %q: write mon, tue, wed, thu, fri, sat, sun, or a span such as mon-fri", name)
		}
		for d := a; ; d = (d + 1) % daysPerWeek {
			if slices.Contains(days, d) {
				return nil, fmt.Errorf("day %q: %s is there twice", name, weekdays[d])
			}
			days = append(days, d)
			if d == b {
				break
			}
		}
	}
	return days, nil
}

// span is from and to in minutes of the day.
func (h *Hours) span() (from, to int, err error) {
	if h.From == "" && h.To == "" {
		if len(h.Days) == 0 {
			return 0, 0, errors.New("hours: name days, or from and to")
		}
		return 0, minutesPerDay, nil
	}
	if h.From == "" || h.To == "" {
		return 0, 0, errors.New("hours: from and to belong together")
	}
	from, err = minuteOfDay(h.From)
	if err == nil && from == minutesPerDay {
		err = errors.New(`24:00 is only an end; write "00:00"`)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("from %q: %w", h.From, err)
	}
	if to, err = minuteOfDay(h.To); err != nil {
		return 0, 0, fmt.Errorf("to %q: %w", h.To, err)
	}
	if from == to {
		return 0, 0, errors.New("hours: from and to are the same; leave both out for the whole day")
	}
	return from, to, nil
}

func minuteOfDay(s string) (int, error) {
	hours, minutes, ok := strings.Cut(s, ":")
	h, errHour := strconv.ParseUint(hours, 10, 8)
	m, errMinute := strconv.ParseUint(minutes, 10, 8)
	at := int(h*60 + m)
	if !ok || len(hours) != 2 || len(minutes) != 2 || errHour != nil || errMinute != nil || m > 59 || at > minutesPerDay {
		return 0, errors.New(`write a time of day such as "08:00"`)
	}
	return at, nil
}

// String is the hours as sentences show them: mon-fri 08:00-18:00.
func (h *Hours) String() string {
	days := strings.Join(h.Days, ", ")
	if h.From == "" {
		return days
	}
	span := h.From + "-" + h.To
	if days == "" {
		return span
	}
	return days + " " + span
}
