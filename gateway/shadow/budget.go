package shadow

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	// share of the machine's processors that a trial may use: together with what offering costs, below 3 % of the requests'.
	share = 0.02
	// burst is how much processor time a trial may have saved up.
	burst = 50 * time.Millisecond
	// debt bounds what slow evaluations take from those after them.
	debt = -50 * time.Millisecond
)

// budget is the processor time that a trial may use. It comes in as time passes and is spent on evaluations.
type budget struct {
	clock  func() time.Duration // processor time used so far
	rate   float64              // of the passing time
	credit time.Duration
	filled time.Time
	used   time.Duration // of clock, when it was last looked at
}

func newBudget(now time.Time, processors int) budget {
	return budget{clock: threadTime, rate: share * float64(processors), credit: burst, filled: now}
}

// begin adds what has come in. What was used until now was others'.
func (b *budget) begin(now time.Time) {
	b.credit = min(b.credit+time.Duration(float64(now.Sub(b.filled))*b.rate), burst)
	b.filled, b.used = now, b.clock()
}

// left takes off what was used, and reports whether more may be.
func (b *budget) left() bool {
	used := b.clock()
	b.credit = max(b.credit-(used-b.used), debt)
	b.used = used
	return b.credit > 0
}

// threadTime is the processor time of this thread: on a busy machine, waiting for a turn is no use of it.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic("BUG: reading this thread's clock: " + err.Error()) // clock_gettime(2) of a fixed clock
	}
	return time.Duration(t.Nano())
}
