package keyring

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/certs/internal/wire"
)

// errLost marks a request that has no answer because its connection broke.
var errLost = errors.New("connection to the key process lost")

// deadlineSlack is how much longer than answerWithin a write may take: the deadline of many is set once.
const deadlineSlack = time.Second

// link is one connection to keyd: many requests out, their answers in any order.
type link struct {
	conn    net.Conn
	release func() error // reaps a child; call after done
	turns   *turns
	done    chan struct{}
	heard   atomic.Int64 // when the last answer came, Unix nanoseconds

	writing  sync.Mutex
	out      []byte    // frames to write
	spare    []byte    // what out was before
	flushing bool      // somebody writes them
	deadline time.Time // of writes; whoever flushes sets it

	mu      sync.Mutex
	last    uint32
	waiting map[uint32]chan wire.Frame
	err     error // why done is closed
}

func newLink(conn net.Conn, release func() error) *link {
	l := &link{
		conn:    conn,
		turns:   newTurns(),
		done:    make(chan struct{}),
		waiting: map[uint32]chan wire.Frame{},
	}
	var reading sync.WaitGroup
	reading.Go(l.read)
	l.release = func() error {
		reading.Wait()
		return release()
	}
	return l
}

// call sends one request and waits for its answer or the end of ctx. A keyd that said nothing at all since the request
// was sent, for hungAfter, is taken for hung, and the connection for lost; except after a checkpoint, for which it waits
// for a disk.
func (l *link) call(ctx context.Context, op wire.Op, body []byte) (wire.Frame, error) {
	over, err := l.turns.wait(ctx, op, body)
	if err != nil {
		return wire.Frame{}, fmt.Errorf("waiting for a turn: %w", err)
	}
	defer over()
	sent := time.Now()
	id, answer, others := l.expect()
	defer l.forget(id)
	l.send(wire.Frame{ID: id, Kind: byte(op), Body: body}, others)
	select {
	case f := <-answer:
		return f, nil
	case <-l.done:
		return wire.Frame{}, fmt.Errorf("%w: %w", errLost, l.cause())
	case <-ctx.Done():
		if op != wire.OpSignCheckpoint && errors.Is(ctx.Err(), context.DeadlineExceeded) && l.heard.Load() < sent.UnixNano() && time.Since(sent) >= hungAfter {
			l.fail(errors.New("no answer in time"))
		}
		return wire.Frame{}, fmt.Errorf("waiting for an answer: %w", ctx.Err())
	}
}

func (l *link) list(ctx context.Context) ([]Key, error) {
	f, err := l.call(ctx, wire.OpList, nil)
	if err != nil {
		return nil, err
	}
	if code := wire.Code(f.Kind); code != wire.OK {
		return nil, fmt.Errorf("list: %s: %q", code, f.Body)
	}
	return parseList(f.Body)
}

// expect makes room for an answer. others tells whether more are waited for.
func (l *link) expect() (id uint32, answer chan wire.Frame, others bool) {
	answer = make(chan wire.Frame, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	l.waiting[l.last] = answer
	return l.last, answer, len(l.waiting) > 1
}

func (l *link) forget(id uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, id)
}

// send writes a frame, or leaves it to whoever is about to write one. In a crowd that one lets the others go first, so
// that keyd is woken once for many requests: to be woken costs it more than a signature.
func (l *link) send(f wire.Frame, crowd bool) {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.out = wire.AppendFrame(l.out, f)
	if l.flushing {
		return
	}
	l.flushing = true
	if crowd {
		l.writing.Unlock()
		runtime.Gosched()
		l.writing.Lock()
	}
	for len(l.out) > 0 {
		l.flushLocked()
	}
	l.flushing = false
}

// flushLocked writes what there is, or fails the link: after half a frame there is no going on. Meanwhile more may come.
func (l *link) flushLocked() {
	frames := l.out
	l.out = l.spare[:0]
	l.writing.Unlock()
	if now := time.Now(); l.deadline.Sub(now) < answerWithin {
		l.deadline = now.Add(answerWithin + deadlineSlack)
		l.conn.SetWriteDeadline(l.deadline)
	}
	if _, err := l.conn.Write(frames); err != nil {
		l.fail(err)
	}
	l.writing.Lock()
	l.spare = frames
}

// read hands answers to whoever waits. One that nobody waits for any more came too late and is dropped.
func (l *link) read() {
	r := bufio.NewReader(l.conn)
	for {
		f, err := wire.ReadFrame(r, wire.MaxAnswer)
		if err != nil {
			l.fail(err)
			return
		}
		l.heard.Store(time.Now().UnixNano())
		l.mu.Lock()
		answer := l.waiting[f.ID]
		delete(l.waiting, f.ID)
		l.mu.Unlock()
		if answer != nil {
			answer <- f
		}
	}
}

// watch returns when the link is over, or ends it when ctx does. It asks keyd for its keys now and then: call finds out
// if keyd hangs. What keyd answers is told.
func (l *link) watch(ctx context.Context, listed func([]Key)) {
	probe := time.NewTicker(probeEvery)
	defer probe.Stop()
	for {
		select {
		case <-l.done:
			return
		case <-ctx.Done():
			l.fail(net.ErrClosed)
			return
		case <-probe.C:
			asking, stop := context.WithTimeout(ctx, answerWithin)
			if keys, err := l.list(asking); err == nil {
				listed(keys)
			}
			stop()
		}
	}
}

// fail ends the connection once, for the first reason given.
func (l *link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
		l.conn.Close()
		close(l.done)
	}
}

func (l *link) alive() bool {
	select {
	case <-l.done:
		return false
	default:
		return true
	}
}

func (l *link) cause() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
