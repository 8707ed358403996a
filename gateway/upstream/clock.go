package upstream

import (
	"sync/atomic"
	"time"
)

// clock counts nanoseconds from a moment before all others, so that 0 can mean never.
type clock struct {
	now   func() time.Time
	epoch time.Time
}

func newClock(now func() time.Time) clock {
	if now == nil {
		now = time.Now
	}
	return clock{now, now().Add(-time.Hour)}
}

func (c clock) nanos() int64 { return int64(c.now().Sub(c.epoch)) }

// time is the wall time of a count.
func (c clock) time(nanos int64) time.Time { return c.epoch.Add(time.Duration(nanos)).Round(0) }

const windowSeconds = 10

// window counts the events of two kinds of the last ten seconds, roughly: an event that meets the turn of a second may be
// lost.
type window struct {
	seconds [windowSeconds]struct {
		second       atomic.Int64
		all, special atomic.Int32
	}
}

func (w *window) add(nanos int64, all, special int32) {
	second := nanos / int64(time.Second)
	slot := &w.seconds[second%windowSeconds]
	if old := slot.second.Load(); old != second && slot.second.CompareAndSwap(old, second) {
		slot.all.Store(0)
		slot.special.Store(0)
	}
	if all != 0 {
		slot.all.Add(all)
	}
	if special != 0 {
		slot.special.Add(special)
	}
}

func (w *window) sum(nanos int64) (all, special int) {
	second := nanos / int64(time.Second)
	for i := range w.seconds {
		if slot := &w.seconds[i]; second-slot.second.Load() < windowSeconds {
			all += int(slot.all.Load())
			special += int(slot.special.Load())
		}
	}
	return all, special
}
