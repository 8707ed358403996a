package audit

import (
	"fmt"
	"time"
)

// Between two attempts to write again after a failure: soon at first, since most failures pass, and never busily.
const (
	firstProbe = 250 * time.Millisecond
	lastProbe  = 5 * time.Second
)

// failure is why a log does not accept records, and since when.
type failure struct {
	err     error
	since   time.Time
	stalled bool // a commit is taking too long; this ends by itself when the commit does

	// What came to grief meanwhile, known at the end.
	until         time.Time
	refused, lost uint64
}

// record is the recovered record at the end of an outage.
func (f *failure) record() *Record {
	return &Record{Type: TypeRecovered, Code: CodeResumed, Detail: detail(struct {
		Cause   string    `json:"cause"`
		Since   time.Time `json:"since"`
		Refused uint64    `json:"refused"`       // appends that were answered with an error
		Lost    uint64    `json:"lost_outcomes"` // posts for which there was no more room
	}{f.err.Error(), f.since.UTC(), f.refused, f.lost})}
}

// begin and end enclose a commit, so that one that hangs is noticed although nobody returns from it.
func (l *Log) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = true
	l.stalling.Reset(l.slow)
}

// end returns the stall that a successful commit has ended, if there was one.
func (l *Log) end(err error) *failure {
	l.mu.Lock()
	l.stalling.Stop()
	l.busy = false
	f := l.failing.Load()
	if err != nil || f == nil || !f.stalled {
		l.mu.Unlock()
		return nil
	}
	f = l.healLocked()
	l.mu.Unlock()
	l.healed(f)
	return f
}

// stalled turns callers away from a log whose disk does not answer, before they queue up behind it.
func (l *Log) stalled() {
	l.mu.Lock()
	if !l.busy || l.failing.Load() != nil {
		l.mu.Unlock()
		return
	}
	err := unavailable(fmt.Errorf("%w: a commit takes more than %v", ErrSlow, l.slow))
	l.failing.Store(&failure{err: err, since: l.now(), stalled: true})
	l.mu.Unlock()
	l.log.Error("audit log does not answer", "log", l.name, "limit", l.slow)
	l.changed()
}

// fail refuses everybody who waits, and from now on. What was posted stays for later.
func (l *Log) fail(cause error, batch []*entry) {
	f := &failure{err: unavailable(cause), since: l.now()}
	l.mu.Lock()
	if stall := l.failing.Load(); stall != nil {
		f.since = stall.since
	}
	waiting := l.separateLocked(append(batch, l.queue...))
	l.refused += uint64(len(waiting))
	l.failing.Store(f)
	l.mu.Unlock()
	for _, e := range waiting {
		if !e.answer(f.err) {
			l.release(e)
		}
	}
	l.log.Error("audit log is unavailable", "log", l.name, "error", cause)
	l.changed()
}

// separateLocked keeps what was posted in the queue and returns the entries of callers.
func (l *Log) separateLocked(all []*entry) (waiting []*entry) {
	l.queue, l.queued = nil, 0
	for _, e := range all {
		if e.waits {
			waiting = append(waiting, e)
			continue
		}
		l.queue = append(l.queue, e)
		l.queued += len(e.buf)
	}
	return waiting
}

// resume tries to write until it works; false when the log is closed before.
func (l *Log) resume() bool {
	for wait := firstProbe; ; wait = min(2*wait, lastProbe) {
		timer := time.NewTimer(wait)
		select {
		case <-l.stop:
			timer.Stop()
			return false
		case <-timer.C:
		}
		if l.probe() {
			return true
		}
	}
}

// probe ends the outage by committing the record that says so: nothing else proves that the log can be written.
func (l *Log) probe() bool {
	l.mu.Lock()
	report := *l.failing.Load()
	report.refused, report.lost = l.refused, l.lost
	l.mu.Unlock()
	e, err := l.entry(report.record())
	if err != nil {
		panic("BUG: the log's own record: " + err.Error())
	}
	if err := l.commit([]*entry{e}); err != nil {
		l.release(e)
		l.setCause(err)
		return false
	}
	l.mu.Lock()
	f := l.healLocked()
	l.refused, l.lost = f.refused-report.refused, f.lost-report.lost // of the last moment, for the next report
	l.mu.Unlock()
	l.healed(f)
	return true
}

// setCause keeps the present reason of an outage: a disk that failed may be full by now.
func (l *Log) setCause(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := *l.failing.Load()
	f.err = unavailable(cause)
	l.failing.Store(&f)
}

func unavailable(cause error) error { return fmt.Errorf("%w: %w", ErrUnavailable, cause) }

// healLocked ends the outage and closes its account.
func (l *Log) healLocked() *failure {
	f := *l.failing.Load()
	f.until, f.refused, f.lost = l.now(), l.refused, l.lost
	l.refused, l.lost = 0, 0
	l.failing.Store(nil)
	return &f
}

func (l *Log) healed(f *failure) {
	l.log.Warn("audit log is available again", "log", l.name, "cause", f.err,
		"unavailable_for", f.until.Sub(f.since), "refused", f.refused, "lost", f.lost)
	l.changed()
}
