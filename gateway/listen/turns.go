package listen

import (
	"errors"
	"sync"
	"time"
)

// turns lets so many handshakes compute at once. Who waits goes in order of arrival, those first whose address somebody is
// signed in from.
type turns struct {
	mu      sync.Mutex
	free    int
	waiting [2][]chan struct{} // from familiar addresses, and others
}

func newTurns(n int) *turns { return &turns{free: n} }

// take returns a turn, or a channel that is closed when it comes.
func (t *turns) take(familiar bool) (wait chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.free > 0 {
		t.free--
		return nil
	}
	wait = make(chan struct{})
	line := t.line(familiar)
	*line = append(*line, wait)
	return wait
}

func (t *turns) line(familiar bool) *[]chan struct{} {
	if familiar {
		return &t.waiting[0]
	}
	return &t.waiting[1]
}

// give hands a turn on.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.waiting {
		if line := t.waiting[i]; len(line) > 0 {
			close(line[0])
			t.waiting[i] = line[1:]
			return
		}
	}
	t.free++
}

// leave takes a waiter out of its line, or hands its turn on if that has come meanwhile.
func (t *turns) leave(familiar bool, wait chan struct{}) {
	t.mu.Lock()
	line := t.line(familiar)
	for i, other := range *line {
		if other == wait {
			*line = append((*line)[:i:i], (*line)[i+1:]...)
			t.mu.Unlock()
			return
		}
	}
	t.mu.Unlock()
	t.give()
}

// errNoTurn ends a handshake that waited in vain.
var errNoTurn = errors.New("too many handshakes at once")

// AwaitTurn waits until the connection's handshake may be computed; to be called when its first message has arrived, so
// that clients that say nothing keep nobody waiting. The turn ends with the answer. The error says that the connection was
// closed meanwhile, or that its turn did not come in time.
func (c *Conn) AwaitTurn() error {
	t := c.guard.turns
	familiar := c.guard.familiar(c)
	wait := t.take(familiar)
	if wait != nil {
		patience := time.NewTimer(c.guard.limits.Head)
		defer patience.Stop()
		select {
		case <-wait:
		case <-c.gone:
			t.leave(familiar, wait)
			return errNoTurn
		case <-patience.C:
			t.leave(familiar, wait)
			return errNoTurn
		}
	}
	c.computes.Store(true)
	select {
	case <-c.gone: // Close may have looked before
		c.endTurn()
		return errNoTurn
	default:
		return nil
	}
}

func (c *Conn) endTurn() {
	if c.computes.Load() && c.computes.CompareAndSwap(true, false) {
		c.guard.turns.give()
	}
}
