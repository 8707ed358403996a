package evidence

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sallyport/audit/filter/peek"
)

// period is the time asked for: from, up to before to; a zero time is open.
type period struct{ from, to time.Time }

func (p period) whole() bool { return p.from.IsZero() && p.to.IsZero() }

func (p period) holds(t time.Time) bool {
	return !t.Before(p.from) && (p.to.IsZero() || t.Before(p.to))
}

// extent is which records of a log a bundle holds.
//
// Records are in the order of their indexes, and their times are data: a clock may go back. So the range is from the
// first record in the period to the last one in it, whatever lies between, and one more on either side, which show that
// the range ends where the period does. Where no record is in the period it is the two records around it, or where
// clocks went back over both of its ends, the two around the first that is past it.
type extent struct {
	oldest, size uint64 // what there is: [oldest, size)
	first, end   uint64 // what the bundle holds: [first, end)
}

func findExtent(ctx context.Context, src Source, log string, size uint64, p period) (extent, error) {
	oldest, err := src.Oldest(log)
	if err != nil {
		return extent{}, err
	}
	x := extent{oldest: min(oldest, size), size: size}
	if x.first, x.end = x.oldest, size; p.whole() {
		return x, nil
	}
	first, end, err := src.Near(ctx, log, p.from, p.to, size)
	if err != nil {
		return extent{}, err
	}
	first, end = max(first, x.oldest), min(end, size)
	if end < first {
		return extent{}, fmt.Errorf("records near the period are %d to %d", first, end)
	}
	inside, err := scanPeriod(ctx, src, log, first, end, p)
	if err != nil {
		return extent{}, err
	}
	x.first, x.end = inside.first, inside.end
	if x.first > x.oldest {
		x.first--
	}
	if x.end < size {
		x.end++
	}
	return x, nil
}

// scanPeriod finds the first and the last record in the period. Where there is none, the range is empty and lies before
// the first record past the period.
func scanPeriod(ctx context.Context, src Source, log string, first, end uint64, p period) (extent, error) {
	x, found, past := extent{}, false, end
	index := first
	for raw, err := range src.Records(ctx, log, first, end) {
		if err != nil {
			return x, err
		}
		t, err := timeOf(string(raw[:min(len(raw), headLen)]))
		if err != nil {
			return x, fmt.Errorf("record %d: %w", index, err)
		}
		if p.holds(t) {
			if !found {
				x.first, found = index, true
			}
			x.end = index + 1
		} else if past == end && !t.Before(p.from) {
			past = index
		}
		index++
	}
	if index != end {
		return x, fmt.Errorf("records end at %d, wanted up to %d", index, end)
	}
	if !found {
		x.first, x.end = past, past
	}
	return x, nil
}

// headLen is how much of a record is looked at for its time, which has only short fields before it: enough that a name
// of a log, a boot and a code fit many times over.
const headLen = 4 << 10

// timeOf is the time of a record.
func timeOf(line string) (time.Time, error) {
	for name, value := range peek.Members(line) {
		if name == "time" {
			return time.Parse(time.RFC3339, peek.Text(value))
		}
	}
	return time.Time{}, errors.New("it has no time")
}
