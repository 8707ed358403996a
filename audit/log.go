package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// The answers of a log that are not the caller's mistake. Nothing may happen that relied on the record.
var (
	// ErrUnavailable says that the log cannot be written at present. It heals without a restart.
	ErrUnavailable = errors.New("the audit log is unavailable")
	// ErrSlow says that a record was not durable in time. It may become so later; the log then adds an outcome record
	// with the error NotForwarded.
	ErrSlow = errors.New("the audit log is too slow")
	// ErrClosed says that the log was closed.
	ErrClosed = errors.New("the audit log is closed")
)

const (
	// slowCommit is how long a caller waits for its record. A disk that needs longer is as good as gone for people at
	// a browser, who would rather read a page that says so.
	slowCommit = 5 * time.Second
	// maxQueued bounds the bytes that wait for a commit: far more than seconds of records, far less than memory.
	maxQueued = 64 << 20
)

// Log is one append-only log. Its methods may be called from several goroutines.
//
// Callers encode their own records and queue them under a short mutex; one goroutine, the committer, takes whatever is
// queued, makes it durable with one write and one sync, and answers all of them.
type Log struct {
	logConfig
	entries sync.Pool
	failing atomic.Pointer[failure] // nil when healthy; changed under mu
	records atomic.Uint64           // acknowledged so far: the next seq
	wake    chan struct{}           // holds one when there may be something for the committer
	stop    chan struct{}           // closed by close
	done    chan struct{}           // closed when the committer is gone
	growth  *growth                 // the tree of what is acknowledged
	// unsigned is asked before callers' records are taken, beside failing: why nothing may be served although the log can
	// be written. Set once; nil in a log whose records are taken as long as it can be written.
	unsigned func() error

	mu       sync.Mutex
	queue    []*entry
	queued   int // bytes in queue
	closed   bool
	stalling *time.Timer // fires when the commit under way takes too long
	busy     bool        // a commit is under way
	refused  uint64      // appends refused since the log began to fail
	lost     uint64      // posts refused since then

	committer // owned by the committer's goroutine
}

// logConfig is what a log is started with.
type logConfig struct {
	name        string
	fs          FileSystem
	boot        Boot
	replica     string
	segmentSize int64
	slow        time.Duration
	maxQueued   int
	now         func() time.Time
	log         *slog.Logger
	changed     func() // called after each change of health, without a lock held
}

// Receipt says where a durable record is.
type Receipt struct {
	Log string
	Seq uint64
	ID  string
}

// Name is DecisionLog or ControlLog.
func (l *Log) Name() string { return l.name }

// Records is how many durable records the log has had since its beginning.
func (l *Log) Records() uint64 { return l.records.Load() }

// Healthy is nil, or why records are refused: it wraps ErrUnavailable. The decision log also refuses them when what both
// logs hold has not been signed for too long; the control log goes on.
func (l *Log) Healthy() error {
	if err := l.writable(); err != nil || l.unsigned == nil {
		return err
	}
	return l.unsigned()
}

// writable is nil, or why the log cannot be written.
func (l *Log) writable() error {
	if f := l.failing.Load(); f != nil {
		return f.err
	}
	return nil
}

// Append makes a record durable and returns where it is. Any error means that the caller must not do what it was about
// to record: ErrUnavailable (at once, while the log cannot be written), ErrSlow (after 5 s), ctx's cause, ErrInvalid,
// ErrClosed. After ErrSlow and ctx's end the record may become durable all the same; the log then adds an outcome
// record with the error NotForwarded. r is not kept.
func (l *Log) Append(ctx context.Context, r *Record) (Receipt, error) {
	if err := l.writable(); err != nil {
		l.refuse()
		return Receipt{}, err
	}
	if err := l.Healthy(); err != nil {
		return Receipt{}, err
	}
	e, err := l.entry(r)
	if err != nil {
		return Receipt{}, err
	}
	e.waits = true
	if err := l.enqueue(e); err != nil {
		l.release(e)
		return Receipt{}, err
	}
	if err := e.wait(ctx, l.slow); err != nil {
		return Receipt{}, err
	}
	receipt, err := Receipt{Log: l.name, Seq: e.seq, ID: e.id}, e.err
	l.release(e)
	if err != nil {
		return Receipt{}, err
	}
	return receipt, nil
}

// Post hands in a record for the next commit without waiting for it: for outcomes and counts, which nothing depends
// on. While the log is unavailable posts wait in memory until it is back; ErrUnavailable says that there is no more
// room. An ended ctx does not keep a record from being posted, since outcomes are written when their request is over.
func (l *Log) Post(_ context.Context, r *Record) error {
	e, err := l.entry(r)
	if err != nil {
		return err
	}
	if err := l.enqueue(e); err != nil {
		l.release(e)
		return err
	}
	return nil
}

func (l *Log) refuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused++
}

func (l *Log) enqueue(e *entry) error {
	l.mu.Lock()
	err := l.enqueueLocked(e)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	l.signal()
	return nil
}

func (l *Log) enqueueLocked(e *entry) error {
	if l.closed {
		return ErrClosed
	}
	if f := l.failing.Load(); f != nil && e.waits {
		l.refused++
		return f.err
	}
	if l.queued+len(e.buf) > l.maxQueued {
		l.lost++
		return fmt.Errorf("%w: too many records are waiting", ErrUnavailable)
	}
	l.queue = append(l.queue, e)
	l.queued += len(e.buf)
	return nil
}

func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// close commits what is queued and ends the goroutines, but waits no longer than a commit may take.
func (l *Log) close() error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	l.mu.Unlock()
	if closed {
		return ErrClosed
	}
	close(l.stop)
	l.signal()
	timeout := time.NewTimer(l.slow)
	defer timeout.Stop()
	select {
	case <-l.done:
		return l.closeErr
	case <-timeout.C:
		return fmt.Errorf("closing %s log: %w", l.name, ErrSlow)
	}
}
