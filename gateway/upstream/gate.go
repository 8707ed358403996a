package upstream

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// gate lets as many requests to an address as its limit allows, and the others wait in line.
type gate struct {
	active  atomic.Int64
	pending atomic.Int64
	limit   atomic.Int64 // 0 = none

	mu   sync.Mutex
	line []chan struct{} // closed when it is that request's turn; it is then counted as active
}

// enter returns when the request may go, ErrOverloaded when it may not, or why its context ended.
func (g *gate) enter(ctx context.Context, l *Limits) error {
	if g.limit.Load() == 0 {
		g.active.Add(1)
		return nil
	}
	if g.pending.Load() == 0 && g.take() {
		return nil
	}
	turn, err := g.queue(l.MaxPending)
	if turn == nil {
		return err
	}
	patience := time.NewTimer(l.PendingTimeout)
	defer patience.Stop()
	select {
	case <-turn:
		return nil
	case <-patience.C:
		return g.withdraw(turn, ErrOverloaded)
	case <-ctx.Done():
		return g.withdraw(turn, context.Cause(ctx))
	}
}

// leave makes room for the next one.
func (g *gate) leave() {
	g.active.Add(-1)
	if g.pending.Load() > 0 {
		g.admit()
	}
}

// full reports whether a request would have to wait.
func (g *gate) full() bool {
	limit := g.limit.Load()
	return limit != 0 && (g.active.Load() >= limit || g.pending.Load() > 0)
}

// load is what the address has to do.
func (g *gate) load() int64 { return g.active.Load() + g.pending.Load() }

func (g *gate) take() bool {
	for {
		active, limit := g.active.Load(), g.limit.Load()
		if limit != 0 && active >= limit {
			return false
		}
		if g.active.CompareAndSwap(active, active+1) {
			return true
		}
	}
}

// queue puts a request in line, unless there is room after all (nil, nil) or the line is too long. It counts as pending
// before it looks for room: whoever leaves after that sees it.
func (g *gate) queue(longest int) (chan struct{}, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pending.Add(1)
	if len(g.line) == 0 && g.take() {
		g.pending.Add(-1)
		return nil, nil
	}
	if len(g.line) >= longest {
		g.pending.Add(-1)
		return nil, ErrOverloaded
	}
	turn := make(chan struct{})
	g.line = append(g.line, turn)
	return turn, nil
}

func (g *gate) admit() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.line) > 0 && g.take() {
		close(g.line[0])
		g.line = g.line[1:]
		g.pending.Add(-1)
	}
}

// withdraw leaves the line for a reason, and the room that was made at the last moment to the next one.
func (g *gate) withdraw(turn chan struct{}, why error) error {
	g.mu.Lock()
	i := slices.Index(g.line, turn)
	if i >= 0 {
		g.line = slices.Delete(g.line, i, i+1)
		g.pending.Add(-1)
	}
	g.mu.Unlock()
	if i < 0 {
		g.leave()
	}
	return why
}

// setLimit takes a new limit over; those for whom it makes room may go.
func (g *gate) setLimit(limit int) {
	g.limit.Store(int64(limit))
	g.admit()
}
