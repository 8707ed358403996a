package upstream

import (
	"math"
	"sync/atomic"
	"time"
)

const (
	// latencyMemory is how fast an old latency is forgotten: to a third in this time. An address that was 100 times slower
	// than the others is tried again after five of them.
	latencyMemory = 2 * time.Second
	// latencyNoise is the latency up to which addresses count as equally fast: on a good network a scheduler's pause is
	// longer than the difference between two of them.
	latencyNoise = 5 * time.Millisecond
	// failurePenalty counts as the latency of a request that failed: nothing answers faster than a closed port.
	failurePenalty = time.Second
	// errorPenalty counts as the latency of an answer 500, which may be the fault of one page as well as of the address.
	errorPenalty = 50 * time.Millisecond
)

// latency is a moving average that follows peaks at once and forgets them slowly (peak EWMA).
type latency struct {
	value atomic.Int64 // nanoseconds; 0 = never observed
	when  atomic.Int64
}

// observe takes in one latency. Of two at the same moment one may be lost.
func (l *latency) observe(sample, now int64) {
	old, then := l.value.Load(), l.when.Load()
	if sample < old {
		sample += int64(float64(old-sample) * faded(now-then))
	}
	l.value.Store(max(sample, 1))
	l.when.Store(now)
}

// expected is the average as it counts now: nobody knows whether an address that was slow long ago still is.
func (l *latency) expected(now int64) int64 {
	value := l.value.Load()
	if value <= int64(latencyNoise) {
		return value
	}
	return int64(float64(value) * faded(now-l.when.Load()))
}

func faded(age int64) float64 { return math.Exp(-float64(max(age, 0)) / float64(latencyMemory)) }
