package matrix

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/policy"
)

// week is the axis of time: a week cut wherever either policy may answer differently, and single moments that a policy
// names.
type week struct {
	zone  *time.Location // of the old policy, or of the new one where the app is new
	spans []span         // of the week, in order
	times []time.Time    // the moments
}

// span is a part of one day.
type span struct {
	begin, end time.Time
	day        int // from monday
	from, to   int // minutes of the day
}

const minutesPerDay = 24 * 60

var days = [7]string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

const timeName = "time"

func (s *survey) timeAxis() axis {
	zone := s.sides[0].zone
	if !s.sides[0].has {
		zone = s.sides[1].zone
	}
	now := s.cfg.Now.In(zone)
	w := &week{zone: zone}
	monday := time.Date(now.Year(), now.Month(), now.Day()-(int(now.Weekday())+6)%7, 0, 0, 0, 0, zone)
	cuts := map[int64]bool{}
	for d := range 8 {
		cuts[monday.AddDate(0, 0, d).Unix()] = true
	}
	end := monday.AddDate(0, 0, 7)
	for _, p := range s.sides {
		for _, at := range p.cuts(monday) {
			if at.After(monday) && at.Before(end) {
				cuts[at.Unix()] = true
			}
		}
		w.times = append(w.times, p.moments()...)
	}
	sorted := slices.Sorted(maps.Keys(cuts))
	for i := range sorted[:len(sorted)-1] {
		w.spans = append(w.spans, newSpan(time.Unix(sorted[i], 0).In(zone), time.Unix(sorted[i+1], 0).In(zone)))
	}
	s.week = w
	return w.axis(s.sides)
}

func newSpan(begin, end time.Time) span {
	s := span{begin: begin, end: end, day: (int(begin.Weekday()) + 6) % 7, from: begin.Hour()*60 + begin.Minute(), to: end.Hour()*60 + end.Minute()}
	if s.to <= s.from {
		s.to = minutesPerDay
	}
	return s
}

// cuts are the moments of the week at which the policy's answer may change, those of the days before and after it too.
func (p *side) cuts(monday time.Time) []time.Time {
	var minutes []int
	if p.has {
		minutes = append(minutes, 0)
	}
	for i := range p.rules {
		for _, h := range p.rules[i].Hours {
			minutes = append(minutes, h.From, h.To)
		}
	}
	if p.own != nil {
		c := p.own.At("context")
		if readsPlace(c, "context.hour") {
			for _, n := range c.Numbers {
				if n >= 0 && n < 24 {
					minutes = append(minutes, int(n)*60, int(n+1)*60)
				}
			}
		}
		if readsPlace(c, "context.time") || readsPlace(c, "context.time_ns") || readsPlace(c, "context.hour") && reckons(c) {
			for h := range 24 {
				minutes = append(minutes, h*60)
			}
			for _, text := range c.Strings {
				if m, ok := minuteIn(text); ok {
					minutes = append(minutes, m, m+1)
				}
			}
		}
	}
	var list []time.Time
	for d := -1; d <= 8; d++ {
		day := monday.In(p.zone).AddDate(0, 0, d)
		for _, m := range minutes {
			list = append(list, time.Date(day.Year(), day.Month(), day.Day(), 0, m, 0, 0, p.zone))
		}
	}
	return list
}

// reckons reports whether a package makes other values of those it reads, which then are compared.
func reckons(c *policy.Constants) bool {
	return slices.ContainsFunc([]string{"plus", "minus", "mul", "div", "rem", "abs", "format_int", "sprintf"},
		func(f string) bool { return slices.Contains(c.Calls, f) })
}

var clockText = regexp.MustCompile(`^([01][0-9]|2[0-3]):([0-5][0-9])$`)

func minuteIn(text string) (int, bool) {
	m := clockText.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	h, errHour := strconv.Atoi(m[1])
	min, errMinute := strconv.Atoi(m[2])
	return h*60 + min, errHour == nil && errMinute == nil
}

// moments are those around each date that the app's own package names.
func (p *side) moments() []time.Time {
	if p.own == nil {
		return nil
	}
	c := p.own.At("context.time", "context.time_ns")
	if !readsPlace(c, "context.time") && !readsPlace(c, "context.time_ns") {
		return nil
	}
	var list []time.Time
	around := func(at time.Time) { list = append(list, at.Add(-time.Second), at, at.Add(time.Second)) }
	for _, text := range c.Strings {
		for _, layout := range []string{time.RFC3339, time.DateOnly} {
			if at, err := time.ParseInLocation(layout, text, p.zone); err == nil {
				around(at)
			}
		}
	}
	for _, n := range c.Numbers {
		if n > 1e17 { // nanoseconds, from 1973 on
			around(time.Unix(0, n))
		}
	}
	return list
}

func (w *week) axis(sides [2]*side) axis {
	a := axis{name: timeName}
	at := func(i int) time.Time {
		if i < len(w.spans) {
			return w.spans[i].begin
		}
		return w.times[i-len(w.spans)]
	}
	for i := range len(w.spans) + len(w.times) {
		begin := at(i)
		v := value{label: begin.Format(time.RFC3339), set: func(in *policy.Input, zone *time.Location) { in.Context.SetTime(begin, zone) }}
		if i < len(w.spans) {
			length := uint64(w.spans[i].end.Sub(begin) / time.Second)
			v.vary = func(in *policy.Input, zone *time.Location, n uint64) {
				in.Context.SetTime(begin.Add(time.Duration(n%length)*time.Second), zone)
			}
		}
		a.values = append(a.values, v)
	}
	zones := [2]*time.Location{sides[0].zone, sides[1].zone}
	a.class = func(i int, v view) string {
		// A policy reads its own clock. Where the two have different zones, each has its class for each moment, and asking
		// both of both is safe: it only tells apart more.
		if v.reads("context.time") || v.reads("context.time_ns") {
			return strconv.Itoa(i)
		}
		var b strings.Builder
		for _, zone := range zones {
			local := at(i).In(zone)
			day := days[(int(local.Weekday())+6)%7]
			if v.rule != nil {
				fmt.Fprintf(&b, "%t ", open(v.rule, day, local.Hour()*60+local.Minute()))
			}
			if v.reads("context.weekday") && (v.own == nil || slices.Contains(v.texts.weekdays, day)) {
				b.WriteString(day)
			}
			if v.reads("context.hour") {
				fmt.Fprintf(&b, "h%d", local.Hour())
			}
		}
		return b.String()
	}
	return a
}

// hours are spans in the form of access rules: days that are alike together.
func (w *week) hours(chosen set) []Hours {
	byDay := make([][]span, len(days))
	for i := range w.spans {
		if !chosen.has(i) {
			continue
		}
		d := byDay[w.spans[i].day]
		if n := len(d); n > 0 && d[n-1].to == w.spans[i].from {
			d[n-1].to = w.spans[i].to
			continue
		}
		byDay[w.spans[i].day] = append(d, w.spans[i])
	}
	var list []Hours
	place := map[[2]int]int{}
	for d, spans := range byDay {
		for _, s := range spans {
			at, known := place[[2]int{s.from, s.to}]
			if !known {
				at = len(list)
				place[[2]int{s.from, s.to}] = at
				list = append(list, Hours{From: clock(s.from), To: clock(s.to)})
			}
			list[at].Days = append(list[at].Days, days[d])
		}
	}
	return list
}

func clock(minute int) string { return fmt.Sprintf("%02d:%02d", minute/60, minute%60) }

// moments are the single moments of a set.
func (w *week) moments(chosen set) []string {
	var list []string
	for i, at := range w.times {
		if chosen.has(len(w.spans) + i) {
			list = append(list, at.In(w.zone).Format(time.RFC3339))
		}
	}
	return list
}
