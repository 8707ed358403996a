package sink

import (
	"cmp"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// Lag is how far a sink is and how it does.
type Lag struct {
	Name    string    `json:"name"`
	Records uint64    `json:"lag_records"` // recorded and not yet delivered, in all its logs
	Logs    []LogLag  `json:"logs"`
	Failing time.Time `json:"failing_since,omitzero"` // zero while all is well
	Error   string    `json:"error,omitzero"`         // why it fails; never holds a secret, a URL or what a receiver answered

	// Counts since the gateway's start, or since the sink's configuration changed.
	Delivered uint64 `json:"delivered"`
	Dropped   uint64 `json:"dropped"` // given up because the receiver refused them
	Missed    uint64 `json:"missed"`  // pruned before they could be shipped
}

// LogLag is how far a sink is in one log.
type LogLag struct {
	Log    string `json:"log"`
	Next   uint64 `json:"next"`   // seq of the first record that is not delivered
	Behind uint64 `json:"behind"` // records between there and the log's end
}

// state is what a runner tells about itself, from any goroutine.
type state struct {
	log *slog.Logger

	mu       sync.Mutex
	at       place              // delivered up to here
	ahead    place              // read up to here
	troubles map[string]trouble // by what fails
	counts   Lag                // its counters only
}

type trouble struct {
	since time.Time
	err   error
}

// note keeps how a thing went. The change from well to failing and back is logged.
func (s *state) note(what string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, failing := s.troubles[what]
	switch {
	case err == nil && failing:
		delete(s.troubles, what)
		s.log.Info("audit sink recovered", "what", what, "after", time.Since(before.since).Round(time.Second))
	case err != nil && failing:
		s.troubles[what] = trouble{before.since, err}
	case err != nil:
		s.troubles[what] = trouble{time.Now(), err}
		s.log.Warn("audit sink fails", "what", what, "error", err)
	}
}

// moved keeps how far the sink is.
func (s *state) moved(p place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.at, p)
}

// read keeps how far the reading of a log is.
func (s *state) read(log string, next uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead[log] = next
}

// reading is how far the reading of a log is.
func (s *state) reading(log string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ahead[log]
}

func (s *state) count(delivered, dropped, missed int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Delivered += uint64(delivered)
	s.counts.Dropped += uint64(dropped)
	s.counts.Missed += uint64(missed)
}

// lag describes the runner.
func (r *runner) lag() Lag {
	r.state.mu.Lock()
	defer r.state.mu.Unlock()
	l := r.state.counts
	l.Name = r.cfg.Name
	for _, log := range r.logs {
		next, known := r.state.at[log.Name()]
		if !known {
			continue // it has not begun
		}
		one := LogLag{Log: log.Name(), Next: next}
		if end := log.Next(); end > next {
			one.Behind = end - next
		}
		l.Records += one.Behind
		l.Logs = append(l.Logs, one)
	}
	troubles := slices.SortedFunc(maps.Values(r.state.troubles), func(a, b trouble) int {
		return cmp.Compare(a.since.UnixNano(), b.since.UnixNano())
	})
	if len(troubles) > 0 {
		l.Failing, l.Error = troubles[0].since, troubles[0].err.Error()
	}
	return l
}
