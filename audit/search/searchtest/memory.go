package searchtest

import (
	"context"
	"slices"
	"sync"

	"sallyport/audit/search"
)

// Memory is a search.Store of this process: the plainest one, which reads all its rows.
type Memory struct {
	mu   sync.Mutex
	logs map[string]*memory
}

type memory struct {
	state search.State
	rows  []search.Row
}

// NewMemory makes an empty one.
func NewMemory() *Memory { return &Memory{logs: map[string]*memory{}} }

var _ search.Store = (*Memory)(nil)

func (m *Memory) logLocked(log string) *memory {
	if m.logs[log] == nil {
		m.logs[log] = new(memory)
	}
	return m.logs[log]
}

// State implements search.Store.
func (m *Memory) State(_ context.Context, log string) (search.State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.logLocked(log).state, nil
}

// Extend implements search.Store.
func (m *Memory) Extend(_ context.Context, log string, was search.State, rows []search.Row, now search.State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.logLocked(log)
	if l.state.Epoch != was.Epoch || l.state.Next != was.Next && was.Epoch != "" {
		return search.ErrConflict
	}
	now.First = max(now.First, l.state.First)
	l.rows, l.state = append(l.rows, rows...), now
	return nil
}

// Forget implements search.Store.
func (m *Memory) Forget(_ context.Context, log string, before uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.logLocked(log)
	l.rows = slices.DeleteFunc(l.rows, func(r search.Row) bool { return r.Seq < before })
	if l.state.Epoch != "" {
		l.state.First = max(l.state.First, min(before, l.state.Next))
	}
	return nil
}

// Reset implements search.Store.
func (m *Memory) Reset(_ context.Context, log string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.logs, log)
	return nil
}

// Find implements search.Store.
func (m *Memory) Find(_ context.Context, log string, c search.Condition, limit int) ([]search.Hit, search.State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.logLocked(log)
	var hits []search.Hit
	for i := range l.rows {
		r := &l.rows[i]
		if c.Newest {
			r = &l.rows[len(l.rows)-1-i]
		}
		if len(hits) < limit && r.Meets(c) {
			hits = append(hits, search.Hit{Seq: r.Seq, Position: r.Position})
		}
	}
	return hits, l.state, nil
}

// Count implements search.Store.
func (m *Memory) Count(_ context.Context, log string, c search.Condition) (n uint64, s search.State, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.logLocked(log)
	for i := range l.rows {
		switch r := &l.rows[i]; {
		case !r.Meets(c):
		case r.Doubtful:
			return 0, l.state, search.ErrDoubtful
		default:
			n++
		}
	}
	return n, l.state, nil
}

// Discard implements search.Store.
func (m *Memory) Discard(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.logs)
	return nil
}

// Size implements search.Store: it takes nothing on a disk.
func (m *Memory) Size(context.Context) (int64, error) { return 0, nil }

// Close implements search.Store.
func (m *Memory) Close() error { return nil }
