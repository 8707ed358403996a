package sessiontest

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sallyport/authn/session"
)

// Memory is a Store in memory, for tests: all it keeps is gone with it.
type Memory struct {
	mu      sync.Mutex
	keys    []session.SealingKey
	entries map[string]session.Entry
	handles map[session.Hash]memoryHandle
	spent   map[string]time.Time
	changes []session.Change // the news since the beginning; its length is the position
	wake    chan struct{}    // closed and replaced with each change
}

type memoryHandle struct {
	id string
	session.Handle
}

// NewMemory returns an empty store with a key of its own.
func NewMemory() *Memory {
	key := session.SealingKey{ID: 1, Made: time.Now().UTC()}
	rand.Read(key.Secret[:])
	return &Memory{
		keys:    []session.SealingKey{key},
		entries: make(map[string]session.Entry),
		handles: make(map[session.Hash]memoryHandle),
		spent:   make(map[string]time.Time),
		wake:    make(chan struct{}),
	}
}

// SealingKeys implements session.Store.
func (m *Memory) SealingKeys(context.Context) ([]session.SealingKey, error) {
	return slices.Clone(m.keys), nil
}

// Put implements session.Store.
func (m *Memory) Put(_ context.Context, e session.Entry, parent session.Hash) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.entries[e.ID]; known {
		return fmt.Errorf("session %s exists", e.ID)
	}
	if _, known := m.handles[parent]; known {
		return fmt.Errorf("handle of session %s exists", e.ID)
	}
	m.entries[e.ID] = e
	m.handles[parent] = memoryHandle{id: e.ID, Handle: session.Handle{Hash: parent, Made: e.Created}}
	return nil
}

// Attach implements session.Store.
func (m *Memory) Attach(_ context.Context, id string, child session.Handle) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.entries[id]; !known {
		return session.ErrNoSession
	}
	if _, known := m.handles[child.Hash]; known {
		return fmt.Errorf("handle of session %s exists", id)
	}
	m.handles[child.Hash] = memoryHandle{id: id, Handle: child}
	same := m.handlesLocked(id, child.Host)
	for _, old := range same[:max(0, len(same)-session.MaxChildren)] {
		delete(m.handles, old.Hash)
	}
	return nil
}

// handlesLocked returns the session's handles on one host, oldest first.
func (m *Memory) handlesLocked(id, host string) []memoryHandle {
	var same []memoryHandle
	for _, h := range m.handles {
		if h.id == id && h.Host == host {
			same = append(same, h)
		}
	}
	slices.SortFunc(same, func(a, b memoryHandle) int { return a.Made.Compare(b.Made) })
	return same
}

// Renew implements session.Store.
func (m *Memory) Renew(_ context.Context, e session.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, known := m.entries[e.ID]
	if !known {
		return session.ErrNoSession
	}
	if old.Version != e.Version-1 {
		return session.ErrConflict
	}
	old.Identity, old.Refresh, old.Version = e.Identity, e.Refresh, e.Version
	m.entries[e.ID] = old
	m.newsLocked(session.Change{SessionID: e.ID})
	return nil
}

// Get implements session.Store.
func (m *Memory) Get(_ context.Context, handle session.Hash) (session.Entry, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, known := m.handles[handle]
	if !known {
		return session.Entry{}, "", session.ErrNoSession
	}
	return m.entries[h.id], h.Host, nil
}

// List implements session.Store.
func (m *Memory) List(_ context.Context, match session.Match, after string, limit int) ([]session.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.listLocked(match, after, limit), nil
}

func (m *Memory) listLocked(match session.Match, after string, limit int) []session.Entry {
	var found []session.Entry
	for _, e := range m.entries {
		if e.ID > after && m.matchesLocked(match, e) {
			found = append(found, e)
		}
	}
	slices.SortFunc(found, func(a, b session.Entry) int { return cmp.Compare(a.ID, b.ID) })
	return found[:min(limit, len(found))]
}

func (m *Memory) matchesLocked(match session.Match, e session.Entry) bool {
	return (match.ID == "" || match.ID == e.ID) &&
		(match.Subject == "" || match.Subject == e.Identity.ID()) &&
		(match.Email == "" || strings.EqualFold(match.Email, e.Identity.Email)) &&
		(match.Provider == "" || match.Provider == e.Identity.Provider) &&
		(match.Host == "" || len(m.handlesLocked(e.ID, match.Host)) > 0) &&
		(match.CreatedBefore.IsZero() || !e.Created.After(match.CreatedBefore)) &&
		(match.SeenBefore.IsZero() || !e.Seen.After(match.SeenBefore))
}

// Touch implements session.Store.
func (m *Memory) Touch(_ context.Context, seen map[string]time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, t := range seen {
		if e, known := m.entries[id]; known && t.After(e.Seen) {
			e.Seen = t
			m.entries[id] = e
		}
	}
	return nil
}

// Detach implements session.Store.
func (m *Memory) Detach(_ context.Context, id, host, reason string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	gone := m.handlesLocked(id, host)
	if len(gone) == 0 {
		return session.ErrNoSession
	}
	for _, h := range gone {
		delete(m.handles, h.Hash)
	}
	m.newsLocked(session.Change{SessionID: id, Host: host, Reason: reason})
	return nil
}

// Delete implements session.Store.
func (m *Memory) Delete(_ context.Context, match session.Match, reason string, limit int) ([]session.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	gone := m.listLocked(match, "", limit)
	for _, e := range gone {
		delete(m.entries, e.ID)
		for hash, h := range m.handles {
			if h.id == e.ID {
				delete(m.handles, hash)
			}
		}
		m.newsLocked(session.Change{SessionID: e.ID, Reason: reason})
	}
	return gone, nil
}

// Spend implements session.Store.
func (m *Memory) Spend(_ context.Context, id string, until time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.spent[id]; known {
		return false, nil
	}
	m.spent[id] = until
	return true, nil
}

// Sweep implements session.Store.
func (m *Memory) Sweep(_ context.Context, now time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, until := range m.spent {
		if until.Before(now) {
			delete(m.spent, id)
		}
	}
	return false, nil
}

func (m *Memory) newsLocked(c session.Change) {
	m.changes = append(m.changes, c)
	close(m.wake)
	m.wake = make(chan struct{})
}

// Watch implements session.Store.
func (m *Memory) Watch(ctx context.Context, after session.Position, report func(session.News)) error {
	at, lost := 0, after == ""
	if !lost {
		n, err := strconv.Atoi(string(after))
		if err != nil {
			return fmt.Errorf("watching: bad position %q", after)
		}
		at = n
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		m.mu.Lock()
		if lost = lost || at > len(m.changes); lost {
			at = len(m.changes)
		}
		n := session.News{AsOf: time.Now(), Lost: lost, Changes: slices.Clone(m.changes[at:])}
		at, lost = len(m.changes), false
		n.Position = session.Position(strconv.Itoa(at))
		wake := m.wake
		m.mu.Unlock()
		report(n)
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-tick.C:
		}
	}
}
