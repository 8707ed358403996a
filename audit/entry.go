package audit

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// entry is a record on its way to the disk. Entries are reused: whoever takes one out of play releases it, which is
// the caller that waited for it, or the committer when nobody does.
type entry struct {
	buf   []byte // the record's JSON without its seq
	seqAt int    // where that goes
	id    string
	about about
	ids   ids

	waits bool // a caller waits in wait
	state atomic.Int32
	done  chan struct{} // holds one when the committer has answered a waiting caller
	timer *time.Timer
	seq   uint64 // set by the committer with err, before done
	err   error
}

// about is what an outcome that the log writes itself says of its record.
type about struct{ requestID, session, app string }

// The states of an entry that a caller waits for. Exactly one side moves it on from entryWaiting.
const (
	entryWaiting  = iota
	entryLeft     // the caller is gone, and was told that the record is not durable
	entryAnswered // the committer has answered
)

// entry encodes a record on the caller's own time.
func (l *Log) entry(r *Record) (*entry, error) {
	e, ok := l.entries.Get().(*entry)
	if !ok {
		e = &entry{done: make(chan struct{}, 1)}
	}
	now := l.now()
	e.id = e.ids.next(now)
	e.about = about{r.RequestID, r.Session, r.App}
	s := stamp{id: e.id, log: l.name, boot: l.boot, time: now, replica: l.replica}
	buf, seqAt, err := appendRecord(e.buf[:0], r, &s)
	if err != nil {
		l.release(e)
		return nil, err
	}
	e.buf, e.seqAt = buf, seqAt
	return e, nil
}

func (l *Log) release(e *entry) {
	e.waits, e.seq, e.err, e.about = false, 0, nil, about{}
	e.state.Store(entryWaiting)
	l.entries.Put(e)
}

// wait waits for the committer's answer. An error means that the caller left first: the entry is the committer's.
func (e *entry) wait(ctx context.Context, patience time.Duration) error {
	if e.timer == nil {
		e.timer = time.NewTimer(patience)
	} else {
		e.timer.Reset(patience)
	}
	// The timer stops before the entry is left: afterwards both may already be another caller's.
	select {
	case <-e.done:
		e.timer.Stop()
		return nil
	case <-ctx.Done():
		e.timer.Stop()
		if e.leave() {
			return fmt.Errorf("waiting for the audit log: %w", context.Cause(ctx))
		}
	case <-e.timer.C:
		if e.leave() {
			return ErrSlow
		}
	}
	<-e.done
	return nil
}

// leave reports whether the caller got away before the committer's answer.
func (e *entry) leave() bool { return e.state.CompareAndSwap(entryWaiting, entryLeft) }

// answer tells the waiting caller, and reports whether there still was one.
func (e *entry) answer(err error) bool {
	e.err = err
	if !e.state.CompareAndSwap(entryWaiting, entryAnswered) {
		return false
	}
	e.done <- struct{}{}
	return true
}
