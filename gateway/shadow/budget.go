package shadow

import "time"

const (
	// share of the machine's processors that a trial may use: together with what offering costs, below 3 % of the requests'.
	share = 0.02
	// burst is how much time a trial may have saved up.
	burst = 200 * time.Millisecond
	// debt bounds what one slow evaluation takes from those after it.
	debt = -100 * time.Millisecond
)

// budget is the time that a trial may use. It comes in steadily and is spent on evaluations.
type budget struct {
	rate   float64 // of the passing time
	credit time.Duration
	filled time.Time
}

func newBudget(now time.Time, processors int) budget {
	return budget{rate: share * float64(processors), credit: burst, filled: now}
}

func (b *budget) refill(now time.Time) {
	b.credit = min(b.credit+time.Duration(float64(now.Sub(b.filled))*b.rate), burst)
	b.filled = now
}

func (b *budget) left() bool { return b.credit > 0 }

func (b *budget) spend(took time.Duration) { b.credit = max(b.credit-took, debt) }
