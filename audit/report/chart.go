package report

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// Bar is one stretch of time in a chart.
type Bar struct {
	Label string    `json:"label"` // its begin, as people read it
	From  time.Time `json:"from"`
	Tally
}

// maxBars bounds a chart: more would be thinner than they can be told apart.
const maxBars = 62

// bars gathers hours into stretches of equal length: hours, days, or whole weeks, as the period needs. Stretches in which
// nothing happened are there.
func bars(hours map[int64]*Tally, o *Options) []Bar {
	if len(hours) == 0 {
		return []Bar{}
	}
	known := slices.Sorted(maps.Keys(hours))
	first, last := known[0], known[len(known)-1]
	if !o.From.IsZero() {
		first = o.From.Unix() / 3600
		last = max(last, o.To.Add(-time.Nanosecond).Unix()/3600)
	}
	width, layout := int64(1), "2006-01-02 15:04"
	if last-first >= maxBars {
		width, layout = 24, time.DateOnly
		first -= first % 24
	}
	if days := (last-first)/24 + 1; width == 24 && days > maxBars {
		width = 24 * 7 * ((days-1)/(7*maxBars) + 1)
	}
	list := make([]Bar, 0, maxBars+1)
	for at := first; at <= last; at += width {
		from := time.Unix(at*3600, 0).UTC()
		list = append(list, Bar{Label: from.Format(layout), From: from})
	}
	for _, hour := range known {
		b, t := &list[(hour-first)/width], hours[hour]
		b.Allowed += t.Allowed
		b.Denied += t.Denied
		b.Rejected += t.Rejected
	}
	return list
}

// chart is a stacked bar chart, as the page draws it. The table beside it holds the same numbers.
type chart struct {
	ID, Title, Description string
	Width, Height          int
	Boxes                  []box
	Lines                  []gridline
	Labels                 []axisLabel
}

type box struct {
	Class string // allowed, denied or rejected
	X     string
	Y     string
	W     string
	H     string
}

type gridline struct {
	Y     string
	Label string
}

type axisLabel struct {
	X    string
	Text string
}

const (
	chartWidth, chartHeight = 880, 260
	chartLeft, chartTop     = 64, 12
	chartFoot               = 28
)

func newChart(title string, list []Bar) *chart {
	if len(list) == 0 {
		return nil
	}
	top, all := uint64(1), Tally{}
	for i := range list {
		top = max(top, list[i].sum())
		all.Allowed += list[i].Allowed
		all.Denied += list[i].Denied
		all.Rejected += list[i].Rejected
	}
	top = roundUp(top)
	c := &chart{ID: "chart", Title: title, Width: chartWidth, Height: chartHeight,
		Description: fmt.Sprintf("Stacked bars from %s to %s: %s allowed, %s denied, %s rejected in all. The table that follows has the numbers.",
			list[0].Label, list[len(list)-1].Label, thousands(all.Allowed), thousands(all.Denied), thousands(all.Rejected))}
	floor := float64(chartHeight - chartFoot)
	scale := (floor - chartTop) / float64(top)
	for i := range uint64(5) {
		n := top * i / 4
		if i == 0 || n != top*(i-1)/4 {
			c.Lines = append(c.Lines, gridline{decimal(floor - float64(n)*scale), thousands(n)})
		}
	}
	step := float64(chartWidth-chartLeft) / float64(len(list))
	for i := range list {
		x, y := chartLeft+float64(i)*step+step*0.1, floor
		for _, part := range []struct {
			class string
			n     uint64
		}{{"allowed", list[i].Allowed}, {"denied", list[i].Denied}, {"rejected", list[i].Rejected}} {
			if part.n == 0 {
				continue
			}
			h := float64(part.n) * scale
			y -= h
			c.Boxes = append(c.Boxes, box{part.class, decimal(x), decimal(y), decimal(step * 0.8), decimal(h)})
		}
		if every := (len(list)-1)/6 + 1; i%every == 0 {
			c.Labels = append(c.Labels, axisLabel{decimal(x), list[i].Label})
		}
	}
	return c
}

// roundUp is the next number that reads well at the top of a scale: 1, 2, 4, 8, 10, 20, 40, 80 and so on.
func roundUp(n uint64) uint64 {
	for power := uint64(1); power < 1e18; power *= 10 {
		for _, m := range []uint64{1, 2, 4, 8} {
			if m*power >= n {
				return m * power
			}
		}
	}
	return n
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }
