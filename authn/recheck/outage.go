package recheck

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// atOnce is how many refreshes one provider is asked for at the same time, mostWaiting how many more wait for that: a
	// gateway that starts in the morning does not fall upon it.
	atOnce      = 32
	mostWaiting = 1024

	// After a provider could not be reached it is asked again by one session alone: after firstPause, then ever more
	// seldom up to longestPause. All others are believed meanwhile, within the grace, and do not wait.
	firstPause   = 2 * time.Second
	longestPause = time.Minute
)

// lines are the ways to the providers, by name. Their number is bounded by the configurations that this process had.
type lines struct{ m sync.Map }

func (l *lines) of(provider string) *line {
	if found, ok := l.m.Load(provider); ok {
		return found.(*line)
	}
	made, _ := l.m.LoadOrStore(provider, &line{slots: make(chan struct{}, atOnce)})
	return made.(*line)
}

// line is the way to one provider.
type line struct {
	slots chan struct{} // one for each refresh under way
	begun atomic.Int32  // and those that wait for a slot

	mu       sync.Mutex
	failures int
	since    time.Time // the first of the failures
	retry    time.Time // nobody asks before
	probing  bool      // one session asks whether it is back
}

// away reports whether the provider could not be reached when it was last asked.
func (l *line) away() bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failures > 0
}

// paused reports whether it was away a moment ago, and nobody may ask again yet.
func (l *line) paused(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failures > 0 && now.Before(l.retry)
}

// may reports whether one more refresh may be begun, which then must be followed by done.
func (l *line) may(now time.Time, urgent bool) (ok, probe bool) {
	if !urgent && len(l.slots) == cap(l.slots) || l.begun.Load() >= mostWaiting {
		return false, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failures > 0 {
		if l.probing || now.Before(l.retry) {
			return false, false
		}
		l.probing, probe = true, true
	}
	l.begun.Add(1)
	return true, probe
}

// outcome is what a refresh learned of the way to the provider.
type outcome int

const (
	notAsked outcome = iota
	answered
	unreachable
)

func (l *line) done(now time.Time, o outcome, probe bool) {
	l.begun.Add(-1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if probe {
		l.probing = false
	}
	switch o {
	case answered:
		l.failures = 0
	case unreachable:
		if l.failures == 0 {
			l.since = now
		}
		if probe || l.failures == 0 { // those that were under way at the same time say the same
			l.failures++
			l.retry = now.Add(pause(l.failures))
		}
	}
}

// pause doubles with each failure, give or take a quarter.
func pause(failures int) time.Duration {
	d := min(firstPause<<min(failures-1, 10), longestPause)
	return d*3/4 + rand.N(d/2+1)
}

// Away returns the providers that cannot be asked about people at the moment, and since when.
func (r *Rechecker) Away() map[string]time.Time {
	away := map[string]time.Time{}
	for name, found := range r.lines.m.Range {
		l := found.(*line)
		l.mu.Lock()
		if l.failures > 0 {
			away[name.(string)] = l.since
		}
		l.mu.Unlock()
	}
	return away
}
