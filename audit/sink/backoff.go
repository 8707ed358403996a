package sink

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// firstRetry is the first wait after a failure: a restart of a receiver takes about as long.
	firstRetry = 500 * time.Millisecond
	// maxRetry bounds the waits, so that a receiver that is back is noticed within a minute.
	maxRetry = time.Minute
	// maxRetryAfter bounds what a receiver may ask for: an absurd Retry-After must not silence a sink.
	maxRetryAfter = 15 * time.Minute
)

// backoff are waits that double, each shortened at random by up to a half so that sinks of a fleet do not come together.
type backoff struct {
	first, next time.Duration
}

// wait waits for the next time, or for as long as the receiver asked, and returns false when ctx ended meanwhile.
func (b *backoff) wait(ctx context.Context, asked time.Duration) bool {
	if b.next == 0 {
		b.next = b.first
	}
	d := b.next/2 + rand.N(b.next/2+1)
	b.next = min(2*b.next, maxRetry)
	return rest(ctx, max(d, min(asked, maxRetryAfter)))
}

func (b *backoff) reset() { b.next = 0 }

func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
