package http1

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// idleConns are the connections that wait for a request. The one used last is taken first, so that under less load the
// others grow old.
type idleConns struct {
	mu         sync.Mutex
	conns      []*conn // the longest unused first
	reaper     *time.Timer
	generation uint64 // grows with each clear: a connection dialled before is not kept
}

func (i *idleConns) current() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.generation
}

// takeIdle is a kept connection that may carry the next request, or nil.
func (t *Transport) takeIdle() *conn {
	for {
		c := t.idle.pop()
		if c == nil {
			return nil
		}
		if time.Since(c.idleSince) < t.idleTimeout() && (t.trusting || c.silent()) {
			return c
		}
		c.cut()
	}
}

func (i *idleConns) pop() *conn {
	i.mu.Lock()
	defer i.mu.Unlock()
	last := len(i.conns) - 1
	if last < 0 {
		return nil
	}
	c := i.conns[last]
	i.conns[last] = nil
	i.conns = i.conns[:last]
	return c
}

// keep takes a connection back whose exchange is over and left no doubt.
func (t *Transport) keep(c *conn) {
	c.body = nil
	c.shrink()
	c.idleSince = time.Now()
	if !t.push(c) {
		c.quit()
	}
}

func (t *Transport) push(c *conn) bool {
	i := &t.idle
	i.mu.Lock()
	defer i.mu.Unlock()
	if c.generation != i.generation || len(i.conns) >= t.maxIdle() {
		return false
	}
	i.conns = append(i.conns, c)
	if i.reaper == nil {
		i.reaper = time.AfterFunc(t.idleTimeout(), t.reap)
	}
	return true
}

// reap closes what was unused for too long. It runs by a timer, as long as connections are kept.
func (t *Transport) reap() {
	for _, c := range t.idle.expired(t.idleTimeout()) {
		c.quit()
	}
}

func (i *idleConns) expired(timeout time.Duration) []*conn {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := 0
	for n < len(i.conns) && time.Since(i.conns[n].idleSince) >= timeout {
		n++
	}
	old := slices.Clone(i.conns[:n])
	i.conns = slices.Delete(i.conns, 0, n)
	if len(i.conns) == 0 {
		i.reaper = nil
	} else {
		i.reaper.Reset(timeout - time.Since(i.conns[0].idleSince))
	}
	return old
}

func (i *idleConns) clear() {
	i.mu.Lock()
	conns := i.conns
	i.conns = nil
	i.generation++
	if i.reaper != nil {
		i.reaper.Stop()
		i.reaper = nil
	}
	i.mu.Unlock()
	for _, c := range conns {
		c.quit()
	}
}

func (t *Transport) idleTimeout() time.Duration { return cmp.Or(t.IdleTimeout, defaultIdleTimeout) }
func (t *Transport) maxIdle() int               { return cmp.Or(t.MaxIdle, defaultMaxIdle) }
func (t *Transport) maxHead() int               { return cmp.Or(t.MaxHead, defaultMaxHead) }
