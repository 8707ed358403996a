package replay

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets whose width is an eighth of their size at most, whatever their number.
type histogram [64 * 8]int64

func (h *histogram) observe(d time.Duration) { h[bucket(uint64(max(0, d)))]++ }

func (h *histogram) add(other *histogram) {
	for i, n := range other {
		h[i] += n
	}
}

// bucket is the number's highest bit and the three bits behind it.
func bucket(n uint64) int {
	if n < 8 {
		return int(n)
	}
	high := bits.Len64(n) - 1
	return (high-2)*8 + int(n>>(high-3))&7
}

// upper is the largest number of a bucket.
func upper(bucket int) time.Duration {
	if bucket < 8 {
		return time.Duration(bucket)
	}
	high := bucket/8 + 2
	return time.Duration((uint64(8+bucket%8+1) << (high - 3)) - 1)
}

func (h *histogram) latency() Latency {
	var l Latency
	for _, n := range h {
		l.Evaluations += n
	}
	l.P50, l.P95, l.P99 = h.quantile(50, l.Evaluations), h.quantile(95, l.Evaluations), h.quantile(99, l.Evaluations)
	return l
}

// quantile is the duration that percent of all stay below.
func (h *histogram) quantile(percent, all int64) time.Duration {
	if all == 0 {
		return 0
	}
	rest := (all*percent + 99) / 100
	for i, n := range h {
		if rest -= n; rest <= 0 {
			return upper(i)
		}
	}
	panic("BUG: a histogram with fewer entries than it counted")
}
